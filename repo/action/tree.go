package action

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// A sink takes the objects of an action. A lookup only wants their ids, and
// that has to be quick; after a miss they are written.
type sink interface {
	blob(body []byte) (objects.ID, error)
	tree(body []byte) (objects.ID, error)
}

// hashing is the sink that computes ids.
type hashing struct{ room []byte }

func (h *hashing) blob(body []byte) (objects.ID, error) { return h.sum("blob ", body), nil }
func (h *hashing) tree(body []byte) (objects.ID, error) { return h.sum("tree ", body), nil }

// sum is objects.Sum without its allocations.
func (h *hashing) sum(kind string, body []byte) objects.ID {
	h.room = append(h.room[:0], kind...)
	h.room = strconv.AppendInt(h.room, int64(len(body)), 10)
	h.room = append(h.room, 0)
	h.room = append(h.room, body...)
	return sha256.Sum256(h.room)
}

// writing is the sink that stores the objects.
type writing struct{ w entry.Writer }

func (w writing) blob(body []byte) (objects.ID, error) { return w.w.PutBytes(objects.Blob, body) }

func (w writing) tree(body []byte) (objects.ID, error) {
	if _, err := objects.ParseTree(body); err != nil {
		return objects.ID{}, err // such as "a" beside "a/b", which no tree can be
	}
	return w.w.PutTree(body, objects.ID{})
}

// A leaf is a file of a tree that is being made.
type leaf struct {
	path string // with names as they stand in a tree
	mode objects.Mode
	id   objects.ID
}

func sortLeaves(leaves []leaf) {
	slices.SortFunc(leaves, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
}

// grow makes the tree of the leaves, which must be ordered by path, no path
// twice. (That is the order in which Git has the entries of each tree, too.)
func grow(s sink, leaves []leaf) (objects.ID, error) {
	g := grower{sink: s, body: make([]byte, 0, 8<<10)}
	return g.grow(leaves, 0)
}

type grower struct {
	sink
	body []byte // of the trees that are being made, from the root downwards
}

// grow makes the tree of the leaves, whose paths have the first skip bytes in common.
func (g *grower) grow(leaves []leaf, skip int) (objects.ID, error) {
	start := len(g.body)
	for i := 0; i < len(leaves); {
		l := &leaves[i]
		name := l.path[skip:]
		slash := strings.IndexByte(name, '/')
		if slash < 0 {
			g.add(l.mode, name, l.id)
			i++
			continue
		}
		prefix, n := l.path[:skip+slash+1], i+1
		for n < len(leaves) && strings.HasPrefix(leaves[n].path, prefix) {
			n++
		}
		var id objects.ID
		var err error
		if n == i+1 && len(prefix) == len(l.path) { // "dir/" is an empty directory
			id, err = g.tree(nil)
		} else {
			id, err = g.grow(leaves[i:n], len(prefix))
		}
		if err != nil {
			return objects.ID{}, fmt.Errorf("%s: %w", prefix, err)
		}
		g.add(objects.ModeDir, name[:slash], id)
		i = n
	}
	id, err := g.tree(g.body[start:])
	g.body = g.body[:start]
	return id, err
}

func (g *grower) add(mode objects.Mode, name string, id objects.ID) {
	g.body = objects.Entries{{Mode: mode, Name: name, ID: id}}.AppendTo(g.body)
}
