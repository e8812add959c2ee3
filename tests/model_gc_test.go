package tests

import (
	"context"

	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	shared "github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A share is the bucket, as far as the model cares.
type share struct {
	m       *model
	dir     string
	refs    map[string]objects.ID // by the names of branches
	shallow map[objects.ID]bool
	has     map[objects.ID]bool // commits and entries that can be had from it
}

func (b *share) open() *bucket.Remote { return bucket.Open(shared.Open(b.dir)) }

// look finds out what the bucket holds; s has what it may have sent just now.
func (b *share) look(s *store) {
	state, err := b.open().State(ctx)
	if err != nil {
		b.m.fatal("bucket: %v", err)
	}
	b.refs = map[string]objects.ID{}
	for name, id := range state.Refs {
		b.refs[name.Short()] = id
		b.m.learn(s, id)
	}
	b.shallow = state.Shallow
	b.has = b.m.behind(func(id objects.ID) bool { return !b.shallow[id] }, slices.Collect(maps.Values(b.refs))...)
	for _, id := range slices.Collect(maps.Keys(b.has)) {
		maps.Copy(b.has, b.m.graph[id].entries)
	}
	maps.Copy(b.m.public, b.has)
}

// mayLack reports whether a branch of a store may lead to what was left to the bucket,
// and what nobody has there any more: others may take it out, and collect it.
func (m *model) mayLack(s *store, branch string) bool { return m.mayLackBehind(s, s.tip(branch)) }

// anyLack is mayLack for all refs.
func (m *model) anyLack(s *store) bool {
	for _, tip := range s.is.refs {
		if m.mayLackBehind(s, tip) {
			return true
		}
	}
	return false
}

func (m *model) mayLackBehind(s *store, tip objects.ID) bool {
	if !s.lazy || tip.IsZero() {
		return false
	}
	lost := func(id objects.ID) bool { return m.public[id] && !m.bucket.has[id] }
	for id := range m.behind(func(id objects.ID) bool { return !m.bucket.has[id] }, tip) {
		if lost(id) {
			return true
		}
	}
	for id := range m.graph[tip].entries {
		if lost(id) {
			return true
		}
	}
	return false
}

// A bringer brings what a lazy store lacks, for the model to look at.
type bringer struct {
	m *model
	s *store
}

func (p bringer) Fetch(ctx context.Context, ids []objects.ID) error {
	_, err := transfer.FetchObjects(ctx, p.s.r.DB, p.m.bucket.open(), ids, transfer.Options{Staged: true})
	return err
}

func (p bringer) FetchPath(ctx context.Context, root objects.ID, path string) error { return nil }

func (p bringer) FetchAll(ctx context.Context, id objects.ID) error {
	_, err := transfer.Fetch(ctx, p.s.r.DB, p.m.bucket.open(), []objects.ID{id}, nil, transfer.Options{Staged: true})
	return err
}

// gc collects a store with settings as they come, and wants nothing to go that they do
// not give up.
func (m *model) gc(s *store) {
	if m.oneIn(10) {
		m.do(s, call{args: []string{"gc", "--grace", pick(m, "0", "1h")}})
		return
	}
	r, err := repo.Open(ctx, s.dir, repo.Options{})
	if err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	defer r.Close()
	o := r.CollectSettings()
	o.Now = m.now()
	o.Grace = pick(m, 0, 0, time.Hour)
	o.KeepHistory = pick(m, 0, 0, 1, 48*time.Hour)
	o.Rewrite = pick(m, 0, 0.1, 0.5)
	usage, err := r.DB.Usage()
	if err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	switch m.rand.IntN(6) {
	case 0, 1:
		o.MaxSize = 1 + m.rand.Int64N(usage.Bytes*5/4)
	case 2:
		o.MaxAge = time.Duration(1+m.rand.IntN(5)) * 24 * time.Hour
	case 3:
		if m.oneIn(4) {
			o.BranchTTL = time.Duration(1+m.rand.IntN(10)) * 24 * time.Hour
		}
	}
	before := m.census(s)
	plan := &test.Plan{}
	if m.oneIn(4) {
		plan.At, plan.Fault = 1+m.rand.IntN(60), pick(m, test.Faults...)
	}
	stop := plan.Start(m.t)
	sum, err := r.Collect(ctx, o)
	stop()
	m.note("%s: gc of %d bytes, grace %v, history %v, size %d, age %v, ttl %v: %d evicted, %d objects, %d bytes left, %v %v",
		s.name, usage.Bytes, o.Grace, o.KeepHistory, o.MaxSize, o.MaxAge, o.BranchTTL, evicted(sum), sum.Objects, sum.SizeAfter, plan.Where(), err)
	if err != nil && !plan.Reached() {
		m.fatal("%s: gc: %v", s.name, err)
	}
	const about = 16 << 10 // what packs take is known for sure when they are there
	if err == nil && o.MaxSize > 0 && sum.SizeAfter > o.MaxSize+about && sum.Short <= 0 && o.Grace == 0 {
		m.fatal("%s: gc left %d bytes, want %d; nothing is said to hold it", s.name, sum.SizeAfter, o.MaxSize)
	}
	m.judge(s, before, o, sum)
}

func evicted(sum repo.Collected) int {
	if sum.Plan == nil {
		return 0
	}
	return sum.Evicted
}

// A census is what a store held before a collection.
type census struct {
	sight
	linked  map[string]map[objects.ID]bool // for each branch, what it led to of where remotes were seen
	entries map[objects.ID][]string        // all at the tips of branches, and on which branches
	paths   map[objects.ID]string
	here    map[objects.ID]bool // of entries, those that are not left to the bucket
	guarded map[objects.ID]bool // entries that must not go
	there   map[objects.ID]bool // entries that the bucket was seen to have
}

func (m *model) census(s *store) *census {
	c := &census{sight: s.is, linked: map[string]map[objects.ID]bool{}, entries: map[objects.ID][]string{}, paths: map[objects.ID]string{},
		guarded: maps.Clone(s.is.entries), there: map[objects.ID]bool{}}
	for name, tip := range s.is.refs {
		short := refs.Name(name).Short()
		for id, path := range m.entriesAt(s, tip) {
			switch {
			case strings.HasPrefix(name, "refs/heads/"):
				c.entries[id] = append(c.entries[id], short)
				c.paths[id] = path
			case strings.HasPrefix(name, "refs/remotes/origin/"):
				c.there[id] = true
			default:
				c.guarded[id] = true
			}
		}
	}
	for commit := range m.behind(func(id objects.ID) bool { return !s.is.shallow[id] }, s.tip("keep")) {
		for id := range m.entriesAt(s, commit) {
			c.guarded[id] = true
		}
	}
	for _, branch := range s.names {
		c.linked[branch] = m.lastSeen(s, branch, s.is.shallow)
	}
	c.here = m.here(s, slices.Collect(maps.Keys(c.entries)))
	return c
}

// entriesAt returns the entries of a commit, as far as the model knows of them. Trees
// that are left to the bucket have none.
func (m *model) entriesAt(s *store, commit objects.ID) map[objects.ID]string {
	found := map[objects.ID]string{}
	c, err := objects.ReadCommit(ctx, s.r.DB, commit)
	if err != nil {
		m.fatal("%s: %s: %v", s.name, commit.Short(), err)
	}
	for f, err := range s.r.EntriesAt(odb.Local(ctx), c.Tree, "") {
		if err != nil && s.lazy {
			break
		}
		if err != nil {
			m.fatal("%s: %s: %v", s.name, commit.Short(), err)
		}
		if isCounted(f.Path) {
			found[f.ID] = f.Path
		}
	}
	return found
}

// here returns which entries are in a store, whole.
func (m *model) here(s *store, ids []objects.ID) map[objects.ID]bool {
	here := map[objects.ID]bool{}
	for _, id := range ids {
		err := reach.Walk(odb.Local(ctx), s.r.DB, []objects.ID{id}, reach.Options{CheckBlobs: true})
		here[id] = err == nil
	}
	return here
}

// lastSeen returns the commits where branches of remotes are, of those that a branch
// descends from.
func (m *model) lastSeen(s *store, branch string, shallow map[objects.ID]bool) map[objects.ID]bool {
	seen := map[objects.ID]bool{}
	behind := m.behind(func(id objects.ID) bool { return !shallow[id] }, s.tip(branch))
	for name, id := range s.is.refs {
		if strings.HasPrefix(name, "refs/remotes/") && behind[id] {
			seen[id] = true
		}
	}
	return seen
}

// judge compares what a collection left with what there was.
func (m *model) judge(s *store, before *census, o repo.CollectOptions, sum repo.Collected) {
	m.t.Helper()
	m.settle(s)
	s.is = s.look()
	upstream := s != m.cat
	for name, old := range before.refs {
		now := s.is.refs[name]
		branch, isBranch := strings.CutPrefix(name, "refs/heads/")
		switch {
		case now == old:
		case now.IsZero() && o.BranchTTL > 0 && !strings.HasPrefix(name, "refs/tags/") && branch != "main" && branch != "keep" && len(before.staged[branch]) == 0:
		case isBranch && branch != "keep" && !upstream && (o.MaxSize > 0 || o.MaxAge > 0) && !now.IsZero():
			m.judgeEvicted(s, before, branch, sum)
		default:
			m.fatal("%s: gc moved %s from %s to %s", s.name, name, old.Short(), now.Short())
		}
	}
	for _, branch := range branchesOf(before.sight, s.is) {
		if len(before.staged[branch])+len(s.is.staged[branch]) > 0 && !maps.Equal(m.visible(before.sight, branch), s.visible(branch)) && s.tip(branch) == before.refs["refs/heads/"+branch] {
			m.fatal("%s: gc changed what is staged for %s: %v, was %v", s.name, branch, s.is.staged[branch], before.staged[branch])
		}
		if s.tip(branch) != before.refs["refs/heads/"+branch] {
			continue
		}
		now := m.lastSeen(s, branch, s.is.shallow)
		for id := range before.linked[branch] {
			if !now[id] && slices.Contains(slices.Collect(maps.Values(s.is.refs)), id) {
				m.fatal("%s: gc cut %s off from %s, where a remote's was seen last", s.name, branch, id.Short())
			}
		}
	}
	m.judgeDropped(s, before, sum)
	m.sound(s)
}

// judgeEvicted wants a branch to lack nothing but what the plan took out of it.
func (m *model) judgeEvicted(s *store, before *census, branch string, sum repo.Collected) {
	m.t.Helper()
	old, now := m.visible(before.sight, branch), s.visible(branch)
	for path, id := range now {
		if old[path] != id {
			m.fatal("%s: gc changed %s in %s", s.name, path, branch)
		}
	}
	for id, path := range before.paths {
		if !slices.Contains(before.entries[id], branch) || now[path] == m.kept[id].id && !now[path].IsZero() {
			continue
		}
		if staged, ok := before.staged[branch][path]; ok && staged == now[path] {
			continue
		}
		if sum.Plan == nil || !sum.Plan.Evicts(id) {
			m.fatal("%s: gc took %s out of %s", s.name, path, branch)
		}
	}
}

// judgeDropped wants only entries to go, or their payload, that may, and those first
// that were used before others; of a day those that were made before.
func (m *model) judgeDropped(s *store, before *census, sum repo.Collected) {
	m.t.Helper()
	if sum.Plan == nil {
		return
	}
	upstream := sum.Plan.Shed
	var gone, stay []objects.ID
	for id := range before.entries {
		if before.guarded[id] || upstream && !before.there[id] {
			if sum.Plan.Evicts(id) {
				m.fatal("%s: gc would evict %s of %v, which must stay", s.name, before.paths[id], before.entries[id])
			}
			continue
		}
		if !before.here[id] {
			continue
		}
		if sum.Plan.Evicts(id) {
			gone = append(gone, id)
		} else {
			stay = append(stay, id)
		}
	}
	for _, x := range gone {
		for _, y := range stay {
			dx, dy := s.used[before.paths[x]], s.used[before.paths[y]]
			if dx > dy || dx == dy && m.kept[x].made.After(m.kept[y].made) {
				m.fatal("%s: gc evicts %s, used on day %d and made %v, and not %s, used on day %d and made %v", s.name,
					before.paths[x], dx, m.kept[x].made, before.paths[y], dy, m.kept[y].made)
			}
		}
	}
	here := m.here(s, slices.Collect(maps.Keys(before.entries)))
	for id, was := range before.here {
		still := slices.ContainsFunc(before.entries[id], func(branch string) bool {
			return s.tip(branch) == before.refs["refs/heads/"+branch]
		})
		if was && !here[id] && still && !sum.Plan.Evicts(id) {
			m.fatal("%s: gc dropped %s of %v", s.name, before.paths[id], before.entries[id])
		}
	}
}

// gc collects the bucket, as somebody would who has nothing else. Sometimes a branch
// of it is deleted, or cut off from its history, at the same time.
func (b *share) gc() {
	m := b.m
	o := bucket.CollectOptions{Grace: pick(m, 0, 0, time.Hour), Rewrite: pick(m, 0.01, 0.5)}
	want, shallow := maps.Clone(b.refs), maps.Clone(b.shallow)
	names := slices.Sorted(maps.Keys(b.refs))
	switch name := pick(m, names...); {
	case m.oneIn(4):
		o.Shallow = []objects.ID{b.refs[name]}
	case name != "main" && m.oneIn(8):
		o.Updates = []refs.Update{{Name: refs.Branch(name), Old: b.refs[name]}}
		delete(want, name)
	}
	db, err := odb.Open(test.Dir(m.t), odb.Options{})
	if err != nil {
		m.fatal("%v", err)
	}
	defer db.Close()
	r := b.open()
	o.Mark = func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
		_, err := transfer.FetchTrees(ctx, db, r, tips, live, transfer.Options{Shallow: shallow, Staged: true})
		return err
	}
	plan := &test.Plan{}
	if m.oneIn(4) {
		plan.At, plan.Fault = 1+m.rand.IntN(80), pick(m, test.Faults...)
	}
	stop := plan.Start(m.t)
	sum, err := r.Collect(ctx, o)
	stop()
	m.note("bucket: gc, grace %v, shallow %v, updates %v: %+v, %v %v", o.Grace, o.Shallow, o.Updates, sum, plan.Where(), err)
	if err != nil && !plan.Reached() {
		m.fatal("bucket: gc: %v", err)
	}
	old := b.refs
	b.look(m.ann)
	if !maps.Equal(b.refs, want) && !(err != nil && maps.Equal(b.refs, old)) {
		m.fatal("bucket: gc made of %v %v, want %v", old, b.refs, want)
	}
	for id := range b.shallow {
		if !shallow[id] && !slices.Contains(o.Shallow, id) {
			m.fatal("bucket: gc cut history off at %s", id.Short())
		}
	}
	if err != nil {
		m.clone()
	}
}

// clone wants a clone of the bucket to be sound, and to hold what the model says.
func (m *model) clone() {
	m.t.Helper()
	s := &store{m: m, name: "clone", dir: m.path("clone"), used: map[string]int{}}
	defer os.RemoveAll(s.dir)
	must(m.t, s.dir, "clone", "-q", "bucket+file://"+m.bucket.dir, s.dir)
	must(m.t, s.dir, "pull", "-q", "--all")
	var err error
	if s.r, err = repo.Open(ctx, s.dir, repo.Options{}); err != nil {
		m.fatal("clone: %v", err)
	}
	defer s.r.Close()
	m.sound(s)
	s.is = s.look()
	for branch, id := range m.bucket.refs {
		if s.tip(branch) != id {
			m.fatal("clone: %s is at %s, want %s", branch, s.tip(branch).Short(), id.Short())
		}
		m.readAll(s, branch)
	}
	m.note("clone: %d branches", len(m.bucket.refs))
}
