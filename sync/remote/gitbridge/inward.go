package gitbridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// errLacks says that a pack names an object that is neither in it nor known.
var errLacks = errors.New("the server did not send all that is needed")

// An inward makes objects of SHA-256 of those of SHA-1 in a pack, and adds them to a
// store. What the map knows is not looked into.
type inward struct {
	in   *packReader
	ids  *idMap
	src  source // where the blobs are that pieces may be taken from
	db   *odb.DB
	dir  string
	done []bool // of in.entries: added

	// all says that nothing is known to be anywhere: what is in the pack is to be added
	// whatever the map says.
	all bool

	b    *odb.Batch
	held int64 // bytes that went into b
}

// maxHeld is how many bytes go into one batch, which remembers all that it has met.
const maxHeld = 256 << 20

// run adds what tips lead to.
func (w *inward) run(ctx context.Context, tips []oid) (err error) {
	w.done = make([]bool, len(w.in.entries))
	if w.b, err = w.db.NewBatch(ctx, odb.BatchOptions{}); err != nil {
		return err
	}
	defer func() { w.b.Close() }()
	for _, at := range tips {
		if err := w.any(ctx, at); err != nil {
			return fmt.Errorf("%s of the server: %w", at, err)
		}
	}
	// The map comes last: what it knows is there.
	if err := w.b.Commit(ctx, odb.Staged); err != nil {
		return err
	}
	return w.ids.flush(ctx)
}

// settle ends a batch that has become big.
func (w *inward) settle(ctx context.Context, size int64) error {
	if w.held += size; w.held < maxHeld {
		return nil
	}
	w.held = 0
	if err := w.b.Commit(ctx, odb.Staged); err != nil {
		return err
	}
	w.b.Close()
	b, err := w.db.NewBatch(ctx, odb.BatchOptions{})
	if err == nil {
		w.b = b
	}
	return err
}

// known returns for what an object stands, if that is known.
func (w *inward) known(at oid, forms ...form) (row, bool) {
	if i, ok := w.in.find(at); ok && w.all && !w.done[i] {
		return row{}, false
	}
	return w.ids.ours(at, forms...)
}

// entry returns the number of an object in the pack, which must be a k.
func (w *inward) entry(at oid, k objects.Kind) (int, error) {
	i, ok := w.in.find(at)
	if !ok {
		return 0, fmt.Errorf("%s %s: %w", k, at, errLacks)
	}
	if is := w.in.entries[i].kind; is != k {
		return 0, fmt.Errorf("%w: %s is a %s, and not a %s", ErrForeign, at, is, k)
	}
	return i, nil
}

// kinds are the forms of what a ref may point to.
var kinds = []form{commit, cutOff, asTree, whole, form(objects.Tag)}

func (w *inward) any(ctx context.Context, at oid) error {
	if _, ok := w.known(at, kinds...); ok {
		return nil
	}
	i, ok := w.in.find(at)
	if !ok {
		return errLacks
	}
	var err error
	switch w.in.entries[i].kind {
	case objects.Commit:
		err = w.commit(ctx, at)
	case objects.Tree:
		var r row
		if r, err = w.tree(ctx, at, 0); err == nil && r.as != asTree {
			err = fmt.Errorf("%w: a part of a blob stands where a tree should", ErrForeign)
		}
	case objects.Tag:
		err = w.tag(ctx, at)
	default:
		_, err = w.blob(ctx, at)
	}
	return err
}

// add notes that an entry is done.
func (w *inward) add(ctx context.Context, i int, id objects.ID, as form) (row, error) {
	w.done[i] = true
	r := row{id, as, w.in.entries[i].id}
	if err := w.ids.add(ctx, r.id, r.as, r.at); err != nil {
		return r, err
	}
	return r, w.settle(ctx, w.in.entries[i].size)
}

func (w *inward) blob(ctx context.Context, at oid) (row, error) {
	if r, ok := w.known(at, whole); ok {
		return r, nil
	}
	i, err := w.entry(at, objects.Blob)
	if err != nil {
		return row{}, err
	}
	body, err := w.in.open(i)
	if err != nil {
		return row{}, err
	}
	defer body.Close()
	id, err := w.b.Put(ctx, objects.Blob, w.in.entries[i].size, body)
	if err != nil {
		return row{}, err
	}
	return w.add(ctx, i, id, whole)
}

// tree adds a tree, or the blob of whose pieces it is one.
func (w *inward) tree(ctx context.Context, at oid, depth int) (row, error) {
	if r, ok := w.known(at, asTree, asFile, asExec); ok {
		return r, nil
	}
	if depth > maxDepth {
		return row{}, fmt.Errorf("%w: trees are nested more than %d deep", ErrForeign, maxDepth)
	}
	i, err := w.entry(at, objects.Tree)
	if err != nil {
		return row{}, err
	}
	body, err := w.in.read(i)
	if err != nil {
		return row{}, err
	}
	if m, parts, ok := unwrap(body); ok {
		r, err := w.pieces(ctx, parts)
		if err != nil {
			return r, err
		}
		_, as := wrap(m, parts)
		return w.add(ctx, i, r.id, as)
	}
	entries, err := w.entries(ctx, body, depth)
	if err != nil {
		return row{}, fmt.Errorf("tree %s: %w", at, err)
	}
	ours := entries.Encode()
	if _, err := objects.ParseTree(ours); err != nil {
		return row{}, fmt.Errorf("%w: tree %s: %w", ErrForeign, at, err)
	}
	id := objects.EmptyTree
	if len(entries) > 0 {
		if id, err = w.b.PutBytes(objects.Tree, ours); err != nil {
			return row{}, err
		}
	}
	return w.add(ctx, i, id, asTree)
}

// entries returns those of a tree, after what they name has been added.
func (w *inward) entries(ctx context.Context, body []byte, depth int) (objects.Entries, error) {
	var entries objects.Entries
	var last objects.Entry
	for rest := body; len(rest) > 0; {
		mode, name, at, after, err := cutEntry(rest)
		if err != nil {
			return nil, err
		}
		rest = after
		there := objects.Entry{Mode: mode, Name: name}
		if len(entries) > 0 && objects.CompareEntries(last, there) >= 0 {
			return nil, fmt.Errorf("%w: entry %q is out of order", ErrForeign, name)
		}
		last = there
		e := there
		var ok bool
		if e.Name, ok = unescape(name); !ok {
			return nil, fmt.Errorf("%w: the name %q is taken", ErrForeign, name)
		}
		var r row
		if mode.IsDir() {
			r, err = w.tree(ctx, at, depth+1)
		} else {
			r, err = w.blob(ctx, at)
		}
		if err != nil {
			return nil, err
		}
		switch r.as {
		case asFile:
			e.Mode = objects.ModeFile
		case asExec:
			e.Mode = objects.ModeExec
		}
		e.ID = r.id
		entries = append(entries, e)
	}
	entries.Sort()
	return entries, nil
}

// A theirCommit waits for its parents.
type theirCommit struct {
	i       int
	tree    oid
	parents []oid
	rest    []byte
	next    int
}

// commit adds a history, which may be long: no recursion here.
func (w *inward) commit(ctx context.Context, tip oid) error {
	var stack []*theirCommit
	open := func(at oid) error {
		if _, ok := w.known(at, commit, cutOff); ok {
			return nil
		}
		i, err := w.entry(at, objects.Commit)
		if err != nil {
			return err
		}
		body, err := w.in.read(i)
		if err != nil {
			return err
		}
		c := &theirCommit{i: i}
		var ok bool
		if c.tree, c.parents, c.rest, ok = takeCommit(body, parseOID); !ok {
			return fmt.Errorf("%w: commit %s is malformed", ErrForeign, at)
		}
		stack = append(stack, c)
		return nil
	}
	if err := open(tip); err != nil {
		return err
	}
	for len(stack) > 0 {
		c := stack[len(stack)-1]
		if c.next < len(c.parents) {
			c.next++
			if err := open(c.parents[c.next-1]); err != nil {
				return err
			}
			continue
		}
		stack = stack[:len(stack)-1]
		if w.done[c.i] {
			continue // as a parent of two
		}
		if err := w.close(ctx, c); err != nil {
			return fmt.Errorf("commit %s: %w", w.in.entries[c.i].id, err)
		}
	}
	return nil
}

// close adds a commit whose parents are there.
func (w *inward) close(ctx context.Context, c *theirCommit) error {
	tree, err := w.tree(ctx, c.tree, 0)
	if err != nil {
		return err
	}
	if tree.as != asTree {
		return fmt.Errorf("%w: a part of a blob stands where a tree should", ErrForeign)
	}
	var parents []objects.ID
	for _, p := range c.parents {
		r, ok := w.known(p, commit, cutOff)
		if !ok {
			return errLacks
		}
		parents = append(parents, r.id)
	}
	rest, cut, err := takeCut(c.rest)
	if err != nil {
		return err
	}
	if len(cut) > 0 && len(parents) > 0 {
		return fmt.Errorf("%w: some of its parents are cut off, and some are not", ErrForeign)
	}
	as := commit
	if len(cut) > 0 {
		as, parents = cutOff, cut
	}
	body := makeCommit(tree.id, parents, rest)
	if _, err := objects.ParseCommit(body); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	id, err := w.b.PutBytes(objects.Commit, body)
	if err != nil {
		return err
	}
	_, err = w.add(ctx, c.i, id, as)
	return err
}

func (w *inward) tag(ctx context.Context, at oid) error {
	i, err := w.entry(at, objects.Tag)
	if err != nil {
		return err
	}
	body, err := w.in.read(i)
	if err != nil {
		return err
	}
	object, k, rest, ok := takeTag(body, parseOID)
	if !ok {
		return fmt.Errorf("%w: tag %s is malformed", ErrForeign, at)
	}
	if err := w.any(ctx, object); err != nil {
		return fmt.Errorf("tag %s: %w", at, err)
	}
	forms := []form{form(k)}
	if k == objects.Commit {
		forms = append(forms, cutOff)
	}
	r, ok := w.known(object, forms...)
	if !ok {
		return fmt.Errorf("%w: tag %s is not of a %s", ErrForeign, at, k)
	}
	ours := makeTag(r.id, rest)
	if _, err := objects.ParseTag(ours); err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	id, err := w.b.PutBytes(objects.Tag, bytes.Clone(ours))
	if err != nil {
		return err
	}
	_, err = w.add(ctx, i, id, form(objects.Tag))
	return err
}
