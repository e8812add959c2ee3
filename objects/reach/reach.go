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
	"strings"
	"sync"

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

	// Shallow reports whether a commit's parents were cut off.
	Shallow func(commit objects.ID) bool

	// Seen has what need not be visited, nor anything that only it leads to. All
	// that is visited is added. Walks that share it may run at the same time.
	Seen *Set

	// CheckBlobs looks whether each blob is there, and is a blob.
	CheckBlobs bool

	// Parallel is how many objects are read at once; zero chooses.
	Parallel int
}

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

// A stater knows what is stored without reading it.
type stater interface {
	Stat(ctx context.Context, id objects.ID) (objects.Kind, int64, error)
}

// Walk visits tips and all that can be reached from them. In what order is not
// said, but that an object comes before what it leads to.
func Walk(ctx context.Context, r objects.Reader, tips []objects.ID, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.Seen == nil {
		o.Seen = new(Set)
	}
	w := &walker{r: r, o: o, cancel: cancel}
	w.stater, _ = r.(stater)
	w.wake.L = &w.mu
	for _, id := range tips {
		if o.Seen.Add(id) {
			w.stack = append(w.stack, &node{id: id})
		}
	}
	var workers sync.WaitGroup
	for range cmp.Or(o.Parallel, min(runtime.GOMAXPROCS(0), 8)) {
		workers.Go(func() { w.work(ctx) })
	}
	workers.Wait()
	return w.err
}

// A node is an object on the way down. It knows where it came from, so that one
// can say where something is missing.
type node struct {
	id   objects.ID
	kind objects.Kind // zero for a tip: not known before it is read
	name string       // in the tree above
	from *node
}

func (n *node) missing(err error) Missing {
	m := Missing{ID: n.id, Kind: n.kind, Err: err}
	for at := n; at != nil; at = at.from {
		if at != n && at.kind == objects.Commit {
			m.Commit = at.id
			break
		}
		switch {
		case m.Path == "":
			m.Path = at.name
		case at.name != "":
			m.Path = at.name + "/" + m.Path
		}
	}
	return m
}

type walker struct {
	r      objects.Reader
	stater stater // nil if r is none
	o      Options
	cancel context.CancelFunc

	calls sync.Mutex // held while a function of o is called

	mu      sync.Mutex
	wake    sync.Cond // that there is work, or no more
	stack   []*node   // guarded by mu; the last is next, which keeps it short
	reading int       // nodes that were taken off the stack and may add to it; guarded by mu
	err     error     // the first; guarded by mu
}

func (w *walker) work(ctx context.Context) {
	for {
		n := w.next()
		if n == nil {
			return
		}
		below, err := w.read(ctx, n)
		w.done(below, err)
	}
}

// next returns a node to read, nil if there are no more.
func (w *walker) next() *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.stack) == 0 && w.reading > 0 && w.err == nil {
		w.wake.Wait()
	}
	if len(w.stack) == 0 || w.err != nil {
		return nil
	}
	n := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	w.reading++
	return n
}

func (w *walker) done(below []*node, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading--
	w.stack = append(w.stack, below...)
	if err != nil && w.err == nil {
		w.err = err
		w.cancel()
	}
	w.wake.Broadcast()
}

// read visits a node and returns what it leads to and was not seen before, what
// is to be read first at the end. Blobs in a tree are visited at once.
func (w *walker) read(ctx context.Context, n *node) ([]*node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body, err := w.body(ctx, n)
	if err != nil {
		return nil, w.miss(ctx, n, err)
	}
	switch n.kind {
	case objects.Tree:
		tree, err := objects.ParseTree(body)
		if err != nil {
			return nil, w.miss(ctx, n, err)
		}
		if err := w.visit(n); err != nil {
			return nil, err
		}
		return w.tree(ctx, n, tree)
	case objects.Commit:
		c, err := objects.ParseCommit(body)
		if err != nil {
			return nil, w.miss(ctx, n, err)
		}
		if err := w.visit(n); err != nil {
			return nil, err
		}
		return w.commit(n, c), nil
	case objects.Tag:
		t, err := objects.ParseTag(body)
		if err != nil {
			return nil, w.miss(ctx, n, err)
		}
		if err := w.visit(n); err != nil {
			return nil, err
		}
		return w.add(nil, &node{id: t.Object, kind: t.Kind, from: n}), nil
	}
	return nil, w.visit(n)
}

// body returns the bytes of a node and sets its kind. Those of a blob are not
// wanted and can be many.
func (w *walker) body(ctx context.Context, n *node) ([]byte, error) {
	if n.id == objects.EmptyTree && (n.kind == 0 || n.kind == objects.Tree) {
		n.kind = objects.Tree
		return nil, nil
	}
	if n.kind == 0 || n.kind == objects.Blob {
		kind, err := w.stat(ctx, n.id)
		switch {
		case err != nil:
			return nil, err
		case n.kind == objects.Blob && kind != objects.Blob:
			return nil, fmt.Errorf("is a %s", kind)
		}
		if n.kind = kind; kind == objects.Blob {
			return nil, nil
		}
	}
	return objects.ReadKind(ctx, w.r, n.id, n.kind)
}

func (w *walker) stat(ctx context.Context, id objects.ID) (objects.Kind, error) {
	if w.stater != nil {
		k, _, err := w.stater.Stat(ctx, id)
		return k, err
	}
	o, err := w.r.Open(ctx, id)
	if err != nil {
		return 0, err
	}
	return o.Kind, o.Body.Close()
}

func (w *walker) commit(n *node, c objects.CommitBody) []*node {
	var below []*node
	if w.o.Shallow == nil || !w.o.Shallow(n.id) {
		// Not n itself: it would keep all its descendants in memory.
		child := &node{id: n.id, kind: objects.Commit}
		for _, p := range c.Parents {
			below = w.add(below, &node{id: p, kind: objects.Commit, from: child})
		}
	}
	return w.add(below, &node{id: c.Tree, kind: objects.Tree, from: n})
}

func (w *walker) tree(ctx context.Context, n *node, tree objects.Entries) ([]*node, error) {
	var below []*node
	for i := len(tree) - 1; i >= 0; i-- {
		if e := tree[i]; e.Mode.IsDir() {
			below = w.add(below, &node{id: e.ID, kind: objects.Tree, name: e.Name, from: n})
		}
	}
	for _, e := range tree {
		if e.Mode.IsDir() || !w.o.Seen.Add(e.ID) {
			continue
		}
		blob := node{id: e.ID, kind: objects.Blob, name: e.Name, from: n}
		if err := w.blob(ctx, &blob); err != nil {
			return nil, err
		}
	}
	return below, nil
}

func (w *walker) blob(ctx context.Context, n *node) error {
	if w.o.CheckBlobs {
		if _, err := w.body(ctx, n); err != nil {
			return w.miss(ctx, n, err)
		}
	}
	return w.visit(n)
}

// add appends a node that was not seen before.
func (w *walker) add(below []*node, n *node) []*node {
	if !w.o.Seen.Add(n.id) {
		return below
	}
	return append(below, n)
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
	m := n.missing(err)
	if w.o.Missing == nil {
		return m
	}
	w.calls.Lock()
	defer w.calls.Unlock()
	return w.o.Missing(m)
}
