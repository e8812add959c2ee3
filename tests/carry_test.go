package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/internal/test"
)

// TestCarried saves on one machine, pushes, and restores on another: nothing is
// lost on the way, whatever the remote is.
func TestCarried(t *testing.T) {
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := p.start(t)
			a := s.connected(t)
			oddFiles(t, a.work("files"), uint64(len(p.name)))
			a.must("save", "files", "files")
			a.must("put", "value", "files/exec")
			a.must("run", "--out", "made", "--", "sh", "-c", "cp -a files made; echo said; echo wrong >&2; exit 0")
			a.must("tag", "-m", "as it was", "v1")
			a.must("push", "--tags")

			b := s.clone(t)
			b.must("restore", "files")
			sameTimes(t, a.work("files"), b.work("files"))
			b.must("get", "v1:value", "value")
			if got, want := read(t, b.work("value")), read(t, a.work("files", "exec")); got != want {
				t.Errorf("the value is %q, want %q", got, want)
			}
			r := b.must("run", "--out", "made", "--", "sh", "-c", "cp -a files made; echo said; echo wrong >&2; exit 0")
			if r.out != "said\n" || r.err != "wrong\n" {
				t.Errorf("%v", r)
			}
			if hits := b.must("--json", "stats").out; !strings.Contains(hits, `"hits":1`) {
				t.Errorf("the run was no hit: %s", hits)
			}
			same(t, a.work("made"), b.work("made"))

			// And the other way.
			oddFiles(t, b.work("more"), 7)
			b.must("save", "more", "more")
			b.must("push")
			a.must("pull")
			sameTimes(t, b.work("more"), a.restored("more", "more"))
			s.sound(t)

			lazy := s.host(t)
			lazy.must("clone", "--lazy", s.url, lazy.repo())
			sameTimes(t, a.work("files"), lazy.restored("files", "files"))
			lazy.sound()
		})
	}
}

// restored puts an entry somewhere, and returns where name is that is in it.
func (h *host) restored(key, name string) string {
	h.t.Helper()
	to := test.Dir(h.t)
	h.must("restore", key, "--to", to)
	return filepath.Join(to, name)
}

// oddFiles makes all that a careless transport loses.
func oddFiles(t *testing.T, dir string, seed uint64) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "empty", "in", "empty"), 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "nothing"), "")
	write(t, filepath.Join(dir, "a\nb \xff\\ü%2F%00", "CON", "-rf"), "odd\n")
	write(t, filepath.Join(dir, ".git", "config"), "[core]\n")
	write(t, filepath.Join(dir, strings.Repeat("ä", 120)), "long name\n")
	write(t, filepath.Join(dir, "exec"), "#!/bin/sh\n")
	write(t, filepath.Join(dir, "big"), noise(seed, 2<<20)+strings.Repeat("\x00", 1<<20))
	for name, mode := range map[string]os.FileMode{"exec": 0o755, "big": 0o444} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"to file": "exec", "to dir": "empty/in", "to nowhere": "no/such\nfile \xfe", "absolute": "/etc/passwd", "out": "../../..", "self": "self",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	test.Tree(t, filepath.Join(dir, "empty"), seed, 100)
}

// same wants two directories to be the same: for us, for diff, and for find.
func same(t *testing.T, want, got string) {
	t.Helper()
	sameLines(t, test.Shape(t, want), test.Shape(t, got))
	if out, err := exec.Command("diff", "-r", "--no-dereference", want, got).CombinedOutput(); err != nil {
		t.Errorf("diff -r: %v: %s", err, tail(string(out)))
	}
	sameLines(t, found(t, want, "%m %s"), found(t, got, "%m %s"))
}

// sameTimes is same for what keeps the times of files, too.
func sameTimes(t *testing.T, want, got string) {
	t.Helper()
	same(t, want, got)
	sameLines(t, found(t, want, "%T@"), found(t, got, "%T@"))
}

// found is what find prints, of files with what format says.
func found(t *testing.T, dir, format string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `find . -type d -printf '%y %P\0' -o -type l -printf '%y %P -> %l\0' -o -printf "%y $1 %P\0" | sort -z`, "sh", format)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\x00", "\n")
}

func sameLines(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("(-want +got)\n%s", tail(diff))
	}
}
