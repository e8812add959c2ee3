package statcache

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

var (
	ctx  = context.Background()
	then = time.Unix(1_700_000_000, 0)
)

// file returns the status of some file, and its id.
func file(n int) (Stat, objects.ID) {
	s := Stat{Dev: 8, Ino: uint64(n), Size: int64(n) % 1000, Mtime: then.UnixNano() + int64(n), Ctime: then.UnixNano() + int64(n)}
	return s, objects.Sum(objects.Blob, binary.AppendUvarint(nil, uint64(n)))
}

// fill records the files from a up to b and flushes.
func fill(t testing.TB, path string, a, b int) {
	t.Helper()
	c := Open(path)
	for n := a; n < b; n++ {
		s, id := file(n)
		c.Record(s, id, time.Now())
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// hits counts the files from a up to b that are found. A wrong id is an error.
func hits(t testing.TB, path string, a, b int) (n int) {
	t.Helper()
	c := Open(path)
	for i := a; i < b; i++ {
		s, id := file(i)
		switch got, ok := c.Lookup(s); {
		case ok && got != id:
			t.Errorf("file %d: id %s, want %s", i, got.Short(), id.Short())
		case ok:
			n++
		}
	}
	return n
}

func TestFlush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	if n := hits(t, path, 0, 10); n != 0 {
		t.Errorf("%d hits without a file", n)
	}
	// A new table, some records in place, many that make it grow, all again.
	for _, part := range [][2]int{{0, 10}, {10, 500}, {500, 20_000}, {0, 20_000}, {20_000, 21_000}} {
		fill(t, path, part[0], part[1])
		if n := hits(t, path, part[0], part[1]); n != part[1]-part[0] {
			t.Errorf("after %v: %d hits, want %d", part, n, part[1]-part[0])
		}
	}
	if n := hits(t, path, 0, 21_000); n != 21_000 {
		t.Errorf("in the end: %d hits of 21000", n)
	}
}

// TestInPlaceGrows adds few at a time, so that the table fills up by and by.
func TestInPlaceGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	for n := 0; n < 10_000; n += 200 {
		fill(t, path, n, n+200)
	}
	if n := hits(t, path, 0, 10_000); n != 10_000 {
		t.Errorf("%d hits of 10000", n)
	}
}

func TestChangedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 10)
	c := Open(path)
	s, id := file(3)
	if got, ok := c.Lookup(s); !ok || got != id {
		t.Fatalf("unchanged: %v %v", got, ok)
	}
	for name, change := range map[string]func(*Stat){
		"dev":   func(s *Stat) { s.Dev++ },
		"ino":   func(s *Stat) { s.Ino = 4 },
		"size":  func(s *Stat) { s.Size++ },
		"mtime": func(s *Stat) { s.Mtime++ },
		"ctime": func(s *Stat) { s.Ctime-- },
	} {
		changed := s
		change(&changed)
		if _, ok := c.Lookup(changed); ok {
			t.Errorf("another %s is taken for the same file", name)
		}
	}
	// The new state takes the old one's slot.
	changed := s
	changed.Size++
	other := objects.Sum(objects.Blob, []byte("other"))
	c.Record(changed, other, time.Now())
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got, ok := c.Lookup(changed); !ok || got != other {
		t.Errorf("new state: %v %v", got, ok)
	}
	if _, ok := c.Lookup(s); ok {
		t.Error("the old state is still there")
	}
}

func TestRacy(t *testing.T) {
	read := then
	ms := func(n int) int64 { return read.Add(time.Duration(n) * time.Millisecond).UnixNano() }
	for _, tt := range []struct {
		name         string
		mtime, ctime int64
		want         bool
	}{
		{"old", ms(-100), ms(-100), false},
		{"just changed", ms(-5), ms(-5), true},
		{"changed while it was read", ms(5), ms(5), true},
		{"mtime set back", ms(-10_000), ms(-5), true},
		{"no ctime kept", ms(-5), 0, true},
		{"mtime in the future", ms(10_000), ms(-100), false},
		{"the server's clock runs ahead", ms(10_000), ms(10_000), true},
	} {
		if got := (Stat{Mtime: tt.mtime, Ctime: tt.ctime}).RacyAt(read); got != tt.want {
			t.Errorf("%s: racy is %v", tt.name, got)
		}
	}
}

func TestRecordMade(t *testing.T) {
	now := then.UnixNano()
	for _, tt := range []struct {
		name                    string
		mtime, ctime, reachable int64
		want                    bool
	}{
		{"an old mtime was set", now - 1e12, now, now, true},
		{"in this tick", now, now, now, false},
		{"one tick ago", now, now, now + 1e6, true},
		{"renamed into place now, written long ago", now - 1e9, now, now, true},
	} {
		c := Open(filepath.Join(t.TempDir(), "stat"))
		s, id := file(1)
		s.Mtime, s.Ctime = tt.mtime, tt.ctime
		c.RecordMade(s, id, tt.reachable)
		c.Flush(ctx)
		if _, got := Open(c.path).Lookup(s); got != tt.want {
			t.Errorf("%s: remembered is %v", tt.name, got)
		}
	}
}

// TestRewriteInOneTick writes a file twice as fast as it can, with the same
// size, and never gets the first content's id for the second.
func TestRewriteInOneTick(t *testing.T) {
	dir := t.TempDir()
	c := Open(filepath.Join(dir, "stat"))
	name := filepath.Join(dir, "f")
	status := func() Stat {
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		return StatOf(&st)
	}
	for i := range 200 {
		os.WriteFile(name, []byte{byte(i)}, 0o666)
		read := time.Now()
		s := status()
		c.Record(s, objects.Sum(objects.Blob, []byte{byte(i)}), read)
		os.WriteFile(name, []byte{byte(i + 1)}, 0o666)
		c.Flush(ctx)
		c = Open(c.path)
		if id, ok := c.Lookup(status()); ok && id != objects.Sum(objects.Blob, []byte{byte(i + 1)}) {
			t.Fatalf("round %d: the old content's id", i)
		}
	}
}

func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 1000)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"empty":       func([]byte) []byte { return nil },
		"cut short":   func(b []byte) []byte { return b[:len(b)-1] },
		"too long":    func(b []byte) []byte { return append(b, 0) },
		"header only": func(b []byte) []byte { return b[:headerSize] },
		"half header": func(b []byte) []byte { return b[:7] },
		"magic":       func(b []byte) []byte { b[0]++; return b },
		"version":     func(b []byte) []byte { b[4]++; return b },
		"slots":       func(b []byte) []byte { b[8]++; return b },
		"huge":        func(b []byte) []byte { b[15] = 0xff; return b },
		"zeros":       func(b []byte) []byte { clear(b); return b },
	} {
		os.WriteFile(path, damage(append([]byte(nil), whole...)), 0o666)
		if n := hits(t, path, 0, 1000); n != 0 {
			t.Errorf("%s: %d hits", name, n)
		}
		fill(t, path, 0, 1000)
		if n := hits(t, path, 0, 1000); n != 1000 {
			t.Errorf("%s: %d hits after it was filled again", name, n)
		}
	}
}

func TestFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 1000)
	data, _ := os.ReadFile(path)
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		i := headerSize + r.IntN(len(data)-headerSize)
		data[i] ^= 1 << r.IntN(8)
	}
	os.WriteFile(path, data, 0o666)
	hits(t, path, 0, 1000) // complains of wrong ids
}

func TestOldOnesGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 1000)
	age(t, path, 0, 500, 30)
	age(t, path, 0, 100, maxAge+1)
	c := Open(path)
	for n := 1000; n < 1100; n++ {
		s, id := file(n)
		c.Record(s, id, time.Now())
	}
	// The newest 600: those just recorded, then the 500 that are not aged.
	if err := rewrite(ctx, path, c.pending, dayOf(time.Now()), 800); err != nil {
		t.Fatal(err)
	}
	if n := hits(t, path, 1000, 1100); n != 100 {
		t.Errorf("%d of 100 new ones are left", n)
	}
	if n := hits(t, path, 500, 1000); n != 500 {
		t.Errorf("%d of 500 young ones are left", n)
	}
	if n := hits(t, path, 0, 500); n != 0 {
		t.Errorf("%d of 500 old ones are left", n)
	}
	if err := rewrite(ctx, path, c.pending, dayOf(time.Now())+maxAge+1, 1000); err != nil {
		t.Fatal(err)
	}
	if n := hits(t, path, 0, 1000); n != 0 {
		t.Errorf("%d are left after %d days", n, maxAge+1)
	}
}

// age makes the slots of files look unused for days.
func age(t *testing.T, path string, a, b, days int) {
	t.Helper()
	f, err := durable.OpenUpdate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := openTable(path)
	for n := a; n < b; n++ {
		s, _ := file(n)
		i, found := table.place(s.tag())
		if !found {
			t.Fatalf("file %d has no slot", n)
		}
		day := binary.LittleEndian.AppendUint16(nil, dayOf(time.Now())-uint16(days))
		durable.WriteAt(f, day, headerSize+int64(i)*slotSize)
	}
}

func TestUseIsNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 10)
	age(t, path, 0, 10, touchAfter+1)
	c := Open(path)
	s, _ := file(3)
	c.Lookup(s)
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]uint16{3: c.today, 4: c.today - touchAfter - 1} {
		s, _ := file(n)
		slot, _ := Open(path).table.find(s.tag())
		if got := slotDay(slot); got != want {
			t.Errorf("file %d: day %d, want %d", n, got, want)
		}
	}
}

func TestNoCache(t *testing.T) {
	var c *Cache
	s, id := file(1)
	c.Record(s, id, time.Now())
	c.RecordMade(s, id, 0)
	c.Forget()
	if _, ok := c.Lookup(s); ok || c.Flush(ctx) != nil {
		t.Error("no cache is not an empty cache")
	}
}

// TestConcurrent lets several users of one file record and look up at once.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for round := range 20 {
				n := w*10_000 + round*100
				fill(t, path, n, n+100)
				if round%7 == 0 {
					fill(t, path, n, n+2000)
				}
				hits(t, path, 0, 40_000)
			}
		})
	}
	wg.Wait()
}

func TestFailedFlush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	fill(t, path, 0, 2000)
	for _, n := range []int{10, 5000} {
		restore := durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
			if s.Op != durable.OpWrite {
				return do(s)
			}
			s.Data = s.Data[:len(s.Data)/2]
			do(s)
			return unix.ENOSPC
		})
		c := Open(path)
		for i := range n {
			s, id := file(i + 2000)
			c.Record(s, id, time.Now())
		}
		err := c.Flush(ctx)
		restore()
		if err == nil {
			t.Errorf("%d records on a full disk: no error", n)
		}
		if got := hits(t, path, 0, 2000); got < 1999 {
			t.Errorf("%d hits of 2000 after a failed flush of %d", got, n)
		}
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestFormat pins the bytes of a slot: another hash would make every old table
// useless, and should come with another version.
func TestFormat(t *testing.T) {
	s := Stat{Dev: 0xfd01, Ino: 123456, Size: 42, Mtime: 1_700_000_000_123_456_789, Ctime: 1_700_000_001_000_000_000}
	id := objects.Sum(objects.Blob, []byte("hello"))
	got := hex.EncodeToString(appendSlot(nil, record{tag: s.tag(), fingerprint: s.fingerprint(&id), id: id}, 0x1234))
	want := "3412e5160680ddb694290c21392076b18aec4e4876f854f688d0ebfc8f37598f" +
		"38e5fd6903cccc850ca36591175aeb60"
	if got != want {
		t.Errorf("slot\n%s, want\n%s", got, want)
	}
	if got, want := home(1<<47, 1000), uint64(500); got != want {
		t.Errorf("home %d, want %d", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	fill(f, path, 0, 20)
	seed, _ := os.ReadFile(path)
	f.Add(seed)
	f.Add(seed[:headerSize])
	f.Add(appendHeader(nil, 1))
	f.Add(append(appendHeader(nil, 1), make([]byte, reach*slotSize)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "stat")
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		hits(t, path, 0, 30)
		fill(t, path, 0, 30)
		fill(t, path, 0, 2000)
		if n := hits(t, path, 0, 2000); n < 1990 {
			t.Errorf("%d hits of 2000", n)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	path := filepath.Join(b.TempDir(), "stat")
	fill(b, path, 0, 1_000_000)
	c := Open(path)
	for i := 0; b.Loop(); i++ {
		s, _ := Stat{Dev: 8, Ino: uint64(i % 1_000_000), Size: 1, Mtime: 1, Ctime: 1}, 0
		c.Lookup(s)
	}
}

func BenchmarkRewrite(b *testing.B) {
	path := filepath.Join(b.TempDir(), "stat")
	for b.Loop() {
		fill(b, path, 0, 56_000)
	}
}
