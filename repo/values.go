package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/known"
)

// Values is the repository as build tools see it: values by key, one branch to write
// to, a scope of branches to read.
//
// A value that was put is there at once for who gets it here. It is staged a moment
// later together with others, in the background: a build does not wait for that, and
// a thousand compiles do not make a thousand packs. What cannot be stored is dropped,
// with a warning, and what cannot be read is a miss.
//
// What other processes stage or commit shows within a moment, too: see hot.
type Values struct {
	repo   *Repo
	branch refs.Name
	scope  []refs.Name
	o      ValuesOptions
	source func() Source

	memory *semaphore.Weighted // bytes of values that wait in memory
	places chan struct{}       // one for each value that waits
	writer sync.WaitGroup

	mu      sync.Mutex
	closed  bool                // guarded by mu, as is all below
	queue   []*waiting          // to be staged
	newest  map[string]*waiting // by path, until it is staged
	writing bool                // somebody will stage the queue
	hurry   chan struct{}       // closed: without waiting for more
	dropped int
	silent  bool                // the remote of a lazy repository did not answer
	used    map[string]struct{} // paths of what was used
	fresh   []string            // of these what is not noted yet

	hot   hot
	known *known.Table
}

// ValuesOptions say how values are kept. The zero value works.
type ValuesOptions struct {
	// Gather is how long a value waits for others to be staged with. Zero is 100 ms.
	Gather time.Duration

	// Patience is how long a lookup may wait for the remote of a lazy repository.
	// After that the remote is not asked any more. Zero is 20 s.
	Patience time.Duration

	// Known is the name of a file that remembers from one process to the next what was
	// found: see package known. Empty is none.
	Known string
}

const (
	// maxWaiting is how many values wait to be staged. Who puts one more waits.
	maxWaiting = 1024

	// waitingMemory is how many bytes of them may be in memory, and inMemory how many
	// of one. The others are in files without a name.
	waitingMemory = 32 << 20
	inMemory      = 256 << 10

	// enoughToStage is how many values are staged without waiting for more.
	enoughToStage = 256
)

// Values returns the values that branch has and is read through.
func (r *Repo) Values(ctx context.Context, branch refs.Name, o ValuesOptions) (*Values, error) {
	scope, err := r.Scope(ctx, branch)
	if err != nil {
		return nil, err
	}
	if o.Gather == 0 {
		o.Gather = 100 * time.Millisecond
	}
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	v := &Values{
		repo: r, branch: branch, scope: scope, o: o,
		source: sync.OnceValue(func() Source { return ReadSource(".") }),
		memory: semaphore.NewWeighted(waitingMemory),
		places: make(chan struct{}, maxWaiting),
		newest: map[string]*waiting{},
		used:   map[string]struct{}{},
	}
	if o.Known != "" {
		v.known = known.Open(o.Known)
	}
	return v, nil
}

// Get returns the value of key in the first branch of the scope that has it. A miss,
// for whatever reason, is objects.ErrNotFound.
func (v *Values) Get(ctx context.Context, kind entry.Kind, key string) (entry.Stored, error) {
	path := entry.Path(kind, key)
	if s, deleted := v.unstaged(path); s.Open != nil {
		return s, nil
	} else if deleted {
		return v.find(ctx, 1, kind, key, path)
	}
	s, seq, ok := v.hot.get(ctx, v, path)
	if !ok {
		var err error
		if s, err = v.find(ctx, 0, kind, key, path); err != nil {
			return s, err
		}
		if s.Size <= inMemory {
			v.hot.add(path, s, seq)
		}
	}
	v.use(path)
	return s, nil
}

// find looks a value up in the branches of the scope, without the first skip of them.
// Small ones it reads.
func (v *Values) find(ctx context.Context, skip int, kind entry.Kind, key, path string) (entry.Stored, error) {
	asking, done := v.patient(ctx)
	defer done()
	found, err := v.lookup(asking, skip, kind, key, path)
	if err != nil {
		return entry.Stored{}, v.miss(ctx, kind, key, err)
	}
	s, err := v.read(asking, found)
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*odb.PromisedError)) {
		v.repo.noteLoss(err)
	}
	if err != nil {
		err = v.miss(ctx, kind, key, err)
	}
	return s, err
}

func (v *Values) read(ctx context.Context, found Found) (entry.Stored, error) {
	meta, body, size, err := v.holds(ctx, found.ID)
	if err != nil {
		return entry.Stored{}, err
	}
	if body.IsZero() || meta.Kind != found.Kind || entry.Abbreviated(found.Path) && meta.Key != found.Key {
		return entry.Stored{}, fmt.Errorf("malformed entry %s: it is no value of %s", found.ID.Short(), found.Kind)
	}
	s := entry.Stored{Meta: meta, Size: size}
	if size <= inMemory {
		s.Open = v.openSmall(found, body)
	} else {
		s.Open = v.openBig(found, body)
	}
	return s, nil
}

// openSmall returns how to open a value that is kept in memory once it was read.
func (v *Values) openSmall(found Found, id objects.ID) func(context.Context) (io.ReadCloser, error) {
	read := sync.OnceValues(func() ([]byte, error) {
		_, content, err := v.repo.DB.ReadBytes(odb.Local(context.Background()), id)
		return content, err
	})
	return func(ctx context.Context) (io.ReadCloser, error) {
		content, err := read()
		if err != nil {
			return nil, v.lost(ctx, found, err)
		}
		return &heldBody{bytes.NewReader(content)}, nil
	}
}

func (v *Values) openBig(found Found, id objects.ID) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		o, err := v.repo.DB.Open(odb.Local(ctx), id)
		if err != nil {
			return nil, v.lost(ctx, found, err)
		}
		return o.Body, nil
	}
}

// lost takes note of a value whose bytes cannot be read.
func (v *Values) lost(ctx context.Context, found Found, err error) error {
	v.hot.drop([]string{found.Path})
	if ctx.Err() == nil {
		v.repo.noteLoss(err)
	}
	return v.miss(ctx, found.Kind, found.Key, err)
}

// heldBody is a value that is in memory.
type heldBody struct{ *bytes.Reader }

func (*heldBody) Close() error { return nil }

// patient bounds how long a lookup waits for a remote. One that was too slow once is
// not asked again.
func (v *Values) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if !v.repo.IsLazy() {
		return ctx, func() {}
	}
	v.mu.Lock()
	silent := v.silent
	v.mu.Unlock()
	if silent {
		return odb.Local(ctx), func() {}
	}
	asking, cancel := context.WithTimeoutCause(ctx, v.o.Patience, errSilent)
	return asking, func() {
		if context.Cause(asking) == errSilent {
			v.giveUp()
		}
		cancel()
	}
}

// giveUp asks the remote no more.
func (v *Values) giveUp() {
	v.mu.Lock()
	again := v.silent
	v.silent = true
	v.mu.Unlock()
	if !again {
		v.repo.warn(errSilent)
	}
}

var errSilent = errors.New("the remote takes too long; what is not here is a miss")

// miss makes a miss of what went wrong with a value.
func (v *Values) miss(ctx context.Context, kind entry.Kind, key string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, objects.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
		v.repo.warn(fmt.Errorf("%s %s: %w", kind, key, err))
	}
	return fmt.Errorf("%s %q: %w", kind, key, objects.ErrNotFound)
}

// use remembers that a value was used, to be noted with others.
func (v *Values) use(path string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.used[path]; known {
		return
	}
	const many = 4096
	if len(v.used) == 16*many { // some will be noted twice: that does no harm
		clear(v.used)
	}
	v.used[path] = struct{}{}
	v.fresh = append(v.fresh, path)
	if len(v.fresh) >= many && !v.closed {
		paths := v.fresh
		v.fresh = nil
		v.writer.Go(func() { v.repo.NoteUse(paths...) })
	}
}

// Close stages what waits, notes what was used, and waits for both.
func (v *Values) Close(ctx context.Context) error {
	v.mu.Lock()
	v.closed = true
	paths := v.fresh
	v.fresh = nil
	v.flush()
	v.mu.Unlock()
	done := make(chan struct{})
	go func() {
		v.writer.Wait()
		close(done)
	}()
	if len(paths) > 0 {
		v.repo.NoteUse(paths...)
	}
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_ = v.known.Save() // without it the next process reads it all again
	if v.dropped > 1 {
		v.repo.warn(fmt.Errorf("%d values could not be stored", v.dropped))
	}
	return nil
}
