// Package reach walks all that can be reached from some objects: commits, their
// parents and trees, what is in these.
//
// What it knows that no other package does: how to visit millions of objects
// once each in bounded memory, and to go on where something is missing.
package reach

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/objects"
)

// Options are what Walk wants to know. The zero value works.
type Options struct {
	// Visit is called once for each object, before what it leads to, by one
	// goroutine at a time. An object that is missing is not visited, but a blob
	// is, unless CheckBlobs. An error ends the walk.
	Visit func(id objects.ID, k objects.Kind) error

	// Missing is told of each object that cannot be read, by one goroutine at a
	// time; then the walk goes on without what it leads to. If it is nil, or
	// returns an error, the walk ends with an error.
	Missing func(Missing) error

	// Unplaced leaves out of Missing how one gets there. That costs a tree to be read
	// for each, which is too much where many are missing and nobody will be told.
	Unplaced bool

	// Beside is told by Since of trees that the other side has in the place of those
	// that are new. It may be told twice.
	Beside func(tree objects.ID)

	// Shallow reports whether a commit's parents were cut off.
	Shallow func(commit objects.ID) bool

	// ShallowThere tells Since the same of what the other side has: what that has cut
	// off it lacks, though it leads there here. Nil is Shallow.
	ShallowThere func(commit objects.ID) bool

	// Seen has what need not be visited, nor anything that only it leads to. All
	// that is visited is added. Walks that share it may run at the same time.
	Seen *Set

	// Commits leaves out trees and what is in them.
	Commits bool

	// CheckBlobs looks whether each blob is there, and is a blob.
	CheckBlobs bool

	// Parallel is how many objects are read at once; zero chooses.
	Parallel int
}

// isCut reports whether the parents of a commit count as none.
func (o *Options) isCut(commit objects.ID) bool { return o.Shallow != nil && o.Shallow(commit) }

// Missing says that an object cannot be read.
type Missing struct {
	ID     objects.ID
	Kind   objects.Kind // what it should be; zero for a tip
	Commit objects.ID   // a commit that leads to it, or zero
	Path   string       // in that commit's tree, or in the tip
	Err    error        // objects.ErrNotFound if it is not there or damaged
}

func (m Missing) Error() string {
	kind := "object"
	if m.Kind != 0 {
		kind = m.Kind.String()
	}
	var where strings.Builder
	if !m.Commit.IsZero() {
		fmt.Fprintf(&where, " of commit %s", m.Commit.Short())
	}
	if m.Path != "" {
		fmt.Fprintf(&where, " at %s", m.Path)
	}
	return fmt.Sprintf("%s %s%s: %v", kind, m.ID, where.String(), m.Err)
}

// Unwrap returns m.Err.
func (m Missing) Unwrap() error { return m.Err }

// A kinder knows what is stored without reading it.
type kinder interface {
	KindOf(ctx context.Context, id objects.ID) (objects.Kind, error)
}

const (
	// maxBatch is how many objects are taken on at once. Entries lie in a store as
	// they were made, and in a tree by the hash of their keys: the more are asked
	// for together the fewer blocks are decoded twice.
	maxBatch = 32 << 10

	// minBatch is from how many on it pays to put them in order.
	minBatch = 64
)

// Walk visits tips and all that can be reached from them. In what order is not
// said, but that an object comes before what it leads to.
func Walk(ctx context.Context, r objects.Reader, tips []objects.ID, o Options) error {
	if o.Seen == nil {
		o.Seen = new(Set)
	}
	w := newWalker(r, o)
	for _, id := range tips {
		if err := w.add(ctx, &node{id: id}); err != nil {
			return err
		}
	}
	return w.run(ctx)
}

func newWalker(r objects.Reader, o Options) *walker {
	w := &walker{r: r, o: o}
	w.kinder, _ = r.(kinder)
	w.eacher, _ = r.(objects.EachReader)
	return w
}

// run visits what is on the stack, and all that leads to.
func (w *walker) run(ctx context.Context) error {
	if err := w.runTrees(ctx); err != nil {
		return err
	}
	return w.checkBlobs(ctx)
}

// runTrees is run, but for some blobs that are still to be checked.
func (w *walker) runTrees(ctx context.Context) error {
	for len(w.stack) > 0 {
		// The last ones first: that keeps the stack short.
		cut := max(0, len(w.stack)-maxBatch)
		batch := slices.Clone(w.stack[cut:])
		w.stack = w.stack[:cut]
		if err := w.read(ctx, batch); err != nil {
			return err
		}
		if len(w.blobs) >= maxBatch {
			if err := w.checkBlobs(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// A node is an object on the way down. It knows where it came from, so that one
// can say where something is missing.
type node struct {
	id   objects.ID
	kind objects.Kind // zero for a tip, before it is looked at
	from *node
}

type walker struct {
	r      objects.Reader
	kinder kinder             // nil if r is none
	eacher objects.EachReader // nil if r is none
	o      Options

	calls sync.Mutex // held while a function of o is called

	mu    sync.Mutex
	stack []*node // trees, commits and tags to be read; guarded by mu
	blobs []*node // to be checked; guarded by mu
}

// read visits what is in batch, and puts what that leads to on the stack.
func (w *walker) read(ctx context.Context, batch []*node) error {
	if w.eacher != nil && len(batch) >= minBatch {
		slices.SortFunc(batch, compareNodes)
		ids := make([]objects.ID, len(batch))
		for i, n := range batch {
			ids[i] = n.id
		}
		return w.eacher.Each(ctx, ids, func(i int, k objects.Kind, body []byte, err error) error {
			return w.open(ctx, batch[i], k, body, err)
		})
	}
	// One after the other, as far as one leads to the next.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(batch), cmp.Or(w.o.Parallel, runtime.GOMAXPROCS(0))) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(batch)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				k, body, err := objects.Read(ctx, w.r, batch[i].id)
				if err := w.open(ctx, batch[i], k, body, err); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// open visits a node that was read, or reports why it was not.
func (w *walker) open(ctx context.Context, n *node, k objects.Kind, body []byte, err error) error {
	if err == nil && k != n.kind {
		err = fmt.Errorf("is a %s", k)
	}
	var below func() error
	if err == nil {
		below, err = w.parse(ctx, n, body)
	}
	if err != nil {
		return w.miss(ctx, n, err)
	}
	if err := w.visit(n); err != nil {
		return err
	}
	return below()
}

// parse returns a function that adds what a node leads to.
func (w *walker) parse(ctx context.Context, n *node, body []byte) (below func() error, err error) {
	switch n.kind {
	case objects.Tree:
		tree, err := objects.ParseTree(body)
		return func() error { return w.tree(ctx, n, tree) }, err
	case objects.Commit:
		c, err := objects.ParseCommit(body)
		return func() error { return w.commit(ctx, n, c) }, err
	default:
		t, err := objects.ParseTag(body)
		return func() error { return w.add(ctx, &node{id: t.Object, kind: t.Kind, from: n}) }, err
	}
}

func (w *walker) commit(ctx context.Context, n *node, c objects.CommitBody) error {
	if !w.o.isCut(n.id) {
		// Not n itself: it would keep all its descendants in memory.
		child := &node{id: n.id, kind: objects.Commit}
		for _, p := range c.Parents {
			if err := w.add(ctx, &node{id: p, kind: objects.Commit, from: child}); err != nil {
				return err
			}
		}
	}
	if w.o.Commits {
		return nil
	}
	return w.add(ctx, &node{id: c.Tree, kind: objects.Tree, from: n})
}

func (w *walker) tree(ctx context.Context, n *node, tree objects.Entries) error {
	for i := len(tree) - 1; i >= 0; i-- { // so that the first is the next
		e := tree[i]
		if !w.o.Seen.Add(e.ID) {
			continue
		}
		if err := w.take(ctx, &node{id: e.ID, kind: e.Mode.Kind(), from: n}); err != nil {
			return err
		}
	}
	return nil
}

// add takes a node that was not seen before.
func (w *walker) add(ctx context.Context, n *node) error {
	if !w.o.Seen.Add(n.id) {
		return nil
	}
	return w.take(ctx, n)
}

// take puts a node where it is dealt with later, or visits it if there is nothing
// more to do.
func (w *walker) take(ctx context.Context, n *node) error {
	if n.kind == 0 {
		k, err := w.kindOf(ctx, n.id)
		if err != nil {
			return w.miss(ctx, n, err)
		}
		n.kind = k
	}
	switch {
	case n.id == objects.EmptyTree && n.kind == objects.Tree: // need not be stored
		return w.visit(n)
	case n.kind == objects.Blob && !w.o.CheckBlobs:
		return w.visit(n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n.kind == objects.Blob {
		w.blobs = append(w.blobs, n)
	} else {
		w.stack = append(w.stack, n)
	}
	return nil
}

// checkBlobs visits those of w.blobs that are there.
func (w *walker) checkBlobs(ctx context.Context) error {
	slices.SortFunc(w.blobs, compareNodes)
	for _, n := range w.blobs {
		k, err := w.kindOf(ctx, n.id)
		if err == nil && k != objects.Blob {
			err = fmt.Errorf("is a %s", k)
		}
		if err != nil {
			err = w.miss(ctx, n, err)
		} else {
			err = w.visit(n)
		}
		if err != nil {
			return err
		}
	}
	w.blobs = w.blobs[:0]
	return nil
}

// compareNodes orders by id: who looks up neighbours in an index one after the
// other finds them in the processor's cache.
func compareNodes(a, b *node) int { return a.id.Compare(b.id) }

func (w *walker) kindOf(ctx context.Context, id objects.ID) (objects.Kind, error) {
	if id == objects.EmptyTree {
		return objects.Tree, nil
	}
	if w.kinder != nil {
		return w.kinder.KindOf(ctx, id)
	}
	o, err := w.r.Open(ctx, id)
	if err != nil {
		return 0, err
	}
	return o.Kind, o.Body.Close()
}

func (w *walker) visit(n *node) error {
	if w.o.Visit == nil {
		return nil
	}
	w.calls.Lock()
	defer w.calls.Unlock()
	return w.o.Visit(n.id, n.kind)
}

// miss reports that a node cannot be read.
func (w *walker) miss(ctx context.Context, n *node, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m := Missing{ID: n.id, Kind: n.kind}
	if !w.o.Unplaced {
		m = w.where(ctx, n)
	}
	m.Err = err
	if w.o.Missing == nil {
		return m
	}
	w.calls.Lock()
	defer w.calls.Unlock()
	return w.o.Missing(m)
}

// where says how one gets to a node. The names are not kept in memory: the trees
// above it, which were read before, have them.
func (w *walker) where(ctx context.Context, n *node) Missing {
	m := Missing{ID: n.id, Kind: n.kind}
	for at := n; at.from != nil; at = at.from {
		if at.from.kind == objects.Commit {
			m.Commit = at.from.id
			break
		}
		tree, err := objects.ReadTree(ctx, w.r, at.from.id)
		if err != nil {
			break // a tag, or gone meanwhile
		}
		i := slices.IndexFunc(tree, func(e objects.Entry) bool { return e.ID == at.id })
		if i < 0 {
			break
		}
		m.Path = strings.TrimSuffix(tree[i].Name+"/"+m.Path, "/")
	}
	return m
}
