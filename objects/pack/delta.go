package pack

import (
	"bytes"
	"encoding/binary"

	"github.com/cache-tool/cache-tool/objects"
)

// A TreeDelta is a tree as the difference to a base, another tree that is
// stored whole:
//
//	32 bytes   id of the tree
//	32 bytes   id of the base
//	any number of edits, in the order of the tree:
//	    uvarint    length of the name << 3 | what becomes of it: 0 deleted,
//	               else the mode: 1 file, 2 executable, 3 symlink, 4 directory
//	    n bytes    name
//	    32 bytes   id, unless it is deleted
//
// A name that is put replaces what had it, if anything did.
type TreeDelta struct {
	ID, Base objects.ID
	edits    []byte // as in the record
}

const deltaHeadSize = 2 * objects.IDSize

var deltaModes = [...]objects.Mode{1: objects.ModeFile, 2: objects.ModeExec, 3: objects.ModeSymlink, 4: objects.ModeDir}

// ParseDelta reads a delta, which keeps body.
func ParseDelta(body []byte) (TreeDelta, error) {
	var d TreeDelta
	if len(body) < deltaHeadSize {
		return d, badPack("a tree delta of %d bytes", len(body))
	}
	copy(d.ID[:], body)
	copy(d.Base[:], body[objects.IDSize:])
	d.edits = body[deltaHeadSize:]
	for rest := d.edits; len(rest) > 0; {
		var err error
		if _, rest, err = cutEdit(rest); err != nil {
			return d, err
		}
	}
	return d, nil
}

// An edit is one change of a TreeDelta. A zero mode deletes.
type edit struct {
	mode objects.Mode
	name []byte
	id   []byte
}

func (e edit) entry() objects.Entry {
	entry := objects.Entry{Mode: e.mode, Name: string(e.name)}
	copy(entry.ID[:], e.id)
	return entry
}

func cutEdit(p []byte) (e edit, rest []byte, err error) {
	v, n := binary.Uvarint(p)
	what, size := v&7, v>>3
	if n <= 0 || what >= uint64(len(deltaModes)) || size == 0 || size > uint64(len(p)-n) {
		return e, nil, badPack("a tree delta is malformed")
	}
	e.mode, e.name, p = deltaModes[what], p[n:n+int(size)], p[n+int(size):]
	if e.mode == 0 {
		return e, p, nil
	}
	if len(p) < objects.IDSize {
		return e, nil, badPack("a tree delta is cut short")
	}
	e.id = p[:objects.IDSize]
	return e, p[objects.IDSize:], nil
}

// Apply returns the body of the tree, made from that of its base. The caller
// proves that it hashes to the delta's ID.
func (d TreeDelta) Apply(base []byte) ([]byte, error) {
	gone := map[string]bool{} // names whose old entry is dropped
	var puts []edit
	for rest := d.edits; len(rest) > 0; {
		var e edit
		var err error
		if e, rest, err = cutEdit(rest); err != nil {
			return nil, err
		}
		gone[string(e.name)] = true
		if e.mode != 0 {
			puts = append(puts, e)
		}
	}
	out := make([]byte, 0, len(base)+len(d.edits)+8*len(puts))
	for len(base) > 0 {
		old, rest, err := objects.CutEntry(base)
		if err != nil {
			return nil, err
		}
		base = rest
		if len(gone) > 0 && gone[string(old.Name)] {
			continue
		}
		for len(puts) > 0 && before(puts[0], old) {
			out = objects.Entries{puts[0].entry()}.AppendTo(out)
			puts = puts[1:]
		}
		out = append(out, old.Raw...)
	}
	for _, e := range puts {
		out = objects.Entries{e.entry()}.AppendTo(out)
	}
	return out, nil
}

// before is objects.CompareEntries without strings.
func before(e edit, old objects.RawEntry) bool {
	n := min(len(e.name), len(old.Name))
	if c := bytes.Compare(e.name[:n], old.Name[:n]); c != 0 {
		return c < 0
	}
	end := func(name []byte, m objects.Mode) byte {
		switch {
		case n < len(name):
			return name[n]
		case m.IsDir():
			return '/'
		}
		return 0
	}
	return end(e.name, e.mode) < end(old.Name, old.Mode)
}

// AppendDelta appends to dst the record that makes the tree id, whose body is
// tree, from base, whose body is baseBody. It gives up, and reports false, when
// the record would be longer than limit.
func AppendDelta(dst []byte, id objects.ID, tree []byte, base objects.ID, baseBody []byte, limit int) ([]byte, bool) {
	start := len(dst)
	dst = append(append(dst, id[:]...), base[:]...)
	for len(tree) > 0 || len(baseBody) > 0 {
		if len(dst)-start > limit {
			return dst[:start], false
		}
		// Most entries are the same on both sides.
		var now, was objects.RawEntry
		var nowRest, wasRest []byte
		var err1, err2 error
		if len(tree) > 0 {
			now, nowRest, err1 = objects.CutEntry(tree)
		}
		if len(baseBody) > 0 {
			was, wasRest, err2 = objects.CutEntry(baseBody)
		}
		if err1 != nil || err2 != nil {
			return dst[:start], false
		}
		switch {
		case bytes.Equal(now.Raw, was.Raw):
			tree, baseBody = nowRest, wasRest
		case was.Raw == nil || now.Raw != nil && before(asEdit(now), was):
			dst = appendEdit(dst, asEdit(now))
			tree = nowRest
		case now.Raw == nil || before(asEdit(was), now):
			dst = appendEdit(dst, edit{name: was.Name})
			baseBody = wasRest
		default: // same place, and so the same name
			dst = appendEdit(dst, asEdit(now))
			tree, baseBody = nowRest, wasRest
		}
	}
	return dst, len(dst)-start <= limit
}

func asEdit(e objects.RawEntry) edit { return edit{e.Mode, e.Name, e.ID[:]} }

func appendEdit(dst []byte, e edit) []byte {
	what := 0
	for i, m := range deltaModes {
		if m == e.mode {
			what = i
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.name))<<3|uint64(what))
	dst = append(dst, e.name...)
	return append(dst, e.id...)
}
