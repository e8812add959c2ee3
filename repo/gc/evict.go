package gc

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// An item is an entry that may go.
type item struct {
	id      objects.ID
	used    Day // or made
	known   bool
	created int64 // nanoseconds since 1970; zero if nobody has looked
}

// evict chooses the entries that go, if anything asks for that.
func (p *planner) evict(ctx context.Context) error {
	limit := p.set.MaxSize - p.s.Overhead
	tooBig := p.set.MaxSize > 0 && p.plan.Bytes > limit
	if !tooBig && p.set.MaxAge == 0 {
		return nil
	}
	p.plan.Live, p.parts, p.plan.Bytes = new(reach.Set), new(reach.Set), 0
	clear(p.must)
	for i := range p.roots {
		p.roots[i].entries = 0
	}
	p.plan.Shed = p.s.Upstream != ""
	e := eviction{planner: p, limit: math.MaxInt64}
	if p.set.MaxSize > 0 {
		e.limit = limit - limit/margin
	}
	e.left = e.limit
	for _, step := range []func(context.Context) error{e.guard, e.list, e.choose, e.tops, e.weighRoots} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	e.explain()
	return nil
}

// margin is the part of the size that is left free: what is packed anew can come out
// bigger than it was.
const margin = 32

// An eviction chooses which entries stay, those that were used last first, as long as
// there is room; then as much of history as there is still room for.
type eviction struct {
	*planner
	limit    int64 // bytes that there is room for
	left     int64 // bytes that there is still room for
	items    []item
	listed   *reach.Set // of items
	upstream *reach.Set // entries that it has
	top      int64      // bytes of the trees above entries
	share    int64      // of these, for one entry
	full     bool       // something did not fit
}

// guard walks what must stay.
func (e *eviction) guard(ctx context.Context) error {
	if err := e.need(ctx, "staged entries", e.s.Staged, always, tolerant); err != nil {
		return err
	}
	for i := range e.roots {
		r := &e.roots[i]
		why, ids := "", []objects.ID{r.ID}
		switch {
		case r.expired || e.mayEvict(r):
			continue
		case r.Name.IsTag():
			why = "tags"
		case isTracking(r.Name):
			why = "branches of other remotes"
		default:
			why = "protected branches"
			e.graph.behind([]objects.ID{r.commit}, func(c *commit) bool {
				ids = append(ids, c.id)
				return true
			})
		}
		if err := e.need(ctx, why, ids, always, strict); err != nil {
			return err
		}
	}
	e.left -= e.plan.Bytes
	return nil
}

// mayEvict reports whether entries of a root may go.
func (e *eviction) mayEvict(r *root) bool {
	return !r.expired && !r.guarded && !r.commit.IsZero() && (r.Name.IsBranch() || e.isUpstream(r))
}

func (e *eviction) isUpstream(r *root) bool {
	return e.s.Upstream != "" && strings.HasPrefix(string(r.Name), "refs/remotes/"+e.s.Upstream+"/")
}

// list lists the entries that may go, and walks those that may not because the
// upstream lacks them.
func (e *eviction) list(ctx context.Context) error {
	e.listed, e.upstream = new(reach.Set), new(reach.Set)
	above := new(reach.Set)
	var own []objects.ID // that the upstream lacks
	for _, upstream := range []bool{true, false} {
		for i := range e.roots {
			r := &e.roots[i]
			if !e.mayEvict(r) || e.isUpstream(r) != upstream {
				continue
			}
			err := e.entries(ctx, r, above, func(path string, id objects.ID) {
				if upstream {
					e.upstream.Add(id)
				}
				if r.entries++; !e.listed.Add(id) || e.plan.Live.Has(id) {
					return
				}
				if e.plan.Shed && !e.upstream.Has(id) {
					own = append(own, id)
					return
				}
				it := item{id: id}
				if e.s.Used != nil {
					it.used, it.known = e.s.Used(path)
				}
				e.items = append(e.items, it)
			})
			if err != nil {
				return err
			}
		}
	}
	// With the entries that go the trees above get smaller.
	if n := e.listed.Len(); n > 0 {
		e.share = e.top/int64(n) + 1
	}
	before := e.plan.Bytes
	if err := e.need(ctx, "entries that "+e.s.Upstream+" lacks", own, always, strict); err != nil {
		return err
	}
	e.left -= e.plan.Bytes - before + e.share*int64(e.listed.Len()-len(e.items))
	return e.date(ctx)
}

// entries is entriesOf, and weighs the trees above.
func (e *eviction) entries(ctx context.Context, r *root, above *reach.Set, fn func(path string, id objects.ID)) error {
	return e.entriesOf(ctx, r.commit, func(id objects.ID) error {
		if !above.Add(id) {
			return nil
		}
		n, err := e.s.Weigh(ctx, id, func(objects.ID) bool { return false })
		e.top += n
		return err
	}, fn)
}

// date finds out when entries were made of which nobody knows when they were used,
// and puts those first that were used last.
func (e *eviction) date(ctx context.Context) error {
	slices.SortStableFunc(e.items, func(a, b item) int { return compareBool(a.known, b.known) })
	unknown := e.items
	if n := slices.IndexFunc(e.items, func(it item) bool { return it.known }); n >= 0 {
		unknown = e.items[:n]
	}
	if err := e.readDates(ctx, unknown); err != nil {
		return err
	}
	for i := range unknown {
		unknown[i].used = DayOf(time.Unix(0, unknown[i].created))
	}
	slices.SortStableFunc(e.items, func(a, b item) int { return cmp.Compare(b.used, a.used) })
	return nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// readDates reads when some entries were made. One whose meta can't be read is of
// 1970.
func (e *eviction) readDates(ctx context.Context, items []item) error {
	const most = 16 << 10
	for some := range slices.Chunk(items, most) {
		metas := make([]objects.ID, len(some))
		ids := make([]objects.ID, len(some))
		for i := range some {
			ids[i] = some[i].id
		}
		err := objects.ReadEach(ctx, e.s.Objects, ids, func(i int, k objects.Kind, body []byte, err error) error {
			if tree, bad := objects.ParseTree(body); err == nil && bad == nil && k == objects.Tree {
				meta, _ := tree.Find(entry.MetaName)
				metas[i] = meta.ID
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = objects.ReadEach(ctx, e.s.Objects, metas, func(i int, k objects.Kind, body []byte, err error) error {
			it := &some[i]
			if it.created == 0 {
				it.created = 1
			}
			if meta, bad := entry.ParseMeta(body); err == nil && bad == nil && k == objects.Blob {
				it.created = meta.Created.UnixNano()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// choose lets stay what there is room for, day by day.
func (e *eviction) choose(ctx context.Context) error {
	oldest := Day(math.MinInt32)
	if e.set.MaxAge > 0 {
		oldest = DayOf(e.set.Now.Add(-e.set.MaxAge))
	}
	for from := 0; from < len(e.items); {
		to := from + 1
		for to < len(e.items) && e.items[to].used == e.items[from].used {
			to++
		}
		day := e.items[from:to]
		from = to
		n := 0
		if !e.full && day[0].used >= oldest {
			var err error
			if n, err = e.day(ctx, day); err != nil {
				return err
			}
			e.full = n < len(day)
		}
		for _, it := range day[n:] {
			e.plan.evict.Add(it.id)
		}
	}
	e.plan.Evicted = e.plan.evict.Len()
	return nil
}

// day lets entries of one day stay: all, or those that were made last.
func (e *eviction) day(ctx context.Context, day []item) (n int, err error) {
	ids := func() []objects.ID {
		list := make([]objects.ID, len(day))
		for i := range day {
			list[i] = day[i].id
		}
		return list
	}
	fits, err := e.add(ctx, ids(), e.share*int64(len(day)))
	if fits || err != nil {
		return len(day), err
	}
	if err := e.readDates(ctx, day); err != nil {
		return 0, err
	}
	slices.SortStableFunc(day, func(a, b item) int { return cmp.Compare(b.created, a.created) })
	return e.fit(ctx, ids())
}

// fit adds as many of ids, in their order, as there is room for, all together having
// turned out to be too many.
func (e *eviction) fit(ctx context.Context, ids []objects.ID) (n int, err error) {
	if len(ids) <= 1 {
		return 0, ctx.Err()
	}
	half := len(ids) / 2
	for _, part := range [][]objects.ID{ids[:half], ids[half:]} {
		fits, err := e.add(ctx, part, e.share*int64(len(part)))
		if err != nil {
			return n, err
		}
		if !fits {
			m, err := e.fit(ctx, part)
			return n + m, err
		}
		n += len(part)
	}
	return n, nil
}

// add lets some objects stay, with all that they lead to, if there is room for all of
// them and for so many bytes above them.
func (e *eviction) add(ctx context.Context, ids []objects.ID, above int64) (fits bool, err error) {
	w := walk{tips: ids, seen: e.plan.Live, parts: e.parts, shallow: always, record: true, bytes: above}
	if err := e.walk(ctx, &w); err != nil {
		return false, err
	}
	if w.bytes > e.left {
		for _, id := range w.added {
			e.plan.Live.Remove(id)
		}
		for _, id := range w.addedParts {
			e.parts.Remove(id)
		}
		return false, nil
	}
	e.left -= w.bytes
	e.plan.Bytes += w.bytes
	return true, nil
}

func always(objects.ID) bool { return true }

// tops lets branches stay that lose no entry, and what merges will need; and, if all
// entries have room, of history what there is room for.
func (e *eviction) tops(ctx context.Context) error {
	var gone []objects.ID
	if e.plan.Shed { // the trees above what goes stay, without it
		for _, it := range e.items {
			if e.plan.Evicts(it.id) && e.plan.Live.Add(it.id) {
				gone = append(gone, it.id)
			}
		}
	}
	err := e.commits(ctx)
	for _, id := range gone {
		e.plan.Live.Remove(id)
	}
	e.cut()
	return err
}

func (e *eviction) commits(ctx context.Context) error {
	var tips []objects.ID
	for i := range e.roots {
		r := &e.roots[i]
		if !e.mayEvict(r) {
			continue
		}
		err := e.entriesOf(ctx, r.commit, func(objects.ID) error { return nil }, func(_ string, id objects.ID) {
			if e.plan.Evicts(id) {
				r.evicted++
			}
		})
		if err != nil {
			return err
		}
		if !r.replaced(e.plan.Shed) {
			tips = append(tips, r.commit)
		}
	}
	w := walk{tips: slices.Concat(tips, e.bound), seen: e.plan.Live, parts: e.parts, shallow: always}
	if err := e.walk(ctx, &w); err != nil {
		return err
	}
	// There is room for the trees above already.
	extra := max(0, w.bytes-e.share*int64(e.listed.Len()-e.plan.Evicted))
	e.plan.Bytes += extra
	e.left -= extra
	if e.full {
		return nil
	}
	kept, _ := e.graph.cut(tips, e.planner.limit)
	for _, id := range kept {
		fits, err := e.add(ctx, []objects.ID{id}, 0)
		if err != nil || !fits {
			return err
		}
	}
	return nil
}

// cut cuts history where something behind a commit does not stay.
func (e *eviction) cut() {
	e.plan.cutSet = map[objects.ID]bool{}
	for id, c := range e.graph {
		if e.plan.Live.Has(id) && slices.ContainsFunc(c.parents, func(p objects.ID) bool { return !e.plan.Live.Has(p) }) {
			e.plan.cutSet[id] = true
		}
	}
}

// replaced reports whether a commit without the evicted entries takes the place of a
// root's.
func (r *root) replaced(shed bool) bool { return r.evicted > 0 && !shed }

// explain says what keeps the store from getting as small as it should.
func (e *eviction) explain() {
	if e.plan.Bytes <= e.limit {
		return
	}
	e.plan.Short = e.plan.Bytes - e.limit
	for what, n := range e.must {
		if n > 0 {
			e.plan.Holds = append(e.plan.Holds, Hold{what, n})
		}
	}
	slices.SortFunc(e.plan.Holds, func(a, b Hold) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.What, b.What)) })
}
