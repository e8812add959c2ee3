package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// A model is told what is done to a few stores, and says what each branch of each of
// them may hold afterwards. Two machines, ann and bob, share branches over a bucket,
// and one more with cat, a repository that they reach by its path.
type model struct {
	t    *testing.T
	rand *rand.Rand
	seed uint64
	dir  string
	day  int  // how many days have passed since today
	calm bool // nothing is interrupted

	ann, bob, cat *store
	bucket        *share

	graph  map[objects.ID]*version // all commits that were ever seen
	kept   map[objects.ID]payload  // by the ids of entries
	values map[objects.ID]string   // what is in an entry of one value, by payload
	made   map[string]objects.ID   // payloads of saves and runs, by what they are made of
	runs   map[string]string       // where the entry of a run is, by its number
	public map[objects.ID]bool     // commits that the bucket had at any time
	log    []string                // what was done
	counts map[string]int          // how often
}

// A version is a commit as the model sees it: history that was cut off is in it.
type version struct {
	parents []objects.ID
	content content
	entries map[objects.ID]bool // their ids
}

// A content says which entries there are: payloads by paths.
type content map[string]objects.ID

// A payload is what is in an entry but for times and provenance.
type payload struct {
	id   objects.ID
	made time.Time
}

// TestModel does random things to stores and compares them with a model after each
// step. A failure prints the seed; CACHE_TOOL_SEED repeats it.
func TestModel(t *testing.T) {
	seeds := map[string]uint64{"fixed": 1, "random": rand.Uint64()}
	if given, err := strconv.ParseUint(os.Getenv("CACHE_TOOL_SEED"), 10, 64); err == nil {
		seeds = map[string]uint64{"given": given}
	}
	for name, seed := range seeds {
		t.Run(name, func(t *testing.T) {
			t.Logf("seed %d", seed)
			m := newModel(t, seed)
			steps := test.Count(t, 10_000) / len(seeds)
			for i := range steps {
				m.step(i)
			}
			m.finish()
			t.Logf("%d steps: %v", steps, m.counts)
		})
	}
}

func newModel(t *testing.T, seed uint64) *model {
	t.Helper()
	alone(t)
	m := &model{
		t: t, rand: rand.New(rand.NewPCG(seed, seed)), seed: seed, dir: test.Dir(t),
		graph: map[objects.ID]*version{}, kept: map[objects.ID]payload{}, values: map[objects.ID]string{},
		made: map[string]objects.ID{}, runs: map[string]string{}, public: map[objects.ID]bool{}, counts: map[string]int{},
	}
	for i := range variants {
		for j := range 4 {
			write(t, m.path("work", fmt.Sprint("tree", i), fmt.Sprint(j%2), fmt.Sprint("file", j)), strings.Repeat(fmt.Sprintln("line", i*j), 30*j))
		}
		write(t, m.path("work", fmt.Sprint("tree", i), "noise"), noise(uint64(i), 3000))
	}
	t.Chdir(m.path("work"))
	m.bucket = &share{m: m, dir: m.path("bucket"), refs: map[string]objects.ID{}}
	m.ann, m.bob, m.cat = m.newStore("ann"), m.newStore("bob"), m.newStore("cat")
	for _, s := range []*store{m.ann, m.bob} {
		must(t, s.dir, "remote", "add", "origin", "bucket+file://"+m.bucket.dir)
		must(t, s.dir, "remote", "add", "cat", m.cat.dir)
	}
	m.calm = true
	m.put(m.ann, "main", "p0", false)
	m.push(m.ann, "main")
	m.pull(m.bob, "main", false)
	m.calm = false
	return m
}

func (m *model) path(names ...string) string {
	return filepath.Join(append([]string{m.dir}, names...)...)
}

// note logs a step.
func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// fatal ends the test, and says how it came to that.
func (m *model) fatal(format string, args ...any) {
	m.t.Helper()
	for i, line := range m.log[max(0, len(m.log)-150):] {
		fmt.Fprintf(os.Stderr, "%4d %s\n", max(0, len(m.log)-150)+i, line)
	}
	m.t.Fatalf("seed %d, step %d: %s", m.seed, len(m.log), fmt.Sprintf(format, args...))
}

// pick returns one of some things.
func pick[T any](m *model, list ...T) T { return list[m.rand.IntN(len(list))] }

// oneIn is true once in so many times.
func (m *model) oneIn(n int) bool { return m.rand.IntN(n) == 0 }

// Keys tell the kind of their entries: p is put, s is saved.
const (
	putKeys  = 10
	saveKeys = 3
	runKeys  = 5
	variants = 5 // of what is saved
)

// step does one thing.
func (m *model) step(i int) {
	s := pick(m, m.ann, m.bob, m.ann, m.bob, m.cat)
	branch := pick(m, s.names...)
	chances := []struct {
		n    int
		name string
		do   func()
	}{
		{14, "put", func() { m.put(s, branch, m.putKey(), false) }},
		{8, "stage", func() { m.put(s, branch, m.putKey(), true) }},
		{8, "save", func() { m.save(s, branch, m.oneIn(3)) }},
		{8, "run", func() { m.run(s, branch) }},
		{8, "rm", func() { m.rm(s, branch, m.oneIn(3)) }},
		{3, "commit", func() { m.commit(s, branch) }},
		{3, "branch", func() { m.makeBranch(s) }},
		{1, "branch -D", func() { m.deleteBranch(s) }},
		{2, "tag", func() { m.tag(s, branch) }},
		{4, "merge", func() { m.merge(s) }},
		{3, "revert", func() { m.revert(s, branch) }},
		{1, "reset", func() { m.reset(s, branch) }},
		{14, "push", func() { m.push(s, branch) }},
		{1, "push -d", func() { m.deleteRemote(s) }},
		{11, "pull", func() { m.pull(s, branch, m.oneIn(12)) }},
		{3, "fetch", func() { m.fetch(s) }},
		{2, "complete", func() { m.complete(s) }},
		{8, "gc", func() { m.gc(s) }},
		{4, "gc of the bucket", func() { m.bucket.gc() }},
		{2, "a day", func() { m.pass() }},
		{4, "reads", func() { m.reads(s, branch, 5) }},
		{1, "clone", func() { m.clone() }},
	}
	sum := 0
	for _, c := range chances {
		sum += c.n
	}
	n := m.rand.IntN(sum)
	for _, c := range chances {
		if n -= c.n; n < 0 {
			m.counts[c.name]++
			c.do()
			break
		}
	}
	s = pick(m, m.ann, m.bob, m.cat)
	m.reads(s, pick(m, s.names...), 1)
	if i%100 == 99 {
		m.clone()
	}
}

func (m *model) putKey() string  { return fmt.Sprint("p", m.rand.IntN(putKeys)) }
func (m *model) saveKey() string { return fmt.Sprint("s", m.rand.IntN(saveKeys)) }

// value makes something to be put: small or big, new or as it was once before.
func (m *model) value() string {
	n := uint64(m.rand.IntN(60))
	switch {
	case n < 2:
		return noise(n, 200_000) + noise(n+100, 100_000)
	case n < 6: // which has pieces in common with those above
		return noise(n%2, 200_000) + noise(n, 50_000)
	case n < 20:
		return noise(n, 2000)
	}
	return fmt.Sprint("value ", n)
}

// put puts a value, or stages it.
func (m *model) put(s *store, branch, key string, stage bool) {
	value := m.value()
	blob := objects.Sum(objects.Blob, []byte(value))
	id := objects.Sum(objects.Tree, objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: blob}}.Encode())
	m.values[id] = value
	want := s.visible(branch).with(entry.Path(entry.Put, key), id)
	m.do(s, call{stdin: value, args: staging(stage, "--branch", branch, "put", key), want: wants{branch: {want}}})
}

func staging(stage bool, args ...string) []string {
	if stage {
		args = append(args, "--stage")
	}
	return args
}

// save saves one of a few trees.
func (m *model) save(s *store, branch string, stage bool) {
	key, from := m.saveKey(), fmt.Sprint("tree", m.rand.IntN(variants))
	path := entry.Path(entry.Save, key)
	old := s.visible(branch)
	want := old.with(path, m.made[from])
	m.do(s, call{args: staging(stage, "--branch", branch, "save", "--no-times", key, from), want: wants{branch: {want}}, learn: func(got content) {
		if m.made[from].IsZero() && got[path] != old[path] {
			m.made[from] = got[path]
			want[path] = got[path]
		}
	}})
}

// run runs a command, which must be run for real if its result is in no branch that
// is looked at.
func (m *model) run(s *store, branch string) {
	n := fmt.Sprint(m.rand.IntN(runKeys))
	log := m.path("log")
	before := lines(m.t, log)
	old := s.visible(branch)
	path, known := m.runs[n]
	here, inMain := old[path], s.visible("main")[path]
	hit := known && (!here.IsZero() || !inMain.IsZero())
	want := old
	if !hit {
		want = old.with(path, m.made["run"+n])
	}
	all := []content{want}
	if hit && m.mayLack(s, branch) {
		all = append(all, old.with(path, m.made["run"+n]))
	}
	os.Remove("made" + n)
	r, clean := m.do(s, call{
		args: []string{"--branch", branch, "run", "--out", "made" + n, "--", "sh", "-c", fmt.Sprintf("echo %s >>%s; echo out %s >made%s; echo said %s", n, log, n, n, n)},
		want: wants{branch: all},
		learn: func(got content) {
			for p, id := range got {
				if _, had := old[p]; !had && !known && strings.HasPrefix(p, string(entry.Run)+"/") {
					m.runs[n], m.made["run"+n] = p, id
					want[p] = id
					delete(want, "")
				}
			}
		},
	})
	if !clean {
		return
	}
	if r.code != done || r.out != "said "+n+"\n" || read(m.t, "made"+n) != "out "+n+"\n" {
		m.fatal("%v", r)
	}
	ran := lines(m.t, log) - before
	if ran != 0 && hit && !m.mayLack(s, branch) || ran != 1 && !hit {
		m.fatal("the command ran %d times; should it have been a hit: %v", ran, hit)
	}
}

// rm removes an entry, which may not be there.
func (m *model) rm(s *store, branch string, stage bool) {
	kind, key := entry.Put, m.putKey()
	if m.oneIn(4) {
		kind, key = entry.Save, m.saveKey()
	}
	path := entry.Path(kind, key)
	old := s.visible(branch)
	c := call{args: staging(stage, "--branch", branch, "rm", key), want: wants{branch: {old.without(path)}}}
	if _, ok := old[path]; !ok {
		c.want, c.code = wants{branch: {old}}, failed
	}
	m.do(s, c)
}

func (m *model) commit(s *store, branch string) {
	m.do(s, call{args: []string{"--branch", branch, "commit"}, want: wants{branch: {s.visible(branch)}}})
}

// makeBranch makes a branch where another one is.
func (m *model) makeBranch(s *store) {
	name, from := pick(m, s.names...), pick(m, s.names...)
	tip := s.tip(from)
	if !s.tip(name).IsZero() || tip.IsZero() {
		return
	}
	want := m.graph[tip].content.over(s.is.staged[name])
	m.do(s, call{args: []string{"branch", name, from}, want: wants{name: {want}}})
}

func (m *model) deleteBranch(s *store) {
	name := pick(m, s.names...)
	if name == "main" || s.tip(name).IsZero() {
		return
	}
	m.do(s, call{args: []string{"branch", "-D", name}, want: wants{name: {{}}}, halfway: content{}.over(s.is.staged[name])})
}

// tag makes a tag, or deletes it.
func (m *model) tag(s *store, branch string) {
	name := fmt.Sprint("v", m.rand.IntN(3))
	args := []string{"tag", name, branch}
	if _, ok := s.is.refs["refs/tags/"+name]; ok {
		args = []string{"tag", "-d", name}
	} else if s.tip(branch).IsZero() {
		return
	}
	m.do(s, call{args: args, tags: true})
}

// merge merges a branch into another, as people do.
func (m *model) merge(s *store) {
	branch, from := pick(m, s.names...), pick(m, s.names...)
	theirs := s.tip(from)
	if branch == from || theirs.IsZero() {
		return
	}
	policy := pick(m, "", "--ours", "--theirs")
	args := []string{"--branch", branch, "merge", from}
	if policy != "" {
		args = append(args, policy)
	}
	all, conflicts := m.merged(s, branch, theirs, policy, true)
	c := call{args: args, want: wants{branch: all}}
	if conflicts {
		c.code = conflict
	}
	m.do(s, c)
}

// revert takes back the last commit of a branch.
func (m *model) revert(s *store, branch string) {
	tip := s.tip(branch)
	c := call{args: []string{"--branch", branch, "revert", branch, "--ours"}}
	if tip.IsZero() {
		return
	}
	v, old := m.graph[tip], s.visible(branch)
	before := content{}
	if len(v.parents) > 0 {
		before = m.graph[v.parents[0]].content
	}
	result, _ := threeWay(v.content, old, before, "--ours")
	c.want = wants{branch: {result}}
	if s.is.shallow[tip] && len(v.parents) > 0 {
		c.want, c.code = wants{branch: {old}}, failed
	}
	m.do(s, c)
}

// reset moves a branch to the commit before.
func (m *model) reset(s *store, branch string) {
	tip := s.tip(branch)
	if tip.IsZero() || len(m.graph[tip].parents) == 0 || s.is.shallow[tip] {
		return
	}
	want := m.graph[m.graph[tip].parents[0]].content.over(s.is.staged[branch])
	m.do(s, call{args: []string{"--branch", branch, "reset", branch + "~1"}, want: wants{branch: {want}}})
}

// A place is where a branch is pushed to.
func (m *model) remoteOf(branch string) string {
	if branch == "peer" {
		return "cat"
	}
	return "origin"
}

// push pushes a branch; what it must be merged with is merged first.
func (m *model) push(s *store, branch string) {
	if s == m.cat || branch == "keep" || s.tip(branch).IsZero() && len(s.is.staged[branch]) == 0 {
		return
	}
	all, _ := m.merged(s, branch, m.there(branch), "--theirs", false)
	c := call{args: []string{"--branch", branch, "push", m.remoteOf(branch), branch}, want: wants{branch: all}, there: branch, content: all}
	m.do(s, c)
}

// there returns where a branch is that is pushed to.
func (m *model) there(branch string) objects.ID {
	if branch == "peer" {
		return m.cat.tip(branch)
	}
	return m.bucket.refs[branch]
}

// deleteRemote deletes a branch in the bucket.
func (m *model) deleteRemote(s *store) {
	name := pick(m, "dev", "side")
	if s == m.cat || m.bucket.refs[name].IsZero() {
		return
	}
	m.do(s, call{args: []string{"push", "origin", ":" + name}, there: name})
}

// pull pulls a branch.
func (m *model) pull(s *store, branch string, lazy bool) {
	theirs := m.there(branch)
	if s == m.cat || theirs.IsZero() || branch == "keep" {
		return
	}
	args := []string{"--branch", branch, "pull", m.remoteOf(branch), branch}
	if lazy && branch != "peer" {
		args = append(args, "--lazy")
	}
	all, _ := m.merged(s, branch, theirs, "--theirs", false)
	m.do(s, call{args: args, want: wants{branch: all}})
}

func (m *model) fetch(s *store) {
	if s == m.cat {
		return
	}
	args := []string{"fetch", pick(m, "origin", "cat")}
	if args[1] == "cat" && len(m.cat.is.refs) == 0 {
		return
	}
	if m.oneIn(2) {
		args = append(args, "--prune")
	}
	m.do(s, call{args: args})
}

// complete fetches all that a repository lacks.
func (m *model) complete(s *store) {
	if s != m.cat && s.lazy {
		m.do(s, call{args: []string{"fetch", "--all-content", "origin"}})
	}
}

// pass lets a day pass, on which some entries are used.
func (m *model) pass() {
	m.day++
	for _, s := range m.stores() {
		var used []string
		for _, branch := range s.names {
			for _, path := range s.visible(branch).paths() {
				if m.oneIn(3) && !slices.Contains(used, path) {
					used = append(used, path)
				}
			}
		}
		s.use(used)
	}
	m.note("day %d", m.day)
}

func (m *model) stores() []*store { return []*store{m.ann, m.bob, m.cat} }

// finish wants everything to be sound, and to read as the model says.
func (m *model) finish() {
	for _, s := range m.stores() {
		m.sound(s)
		for _, branch := range s.names {
			m.readAll(s, branch)
		}
		m.sound(s)
	}
	m.clone()
}
