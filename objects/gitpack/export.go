package gitpack

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// maxBatch is how many objects go into one pack. It bounds the memory an export
// takes: about 100 bytes for each.
const maxBatch = 1 << 18

// Options of Export.
type Options struct {
	Parallel int    // workers; 0: one per processor
	Added    func() // called for each object written, from many goroutines; may be nil

	batch int // objects in one pack; 0: maxBatch
}

// A Report says what an export changed.
type Report struct {
	Objects, Packs int   // written
	Bytes          int64 // of the packs written
	Refs           int   // made, moved or removed
	// CheckedOut says that there is an index: somebody checked files out, and
	// if their branch moved, Git will show the difference as theirs.
	CheckedOut bool
}

// Export writes a Git repository of object format sha256 into dir, with its work
// tree left empty: "git checkout" fills it. Into an export that is there already
// it adds what is new, and moves the refs; refs that somebody else made there
// stay, and if one of the exported ones was moved it is a *MovedError. What is
// in dir otherwise is ErrNotExport.
//
// When Export returns nil, all of it survives a power cut. When it is cut short,
// what dir showed before is there, and the next export goes on from where this
// one stopped. An r that is a ManyReader is asked for many objects at once.
func Export(ctx context.Context, r objects.Reader, refs Refs, dir string, o Options) (Report, error) {
	report, err := export(ctx, r, refs, dir, o)
	if err != nil {
		return report, fmt.Errorf("export: %w", err)
	}
	return report, nil
}

func export(ctx context.Context, r objects.Reader, refs Refs, dir string, o Options) (Report, error) {
	if err := refs.check(); err != nil {
		return Report{}, err
	}
	if err := checkDir(dir); err != nil {
		return Report{}, err
	}
	git := filepath.Join(dir, ".git")
	if err := durable.MkdirAll(git, durable.Synced); err != nil {
		return Report{}, err
	}
	lock, err := durable.LockExclusive(ctx, filepath.Join(git, lockName))
	if err != nil {
		return Report{}, err
	}
	defer lock.Unlock()
	// Again: who had the lock may have made something else of it.
	if err := checkDir(dir); err != nil {
		return Report{}, err
	}
	if err := prepareDir(git, refs.Head); err != nil {
		return Report{}, err
	}
	update, err := planRefs(git, refs.All)
	if err != nil {
		return Report{}, err
	}
	e := &exporter{objects: r, git: git, packs: filepath.Join(git, "objects", "pack"), options: o}
	defer e.close()
	if err := e.openIndexes(); err != nil {
		return Report{}, err
	}
	shallow, err := e.copy(ctx, refs)
	if err != nil {
		return e.report, err
	}
	// Objects first, refs last: a ref must never lead to what is not there.
	if err := writeShallow(git, shallow); err != nil {
		return e.report, err
	}
	e.report.Refs = update.changes
	if _, err := os.Stat(filepath.Join(git, "index")); err == nil {
		e.report.CheckedOut = true
	}
	return e.report, update.apply()
}

// An exporter copies objects into the packs of one repository.
type exporter struct {
	objects objects.Reader
	git     string
	packs   string // git/objects/pack
	options Options
	indexes []*Index // of the packs that are there, the newest last
	report  Report
}

func (e *exporter) close() {
	for _, x := range e.indexes {
		x.Close()
	}
}

func (e *exporter) openIndexes() error {
	if err := durable.RemoveStale(e.packs, time.Hour); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(escapeGlob(e.packs), "*.idx"))
	if err != nil {
		return err
	}
	for _, name := range names {
		// Git does not believe an index without its pack, so no more does this.
		_, err := os.Stat(strings.TrimSuffix(name, ".idx") + ".pack")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		x, err := OpenIndex(name)
		if err != nil {
			return err
		}
		e.indexes = append(e.indexes, x)
	}
	return nil
}

// escapeGlob makes a pattern that matches path alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (e *exporter) has(id objects.ID) bool {
	for _, x := range slices.Backward(e.indexes) {
		if x.Has(id) {
			return true
		}
	}
	return false
}

// copy writes all that refs lead to and that is not there, and returns what the
// repository's list of cut commits has to say then.
func (e *exporter) copy(ctx context.Context, refs Refs) (shallow []objects.ID, err error) {
	w := &walk{
		objects: e.objects,
		has:     e.has,
		write:   func(ids []objects.ID) error { return e.writePack(ctx, ids) },
		max:     cmp.Or(e.options.batch, maxBatch),
		found:   map[objects.ID]struct{}{},
		cut:     map[objects.ID]struct{}{},
	}
	for _, id := range refs.Shallow {
		w.cut[id] = struct{}{}
	}
	before, err := readShallow(e.git)
	if err != nil {
		return nil, err
	}
	// History that was cut at the last export may be there now.
	for _, id := range before {
		if err := e.deepen(ctx, w, id); err != nil {
			return nil, err
		}
	}
	for _, ref := range refs.All {
		if err := w.any(ctx, ref.ID); err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Name, err)
		}
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	candidates := slices.Concat(before, refs.Shallow)
	slices.SortFunc(candidates, objects.ID.Compare)
	for _, id := range slices.Compact(candidates) {
		cut, err := e.isCut(ctx, id, slices.Contains(before, id))
		if err != nil {
			return nil, err
		}
		if cut {
			shallow = append(shallow, id)
		}
	}
	return shallow, nil
}

// deepen visits the parents of a commit that is there without them.
func (e *exporter) deepen(ctx context.Context, w *walk, id objects.ID) error {
	if _, still := w.cut[id]; still || !e.has(id) {
		return nil
	}
	c, err := objects.ReadCommit(ctx, e.objects, id)
	if errors.Is(err, objects.ErrNotFound) {
		return nil // the cache has forgotten it; the export has not
	}
	if err != nil {
		return err
	}
	for _, p := range c.Parents {
		if err := w.commit(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// isCut reports whether the repository holds the commit, but not all its parents.
// What the cache has forgotten is as it was before.
func (e *exporter) isCut(ctx context.Context, id objects.ID, before bool) (bool, error) {
	if !e.has(id) {
		return false, nil
	}
	c, err := objects.ReadCommit(ctx, e.objects, id)
	if errors.Is(err, objects.ErrNotFound) {
		return before, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(c.Parents, func(p objects.ID) bool { return !e.has(p) }), nil
}

// writePack writes the objects ids as one pack. When it returns, has knows them.
func (e *exporter) writePack(ctx context.Context, ids []objects.ID) error {
	pack, err := durable.Create(e.packs)
	if err != nil {
		return err
	}
	defer pack.Abort()
	out := bufio.NewWriterSize(pack, 256<<10)
	p, err := NewWriter(out, len(ids))
	if err != nil {
		return err
	}
	if err := fill(ctx, e.objects, p, ids, e.options); err != nil {
		return err
	}
	sum, err := p.Close()
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	index, err := durable.Create(e.packs)
	if err != nil {
		return err
	}
	defer index.Abort()
	if err := p.WriteIndex(index); err != nil {
		return err
	}
	name := filepath.Join(e.packs, fmt.Sprintf("pack-%x", sum))
	// The index last: with it Git sees the pack.
	if err := pack.CommitAs(name+".pack", durable.Synced); err != nil {
		return err
	}
	if err := index.CommitAs(name+".idx", durable.Synced); err != nil {
		return err
	}
	x, err := OpenIndex(name + ".idx")
	if err != nil {
		return err
	}
	e.indexes = append(e.indexes, x)
	e.report.Objects += len(ids)
	e.report.Packs++
	e.report.Bytes += pack.Size()
	return nil
}
