package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// hit puts back the result, if it is there. A result that turns out not to be
// whole is a miss, and what there is of it changes nothing.
func (r *run) hit(ctx context.Context) (Result, bool) {
	key, id, err := r.find(ctx)
	if err != nil {
		if !errors.Is(err, objects.ErrNotFound) {
			r.warn("look up: %v", err)
		}
		return Result{}, false
	}
	result, err := r.take(ctx, id)
	if err != nil {
		if !errors.Is(err, errNotWanted) {
			r.warn("cached result: %v", err)
		}
		return Result{}, false
	}
	result.Outcome, result.Key = Hit, key
	return result, true
}

// find returns the key of a result that is stored, and the entry.
func (r *run) find(ctx context.Context) (key, id objects.ID, err error) {
	if r.depfile == "" {
		id, err = r.store.Lookup(ctx, entry.Run, r.key.String())
		return r.key, id, err
	}
	if r.sets, err = r.readSets(ctx); err != nil {
		return key, id, err
	}
	declared, err := leavesOf(&r.hash, r.inputs)
	if err != nil {
		return key, id, err
	}
	found := make([]leaf, len(r.sets.Paths)) // made when a set needs it
	for _, members := range r.sets.Members {
		leaves := slices.Grow(slices.Clip(declared), len(members))
		for _, n := range members {
			if found[n].path == "" {
				if found[n], err = r.leafAt(r.sets.Paths[n]); err != nil {
					return key, id, err
				}
			}
			leaves = append(leaves, found[n])
		}
		if key, err = r.keyOf(leaves); err != nil {
			return key, id, err
		}
		id, err = r.store.Lookup(ctx, entry.Run, key.String())
		if !errors.Is(err, objects.ErrNotFound) {
			return key, id, err
		}
	}
	return key, id, objects.ErrNotFound
}

// leafAt makes the leaf of what is at a place now.
func (r *run) leafAt(place string) (leaf, error) {
	s, err := r.look.look(r.base.path(place), false)
	if err != nil {
		return leaf{}, err
	}
	r.room = s.appendLeaf(r.room[:0])
	return makeLeaf(&r.hash, place, &s, r.room)
}

// readSets returns the sets of inputs that were discovered for the key.
func (r *run) readSets(ctx context.Context) (Sets, error) {
	id, err := r.store.Lookup(ctx, Deps, r.key.String())
	if err != nil {
		return Sets{}, err
	}
	tree, err := objects.ReadTree(ctx, r.store, id)
	if err != nil {
		return Sets{}, err
	}
	body, _ := tree.Find(entry.BodyName)
	text, err := objects.ReadKind(ctx, r.store, body.ID, objects.Blob)
	if err != nil {
		return Sets{}, err
	}
	return ParseSets(text)
}

// errNotWanted says that a result is of a command that failed.
var errNotWanted = errors.New("result of a failure")

// exitZero is the blob of nearly all exit codes.
var exitZero = objects.Sum(objects.Blob, []byte("0\n"))

// take makes the outputs what they are in the entry id, and prints what it printed.
func (r *run) take(ctx context.Context, id objects.ID) (Result, error) {
	tree, err := objects.ReadTree(ctx, r.store, id)
	if err != nil {
		return Result{}, err
	}
	var result Result
	parts := map[string]objects.Entry{}
	for _, e := range tree {
		parts[e.Name] = e
	}
	if result.Exit, err = r.readExit(ctx, parts[entry.ExitName].ID); err != nil {
		return result, err
	}
	if result.Exit != 0 && !r.o.CacheFailures {
		return result, errNotWanted
	}
	body, err := objects.ReadKind(ctx, r.store, parts[entry.MetaName].ID, objects.Blob)
	if err != nil {
		return result, err
	}
	meta, err := entry.ParseMeta(body)
	if err != nil {
		return result, err
	}
	result.Command = meta.Took
	printed, err := readTranscript(ctx, r.store, parts[entry.StdoutName].ID, parts[entry.StderrName].ID, parts[entry.OrderName].ID)
	if err != nil {
		return result, err
	}
	defer printed.close()
	outputs, err := r.findOutputs(ctx, parts[entry.OutName].ID, meta.Files, result.Exit)
	if err != nil {
		return result, err
	}
	restore := restorer{store: r.store, cache: r.o.Cache, keep: r.o.Dir, outputs: outputs}
	if err := restore.restore(ctx); err != nil {
		return result, err
	}
	if err := printed.print(r.out()); err != nil {
		// Part of it is out: to run the command now would print that twice.
		r.warn("print what the command printed: %v", err)
		result.Exit = max(result.Exit, 1)
	}
	return result, nil
}

func (r *run) readExit(ctx context.Context, id objects.ID) (int, error) {
	if id == exitZero {
		return 0, nil
	}
	body, err := objects.ReadKind(ctx, r.store, id, objects.Blob)
	if err != nil {
		return 0, err
	}
	code, err := strconv.ParseUint(strings.TrimSuffix(string(body), "\n"), 10, 8)
	if err != nil {
		return 0, fmt.Errorf("exit code %.20q: %w", body, err)
	}
	return int(code), nil
}

// findOutputs finds each declared output in the tree out. Of a tree only that is
// restored which this run declares: a result cannot write anywhere else. One
// that a failed command did not make is not there.
func (r *run) findOutputs(ctx context.Context, out objects.ID, files []entry.Files, exit int) ([]output, error) {
	if len(r.outs) == 0 {
		return nil, nil
	}
	finder := treeFinder{r: r.store}
	outputs := make([]output, 0, len(r.outs))
	for _, place := range r.outs {
		path := treePath(place)
		e, err := finder.find(ctx, out, path)
		if exit != 0 && !out.IsZero() && errors.Is(err, objects.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", Show(place), err)
		}
		o := output{path: r.base.path(place), entry: e, withGit: place != entry.BaseName}
		for _, f := range files {
			if f.Path == entry.OutName+"/"+path {
				o.files = f
			}
		}
		outputs = append(outputs, o)
	}
	return outputs, nil
}

// A treeFinder finds paths in trees, and reads a tree again only if another was
// read since at the same depth: outputs tend to stand side by side.
type treeFinder struct {
	r     objects.Reader
	ids   []objects.ID
	trees []objects.Entries
}

func (f *treeFinder) find(ctx context.Context, id objects.ID, path string) (objects.Entry, error) {
	e := objects.Entry{Mode: objects.ModeDir, ID: id}
	depth := 0
	for name, rest, more := "", path, true; more; depth++ {
		name, rest, more = strings.Cut(rest, "/")
		if !e.Mode.IsDir() {
			return e, objects.ErrNotFound
		}
		if depth == len(f.ids) {
			f.ids, f.trees = append(f.ids, objects.ID{}), append(f.trees, nil)
		}
		if f.ids[depth] != e.ID {
			tree, err := objects.ReadTree(ctx, f.r, e.ID)
			if err != nil {
				return e, err
			}
			f.ids[depth], f.trees[depth] = e.ID, tree
		}
		var ok bool
		if e, ok = f.trees[depth].Find(name); !ok {
			return e, objects.ErrNotFound
		}
	}
	return e, nil
}
