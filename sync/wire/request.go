package wire

import (
	"encoding/binary"
	"math"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// EncodeRequest returns what to fetch: 1 byte extent, the wanted ids, those that
// the client has, the commits whose parents it has cut off.
func EncodeRequest(q remote.Request) []byte {
	dst := make([]byte, 0, 1+3*4+(len(q.Want)+len(q.Have)+len(q.Shallow))*objects.IDSize)
	dst = append(dst, byte(q.Extent))
	return appendIDs(appendIDs(appendIDs(dst, q.Want), q.Have), q.Shallow)
}

// ParseRequest is the inverse of EncodeRequest, for at most MaxIDs in all.
func ParseRequest(p []byte) (remote.Request, error) {
	r := &reader{rest: p}
	q := remote.Request{Extent: remote.Extent(r.number(1))}
	if q.Extent > remote.Closure && r.err == nil {
		r.err = malformed("unknown extent %d", q.Extent)
	}
	q.Want = r.ids(MaxIDs)
	q.Have = r.ids(MaxIDs - len(q.Want))
	q.Shallow = r.ids(MaxIDs - len(q.Want) - len(q.Have))
	return q, r.end()
}

// EncodePaths returns what to fetch by path: 8 bytes budget, how many paths in 4
// bytes, then each as 32 bytes root, 2 bytes length of the path, path.
func EncodePaths(paths []remote.Path, budget int64) []byte {
	dst := binary.BigEndian.AppendUint64(nil, uint64(max(0, budget)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(paths)))
	for _, p := range paths {
		dst = append(dst, p.Root[:]...)
		dst = appendText(dst, p.Path, MaxPath)
	}
	return dst
}

// ParsePaths is the inverse of EncodePaths, for at most MaxPaths. It does not
// check what the paths are: they lead to entries of trees, not to files.
func ParsePaths(p []byte) ([]remote.Path, int64, error) {
	r := &reader{rest: p}
	budget := r.number(8)
	if budget > math.MaxInt64 {
		return nil, 0, malformed("a budget of %d bytes", budget)
	}
	paths := make([]remote.Path, r.count(MaxPaths, objects.IDSize+2))
	for i := range paths {
		paths[i] = remote.Path{Root: r.id(), Path: r.text(MaxPath)}
	}
	return paths, int64(budget), r.end()
}

// EncodeUpdates returns a list of updates: how many in 4 bytes, then each as 32
// bytes old, 32 bytes new, and name and reason with 2 bytes length in front; then
// the commits at which the client's history ends; then the checksum.
// What of a reason is longer than MaxName is cut off.
func EncodeUpdates(updates []refs.Update, cut []objects.ID) []byte {
	dst := binary.BigEndian.AppendUint32(nil, uint32(len(updates)))
	for _, u := range updates {
		dst = append(dst, u.Old[:]...)
		dst = append(dst, u.New[:]...)
		dst = appendText(dst, string(u.Name), MaxName)
		dst = appendText(dst, u.Reason, MaxName)
	}
	return seal(appendIDs(dst, cut))
}

// ParseUpdates is the inverse of EncodeUpdates, for at most MaxUpdates, each of
// another ref, and MaxCut commits. A bad name is refs.ErrBadName.
func ParseUpdates(p []byte) (updates []refs.Update, cut []objects.ID, err error) {
	r := unseal(p)
	updates = make([]refs.Update, r.count(MaxUpdates, 2*objects.IDSize+4))
	seen := make(map[refs.Name]bool, len(updates))
	for i := range updates {
		u := refs.Update{Old: r.id(), New: r.id(), Name: refs.Name(r.text(MaxName)), Reason: r.text(MaxName)}
		if r.err != nil {
			return nil, nil, r.err
		}
		if err := u.Name.Check(); err != nil {
			return nil, nil, err
		}
		if seen[u.Name] {
			return nil, nil, malformed("%s: updated twice at once", u.Name)
		}
		seen[u.Name] = true
		updates[i] = u
	}
	cut = r.ids(MaxCut)
	return updates, cut, r.end()
}

// EncodeUses returns uses of entries: see uses.Table.
func EncodeUses(t uses.Table) []byte { return t.Encode() }

// ParseUses is the inverse of EncodeUses, for at most MaxUses.
func ParseUses(p []byte) (uses.Table, error) {
	t, err := uses.Parse(p, MaxUses)
	if err != nil {
		return nil, malformed("%v", err)
	}
	return t, nil
}
