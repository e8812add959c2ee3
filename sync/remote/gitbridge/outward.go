package gitbridge

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
)

// maxDepth is how deep Git lets trees nest.
const maxDepth = 4096

// An outward makes objects of SHA-1 of those of SHA-256.
type outward struct {
	src     source
	ids     *idMap
	lacking map[objects.ID]bool // commits whose parents the server does not get

	// The rest is of one that makes a pack; else pack is nil.
	pack *packSpool
	list map[objects.ID]bool // what belongs into the pack, and whether it is in it
	memo map[objects.ID]oid  // commits as the server has, or gets, them

	// inPieces, if not nil, returns blobs that the server is sure to have in pieces.
	inPieces func() map[objects.ID]bool

	mu   sync.Mutex
	sent map[oid]bool // blobs, and trees that are in no list: what is in the pack
}

// once reports whether an object is to be put into the pack, which has it once only.
func (w *outward) once(at oid) bool {
	if w.pack == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent[at] {
		return false
	}
	w.sent[at] = true
	return true
}

// blobs computes the ids of blobs, and puts them into the pack.
func (w *outward) blobs(ctx context.Context, ids []objects.ID) error {
	return w.src.readMany(ctx, ids, func(id objects.ID, body []byte) error {
		return w.blob(ctx, id, objects.Object{Kind: objects.Blob, Size: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}, body)
	}, func(id objects.ID, o objects.Object) error {
		return w.blob(ctx, id, o, nil)
	})
}

// blob does one: body is nil if it is too big for that.
func (w *outward) blob(ctx context.Context, id objects.ID, o objects.Object, body []byte) error {
	_, inPieces := w.ids.git(id, pieces)
	switch {
	case o.Size > w.ids.limit || inPieces:
		return w.cut(ctx, id, o)
	case body != nil:
		at := sumOID(objects.Blob, body)
		if w.once(at) {
			if err := w.pack.add(objects.Blob, body); err != nil {
				return err
			}
		}
		return w.ids.add(ctx, id, whole, at)
	}
	h := start(sha1.New(), objects.Blob, o.Size)
	o.Body = io.NopCloser(io.TeeReader(o.Body, h))
	var err error
	if w.pack != nil {
		err = w.pack.stream(o)
	} else {
		_, err = io.Copy(io.Discard, o.Body)
	}
	var at oid
	h.Sum(at[:0])
	w.once(at)
	if err != nil {
		return fmt.Errorf("blob %s: %w", id.Short(), err)
	}
	return w.ids.add(ctx, id, whole, at)
}

// cutter cuts big blobs in pieces, of 256 KiB as a rule. As long as it stays as it is the
// pieces that versions of a blob share are kept once.
var cutter = chunk.For(8 << 30)

// eachPiece calls fn with the pieces of a blob.
func eachPiece(r io.Reader, fn func(body []byte) error) error {
	buf := make([]byte, 0, 2*cutter.Max())
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		rest := buf
		for len(rest) >= cutter.Max() || end && len(rest) > 0 {
			n := cutter.Cut(rest)
			if err := fn(rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if end {
			return nil
		}
		buf = buf[:copy(buf[:cap(buf)], rest)]
	}
}

// cut makes of a blob the tree of its pieces.
func (w *outward) cut(ctx context.Context, id objects.ID, o objects.Object) error {
	var tree []byte
	n := 0
	err := eachPiece(o.Body, func(body []byte) error {
		at := sumOID(objects.Blob, body)
		tree = appendEntry(tree, objects.ModeFile, fmt.Sprintf("%08x", n), at)
		n++
		if !w.hasPiece(at) && w.once(at) {
			if err := w.pack.add(objects.Blob, body); err != nil {
				return err
			}
		}
		return w.ids.add(ctx, id, piece, at)
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", id.Short(), err)
	}
	at := sumOID(objects.Tree, tree)
	if w.once(at) {
		if err := w.pack.add(objects.Tree, tree); err != nil {
			return err
		}
	}
	return w.ids.add(ctx, id, pieces, at)
}

// hasPiece reports whether the server is sure to have a piece.
func (w *outward) hasPiece(at oid) bool {
	if w.pack == nil || w.inPieces == nil {
		return false
	}
	return slices.ContainsFunc(w.ids.withPiece(at), func(id objects.ID) bool { return w.inPieces()[id] })
}

// any returns what stands for an object, and computes it if that is not known.
func (w *outward) any(ctx context.Context, id objects.ID) (oid, error) {
	k, err := w.src.KindOf(ctx, id)
	if id == objects.EmptyTree {
		k, err = objects.Tree, nil
	}
	if err != nil {
		return oid{}, err
	}
	switch k {
	case objects.Commit:
		return w.commit(ctx, id)
	case objects.Tree:
		return w.tree(ctx, id, 0)
	case objects.Tag:
		return w.tag(ctx, id)
	}
	return w.plain(ctx, id)
}

// plain returns the id of a blob as a whole.
func (w *outward) plain(ctx context.Context, id objects.ID) (oid, error) {
	if at, ok := w.ids.git(id, whole); ok {
		return at, nil
	}
	if err := w.open(ctx, id); err != nil {
		return oid{}, err
	}
	if at, ok := w.ids.git(id, whole); ok {
		return at, nil
	}
	return oid{}, fmt.Errorf("blob %s is too big for the server, and is not a file", id.Short())
}

// open computes the id of a blob that the server has.
func (w *outward) open(ctx context.Context, id objects.ID) error {
	o, err := w.src.Open(ctx, id)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	if o.Kind != objects.Blob {
		return fmt.Errorf("%s is a %s, and not a blob", id.Short(), o.Kind)
	}
	learn := outward{src: w.src, ids: w.ids}
	return learn.blob(ctx, id, o, nil)
}

// done reports whether an object need not be looked into: its id is known, and it is not
// still to be put into the pack.
func (w *outward) done(id objects.ID, as form) (oid, bool) {
	if inPack, listed := w.list[id]; listed && !inPack {
		return oid{}, false
	}
	return w.ids.git(id, as)
}

// keep puts an object into the pack if it belongs there, and its id into the map.
func (w *outward) keep(ctx context.Context, id objects.ID, k objects.Kind, as form, body []byte) (oid, error) {
	at := sumOID(k, body)
	if inPack, listed := w.list[id]; listed && !inPack {
		w.list[id] = true
		if w.once(at) {
			if err := w.pack.add(k, body); err != nil {
				return at, err
			}
		}
	}
	return at, w.ids.add(ctx, id, as, at)
}

func (w *outward) tree(ctx context.Context, id objects.ID, depth int) (oid, error) {
	if depth > maxDepth {
		return oid{}, fmt.Errorf("tree %s: nested more than %d deep", id.Short(), maxDepth)
	}
	if id == objects.EmptyTree {
		if w.once(emptyTree) {
			return emptyTree, w.pack.add(objects.Tree, nil)
		}
		return emptyTree, nil
	}
	if at, ok := w.done(id, asTree); ok {
		return at, nil
	}
	entries, err := objects.ReadTree(ctx, w.src, id)
	if err != nil {
		return oid{}, err
	}
	there := make([]oid, len(entries))
	for i := range entries {
		e := &entries[i]
		e.Name = escape(e.Name)
		if e.Mode.IsDir() {
			there[i], err = w.tree(ctx, e.ID, depth+1)
		} else {
			e.Mode, there[i], err = w.leaf(ctx, *e)
		}
		if err != nil {
			return oid{}, err
		}
		// Only the order is needed of them from now on.
		e.ID = objects.ID{}
		copy(e.ID[:], there[i][:])
	}
	entries.Sort()
	var body []byte
	for _, e := range entries {
		body = appendEntry(body, e.Mode, e.Name, oid(e.ID[:len(oid{})]))
	}
	return w.keep(ctx, id, objects.Tree, asTree, body)
}

// leaf returns as what a blob stands in a tree of the server.
func (w *outward) leaf(ctx context.Context, e objects.Entry) (objects.Mode, oid, error) {
	if e.Mode == objects.ModeSymlink {
		at, err := w.plain(ctx, e.ID)
		return e.Mode, at, err
	}
	for try := 1; ; try++ {
		if parts, ok := w.ids.git(e.ID, pieces); ok {
			body, as := wrap(e.Mode, parts)
			at := sumOID(objects.Tree, body)
			if w.once(at) {
				if err := w.pack.add(objects.Tree, body); err != nil {
					return e.Mode, at, err
				}
			}
			return objects.ModeDir, at, w.ids.add(ctx, e.ID, as, at)
		}
		if at, ok := w.ids.git(e.ID, whole); ok {
			return e.Mode, at, nil
		}
		if try > 1 {
			return e.Mode, oid{}, errors.New("blob " + e.ID.Short() + " is not what it was")
		}
		if err := w.open(ctx, e.ID); err != nil {
			return e.Mode, oid{}, err
		}
	}
}

// known returns what stands for a commit, if that is known.
func (w *outward) known(id objects.ID) (oid, bool) {
	if at, ok := w.memo[id]; ok {
		return at, true
	}
	if _, listed := w.list[id]; listed {
		return oid{}, false // as what depends on its parents
	}
	return w.ids.git(id, commit, cutOff)
}

// An openCommit waits for its parents.
type openCommit struct {
	id, tree objects.ID
	parents  []objects.ID
	rest     []byte
	next     int // the parent that is looked at next
}

// commit computes the ids of a history, which may be long: no recursion here.
func (w *outward) commit(ctx context.Context, tip objects.ID) (oid, error) {
	var stack []*openCommit
	open := func(id objects.ID) error {
		if _, ok := w.known(id); ok {
			return nil
		}
		body, err := objects.ReadKind(ctx, w.src, id, objects.Commit)
		if err != nil {
			return err
		}
		c := &openCommit{id: id}
		var ok bool
		if c.tree, c.parents, c.rest, ok = takeCommit(body, objects.ParseID); !ok {
			return fmt.Errorf("commit %s: %w", id.Short(), objects.ErrBadCommit)
		}
		if w.lacking[id] {
			c.next = len(c.parents)
		}
		stack = append(stack, c)
		return nil
	}
	if err := open(tip); err != nil {
		return oid{}, err
	}
	for len(stack) > 0 {
		c := stack[len(stack)-1]
		if c.next < len(c.parents) {
			c.next++
			if err := open(c.parents[c.next-1]); err != nil {
				return oid{}, fmt.Errorf("history of %s: %w", tip.Short(), err)
			}
			continue
		}
		stack = stack[:len(stack)-1]
		if err := w.close(ctx, c); err != nil {
			return oid{}, fmt.Errorf("commit %s: %w", c.id.Short(), err)
		}
	}
	at, _ := w.known(tip)
	return at, nil
}

// close makes a commit whose parents are known.
func (w *outward) close(ctx context.Context, c *openCommit) error {
	if _, ok := w.known(c.id); ok {
		return nil // as a parent of two
	}
	tree, err := w.tree(ctx, c.tree, 0)
	if err != nil {
		return err
	}
	as := commit
	var parents []oid
	if w.lacking[c.id] {
		as = cutOff
		if c.rest, err = addCut(c.rest, c.parents); err != nil {
			return err
		}
	} else {
		for _, p := range c.parents {
			at, _ := w.known(p)
			parents = append(parents, at)
		}
	}
	at, err := w.keep(ctx, c.id, objects.Commit, as, makeCommit(tree, parents, c.rest))
	if w.memo != nil {
		w.memo[c.id] = at
	}
	return err
}

func (w *outward) tag(ctx context.Context, id objects.ID) (oid, error) {
	if at, ok := w.done(id, form(objects.Tag)); ok {
		return at, nil
	}
	body, err := objects.ReadKind(ctx, w.src, id, objects.Tag)
	if err != nil {
		return oid{}, err
	}
	object, k, rest, ok := takeTag(body, objects.ParseID)
	if !ok {
		return oid{}, fmt.Errorf("tag %s: %w", id.Short(), objects.ErrBadTag)
	}
	is, err := w.src.KindOf(ctx, object)
	if err == nil && is != k {
		err = fmt.Errorf("%w: it says that a %s is a %s", objects.ErrBadTag, is, k)
	}
	var at oid
	if err == nil {
		at, err = w.any(ctx, object)
	}
	if err != nil {
		return oid{}, fmt.Errorf("tag %s: %w", id.Short(), err)
	}
	return w.keep(ctx, id, objects.Tag, form(objects.Tag), makeTag(at, rest))
}
