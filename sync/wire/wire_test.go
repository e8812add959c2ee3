package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

var (
	exampleIDs     = []objects.ID{{1}, {2}, {1}}
	exampleRefs    = []refs.Ref{{Name: "refs/heads/a", ID: objects.ID{1}}, {Name: "refs/heads/b", ID: objects.ID{2}}}
	exampleRequest = remote.Request{Want: exampleIDs, Have: exampleIDs[:1], Shallow: exampleIDs[1:], Extent: remote.Closure}
	examplePaths   = []remote.Path{{Root: objects.ID{1}, Path: ""}, {Root: objects.ID{2}, Path: "run/ab/cd/x"}}
	exampleUpdates = []refs.Update{
		{Name: "refs/heads/a", New: objects.ID{1}, Reason: "push"},
		{Name: "refs/tags/v1", Old: objects.ID{1}},
	}
)

// TestRoundTrip: what goes in comes out, and no part of a message is one.
func TestRoundTrip(t *testing.T) {
	type paths struct {
		Paths  []remote.Path
		Budget int64
	}
	type listed struct {
		All     []refs.Ref
		Shallow []objects.ID
	}
	type moves struct {
		Updates []refs.Update
		Cut     []objects.ID
	}
	for _, tt := range []struct {
		what    string
		message []byte
		want    any
		parse   func([]byte) (any, error)
	}{
		{"ids", EncodeIDs(exampleIDs), exampleIDs, func(p []byte) (any, error) { return ParseIDs(p) }},
		{"refs", EncodeRefs(exampleRefs, exampleIDs), listed{exampleRefs, exampleIDs}, func(p []byte) (any, error) {
			all, shallow, err := ParseRefs(p)
			return listed{all, shallow}, err
		}},
		{"request", EncodeRequest(exampleRequest), exampleRequest, func(p []byte) (any, error) { return ParseRequest(p) }},
		{"updates", EncodeUpdates(exampleUpdates, exampleIDs), moves{exampleUpdates, exampleIDs}, func(p []byte) (any, error) {
			updates, cut, err := ParseUpdates(p)
			return moves{updates, cut}, err
		}},
		{"paths", EncodePaths(examplePaths, 5), paths{examplePaths, 5}, func(p []byte) (any, error) {
			all, budget, err := ParsePaths(p)
			return paths{all, budget}, err
		}},
	} {
		got, err := tt.parse(tt.message)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.what, err, diff)
		}
		for n := range tt.message {
			if _, err := tt.parse(tt.message[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d of %d bytes of %s: %v", n, len(tt.message), tt.what, err)
			}
		}
		if _, err := tt.parse(append(bytes.Clone(tt.message), 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("a byte more of %s: %v", tt.what, err)
		}
	}
}

// TestLimits: what declares too much is refused before anything is made of it.
func TestLimits(t *testing.T) {
	count := []byte{0x00, 0x20, 0x00, 0x00}
	for what, parse := range map[string]func() error{
		"ids":     func() error { _, err := ParseIDs(append(count, make([]byte, 100)...)); return err },
		"want":    func() error { _, err := ParseRequest(append([]byte{0}, count...)); return err },
		"extent":  func() error { _, err := ParseRequest([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"paths":   func() error { _, _, err := ParsePaths(append(make([]byte, 8), count...)); return err },
		"budget":  func() error { _, _, err := ParsePaths(bytes.Repeat([]byte{0xff}, 12)); return err },
		"updates": func() error { _, _, err := ParseUpdates(count); return err },
		"cut": func() error {
			_, _, err := ParseUpdates(append([]byte{0, 0, 0, 0}, count...))
			return err
		},
		"again": func() error {
			_, _, err := ParseUpdates(EncodeUpdates([]refs.Update{exampleUpdates[0], exampleUpdates[0]}, nil))
			return err
		},
		"refs": func() error { _, _, err := ParseRefs(count); return err },
		"disorder": func() error {
			_, _, err := ParseRefs(EncodeRefs([]refs.Ref{exampleRefs[1], exampleRefs[0]}, nil))
			return err
		},
		"twice": func() error {
			_, _, err := ParseRefs(EncodeRefs([]refs.Ref{exampleRefs[0], exampleRefs[0]}, nil))
			return err
		},
		"name": func() error { _, _, err := ParseRefs(EncodeRefs([]refs.Ref{{Name: "refs/heads/.."}}, nil)); return err },
	} {
		if err := parse(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	bad := EncodeUpdates([]refs.Update{{Name: "refs/heads/../../etc", New: objects.ID{1}}}, nil)
	if _, _, err := ParseUpdates(bad); !errors.Is(err, refs.ErrBadName) {
		t.Errorf("bad name: %v", err)
	}
	long := EncodeUpdates([]refs.Update{{Name: "refs/heads/a", Reason: strings.Repeat("x", 5000)}}, nil)
	if got, _, err := ParseUpdates(long); err != nil || len(got[0].Reason) != MaxName {
		t.Errorf("long reason: %v", err)
	}
}

// TestErrors: callers on the other side can branch as they would on this one.
func TestErrors(t *testing.T) {
	conflict := &refs.ConflictError{Name: "refs/heads/main", Is: objects.ID{1}}
	for _, tt := range []struct {
		err    error
		is     error
		status int
		text   string
	}{
		{fmt.Errorf("update: %w", conflict), nil, 409, conflict.Error()},
		{fmt.Errorf("refs/heads/a: %w: it cannot be beside refs/heads", refs.ErrNameTaken), refs.ErrNameTaken, 409, "refs/heads/a: name is taken: it cannot be beside refs/heads"},
		{refs.Name("x").Check(), refs.ErrBadName, 400, `bad ref name "x": it is not refs/<kind>/<name>`},
		{fmt.Errorf("%w: %w", remote.ErrStale, objects.ErrNotFound), remote.ErrStale, 409, ""},
		{fmt.Errorf("%w: %w", pack.ErrBadPack, &objects.DamagedError{}), pack.ErrBadPack, 422, ""},
		{&objects.DamagedError{ID: objects.ID{1}, Reason: "x"}, objects.ErrNotFound, 404, ""},
		{fmt.Errorf("%w: x\n\x1b[31m\xff", pack.ErrBadPack), pack.ErrBadPack, 422, "damaged pack: x  [31m?"},
		{fmt.Errorf("refs/heads/a: %w", remote.ErrNotCommit), remote.ErrNotCommit, 422, ""},
		{syscall.ENOSPC, syscall.ENOSPC, 507, ""},
		{Errorf(Unknown, "who?"), remote.ErrDenied, 401, "who?"},
		{fmt.Errorf("x: %w", Errorf(Denied, "no")), remote.ErrDenied, 403, "no"},
		{malformed("x"), ErrMalformed, 400, ""},
		{Errorf(TooLarge, "big"), nil, 413, "big"},
		{Errorf(Busy, "later"), nil, 503, "later"},
		{Errorf(TooMany, "later"), nil, 429, "later"},
		{errors.New("open /var/secret: no such file"), nil, 500, "internal error"},
	} {
		e := AsError(tt.err)
		if e.Status() != tt.status {
			t.Errorf("%v: status %d, want %d", tt.err, e.Status(), tt.status)
		}
		got, ok := ParseError(e.Encode())
		if !ok || tt.text != "" && got.Error() != tt.text || tt.is != nil && !errors.Is(got, tt.is) {
			t.Errorf("%v became %v", tt.err, got)
		}
		for _, other := range []error{refs.ErrNameTaken, remote.ErrStale, remote.ErrDenied, objects.ErrNotFound} {
			if errors.Is(got, other) && other != tt.is {
				t.Errorf("%v became %v, which is %v", tt.err, got, other)
			}
		}
		var c *refs.ConflictError
		if is := errors.As(got, &c); is != (tt.text == conflict.Error()) || is && *c != *conflict {
			t.Errorf("%v became the conflict %+v", tt.err, c)
		}
	}
	for _, bad := range []string{"", "null", "[]", `{"error":{}}`, `{"error":{"code":"conflict","ref":".."}}`, `{"error":"x"}`} {
		if err, ok := ParseError([]byte(bad)); ok {
			t.Errorf("%q became %v", bad, err)
		}
	}
}

// stream returns a stream with these pieces and this end.
func stream(cause error, pieces ...[]byte) []byte {
	var b bytes.Buffer
	w := NewStreamWriter(&b)
	for _, p := range pieces {
		b.Write(Wait)
		w.Write(p)
	}
	w.End(cause)
	return b.Bytes()
}

func readStream(p []byte) ([]byte, error) {
	return io.ReadAll(NewStreamReader(io.NopCloser(iotest.OneByteReader(bytes.NewReader(p)))))
}

func TestStream(t *testing.T) {
	want := bytes.Repeat([]byte("pack"), MaxPiece/3)
	whole := stream(nil, want[:10], want[10:])
	for _, r := range []io.Reader{bytes.NewReader(whole), iotest.DataErrReader(bytes.NewReader(whole)), iotest.HalfReader(bytes.NewReader(whole))} {
		if got, err := io.ReadAll(NewStreamReader(io.NopCloser(r))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	short := stream(nil, []byte("one"), []byte("two"))
	for n := range short {
		if _, err := readStream(short[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d bytes: %v", n, len(short), err)
		}
	}
	if got, err := readStream(stream(objects.ErrNotFound, []byte("one"))); string(got) != "one" || !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range [][]byte{append(stream(nil), 'x'), []byte("P\x00\x00\x00\x00"), []byte("P\xff\xff\xff\xff"), []byte("Q\x00\x00\x00\x00"), []byte("X\x00\x00\x00\x02{}")} {
		if _, err := readStream(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseIDs(f *testing.F) {
	f.Add(EncodeIDs(exampleIDs))
	f.Fuzz(func(t *testing.T, p []byte) {
		if ids, err := ParseIDs(p); err == nil && !bytes.Equal(EncodeIDs(ids), p) {
			t.Errorf("%x became %x", p, EncodeIDs(ids))
		}
	})
}

func FuzzParseRefs(f *testing.F) {
	f.Add(EncodeRefs(exampleRefs, exampleIDs))
	f.Fuzz(func(t *testing.T, p []byte) {
		if all, shallow, err := ParseRefs(p); err == nil && !bytes.Equal(EncodeRefs(all, shallow), p) {
			t.Errorf("%x became %x", p, EncodeRefs(all, shallow))
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add(EncodeRequest(exampleRequest))
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		if q, err := ParseRequest(p); err == nil && !bytes.Equal(EncodeRequest(q), p) {
			t.Errorf("%x became %x", p, EncodeRequest(q))
		}
	})
}

func FuzzParsePaths(f *testing.F) {
	f.Add(EncodePaths(examplePaths, 1<<20))
	f.Fuzz(func(t *testing.T, p []byte) {
		if all, budget, err := ParsePaths(p); err == nil && !bytes.Equal(EncodePaths(all, budget), p) {
			t.Errorf("%x became %x", p, EncodePaths(all, budget))
		}
	})
}

func FuzzParseUpdates(f *testing.F) {
	f.Add(EncodeUpdates(exampleUpdates, exampleIDs))
	f.Add(EncodeUpdates([]refs.Update{{Name: "refs/heads/../x"}}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if all, cut, err := ParseUpdates(p); err == nil && !bytes.Equal(EncodeUpdates(all, cut), p) {
			t.Errorf("%x became %x", p, EncodeUpdates(all, cut))
		}
	})
}

func FuzzParseUses(f *testing.F) {
	f.Add(EncodeUses(uses.Table{1: 20000, 2: 20001}))
	f.Fuzz(func(t *testing.T, p []byte) {
		table, err := ParseUses(p)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
		if err == nil && !bytes.Equal(EncodeUses(table), p) {
			t.Errorf("%x became %v", p, table)
		}
	})
}

func FuzzParseError(f *testing.F) {
	f.Add(AsError(&refs.ConflictError{Name: "refs/heads/main", Is: objects.ID{1}}).Encode())
	f.Add(AsError(objects.ErrNotFound).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if err, ok := ParseError(p); ok && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q became %q", p, err)
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add(stream(nil, []byte("one"), []byte("two")))
	f.Add(stream(objects.ErrNotFound, []byte("one")))
	f.Fuzz(func(t *testing.T, p []byte) {
		if got, err := readStream(p); err == nil && len(got) > len(p) {
			t.Errorf("%d bytes became %d", len(p), len(got))
		}
	})
}
