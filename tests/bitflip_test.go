package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// flippable are the files in which bits are flipped, as patterns below a repository;
// those that are named twice are hit twice as often.
var flippable = []string{
	"packs/*.pack", "packs/*.pack", "packs/*.pack", "packs/*.idx", "packs/*.idx", "packs/*.idx",
	"refs/heads/*", "refs/tags/*", "HEAD", "logs/refs/heads/*", "stage/*.journal", "stage/*.journal", "shallow", "config",
}

// TestBitFlips flips one bit anywhere in a repository, as a disk does that forgets.
// No command panics or returns wrong bytes; fsck finds it and names the file; and with a
// remote that has everything fsck --repair makes all of it whole.
func TestBitFlips(t *testing.T) {
	alone(t)
	c := newFlipCache(t)
	random := uint64(time.Now().UnixNano())
	t.Logf("random seed %d", random)
	kept := keepFiles(t, c.repo())
	n := test.Count(t, 1000)
	same := 0
	for i := range n {
		seed := uint64(1)
		if i >= n/2 {
			seed = random
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		file, bit := c.place(t, r)
		before := kept.files[file].data
		ok := t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			t.Logf("bit %d of %s (seed %d)", bit, file, seed)
			kept.flip(t, file, bit)
			c.readFlipped(t, file, false)
			kept.restore(t)
			kept.flip(t, file, bit)
			if c.findsFlip(t, file) {
				kept.restore(t) // who meets a damaged index makes it anew
				kept.flip(t, file, bit)
				c.repairsFlip(t, file, []string{"origin", "share"}[i%2])
			} else if same++; !meansTheSame(file, before, []byte(read(t, filepath.Join(c.repo(), file)))) {
				t.Errorf("fsck does not find it")
			}
		})
		kept.restore(t)
		if !ok && t.Failed() && i > 20 {
			break // they have much in common
		}
	}
	t.Logf("%d bits flipped, %d of them without a meaning", n, same)
	sound(t, c.repo())
}

// newFlipCache is newCache with trees that are deltas, versions of a big blob, and
// two remotes, origin and share, that have all of it but for what is staged.
func newFlipCache(t *testing.T) cache {
	t.Helper()
	c := newCache(t)
	shallow := read(t, filepath.Join(c.repo(), "shallow"))
	if err := os.Remove(filepath.Join(c.repo(), "shallow")); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		write(t, c.work("many", fmt.Sprintf("file%02d", i)), fmt.Sprintln("content", i))
	}
	big := noise(6, 2<<20)
	for i := range 3 {
		write(t, c.work("many", "file07"), fmt.Sprintln("version", i))
		must(t, c.repo(), "save", "many", "many")
		big = big[:1<<20] + fmt.Sprint(i) + big[1<<20:]
		write(t, c.work("value"), big)
		must(t, c.repo(), "put", "huge", "value")
		c.values["huge"] = append([]string{big}, c.values["huge"]...)
	}
	must(t, c.repo(), "remote", "add", "origin", c.work("..", "origin"))
	must(t, c.repo(), "remote", "add", "share", "bucket+file://"+c.work("..", "share"))
	for _, name := range []string{"origin", "share"} {
		must(t, c.repo(), "push", "--all", "--tags", name)
	}
	write(t, c.work("value"), "staged again\n")
	must(t, c.repo(), "put", "--stage", "again", "value")
	must(t, c.repo(), "put", "--stage", "twice", "value")
	write(t, filepath.Join(c.repo(), "shallow"), shallow)
	sound(t, c.repo())
	return c
}

// place chooses a bit.
func (c cache) place(t *testing.T, r *rand.Rand) (file string, bit int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.repo(), flippable[r.IntN(len(flippable))]))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 { // gone, or rewritten
		return c.place(t, r)
	}
	file = files[r.IntN(len(files))]
	bit = r.Int64N(8 * size(t, file))
	rel, err := filepath.Rel(c.repo(), file)
	if err != nil {
		t.Fatal(err)
	}
	return rel, bit
}

// findsFlip reports whether fsck finds damage. It must name the file then.
func (c cache) findsFlip(t *testing.T, file string) bool {
	t.Helper()
	r := run(c.repo(), "--json", "fsck")
	if r.code == done {
		return false
	}
	var found struct{ Problems []problem }
	if err := json.Unmarshal([]byte(r.out), &found); err != nil || r.code != failed {
		t.Fatalf("%v: %v", err, r)
	}
	name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".pack"), ".idx")
	if branch, ok := strings.CutSuffix(name, ".journal"); ok {
		name = "stage of " + branch
	}
	if dir := filepath.Dir(file); dir != "packs" && dir != "stage" {
		name = file
	}
	for _, p := range found.Problems {
		if strings.Contains(p.Where+" "+p.What, name) {
			return true
		}
	}
	if !strings.Contains(r.err, name) { // settings that can't be read
		t.Errorf("no problem names %s: %v", name, r)
	}
	return true
}

// repairsFlip wants fsck --repair to restore all that the remote has.
func (c cache) repairsFlip(t *testing.T, file, remote string) {
	t.Helper()
	if r := run(c.repo(), "fsck", "--repair", remote); r.code != done {
		t.Fatalf("%v", r)
	} else if !strings.Contains(r.out, "repaired ") {
		t.Errorf("it says nothing of what it did: %v", r)
	}
	if r := run(c.repo(), "fsck"); r.code != done {
		t.Fatalf("after it: %v", r)
	}
	c.readFlipped(t, file, true)
}

// readFlipped checks that whatever a reader gets is right; all of what the remotes
// have, if that is said.
func (c cache) readFlipped(t *testing.T, file string, all bool) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(c.values)) {
		values := c.values[key]
		if strings.HasPrefix(file, "logs/") || strings.HasPrefix(file, "refs/") || all {
			values = values[:1]
		}
		c.readValue(t, []string{"get", key}, values, all)
	}
	c.readValue(t, []string{"get", "v1:small"}, []string{"first\n"}, all)
	c.readValue(t, []string{"get", "again"}, []string{"staged again\n"}, all && !isStaged(file))
	to := filepath.Join(test.Dir(t), "restored")
	r := run(c.repo(), "restore", "tree", "--to", to)
	c.answered(t, r, all)
	switch _, err := os.Lstat(to); {
	case r.code == done && test.Shape(t, to) != c.shape:
		t.Errorf("restored is\n%s\nwant\n%s", test.Shape(t, to), c.shape)
	case r.code != done && err == nil:
		t.Errorf("%v, but it left\n%s", r, test.Shape(t, to))
	}
	for _, args := range [][]string{{"log"}, {"ls", "-R", "-l"}, {"stats"}, {"reflog"}} {
		c.answered(t, run(c.repo(), args...), all)
	}
}

// isStaged reports whether a file holds what no remote has.
func isStaged(file string) bool {
	return strings.HasPrefix(file, "stage/") || strings.HasPrefix(filepath.Base(file), "new-")
}

// TestRepairsDamage damages files in worse ways, several at once: fsck --repair makes
// all of it whole with the help of a remote.
func TestRepairsDamage(t *testing.T) {
	alone(t)
	c := newFlipCache(t)
	kept := keepFiles(t, c.repo())
	for i := range test.Count(t, 300) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			staged := ""
			for range 1 + r.IntN(4) {
				file, _ := c.place(t, r)
				d := damages[r.IntN(len(damages))]
				path := filepath.Join(c.repo(), file)
				if d.name == "gone" && (file == "config" || strings.HasPrefix(file, "refs/")) || size(t, path) == 0 {
					continue // that is another repository, or none
				}
				t.Logf("%s %s", d.name, file)
				if d.do(t, path, r); isStaged(file) {
					staged = file
				}
			}
			if r := run(c.repo(), "fsck", "--repair", c.work("..", "origin")); r.code != done {
				t.Fatalf("%v", r)
			}
			if r := run(c.repo(), "fsck"); r.code != done {
				t.Fatalf("after it: %v", r)
			}
			c.readFlipped(t, staged, true)
		})
		kept.restore(t)
	}
}

// meansTheSame decides whether a text says the same in spite of a flipped bit. Only
// texts without a checksum can: an id in capitals, and in a reflog who moved the ref,
// when and why.
func meansTheSame(file string, before, after []byte) bool {
	switch {
	case file == "HEAD":
		return bytes.Equal(bytes.TrimSpace(before), bytes.TrimSpace(after))
	case file == "shallow", strings.HasPrefix(file, "refs/"):
		return strings.EqualFold(string(before), string(after))
	case strings.HasPrefix(file, "logs/"):
		a, skippedA := refs.ParseLog(before)
		b, skippedB := refs.ParseLog(after)
		return skippedA+skippedB == 0 && slices.EqualFunc(a, b, func(a, b refs.LogEntry) bool {
			return [2]objects.ID{a.Old, a.New} == [2]objects.ID{b.Old, b.New}
		})
	}
	return false
}

// keptFiles is what a directory was, to be made so again in little time.
type keptFiles struct {
	dir   string
	files map[string]*keptFile // by path
}

type keptFile struct {
	data  []byte
	mode  fs.FileMode
	mtime time.Time
	inode uint64
}

func inodeOf(fi fs.FileInfo) uint64 { return fi.Sys().(*syscall.Stat_t).Ino }

func keepFiles(t *testing.T, dir string) keptFiles {
	t.Helper()
	k := keptFiles{dir, map[string]*keptFile{}}
	k.each(t, func(rel string, fi fs.FileInfo) {
		k.files[rel] = &keptFile{[]byte(read(t, filepath.Join(dir, rel))), fi.Mode().Perm(), fi.ModTime(), inodeOf(fi)}
	})
	return k
}

func (k keptFiles) each(t *testing.T, fn func(rel string, fi fs.FileInfo)) {
	t.Helper()
	err := filepath.WalkDir(k.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(k.dir, path)
		fn(rel, fi)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flip flips a bit of a file, whose time stays: nobody has written it.
func (k keptFiles) flip(t *testing.T, rel string, bit int64) {
	t.Helper()
	path := filepath.Join(k.dir, rel)
	test.FlipBit(t, path, bit)
	if err := os.Chtimes(path, time.Time{}, k.files[rel].mtime); err != nil {
		t.Fatal(err)
	}
}

// restore makes every file what it was.
func (k keptFiles) restore(t *testing.T) {
	t.Helper()
	there := map[string]bool{}
	k.each(t, func(rel string, fi fs.FileInfo) {
		f := k.files[rel]
		if f != nil && f.inode == inodeOf(fi) && f.mtime.Equal(fi.ModTime()) && len(f.data) == int(fi.Size()) {
			there[rel] = true
		} else if err := os.Remove(filepath.Join(k.dir, rel)); err != nil {
			t.Fatal(err)
		}
	})
	for rel, f := range k.files {
		if there[rel] {
			continue
		}
		path := filepath.Join(k.dir, rel)
		write(t, path, string(f.data))
		fi, err := os.Stat(path)
		if err == nil {
			err = os.Chmod(path, f.mode)
		}
		if err == nil {
			err = os.Chtimes(path, time.Time{}, f.mtime)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.inode = inodeOf(fi)
	}
}
