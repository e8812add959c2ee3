package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// A Donor gives Repair what is missing: a remote.
type Donor interface {
	String() string

	// Fetch brings those of ids that it has, objects and chunks, each proven. An
	// error says that it could not be asked.
	Fetch(ctx context.Context, ids []objects.ID) error
}

// RepairOptions say how Repair works. The zero value works, without a remote.
type RepairOptions struct {
	CheckOptions

	Donors []Donor // asked in this order
}

// Repaired is something that Repair did.
type Repaired struct {
	Where string
	What  string
}

// Repair makes the repository whole, as far as that can be: what is damaged or missing
// is fetched; what can't be had again is taken out, so that it is a miss, in a commit
// on each branch that has it; refs go back to the newest value that is here; history
// that can't be had is cut off. Nothing that is good is lost, and others may read and
// write meanwhile. If a donor can't be asked, nothing is taken out: it may have what is missing.
//
// Did is told of each step, and left of each problem that is left.
func (r *Repo) Repair(ctx context.Context, o RepairOptions, did func(Repaired), left func(Problem)) (Checked, error) {
	m := &mender{
		r: r, o: o, did: did,
		down: map[Donor]error{}, came: map[Donor]int{}, lost: map[objects.ID]bool{}, hit: map[string]int{},
	}
	ctx = odb.Local(ctx) // who is asked, and for what, is decided here
	for _, part := range []func(context.Context) error{
		m.heads, m.packs, m.shallow, m.bring, m.refs, m.stages, m.takeOut, m.cut, m.logs,
	} {
		if err := part(ctx); err != nil {
			return Checked{}, err
		}
	}
	sum, err := r.Check(ctx, CheckOptions{Quick: true}, left)
	if err != nil || sum.Problems == 0 {
		return sum, err
	}
	for _, s := range o.Donors {
		if err := m.down[s]; err != nil {
			sum.Problems++
			left(Problem{Where: s.String(), What: fmt.Sprintf("it could not be asked: %v", err),
				Hint: "nothing was taken out that it may have: run this again when it answers, or name the remotes to be asked"})
		}
	}
	return sum, nil
}

// A mender repairs one repository once.
type mender struct {
	r   *Repo
	o   RepairOptions
	did func(Repaired)

	down map[Donor]error     // those that could not be asked
	came map[Donor]int       // how many objects came
	lost map[objects.ID]bool // what no donor has
	hit  map[string]int      // how many objects are damaged in a pack

	holes *holes // made when all is fetched
}

func (m *mender) done(where, format string, args ...any) {
	m.did(Repaired{where, fmt.Sprintf(format, args...)})
}

// isUnsure reports whether something may be had later that can't be had now.
func (m *mender) isUnsure() bool { return len(m.down) > 0 }

// heads mends what says where the refs are.
func (m *mender) heads(ctx context.Context) error {
	if m.r.Refs.CheckJournal(ctx) != nil {
		dropped, err := m.r.Refs.DropJournal(ctx)
		if err != nil {
			return err
		}
		if dropped {
			m.done("refs.journal", "removed: nobody could read it; refs that were to move together may have moved in part")
		}
	}
	near := m.r.Refs.HeadNeighbours(ctx)
	if _, err := m.r.Refs.Head(ctx); err == nil && len(near) == 0 {
		return nil
	}
	head := m.someHead(ctx, near)
	if err := m.r.Refs.SetHead(ctx, head); err != nil {
		return err
	}
	m.done("HEAD", "it names %s again", head)
	return nil
}

// someHead returns the default branch of a repository that does not say which it is:
// one of near, if there are any.
func (m *mender) someHead(ctx context.Context, near []refs.Name) refs.Name {
	usual := refs.Branch(DefaultBranch)
	if len(near) == 0 {
		for ref := range m.r.Refs.All(ctx, "refs/heads/") {
			near = append(near, ref.Name)
		}
	}
	if slices.Contains(near, usual) || len(near) == 0 || near[0] == "" {
		return usual
	}
	return near[0]
}

// packs finds what is damaged in packs, fetches what is lost with it, and leaves
// in the packs what can be read and nothing else.
func (m *mender) packs(ctx context.Context) error {
	var bad []string
	var made []objects.ID
	var want []objects.ID
	err := m.r.DB.Verify(ctx, odb.VerifyOptions{Quick: m.o.Quick, Progress: m.o.Progress}, func(p odb.Problem) {
		switch {
		case p.Pack != "":
			bad = append(bad, p.Pack)
			if !p.ID.IsZero() {
				m.hit[p.Pack]++
			}
		case !p.ID.IsZero():
			made = append(made, p.ID)
		}
		if p.Lost && !p.ID.IsZero() {
			want = append(want, p.ID)
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(bad)
	dropped, err := m.mend(ctx, slices.Compact(bad), nil)
	if err != nil {
		return err
	}
	want = append(want, dropped...)
	for _, id := range made {
		parts, err := m.r.DB.Parts(ctx, id)
		if err != nil {
			continue // it is gone with a pack
		}
		want = append(want, parts...)
	}
	for _, id := range want {
		m.lost[id] = true
	}
	if err := m.fetch(ctx, want); err != nil {
		return err
	}
	return m.dropBroken(ctx, made)
}

// mend rewrites packs, and returns what they do not have any more.
func (m *mender) mend(ctx context.Context, packs []string, drop func(objects.ID) bool) ([]objects.ID, error) {
	all, err := m.r.DB.Mend(ctx, packs, drop)
	var dropped []objects.ID
	for _, p := range all {
		packs = slices.DeleteFunc(packs, func(name string) bool { return name == p.Pack })
		dropped = append(dropped, p.Dropped...)
		switch {
		case p.Err != nil: // the check at the end says so
		case p.Index:
			m.done("packs", "pack %s: its index is made anew", p.Pack)
		default:
			what := "rewritten with all that is good in it"
			if n := max(len(p.Dropped), m.hit[p.Pack]); n > 0 {
				what += ", without " + counted(n, "damaged object")
			}
			m.done("packs", "pack %s: %s", p.Pack, what)
		}
	}
	for _, name := range packs { // whoever met a damaged index has made it anew
		m.done("packs", "pack %s: its index is made anew", name)
	}
	return dropped, err
}

// dropBroken takes out of the packs what is made of parts that can't be had: then it
// is missing, and may be had as a whole.
func (m *mender) dropBroken(ctx context.Context, made []objects.ID) error {
	broken, err := m.unreadable(ctx, made)
	if err != nil || len(broken) == 0 {
		return err
	}
	if _, err := m.r.DB.KeepWhole(ctx, broken); err != nil {
		return err
	}
	if broken, err = m.unreadable(ctx, broken); err != nil || len(broken) == 0 {
		return err
	}
	if m.isUnsure() {
		return nil // its parts may come later, and the list of them is good
	}
	drop := map[objects.ID]bool{}
	for _, id := range broken {
		drop[id], m.lost[id] = true, true
	}
	packs, err := m.r.DB.PacksOf(broken)
	if err != nil {
		return err
	}
	if _, err := m.mend(ctx, packs, func(id objects.ID) bool { return drop[id] }); err != nil {
		return err
	}
	return m.fetch(ctx, broken)
}

// unreadable returns those of ids that can't be read to their end.
func (m *mender) unreadable(ctx context.Context, ids []objects.ID) ([]objects.ID, error) {
	var broken []objects.ID
	for _, id := range ids {
		o, err := m.r.DB.Open(ctx, id)
		if err == nil {
			_, err = io.Copy(io.Discard, o.Body)
			o.Body.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			broken = append(broken, id)
		}
	}
	return broken, nil
}

// fetch brings what can be had of ids, from one donor after the other.
func (m *mender) fetch(ctx context.Context, ids []objects.ID) error {
	for _, s := range m.o.Donors {
		missing, err := m.r.DB.Missing(ctx, ids)
		if err != nil || len(missing) == 0 {
			return err
		}
		if m.down[s] != nil {
			continue
		}
		err = s.Fetch(ctx, missing)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.down[s] = err
		}
		now, err := m.r.DB.Missing(ctx, missing)
		if err != nil {
			return err
		}
		if n := len(missing) - len(now); n > 0 {
			m.came[s] += n
		}
		ids = now
	}
	return nil
}

// bring fetches what refs and the stage lead to and is not here, however deep what
// comes leads.
func (m *mender) bring(ctx context.Context) error {
	var missing []objects.ID
	c := &checker{repo: m.r, report: func(Problem) {}, lost: func(_ tip, l reach.Missing) { missing = append(missing, l.ID) }}
	for _, part := range []func(context.Context) error{c.refs, c.stages, c.reach} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	for len(missing) > 0 {
		if err := m.fetch(ctx, missing); err != nil {
			return err
		}
		still, err := m.r.DB.Missing(ctx, missing)
		if err != nil {
			return err
		}
		gone := map[objects.ID]bool{}
		for _, id := range still {
			gone[id], m.lost[id] = true, true
		}
		came := slices.DeleteFunc(missing, func(id objects.ID) bool { return gone[id] })
		if missing, err = m.below(ctx, came); err != nil {
			return err
		}
	}
	for _, s := range m.o.Donors {
		if n := m.came[s]; n > 0 {
			m.done("objects", "%s fetched from %s", counted(n, "object"), s)
		}
	}
	m.holes = newHoles(m.r.DB, nil)
	if m.r.IsLazy() {
		m.holes.promised = func(id objects.ID) bool { return !m.lost[id] }
	}
	return nil
}

// below returns what is missing of all that ids lead to.
func (m *mender) below(ctx context.Context, ids []objects.ID) (missing []objects.ID, err error) {
	if len(ids) == 0 || m.r.IsLazy() { // what comes leads to what is promised
		return nil, nil
	}
	shallow, err := m.r.Shallow()
	if err != nil {
		shallow = nil // it is mended later
	}
	err = reach.Walk(ctx, m.r.DB, ids, reach.Options{
		CheckBlobs: true,
		Unplaced:   true,
		Shallow:    func(id objects.ID) bool { return shallow[id] },
		Missing: func(l reach.Missing) error {
			if !m.lost[l.ID] {
				missing = append(missing, l.ID)
			}
			return nil
		},
	})
	return missing, err
}

// shallow mends the file of commits whose parents were cut off: lines that make no
// sense go, and a commit of which a digit is damaged is put right. Those that are
// missing then are found with the history.
func (m *mender) shallow(ctx context.Context) error {
	text, err := m.r.readShallow()
	if err != nil {
		return err
	}
	shallow, bad := parseShallow(text)
	damaged := len(bad) > 0
	for _, line := range bad {
		for _, id := range m.likeIDs(ctx, line) {
			shallow[id] = true
		}
	}
	for id := range shallow {
		if near, ok := m.r.neighbour(ctx, id); ok {
			delete(shallow, id)
			shallow[near] = true
			damaged = true
		}
	}
	if !damaged {
		return nil
	}
	if err := m.r.replaceShallow(ctx, text, shallow); err != nil {
		return err
	}
	m.done("shallow", "made anew of the %s in it that can be read, and of what is missing in history", counted(len(shallow), "commit"))
	return nil
}

// likeIDs returns the commits that are here and that a damaged line named.
func (m *mender) likeIDs(ctx context.Context, line string) (ids []objects.ID) {
	const digits = 2 * objects.IDSize
	for ; len(line) >= digits; line = line[min(len(line), digits+1):] { // a line break may be what is damaged
		id, err := objects.ParseID(strings.Map(func(c rune) rune {
			if strings.ContainsRune("0123456789abcdefABCDEF", c) {
				return c
			}
			return '0'
		}, line[:digits]))
		if err != nil {
			continue
		}
		if _, err := objects.ReadCommit(ctx, m.r.DB, id); err == nil {
			ids = append(ids, id)
		} else if near, ok := m.r.neighbour(ctx, id); ok {
			ids = append(ids, near)
		}
	}
	return ids
}

// refs sets those back that point to what can't be had.
func (m *mender) refs(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "") {
		var damaged *refs.DamagedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.As(err, &damaged):
			return err
		case err == nil:
			if _, ok := m.readable(ctx, ref.ID, ref.Name); ok {
				continue
			}
			if _, ok := m.r.neighbour(ctx, ref.ID); m.isUnsure() && !ok {
				continue
			}
		}
		if err := m.setBack(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// readable reports whether what a ref may point to is here, and for a branch its root tree.
func (m *mender) readable(ctx context.Context, id objects.ID, name refs.Name) (tree objects.ID, ok bool) {
	k, body, err := objects.Read(ctx, m.r.DB, id)
	if err == nil && k == objects.Tag && !name.IsBranch() {
		t, err := objects.ParseTag(body)
		return tree, err == nil && t.Object != id
	}
	if err != nil || k != objects.Commit {
		return tree, false
	}
	c, err := objects.ParseCommit(body)
	return c.Tree, err == nil
}

func (m *mender) setBack(ctx context.Context, ref refs.Ref) error {
	to, ok, err := m.earlier(ctx, ref)
	if err != nil {
		return err
	}
	where := string(ref.Name)
	what := "what it pointed to can't be had"
	if ref.ID.IsZero() {
		what = "its file was damaged"
	}
	if !ok && strings.HasPrefix(string(ref.Name), "refs/remotes/") && !ref.ID.IsZero() {
		err := m.r.Refs.Apply(ctx, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "fsck: " + what})
		if err == nil {
			m.done(where, "forgotten: %s; the next fetch brings it again", what)
		}
		return passed(err)
	}
	if !ok {
		return nil // the check at the end says so
	}
	err = m.r.Refs.SetBack(ctx, ref.Name, ref.ID, to, "fsck: set back, as "+what)
	if err == nil {
		m.done(where, "%s: it is at %s now, the newest value known that is here", what, to.Short())
	}
	return passed(err)
}

// passed drops the error of a ref that somebody else has moved: it is none of ours
// any more.
func passed(err error) error {
	if errors.As(err, new(*refs.ConflictError)) {
		return nil
	}
	return err
}

// earlier returns the newest value of a ref that is here. Where no reflog says what it
// was, a branch is where it was at a remote.
func (m *mender) earlier(ctx context.Context, ref refs.Ref) (objects.ID, bool, error) {
	if near, ok := m.r.neighbour(ctx, ref.ID); ok && !ref.ID.IsZero() {
		return near, true, nil // a digit of it is damaged
	}
	moves, err := m.r.Refs.Log(ctx, ref.Name)
	if err != nil {
		return objects.ID{}, false, err
	}
	for _, move := range slices.Backward(moves) {
		for _, id := range [...]objects.ID{move.New, move.Old} {
			if tree, ok := m.readable(ctx, id, ref.Name); ok && (tree.IsZero() || m.hasRoot(ctx, tree)) {
				return id, true, nil
			}
		}
	}
	if ref.Name.IsBranch() {
		for there, err := range m.r.Refs.All(ctx, "refs/remotes/") {
			_, branch, _ := strings.Cut(strings.TrimPrefix(string(there.Name), "refs/remotes/"), "/")
			if _, ok := m.readable(ctx, there.ID, ref.Name); err == nil && ok && branch == ref.Name.Short() {
				return there.ID, true, nil
			}
		}
	}
	return objects.ID{}, false, nil
}

func (m *mender) hasRoot(ctx context.Context, tree objects.ID) bool {
	_, err := objects.ReadTree(ctx, m.r.DB, tree)
	return err == nil || m.holes.isPromised(tree)
}

// takeOut takes entries out of branches that are not whole, as a commit on each. It
// follows the newest commits that are whole: those between would have to be cut off.
func (m *mender) takeOut(ctx context.Context) error {
	if m.isUnsure() {
		return nil
	}
	for ref, err := range m.r.Refs.All(ctx, "refs/heads/") {
		if err != nil {
			continue // it is left
		}
		if err := m.takeOutOf(ctx, ref.Name); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) takeOutOf(ctx context.Context, branch refs.Name) error {
	const tries = 20
	for try := 1; ; try++ {
		tip, root, err := m.r.Tip(ctx, branch)
		if errors.Is(err, objects.ErrNotFound) {
			return nil // there is nothing to go back to
		}
		if err != nil {
			return err
		}
		clear(m.holes.broken) // it may have been put again meanwhile
		edits, err := m.holes.edits(ctx, "", root)
		if err != nil || len(edits) == 0 {
			return err
		}
		parents, err := m.wholeBefore(ctx, tip)
		if err != nil {
			return err
		}
		commit, err := m.r.commitWithout(ctx, branch, tip, root, parents, edits)
		if errors.As(err, new(*refs.ConflictError)) && try < tries {
			continue // somebody committed meanwhile
		}
		if err == nil {
			m.done(string(branch), "%s taken out, as commit %s: %s", counted(len(edits), "damaged entry"), commit.Short(), strings.Join(lostLines(edits), ", "))
		}
		return err
	}
}

// wholeBefore returns the newest commits before tip, which is not whole, that are:
// what stands between nobody could push any more.
func (m *mender) wholeBefore(ctx context.Context, tip objects.ID) ([]objects.ID, error) {
	shallow, err := m.r.Shallow()
	if err != nil {
		return nil, err
	}
	var whole []objects.ID
	seen := new(reach.Set)
	for queue := []objects.ID{tip}; len(queue) > 0; queue = queue[1:] {
		c, err := objects.ReadCommit(ctx, m.r.DB, queue[0])
		if err != nil || shallow[queue[0]] {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		for _, p := range c.Parents {
			if !seen.Add(p) {
				continue
			}
			ok, err := m.isWholeCommit(ctx, p)
			switch {
			case err != nil:
				return nil, err
			case ok:
				whole = append(whole, p)
			default:
				queue = append(queue, p)
			}
		}
	}
	return m.newestOf(ctx, whole), nil
}

// newestOf drops the commits that others of them descend from.
func (m *mender) newestOf(ctx context.Context, commits []objects.ID) []objects.ID {
	return slices.DeleteFunc(slices.Clone(commits), func(id objects.ID) bool {
		return slices.ContainsFunc(commits, func(other objects.ID) bool {
			base, err := m.r.MergeBase(ctx, id, other)
			return other != id && err == nil && base == id
		})
	})
}

// commitWithout commits root without what edits take out.
func (r *Repo) commitWithout(ctx context.Context, branch refs.Name, tip, root objects.ID, parents []objects.ID, edits []trees.Edit) (objects.ID, error) {
	b, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, err
	}
	defer b.Close()
	tree := root
	if edits[0].Path == "" {
		tree, err = b.PutTree(nil, objects.ID{})
	} else {
		tree, err = trees.Apply(ctx, b, b, root, edits)
	}
	if err != nil {
		return objects.ID{}, fmt.Errorf("%s: %w", branch.Short(), err)
	}
	subject := "Take out " + counted(len(edits), "damaged entry")
	message := subject + "\n\nThey could not be had again.\n\n" + strings.Join(lostLines(edits), "\n") + "\n"
	commit, err := r.putCommit(b, tree, parents, r.withProvenance(message))
	if err != nil {
		return objects.ID{}, err
	}
	if err := b.Commit(ctx, odb.Durable); err != nil {
		return objects.ID{}, err
	}
	return commit, r.Refs.Apply(ctx, refs.Update{Name: branch, Old: tip, New: commit, Reason: "fsck: " + subject})
}

// lostLines names what is taken out, a few hundred at most.
func lostLines(edits []trees.Edit) []string {
	const most = 500
	var lines []string
	for i, e := range edits {
		if i == most {
			return append(lines, fmt.Sprintf("and %d more", len(edits)-i))
		}
		kind, key, err := entry.ParsePath(e.Path)
		switch {
		case e.Path == "":
			lines = append(lines, "all entries: the tree that listed them is lost")
		case err == nil:
			lines = append(lines, fmt.Sprintf("%s %s", kind, key))
		default:
			lines = append(lines, fmt.Sprintf("all below %s: the tree that listed it is lost", e.Path))
		}
	}
	return lines
}

// stages drops what is damaged in the stage, and what is staged and not whole.
func (m *mender) stages(ctx context.Context) error {
	branches, err := stage.Branches(m.r.path("stage"))
	if err != nil {
		return err
	}
	for _, branch := range branches {
		if err := m.stage(ctx, branch); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) stage(ctx context.Context, branch string) error {
	damaged := ""
	name := refs.Branch(branch)
	s := stage.Open(m.r.path("stage"), branch, stage.Options{
		Warn:   func(text string) { damaged = text },
		Folded: func(ctx context.Context, seq uint64) (bool, error) { return m.r.folded(ctx, name, seq) },
	})
	records, err := s.All(ctx)
	if err != nil {
		return nil // it is left
	}
	here := newHoles(m.r.DB, nil)
	keep := func(r stage.Record) bool {
		if r.ID.IsZero() || m.isUnsure() {
			return true
		}
		k := r.Mode.Kind()
		whole, err := here.isWhole(ctx, r.ID, k)
		return whole || err != nil
	}
	if damaged == "" && !slices.ContainsFunc(records, func(r stage.Record) bool { return !keep(r) }) {
		return nil
	}
	here = newHoles(m.r.DB, nil) // what was missing may have been put meanwhile
	dropped, err := s.Mend(ctx, keep)
	if err != nil {
		return err
	}
	where := "stage of " + branch
	if damaged != "" {
		m.done(where, "its journal is written anew with all that can be read")
	}
	for _, r := range dropped {
		m.done(where, "dropped %s: it is incomplete", r.Path)
	}
	return nil
}

// cut cuts history off where it can't be had: above each commit that is missing, or
// has a tree that is not whole.
func (m *mender) cut(ctx context.Context) error {
	shallow, err := m.r.Shallow()
	if err != nil || m.isUnsure() {
		return nil // it is left
	}
	var queue []objects.ID
	seen := new(reach.Set)
	push := func(id objects.ID) {
		if seen.Add(id) {
			queue = append(queue, id)
		}
	}
	for ref, err := range m.r.Refs.All(ctx, "") {
		if err != nil {
			continue
		}
		id := ref.ID
		if tag, err := objects.ReadTag(ctx, m.r.DB, id); err == nil {
			id = tag.Object
		}
		push(id)
	}
	var cuts []objects.ID
	for len(queue) > 0 {
		id := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		c, err := objects.ReadCommit(ctx, m.r.DB, id)
		if err != nil || shallow[id] {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		whole := true
		for _, p := range c.Parents {
			ok, err := m.isWholeCommit(ctx, p)
			if err != nil {
				return err
			}
			whole = whole && ok
		}
		if !whole {
			cuts = append(cuts, id)
			continue
		}
		for _, p := range c.Parents {
			push(p)
		}
	}
	if len(cuts) == 0 {
		return m.forget(ctx)
	}
	if err := m.r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range cuts {
			shallow[id] = true
		}
	}); err != nil {
		return err
	}
	for _, id := range cuts {
		m.done("shallow", "history ends at %s: what is before can't be had", id.Short())
	}
	return m.forget(ctx)
}

func (m *mender) isWholeCommit(ctx context.Context, id objects.ID) (bool, error) {
	c, err := objects.ReadCommit(ctx, m.r.DB, id)
	if errors.Is(err, objects.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return m.holes.isWhole(ctx, c.Tree, objects.Tree)
}

// forget removes what remembers where a remote's branch was, if that is not whole: no
// remote has it so any more.
func (m *mender) forget(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "refs/remotes/") {
		if err != nil {
			continue
		}
		whole, err := m.isWholeCommit(ctx, ref.ID)
		if err != nil {
			return err
		}
		if whole {
			continue
		}
		err = m.r.Refs.Apply(ctx, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "fsck: it is not whole"})
		if err := passed(err); err != nil {
			return err
		}
		m.done(string(ref.Name), "forgotten: it is not whole; the next fetch brings it again")
	}
	return nil
}

// logs mends reflogs.
func (m *mender) logs(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "") {
		if err != nil {
			continue
		}
		found, err := m.r.Refs.MendLog(ctx, ref.Name, func(id objects.ID) bool {
			_, err := objects.ReadCommit(ctx, m.r.DB, id)
			return err == nil
		})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			m.done("logs/"+string(ref.Name), "mended: %s", strings.Join(found, "; "))
		}
	}
	return nil
}

// neighbour returns a commit that is here and whose id differs in one digit from id,
// which is not.
func (r *Repo) neighbour(ctx context.Context, id objects.ID) (objects.ID, bool) {
	ctx = odb.Local(ctx)
	ids := []objects.ID{id}
	if missing, err := r.DB.Missing(ctx, ids); err != nil || len(missing) == 0 {
		return objects.ID{}, false
	}
	for i := range id {
		for x := byte(1); x < 16; x++ {
			low, high := id, id
			low[i] ^= x
			high[i] ^= x << 4
			ids = append(ids, low, high)
		}
	}
	missing, err := r.DB.Missing(ctx, ids)
	if err != nil || len(missing) != len(ids)-1 {
		return objects.ID{}, false
	}
	for i, near := range ids[1:] {
		if i == len(missing)-1 || missing[i+1] != near {
			_, err := objects.ReadCommit(ctx, r.DB, near)
			return near, err == nil && missing[0] == id
		}
	}
	return objects.ID{}, false
}

// counted writes "1 object", "2 objects".
func counted(n int, one string) string {
	stem, isY := strings.CutSuffix(one, "ry")
	switch {
	case n == 1:
		return "1 " + one
	case isY:
		return fmt.Sprintf("%d %sries", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
