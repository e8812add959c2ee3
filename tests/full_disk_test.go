package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/internal/test"
)

// smallDisk mounts a disk of so many bytes. That takes root.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func free(t *testing.T, disk string) int {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Bavail) * int(st.Bsize)
}

// fill leaves so many bytes of the disk free, and returns what gives the rest back.
func fill(t *testing.T, disk string, leave int) (empty func()) {
	t.Helper()
	name := filepath.Join(disk, "filler")
	if n := free(t, disk) - leave; n > 0 {
		write(t, name, strings.Repeat("x", n))
	}
	return func() { os.Remove(name) }
}

// What is written in the test of a full repository.
var writers = []act{
	{name: "put", args: []string{"put", "new", "noise"}},
	{name: "put a big value", args: []string{"put", "new", "big"}},
	{name: "save", args: []string{"save", "new", "tree", "noise", "big"}},
	{name: "stage", args: []string{"put", "--stage", "new", "noise"}},
	{name: "rm", args: []string{"rm", "one"}},
	{name: "run", args: []string{"run", "--in", "a", "--out", "made", "--", "sh", "-c", "cat noise noise >made; echo said"}},
	{name: "commit", args: []string{"commit"}, unseen: true, prepare: [][]string{{"put", "--stage", "one", "noise"}, {"rm", "--stage", "two"}}},
	{name: "merge", args: []string{"merge", "dev"}},
	{name: "tag", args: []string{"tag", "-m", "why", "v2"}},
	{name: "rename a branch", args: []string{"branch", "-m", "dev", "new"}},
	{name: "reset", args: []string{"reset", "HEAD~1"}},
	{name: "config", args: []string{"config", "set", "user.name", "Ann"}},
	{name: "gc", args: []string{"gc", "--grace", "0", "--keep-history", "0"}, unseen: true, prepare: waste},
}

// TestFullDisk lets the disk run full at every page that a command writes: it
// says so, the old state is there, whole, and with room the command can be done.
// A command that is run is not failed by it.
func TestFullDisk(t *testing.T) {
	alone(t)
	for _, a := range writers {
		t.Run(a.name, func(t *testing.T) {
			a.prepare = append([][]string{{"put", "first", "noise"}}, a.prepare...)
			c := crash{act: a, from: newFullWorld(t, a)}
			c.old = mustState(t, c.from.repo())
			disk := smallDisk(t, 24<<20)
			whole := c.onDisk(t, disk)
			before := free(t, disk)
			must(t, whole.repo(), a.args...)
			c.new = mustState(t, whole.repo())
			used := max(0, before-free(t, disk)) + 64<<10 // and what it used for a moment

			tries := test.Count(t, 100)
			failures := 0
			for i := range tries {
				disk := smallDisk(t, 24<<20) // files of the last one may still be open
				w := c.onDisk(t, disk)
				empty := fill(t, disk, used*i/tries)
				r := runProcess(w.repo(), a.args...)
				if r.code != done {
					failures++
				}
				got := mustState(t, w.repo())
				switch {
				case a.name == "run" && (r.code != done || r.out != "said\n" || len(read(t, w.work("made"))) != 2*fullNoise):
					t.Errorf("a full disk failed the command: %v", r)
				case a.name == "run":
				case r.code == done && got != c.new:
					t.Errorf("%v, but the state is\n%s\nwant\n%s", r, got, c.new)
				case r.code == done:
				case r.code != failed || !strings.Contains(r.err, "no space left") && !strings.Contains(r.err, "disk is full"):
					t.Errorf("%v", r)
				}
				if got != c.old && got != c.new {
					t.Errorf("with %d bytes free: %v, and the state is\n%s\nwant\n%s\nor\n%s", used*i/tries, r, got, c.old, c.new)
				}
				for _, p := range problems(t, w.repo()) {
					t.Errorf("with %d bytes free: fsck: %q", used*i/tries, p)
				}
				empty()
				os.Remove(w.work("made"))
				if got != c.new || a.unseen {
					must(t, w.repo(), a.args...)
				}
				if now := mustState(t, w.repo()); now != c.new {
					t.Errorf("with room again the state is\n%s\nwant\n%s", now, c.new)
				}
				must(t, w.repo(), "commit")
				sound(t, w.repo())
				if t.Failed() {
					return
				}
			}
			if failures == 0 && a.name != "run" {
				t.Error("the disk was never full")
			}
		})
	}
}

const fullNoise = 200_000

func newFullWorld(t *testing.T, a act) world {
	t.Helper()
	prepare := a.prepare
	a.prepare = nil
	w := newWorld(t, a)
	write(t, w.work("noise"), noise(7, fullNoise))
	for _, args := range prepare {
		must(t, w.repo(), args...)
	}
	return w
}

// onDisk puts a copy of the repository on the disk, and one of the files elsewhere.
func (c crash) onDisk(t *testing.T, disk string) world {
	t.Helper()
	repo := filepath.Join(disk, "repo")
	copyDir(t, c.from.repo(), repo)
	w := world{test.Dir(t)}
	copyDir(t, c.from.work(), w.work())
	if err := os.Symlink(repo, w.repo()); err != nil {
		t.Fatal(err)
	}
	t.Chdir(w.work())
	return w
}

// TestRestoreToFullDisk restores to a disk that has not the room: nothing there
// is touched, nothing is left behind. Some need more than the disk has at all.
func TestRestoreToFullDisk(t *testing.T) {
	alone(t)
	disk := smallDisk(t, 4<<20)
	w := newWorld(t, act{empty: true})
	files := 0
	for i := range 40 {
		write(t, w.work("files", fmt.Sprint(i%4), fmt.Sprint("file", i)), noise(uint64(i), 20_000+i*1000))
		files += 20_000 + i*1000
	}
	must(t, w.repo(), "save", "files", "files")
	write(t, w.work("huge"), noise(8, 5<<20))
	must(t, w.repo(), "save", "huge", "huge")
	must(t, w.repo(), "put", "huge", "huge")
	must(t, w.repo(), "put", "value", "files/0/file0")

	to := filepath.Join(disk, "to")
	t.Setenv("TMPDIR", disk) // what goes to standard output is proven there first
	old := write(t, filepath.Join(to, "files", "0", "file0"), "old")
	write(t, filepath.Join(to, "mine"), "mine")
	for i := range test.Count(t, 200) {
		empty := fill(t, disk, files*i/test.Count(t, 200))
		before, room := test.Shape(t, disk), free(t, disk)
		for _, args := range [][]string{
			{"restore", "files", "--to", to}, {"restore", "files", "--to", to, "--delete"}, {"restore", "huge", "--to", to},
			{"get", "huge", filepath.Join(disk, "value")}, {"get", "huge"},
		} {
			r := run(w.repo(), args...)
			if r.code != failed || !strings.Contains(r.err, "no space left") && !strings.Contains(r.err, "disk is full") || r.out != "" {
				t.Fatalf("with %d bytes free: %v", room, r)
			}
			if after := test.Shape(t, disk); after != before {
				t.Fatalf("with %d bytes free: %v, and there is\n%s\nwant\n%s", room, r, after, before)
			}
			if now := free(t, disk); now != room {
				t.Fatalf("%v: %d bytes were free, now %d are", r, room, now)
			}
		}
		if r := run(w.repo(), "get", "value", old); r.code != done && read(t, old) != "old" {
			t.Errorf("%v, and the old file is gone", r)
		}
		write(t, old, "old")
		empty()
	}
	must(t, w.repo(), "restore", "files", "--to", to)
	if got, want := test.Shape(t, filepath.Join(to, "files")), test.Shape(t, w.work("files")); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	r := run(w.repo(), "restore", "huge", "--to", to)
	if r.code != failed || !strings.Contains(r.err, "hint: ") {
		t.Errorf("more than the disk has: %v", r)
	}
}

// TestBiggerThanDisk saves more than the repository's disk has.
func TestBiggerThanDisk(t *testing.T) {
	alone(t)
	disk := smallDisk(t, 4<<20)
	w := newWorld(t, act{empty: true})
	write(t, w.work("huge", "file"), noise(8, 5<<20))
	repo := filepath.Join(disk, "repo")
	must(t, repo, "put", "one", "a")
	room := free(t, disk)
	for _, args := range [][]string{{"save", "huge", "huge"}, {"put", "huge", "huge/file"}, {"save", "--stage", "huge", "huge"}} {
		r := run(repo, args...)
		if r.code != failed || !strings.Contains(r.err, "hint: the disk is full") {
			t.Errorf("%v", r)
		}
		if now := free(t, disk); now < room-64<<10 { // less a stat cache
			t.Errorf("%v: %d bytes were free, now %d are", r, room, now)
		}
		sound(t, repo)
	}
	if r := must(t, repo, "get", "one"); r.out != "a\n" {
		t.Errorf("%v", r)
	}
}

// TestFullStandardOutput writes to a device that is full.
func TestFullStandardOutput(t *testing.T) {
	alone(t)
	w := newWorld(t, act{})
	must(t, w.repo(), "put", "big", "big")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"get", "one"}, {"get", "big"}, {"log"}, {"ls", "-R"}, {"--json", "get", "one"}, {"version"}, {"fsck"}} {
		cmd := process(w.repo(), args...)
		var stderr strings.Builder
		cmd.Stdout, cmd.Stderr = full, &stderr
		if code := exitCode(cmd.Run()); code != failed || !strings.Contains(stderr.String(), "standard output") {
			t.Errorf("%s: exit code %d: %s", args, code, stderr.String())
		}
	}
}
