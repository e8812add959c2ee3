package odb_test

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A damaged index may lead to one record from several ids: only one of them gets it.
func TestReadManyBelievesNoIndex(t *testing.T) {
	dir := test.Dir(t)
	var ids []objects.ID
	want := map[objects.ID][]byte{}
	commit(t, open(t, dir), odb.Durable, func(b *odb.Batch) {
		for i := range uint64(10) {
			body := noise(i, 100)
			id := put(t, b, objects.Blob, body)
			ids, want[id] = append(ids, id), body
		}
	})
	const head, idSize, locationSize = 60 + 4*256 + 4, 32, 8
	name := files(t, dir, "*.idx")[0]
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	locations := data[head+len(ids)*idSize:][:len(ids)*locationSize]
	first := slices.Index(slices.SortedFunc(slices.Values(ids), objects.ID.Compare), ids[0])
	copy(locations, bytes.Repeat(locations[first*locationSize:][:locationSize], len(ids))) // all lead to the first
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	read := 0
	err = open(t, dir).ReadMany(t.Context(), ids, odb.ManyOptions{}, func(i int, _ objects.Kind, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if read++; !bytes.Equal(body, want[ids[i]]) {
			t.Errorf("of id %d it is given another's bytes", i)
		}
		return nil
	})
	if err != nil || read != len(ids) {
		t.Errorf("read %d of %d: %v", read, len(ids), err)
	}
}
