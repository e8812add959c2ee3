package objects_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/objectstest"
)

func TestID(t *testing.T) {
	text := blobID.String()
	for _, bad := range []string{"", text[1:], text + "0", "x" + text[1:]} {
		if id, err := objects.ParseID(bad); err == nil || !id.IsZero() {
			t.Errorf("ParseID(%q) = %v, %v", bad, id, err)
		}
	}
	data, err := json.Marshal(map[string]objects.ID{"id": blobID})
	if want := `{"id":"` + text + `"}`; err != nil || string(data) != want {
		t.Errorf("JSON %s, %v; want %s", data, err, want)
	}
	var back map[string]objects.ID
	if err := json.Unmarshal(data, &back); err != nil || back["id"] != blobID {
		t.Errorf("from JSON %v, %v", back, err)
	}
	if !strings.HasPrefix(text, blobID.Short()) {
		t.Errorf("%s does not begin with %s", text, blobID.Short())
	}
}

func TestHasher(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 1000)
	h := objects.NewHasher(objects.Blob, int64(len(body)))
	for i := 0; i < len(body); i += 777 {
		h.Write(body[i:min(i+777, len(body))])
	}
	if got, err := h.ID(); err != nil || got != objects.Sum(objects.Blob, body) {
		t.Errorf("Hasher says %s, %v", got, err)
	}
	h = objects.NewHasher(objects.Blob, 2)
	h.Write([]byte("x"))
	if _, err := h.ID(); err == nil {
		t.Error("a body that is too short has an id")
	}
	// Chunks are in a domain of their own.
	if objects.SumChunk(body) == objects.Sum(objects.Blob, body) {
		t.Error("a chunk has the id of a blob")
	}
}

func TestKind(t *testing.T) {
	for k := objects.Commit; k <= objects.Tag; k++ {
		if got, err := objects.ParseKind(k.String()); err != nil || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", k, got, err)
		}
	}
	for _, bad := range []string{"", "Blob", "kind(0)"} {
		if got, err := objects.ParseKind(bad); err == nil {
			t.Errorf("ParseKind(%q) = %v", bad, got)
		}
	}
}

// slow hides that a store has ReadBytes.
type slow struct{ objects.Reader }

func TestReadKind(t *testing.T) {
	ctx := context.Background()
	m := new(objectstest.Memory)
	id, _ := m.PutBytes(objects.Blob, []byte("x"))
	for _, r := range []objects.Reader{m, slow{m}} {
		if body, err := objects.ReadKind(ctx, r, id, objects.Blob); err != nil || string(body) != "x" {
			t.Errorf("read %q, %v", body, err)
		}
		if _, err := objects.ReadKind(ctx, r, id, objects.Tree); err == nil || errors.Is(err, objects.ErrNotFound) {
			t.Errorf("a blob read as a tree: %v", err)
		}
		if _, err := objects.ReadKind(ctx, r, objects.ID{1}, objects.Tree); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("nothing read as a tree: %v", err)
		}
	}
	err := fmt.Errorf("read: %w", &objects.DamagedError{ID: id, Reason: "bit 7"})
	if !errors.Is(err, objects.ErrNotFound) {
		t.Error("damaged is not a miss")
	}
}
