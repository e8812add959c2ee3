package objects_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

var someone = objects.Signature{Name: "A", Email: "a@b", When: time.Unix(1, 0).UTC()}

func TestSignature(t *testing.T) {
	for _, tt := range []struct {
		name, email string
		want        string
	}{
		{"Ann", "ann@example.org", "Ann <ann@example.org> 7 +0130"},
		{"", "", " <> 7 +0130"},
		{" Ann <b> \n", "<a>\x00b", "Ann b <ab> 7 +0130"},
		{"Ann.", `"a"`, "Ann <a> 7 +0130"},
		{"\tAnn\r", "a\t", "Ann <a> 7 +0130"},
	} {
		s := objects.Signature{Name: tt.name, Email: tt.email, When: time.Unix(7, 5).In(time.FixedZone("", 5400))}
		if got := s.String(); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.name, tt.email, got, tt.want)
		}
		back, err := objects.ParseSignature(s.String())
		if err != nil || back.String() != tt.want {
			t.Errorf("ParseSignature(%q) = %v, %v", tt.want, back, err)
		}
	}
	for _, bad := range []string{"", "a", "a <b", "a b> 1 +0000", "a <b> 1", "a <b> x +0000", "a <b> 1 +00", "a <b> 1 +00x0"} {
		if got, err := objects.ParseSignature(bad); err == nil {
			t.Errorf("ParseSignature(%q) = %v", bad, got)
		}
	}
}

func TestParseCommitSkipsOtherHeaders(t *testing.T) {
	c := objects.CommitBody{Tree: objects.EmptyTree, Parents: []objects.ID{blobID}, Author: someone, Committer: someone, Message: "m\n"}
	body := strings.Replace(string(c.Encode()), "\n\n", "\nencoding x\ngpgsig -----\n a\n  \n b\n\n", 1)
	got, err := objects.ParseCommit([]byte(body))
	if err != nil || string(got.Encode()) != string(c.Encode()) {
		t.Errorf("ParseCommit = %v, %v; want %v", got, err, c)
	}
}

func TestParseCommitRefuses(t *testing.T) {
	good := string(objects.CommitBody{Tree: objects.EmptyTree, Author: someone, Committer: someone, Message: "m\n"}.Encode())
	for _, bad := range []string{
		"", "\n\n", good[:20],
		strings.Replace(good, "tree", "blob", 1),
		strings.Replace(good, "tree 6", "tree x", 1),
		strings.Replace(good, "author", "other", 1),
		strings.Replace(good, "\nauthor", "\nparent 12\nauthor", 1),
		strings.Replace(good, " 1 +0000", "", 1),
		strings.Replace(good, "\n\n", "\n", 1),
	} {
		if got, err := objects.ParseCommit([]byte(bad)); !errors.Is(err, objects.ErrBadCommit) {
			t.Errorf("ParseCommit(%q) = %v, %v; want ErrBadCommit", bad, got, err)
		}
	}
}

func TestTrailers(t *testing.T) {
	for _, tt := range []struct {
		message string
		want    map[string]string
	}{
		{"", nil},
		{"Subject: only\n", nil},
		{"s\n\nA: 1\nB: two: three\n", map[string]string{"A": "1", "B": "two: three"}},
		{"s\n\nA: 1\n\nB: 2\n", map[string]string{"B": "2"}},
	} {
		c := objects.CommitBody{Message: tt.message}
		if got := c.Trailers(); !maps.Equal(got, tt.want) {
			t.Errorf("Trailers of %q = %v, want %v", tt.message, got, tt.want)
		}
	}
}

func FuzzParseCommit(f *testing.F) {
	f.Add(objects.CommitBody{Tree: blobID, Parents: []objects.ID{blobID}, Author: someone, Committer: someone, Message: "m\n"}.Encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := objects.ParseCommit(body)
		if err != nil {
			return
		}
		again, err := objects.ParseCommit(c.Encode())
		if err != nil || string(again.Encode()) != string(c.Encode()) {
			t.Errorf("parsed again: %v, %v; want %v", again, err, c)
		}
		c.Subject()
		c.Trailers()
	})
}

func FuzzParseTag(f *testing.F) {
	f.Add(objects.TagBody{Object: blobID, Kind: objects.Commit, Name: "v1", Tagger: someone, Message: "m\n"}.Encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		tag, err := objects.ParseTag(body)
		if err != nil {
			return
		}
		again, err := objects.ParseTag(tag.Encode())
		if err != nil || string(again.Encode()) != string(tag.Encode()) {
			t.Errorf("parsed again: %v, %v; want %v", again, err, tag)
		}
	})
}
