// Package gc plans what a store drops: branches that nobody moves any more, history
// that is old enough, entries that were not used for longest. It changes nothing.
//
// What it knows that no other package does: in which order things go, and what must
// not go whatever the settings say.
package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
)

// A Store is what is to be planned for.
type Store struct {
	Objects objects.Reader
	Refs    []Ref
	Staged  []objects.ID // entries that are in no branch yet: they stay
	Shallow func(commit objects.ID) bool

	// Weigh returns what an object takes in the store, with those parts of it for
	// which add returns true. What the store lacks weighs nothing.
	Weigh func(ctx context.Context, id objects.ID, add func(part objects.ID) bool) (int64, error)

	// Used returns when the entry at path was used last, if that is known.
	Used func(path string) (Day, bool)

	// Upstream is the remote that promises what the store lacks; empty if there is
	// none. Entries that its branches have need not be here.
	Upstream string

	// Lazy says that the store may lack what Upstream has.
	Lazy bool

	// Overhead is how many bytes the store takes that are no object's.
	Overhead int64
}

// A Ref is a ref, when it moved last, and where it was before, the newest first.
type Ref struct {
	refs.Ref
	Moved time.Time
	Past  []objects.ID // of remotes' branches
}

// A Day counts days since 1970, UTC.
type Day int32

// DayOf returns the day of a time.
func DayOf(t time.Time) Day { return Day(t.Unix() / int64(day/time.Second)) }

// A Plan says what goes and what stays.
type Plan struct {
	Branches []Branch // the default one first, then by name
	Evicted  int      // entries that go though a branch has them
	Shed     bool     // of these only the payload goes: the upstream has it

	// Cut are commits whose parents go. Those of branches with evicted entries are not
	// among them: a commit without these entries takes their place, and is cut.
	Cut []objects.ID

	// Live is what stays, Before what could be reached until now.
	Live, Before *reach.Set

	Bytes   int64 // about what Live takes
	Dropped int64 // about what goes of Before

	// Short is by how many bytes the store stays above MaxSize, as far as can be told;
	// Holds are what keeps it there, the biggest first.
	Short int64
	Holds []Hold

	evict  *reach.Set          // trees of the entries that go
	cutSet map[objects.ID]bool // all commits that are cut, evictions aside
	evicts map[refs.Name]int   // how many of a branch's entries go
}

// A Hold is something that must stay.
type Hold struct {
	What  string `json:"what"`
	Bytes int64  `json:"bytes"`
}

// A Branch is what becomes of one branch, tag, or branch of a remote.
type Branch struct {
	Ref     refs.Name `json:"ref"`
	Expired bool      `json:"expired,omitempty"` // it goes as a whole
	Guarded bool      `json:"guarded,omitempty"` // nothing of it goes

	Entries        int   `json:"entries"`        // that stay at its tip
	EvictedEntries int   `json:"evictedEntries"` // that go
	Commits        int   `json:"commits"`        // that stay
	DroppedCommits int   `json:"droppedCommits"` // that go
	Bytes          int64 `json:"bytes"`          // of what stays and no branch before it has
	DroppedBytes   int64 `json:"droppedBytes"`   // of what goes and no branch before it had
}

// Evicts reports whether the entry with this tree goes.
func (p *Plan) Evicts(entry objects.ID) bool { return p.evict.Has(entry) }

// EvictsOf returns how many entries of a branch go.
func (p *Plan) EvictsOf(branch refs.Name) int { return p.evicts[branch] }

// Add adds to a plan what one before it dropped.
func (p *Plan) Add(before *Plan) {
	p.Evicted += before.Evicted
	p.evict.AddAll(before.evict)
	p.Dropped += before.Dropped
	dropped := map[refs.Name]Branch{}
	for _, b := range before.Branches {
		dropped[b.Ref] = b
	}
	for i := range p.Branches {
		b, d := &p.Branches[i], dropped[p.Branches[i].Ref]
		b.EvictedEntries += d.EvictedEntries
		b.DroppedCommits += d.DroppedCommits
		b.DroppedBytes += d.DroppedBytes
	}
	for _, b := range before.Branches {
		if b.Expired {
			p.Branches = append(p.Branches, b)
		}
	}
}

// IsCut reports whether a commit's parents go.
func (p *Plan) IsCut(commit objects.ID) bool { return p.cutSet[commit] }

// MakePlan plans. If something that must stay is missing or damaged, it is an error:
// what that leads to can't be told from what nobody needs.
func MakePlan(ctx context.Context, store Store, set Settings) (*Plan, error) {
	if set.Now.IsZero() {
		set.Now = time.Now()
	}
	p := &planner{
		s: &store, set: set, graph: graph{}, parts: new(reach.Set), must: map[string]int64{},
		plan: &Plan{Live: new(reach.Set), Before: new(reach.Set), evict: new(reach.Set), cutSet: map[objects.ID]bool{}, evicts: map[refs.Name]int{}},
	}
	for _, step := range []func(context.Context) error{p.load, p.expire, p.history, p.live, p.evict, p.account} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

// A planner makes one plan.
type planner struct {
	s     *Store
	set   Settings
	plan  *Plan
	graph graph

	roots []root           // of all refs, in the order of plan.Branches
	limit time.Time        // history that was replaced before goes
	bound []objects.ID     // commits that must stay for coming merges
	parts *reach.Set       // chunks, and bases of trees, that were weighed
	must  map[string]int64 // bytes that stay whatever the settings say, by reason
}

// A root is a ref, and the commit that it leads to.
type root struct {
	Ref
	commit  objects.ID // zero if it leads to something else
	expired bool
	guarded bool
	bytes   int64 // of what stays and no root before has

	entries, evicted int // at its tip
}

// load reads the history behind all refs.
func (p *planner) load(ctx context.Context) error {
	slices.SortFunc(p.s.Refs, func(a, b Ref) int {
		if a.Name == p.set.Head || b.Name == p.set.Head {
			return strings.Compare(isHead(b, p.set.Head), isHead(a, p.set.Head))
		}
		return strings.Compare(string(a.Name), string(b.Name))
	})
	for _, ref := range p.s.Refs {
		commit, err := peel(ctx, p.s.Objects, ref.ID)
		if err == nil && !commit.IsZero() {
			err = p.graph.grow(ctx, p.s, commit)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ref.Name, err)
		}
		r := root{Ref: ref, commit: commit}
		r.guarded = ref.Name.IsTag() || ref.Name.IsBranch() && p.set.isProtected(ref.Name)
		p.roots = append(p.roots, r)
	}
	return nil
}

func isHead(r Ref, head refs.Name) string {
	if r.Name == head {
		return "1"
	}
	return ""
}

// peel returns the commit that a ref leads to; zero if that is none.
func peel(ctx context.Context, r objects.Reader, id objects.ID) (objects.ID, error) {
	for range 10 { // tags of tags
		k, body, err := objects.Read(ctx, r, id)
		switch {
		case err != nil:
			return objects.ID{}, err
		case k == objects.Commit:
			return id, nil
		case k != objects.Tag:
			return objects.ID{}, nil
		}
		tag, err := objects.ParseTag(body)
		if err != nil {
			return objects.ID{}, err
		}
		id = tag.Object
	}
	return objects.ID{}, nil
}

// expire chooses the branches that go because nobody moved them for long. Those of
// remotes go if there is no branch here of their name.
func (p *planner) expire(context.Context) error {
	if p.set.BranchTTL == 0 {
		return nil
	}
	limit := p.set.Now.Add(-p.set.BranchTTL)
	here := map[string]bool{}
	for i := range p.roots {
		r := &p.roots[i]
		if r.Name.IsBranch() {
			r.expired = !r.guarded && r.Name != p.set.Head && r.Moved.Before(limit)
			here[r.Name.Short()] = here[r.Name.Short()] || !r.expired
		}
	}
	for i := range p.roots {
		r := &p.roots[i]
		if isTracking(r.Name) {
			_, branch, _ := strings.Cut(r.Name.Short(), "/")
			r.expired = !here[branch] && r.Moved.Before(limit) && len(p.graph.usersOf(r.commit, p.roots)) == 0
		}
	}
	return nil
}

// usersOf returns the branches that descend from a commit.
func (g graph) usersOf(id objects.ID, roots []root) (users []refs.Name) {
	for _, r := range roots {
		if !r.Name.IsBranch() || r.expired {
			continue
		}
		g.behind([]objects.ID{r.commit}, func(c *commit) bool {
			if c.id == id {
				users = append(users, r.Name)
			}
			return true
		})
	}
	return users
}

// history chooses where history is cut because it is old.
func (p *planner) history(context.Context) error {
	var tips []objects.ID
	for _, r := range p.roots {
		if r.expired || r.commit.IsZero() {
			continue
		}
		tips = append(tips, r.commit)
		if r.Name.IsBranch() {
			ends := p.graph.lastSeen(r.Ref, p.s.Refs)
			p.graph.bind(r.commit, ends)
			p.bound = append(p.bound, ends...)
		}
		if r.guarded && r.Name.IsBranch() {
			p.graph.behind([]objects.ID{r.commit}, func(c *commit) bool {
				c.whole = true
				return true
			})
		}
	}
	if p.set.KeepHistory > 0 {
		p.limit = p.set.Now.Add(-p.set.KeepHistory)
	}
	_, p.plan.cutSet = p.graph.cut(tips, p.limit)
	for id, c := range p.graph {
		if c.whole { // with one parent gone it would count as cut off from all
			p.bound = append(append(p.bound, id), c.parents...)
		}
	}
	return nil
}

// live walks all that stays but for evictions.
func (p *planner) live(ctx context.Context) error {
	if err := p.need(ctx, "staged entries", p.s.Staged, p.isCut, tolerant); err != nil {
		return err
	}
	for i := range p.roots {
		r := &p.roots[i]
		if r.expired {
			continue
		}
		w := walk{tips: []objects.ID{r.ID}, seen: p.plan.Live, parts: p.parts, shallow: p.isCut}
		if err := p.walk(ctx, &w); err != nil {
			return err
		}
		r.bytes = w.bytes
		p.plan.Bytes += w.bytes
	}
	return nil
}

// need walks what must stay for a reason.
func (p *planner) need(ctx context.Context, why string, tips []objects.ID, shallow func(objects.ID) bool, missing missing) error {
	w := walk{tips: tips, seen: p.plan.Live, parts: p.parts, shallow: shallow, missing: missing}
	err := p.walk(ctx, &w)
	p.must[why] += w.bytes
	p.plan.Bytes += w.bytes
	return err
}

// isCut reports whether a commit's parents do not count in what is planned.
func (p *planner) isCut(id objects.ID) bool { return p.s.Shallow(id) || p.plan.cutSet[id] }

// A walk visits what tips lead to and is not in seen yet, and weighs it.
type walk struct {
	tips    []objects.ID
	seen    *reach.Set
	parts   *reach.Set // that were weighed
	shallow func(objects.ID) bool
	missing missing
	record  bool // keep what was added

	bytes             int64
	added, addedParts []objects.ID
}

// missing says what to do about objects that are not there.
type missing uint8

const (
	strict   missing = iota // nothing may be missing but what was promised
	tolerant                // it goes anyway, or is a miss already
)

func (p *planner) walk(ctx context.Context, w *walk) error {
	return reach.Walk(ctx, p.s.Objects, w.tips, reach.Options{
		Seen:     w.seen,
		Shallow:  w.shallow,
		Unplaced: w.missing == tolerant || p.s.Lazy,
		Visit: func(id objects.ID, _ objects.Kind) error {
			if w.record {
				w.added = append(w.added, id)
			}
			n, err := p.s.Weigh(ctx, id, func(part objects.ID) bool {
				isNew := w.parts.Add(part)
				if isNew && w.record {
					w.addedParts = append(w.addedParts, part)
				}
				return isNew
			})
			w.bytes += n
			return err
		},
		Missing: func(m reach.Missing) error {
			damaged := errors.As(m.Err, new(*objects.DamagedError))
			if w.missing == tolerant || p.s.Lazy && !damaged && errors.Is(m, objects.ErrNotFound) {
				return nil
			}
			return &BrokenError{m}
		},
	})
}

// A BrokenError says that something which must stay is missing or damaged.
type BrokenError struct{ Missing reach.Missing }

func (e *BrokenError) Error() string { return e.Missing.Error() }
func (e *BrokenError) Unwrap() error { return e.Missing }
