package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/repo"
)

func lsCommand(s *session) *cli.Command {
	var long, recursive bool
	return &cli.Command{
		Name:      "ls",
		Category:  categoryLook,
		Usage:     "list kinds, keys, and what is inside an entry",
		ArgsUsage: "[REV:][PATH]",
		Description: text(`
Without PATH it lists the kinds of entries: what save, put and run keep. "ls save"
lists the keys of that kind, "ls save/KEY" what the entry holds, and so on down.
A path that ends in "/" lists the keys that begin so. What is shown is what a
lookup would find: the current branch with its stage, its base, the default
branch; with REV, that version only.`, `
cache-tool ls -l save`),
		Flags: []cli.Flag{
			boolFlag(&long, "show when, how big, which id, and on which branch", "long", "l"),
			boolFlag(&recursive, "show all entries, or all files of an entry", "recursive", "R"),
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			r, err := s.open(c.Context)
			if err != nil {
				return err
			}
			v, path, err := s.viewOf(c.Context, r, c.Args().First())
			if err != nil {
				return err
			}
			l := listing{session: s, r: r, v: v, long: long}
			kind, rest, _ := strings.Cut(path, "/")
			switch {
			case path == "" && !recursive:
				return l.kinds(c.Context)
			case path == "":
				return l.keys(c.Context, "", "")
			case !entry.Kind(kind).Valid():
				return fmt.Errorf("%s: %w", shown(path), errNotThere)
			case rest == "":
				return l.keys(c.Context, entry.Kind(kind), "")
			}
			t, err := find(c.Context, r, v, strings.TrimRight(path, "/"))
			if errors.Is(err, objects.ErrNotFound) && strings.HasSuffix(path, "/") {
				return l.keys(c.Context, entry.Kind(kind), rest)
			} else if err != nil {
				return err
			}
			return l.inside(c.Context, t, recursive)
		},
	}
}

// A listing is one ls.
type listing struct {
	*session
	r    *repo.Repo
	v    view
	long bool
	ids  []objects.ID // of the entries, if they are to be shown
}

// kinds lists the first names of the trees in view.
func (l *listing) kinds(ctx context.Context) error {
	var kinds []string
	err := l.eachRoot(ctx, func(root objects.ID) error {
		tree, err := objects.ReadTree(ctx, l.r.DB, root)
		for _, e := range tree {
			kinds = append(kinds, e.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, branch := range l.v.scope {
		records, err := l.r.Staged(ctx, branch)
		if err != nil {
			return err
		}
		for _, record := range records {
			if kind, _, err := entry.ParsePath(record.Path); err == nil && !record.ID.IsZero() {
				kinds = append(kinds, string(kind))
			}
		}
	}
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	counts := make(map[string]int)
	if l.long || l.json {
		for found, err := range l.entries(ctx, "") {
			if err != nil {
				return err
			}
			counts[string(found.Kind)]++
		}
	}
	if l.json {
		type kindJSON struct {
			Kind    string `json:"kind"`
			Entries int    `json:"entries"`
		}
		list := make([]kindJSON, len(kinds))
		for i, k := range kinds {
			list[i] = kindJSON{k, counts[k]}
		}
		return l.answer(map[string]any{"kinds": list})
	}
	for _, k := range kinds {
		switch n := counts[k]; {
		case !l.long:
			l.printf("%s/\n", shown(k))
		case n > 0:
			l.printf("%10s  %s/\n", counted(n, "entry"), shown(k))
		}
	}
	return nil
}

// eachRoot calls fn with the trees of the view, nearest first.
func (l *listing) eachRoot(ctx context.Context, fn func(root objects.ID) error) error {
	if l.v.rev != "" {
		c, err := objects.ReadCommit(ctx, l.r.DB, l.v.commit)
		if err != nil {
			return err
		}
		return fn(c.Tree)
	}
	for _, branch := range l.v.scope {
		_, root, err := l.r.Tip(ctx, branch)
		if err == nil {
			err = fn(root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A line is what ls keeps of an entry until it has seen them all and can sort
// them: a branch may hold a million.
type line struct {
	key    string
	id     int32 // among the ids, if they are wanted
	branch uint8 // in the scope
	staged bool
}

// keys lists the entries of a kind whose keys begin with prefix, or all entries.
func (l *listing) keys(ctx context.Context, kind entry.Kind, prefix string) error {
	var lines []line
	for found, err := range l.entries(ctx, kind) {
		if err != nil {
			return err
		}
		if entry.Abbreviated(found.Path) {
			if whole, err := entry.Key(ctx, l.r.DB, found.Path, found.ID); err == nil {
				found.Key = whole
			}
		}
		if !strings.HasPrefix(found.Key, prefix) {
			continue
		}
		one := line{branch: uint8(max(0, slices.Index(l.v.scope, found.Branch))), staged: found.Staged}
		if one.key = strings.Clone(found.Key); kind == "" { // and not the path that it is a part of
			one.key = shownPath(found.Kind, found.Key)
		}
		if l.long || l.json {
			one.id = int32(len(l.ids))
			l.ids = append(l.ids, found.ID)
		}
		lines = append(lines, one)
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.key, b.key) })
	if prefix != "" && len(lines) == 0 {
		return fmt.Errorf("%s: %w", shown(shownPath(kind, prefix)), errNotThere)
	}
	if l.json {
		return l.keysJSON(ctx, kind, lines)
	}
	if !l.long {
		for _, one := range lines {
			l.printf("%s\n", shown(one.key))
		}
		return nil
	}
	width := 0
	for _, one := range lines {
		width = max(width, len(l.where(one)))
	}
	return l.describe(ctx, kind, lines, func(one line, d entryJSON) error {
		created, bytes := "?", "?"
		if d.Created != "" {
			created = strings.Replace(d.Created[:16], "T", " ", 1)
		}
		if d.Size != nil {
			bytes = size(*d.Size)
		}
		l.printf("%-16s  %10s  %s  %-*s  %s\n", created, bytes, d.Entry.Short(), width, l.where(one), shown(one.key))
		return nil
	})
}

// where says on which branch an entry is.
func (l *listing) where(one line) string {
	where := l.v.rev
	if where == "" {
		where = l.v.scope[one.branch].Short()
	}
	if one.staged {
		where += " (staged)"
	}
	return shown(where)
}

// An entryJSON is what --json says of an entry.
type entryJSON struct {
	Kind    entry.Kind `json:"kind"`
	Key     string     `json:"key"`
	Entry   objects.ID `json:"entry"`
	Branch  string     `json:"branch,omitempty"`
	Staged  bool       `json:"staged,omitempty"`
	Created string     `json:"created,omitempty"`
	Files   *int64     `json:"files,omitempty"`
	Size    *int64     `json:"size,omitempty"`
	Commit  string     `json:"sourceCommit,omitempty"`
	Source  string     `json:"sourceBranch,omitempty"`
}

func (l *listing) keysJSON(ctx context.Context, kind entry.Kind, lines []line) error {
	list, err := l.list(nil, "entries")
	if err != nil {
		return err
	}
	return list.end(l.describe(ctx, kind, lines, func(_ line, d entryJSON) error { return list.add(d) }))
}

// describe calls fn for each of lines, in order, with what the entry's meta says.
// Where that can't be read, less is known.
func (l *listing) describe(ctx context.Context, kind entry.Kind, lines []line, fn func(line, entryJSON) error) error {
	for batch := range slices.Chunk(lines, readBatch) {
		described := make([]entryJSON, len(batch))
		ids := make([]objects.ID, len(batch))
		for i, one := range batch {
			d := &described[i]
			*d = entryJSON{Kind: kind, Key: one.key, Entry: l.ids[one.id], Staged: one.staged}
			if kind == "" {
				name, key, _ := strings.Cut(one.key, "/")
				d.Kind, d.Key = entry.Kind(name), key
			}
			if l.v.rev == "" {
				d.Branch = l.v.scope[one.branch].Short()
			}
			ids[i] = d.Entry
		}
		lost := func(i int, err error) { l.warn("%s: %v", shown(batch[i].key), err) }
		err := readMetas(ctx, l.r, ids, lost, func(i int, payload objects.Entries, meta entry.Meta) {
			l.addMeta(ctx, &described[i], payload, meta)
		})
		if err != nil {
			return err
		}
		for i, one := range batch {
			if err := fn(one, described[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// addMeta adds what an entry's meta says. It may be called concurrently.
func (l *listing) addMeta(ctx context.Context, d *entryJSON, payload objects.Entries, meta entry.Meta) {
	d.Created = meta.Created.Local().Format("2006-01-02T15:04:05Z07:00")
	d.Commit, d.Source = meta.Commit, meta.Branch
	if files, bytes, ok := repo.Extent(meta); ok {
		d.Files, d.Size = &files, &bytes
	} else if body, ok := payload.Find(entry.BodyName); ok {
		if _, n, err := l.r.DB.Stat(ctx, body.ID); err == nil {
			d.Size = &n
		}
	}
}

// A fileJSON is what --json says of a file in an entry.
type fileJSON struct {
	Path string     `json:"path"`
	Mode string     `json:"mode"`
	ID   objects.ID `json:"id"`
	Size *int64     `json:"size,omitempty"` // not of a directory
}

// inside lists what an entry holds.
func (l *listing) inside(ctx context.Context, t target, recursive bool) (err error) {
	show := l.file
	if l.json {
		list, err := l.list(struct {
			Path string `json:"path"`
		}{t.String()}, "files")
		if err != nil {
			return err
		}
		defer func() { err = list.end(err) }()
		show = func(f fileJSON, _ bool) error { return list.add(f) }
	}
	if !t.entry.Mode.IsDir() {
		f, err := l.statFile(ctx, t.String(), t.entry)
		if err != nil {
			return err
		}
		return show(f, false)
	}
	return trees.Walk(ctx, l.r.DB, t.entry.ID, func(path string, e objects.Entry) (trees.Step, error) {
		f, err := l.statFile(ctx, unescapePath(path), e)
		if err != nil {
			return trees.Continue, err
		}
		if err := show(f, e.Mode.IsDir()); err != nil {
			return trees.Continue, err
		}
		if recursive {
			return trees.Continue, nil
		}
		return trees.SkipTree, nil
	})
}

func (l *listing) statFile(ctx context.Context, path string, e objects.Entry) (fileJSON, error) {
	f := fileJSON{Path: path, Mode: fmt.Sprintf("%06o", uint32(e.Mode)), ID: e.ID}
	if !e.Mode.IsDir() && (l.long || l.json) {
		_, n, err := l.r.DB.Stat(ctx, e.ID)
		if errors.Is(err, objects.ErrNotFound) {
			l.warn("%s: %v", shown(path), err)
			return f, nil
		} else if err != nil {
			return f, err
		}
		f.Size = &n
	}
	return f, nil
}

func (l *listing) file(f fileJSON, dir bool) error {
	name, bytes := shown(f.Path), "-"
	if dir {
		name += "/"
	}
	if f.Size != nil {
		bytes = fmt.Sprint(*f.Size)
	}
	if l.long {
		l.printf("%s %s %9s  ", f.Mode, f.ID.Short(), bytes)
	}
	l.printf("%s\n", name)
	return nil
}
