package gitbridge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// Refs yields the branches and tags of the server whose names begin with prefix. What they
// point to is fetched, as far as that has not been seen before: only then it is known what
// it is called here.
func (r *Remote) Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		all, err := r.look(ctx)
		if err != nil {
			yield(refs.Ref{}, err)
			return
		}
		for _, ref := range all {
			if strings.HasPrefix(string(ref.Name), prefix) && !yield(ref, nil) {
				return
			}
		}
	}
}

func (r *Remote) look(ctx context.Context) ([]refs.Ref, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	const tries = 100
	for try := 1; ; try++ {
		there, news, err := r.now(ctx)
		if err != nil {
			return nil, err
		}
		// A server reads one ref after the other, and several may be moved together
		// meanwhile: until two looks agree it is not known that they belong together. Where a
		// look takes long, one has to do if there is nothing new.
		settled := len(there) < 2 || r.last != nil && maps.Equal(r.last, there)
		if r.last == nil && !news && r.srv.isFar() {
			settled = true
		}
		r.last = there
		if settled || try == tries {
			return r.commitsOnly(there)
		}
	}
}

// now learns where refs are, and what that is called here. News says that it was not known.
func (r *Remote) now(ctx context.Context) (there map[string]oid, news bool, err error) {
	const tries = 20
	for try := 1; ; try++ {
		c, a, err := r.converse(ctx, uploadPack)
		if err != nil {
			return nil, false, err
		}
		there = ours(a)
		news = len(r.unknown(there)) > 0
		err = r.learn(ctx, c, a, there)
		err = because(err, c.close())
		if !errors.Is(err, errMoved) || try == tries {
			return there, news, err
		}
	}
}

// commitsOnly is translate for refs all of which must be known.
func (r *Remote) commitsOnly(there map[string]oid) ([]refs.Ref, error) {
	all := r.translate(there)
	for _, ref := range all {
		row, ok := r.ids.ours(there[string(ref.Name)], kinds...)
		if ok && ref.Name.IsBranch() && row.as != commit && row.as != cutOff {
			return nil, fmt.Errorf("%s: %w", ref.Name, remote.ErrNotCommit)
		}
	}
	return all, nil
}

// converse begins a conversation, and reads what the server says first.
func (r *Remote) converse(ctx context.Context, s service) (conversation, *advert, error) {
	c, err := r.srv.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	a, err := readAdvert(c.advertised(), s)
	if err == nil {
		return c, a, nil
	}
	err = because(err, c.close())
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, nil, err
}

// ours are the branches and tags of an advert that a repository can have.
func ours(a *advert) map[string]oid {
	there := map[string]oid{}
	for name, at := range a.refs {
		if n := refs.Name(name); (n.IsBranch() || n.IsTag()) && n.Check() == nil {
			there[name] = at
		}
	}
	return there
}

// translate returns refs as they are called here, but for those of which that is not known.
func (r *Remote) translate(there map[string]oid) []refs.Ref {
	var all []refs.Ref
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if row, ok := r.ids.ours(there[name], kinds...); ok {
			all = append(all, refs.Ref{Name: refs.Name(name), ID: row.id})
		}
	}
	return all
}

// unknown returns those objects that refs point to of which it is not known what they are
// called here.
func (r *Remote) unknown(there map[string]oid) []oid {
	var wants []oid
	for _, at := range there {
		if _, ok := r.ids.ours(at, kinds...); !ok && !slices.Contains(wants, at) {
			wants = append(wants, at)
		}
	}
	slices.SortFunc(wants, oid.compare)
	return wants
}

// learn finds out what the objects are called here that refs point to.
func (r *Remote) learn(ctx context.Context, c conversation, a *advert, there map[string]oid) error {
	wants := r.unknown(there)
	if len(wants) == 0 {
		return nil
	}
	haves, err := r.own(ctx)
	if err != nil {
		return err
	}
	if wants = r.unknown(there); len(wants) == 0 {
		return nil
	}
	err = r.bring(ctx, c, a, wants, haves)
	if !errors.Is(err, errLacks) || len(haves) == 0 {
		return err
	}
	// The map, or the repository, lacks something that they should have.
	r.o.Warn(fmt.Errorf("%w: all is fetched again", err))
	return r.all(ctx)
}

// all fetches all that the server has, as if nothing of it were known.
func (r *Remote) all(ctx context.Context) error {
	if r.fetched {
		return nil
	}
	if err := r.ids.drop(ctx); err != nil {
		return err
	}
	c, a, err := r.converse(ctx, uploadPack)
	if err != nil {
		return err
	}
	defer c.close()
	there := ours(a)
	if wants := r.unknown(there); len(wants) > 0 {
		if err := r.bring(ctx, c, a, wants, nil); err != nil {
			return err
		}
	}
	r.last, r.fetched = there, true
	return nil
}

// maxHaves is how many of its refs a repository tells the server about.
const maxHaves = 1000

// own computes what the objects are called there that the refs here point to, and returns
// those. A server need not send what they lead to.
func (r *Remote) own(ctx context.Context) ([]oid, error) {
	if r.o.Tips == nil || r.o.DB == nil {
		return nil, nil
	}
	tips, err := r.o.Tips(ctx)
	if err != nil {
		return nil, err
	}
	ctx = odb.Local(ctx)
	w := &outward{src: source{r.o.DB}, ids: r.ids}
	var haves []oid
	for _, id := range tips {
		at, err := w.any(ctx, id)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// History that was cut off here cannot be told by what it is called there, nor what
		// a lazy repository lacks.
		if err == nil && len(haves) < maxHaves && !slices.Contains(haves, at) {
			haves = append(haves, at)
		}
	}
	return haves, r.ids.flush(ctx)
}

// bring fetches what wants lead to and haves do not into the spool.
func (r *Remote) bring(ctx context.Context, c conversation, a *advert, wants, haves []oid) error {
	f, err := scratch(r.o.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fetch(ctx, c, a, wants, haves, f); err != nil {
		return fmt.Errorf("fetch: %w", because(err, c.close()))
	}
	p, err := openPack(f, r.o.Dir)
	if err != nil {
		return because(err, c.close())
	}
	w := &inward{in: p, ids: r.ids, src: r.src, db: r.spool, dir: r.o.Dir, all: len(haves) == 0}
	return w.run(ctx, wants)
}
