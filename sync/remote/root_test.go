package remote_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
)

func TestSettle(t *testing.T) {
	old := remote.Root{Seq: 7, Hash: objects.ID{1}, Nonce: 1}
	next, other := old.Next(objects.ID{2}), old.Next(objects.ID{2})
	for _, tt := range []struct {
		what string
		is   remote.Root
		done bool
		lost bool
		fail bool
	}{
		{"nothing happened", old, false, false, false},
		{"won", next, true, false, false},
		{"lost, though to the same content", other, false, true, true},
		{"long ago", next.Next(objects.ID{3}), false, false, true},
	} {
		done, err := remote.Settle(old, next, tt.is)
		if done != tt.done || (err != nil) != tt.fail || errors.Is(err, remote.ErrLost) != tt.lost {
			t.Errorf("%s: %v, %v", tt.what, done, err)
		}
	}
}

func TestExactly(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		want string
		err  error
	}{
		{-1, "body", nil}, {0, "", nil}, {3, "bod", nil}, {4, "body", nil}, {5, "body", io.ErrUnexpectedEOF},
	} {
		body := remote.Exactly(io.NopCloser(strings.NewReader("body")), tt.n)
		if got, err := io.ReadAll(body); string(got) != tt.want || err != tt.err {
			t.Errorf("%d bytes: %q, %v", tt.n, got, err)
		}
	}
}

func FuzzParseRoot(f *testing.F) {
	f.Add(remote.Root{}.Next(objects.ID{1}).String())
	f.Add("0000000000000001-" + objects.ID{}.String() + "-+000000000000001")
	f.Add("1-2-3")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := remote.ParseRoot(s)
		if err == nil && (r.String() != s || r.IsZero() || !remote.IsBase(s)) {
			t.Errorf("%q became %+v", s, r)
		}
	})
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"packs/a.pack", "packs/..", "packs/tmp-1", "roots/0-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if remote.CheckName(s) == nil && (strings.Contains(s, "..") || strings.Count(s, "/") != 1 || strings.Contains(s, "/.") || strings.ToLower(s) != s) {
			t.Errorf("%q passes", s)
		}
	})
}
