package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A taker is a remote in this process, which needs no packs to be made for it.
type taker interface {
	Take(ctx context.Context, parcels []*odb.Parcel, done func(*odb.Parcel)) error
}

// An indexedUploader is a remote that need not decode a pack to find out what is
// in it, as long as somebody tells.
type indexedUploader interface {
	UploadIndexed(ctx context.Context, p io.ReaderAt, size int64, index *pack.Index) error
}

// A lastUploader may wait with the last pack of a push until refs move.
type lastUploader interface {
	UploadLast(ctx context.Context, p io.ReaderAt, size int64, index *pack.Index) error
}

// Send makes sure that r has tips, with all that they lead to. Have are commits
// that r is known to have so; they save work. Only what is missing is sent, so
// that a Send that was broken off goes on where it stopped. What is not here is
// objects.ErrNotFound. It is durable on return, as far as the remote says so.
func Send(ctx context.Context, db *odb.DB, r remote.Remote, tips, have []objects.ID, o Options) (Stats, error) {
	s := sender{db: db, r: r, o: o.withDefaults()}
	missing, err := s.missing(ctx, tips, have)
	if err != nil || len(missing) == 0 {
		return s.stats, err
	}
	known, err := s.bases(ctx, missing)
	if err != nil {
		return s.stats, err
	}
	parcels, err := db.Parcels(ctx, missing, odb.ParcelOptions{Size: s.o.PackSize, Base: func(id objects.ID) bool { return known[id] }})
	if err != nil {
		return s.stats, err
	}
	if s.o.DryRun {
		for _, p := range parcels {
			s.done(p, p.Size())
		}
		return s.stats, nil
	}
	for _, p := range parcels {
		s.o.Meter.Expect(p.Objects(), p.Size())
	}
	if t, ok := r.(taker); ok {
		return s.stats, t.Take(ctx, parcels, func(p *odb.Parcel) { s.done(p, p.Size()) })
	}
	return s.stats, s.upload(ctx, parcels)
}

// A sender is one Send.
type sender struct {
	db *odb.DB
	r  remote.Remote
	o  Options

	mu    sync.Mutex
	stats Stats // guarded by mu
}

func (s *sender) done(p *odb.Parcel, size int64) {
	s.o.Meter.Done(p.Objects(), p.Size())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Objects += p.Objects()
	s.stats.Bytes += size
	s.stats.Packs++
}

// missing returns what the remote lacks of what tips lead to.
func (s *sender) missing(ctx context.Context, tips, have []objects.ID) ([]objects.ID, error) {
	var ids []objects.ID
	err := reach.Since(ctx, s.db, tips, have, reach.Options{
		Shallow:      func(id objects.ID) bool { return s.o.Shallow[id] },
		ShallowThere: func(id objects.ID) bool { return s.o.ShallowThere[id] },
		Unplaced:     s.o.Promised,
		Missing: func(m reach.Missing) error {
			if ids = append(ids, m.ID); s.o.Promised && errors.Is(m, objects.ErrNotFound) {
				return nil
			}
			return m
		},
		Visit: func(id objects.ID, k objects.Kind) error {
			if id != objects.EmptyTree {
				ids = append(ids, id)
			}
			if k == objects.Commit && s.o.Shallow[id] {
				s.stats.Cut = append(s.stats.Cut, id)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	missing, err := ask(ctx, ids, s.r.Missing)
	if err != nil {
		return nil, err
	}
	var chunks []objects.ID
	seen := map[objects.ID]bool{}
	err = s.db.Chunks(ctx, missing, func(_, chunk objects.ID) error {
		if !seen[chunk] {
			seen[chunk] = true
			chunks = append(chunks, chunk)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	chunks, err = ask(ctx, chunks, s.r.Missing)
	return append(missing, chunks...), err
}

// bases returns the trees that those among missing are kept as deltas of here, and
// that the remote has whole.
func (s *sender) bases(ctx context.Context, missing []objects.ID) (map[objects.ID]bool, error) {
	known := map[objects.ID]bool{}
	prober, ok := s.r.(remote.BaseProber)
	if !ok {
		return known, nil
	}
	bases, err := s.db.Bases(ctx, missing)
	if err != nil || len(bases) == 0 {
		return known, err
	}
	for _, id := range bases {
		known[id] = true
	}
	lacking, err := ask(ctx, bases, prober.MissingBases)
	for _, id := range lacking {
		delete(known, id)
	}
	return known, err
}

// upload makes a pack of each parcel and sends it: first, several at once, those
// that need nothing of others.
func (s *sender) upload(ctx context.Context, parcels []*odb.Parcel) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.o.Parallel)
	last := parcels
	for len(last) > 0 && !last[0].Last() {
		p := last[0]
		last = last[1:]
		group.Go(func() error { return s.one(groupCtx, p, false) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, p := range last {
		if err := s.one(ctx, p, i == len(last)-1); err != nil {
			return err
		}
	}
	return nil
}

// one sends one parcel. A pack that arrived though its reply was lost may be sent
// again: it is the same pack.
func (s *sender) one(ctx context.Context, p *odb.Parcel, last bool) error {
	f, err := os.CreateTemp("", "cache-tool-*.pack")
	if err != nil {
		return fmt.Errorf("make a pack: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil { // it goes with us, however we go
		return err
	}
	w := pack.NewWriter(f)
	if err := p.WriteTo(ctx, w); err != nil {
		return fmt.Errorf("make a pack: %w", err)
	}
	name, err := w.Finish()
	if err != nil {
		return fmt.Errorf("make a pack: %w", err)
	}
	if err := s.send(ctx, f, w, name, last); err != nil {
		return err
	}
	s.done(p, w.Size())
	return nil
}

func (s *sender) send(ctx context.Context, f *os.File, w *pack.Writer, name objects.ID, last bool) error {
	indexed, ok := s.r.(indexedUploader)
	if !ok {
		return s.r.Upload(ctx, f, w.Size())
	}
	var data bytes.Buffer
	if err := w.WriteIndex(&data, name); err != nil {
		return err
	}
	index, err := pack.ParseIndex(data.Bytes())
	if err != nil {
		return err
	}
	if l, ok := s.r.(lastUploader); ok && last && s.o.Moves {
		return l.UploadLast(ctx, f, w.Size(), index)
	}
	return indexed.UploadIndexed(ctx, f, w.Size(), index)
}
