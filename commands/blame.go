package commands

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo"
)

func blameCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "blame",
		Category:  categoryHistory,
		Usage:     "show who added what, when and from where",
		ArgsUsage: "[REV:]PATH",
		Description: text(`
Shows for each file of an entry the commit that brought in its content as it is
now: who made it, when, and which commit of the source repository was checked out
there. PATH is KIND/KEY, a file or directory inside it (KIND/KEY/NAME…), the key
of save or put alone, or a kind ("save"): that shows whole entries. A ^ stands before a
commit at which history was cut off: it may have been an older one.`, `
cache-tool blame save/deps/base/node_modules/left-pad`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			b, err := s.blaming(c.Context, r, c.Args().First())
			if err != nil {
				return err
			}
			if err := b.run(c.Context); err != nil {
				return err
			}
			return s.showBlame(b)
		},
	}
}

// A blamed is one file or entry and the commit that it came with.
type blamed struct {
	path   string
	commit *repo.Commit // nil: it is staged
}

// A blaming passes the files of a tree down the history: what a parent has too
// is the parent's, the rest came with the commit.
type blaming struct {
	r     *repo.Repo
	at    string // the tree's path in a root tree
	whole bool   // entries, not files

	items   []string // paths below at; one empty path for a file
	byIndex map[string]int
	done    []blamed

	todo  map[objects.ID][]int // what is still each commit's
	queue blameQueue
}

// blaming finds what arg is about.
func (s *session) blaming(ctx context.Context, r *repo.Repo, arg string) (*blaming, error) {
	v, path, err := s.viewOf(ctx, r, arg)
	if err != nil {
		return nil, err
	}
	b := &blaming{r: r, todo: map[objects.ID][]int{}}
	if kind := strings.TrimRight(path, "/"); entry.Kind(kind).Valid() && kind != "" {
		if tip, err := b.kind(ctx, s, v, kind); err == nil {
			return b, b.start(ctx, tip)
		} else if !errors.Is(err, objects.ErrNotFound) {
			return nil, err
		}
	}
	t, err := find(ctx, r, v, path)
	if errors.Is(err, objects.ErrNotFound) {
		var found repo.Found
		if found, err = findEntry(ctx, r, v, path); err == nil {
			t = target{Found: found, entry: objects.Entry{Mode: objects.ModeDir, ID: found.ID}}
		}
	}
	if err != nil {
		return nil, err
	}
	b.at = t.Path
	if t.inside != "" {
		b.at += "/" + t.inside
	}
	if err := b.list(ctx, t.entry); err != nil {
		return nil, err
	}
	tip := v.commit
	if v.rev == "" {
		if tip, _, err = r.Tip(ctx, t.Branch); err != nil {
			return nil, err
		}
	}
	if !t.Staged {
		return b, b.start(ctx, tip)
	}
	return b, b.afterStage(ctx, tip, t.entry)
}

// kind makes the blame one of all entries of a kind.
func (b *blaming) kind(ctx context.Context, s *session, v view, kind string) (objects.ID, error) {
	tip := v.commit
	if v.rev == "" {
		var err error
		if tip, err = s.commitOf(ctx, b.r, ""); err != nil {
			return tip, err
		}
	}
	c, err := objects.ReadCommit(ctx, b.r.DB, tip)
	if err != nil {
		return tip, err
	}
	if _, err := trees.Lookup(ctx, b.r.DB, c.Tree, kind); err != nil {
		return tip, err
	}
	b.at, b.whole = kind, true
	for found, err := range b.r.EntriesAt(ctx, c.Tree, entry.Kind(kind)) {
		if err != nil {
			return tip, err
		}
		b.items = append(b.items, strings.TrimPrefix(found.Path, kind+"/"))
	}
	return tip, nil
}

// list takes the files below e as items, or e itself.
func (b *blaming) list(ctx context.Context, e objects.Entry) error {
	if !e.Mode.IsDir() {
		b.items = []string{""}
		return nil
	}
	return trees.Walk(ctx, b.r.DB, e.ID, func(path string, e objects.Entry) (trees.Step, error) {
		if !e.Mode.IsDir() || e.ID == objects.EmptyTree {
			b.items = append(b.items, path)
		}
		return trees.Continue, nil
	})
}

// start gives all items to the commit tip.
func (b *blaming) start(ctx context.Context, tip objects.ID) error {
	b.index()
	all := make([]int, len(b.items))
	for i := range all {
		all[i] = i
	}
	return b.give(ctx, tip, all)
}

func (b *blaming) index() {
	b.done = make([]blamed, len(b.items))
	b.byIndex = make(map[string]int, len(b.items))
	for i, path := range b.items {
		b.done[i].path = path
		b.byIndex[path] = i
	}
}

// afterStage gives the commit tip what the staged entry shares with it.
func (b *blaming) afterStage(ctx context.Context, tip objects.ID, staged objects.Entry) error {
	b.index()
	if tip.IsZero() {
		return nil
	}
	all := make([]int, len(b.items))
	for i := range all {
		all[i] = i
	}
	below, err := b.entryIn(ctx, tip)
	if err != nil {
		return err
	}
	shared, _, err := b.part(ctx, all, staged, below)
	if err != nil {
		return err
	}
	return b.give(ctx, tip, shared)
}

func (b *blaming) give(ctx context.Context, commit objects.ID, items []int) error {
	if len(items) == 0 {
		return nil
	}
	if _, queued := b.todo[commit]; !queued {
		c, err := b.r.Commit(ctx, commit)
		if err != nil {
			return err
		}
		heap.Push(&b.queue, &c)
	}
	b.todo[commit] = append(b.todo[commit], items...)
	return nil
}

// run passes every item down to the commit that it came with.
func (b *blaming) run(ctx context.Context) error {
	for len(b.queue) > 0 {
		c := heap.Pop(&b.queue).(*repo.Commit)
		items := b.todo[c.ID]
		delete(b.todo, c.ID)
		at, err := b.lookup(ctx, c.Tree)
		if err != nil {
			return err
		}
		for _, p := range c.Parents {
			if c.Cut || len(items) == 0 {
				break
			}
			below, err := b.entryIn(ctx, p)
			if err != nil {
				return err
			}
			shared, own, err := b.part(ctx, items, at, below)
			if err != nil {
				return err
			}
			if err := b.give(ctx, p, shared); err != nil {
				return err
			}
			items = own
		}
		for _, i := range items {
			b.done[i].commit = c
		}
	}
	return nil
}

func (b *blaming) entryIn(ctx context.Context, commit objects.ID) (objects.Entry, error) {
	body, err := objects.ReadCommit(ctx, b.r.DB, commit)
	if err != nil {
		return objects.Entry{}, err
	}
	return b.lookup(ctx, body.Tree)
}

func (b *blaming) lookup(ctx context.Context, root objects.ID) (objects.Entry, error) {
	e, err := trees.Lookup(ctx, b.r.DB, root, b.at)
	if errors.Is(err, trees.ErrNoPath) {
		return objects.Entry{}, nil
	}
	return e, err
}

// part splits items into those that stand in the older tree as in the newer one,
// and the others.
func (b *blaming) part(ctx context.Context, items []int, newer, older objects.Entry) (shared, own []int, err error) {
	switch {
	case newer.ID == older.ID && newer.Mode == older.Mode:
		return items, nil, nil
	case !newer.Mode.IsDir() || !older.Mode.IsDir():
		return nil, items, nil
	}
	differs := map[int]bool{}
	var o trees.DiffOptions
	if b.whole {
		o.Whole = func(path string) bool { return entry.IsPath(b.at + "/" + path) }
	}
	err = trees.Diff(ctx, b.r.DB, older.ID, newer.ID, func(c trees.Change) error {
		if i, ok := b.byIndex[c.Path]; ok {
			differs[i] = true
		}
		return nil
	}, o)
	for _, i := range items {
		if differs[i] {
			own = append(own, i)
		} else {
			shared = append(shared, i)
		}
	}
	return shared, own, err
}

// shownItem returns how an item is called.
func (b *blaming) shownItem(path string) string {
	if !b.whole {
		return unescapePath(path)
	}
	kind, key, err := entry.ParsePath(b.at + "/" + path)
	if err != nil {
		return path
	}
	return shownPath(kind, key)
}

func (s *session) showBlame(b *blaming) error {
	slices.SortFunc(b.done, func(x, y blamed) int { return cmp.Compare(b.shownItem(x.path), b.shownItem(y.path)) })
	type blameJSON struct {
		Path         string      `json:"path"`
		Commit       *objects.ID `json:"commit,omitempty"` // none: it is staged
		Author       string      `json:"author,omitempty"`
		When         *time.Time  `json:"when,omitempty"`
		Host         string      `json:"host,omitempty"`
		CIURL        string      `json:"ciUrl,omitempty"`
		SourceCommit string      `json:"sourceCommit,omitempty"`
		SourceBranch string      `json:"sourceBranch,omitempty"`
		Cut          bool        `json:"cut,omitempty"` // or an older commit, which is gone
	}
	if s.json {
		list, err := s.list(nil, "blame")
		if err != nil {
			return err
		}
		for _, d := range b.done {
			line := blameJSON{Path: b.shownItem(d.path)}
			if c := d.commit; c != nil {
				t := c.Trailers()
				line.Commit, line.Author, line.When, line.Cut = &c.ID, c.Author.Name, &c.Author.When, c.Cut
				line.Host, line.CIURL, line.SourceCommit, line.SourceBranch = t["Host"], t["CI-URL"], t["Source-Commit"], t["Source-Branch"]
			}
			if err := list.add(line); err != nil {
				return list.end(err)
			}
		}
		return list.end(nil)
	}
	table := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	for _, d := range b.done {
		name := b.shownItem(d.path)
		if d.path == "" {
			name = unescapePath(b.at[strings.LastIndexByte(b.at, '/')+1:])
		}
		if c := d.commit; c == nil {
			fmt.Fprintf(table, "staged\t\t\t\t%s\n", shown(name))
		} else {
			id := c.ID.Short()
			if c.Cut {
				id = "^" + id
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", id, printable(c.Author.Name),
				c.Author.When.Format("2006-01-02 15:04"), printable(origin(c)), shown(name))
		}
	}
	return table.Flush()
}

// origin says where a commit was made: the source repository's branch and commit,
// else the host.
func origin(c *repo.Commit) string {
	t := c.Trailers()
	if commit := t["Source-Commit"]; commit != "" {
		return strings.TrimPrefix(t["Source-Branch"]+"@", "@") + commit[:min(len(commit), 12)]
	}
	return t["Host"]
}

// A blameQueue has the newest commit first.
type blameQueue []*repo.Commit

func (q blameQueue) Len() int           { return len(q) }
func (q blameQueue) Less(i, j int) bool { return q[i].Committer.When.After(q[j].Committer.When) }
func (q blameQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *blameQueue) Push(c any)        { *q = append(*q, c.(*repo.Commit)) }
func (q *blameQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
