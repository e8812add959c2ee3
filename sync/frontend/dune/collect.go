package dune

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A Writer takes the objects of entries.
type Writer interface {
	entry.Writer
	Lane() *odb.Lane
}

// What an entry holds, beside its meta: the metadata as Metadata.Encode writes it
// as its body, and each file, called by its digest in hexadecimal. The hashing is
// among the extras.
const extraHash = "hash"

// Collect writes to w the entries of keys, as they are in the cache, and returns
// those that it could make; whoever gives w a commit names them. Meta is what all
// of them have in common.
//
// What is incomplete, or not what its name says, is left out with a warning. The
// files of all entries are read together, alike ones one after the other: that
// makes the store small.
func (c *Cache) Collect(ctx context.Context, w Writer, keys []Key, meta entry.Meta, o Options) ([]Found, Report, error) {
	o = o.withDefaults()
	col := collector{c: c, w: w, o: o, warn: warner{warn: o.Warn}}
	err := col.readMetadata(ctx, keys)
	if err == nil {
		err = col.readFiles(ctx)
	}
	var found []Found
	if err == nil {
		found, err = col.write(meta)
	}
	if err != nil {
		return nil, col.report, fmt.Errorf("collect dune's cache: %w", err)
	}
	return found, col.report, nil
}

type collector struct {
	c      *Cache
	w      Writer
	o      Options
	warn   warner
	report Report

	rules []*rule
	files []*file
	last  atomic.Value // the hashing that a file was named by last
}

// A rule is a key, and what is found in the cache for it.
type rule struct {
	key      Key
	metadata Metadata
	files    []*file // those that have a digest
	err      error   // why it is left out
}

// A file is one that rules have made, with what became of it.
type file struct {
	digest  Digest
	version int    // of the metadata that speaks of it
	target  string // a path that it has
	place   string // in the cache
	size    int64

	err  error // it is not there, or not what its name says
	hash hashing
	mode objects.Mode
	id   objects.ID
}

func (col *collector) readMetadata(ctx context.Context, keys []Key) error {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), bytes.Compare(a.Rule[:], b.Rule[:]))
	})
	col.rules = make([]*rule, len(keys))
	err := each(ctx, col.o.Parallel, len(keys), func(i int) error {
		r := &rule{key: keys[i]}
		col.rules[i] = r
		r.metadata, r.err = readMetadata(col.c.metadataPlace(r.key))
		return nil
	})
	if err != nil {
		return err
	}
	type named struct {
		dir    string
		digest Digest
	}
	files := map[named]*file{}
	for _, r := range col.rules {
		dir := col.c.files(r.key.Version)
		for _, t := range r.metadata.Targets {
			if t.IsDir {
				continue
			}
			f := files[named{dir, t.Digest}]
			if f == nil {
				f = &file{digest: t.Digest, version: r.key.Version, target: t.Path, place: place(dir, t.Digest)}
				files[named{dir, t.Digest}] = f
				col.files = append(col.files, f)
			}
			r.files = append(r.files, f)
		}
	}
	return nil
}

func readMetadata(name string) (Metadata, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return Metadata{}, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err != nil {
		return Metadata{}, err
	}
	return ParseMetadata(body)
}

// How much one goroutine reads before it looks for more, and the size from which
// on a file is read for itself, and first.
const (
	runBytes = 12 << 20
	runFiles = 4096
	bigFile  = 16 << 20
)

// readFiles proves the files and puts them into the store.
func (col *collector) readFiles(ctx context.Context) error {
	err := each(ctx, col.o.Parallel, len(col.files), func(i int) error {
		fi, err := os.Lstat(col.files[i].place)
		switch {
		case err != nil:
			col.files[i].err = err
		case !fi.Mode().IsRegular():
			col.files[i].err = fmt.Errorf("it is no regular file, but %v", fi.Mode())
		default:
			col.files[i].size = fi.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	var there []*file
	for _, f := range col.files {
		if f.err == nil {
			there = append(there, f)
			col.o.Meter.Expect(1, f.size)
		}
	}
	// What the same compiler makes of neighbours is alike.
	slices.SortFunc(there, func(a, b *file) int {
		return cmp.Or(
			-cmp.Compare(a.size/bigFile, b.size/bigFile),
			cmp.Compare(library(a.target), library(b.target)),
			cmp.Compare(path.Ext(a.target), path.Ext(b.target)),
			cmp.Compare(a.target, b.target))
	})
	runs := cutRuns(there)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(col.o.Parallel, len(runs)) {
		group.Go(func() error {
			lane := col.w.Lane()
			err := col.work(ctx, lane, runs, &next)
			return errors.Join(err, lane.Close())
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, f := range there {
		if f.err == nil {
			col.report.Files++
			col.report.Bytes += f.size
		}
	}
	return nil
}

func library(target string) string {
	if i := strings.Index(target, "/."); i >= 0 {
		return target[:i]
	}
	return path.Dir(target)
}

func cutRuns(files []*file) (runs [][]*file) {
	for len(files) > 0 {
		n, bytes := 0, int64(0)
		for n < len(files) && n < runFiles && (n == 0 || bytes+files[n].size <= runBytes) {
			bytes += files[n].size
			n++
		}
		runs = append(runs, files[:n])
		files = files[n:]
	}
	return runs
}

func (col *collector) work(ctx context.Context, lane *odb.Lane, runs [][]*file, next *atomic.Int64) error {
	for i := int(next.Add(1)) - 1; i < len(runs); i = int(next.Add(1)) - 1 {
		for _, f := range runs[i] {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := col.read(ctx, lane, f); err != nil {
				return err
			}
			col.o.Meter.Done(1, f.size)
		}
	}
	return nil
}

// read puts one file into the store. What is wrong with the file is in its err;
// an error is the store's.
func (col *collector) read(ctx context.Context, lane *odb.Lane, f *file) error {
	in, err := os.OpenFile(f.place, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		f.err = err
		return nil
	}
	defer in.Close()
	if f.size >= chunk.Threshold { // too big for memory: it is read twice
		if f.err = col.prove(f, io.NewSectionReader(in, 0, f.size)); f.err == nil {
			f.id, err = lane.PutReader(ctx, f.size, io.NewSectionReader(in, 0, f.size))
		}
		return err
	}
	body, err := lane.Space(int(f.size))
	if err != nil {
		return err
	}
	if _, f.err = io.ReadFull(in, body); f.err == nil {
		f.err = col.prove(f, bytes.NewReader(body))
	}
	if f.err == nil {
		f.id, err = lane.Add(len(body))
	}
	return err
}

// prove finds out how the file got its name, and whether it can be executed.
func (col *collector) prove(f *file, body io.ReadSeeker) error {
	ways := hashings(f.version)
	if last, ok := col.last.Load().(hashing); ok && len(ways) > 1 {
		slices.SortStableFunc(ways, func(a, b hashing) int { return boolean(b == last) - boolean(a == last) })
	}
	for _, way := range ways {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n := way.namer()
		if _, err := io.Copy(n, body); err != nil {
			return err
		}
		switch f.digest {
		case n.name(false):
			f.mode = objects.ModeFile
		case n.name(true):
			f.mode = objects.ModeExec
		default:
			continue
		}
		f.hash = way
		col.last.Store(way)
		return nil
	}
	return errWrongName
}

// write makes the entries of all rules whose files are stored.
func (col *collector) write(meta entry.Meta) ([]Found, error) {
	var found []Found
	incomplete := 0
	for _, r := range col.rules {
		switch err := r.check(); {
		case errors.Is(err, fs.ErrNotExist):
			incomplete++
			continue
		case err != nil:
			col.report.Skipped++
			col.warn.add(fmt.Errorf("%s is left out: %w", r.key, err))
			continue
		}
		id, err := r.write(col.w, meta)
		if err != nil {
			return nil, err
		}
		found = append(found, Found{r.key, id})
	}
	col.warn.end()
	if incomplete > 0 {
		col.o.Warn(fmt.Errorf("%d without all of their files, as Dune leaves them when it trims its cache: left out", incomplete))
	}
	col.report.Skipped += incomplete
	col.report.Entries = len(found)
	return found, nil
}

// check returns why the rule cannot be an entry, or nil.
func (r *rule) check() error {
	if r.err != nil {
		return r.err
	}
	for _, f := range r.files {
		if f.err != nil {
			return fmt.Errorf("file %s: %w", f.digest, f.err)
		}
		if f.hash != r.files[0].hash {
			return fmt.Errorf("file %s: %w", f.digest, errWrongName)
		}
	}
	return nil
}

func (r *rule) write(w Writer, meta entry.Meta) (objects.ID, error) {
	body, err := w.PutBytes(objects.Blob, r.metadata.Encode())
	if err != nil {
		return objects.ID{}, err
	}
	payload := objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: body}}
	named := map[Digest]bool{}
	meta.Kind, meta.Extra = Kind, nil
	for _, f := range r.files {
		if named[f.digest] {
			continue
		}
		named[f.digest] = true
		payload = append(payload, objects.Entry{Mode: f.mode, Name: f.digest.String(), ID: f.id})
		meta.Extra = map[string]string{extraHash: string(f.hash)}
	}
	return entry.Write(w, meta, payload, objects.ID{})
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
