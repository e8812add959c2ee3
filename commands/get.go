package commands

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo"
)

func getCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "get",
		Category:  categoryCache,
		Usage:     "write the value of a key to a file or to standard output",
		ArgsUsage: "[REV:]KEY [FILE]",
		Description: text(`
Writes the value that put kept under KEY to FILE, or to standard output if FILE
is missing or "-". It is looked up in the current branch, then in its base, then
in the default branch; with REV, in that version only. No byte is written before
all of them are proven to be what was put. Exit code 3 says that there is no such
value. --json without FILE prints the value within the document.`, `
cache-tool get main~1:release/notes notes.md`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			r, err := s.openToRead(c.Context)
			if err != nil {
				return err
			}
			v, key, err := s.viewOf(c.Context, r, c.Args().First())
			if err != nil {
				return err
			}
			if err := checkKey(key); err != nil {
				return err
			}
			found, err := lookup(c.Context, r, v, entry.Put, key)
			if errors.Is(err, objects.ErrNotFound) {
				return s.missed(key, v, err, s.missHints(c.Context, r, v, c.Args().First(), key, entry.Put)...)
			} else if err != nil {
				return err
			}
			payload, _, err := entry.Read(c.Context, r.DB, found.ID)
			if err != nil {
				return missOf(err)
			}
			body, ok := payload.Find(entry.BodyName)
			if !ok {
				return fmt.Errorf("%s: the entry has no value", shown(key))
			}
			r.NoteUse(found.Path)
			return s.deliver(c.Context, r, content{Key: key, Path: found.Path, Branch: found.Branch.Short()}, body, c.Args().Get(1))
		},
	}
}

// missed is the answer to a lookup that found nothing.
func (s *session) missed(key string, v view, cause error, hints ...string) error {
	var damaged *objects.DamagedError
	text := fmt.Sprintf("%s: not in %s", shown(key), v)
	if errors.As(cause, &damaged) {
		text = fmt.Sprintf("%s: %v", shown(key), cause)
	}
	if s.json {
		if err := s.answer(struct {
			Hit bool   `json:"hit"`
			Key string `json:"key"`
			Why string `json:"why"`
		}{false, key, text}); err != nil {
			return err
		}
	}
	return withHint(&missError{text}, hints...)
}

// missHints says where else the key that somebody meant may be.
func (s *session) missHints(ctx context.Context, r *repo.Repo, v view, arg, key string, kind entry.Kind) []string {
	var hints []string
	other, command := entry.Put, "get"
	if kind == entry.Put {
		other, command = entry.Save, "restore"
	}
	if _, err := lookup(ctx, r, v, other, key); err == nil {
		hints = append(hints, fmt.Sprintf("%q is another kind of entry: \"cache-tool %s\" has it", key, command))
	}
	if arg != key {
		if whole, _, err := s.viewOf(ctx, r, ":"+arg); err == nil {
			if _, err := lookup(ctx, r, whole, kind, arg); err == nil {
				hints = append(hints, fmt.Sprintf("there is a key %q: put a colon in front to mean it", arg))
			}
		}
	}
	return hints
}

// missOf makes a miss of an error about an object that is missing or damaged:
// the entry is there but can't be had, so it is one.
func missOf(err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return withHint(&missError{err.Error()}, `run "cache-tool fsck" to see everything that is damaged`)
	}
	return err
}

// A content is what --json says of a file in the cache, and the file itself if
// it was to go to standard output.
type content struct {
	Hit      bool       `json:"hit"`
	Key      string     `json:"key,omitempty"`
	Path     string     `json:"path"`
	Branch   string     `json:"branch,omitempty"`
	ID       objects.ID `json:"id"`
	Size     int64      `json:"size"`
	Mode     string     `json:"mode"`
	File     string     `json:"file,omitempty"` // where it was written
	Encoding string     `json:"encoding,omitempty"`
	Content  *string    `json:"content,omitempty"`
}

// deliver writes the blob that e names to the file name, or to standard output
// for "" and "-".
func (s *session) deliver(ctx context.Context, r *repo.Repo, c content, e objects.Entry, name string) error {
	_, n, err := r.DB.Stat(ctx, e.ID)
	if err != nil {
		return missOf(err)
	}
	c.Hit, c.ID, c.Size, c.Mode = true, e.ID, n, fmt.Sprintf("%06o", uint32(e.Mode))
	toFile := name != "" && name != "-"
	switch {
	case toFile:
		if err := writeBlob(ctx, r, e, name); err != nil {
			return missOf(err)
		}
		s.say("wrote %s: %s", name, size(n))
		c.File = name
	case s.json:
		_, body, err := objects.Read(ctx, r.DB, e.ID)
		if err != nil {
			return missOf(err)
		}
		text := string(body)
		if c.Encoding = "utf-8"; !utf8.Valid(body) {
			c.Encoding, text = "base64", base64.StdEncoding.EncodeToString(body)
		}
		c.Content = &text
	default:
		return missOf(s.printBlob(ctx, r, e.ID, n))
	}
	if s.json {
		return s.answer(c)
	}
	return nil
}

// writeBlob replaces the file name by the blob that e names: the old file is
// there or the new one, whole.
func writeBlob(ctx context.Context, r *repo.Repo, e objects.Entry, name string) error {
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return fmt.Errorf("%s: is a directory", name)
	} else if err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0) // a device or a pipe can't be replaced
		if err != nil {
			return err
		}
		defer f.Close()
		return copyBlob(ctx, r, e.ID, f)
	}
	o, err := r.DB.Open(ctx, e.ID)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	f, err := durable.Create(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := io.Copy(f, o.Body); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if e.Mode == objects.ModeExec {
		if err := addExecutable(f.Name()); err != nil {
			return err
		}
	}
	return f.CommitAs(name, durable.NoSync)
}

// addExecutable lets those execute a file who may read it.
func addExecutable(name string) error {
	fi, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.Chmod(name, fi.Mode().Perm()|fi.Mode().Perm()>>2&0o111)
}

// printBlob writes a blob of n bytes to standard output once it is proven.
func (s *session) printBlob(ctx context.Context, r *repo.Repo, id objects.ID, n int64) error {
	if n <= maxHeld {
		_, body, err := objects.Read(ctx, r.DB, id)
		if err != nil {
			return err
		}
		_, err = s.out.Write(body)
		return err
	}
	return copyBlob(ctx, r, id, s.out)
}

// copyBlob spools a blob, so that its id is proven before w sees a byte.
func copyBlob(ctx context.Context, r *repo.Repo, id objects.ID, w io.Writer) error {
	o, err := r.DB.Open(ctx, id)
	if err != nil {
		return err
	}
	defer o.Body.Close()
	f, err := unnamedFile()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, o.Body); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
