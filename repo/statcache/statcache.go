// Package statcache remembers the ids of files by their inodes, so that what
// has not changed need not be read again.
//
// It is a hash table in one file, used in place. All numbers are little-endian:
//
//	 4 bytes  magic "CTSC"
//	 4 bytes  version, 1
//	 8 bytes  number of home slots, h
//	32 bytes  zero
//	h + 63 slots of 48 bytes:
//	   2 bytes  day of the last use, in days since 1970-01-01
//	   6 bytes  tag: a hash of device and inode; 0 means an empty slot
//	   8 bytes  fingerprint: a hash of device, inode, size, mtime, ctime and id
//	  32 bytes  id
//
// A file's slot is the first with its tag from slot tag·h/2^48 on; an empty slot
// ends the search, and so does the 64th.
//
// Nothing here is ever locked or synced. A slot proves itself: whoever looks a
// file up computes the fingerprint from the file's status and the slot's id, and
// takes a slot that is stale, torn, flipped or lost for what it is, a miss. So
// any number of processes may write to the table at once, and the worst that a
// crash or a bad disk does is that a file is read once more.
package statcache

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
)

const (
	magic      = "CTSC"
	version    = 1
	slotSize   = 48
	headerSize = slotSize // so that slot i stands at (i+1)·48
	reach      = 64       // how far from its home a slot may be
)

// Racy is how young a change may be to be mistaken for no change at all: a file
// that is written twice within one tick of the file system's clock has the same
// times after both. Ticks are 1 to 10 ms.
const Racy = 20 * time.Millisecond

// touchAfter is after how many days the use of a slot is noted again.
const touchAfter = 7

// A Stat is what tells that a file is still the same. Times are in nanoseconds
// since 1970.
type Stat struct {
	Dev, Ino           uint64
	Size, Mtime, Ctime int64
}

// StatOf returns the part of st that matters here.
func StatOf(st *unix.Stat_t) Stat {
	return Stat{
		Dev: uint64(st.Dev), Ino: uint64(st.Ino), Size: int64(st.Size),
		Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

// RacyAt reports whether a file with this status that was read from the moment
// read on could have been changed since without a trace in its status.
func (s Stat) RacyAt(read time.Time) bool {
	t := read.UnixNano()
	// A change that comes after the read sets both times to t or later. Ctime
	// tells, for nobody can set it back; mtime is for those file systems that
	// keep no ctime. (It may lie in the future: then it is no clock's reading.)
	return s.Ctime > t-int64(Racy) || s.mtimeNear(t)
}

func (s Stat) mtimeNear(t int64) bool {
	return s.Mtime > t-int64(Racy) && s.Mtime < t+int64(Racy)
}

// A Cache is an open table. Its methods may be called concurrently, and on a
// nil Cache, which is always empty.
type Cache struct {
	path  string
	table table // set by Open, then constant
	today uint16

	mu      sync.Mutex
	pending []record // guarded by mu
}

type record struct {
	tag, fingerprint uint64
	id               objects.ID
}

// Open opens the table in the file path. If it is absent, damaged or of another
// version it is empty, and Flush replaces it.
func Open(path string) *Cache {
	return &Cache{path: path, table: openTable(path), today: dayOf(time.Now())}
}

func dayOf(t time.Time) uint16 { return uint16(t.Unix() / (24 * 60 * 60)) }

// Lookup returns the id of the content of the file with this status, if the file
// was recorded and has not changed since. Whether the object with this id is
// still stored is for the caller to find out.
func (c *Cache) Lookup(s Stat) (objects.ID, bool) {
	if c == nil {
		return objects.ID{}, false
	}
	tag := s.tag()
	slot, found := c.table.find(tag)
	if !found {
		return objects.ID{}, false
	}
	id := objects.ID(slot[16:48])
	fingerprint := s.fingerprint(&id)
	if binary.LittleEndian.Uint64(slot[8:]) != fingerprint {
		return objects.ID{}, false
	}
	if c.today-slotDay(slot) >= touchAfter {
		c.add(record{tag: tag, fingerprint: fingerprint, id: id})
	}
	return id, true
}

// Record remembers, from the next Flush on, that the content of the file with
// this status has this id. The status is that of the file while it was read,
// and read is a moment before that began; if the file is too young then to be
// trusted (see Stat.RacyAt) nothing is remembered.
//
// Objects come first: Flush only after they are committed.
func (c *Cache) Record(s Stat, id objects.ID, read time.Time) {
	if c != nil && !s.RacyAt(read) {
		c.add(record{tag: s.tag(), fingerprint: s.fingerprint(&id), id: id})
	}
}

// RecordMade is Record for a file that the caller has just made, with this
// content, in a place that nobody else could reach before the moment reachable
// (a reading of Clock).
//
// Its ctime is always of now. But where the caller has set its mtime to an
// earlier time, whoever changes the file later sets it to another; and where the
// clock has moved on since the last change, the next one is seen by its ctime.
func (c *Cache) RecordMade(s Stat, id objects.ID, reachable int64) {
	if c == nil || s.mtimeNear(reachable) && s.Ctime >= reachable {
		return
	}
	c.add(record{tag: s.tag(), fingerprint: s.fingerprint(&id), id: id})
}

// Forget drops what was recorded and not flushed.
func (c *Cache) Forget() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = nil
}

func (c *Cache) add(r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, r)
}

// tag returns 48 bits that stand for the inode, never 0.
func (s Stat) tag() uint64 {
	h := mix(mix(0, s.Dev), s.Ino)
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return max(h>>16, 1)
}

// fingerprint binds id to the status. Each step maps the state one to one, so
// no change of a single word goes unnoticed.
func (s Stat) fingerprint(id *objects.ID) uint64 {
	h := mix(0x9fb21c651e98df25, s.Dev)
	h = mix(h, s.Ino)
	h = mix(h, uint64(s.Size))
	h = mix(h, uint64(s.Mtime))
	h = mix(h, uint64(s.Ctime))
	for i := 0; i < objects.IDSize; i += 8 {
		h = mix(h, binary.LittleEndian.Uint64(id[i:]))
	}
	h ^= h >> 29
	return h * 0xbf58476d1ce4e5b9
}

func mix(h, word uint64) uint64 {
	h = (h ^ word) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}
