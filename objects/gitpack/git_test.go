package gitpack_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/objectstest"
)

// git runs real git in dir, without anybody's settings, and returns what it
// prints.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(dir, nil, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryGit(dir string, stdin io.Reader, args ...string) (string, error) {
	c := exec.Command("git", args...)
	c.Dir, c.Stdin = dir, stdin
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a")
	out, err := c.CombinedOutput()
	return string(out), err
}

// needGit skips the test where git is not there or too old for SHA-256.
func needGit(t testing.TB) {
	t.Helper()
	if out, err := tryGit(t.TempDir(), nil, "init", "-q", "--object-format=sha256", "."); err != nil {
		t.Skipf("needs a git with --object-format=sha256: %v %s", err, out)
	}
}

// fsck fails the test unless git finds nothing to say about the repository.
func fsck(t testing.TB, dir string) {
	t.Helper()
	out, err := tryGit(dir, nil, "fsck", "--strict", "--full", "--no-progress", "--no-dangling")
	if err != nil || out != "" {
		t.Fatalf("git fsck: %v\n%s", err, out)
	}
}

// A store is objects in memory, with words for making them.
type store struct{ *objectstest.Memory }

func newStore() store { return store{&objectstest.Memory{}} }

// A manyStore is a store that hands out several at once.
type manyStore struct{ store }

func (s manyStore) ReadSmall(ctx context.Context, ids []objects.ID, fn func(int, objects.Kind, []byte) error) (big []int, err error) {
	for i, id := range ids {
		k, body, err := s.ReadBytes(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case len(body) > 1000:
			big = append(big, i)
		default:
			if err := fn(i, k, body); err != nil {
				return nil, err
			}
		}
	}
	return big, nil
}

// without is a store that lacks one object.
type without struct {
	objects.Reader
	id objects.ID
}

func (w without) Open(ctx context.Context, id objects.ID) (objects.Object, error) {
	if id == w.id {
		return objects.Object{}, objects.ErrNotFound
	}
	return w.Reader.Open(ctx, id)
}

func (s store) put(k objects.Kind, body []byte) objects.ID {
	id, err := s.PutBytes(k, body)
	if err != nil {
		panic(err) // it is only memory
	}
	return id
}

// A dir is a directory to be put into a store: names to contents. A content that
// starts with "#!" is executable, one that starts with "-> " a symlink.
type dir map[string]any

func (s store) dir(d dir) objects.ID {
	var t objects.Entries
	for name, v := range d {
		switch v := v.(type) {
		case dir:
			t = append(t, objects.Entry{Mode: objects.ModeDir, Name: name, ID: s.dir(v)})
		case string:
			mode := objects.ModeFile
			if strings.HasPrefix(v, "#!") {
				mode = objects.ModeExec
			}
			target, link := strings.CutPrefix(v, "-> ")
			if link {
				mode = objects.ModeSymlink
			}
			t = append(t, objects.Entry{Mode: mode, Name: name, ID: s.put(objects.Blob, []byte(target))})
		}
	}
	if len(t) == 0 {
		return objects.EmptyTree // which stores need not hold
	}
	t.Sort()
	return s.put(objects.Tree, t.Encode())
}

func (s store) commit(message string, d dir, parents ...objects.ID) objects.ID {
	who := objects.Signature{Name: "Somebody", Email: "some@body", When: time.Unix(1_700_000_000, 0).UTC()}
	return s.put(objects.Commit, objects.CommitBody{
		Tree: s.dir(d), Parents: parents, Author: who, Committer: who, Message: message + "\n",
	}.Encode())
}

func (s store) tag(name string, k objects.Kind, id objects.ID) objects.ID {
	who := objects.Signature{Name: "Somebody", Email: "some@body", When: time.Unix(1_700_000_000, 0).UTC()}
	return s.put(objects.Tag, objects.TagBody{Object: id, Kind: k, Name: name, Tagger: who, Message: name + "\n"}.Encode())
}

// look fails the test unless the work tree at path holds exactly d.
func look(t testing.TB, path string, d dir) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := d[e.Name()]; !ok && e.Name() != ".git" {
			t.Errorf("%s/%s: should not be there", path, e.Name())
		}
	}
	for name, want := range d {
		full := filepath.Join(path, name)
		if sub, ok := want.(dir); ok {
			if len(sub) > 0 { // Git keeps no empty directories
				look(t, full, sub)
			}
			continue
		}
		fi, err := os.Lstat(full)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := "", error(nil)
		if fi.Mode()&os.ModeSymlink != 0 {
			got, err = os.Readlink(full)
			got = "-> " + got
		} else {
			var b []byte
			b, err = os.ReadFile(full)
			got = string(b)
		}
		if err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", full, got, err, want)
		}
		if exec := strings.HasPrefix(got, "#!"); fi.Mode().IsRegular() && exec != (fi.Mode()&0o100 != 0) {
			t.Errorf("%s: mode %v", full, fi.Mode())
		}
	}
}
