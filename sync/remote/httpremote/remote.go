// Package httpremote is the client of a cache-tool server: a remote.Remote at a
// URL of http or https.
//
// Whatever may be repeated is, when it fails in a way that passes: all but the
// moving of refs is of that kind, since packs and objects are called after what
// they hold. Where the answer to a move got lost, the refs tell what became of
// it. A pack that breaks off on its way here is an error to whoever reads it: he
// knows what has come, and asks for the rest.
package httpremote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// A Remote is a server, and one conversation with it.
type Remote struct {
	base string // the URL, without credentials and slash at its end
	http *http.Client
	o    Options

	relied atomic.Bool // on something that was not missing, or was uploaded

	shallow atomic.Pointer[[]objects.ID] // what came with the refs; nil before that
}

// Refs yields the refs that begin with prefix, of those that the server lets us
// see.
func (r *Remote) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		all, err := r.refs(ctx, prefix)
		if err != nil {
			yield(refs.Ref{}, err)
			return
		}
		for _, ref := range all {
			if !yield(ref, nil) {
				return
			}
		}
	}
}

func (r *Remote) refs(ctx context.Context, prefix string) ([]refs.Ref, error) {
	if len(prefix) > wire.MaxName {
		return nil, nil // no ref has so long a name
	}
	var all []refs.Ref
	var shallow []objects.ID
	err := r.ask(ctx, wire.Refs, []byte(prefix), wire.MaxRefs, func(answer []byte) (err error) {
		all, shallow, err = wire.ParseRefs(answer)
		return err
	})
	if err == nil {
		r.shallow.Store(&shallow)
	}
	return all, err
}

// Shallow returns the commits whose parents were cut off at the server, as far as it
// lets us see them.
func (r *Remote) Shallow(ctx context.Context) ([]objects.ID, error) {
	if r.shallow.Load() == nil {
		const none = "-" // no ref begins so
		if _, err := r.refs(ctx, none); err != nil {
			return nil, err
		}
	}
	return *r.shallow.Load(), ctx.Err()
}

// Missing returns those of ids that the server lacks.
func (r *Remote) Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	return r.lacking(ctx, wire.Missing, ids)
}

// MissingBases returns those of ids that the server does not keep as whole trees.
func (r *Remote) MissingBases(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	return r.lacking(ctx, wire.Bases, ids)
}

// someIDs is how many ids are asked about with one request.
const someIDs = 64 << 10

func (r *Remote) lacking(ctx context.Context, operation string, ids []objects.ID) ([]objects.ID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []objects.ID
	for len(ids) > 0 {
		n := min(len(ids), someIDs)
		var some []objects.ID
		err := r.ask(ctx, operation, wire.EncodeIDs(ids[:n]), int64(4+n*objects.IDSize), func(answer []byte) (err error) {
			some, err = wire.ParseIDs(answer)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(some) < n {
			r.relied.Store(true)
		}
		all, ids = append(all, some...), ids[n:]
	}
	return all, nil
}

// Fetch returns a pack with the objects of q, which may name wire.MaxIDs of them.
func (r *Remote) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	if n := len(q.Want) + len(q.Have) + len(q.Shallow); n > wire.MaxIDs {
		return nil, fmt.Errorf("%s: fetch: %d ids at once, more than %d", r.base, n, wire.MaxIDs)
	}
	return r.pack(ctx, wire.Fetch, wire.EncodeRequest(q))
}

// FetchPaths returns a pack with what paths lead to. There may be wire.MaxPaths.
func (r *Remote) FetchPaths(ctx context.Context, paths []remote.Path, budget int64) (io.ReadCloser, error) {
	if len(paths) > wire.MaxPaths {
		return nil, fmt.Errorf("%s: fetch: %d paths at once, more than %d", r.base, len(paths), wire.MaxPaths)
	}
	for _, p := range paths {
		if len(p.Path) > wire.MaxPath {
			return nil, fmt.Errorf("%s: fetch: a path of %d bytes, more than %d", r.base, len(p.Path), wire.MaxPath)
		}
	}
	return r.pack(ctx, wire.Paths, wire.EncodePaths(paths, budget))
}

func (r *Remote) pack(ctx context.Context, operation string, message []byte) (io.ReadCloser, error) {
	body, err := r.send(ctx, operation, asBody(message))
	if err != nil {
		return nil, err
	}
	return &packBody{wire.NewStreamReader(body), r, operation}, nil
}

// A packBody says in its errors where it comes from.
type packBody struct {
	*wire.StreamReader
	r         *Remote
	operation string
}

func (p *packBody) Read(b []byte) (int, error) {
	n, err := p.StreamReader.Read(b)
	if err != nil && err != io.EOF {
		err = p.r.failed(p.operation, err)
	}
	return n, err
}

// Upload adds the objects of a pack.
func (r *Remote) Upload(ctx context.Context, pack io.ReaderAt, size int64) error {
	err := r.do(ctx, wire.Upload, body{pack, size})
	if err == nil {
		r.relied.Store(true)
	}
	return err
}

// Update moves refs, all or none.
func (r *Remote) Update(ctx context.Context, updates ...refs.Update) error {
	return r.UpdateCut(ctx, nil, updates...)
}

// UpdateCut is Update for one whose history ends at the commits cut, of which there
// may be wire.MaxCut.
func (r *Remote) UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(updates) == 0 {
		return nil
	}
	if len(updates) > wire.MaxUpdates {
		return fmt.Errorf("%s: update of %d refs at once, more than %d", r.base, len(updates), wire.MaxUpdates)
	}
	if len(cut) > wire.MaxCut {
		return fmt.Errorf("%s: update with %d commits at which history was cut off, more than %d", r.base, len(cut), wire.MaxCut)
	}
	for _, u := range updates {
		if err := u.Name.Check(); err != nil {
			return err
		}
	}
	err := r.move(ctx, updates, cut)
	if r.relied.Load() && errors.Is(err, objects.ErrNotFound) && !errors.Is(err, remote.ErrStale) {
		// It was there, and has gone since.
		err = fmt.Errorf("%w: %w", err, remote.ErrStale)
	}
	if err == nil {
		r.relied.Store(false)
	}
	return err
}

// Close lets go of connections that are not in use. The conversation can go on.
func (r *Remote) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

var (
	_ remote.Remote      = (*Remote)(nil)
	_ remote.PathFetcher = (*Remote)(nil)
	_ remote.BaseProber  = (*Remote)(nil)
	_ remote.Cutter      = (*Remote)(nil)
)
