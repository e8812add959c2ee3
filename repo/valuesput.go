package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A waiting value was put, and is not staged yet.
type waiting struct {
	kind    entry.Kind
	key     string
	path    string
	deletes bool // it is none, and takes out the one that is there

	body io.ReaderAt
	size int64
	file *os.File // that body is, if it is one
	held int64    // bytes of memory that it takes
	meta entry.Meta

	blob   objects.ID // once it is in a batch
	failed error

	readers int  // guarded by Values.mu
	done    bool // guarded by Values.mu; it waits no more
}

// ErrValuesClosed says that a value came after the end.
var ErrValuesClosed = errors.New("nothing is taken any more")

// Put keeps a value. On return it was read to its end, which may be an error, and can
// be got here; that it is stored is not said.
func (v *Values) Put(ctx context.Context, kind entry.Kind, key string, value entry.Value) error {
	w := &waiting{kind: kind, key: key, path: entry.Path(kind, key)}
	w.meta = entry.Meta{Kind: kind, Key: key, Created: time.Now(), Latest: value.Latest, Extra: value.Extra}
	return v.take(ctx, w, value)
}

// Delete takes the value of key out of the branch. Those that the branch is read
// through keep theirs.
func (v *Values) Delete(ctx context.Context, kind entry.Kind, key string) error {
	w := &waiting{kind: kind, key: key, path: entry.Path(kind, key), deletes: true}
	return v.take(ctx, w, entry.Value{Body: bytes.NewReader(nil)})
}

// take puts w into the queue, with its value.
func (v *Values) take(ctx context.Context, w *waiting, value entry.Value) error {
	select {
	case v.places <- struct{}{}:
	case <-ctx.Done():
		closeFile(value.File)
		return context.Cause(ctx)
	}
	err := v.spool(w, value)
	if err == nil {
		err = v.enqueue(w)
	}
	if err != nil {
		v.release(w)
		return fmt.Errorf("keep %s: %w", w.kind, err)
	}
	return nil
}

func (v *Values) enqueue(w *waiting) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return ErrValuesClosed
	}
	v.queue = append(v.queue, w)
	v.newest[w.path] = w
	v.schedule()
	return nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// spool reads a value: to memory if it is small, and there is room.
func (v *Values) spool(w *waiting, value entry.Value) error {
	if w.file = value.File; w.file != nil {
		fi, err := w.file.Stat()
		if err != nil {
			return err
		}
		w.body, w.size = w.file, fi.Size()
		return nil
	}
	room := value.Size
	if room < 0 {
		room = inMemory
	}
	var head []byte
	if room <= inMemory && v.memory.TryAcquire(room) {
		w.held = room
		head = make([]byte, room)
		n, err := io.ReadFull(value.Body, head)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if value.Size >= 0 {
				return fmt.Errorf("it ends after %d bytes, announced were %d", n, value.Size)
			}
			w.body, w.size = bytes.NewReader(head[:n]), int64(n)
			return nil
		case err != nil:
			return err
		case value.Size >= 0:
			w.body, w.size = bytes.NewReader(head), value.Size
			return atEnd(value.Body, value.Size)
		}
	}
	return v.spoolFile(w, io.MultiReader(bytes.NewReader(head), value.Body), value.Size)
}

// spoolFile reads a value to a file that is gone when it is closed.
func (v *Values) spoolFile(w *waiting, body io.Reader, size int64) error {
	f, err := os.CreateTemp("", "cache-tool")
	if err != nil {
		return err
	}
	w.file, w.body = f, f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if w.size, err = io.Copy(f, body); err == nil && size >= 0 && w.size != size {
		err = fmt.Errorf("it has %d bytes, announced were %d", w.size, size)
	}
	v.memory.Release(w.held)
	w.held = 0
	return err
}

// atEnd fails if body goes on.
func atEnd(body io.Reader, size int64) error {
	var more [1]byte
	n, err := io.ReadFull(body, more[:])
	switch {
	case n > 0:
		return fmt.Errorf("it has more than the %d bytes that were announced", size)
	case err != io.EOF:
		return err
	}
	return nil
}

// release gives back what a value took.
func (v *Values) release(w *waiting) {
	v.mu.Lock()
	w.done = true
	unread := w.readers == 0
	v.mu.Unlock()
	if unread {
		closeFile(w.file)
	}
	v.memory.Release(w.held)
	<-v.places
}

// unstaged returns the value at path that waits to be staged, if there is one, or
// that it is to be deleted.
func (v *Values) unstaged(path string) (s entry.Stored, deleted bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.newest[path]
	if w == nil || w.deletes {
		return s, w != nil
	}
	return entry.Stored{Meta: w.meta, Size: w.size, Open: func(ctx context.Context) (io.ReadCloser, error) {
		return v.openWaiting(ctx, w)
	}}, false
}

func (v *Values) openWaiting(ctx context.Context, w *waiting) (io.ReadCloser, error) {
	v.mu.Lock()
	if w.file != nil && w.done {
		v.mu.Unlock()
		s, err := v.find(ctx, 0, w.kind, w.key, w.path)
		if err != nil {
			return nil, err
		}
		return s.Open(ctx)
	}
	w.readers++
	v.mu.Unlock()
	return &waitingBody{io.NewSectionReader(w.body, 0, w.size), v, w}, nil
}

// A waitingBody is a value that is read while it waits.
type waitingBody struct {
	*io.SectionReader
	v *Values
	w *waiting
}

func (b *waitingBody) Close() error {
	b.v.mu.Lock()
	b.w.readers--
	last := b.w.done && b.w.readers == 0
	b.v.mu.Unlock()
	if last {
		closeFile(b.w.file)
	}
	return nil
}

// schedule makes sure that somebody stages the queue. The caller holds mu.
func (v *Values) schedule() {
	if !v.writing {
		v.writing = true
		v.hurry = make(chan struct{})
		v.writer.Go(v.write)
	}
	if len(v.queue) == enoughToStage || len(v.places) == cap(v.places) {
		v.flush()
	}
}

// flush has the queue staged without waiting for more. The caller holds mu.
func (v *Values) flush() {
	if v.hurry != nil {
		close(v.hurry)
		v.hurry = nil
	}
}

// write stages what is in the queue, until nothing is.
func (v *Values) write() {
	for {
		v.mu.Lock()
		hurry := v.hurry
		if len(v.queue) == 0 {
			v.writing, v.hurry = false, nil
			v.mu.Unlock()
			return
		}
		v.mu.Unlock()
		if hurry != nil {
			timer := time.NewTimer(v.o.Gather)
			select {
			case <-timer.C:
			case <-hurry:
			}
			timer.Stop()
		}
		v.mu.Lock()
		group := v.queue
		v.queue = nil
		v.hurry = nil
		if !v.closed {
			v.hurry = make(chan struct{})
		}
		v.mu.Unlock()
		v.settle(group, v.stage(group))
	}
}

// settle forgets a group that was staged, or could not be.
func (v *Values) settle(group []*waiting, err error) {
	paths := make([]string, len(group))
	for i, w := range group {
		paths[i] = w.path
	}
	v.hot.drop(paths)
	v.mu.Lock()
	first := v.dropped == 0
	for _, w := range group {
		if v.newest[w.path] == w {
			delete(v.newest, w.path)
		}
		if err != nil || w.failed != nil {
			v.dropped++
		}
		if err == nil {
			err = w.failed
		}
	}
	v.mu.Unlock()
	for _, w := range group {
		v.release(w)
	}
	if err != nil && first {
		v.repo.warn(fmt.Errorf("not stored: %w", err))
	}
}

// stage adds a group of values to the stage, in one step. What is there already is
// left as it is, and of two with one key the later one counts.
func (v *Values) stage(group []*waiting) error {
	ctx := odb.Local(context.Background()) // to ask a remote here would take time for nothing
	c, err := v.repo.Change(ctx, v.branch, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	last := make(map[string]*waiting, len(group))
	for _, w := range group {
		last[w.path] = w
	}
	var putting errgroup.Group
	putting.SetLimit(runtime.GOMAXPROCS(0))
	for _, w := range group {
		if !w.deletes && last[w.path] == w {
			putting.Go(func() error {
				w.blob, w.failed = c.Batch.Put(ctx, objects.Blob, w.size, io.NewSectionReader(w.body, 0, w.size))
				return nil
			})
		}
	}
	_ = putting.Wait() // each has an error of its own
	changes := false
	for _, w := range group {
		if w.failed == nil && last[w.path] == w {
			var changed bool
			changed, w.failed = v.name(ctx, c, w)
			changes = changes || changed
		}
	}
	if !changes {
		return nil
	}
	return c.Stage(ctx)
}

// name makes the entry of a value, unless there is one already.
func (v *Values) name(ctx context.Context, c *Change, w *waiting) (changed bool, err error) {
	if w.deletes {
		c.Delete(w.kind, w.key)
		return true, nil
	}
	old, err := v.repo.Lookup(ctx, v.scope, w.kind, w.key)
	if err == nil && v.isSame(ctx, w, old.ID) {
		return false, nil
	}
	source, meta := v.source(), w.meta // which others may be reading
	meta.Commit, meta.Branch = source.Commit, source.Branch
	id, err := entry.Write(c.Batch, meta, objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: w.blob}}, objects.ID{})
	if err == nil {
		c.Set(w.kind, w.key, id)
		v.noteEntry(id, meta, w.blob, w.size)
	}
	return err == nil, err
}

// isSame reports whether an entry that is there holds a value, and is whole.
func (v *Values) isSame(ctx context.Context, w *waiting, id objects.ID) bool {
	payload, meta, err := entry.Read(ctx, v.repo.DB, id)
	if err != nil || len(payload) != 1 || v.repo.MayLack(meta.Created) {
		return false
	}
	return payload[0].Name == entry.BodyName && payload[0].ID == w.blob && meta.Latest == w.meta.Latest && maps.Equal(meta.Extra, w.meta.Extra)
}
