package tests

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// with returns c with one more entry; without returns it without one.
func (c content) with(path string, id objects.ID) content {
	c = maps.Clone(c)
	if c == nil {
		c = content{}
	}
	c[path] = id
	return c
}

func (c content) without(path string) content {
	c = maps.Clone(c)
	delete(c, path)
	return c
}

// over returns c with what is staged over it: no payload is a removal.
func (c content) over(staged content) content {
	c = maps.Clone(c)
	if c == nil {
		c = content{}
	}
	for path, id := range staged {
		if c[path] = id; id.IsZero() {
			delete(c, path)
		}
	}
	return c
}

func (c content) paths() []string { return slices.Sorted(maps.Keys(c)) }

func (c content) String() string {
	var b strings.Builder
	for _, path := range c.paths() {
		_, key, _ := entry.ParsePath(path)
		b.WriteString(key[:min(len(key), 6)] + "=" + c[path].Short()[:4] + " ")
	}
	return b.String()
}

// A sight is what a store holds, as far as the model cares.
type sight struct {
	refs    map[string]objects.ID // by full name
	staged  map[string]content    // by branch
	entries map[objects.ID]bool   // ids of staged entries
	shallow map[objects.ID]bool
}

// A store is one repository.
type store struct {
	m     *model
	name  string
	dir   string
	names []string // of its branches
	lazy  bool     // it may lack what the bucket has
	r     *repo.Repo
	is    sight          // when it was looked at last
	used  map[string]int // on which day, by path
}

func (m *model) newStore(name string) *store {
	s := &store{m: m, name: name, dir: m.path(name), names: []string{"main", "main", "dev", "side", "peer", "keep"}, used: map[string]int{}}
	must(m.t, s.dir, "init", s.dir)
	must(m.t, s.dir, "config", "set", "gc.protected", "keep")
	must(m.t, s.dir, "config", "set", "stage.limit", "6")
	s.r = open(m.t, s.dir)
	s.is = s.look()
	return s
}

func (s *store) tip(branch string) objects.ID { return s.is.refs["refs/heads/"+branch] }

// visible returns what a branch holds, staged entries included.
func (s *store) visible(branch string) content { return s.m.visible(s.is, branch) }

func (m *model) visible(is sight, branch string) content {
	var c content
	if tip := is.refs["refs/heads/"+branch]; !tip.IsZero() {
		c = m.graph[tip].content
	}
	return c.over(is.staged[branch])
}

// use notes that entries are used today.
func (s *store) use(paths []string) {
	for _, path := range paths {
		s.used[path] = s.m.day
	}
	if err := uses.Note(s.dir, uses.Today(s.m.now()), paths...); err != nil {
		s.m.fatal("%v", err)
	}
}

// now is the time on the model's day.
func (m *model) now() time.Time { return time.Now().AddDate(0, 0, m.day) }

// look finds out what a store holds.
func (s *store) look() sight {
	m := s.m
	is := sight{refs: map[string]objects.ID{}, staged: map[string]content{}, entries: map[objects.ID]bool{}}
	for ref, err := range s.r.Refs.All(ctx, "") {
		if err != nil {
			m.fatal("%s: %v", s.name, err)
		}
		is.refs[string(ref.Name)] = ref.ID
	}
	var err error
	if is.shallow, err = s.r.Shallow(); err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	branches, err := stage.Branches(filepath.Join(s.dir, "stage"))
	if err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	for _, branch := range branches {
		records, err := s.r.Staged(ctx, refs.Branch(branch))
		if err != nil {
			m.fatal("%s: %v", s.name, err)
		}
		for _, record := range records {
			if !isCounted(record.Path) {
				continue
			}
			if is.staged[branch] == nil {
				is.staged[branch] = content{}
			}
			if record.ID.IsZero() {
				is.staged[branch][record.Path] = objects.ID{}
				continue
			}
			p, err := m.payload(s, record.ID)
			if err != nil {
				m.fatal("%s: staged %s: %v", s.name, record.Path, err)
			}
			is.entries[record.ID] = true
			is.staged[branch][record.Path] = p.id
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is.refs)) {
		m.learn(s, is.refs[name])
	}
	return is
}

// isCounted reports whether the model knows of such entries.
func isCounted(path string) bool {
	kind, _, _ := strings.Cut(path, "/")
	return kind == string(entry.Put) || kind == string(entry.Save) || kind == string(entry.Run)
}

// payload returns what is in an entry.
func (m *model) payload(s *store, id objects.ID) (payload, error) {
	if p, ok := m.kept[id]; ok {
		return p, nil
	}
	list, meta, err := entry.Read(ctx, s.r.DB, id)
	if err != nil {
		return payload{}, err
	}
	m.kept[id] = payload{objects.Sum(objects.Tree, list.Encode()), meta.Created}
	return m.kept[id], nil
}

// learn adds a commit and those behind it to what the model knows.
func (m *model) learn(s *store, id objects.ID) {
	if m.graph[id] != nil {
		return
	}
	c, err := objects.ReadCommit(ctx, s.r.DB, id)
	if err != nil {
		m.fatal("%s: commit %s: %v", s.name, id.Short(), err)
	}
	v := &version{parents: c.Parents, content: content{}, entries: map[objects.ID]bool{}}
	for _, p := range c.Parents {
		m.learn(s, p)
	}
	for found, err := range s.r.EntriesAt(ctx, c.Tree, "") {
		if err != nil {
			m.fatal("%s: commit %s: %v", s.name, id.Short(), err)
		}
		if !isCounted(found.Path) {
			continue
		}
		p, err := m.payload(s, found.ID)
		if err != nil {
			m.fatal("%s: commit %s: %s: %v", s.name, id.Short(), found.Path, err)
		}
		v.content[found.Path] = p.id
		v.entries[found.ID] = true
	}
	m.graph[id] = v
}

// behind returns the commits that tips descend from, and themselves, as far as
// history goes on.
func (m *model) behind(goesOn func(objects.ID) bool, tips ...objects.ID) map[objects.ID]bool {
	all := map[objects.ID]bool{}
	for queue := tips; len(queue) > 0; {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if id.IsZero() || all[id] || m.graph[id] == nil {
			continue
		}
		all[id] = true
		if goesOn == nil || goesOn(id) {
			queue = append(slices.Clip(queue), m.graph[id].parents...)
		}
	}
	return all
}

// bases returns the commits that two come from and that are not behind another one
// of these.
func (m *model) bases(goesOn func(objects.ID) bool, a, b objects.ID) (bases []objects.ID) {
	as, bs := m.behind(goesOn, a), m.behind(goesOn, b)
	for id := range as {
		if !bs[id] {
			delete(as, id)
		}
	}
	var above []objects.ID
	for id := range as {
		above = append(above, m.graph[id].parents...)
	}
	beaten := m.behind(nil, above...)
	for id := range as {
		if !beaten[id] {
			bases = append(bases, id)
		}
	}
	slices.SortFunc(bases, objects.ID.Compare)
	return bases
}

// merged returns what a branch may hold when theirs is merged into it, and whether
// entries are in conflict then. People may merge what has no history in common any
// more, since that was cut off.
func (m *model) merged(s *store, branch string, theirs objects.ID, policy string, byPeople bool) (all []content, conflicts bool) {
	ours, old := s.tip(branch), s.visible(branch)
	if theirs.IsZero() {
		return []content{old}, false
	}
	folded := ours.IsZero() && len(s.is.staged[branch]) > 0 || !ours.IsZero() && !maps.Equal(old, m.graph[ours].content)
	add := func(base content) {
		result, clash := threeWay(base, old, m.graph[theirs].content, policy)
		if conflicts = conflicts || clash; clash && policy == "" {
			result = old
		}
		all = append(all, result)
	}
	one := func(goesOn func(objects.ID) bool) {
		bases := m.bases(goesOn, ours, theirs)
		for _, id := range bases {
			switch {
			case id == theirs:
				all = append(all, old)
			case id == ours && !folded:
				all = append(all, m.graph[theirs].content)
			default:
				add(m.graph[id].content)
			}
		}
		if len(bases) == 0 && ours.IsZero() && !folded {
			all = append(all, m.graph[theirs].content)
		} else if len(bases) == 0 {
			add(nil)
		}
	}
	one(nil)
	isCut := func(id objects.ID) bool { return s.is.shallow[id] || m.bucket.shallow[id] || m.cat.is.shallow[id] }
	goesOn := func(id objects.ID) bool { return !isCut(id) }
	knows := true // all of what is behind theirs
	for id := range m.behind(goesOn, theirs) {
		knows = knows && goesOn(id)
	}
	if knows && slices.Equal(m.bases(goesOn, ours, theirs), m.bases(nil, ours, theirs)) {
		return all, conflicts && policy == ""
	}
	// What a remote had last is as good as what both come from. Where history here does not
	// lead to that any more, or somebody has begun the branch anew there, what was taken out
	// may come back.
	goesOnHere := func(id objects.ID) bool { return !s.is.shallow[id] }
	led := m.behind(goesOnHere, ours)
	known, setBack := false, false
	seen := m.seen(s, branch)
	if byPeople {
		for _, branch := range s.names {
			seen = append(seen, m.seen(s, branch)...)
		}
	}
	for _, id := range seen {
		if id != theirs && m.behind(nil, ours)[id] {
			known = known || led[id] && m.behind(nil, theirs)[id]
			setBack = setBack || !m.behind(nil, theirs)[id]
			add(m.graph[id].content)
		}
	}
	if byPeople || !known || setBack {
		one(goesOn)
		one(goesOnHere)
		add(nil)
	}
	return all, conflicts && policy == ""
}

// seen returns where a remote's branch was seen that a branch is pushed to, the last
// one last.
func (m *model) seen(s *store, branch string) (seen []objects.ID) {
	name := refs.Remote(m.remoteOf(branch), branch)
	moves, err := s.r.Refs.Log(ctx, name)
	if err != nil && !errors.Is(err, refs.ErrNotFound) {
		m.fatal("%s: %v", s.name, err)
	}
	for _, move := range moves {
		if m.graph[move.New] != nil {
			seen = append(seen, move.New)
		}
	}
	return seen
}

// threeWay merges, entries taken whole.
func threeWay(base, ours, theirs content, policy string) (result content, conflicts bool) {
	result = content{}
	for _, path := range slices.Concat(base.paths(), ours.paths(), theirs.paths()) {
		b, o, t := base[path], ours[path], theirs[path]
		id := o
		switch {
		case o == t || b == t:
		case b == o:
			id = t
		default:
			if conflicts = true; policy == "--theirs" {
				id = t
			}
		}
		if !id.IsZero() {
			result[path] = id
		}
	}
	return result, conflicts
}

// Wants say what each branch may hold afterwards; others do not change.
type wants map[string][]content

// A call is a command, and what must come of it.
type call struct {
	args    []string
	stdin   string
	code    int // that it may exit with, beside done
	want    wants
	halfway content   // what the one branch may hold as well if it is interrupted
	there   string    // the branch of the other side that may change
	content []content // and what that may hold then; nil if it goes
	tags    bool      // tags change
	learn   func(got content)
}

// do runs a command, which may be interrupted, and looks at all stores. It reports
// whether it was not.
func (m *model) do(s *store, c call) (r result, clean bool) {
	m.t.Helper()
	r, clean, how := m.interrupted(s, c)
	m.note("%s: %s%s -> %d %s", s.name, strings.Join(c.args, " "), how, r.code, strings.TrimSpace(strings.ReplaceAll(r.out+r.err, "\n", "; ")))
	before := s.is
	m.settle(s)
	s.is = s.look()
	if c.learn != nil {
		for branch := range c.want {
			c.learn(m.visible(s.is, branch))
		}
	}
	mayFail := !clean || r.code != done && (r.code == c.code || r.code == failed && m.anyLack(s))
	if r.code != done && !mayFail {
		m.fatal("%s: %v", s.name, r)
	}
	if clean && c.code == failed && r.code == done {
		m.fatal("%s: %v: want exit code %d", s.name, r, c.code)
	}
	for _, branch := range branchesOf(before, s.is) {
		old, now := m.visible(before, branch), m.visible(s.is, branch)
		all, touched := c.want[branch]
		if !touched {
			if before.refs["refs/heads/"+branch] != s.is.refs["refs/heads/"+branch] || !maps.Equal(old, now) {
				m.fatal("%s: branch %s has changed from %v to %v", s.name, branch, old, now)
			}
			continue
		}
		if mayFail {
			all = append(slices.Clip(all), old)
			if c.halfway != nil {
				all = append(all, c.halfway)
			}
		}
		if !slices.ContainsFunc(all, func(want content) bool { return maps.Equal(want, now) }) {
			m.fatal("%s: branch %s holds\n%v\nwant one of\n%v\nbefore\n%v", s.name, branch, now, all, old)
		}
	}
	for name, id := range before.refs {
		if now := s.is.refs[name]; strings.HasPrefix(name, "refs/tags/") && now != id && !c.tags {
			m.fatal("%s: %s has moved from %s to %s", s.name, name, id.Short(), now.Short())
		}
	}
	m.lookThere(s, c, mayFail)
	if !clean {
		m.sound(s)
	}
	return r, clean
}

// branchesOf returns the branches that there were and are.
func branchesOf(all ...sight) []string {
	names := map[string]bool{}
	for _, is := range all {
		for name := range is.refs {
			if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
				names[branch] = true
			}
		}
		for branch := range is.staged {
			names[branch] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// lookThere compares the other side with what a command may have made of it, and with
// what it was where it may not.
func (m *model) lookThere(s *store, c call, mayFail bool) {
	m.t.Helper()
	was := m.bucket.refs
	m.bucket.look(s)
	for _, name := range slices.Sorted(maps.Keys(union(was, m.bucket.refs))) {
		m.moved(s, c, "bucket", name, was[name], m.bucket.refs[name], mayFail)
	}
	if s == m.cat {
		return
	}
	before := m.cat.is
	m.cat.is = m.cat.look()
	for _, branch := range branchesOf(before, m.cat.is) {
		m.moved(s, c, "cat", branch, before.refs["refs/heads/"+branch], m.cat.tip(branch), mayFail)
		if !maps.Equal(before.staged[branch], m.cat.is.staged[branch]) {
			m.fatal("cat: what is staged for %s has changed", branch)
		}
	}
}

func union(a, b map[string]objects.ID) map[string]objects.ID {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// moved judges how a branch of the other side has moved.
func (m *model) moved(s *store, c call, where, branch string, was, is objects.ID, mayFail bool) {
	m.t.Helper()
	meant := c.there == branch && (branch == "peer") == (where == "cat")
	switch {
	case !meant && was != is:
		m.fatal("%s: branch %s has moved", where, branch)
	case !meant || mayFail && was == is:
	case c.content == nil && !is.IsZero():
		m.fatal("%s: branch %s is still there", where, branch)
	case c.content == nil:
	case is != s.tip(branch) && !mayFail:
		m.fatal("%s: branch %s is at %s, %s has it at %s", where, branch, is.Short(), s.name, s.tip(branch).Short())
	case !slices.ContainsFunc(c.content, func(want content) bool { return maps.Equal(want, m.graph[is].content) }):
		m.fatal("%s: branch %s holds\n%v\nwant one of\n%v", where, branch, m.graph[is].content, c.content)
	}
}

// interrupted runs a command; sometimes it comes to grief.
func (m *model) interrupted(s *store, c call) (r result, clean bool, how string) {
	args := c.args
	at, fault := 1+m.rand.IntN(40), pick(m, test.Faults...)
	switch n := m.rand.IntN(40); {
	case m.calm:
	case n == 0:
		cmd := process(s.dir, args...)
		cmd.Env = append(cmd.Env, test.KillEnv(at, m.oneIn(2)))
		cmd.Stdin = strings.NewReader(c.stdin)
		out, err := cmd.CombinedOutput()
		code := exitCode(err)
		r = result{code, string(out), "", args}
		if code != killed {
			return result{code, string(out), "", args}, code == done && !slices.Contains(args, "run"), " (not killed)"
		}
		return r, false, " (killed)"
	case n < 4:
		plan := &test.Plan{At: at, Fault: fault}
		stop := plan.Start(m.t)
		r = runWith([]byte(c.stdin), s.dir, args...)
		stop()
		if plan.Reached() {
			return r, false, " (" + plan.Where() + ")"
		}
		return r, true, ""
	}
	return runWith([]byte(c.stdin), s.dir, args...), true, ""
}

// settle opens a store anew if it has become lazy, or is no more.
func (m *model) settle(s *store) {
	value := ""
	r, err := repo.Open(ctx, s.dir, repo.Options{})
	if err == nil {
		value, _ = r.Config.Get("remote.origin.lazy")
		r.Close()
	}
	if err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	lazy := value == "true"
	if lazy == s.lazy {
		return
	}
	m.note("%s is lazy: %v", s.name, lazy)
	s.lazy = lazy
	s.r.Close()
	s.r, err = repo.Open(ctx, s.dir, repo.Options{Promise: func(string) repo.Promise { return bringer{m, s} }})
	if err != nil {
		m.fatal("%s: %v", s.name, err)
	}
	m.t.Cleanup(func() { s.r.Close() })
}

// reads reads a few keys of a branch.
func (m *model) reads(s *store, branch string, n int) {
	m.t.Helper()
	for range n {
		if m.oneIn(3) {
			m.read(s, branch, entry.Save, m.saveKey())
		} else {
			m.read(s, branch, entry.Put, m.putKey())
		}
	}
}

// readAll reads all that a branch holds.
func (m *model) readAll(s *store, branch string) {
	m.t.Helper()
	for _, path := range s.visible(branch).paths() {
		if kind, key, err := entry.ParsePath(path); err == nil && kind != entry.Run {
			m.read(s, branch, kind, key)
		}
	}
}

// read reads a key through a branch, and main after that.
func (m *model) read(s *store, branch string, kind entry.Kind, key string) {
	m.t.Helper()
	path := entry.Path(kind, key)
	want, ok := s.visible(branch)[path]
	if !ok {
		want, ok = s.visible("main")[path]
	}
	mayMiss := m.mayLack(s, branch) || m.mayLack(s, "main")
	var r result
	var got, value string
	if kind == entry.Put {
		r = run(s.dir, "--branch", branch, "get", key)
		got, value = r.out, m.values[want]
	} else {
		to := test.Dir(m.t)
		r = run(s.dir, "--branch", branch, "restore", key, "--to", to)
		if ok && r.code == done {
			left, err := os.ReadDir(to)
			if err != nil || len(left) != 1 || m.made[left[0].Name()] != want {
				m.fatal("%s: restored %v, %v", s.name, left, err)
			}
			got, value = test.Shape(m.t, filepath.Join(to, left[0].Name())), test.Shape(m.t, left[0].Name())
		}
		os.RemoveAll(to)
	}
	switch {
	case r.code == missed && (!ok || mayMiss):
	case r.code != done, !ok, got != value:
		m.note("%s: %v", s.name, tail(r.String()))
		m.fatal("%s: read %s in %s: exit code %d, %d bytes, want %v and %d bytes", s.name, key, branch, r.code, len(got), ok, len(value))
	default:
		if s.used[path] == 0 {
			s.used[path] = 0
		}
	}
}

// sound fails the test if fsck finds anything wrong.
func (m *model) sound(s *store) {
	m.t.Helper()
	for _, p := range problems(m.t, s.dir) {
		// The piece of a record, with records behind it by now.
		if !strings.Contains(p.What, "passed over") {
			m.fatal("%s: fsck: %q", s.name, p)
		}
	}
	if m.t.Failed() {
		m.fatal("%s: fsck", s.name)
	}
}
