package gitpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// The files of an exported repository, below DIR/.git:
//
//	cache-tool-export  a record of the refs that exports wrote, which also marks
//	                   the directory as an export; see refUpdate
//	cache-tool-lock    held while an export writes
//	HEAD config info/attributes packed-refs shallow objects/pack/   Git's own
const (
	recordName = "cache-tool-export"
	lockName   = "cache-tool-lock"
)

const gitConfig = `[core]
	repositoryformatversion = 1
	filemode = true
	bare = false
	logallrefupdates = true
	autocrlf = false
[extensions]
	objectformat = sha256
`

// gitAttributes outranks every .gitattributes file among what was cached:
// checkout must write the bytes that are there.
const gitAttributes = "* -text !eol !working-tree-encoding -ident !filter\n"

// ErrNotExport says that a directory holds something else already.
var ErrNotExport = errors.New("directory is neither empty nor an earlier export")

// checkDir reports whether an export may write to dir.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	inside, err := os.ReadDir(filepath.Join(dir, ".git"))
	if err != nil {
		return fmt.Errorf("%s: %w", dir, ErrNotExport)
	}
	foreign := len(entries) > 1
	for _, e := range inside {
		if e.Name() == recordName {
			return checkFormat(dir)
		}
		// The record is what an export writes first. Before it there is at most this:
		foreign = foreign || e.Name() != lockName && !durable.IsPending(e.Name())
	}
	if foreign {
		return fmt.Errorf("%s: %w", dir, ErrNotExport)
	}
	return nil
}

// checkFormat refuses an export that was turned into something which this
// package would not read right.
func checkFormat(dir string) error {
	config, err := os.ReadFile(filepath.Join(dir, ".git", "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the export before this one did not come that far
	}
	if err != nil {
		return err
	}
	if text := strings.ToLower(string(config)); strings.Contains(text, "refstorage") {
		return fmt.Errorf("%s: keeps its refs in a format other than files", dir)
	}
	return nil
}

// prepareDir makes what Git wants to see in a repository, as far as it is not
// there. The record comes first: it says whose all the rest is.
func prepareDir(git string, head string) error {
	for _, f := range []struct{ name, content string }{
		{recordName, recordHead + "\n"},
		{"objects/pack/", ""},
		{"refs/", ""},
		{"info/attributes", gitAttributes},
		{"config", gitConfig},
		{"HEAD", "ref: " + head + "\n"},
	} {
		name := filepath.Join(git, filepath.FromSlash(f.name))
		if _, err := os.Lstat(name); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if strings.HasSuffix(f.name, "/") {
			if err := durable.MkdirAll(name, durable.Synced); err != nil {
				return err
			}
			continue
		}
		if err := durable.MkdirAll(filepath.Dir(name), durable.Synced); err != nil {
			return err
		}
		if err := durable.WriteFile(name, []byte(f.content), durable.Synced); err != nil {
			return err
		}
	}
	return nil
}

// readShallow reads Git's list of commits whose parents are not there.
func readShallow(git string) ([]objects.ID, error) {
	data, err := os.ReadFile(filepath.Join(git, "shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []objects.ID
	for line := range strings.FieldsSeq(string(data)) {
		id, err := objects.ParseID(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(git, "shallow"), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// writeShallow leaves no file if there is nothing to say.
func writeShallow(git string, ids []objects.ID) error {
	name := filepath.Join(git, "shallow")
	if len(ids) > 0 {
		var b strings.Builder
		for _, id := range ids {
			fmt.Fprintln(&b, id)
		}
		return durable.WriteFile(name, []byte(b.String()), durable.Synced)
	}
	err := durable.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
