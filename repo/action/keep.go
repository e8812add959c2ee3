package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/statcache"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// keep stores what the command made under the key of what it depended on. It
// refuses where that cannot be told for sure: a wrong result is worse than none.
func (r *run) keep(ctx context.Context, e *execution) (objects.ID, error) {
	if e.incomplete != nil {
		return objects.ID{}, e.incomplete
	}
	places, err := r.madeOutputs(e)
	if err != nil {
		return objects.ID{}, err
	}
	if err := r.unchanged(); err != nil {
		return objects.ID{}, err
	}
	inputs, err := r.discover()
	if err != nil {
		return objects.ID{}, err
	}
	change, err := r.store.Change(ctx)
	if err != nil {
		return objects.ID{}, err
	}
	defer change.Close()
	key, err := r.write(ctx, change, e, places, inputs)
	if err != nil {
		r.o.Cache.Forget() // what it recorded since may not be stored
		return key, err
	}
	return key, nil
}

// madeOutputs returns where the outputs are. That one is missing is an error,
// unless the command failed.
func (r *run) madeOutputs(e *execution) ([]worktree.Place, error) {
	var places []worktree.Place
	for _, place := range r.outs {
		path := r.base.path(place)
		var st unix.Stat_t
		switch err := lstat(path, &st); {
		case err == unix.ENOENT && e.exit != 0:
			continue
		case err == unix.ENOENT:
			return nil, fmt.Errorf("the command did not make its output %s", Show(place))
		case err != nil:
			return nil, &fs.PathError{Op: "output", Path: path, Err: err}
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		default:
			return nil, fmt.Errorf("output %s %w", Show(place), errSpecial)
		}
		// A work tree's own .git is nothing that a command makes; that of what
		// it has cloned is.
		places = append(places, worktree.Place{Name: place, Path: path, WithGit: place != entry.BaseName})
	}
	return places, nil
}

// unchanged is an error if a declared input, or the program, is not what it was
// before the command ran: who knows which of the two it has read.
func (r *run) unchanged() error {
	for _, inputs := range [][]input{r.inputs, r.tools} {
		for i := range inputs {
			in := &inputs[i]
			if r.made(in.path) {
				continue // it is meant to change
			}
			if changed, err := r.look.changed(in); err != nil {
				return err
			} else if changed {
				return fmt.Errorf("%s changed while the command ran", r.show(in.path))
			}
		}
	}
	return nil
}

func (r *run) show(path string) string { return Show(r.base.place(path)) }

// discover returns the inputs that the depfile names and that are not declared,
// sorted by place.
func (r *run) discover() ([]input, error) {
	if r.depfile == "" {
		return nil, nil
	}
	name := r.show(r.depfile)
	var st unix.Stat_t
	if err := stat(r.depfile, &st); err != nil {
		return nil, fmt.Errorf("depfile %s: %w", name, err)
	}
	if statcache.StatOf(&st).Ctime <= r.began.UnixNano() {
		return nil, fmt.Errorf("the command did not write its depfile %s", name)
	}
	text, err := os.ReadFile(r.depfile)
	if err != nil {
		return nil, fmt.Errorf("depfile: %w", err)
	}
	names, err := ParseDepfile(text)
	if err != nil {
		return nil, fmt.Errorf("depfile %s: %w", name, err)
	}
	inputs := make([]input, 0, len(names))
	for _, name := range names {
		path, err := locate(r.dir, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		in := input{path: path, place: r.base.place(path)}
		if path == "" || strings.Contains(path, "\x00") || r.made(path) || r.declared(in.place) {
			continue
		}
		inputs = append(inputs, in)
	}
	inputs = sortInputs(inputs)
	for i := range inputs {
		if err := r.lookDiscovered(&inputs[i]); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

// lookDiscovered finds out what an input was when the command read it. Only of
// one that has not been touched since the command was started can that be known.
func (r *run) lookDiscovered(in *input) (err error) {
	if in.state, err = r.look.look(in.path, false); err != nil {
		return err
	}
	if in.state.stat.Ctime > r.began.UnixNano() {
		return fmt.Errorf("%s changed while the command ran", r.show(in.path))
	}
	return nil
}

func (r *run) declared(place string) bool {
	_, ok := slices.BinarySearchFunc(r.inputs, place, func(in input, place string) int { return strings.Compare(in.place, place) })
	return ok
}

// write writes the entry, and the set of discovered inputs that leads to it.
func (r *run) write(ctx context.Context, change Change, e *execution, places []worktree.Place, discovered []input) (key objects.ID, err error) {
	var payload objects.Entries
	add := func(mode objects.Mode, name string, id objects.ID) {
		payload = append(payload, objects.Entry{Mode: mode, Name: name, ID: id})
	}
	if key, err = r.writeAction(change, discovered); err != nil {
		return key, err
	}
	add(objects.ModeDir, entry.ActionName, key)
	taken, err := worktree.Take(ctx, change, r.store, places, worktree.SnapshotOptions{
		Keep: []string{r.o.Dir}, Cache: r.o.Cache, NoTimes: true,
	})
	if err != nil {
		return key, err
	}
	if len(taken.Skipped) > 0 {
		return key, fmt.Errorf("output %s is a %s", taken.Skipped[0].Path, taken.Skipped[0].What)
	}
	out, err := change.PutTree(taken.Payload.Encode(), objects.ID{})
	if err != nil {
		return key, err
	}
	add(objects.ModeDir, entry.OutName, out)
	for s, name := range [...]string{Stdout: entry.StdoutName, Stderr: entry.StderrName} {
		id, err := putPrinted(ctx, change, &e.printed[s])
		if err != nil {
			return key, err
		}
		add(objects.ModeFile, name, id)
	}
	for _, part := range []struct {
		name string
		body []byte
	}{{entry.OrderName, e.order}, {entry.ExitName, []byte(strconv.Itoa(e.exit) + "\n")}} {
		id, err := change.PutBytes(objects.Blob, part.body)
		if err != nil {
			return key, err
		}
		add(objects.ModeFile, part.name, id)
	}
	meta := r.o.NewMeta()
	meta.Kind, meta.Took = entry.Run, e.took
	meta.Files = inOut(taken.Files)
	id, err := entry.Write(change, meta, payload, objects.ID{})
	if err != nil {
		return key, err
	}
	change.Set(entry.Run, key.String(), id)
	if r.depfile != "" {
		if err := r.writeSets(change, discovered); err != nil {
			return key, err
		}
	}
	return key, change.Stage(ctx)
}

// inOut names the files by where they are in the entry, and leaves out those of
// which a tree says all.
func inOut(files []entry.Files) []entry.Files {
	var kept []entry.Files
	for _, f := range files {
		if f.Modes != nil {
			f.Path = entry.OutName + "/" + f.Path
			kept = append(kept, f)
		}
	}
	return kept
}

func putPrinted(ctx context.Context, w Change, c *capture) (objects.ID, error) {
	if c.file == nil {
		return w.PutBytes(objects.Blob, c.memory)
	}
	return w.Put(ctx, objects.Blob, c.size, c.reader())
}

func (r *run) writeAction(w Change, discovered []input) (objects.ID, error) {
	s := writing{w}
	fixed, err := r.action.write(s)
	if err != nil {
		return objects.ID{}, err
	}
	tree, err := inputsTree(s, slices.Concat(r.inputs, discovered))
	if err != nil {
		return objects.ID{}, err
	}
	return withInputs(s, fixed, tree)
}

func (r *run) writeSets(w Change, discovered []input) error {
	set := make([]string, len(discovered))
	for i := range discovered {
		set[i] = discovered[i].place
	}
	meta := r.o.NewMeta()
	meta.Kind, meta.Took = Deps, 0
	body, err := w.PutBytes(objects.Blob, r.sets.Add(set).Encode())
	if err != nil {
		return err
	}
	id, err := entry.Write(w, meta, objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: body}}, objects.ID{})
	if err != nil {
		return err
	}
	w.Set(Deps, r.key.String(), id)
	return nil
}
