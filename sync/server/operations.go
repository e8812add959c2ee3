package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// refs answers with those refs that the client may read, and where the history ends
// that he may know of.
func (x *exchange) refs(store Store) error {
	prefix, release, err := x.read(wire.MaxRequest(wire.Refs))
	if err != nil {
		return err
	}
	defer release()
	var all []refs.Ref
	var shallow []objects.ID
	err = x.work(func(ctx context.Context) error {
		if all, err = x.readable(ctx, store, string(prefix)); err != nil {
			return err
		}
		// After the refs: what they lead to is known to be cut before they lead there.
		shallow, err = x.shallow(ctx, store)
		return err
	})
	if err != nil {
		return err
	}
	return x.reply(wire.EncodeRefs(all, shallow))
}

// shallow returns the commits whose parents were cut off, of those that the client
// may know of.
func (x *exchange) shallow(ctx context.Context, store Store) ([]objects.ID, error) {
	shallow, err := store.Shallow(ctx)
	if err != nil || len(shallow) == 0 {
		return nil, err
	}
	v, err := x.view(ctx, store)
	if err != nil || v == nil {
		return shallow, err
	}
	return slices.DeleteFunc(shallow, func(id objects.ID) bool { return !v.has(id) }), nil
}

// readable returns those refs that begin with prefix and may be read.
func (x *exchange) readable(ctx context.Context, store Store, prefix string) ([]refs.Ref, error) {
	var all []refs.Ref
	for ref, err := range store.Refs(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if x.who.rules.Reads(ref.Name) {
			all = append(all, ref)
		}
	}
	return all, nil
}

func (x *exchange) missing(store Store) error { return x.ask(wire.Missing, store, store.Missing) }

func (x *exchange) bases(store Store) error { return x.ask(wire.Bases, store, store.MissingBases) }

// ask answers a question about ids.
func (x *exchange) ask(operation string, store Store, question func(context.Context, []objects.ID) ([]objects.ID, error)) error {
	message, release, err := x.read(wire.MaxRequest(operation))
	if err != nil {
		return err
	}
	defer release()
	ids, err := wire.ParseIDs(message)
	if err != nil {
		return err
	}
	var answer []objects.ID
	err = x.work(func(ctx context.Context) error {
		v, err := x.view(ctx, store)
		switch {
		case err != nil:
		case v == nil:
			answer, err = question(ctx, ids)
		default:
			answer, err = v.lacking(ctx, ids, question)
		}
		return err
	})
	if err != nil {
		return err
	}
	return x.reply(wire.EncodeIDs(answer))
}

// fetch answers with a pack.
func (x *exchange) fetch(store Store) error {
	message, release, err := x.read(wire.MaxRequest(wire.Fetch))
	if err != nil {
		return err
	}
	defer release()
	q, err := wire.ParseRequest(message)
	if err != nil {
		return err
	}
	return x.send(func(ctx context.Context) (io.ReadCloser, error) {
		if err := x.restrict(ctx, store, &q); err != nil {
			return nil, err
		}
		return store.Fetch(ctx, q)
	})
}

// paths answers with a pack of what some paths lead to.
func (x *exchange) paths(store Store) error {
	message, release, err := x.read(wire.MaxRequest(wire.Paths))
	if err != nil {
		return err
	}
	defer release()
	paths, budget, err := wire.ParsePaths(message)
	if err != nil {
		return err
	}
	roots := remote.Request{Extent: remote.Closure}
	for _, p := range paths {
		roots.Want = append(roots.Want, p.Root)
	}
	return x.send(func(ctx context.Context) (io.ReadCloser, error) {
		if err := x.restrict(ctx, store, &roots); err != nil {
			return nil, err
		}
		return store.FetchPaths(ctx, paths, budget)
	})
}

// send answers with the pack that open returns. What goes wrong before the first
// byte is an answer of its own, and after it the end of the stream.
func (x *exchange) send(open func(context.Context) (io.ReadCloser, error)) error {
	return x.work(func(ctx context.Context) error {
		p, err := open(ctx)
		if err != nil {
			return err
		}
		defer p.Close()
		buf := make([]byte, wire.MaxPiece)
		stream := wire.NewStreamWriter(x)
		for {
			n, err := p.Read(buf)
			if n > 0 {
				x.clock.stop() // a client may take its time, see Write
				if _, err := stream.Write(buf[:n]); err != nil {
					return err
				}
				x.clock.start()
			}
			switch {
			case err == io.EOF:
				return x.finish(stream, nil)
			case err != nil && ctx.Err() != nil:
				return x.finish(stream, context.Cause(ctx))
			case err != nil:
				return x.finish(stream, err)
			}
		}
	})
}

// finish ends a stream that has begun, and returns cause.
func (x *exchange) finish(stream *wire.StreamWriter, cause error) error {
	x.mu.Lock()
	begun := x.stream
	x.mu.Unlock()
	if cause != nil && !begun {
		return cause
	}
	err := stream.End(cause)
	x.mu.Lock()
	x.whole = err == nil
	x.mu.Unlock()
	return errors.Join(cause, err)
}

// update moves refs, if the client may move all of them.
func (x *exchange) update(store Store) error {
	message, release, err := x.read(wire.MaxRequest(wire.Update))
	if err != nil {
		return err
	}
	defer release()
	updates, cut, err := wire.ParseUpdates(message)
	if err != nil {
		return err
	}
	for i := range updates {
		u := &updates[i]
		if !x.who.rules.Writes(u.Name) {
			return x.refuse("may not move " + string(u.Name))
		}
		u.Reason = x.reason(u.Reason)
	}
	if err := x.work(func(ctx context.Context) error { return x.move(ctx, store, cut, updates) }); err != nil {
		return err
	}
	return x.reply(nil)
}

// move moves refs. Where the client's history ends is believed only as far as the
// store lacks what would come before: to whom that is there but not to be read, the
// refs may not move.
func (x *exchange) move(ctx context.Context, store Store, cut []objects.ID, updates []refs.Update) error {
	v, err := x.view(ctx, store)
	if err != nil {
		return err
	}
	if v == nil {
		return store.UpdateCut(ctx, cut, updates...)
	}
	if err := x.recalling(ctx, store, v, func() error { return v.mayLead(ctx, store, updates) }); err != nil {
		return err
	}
	if err = store.UpdateCut(ctx, cut, updates...); errors.Is(err, objects.ErrNotFound) {
		return errIncomplete
	}
	return err
}

// uses notes when entries were used, if the store remembers that. Whoever may write
// something can say so of any entry: what he names is only kept longer.
func (x *exchange) uses(store Store) error {
	message, release, err := x.read(wire.MaxRequest(wire.Uses))
	if err != nil {
		return err
	}
	defer release()
	t, err := wire.ParseUses(message)
	if err != nil {
		return err
	}
	if noter, ok := store.(remote.UseNoter); ok {
		if err := x.work(func(ctx context.Context) error { return noter.NoteUses(ctx, t) }); err != nil {
			return err
		}
	}
	return x.reply(nil)
}

// reason is what the reflog says: who it was, by his own account why.
func (x *exchange) reason(why string) string {
	who := x.who.name
	if who == "" {
		who = address(x.r)
	}
	s := strings.Join(strings.Fields(fmt.Sprintf("push by %s: %s", who, why)), " ")
	return strings.ToValidUTF8(s[:min(len(s), wire.MaxName)], "")
}
