package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo"
)

func putCommand(s *session) *cli.Command {
	var stage bool
	var message string
	return &cli.Command{
		Name:      "put",
		Category:  categoryCache,
		Usage:     "keep one file, or standard input, under a key",
		ArgsUsage: "KEY [FILE]",
		Description: text(`
Keeps the content of FILE, or of standard input if FILE is missing or "-", as
the value of KEY, and commits it. A value that is there already makes no commit;
another value becomes a new version, and history keeps the old one.`, `
cache-tool put release/notes notes.md`),
		Flags: []cli.Flag{
			boolFlag(&stage, "add it to the stage; a later commit takes it along", "stage"),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "say why in the commit's `MESSAGE`", Destination: &message},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			key, name := c.Args().Get(0), c.Args().Get(1)
			if err := checkKey(key); err != nil {
				return err
			}
			value, err := interruptible(c.Context, func() (*value, error) { return s.openValue(name) })
			if err != nil {
				return err
			}
			defer value.close()
			r, err := s.openToWrite(c.Context)
			if err != nil {
				return err
			}
			done, err := s.write(c.Context, r, writing{
				kind: entry.Put, key: key, stage: stage, message: message,
				make: func(ctx context.Context, ch *repo.Change, old objects.ID) (objects.ID, error) {
					return putValue(ctx, ch, key, value, old)
				},
			})
			if err != nil {
				return fmt.Errorf("%s: %w", shown(key), err)
			}
			s.tell("put", done, size(value.size))
			if s.json {
				return s.answer(struct {
					written
					Size int64 `json:"size"`
				}{done, value.size})
			}
			return nil
		},
	}
}

// putValue writes the entry of a value.
func putValue(ctx context.Context, ch *repo.Change, key string, v *value, old objects.ID) (objects.ID, error) {
	id, err := ch.Batch.Put(ctx, objects.Blob, v.size, v.r)
	if err != nil {
		return objects.ID{}, err
	}
	if err := v.unchanged(); err != nil {
		return objects.ID{}, err
	}
	source := repo.ReadSource(".")
	meta := entry.Meta{Kind: entry.Put, Key: key, Created: time.Now(), Commit: source.Commit, Branch: source.Branch}
	return entry.Write(ch.Batch, meta, objects.Entries{{Mode: v.mode, Name: entry.BodyName, ID: id}}, old)
}

// interruptible waits for fn, which reads what may never come, such as what a
// person types, or until the context ends; then the process does soon.
func interruptible[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := fn()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// A value is what put is given: bytes whose number is known.
type value struct {
	r     io.Reader
	size  int64
	mode  objects.Mode
	file  *os.File // nil for standard input that fits into memory
	stamp os.FileInfo
}

func (v *value) close() {
	if v.file != nil {
		v.file.Close()
	}
}

// unchanged reports a file that somebody wrote to while it was read.
func (v *value) unchanged() error {
	if v.stamp == nil {
		return nil
	}
	now, err := v.file.Stat()
	if err != nil {
		return err
	}
	if now.Size() != v.size || !now.ModTime().Equal(v.stamp.ModTime()) {
		return withHint(fmt.Errorf("%s changed while it was being read", v.file.Name()), "run the command again when nobody writes to it")
	}
	return nil
}

// maxHeld is how much of a pipe is held in memory; more goes to a file.
const maxHeld = 4 << 20

// openValue opens the file name, or standard input for "" and "-".
func (s *session) openValue(name string) (*value, error) {
	if name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		fi, err := f.Stat()
		if err == nil && fi.IsDir() {
			err = withHint(fmt.Errorf("%s: is a directory", name), `"cache-tool save" keeps directories`)
		}
		if err == nil && fi.Mode().IsRegular() {
			v := &value{r: f, size: fi.Size(), mode: objects.ModeFile, file: f, stamp: fi}
			if fi.Mode()&0o100 != 0 {
				v.mode = objects.ModeExec
			}
			return v, nil
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		defer f.Close()
		return spool(f) // a pipe or a device: its size is known at its end
	}
	if f, ok := s.in.(*os.File); ok && isTerminal(f) && !s.quiet {
		fmt.Fprintln(s.err, "reading the value from the terminal; end it with Ctrl-D")
	}
	return spool(s.in)
}

// spool reads all of r, to memory or to a file without a name.
func spool(r io.Reader) (*value, error) {
	var held bytes.Buffer
	n, err := io.CopyN(&held, r, maxHeld+1)
	if errors.Is(err, io.EOF) {
		return &value{r: &held, size: n, mode: objects.ModeFile}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	f, err := unnamedFile()
	if err != nil {
		return nil, err
	}
	n, err = io.Copy(f, io.MultiReader(&held, r))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return &value{r: f, size: n, mode: objects.ModeFile, file: f}, nil
}

// unnamedFile makes a temporary file that is gone as soon as it is closed,
// however the process ends.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", programName)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
