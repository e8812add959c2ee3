package odb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"golang.org/x/sync/errgroup"
)

// VerifyOptions say how Verify works.
type VerifyOptions struct {
	// Parallel is how many packs are read at once. Zero is one for each processor.
	Parallel int

	// Quick reads the indexes, and of the packs no more than of what big blobs are made.
	Quick bool

	// Progress, if not nil, is told how many bytes of packs were read. It is
	// called from many goroutines at once.
	Progress func(n int64)
}

// A Problem is something that Verify found.
type Problem struct {
	Pack string     // file name without extension; empty if it is no matter of one pack
	ID   objects.ID // of the object that it touches; zero if it is none, or unknown which
	Lost bool       // no good copy of the object is left
	Err  error
}

func (p Problem) Error() string {
	s := p.Err.Error()
	if !p.ID.IsZero() {
		s = fmt.Sprintf("object %s: %s", p.ID, s)
	}
	if p.Pack != "" {
		s = fmt.Sprintf("pack %s: %s", p.Pack, s)
	}
	return s
}

// Verify reads everything that is stored, proves it, and reports what is wrong:
// packs, blocks, indexes, ids, and that big blobs and deltas can be put
// together. It returns an error only if it could not go on. Reports come one at
// a time.
func (db *DB) Verify(ctx context.Context, o VerifyOptions, report func(Problem)) error {
	s, _, err := db.refresh(db.set.Load())
	if err != nil {
		return err
	}
	v := &verifier{db: db, o: o, report: report}
	workers := o.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var group errgroup.Group
	group.SetLimit(workers)
	for _, p := range s.packs {
		group.Go(func() error { return v.pack(ctx, p) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// What is made of several records, now that those are known.
	for _, id := range v.made {
		if o.Quick {
			group.Go(func() error { return v.parts(ctx, id) })
		} else {
			group.Go(func() error { return v.read(ctx, id) })
		}
	}
	return group.Wait()
}

type verifier struct {
	db *DB
	o  VerifyOptions

	mu     sync.Mutex
	report func(Problem)
	made   []objects.ID // recipes and deltas
}

func (v *verifier) problem(p Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report(p)
}

func (v *verifier) pack(ctx context.Context, p *stored) error {
	if p.isForeign() && errors.Is(checkSum(p), pack.ErrBadPack) {
		return nil // a power cut came first; nothing was promised, and Seal removes it
	}
	err := v.checkPack(ctx, p)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(p.path + packExt); errors.Is(err, fs.ErrNotExist) {
			return nil // merged meanwhile: its objects are in a pack that was proven before
		}
	}
	v.problem(Problem{Pack: p.base, Err: err})
	return nil
}

// checkPack reports what is wrong with objects, and returns what is with the
// pack as a whole.
func (v *verifier) checkPack(ctx context.Context, p *stored) error {
	x, err := pack.OpenIndex(p.path + indexExt)
	if err == nil {
		err = x.Check()
	}
	if err == nil && x.Name() != p.name {
		err = fmt.Errorf("%w: it is that of another pack", pack.ErrBadIndex)
	}
	if err != nil {
		if errors.As(err, new(*pack.VersionError)) {
			return err
		}
		if _, gone := os.Stat(p.path + packExt); errors.Is(gone, fs.ErrNotExist) {
			return gone // merged meanwhile
		}
		if !p.isForeign() { // else the power was cut before it came to the disk
			v.problem(Problem{Pack: p.base, Err: err})
		}
		v.db.suspect(p)
		if x, err = v.db.open(p); err != nil { // made anew
			return err
		}
	}
	size, err := p.file.Size()
	if err != nil {
		return err
	}
	if v.o.Quick {
		if size != x.PackSize() {
			return fmt.Errorf("%w: it has %d bytes, its index says %d", pack.ErrBadPack, size, x.PackSize())
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		for id, e := range x.All() {
			if e.Type == pack.Recipe {
				v.made = append(v.made, id)
			}
		}
		return nil
	}
	sumErr := checkSum(p)
	found := 0
	scanErr := pack.Scan(p.file, size, func(b pack.BlockInfo, d *pack.Data, err error) error {
		if v.o.Progress != nil {
			v.o.Progress(int64(b.Size()))
		}
		if err != nil {
			if !x.Pruned() {
				v.problem(Problem{Pack: p.base, Err: err})
			}
			return ctx.Err()
		}
		found += v.block(p, x, b, d)
		return ctx.Err()
	})
	if found < x.Len() && ctx.Err() == nil {
		v.unfound(ctx, p, x)
	}
	if x.Pruned() && (scanErr == nil || errors.Is(scanErr, pack.ErrBadPack)) {
		// The damage is known, and left out. What is needed of it is missing
		// elsewhere, where that can be told.
		return nil
	}
	if scanErr != nil {
		return scanErr
	}
	return sumErr
}

// block proves the records of a block and returns how many of them the index
// names.
func (v *verifier) block(p *stored, x *pack.Index, b pack.BlockInfo, d *pack.Data) (found int) {
	for i := range d.Len() {
		t, body := d.Record(i)
		id, err := pack.RecordID(t, body)
		var e pack.Entry
		ok := false
		if err == nil {
			e, ok, err = x.Find(&id)
		}
		switch {
		case err != nil:
			v.problem(Problem{Pack: p.base, Err: err})
		case !ok:
			// A copy that merging left out of the index, which is proven. The other one may
			// have been dropped since: then nobody needed it.
		case e.Record == b.First+uint32(i) && e.Type == t && int(e.Size) == len(body):
			found++
			if t == pack.Recipe || t == pack.Delta {
				v.mu.Lock()
				v.made = append(v.made, id)
				v.mu.Unlock()
			}
		}
	}
	return found
}

// unfound reports the objects that the index has and the pack has not.
func (v *verifier) unfound(ctx context.Context, p *stored, x *pack.Index) {
	all := make([]indexedRecord, 0, x.Len())
	for id, e := range x.All() {
		all = append(all, indexedRecord{id, e})
	}
	slices.SortFunc(all, func(a, b indexedRecord) int { return cmp.Compare(a.e.Record, b.e.Record) })
	var d pack.Data
	var readErr error
	at := -1
	for _, r := range all {
		if ctx.Err() != nil {
			return
		}
		n, err := x.BlockOf(r.e.Record)
		if err == nil {
			if n != at {
				at, readErr = n, readBlock(p, x, n, &d)
			}
			err = readErr
		}
		if err == nil {
			err = v.record(x, n, r.e, r.id, &d)
		}
		if err != nil {
			v.problem(Problem{Pack: p.base, ID: r.id, Err: err, Lost: v.lost(ctx, r.id, r.e)})
		}
	}
}

func (v *verifier) record(x *pack.Index, n int, e pack.Entry, id objects.ID, d *pack.Data) error {
	b, err := x.Block(n)
	if err != nil {
		return err
	}
	i := int(e.Record - b.First)
	if i >= d.Len() {
		return fmt.Errorf("%w: record %d is beyond its block", pack.ErrBadIndex, e.Record)
	}
	t, body := d.Record(i)
	if got, err := pack.RecordID(t, body); err != nil || got != id {
		return errWrongID(t)
	}
	return nil
}

func (v *verifier) lost(ctx context.Context, id objects.ID, e pack.Entry) bool {
	if e.Type == pack.Chunk {
		body, done, err := v.db.chunk(ctx, id)
		if err != nil {
			return true
		}
		defer done()
		return objects.SumChunk(body) != id
	}
	_, _, err := v.db.ReadBytes(ctx, id)
	return err != nil && !errors.Is(err, errTooBig)
}

// read reports an object that can't be read whole.
func (v *verifier) read(ctx context.Context, id objects.ID) error {
	o, err := v.db.Open(ctx, id)
	if err == nil {
		_, err = io.Copy(io.Discard, o.Body)
		o.Body.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		v.problem(Problem{ID: id, Err: err, Lost: true})
	}
	return nil
}

// parts reports a big blob of which chunks are missing.
func (v *verifier) parts(ctx context.Context, id objects.ID) error {
	missing, err := v.db.Parts(ctx, id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%w: it lacks %d chunks, as %s", pack.ErrBadPack, len(missing), missing[0])
	}
	if err != nil {
		v.problem(Problem{ID: id, Err: err, Lost: true})
	}
	return nil
}

func fileSize(name string) int64 {
	fi, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return fi.Size()
}
