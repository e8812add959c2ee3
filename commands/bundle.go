package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote/bundle"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

func bundleCommand(s *session) *cli.Command {
	var since cli.StringSlice
	return &cli.Command{
		Name:      "bundle",
		Category:  categoryRemote,
		Usage:     "carry branches and tags in one file",
		ArgsUsage: "create FILE [REF…] | verify FILE | import FILE [BRANCH…]",
		Description: text(`
For machines without a network between them. "create" writes branches and tags with all
that they lead to into FILE; without REF all there are; - is standard output. --since
leaves out what REV leads to: who imports the file must have that. "verify" reads all of
FILE and says what is in it, and whether what it builds on is here. "import" merges its
branches into those here of the same name, as pull does, or the BRANCHes alone, and takes
tags that are not here. It proves all of it first: of a damaged file nothing is taken.`, `
cache-tool bundle create week.bundle --since main@{7.days.ago}`),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "since", Usage: "create: leave out what `REV` leads to; may be repeated", Destination: &since},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 2, many); err != nil {
				return err
			}
			verb, file, rest := c.Args().First(), c.Args().Get(1), c.Args().Slice()[2:]
			if verb != "create" && len(since.Value()) > 0 {
				return usagef("--since is for bundle create")
			}
			switch verb {
			case "create":
				return s.createBundle(c.Context, file, rest, since.Value())
			case "verify":
				if len(rest) > 0 {
					return usagef("too many arguments")
				}
				return s.verifyBundle(c.Context, file)
			case "import":
				return s.importBundle(c.Context, file, rest)
			}
			return usagef("%q: want create, verify or import", verb)
		},
	}
}

// standardOutput is the file that is none.
const standardOutput = "-"

func (s *session) createBundle(ctx context.Context, file string, names, since []string) error {
	if file == standardOutput && (s.json || s.terminal) {
		return usagef("a bundle on standard output is for a pipe or a file, without --json")
	}
	r, err := s.openToWrite(ctx)
	if err != nil {
		return err
	}
	x := &exchange{s: s, r: r, m: remoteStore{url: file}}
	var c bundle.Contents
	if c.Refs, err = x.bundled(ctx, names); err != nil {
		return err
	}
	for _, rev := range since {
		id, err := r.Resolve(ctx, rev)
		if err != nil {
			return err
		}
		c.Needs = append(c.Needs, id)
	}
	if file == standardOutput {
		return x.writeBundle(ctx, s.out, c)
	}
	f, err := durable.Create(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer f.Abort()
	if err := x.writeBundle(ctx, f, c); err != nil {
		return err
	}
	length := f.Size()
	if err := f.CommitAs(file, durable.Synced); err != nil {
		return err
	}
	if s.json {
		return s.answer(bundleJSON{File: file, Refs: listed(c.Refs), Needs: c.Needs, Objects: x.stats.Objects, Bytes: length})
	}
	s.say("%s: %s, %s, %s", shown(file), counted(len(c.Refs), "ref"), counted(x.stats.Objects, "object"), size(length))
	return nil
}

// A bundleJSON is what --json says of a bundle.
type bundleJSON struct {
	File    string       `json:"file"`
	Refs    []listedRef  `json:"refs"`
	Needs   []objects.ID `json:"needs,omitempty"`   // what it builds on
	Missing []objects.ID `json:"missing,omitempty"` // of that, what is not here
	Objects int          `json:"objects"`
	Bytes   int64        `json:"bytes"`
}

type listedRef struct {
	Ref string     `json:"ref"`
	ID  objects.ID `json:"id"`
}

func listed(all []refs.Ref) []listedRef {
	list := []listedRef{}
	for _, r := range all {
		list = append(list, listedRef{string(r.Name), r.ID})
	}
	return list
}

// bundled returns the refs that names stand for; all branches and tags if there are
// none. What is staged for a branch is committed first.
func (x *exchange) bundled(ctx context.Context, names []string) ([]refs.Ref, error) {
	var wanted []refs.Name
	for _, name := range names {
		ref, err := x.bundledRef(ctx, name)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, ref)
	}
	if len(names) == 0 {
		for ref, err := range x.r.Refs.All(ctx, "refs/") {
			if err != nil {
				return nil, err
			}
			if ref.Name.IsBranch() || ref.Name.IsTag() {
				wanted = append(wanted, ref.Name)
			}
		}
	}
	var all []refs.Ref
	taken := map[refs.Name]bool{}
	for _, name := range wanted {
		if taken[name] {
			continue
		}
		taken[name] = true
		id, err := x.tip(ctx, name, false)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shown(name.Short()), err)
		}
		all = append(all, refs.Ref{Name: name, ID: id})
	}
	if len(all) == 0 {
		return nil, errors.New("there is no branch and no tag yet")
	}
	return all, nil
}

func (x *exchange) bundledRef(ctx context.Context, name string) (refs.Name, error) {
	for _, ref := range []refs.Name{refs.Branch(name), refs.Tag(name), refs.Name(name)} {
		if ref.Check() == nil && (ref.IsBranch() || ref.IsTag()) && x.has(ctx, ref) {
			return ref, nil
		}
	}
	return "", withHint(fmt.Errorf("%s: no such branch or tag", shown(name)), `"cache-tool branch" and "cache-tool tag" list them`)
}

// writeBundle writes a bundle, of which only what is cut is not known yet.
func (x *exchange) writeBundle(ctx context.Context, to io.Writer, c bundle.Contents) error {
	x.meter = x.s.progress("bundle", "object")
	defer x.meter.stop()
	out := bufio.NewWriterSize(to, 256<<10)
	w, err := bundle.NewWriter(out)
	if err != nil {
		return err
	}
	x.Remote = w
	o, err := x.options(ctx)
	if err != nil {
		return err
	}
	if err := x.knownChunks(ctx, c.Needs, &w.Known); err != nil {
		return err
	}
	var tips []objects.ID
	for _, ref := range c.Refs {
		tips = append(tips, ref.ID)
	}
	stats, err := transfer.Send(ctx, x.r.DB, w, tips, c.Needs, o)
	x.count(stats)
	if err != nil {
		return err
	}
	c.Cut = stats.Cut
	if err := w.Finish(c); err != nil {
		return err
	}
	return out.Flush()
}

// knownChunks adds to known what the big blobs of some commits are made of: of a file
// that has changed a little only that is to be carried. What was before these commits
// is not looked at.
func (x *exchange) knownChunks(ctx context.Context, commits []objects.ID, known *reach.Set) error {
	var roots, blobs []objects.ID
	for _, id := range commits {
		c, err := objects.ReadCommit(ctx, x.r.DB, id)
		if err != nil {
			return err
		}
		roots = append(roots, c.Tree)
	}
	err := reach.Walk(ctx, x.r.DB, roots, reach.Options{Visit: func(id objects.ID, k objects.Kind) error {
		if k == objects.Blob {
			blobs = append(blobs, id)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	// What a lazy repository lacks of them is no reason to fetch it.
	missing, err := x.r.DB.Missing(ctx, blobs)
	if err != nil {
		return err
	}
	lacks := map[objects.ID]bool{}
	for _, id := range missing {
		lacks[id] = true
	}
	blobs = slices.DeleteFunc(blobs, func(id objects.ID) bool { return lacks[id] })
	return x.r.DB.Chunks(ctx, blobs, func(_, chunk objects.ID) error {
		known.Add(chunk)
		return nil
	})
}

// A heldBundle is a bundle in an open file.
type heldBundle struct {
	*bundle.File
	size int64
	file *os.File
}

// openBundle reads a bundle, and finds nothing wrong with it.
func openBundle(ctx context.Context, file string) (heldBundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return heldBundle{}, err
	}
	b := heldBundle{file: f}
	if err := b.read(ctx); err != nil {
		f.Close()
		err = fmt.Errorf("%s: %w", shown(file), err)
		if errors.Is(err, bundle.ErrBad) || errors.Is(err, pack.ErrBadPack) {
			err = withHint(err, "nothing of it was taken: copy it again from where it was made")
		}
		return heldBundle{}, err
	}
	return b, nil
}

func (b *heldBundle) read(ctx context.Context) error {
	fi, err := b.file.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return errors.New("a bundle is read more than once: it must be a file")
	}
	b.size = fi.Size()
	b.File, err = bundle.Open(ctx, b.file, b.size)
	return err
}

func (s *session) verifyBundle(ctx context.Context, file string) error {
	b, err := openBundle(ctx, file)
	if err != nil {
		return err
	}
	defer b.file.Close()
	missing := b.Needs
	switch r, err := s.open(ctx); {
	case errors.Is(err, repo.ErrNotRepository): // then nothing is here
	case err != nil:
		return err
	default:
		if missing, err = r.DB.Missing(ctx, b.Needs); err != nil {
			return err
		}
	}
	if s.json {
		err = s.answer(bundleJSON{file, listed(b.Contents.Refs), b.Needs, missing, b.Objects, b.size})
	} else {
		for _, ref := range b.Contents.Refs {
			s.printf("%s %s\n", ref.ID.Short(), shown(string(ref.Name)))
		}
		for _, id := range b.Needs {
			s.printf("%s needed\n", id.Short())
		}
		s.say("%s: %s, %s: nothing is wrong with it", shown(file), counted(b.Objects, "object"), size(b.size))
	}
	if err == nil {
		err = lacksNeeded(file, missing)
	}
	return err
}

// lacksNeeded says what a bundle builds on that is not here.
func lacksNeeded(file string, missing []objects.ID) error {
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, id := range missing {
		names = append(names, id.Short())
	}
	return withHint(fmt.Errorf("%s builds on what is not here: %s", shown(file), strings.Join(names, ", ")),
		"import what was made before it first; or make it again without --since")
}

func (s *session) importBundle(ctx context.Context, file string, branches []string) error {
	b, err := openBundle(ctx, file)
	if err != nil {
		return err
	}
	defer b.file.Close()
	r, err := s.openToWrite(ctx)
	if err != nil {
		return err
	}
	missing, err := r.DB.Missing(ctx, b.Needs)
	if err == nil {
		err = lacksNeeded(file, missing)
	}
	if err != nil {
		return err
	}
	current, err := s.branch(ctx, r)
	if err != nil {
		return err
	}
	list, x, err := s.pullBundle(ctx, r, b.File, remoteStore{url: file}, current, branches)
	if err != nil {
		return err
	}
	return x.show(ctx, "import", false, list)
}

// pullBundle merges what is in a bundle, as a pull does from any remote.
func (s *session) pullBundle(ctx context.Context, r *repo.Repo, b *bundle.File, m remoteStore, current refs.Name, branches []string) ([]movedRef, *exchange, error) {
	// Its pack comes as a whole: in pieces it would come once for each.
	x := &exchange{s: s, r: r, m: m, Remote: b, packSize: math.MaxInt64}
	if err := x.look(ctx); err != nil {
		return nil, nil, err
	}
	x.meter = s.progress("import "+m.String(), "object")
	defer x.meter.stop()
	list, err := x.pullAll(ctx, current, pulling{all: len(branches) == 0, tags: len(branches) == 0, branches: branches})
	return list, x, err
}
