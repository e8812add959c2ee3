package entry_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/objectstest"
)

var made = time.Date(2026, 1, 31, 9, 0, 0, 500_000_000, time.UTC)

func full() entry.Meta {
	return entry.Meta{
		Kind:    entry.Save,
		Key:     strings.Repeat("k\x00", 200),
		Created: made,
		Commit:  "0123abcd",
		Branch:  "feature/\"x\"",
		Took:    1500 * time.Millisecond,
		Latest:  true,
		Extra:   map[string]string{"x-artifact-tag": "a b", "b c": "line\nbreak", "": "", "z": "\"q", "u": "\xff"},
		Files: []entry.Files{
			{Path: "base/target", Modes: []uint16{0, 0, 0o600, 0o4755}, Times: []int64{5, 5, math.MinInt64, math.MaxInt64}},
			{Path: "abs/a b\n", Times: []int64{1e18}},
			{Path: "home/x", Modes: []uint16{0o444, entry.NoPermission}},
			{Path: "none"},
		},
	}
}

func TestMeta(t *testing.T) {
	for _, m := range []entry.Meta{{}, {Kind: entry.Put, Created: made}, full()} {
		body := m.Encode()
		got, err := entry.ParseMeta(body)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("ParseMeta of %q\n= %+v, %v\nwant %+v", body, got, err, m)
		}
	}
	short := entry.Meta{Kind: entry.Save, Key: "in the path"}
	if got, err := entry.ParseMeta(short.Encode()); err != nil || got.Key != "" {
		t.Errorf("a short key is kept: %q, %v", got.Key, err)
	}
	want := "cache-tool entry 1\nkind run\ncreated 2026-01-31T09:00:00.5Z\ntook 1.5s\n\n"
	if got := (entry.Meta{Kind: entry.Run, Created: made, Took: 1500 * time.Millisecond}).Encode(); string(got) != want {
		t.Errorf("encodes as %q, want %q", got, want)
	}
}

func TestParseMetaRefuses(t *testing.T) {
	good := string(full().Encode())
	for _, tt := range []struct {
		name, body string
		want       error
	}{
		{"nothing", "", entry.ErrBadMeta},
		{"something else", "hello\n\n", entry.ErrBadMeta},
		{"version 0", "cache-tool entry 0\n\n", entry.ErrBadMeta},
		{"version 2", "cache-tool entry 2\nwhatever", entry.ErrNewer},
		{"no empty line", "cache-tool entry 1\nkind run\n", entry.ErrBadMeta},
		{"a bad time", "cache-tool entry 1\ncreated now\n\n", entry.ErrBadMeta},
		{"a bad string", "cache-tool entry 1\nbranch \"x\n\n", entry.ErrBadMeta},
		{"columns cut short", good[:len(good)-1], entry.ErrBadMeta},
		{"bytes too many", good + "x", entry.ErrBadMeta},
		{"too many files", "cache-tool entry 1\nfiles 999999999 3 0 p\n\n\xff\xff\xff", entry.ErrBadMeta},
		{"many files by many lines", "cache-tool entry 1" + strings.Repeat("\nfiles 9000000 0 0 p", 2) + "\n\n", entry.ErrBadMeta},
		{"too few modes", "cache-tool entry 1\nfiles 3 2 0 p\n\n\x02\x01", entry.ErrBadMeta},
		{"too few times", "cache-tool entry 1\nfiles 3 0 6 p\n\n\x00\x01\x00\x00\x00\x00", entry.ErrBadMeta},
		{"a place outside the table", "cache-tool entry 1\nfiles 1 0 5 p\n\n\x00\x01\x00\x00\x02", entry.ErrBadMeta},
	} {
		if got, err := entry.ParseMeta([]byte(tt.body)); !errors.Is(err, tt.want) {
			t.Errorf("%s: ParseMeta = %+v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
	// What a later program may add without harm.
	if m, err := entry.ParseMeta([]byte("cache-tool entry 1\ncolour blue\nkind run\n\n")); err != nil || m.Kind != entry.Run {
		t.Errorf("with an unknown line: %+v, %v", m, err)
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(full().Encode())
	f.Add(entry.Meta{Kind: entry.Run, Created: made, Files: []entry.Files{{Times: []int64{1e9, 2e9, 1e9}}}}.Encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := entry.ParseMeta(body)
		if err != nil {
			return
		}
		again, err := entry.ParseMeta(m.Encode())
		if err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Errorf("parsed again %+v, %v; want %+v", again, err, m)
		}
	})
}

// treeTimes makes the times of a tree of n files: ticks files are written in one
// tick of the clock.
func treeTimes(n, ticks int) []int64 {
	rnd := rand.New(rand.NewPCG(7, 8))
	times := make([]int64, n)
	now := made.UnixNano()
	for i := range times {
		if rnd.IntN(ticks) == 0 {
			now += 4_000_000 + rnd.Int64N(100)
		}
		times[i] = now
	}
	return times
}

func TestTimesAreSmall(t *testing.T) {
	const n = 56_000
	random := make([]int64, n)
	rnd := rand.New(rand.NewPCG(9, 10))
	for i := range random {
		random[i] = made.UnixNano() + rnd.Int64N(60e9)
	}
	seconds := make([]int64, n)
	for i := range seconds {
		seconds[i] = made.Unix()*1e9 - rnd.Int64N(1e8)*1e9
	}
	shuffled := treeTimes(n, 10)
	rnd.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, tt := range []struct {
		name  string
		times []int64
		most  int
	}{
		{"all the same", make([]int64, n), 57_000},
		{"written in order", treeTimes(n, 10), 80_000},
		{"written in any order", shuffled, 140_000},
		{"each its own second of three years", seconds, 250_000},
		{"each its own nanosecond of a minute", random, 300_000},
	} {
		m := entry.Meta{Files: []entry.Files{{Path: "base/x", Times: tt.times}}}
		body := m.Encode()
		t.Logf("%s: %d bytes", tt.name, len(body))
		if len(body) > tt.most {
			t.Errorf("%s: %d bytes, want at most %d", tt.name, len(body), tt.most)
		}
		if got, err := entry.ParseMeta(body); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: does not come back: %v", tt.name, err)
		}
	}
}

func write(t *testing.T, m *objectstest.Memory, meta entry.Meta, payload ...objects.Entry) objects.ID {
	t.Helper()
	id, err := entry.Write(m, meta, payload, objects.ID{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestSame(t *testing.T) {
	ctx := context.Background()
	m := new(objectstest.Memory)
	one, _ := m.PutBytes(objects.Blob, []byte("1"))
	two, _ := m.PutBytes(objects.Blob, []byte("2"))
	body := func(id objects.ID) objects.Entry {
		return objects.Entry{Mode: objects.ModeFile, Name: entry.BodyName, ID: id}
	}
	first := write(t, m, entry.Meta{Kind: entry.Put, Created: made}, body(one))
	for _, tt := range []struct {
		name string
		id   objects.ID
		want bool
	}{
		{"itself", first, true},
		{"another time and source", write(t, m, entry.Meta{
			Kind: entry.Put, Created: made.Add(1), Commit: "c", Branch: "b", Took: 1,
			Files: []entry.Files{{Path: "body", Modes: []uint16{0}, Times: []int64{1}}},
		}, body(one)), true},
		{"another body", write(t, m, entry.Meta{Kind: entry.Put, Created: made}, body(two)), false},
		{"another mode", write(t, m, entry.Meta{
			Kind: entry.Put, Created: made, Files: []entry.Files{{Path: "body", Modes: []uint16{0o600}}},
		}, body(one)), false},
		{"another extra", write(t, m, entry.Meta{Kind: entry.Put, Extra: map[string]string{"a": "b"}}, body(one)), false},
		{"latest", write(t, m, entry.Meta{Kind: entry.Put, Latest: true}, body(one)), false},
		{"one name more", write(t, m, entry.Meta{Kind: entry.Put}, body(one), objects.Entry{Mode: objects.ModeFile, Name: "x", ID: one}), false},
	} {
		for _, pair := range [][2]objects.ID{{first, tt.id}, {tt.id, first}} {
			if got, err := entry.Same(ctx, m, pair[0], pair[1]); err != nil || got != tt.want {
				t.Errorf("%s: Same = %v, %v; want %v", tt.name, got, err, tt.want)
			}
		}
	}
	if _, err := entry.Same(ctx, m, first, objects.EmptyTree); !errors.Is(err, entry.ErrBadMeta) {
		t.Errorf("an entry without meta: %v", err)
	}
	if _, err := entry.Write(m, entry.Meta{}, objects.Entries{{Mode: objects.ModeFile, Name: "meta", ID: one}}, objects.ID{}); err == nil {
		t.Error("a payload may be called meta")
	}
}

func TestNewer(t *testing.T) {
	ctx := context.Background()
	m := new(objectstest.Memory)
	older := write(t, m, entry.Meta{Kind: entry.Put, Created: made})
	newer := write(t, m, entry.Meta{Kind: entry.Put, Created: made.Add(1)})
	twin := write(t, m, entry.Meta{Kind: entry.Put, Created: made, Branch: "b"})
	for _, tt := range []struct{ a, b, want objects.ID }{
		{older, newer, newer},
		{newer, older, newer},
		{older, twin, greater(older, twin)},
		{twin, older, greater(older, twin)},
	} {
		if got, err := entry.Newer(ctx, m, tt.a, tt.b); err != nil || got != tt.want {
			t.Errorf("Newer = %v, %v; want %v", got, err, tt.want)
		}
	}
}

func greater(a, b objects.ID) objects.ID {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}
