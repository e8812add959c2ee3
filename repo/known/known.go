// Package known remembers what was found in trees: which entry stands at a path below
// a root, and what an entry holds.
//
// A tree with some id is the same for ever, and so is what was found in it. So nothing
// here is ever out of date: who knows the root of a branch looks up in it what the
// branch has now. That the objects are still there is not said.
//
// The file, big-endian:
//
//	4 bytes   magic "CTKN"
//	4 bytes   version, 1
//	4 bytes   how many places; of each:
//	32 bytes  the root
//	32 bytes  the entry; zero if the root has none at the path
//	2 bytes   length of the path
//	n bytes   path
//	4 bytes   how many entries; of each:
//	32 bytes  id
//	32 bytes  its body
//	8 bytes   bytes of that
//	2 bytes   length of the meta
//	n bytes   the content of its meta
//	4 bytes   CRC-32C of the bytes above
//
// It is written anew, and the last who does wins. A damaged one is as good as none.
package known

import (
	"os"
	"sync"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// most is how many places are kept, and how many entries. What was asked for last
// comes first.
const most = 1 << 15

// A Table is what is known. Its methods may be called concurrently; one that is nil
// knows nothing.
type Table struct {
	name string

	mu      sync.Mutex
	places  kept[place, objects.ID] // guarded by mu, as is all below
	entries kept[objects.ID, Entry]
	news    bool // something is not in the file
}

type place struct {
	root objects.ID
	path string
}

// An Entry is what an entry of one blob holds.
type Entry struct {
	Meta string     // the content of its meta
	Body objects.ID // the blob
	Size int64      // bytes of that
}

// Open reads the file of this name, if there is one that is whole.
func Open(name string) *Table {
	t := &Table{name: name}
	data, err := os.ReadFile(name)
	if err == nil {
		t.places.old, t.entries.old = parse(data)
	}
	return t
}

// Find returns the entry at path below root; it is zero if there is none.
func (t *Table) Find(root objects.ID, path string) (id objects.ID, ok bool) {
	if t == nil {
		return id, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.places.get(place{root, path})
}

// NoteFound notes which entry is at path below root, zero if none is.
func (t *Table) NoteFound(root objects.ID, path string, id objects.ID) {
	if t == nil || len(path) > maxString {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.news = t.places.put(place{root, path}, id) || t.news
}

// Entry returns what an entry holds.
func (t *Table) Entry(id objects.ID) (e Entry, ok bool) {
	if t == nil {
		return e, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries.get(id)
}

// NoteEntry notes what an entry holds.
func (t *Table) NoteEntry(id objects.ID, e Entry) {
	if t == nil || len(e.Meta) > maxString {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.news = t.entries.put(id, e) || t.news
}

// Save writes what is new. Below the roots that nobody asked for since Open nothing is
// remembered.
func (t *Table) Save() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.news {
		return nil
	}
	asked := map[objects.ID]bool{}
	for p := range t.places.now {
		asked[p.root] = true
	}
	places := t.places.all(func(p place) bool { return asked[p.root] })
	entries := t.entries.all(func(objects.ID) bool { return true })
	t.news = false
	return durable.WriteFile(t.name, encode(places, entries), durable.NoSync)
}

// kept are values of which those that were asked for can be told from others.
type kept[K comparable, V any] struct{ now, old map[K]V }

func (k *kept[K, V]) get(key K) (v V, ok bool) {
	if v, ok = k.now[key]; ok {
		return v, true
	}
	if v, ok = k.old[key]; ok {
		k.put(key, v)
	}
	return v, ok
}

// put takes in a value, if there is room. It reports whether that is news.
func (k *kept[K, V]) put(key K, v V) bool {
	if len(k.now) == most {
		return false
	}
	if k.now == nil {
		k.now = make(map[K]V, len(k.old))
	}
	n := len(k.now)
	k.now[key] = v
	_, known := k.old[key]
	return len(k.now) > n && !known
}

// all returns what was asked for and, as far as there is room, of the rest what is
// wanted.
func (k *kept[K, V]) all(wanted func(K) bool) map[K]V {
	for key, v := range k.old {
		if wanted(key) {
			k.put(key, v)
		}
	}
	return k.now
}
