package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/gitpack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/gitwire"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A gitFetch is one fetch of a Git client, which has no more memory than its request:
// each says everything anew.
type gitFetch struct {
	x       *exchange
	store   Store
	objects GitObjects
	q       *gitwire.Fetch

	common []objects.ID // what the client has, and the server
	cut    map[objects.ID]bool
	theirs map[objects.ID]bool // where the client has cut history off
	ends   map[objects.ID]bool // where it wants it cut off
	tips   []objects.ID        // what the pack leads to
}

// gitFetch answers with what the client and the server have in common, or with a
// pack, or both.
func (x *exchange) gitFetch(store Store, q *gitwire.Fetch) error {
	return x.work(func(ctx context.Context) error {
		f := &gitFetch{x: x, store: store, objects: x.objects, q: q}
		head, pack, err := f.begin(ctx)
		switch {
		case err != nil:
			return err
		case !pack:
			x.answer(http.StatusOK, gitwire.ResultType, head)
			return nil
		}
		if _, err := x.Write(head); err != nil {
			return err
		}
		return x.finishGit(f.send(ctx))
	})
}

// finishGit ends a pack, which has begun, with the error if there is one.
func (x *exchange) finishGit(cause error) error {
	if cause == nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.whole = true
		return nil
	}
	e := wire.AsError(cause)
	if e.Code == wire.Internal {
		e = wire.Errorf(wire.Internal, "internal error; the server's log has it under %s", x.id)
	}
	// Git takes that for the end, and says so.
	_, err := x.Write(append(gitwire.Failure(e.Message), gitwire.Flush...))
	x.mu.Lock()
	defer x.mu.Unlock()
	x.whole = err == nil
	return errors.Join(cause, err)
}

// begin returns what comes before the pack, and whether one comes.
func (f *gitFetch) begin(ctx context.Context) (head []byte, pack bool, err error) {
	if len(f.q.Want) == 0 {
		return []byte(gitwire.Flush), false, nil
	}
	isShallow := f.q.Deepens() || len(f.q.Shallow) > 0
	if err := f.restrict(ctx); err != nil {
		return nil, false, err
	}
	shallow, err := f.store.Shallow(ctx)
	if err != nil {
		return nil, false, err
	}
	f.cut, f.theirs = setOf(shallow), setOf(f.q.Shallow)
	if err := f.objects.Prefetch(ctx, f.q.Want); err != nil {
		return nil, false, err
	}
	if !f.q.Done && len(f.q.Have) > 0 {
		ready, err := f.ready(ctx)
		head = gitwire.AppendAcknowledgments(head, f.common, ready)
		if err != nil || !ready {
			return head, false, err
		}
	}
	ends, unshallow, err := f.deepen(ctx)
	if err != nil {
		return nil, false, err
	}
	if len(ends) > 0 && !isShallow && f.q.Filter != (gitwire.Filter{}) {
		// A Git that has filtered fetches each commit of which it is told that it is an end,
		// is told of that one again, and so on without end.
		return nil, false, wire.Errorf(wire.BadRequest, "history ends here at commits that were cut off, with which Git can't filter unless it knows: say --depth, too, such as --depth=1000000")
	}
	if len(ends)+len(unshallow) > 0 || f.q.Deepens() {
		head = gitwire.AppendShallow(head, ends, unshallow)
	}
	return gitwire.AppendPackHead(head), true, nil
}

func setOf(ids []objects.ID) map[objects.ID]bool {
	set := make(map[objects.ID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// restrict holds the request to what the client may know of, and to what is there.
//
// Git asks by id for what a filter has left out before. Who may read everything gets
// whatever is there, which costs a look-up; for all others it is what their refs lead
// to, as in every other request of theirs: that walk is remembered. So nobody gets
// here what he would not get as a client of the native protocol.
func (f *gitFetch) restrict(ctx context.Context) error {
	all := remote.Request{Want: f.q.Want, Have: slices.Concat(f.q.Have, f.q.Shallow), Extent: remote.Closure}
	if err := f.x.restrict(ctx, f.store, &all); err != nil {
		return err
	}
	lacking, err := f.store.Missing(ctx, all.Want)
	if err != nil {
		return err
	}
	lacking = slices.DeleteFunc(lacking, func(id objects.ID) bool { return id == objects.EmptyTree })
	if len(lacking) > 0 {
		return fmt.Errorf("%s: %w", lacking[0].Short(), objects.ErrNotFound)
	}
	lacking, err = f.store.Missing(ctx, all.Have)
	if err != nil {
		return err
	}
	known, lacks := setOf(all.Have), setOf(lacking)
	unknown := func(id objects.ID) bool { return !known[id] || lacks[id] }
	f.common = slices.DeleteFunc(slices.Clone(f.q.Have), unknown)
	// Of what the client has cut off elsewhere nothing can be said.
	f.q.Shallow = slices.DeleteFunc(f.q.Shallow, unknown)
	return nil
}

// since walks what the client lacks. The options say what it is told of that.
func (f *gitFetch) since(ctx context.Context, o reach.Options) error {
	o.Shallow = func(id objects.ID) bool { return f.cut[id] || f.ends[id] }
	o.ShallowThere = func(id objects.ID) bool { return f.theirs[id] }
	return reach.Since(ctx, f.objects, f.tips, f.common, o)
}

// send sends the pack.
func (f *gitFetch) send(ctx context.Context) error {
	ids, err := f.lacking(ctx)
	if err != nil {
		return err
	}
	out := gitwire.NewPackWriter(atLeisure{f.x})
	if err := gitpack.Write(ctx, f.objects, out, ids, gitpack.Options{}); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	return out.Close()
}

// atLeisure is an exchange whose client may take its time.
type atLeisure struct{ x *exchange }

func (a atLeisure) Write(p []byte) (int, error) {
	a.x.clock.stop()
	defer a.x.clock.start()
	return a.x.Write(p)
}

// lacking returns what goes into the pack.
func (f *gitFetch) lacking(ctx context.Context) (ids []objects.ID, err error) {
	var found atomic.Int64
	if !f.q.NoProgress {
		defer f.tell(&found)()
	}
	if w, ok := f.objects.(Warmer); ok && !f.q.Filter.Trees {
		cut := maps.Clone(f.cut)
		maps.Copy(cut, f.ends)
		if err := w.Warm(ctx, f.tips, f.common, cut); err != nil {
			return nil, err
		}
	}
	asked := new(reach.Set) // what is named goes along, whatever the filter says
	for _, id := range f.tips {
		asked.Add(id)
	}
	seen := new(reach.Set)
	var doubtful []objects.ID
	err = f.since(ctx, reach.Options{
		Commits: f.q.Filter.Trees,
		Seen:    seen,
		Visit: func(id objects.ID, k objects.Kind) error {
			switch {
			case asked.Has(id):
			case f.isOut(k):
				return nil
			case k == objects.Blob && f.q.Filter.HasLimit:
				doubtful = append(doubtful, id)
				return nil
			}
			ids = append(ids, id)
			found.Add(1)
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	for some := range slices.Chunk(doubtful, someBlobs) {
		small, err := f.small(ctx, some)
		if err != nil {
			return nil, err
		}
		ids = append(ids, small...)
		found.Add(int64(len(small)))
	}
	if !f.q.IncludeTag {
		return ids, nil
	}
	tags, err := f.tagsOf(ctx, seen)
	return append(ids, tags...), err
}

// isOut reports whether the client does not want objects of a kind now, of whatever size.
func (f *gitFetch) isOut(k objects.Kind) bool {
	o := f.q.Filter
	return k == objects.Blob && o.Blobs && !o.HasLimit || k == objects.Tree && o.Trees
}

// someBlobs is of how many blobs the sizes are asked for at once.
const someBlobs = 8 << 10

// small returns those of some blobs that are smaller than the client's limit.
func (f *gitFetch) small(ctx context.Context, blobs []objects.ID) (small []objects.ID, err error) {
	if err := f.objects.Prefetch(ctx, blobs); err != nil {
		return nil, err
	}
	for _, id := range blobs {
		_, size, err := f.objects.Stat(ctx, id)
		if err != nil {
			return nil, err
		}
		if size < f.q.Filter.Limit {
			small = append(small, id)
		}
	}
	return small, nil
}

// tagsOf returns the annotated tags of what was seen that were not.
func (f *gitFetch) tagsOf(ctx context.Context, seen *reach.Set) (tags []objects.ID, err error) {
	all, err := f.x.gitReadable(ctx, f.store)
	for _, ref := range all {
		if !ref.Name.IsTag() || seen.Has(ref.ID) {
			continue
		}
		// Tags of tags are rare: those are fetched by name.
		kind, _, err := f.objects.Stat(ctx, ref.ID)
		if err != nil || kind != objects.Tag {
			continue
		}
		t, err := objects.ReadTag(ctx, f.objects, ref.ID)
		if err == nil && seen.Has(t.Object) && seen.Add(ref.ID) {
			tags = append(tags, ref.ID)
		}
	}
	return tags, err
}

// tell shows the client how many objects were found, until stop is called.
func (f *gitFetch) tell(found *atomic.Int64) (stop func()) {
	show := func(end string) {
		_, _ = f.x.Write(gitwire.Progress(fmt.Sprintf("Enumerating objects: %d%s", found.Load(), end)))
		_ = f.x.rc.Flush()
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				show("\r")
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		show(", done.\n")
	}
}
