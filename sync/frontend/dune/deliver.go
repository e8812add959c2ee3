package dune

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A Reader has the objects of entries.
type Reader interface {
	objects.Reader
	ReadMany(ctx context.Context, ids []objects.ID, o odb.ManyOptions, fn func(i int, k objects.Kind, body []byte) error) error
}

// Deliver writes into the cache what it lacks of the entries. What is there stays
// as it is, whatever an entry says of it: who came first has won.
//
// Files come before the metadata that names them, each under its own name only when
// it is whole and proven to be what the name says. So Dune may run meanwhile, and
// whatever ends Deliver leaves at most files that nobody asks for. An entry that is
// damaged, or not what it says, is left out with a warning.
func (c *Cache) Deliver(ctx context.Context, r Reader, entries []Found, o Options) (Report, error) {
	o = o.withDefaults()
	d := delivery{c: c, r: r, o: o, warn: warner{warn: o.Warn}}
	for _, f := range entries {
		if c.roots[f.Key.Version] != "" {
			d.parcels = append(d.parcels, &parcel{Found: f})
		}
	}
	for _, step := range []func(context.Context) error{d.readTrees, d.readMetas, d.readBodies, d.choose, d.writeFiles, d.writeMetadata} {
		if err := step(ctx); err != nil {
			return d.report(), fmt.Errorf("deliver into dune's cache: %w", err)
		}
	}
	return d.report(), nil
}

type delivery struct {
	c    *Cache
	r    Reader
	o    Options
	warn warner

	parcels []*parcel
	goods   []*good

	entries, files atomic.Int64
	bytes          atomic.Int64
}

// A parcel is an entry on its way.
type parcel struct {
	Found
	tree     objects.Entries
	meta     entry.Meta
	metadata Metadata
	goods    []*good // those that the cache lacks
	err      error   // why it is left out
}

// A good is a file that the cache lacks.
type good struct {
	goodID
	err error // why it was not written; set by one goroutine
}

// A goodID tells goods apart. Two entries may have other content for one name:
// then one of them is wrong, and must not spoil the other.
type goodID struct {
	root   string
	digest Digest
	hash   hashing
	mode   objects.Mode
	id     objects.ID
}

// errBadEntry is an entry that Collect does not make.
var errBadEntry = errors.New("malformed entry")

func (d *delivery) report() Report {
	r := Report{Entries: int(d.entries.Load()), Files: int(d.files.Load()), Bytes: d.bytes.Load()}
	for _, p := range d.parcels {
		if p.err != nil {
			r.Skipped++
		}
	}
	return r
}

// read calls fn with the bodies of what id names in each parcel that is well. What
// is missing or wrong is the parcel's error.
func (d *delivery) read(ctx context.Context, id func(*parcel) objects.ID, k objects.Kind, fn func(p *parcel, body []byte) error) error {
	var ids []objects.ID
	var parcels []*parcel
	for _, p := range d.parcels {
		if p.err == nil {
			ids, parcels = append(ids, id(p)), append(parcels, p)
		}
	}
	take := func(i int, got objects.Kind, body []byte) error {
		if got != k {
			parcels[i].err = fmt.Errorf("%w: %s is a %s, want a %s", errBadEntry, ids[i], got, k)
		} else {
			parcels[i].err = fn(parcels[i], body)
		}
		return nil
	}
	return d.r.ReadMany(ctx, ids, odb.ManyOptions{
		Parallel: d.o.Parallel,
		Big: func(i int, id objects.ID, size int64) error {
			if size > maxMetadata {
				parcels[i].err = fmt.Errorf("%w: %s has %d bytes", errBadEntry, id, size)
				return nil
			}
			body, err := objects.ReadKind(ctx, d.r, id, objects.Blob)
			if err != nil {
				parcels[i].err = err
				return nil
			}
			return take(i, objects.Blob, body)
		},
		Lost: func(i int, _ objects.ID, err error) error {
			parcels[i].err = err
			return nil
		},
	}, take)
}

func (d *delivery) readTrees(ctx context.Context) error {
	return d.read(ctx, func(p *parcel) objects.ID { return p.ID }, objects.Tree, func(p *parcel, body []byte) (err error) {
		p.tree, err = objects.ParseTree(body)
		return err
	})
}

// readMetas reads the meta of each parcel. Many have the same one.
func (d *delivery) readMetas(ctx context.Context) error {
	type read struct {
		meta entry.Meta
		err  error
	}
	known := map[objects.ID]read{}
	for _, p := range d.parcels {
		if p.err != nil {
			continue
		}
		var e objects.Entry
		if e, p.err = p.named(entry.MetaName); p.err != nil {
			continue
		}
		one, ok := known[e.ID]
		if !ok {
			one.meta, one.err = d.readMeta(ctx, e.ID)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			known[e.ID] = one
		}
		p.meta, p.err = one.meta, one.err
	}
	return nil
}

func (d *delivery) readMeta(ctx context.Context, id objects.ID) (entry.Meta, error) {
	body, err := objects.ReadKind(ctx, d.r, id, objects.Blob)
	if err != nil {
		return entry.Meta{}, err
	}
	return entry.ParseMeta(body)
}

// named returns what the entry has under a name: a file.
func (p *parcel) named(name string) (objects.Entry, error) {
	e, ok := p.tree.Find(name)
	if !ok || e.Mode != objects.ModeFile && e.Mode != objects.ModeExec {
		return objects.Entry{}, fmt.Errorf("%w: it has no file %q", errBadEntry, name)
	}
	return e, nil
}

func (d *delivery) readBodies(ctx context.Context) error {
	for _, p := range d.parcels {
		if p.err == nil {
			_, p.err = p.named(entry.BodyName)
		}
	}
	body := func(p *parcel) objects.ID {
		e, _ := p.named(entry.BodyName)
		return e.ID
	}
	return d.read(ctx, body, objects.Blob, func(p *parcel, body []byte) (err error) {
		p.metadata, err = ParseMetadata(body)
		return err
	})
}

// choose lists the files that the cache lacks.
func (d *delivery) choose(context.Context) error {
	there := map[string]map[Digest]bool{}
	goods := map[goodID]*good{}
	for _, p := range d.parcels {
		if p.err != nil {
			continue
		}
		root := d.c.roots[p.Key.Version]
		if there[root] == nil {
			there[root] = map[Digest]bool{}
			if err := list(d.c.files(p.Key.Version), func(x Digest) { there[root][x] = true }); err != nil {
				return err
			}
		}
		for _, t := range p.metadata.Targets {
			if t.IsDir || there[root][t.Digest] {
				continue
			}
			e, err := p.named(t.Digest.String())
			way := hashing(p.meta.Extra[extraHash])
			if err == nil && way.namer() == nil {
				err = fmt.Errorf("%w: names by %q", errBadEntry, way)
			}
			if err != nil {
				p.err = err
				break
			}
			key := goodID{root, t.Digest, way, e.Mode, e.ID}
			if goods[key] == nil {
				goods[key] = &good{goodID: key}
			}
			p.goods = append(p.goods, goods[key])
		}
	}
	wanted := map[*good]bool{}
	for _, p := range d.parcels {
		for _, g := range p.goods {
			if p.err == nil && !wanted[g] {
				wanted[g] = true
				d.goods = append(d.goods, g)
			}
		}
	}
	return nil
}

// makeDirs makes the directories that something is to be written to.
func makeDirs(dirs map[string]bool) error {
	for dir := range dirs {
		if err := durable.MkdirAll(dir, durable.NoSync); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) writeFiles(ctx context.Context) error {
	dirs := map[string]bool{}
	ids := make([]objects.ID, len(d.goods))
	for i, g := range d.goods {
		ids[i] = g.id
		dirs[filepath.Dir(g.place())] = true
	}
	if err := makeDirs(dirs); err != nil {
		return err
	}
	d.o.Meter.Expect(len(ids), 0)
	o := odb.ManyOptions{
		Parallel: d.o.Parallel,
		Big:      func(i int, _ objects.ID, _ int64) error { return d.writeBig(ctx, d.goods[i]) },
		Lost: func(i int, _ objects.ID, err error) error {
			d.goods[i].err = err
			return nil
		},
	}
	return d.r.ReadMany(ctx, ids, o, func(i int, k objects.Kind, body []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		g := d.goods[i]
		if k != objects.Blob {
			g.err = fmt.Errorf("%w: %s is a %s", errBadEntry, g.id, k)
			return nil
		}
		return d.writeSmall(g, body)
	})
}

func (g *good) place() string { return place(filepath.Join(g.root, filesDir), g.digest) }

// What Dune's files may be done with, less the umask.
const (
	filePerm     = 0o444
	execPerm     = 0o555
	metadataPerm = 0o644
)

// create starts a file with the permissions that the good has.
func (g *good) create() (*durable.File, error) {
	perm := fs.FileMode(filePerm)
	if g.mode == objects.ModeExec {
		perm = execPerm
	}
	return durable.CreatePerm(filepath.Dir(g.place()), perm)
}

// prove reports a good that is not what its name says.
func (g *good) prove(n namer) error {
	if n.name(g.mode == objects.ModeExec) != g.digest {
		return errWrongName
	}
	return nil
}

// writeSmall writes a file that is in memory. What is wrong with it is in its err;
// an error is the disk's.
func (d *delivery) writeSmall(g *good, body []byte) error {
	n := g.hash.namer()
	n.Write(body)
	if g.err = g.prove(n); g.err != nil {
		return nil
	}
	f, err := g.create()
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return d.commit(f, g)
}

// writeBig writes a file that does not come whole.
func (d *delivery) writeBig(ctx context.Context, g *good) error {
	o, err := d.r.Open(ctx, g.id)
	if err != nil {
		g.err = err
		return nil
	}
	defer o.Body.Close()
	f, err := g.create()
	if err != nil {
		return err
	}
	defer f.Abort()
	n := g.hash.namer()
	body := &body{r: o.Body, ctx: ctx}
	out := bufio.NewWriterSize(f, 256<<10)
	_, err = io.Copy(io.MultiWriter(out, n), body)
	if err == nil {
		err = out.Flush()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case body.err != nil:
		g.err = body.err
		return nil
	case err != nil:
		return err
	}
	if g.err = g.prove(n); g.err != nil {
		return nil
	}
	return d.commit(f, g)
}

// A body is what is read, with the error that it ended in, so that nobody takes it
// for one of writing.
type body struct {
	r   io.Reader
	ctx context.Context // of one copy
	err error
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (d *delivery) commit(f *durable.File, g *good) error {
	switch err := f.CommitNew(g.place(), durable.NoSync); {
	case errors.Is(err, fs.ErrExist): // Dune has made it meanwhile
	case err != nil:
		return err
	default:
		d.files.Add(1)
		d.bytes.Add(f.Size())
	}
	d.o.Meter.Done(1, f.Size())
	return nil
}

// writeMetadata writes the metadata of the parcels whose files are all there.
func (d *delivery) writeMetadata(ctx context.Context) error {
	var parcels []*parcel
	dirs := map[string]bool{}
	for _, p := range d.parcels {
		for _, g := range p.goods {
			if p.err == nil && g.err != nil {
				p.err = fmt.Errorf("file %s: %w", g.digest, g.err)
			}
		}
		if p.err != nil {
			d.warn.add(fmt.Errorf("%s is left out: %w", p.Key, p.err))
			continue
		}
		parcels = append(parcels, p)
		dirs[filepath.Dir(d.c.metadataPlace(p.Key))] = true
	}
	d.warn.end()
	if err := makeDirs(dirs); err != nil {
		return err
	}
	return each(ctx, d.o.Parallel, len(parcels), func(i int) error {
		p := parcels[i]
		f, err := durable.CreatePerm(filepath.Dir(d.c.metadataPlace(p.Key)), metadataPerm)
		if err != nil {
			return err
		}
		defer f.Abort()
		if _, err := f.Write(p.metadata.Encode()); err != nil {
			return err
		}
		err = f.CommitNew(d.c.metadataPlace(p.Key), durable.NoSync)
		if errors.Is(err, fs.ErrExist) {
			return nil // Dune has run the rule meanwhile
		}
		if err == nil {
			d.entries.Add(1)
		}
		return err
	})
}
