package tests

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
)

// A cache is a world whose content is known.
type cache struct {
	world
	values map[string][]string // of each key the values that it has had, the one of now first
	shape  string              // of the directory tree that was saved
}

// newCache fills a repository with a bit of everything.
func newCache(t *testing.T) cache {
	t.Helper()
	c := cache{world: newWorld(t, act{empty: true}), values: map[string][]string{}}
	put := func(key, value string, flags ...string) {
		write(t, c.work("value"), value)
		must(t, c.repo(), append([]string{"put", key, "value"}, flags...)...)
		c.values[key] = append([]string{value}, c.values[key]...)
	}
	put("small", "first\n")
	put("big", noise(4, 3<<19))
	for i := range 5 {
		put(fmt.Sprint("value", i), strings.Repeat(fmt.Sprintln("line", i), 100*i))
	}
	must(t, c.repo(), "tag", "-m", "said", "v1")
	put("small", "second\n")
	must(t, c.repo(), "branch", "dev")
	must(t, c.repo(), "--branch", "dev", "put", "other", "a")
	must(t, c.repo(), "save", "tree", "tree", "big")
	c.shape = c.restored(t, c.work("..", "restored"))
	c.cached(t)
	put("staged", "staged\n", "--stage")
	put("more", noise(5, 1000), "--stage")
	must(t, c.repo(), "rm", "--stage", "value4")
	delete(c.values, "value4")
	sound(t, c.repo())
	// Cut history, as gc would.
	commit := open(t, c.repo())
	id, err := commit.Resolve(ctx, "dev~2")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(c.repo(), "shallow"), id.String()+"\n")
	sound(t, c.repo())
	return c
}

// restored restores the tree to a new place and returns its shape.
func (c cache) restored(t *testing.T, to string) string {
	t.Helper()
	must(t, c.repo(), "restore", "tree", "--to", to)
	return test.Shape(t, to)
}

// cached runs a command that is cached then.
func (c cache) cached(t *testing.T) {
	t.Helper()
	os.Remove(c.work("made"))
	r := run(c.repo(), "run", "--in", "tree", "--out", "made", "--", "sh", "-c", "echo made >made; echo said")
	if r.code != done || r.out != "said\n" || read(t, c.work("made")) != "made\n" {
		t.Errorf("a cached command said %q and made %q; %v", r.out, read(t, c.work("made")), r)
	}
}

// read checks that whatever a reader gets is what was put there, and all of it.
// Where the damage is to something that can be made again, or to nothing that
// readers look at, they get everything.
func (c cache) read(t *testing.T, all bool) {
	t.Helper()
	for key, values := range c.values {
		c.readValue(t, []string{"get", key}, values[:1], all)
	}
	c.readValue(t, []string{"get", "v1:small"}, []string{"first\n"}, all)
	c.readValue(t, []string{"cat", "dev:put/small"}, c.values["small"][:1], all)
	c.readValue(t, []string{"get", "main@{2}:small"}, c.values["small"], false)

	to := filepath.Join(test.Dir(t), "restored")
	r := run(c.repo(), "restore", "tree", "--to", to)
	c.answered(t, r, all)
	switch _, err := os.Lstat(to); {
	case r.code == done && test.Shape(t, to) != c.shape:
		t.Errorf("restored is\n%s\nwant\n%s", test.Shape(t, to), c.shape)
	case r.code != done && err == nil:
		t.Errorf("%v, but it left\n%s", r, test.Shape(t, to))
	}
	c.cached(t)
	for _, args := range [][]string{
		{"log"}, {"ls", "-R", "-l"}, {"status"}, {"stats"}, {"branch"}, {"tag"}, {"reflog"}, {"diff", "dev", "main"},
		{"blame", "put/small"}, {"explain"}, {"show"}, {"config", "list"},
	} {
		c.answered(t, run(c.repo(), args...), false)
	}
}

func (c cache) readValue(t *testing.T, args, values []string, all bool) {
	t.Helper()
	r := run(c.repo(), args...)
	c.answered(t, r, all)
	if r.code == done && !slices.Contains(values, r.out) {
		t.Errorf("wrong bytes left: %v", r)
	}
	if r.code != done && r.out != "" {
		t.Errorf("bytes left before they were proven: %v", r)
	}
}

// answered wants one of the exit codes that are documented, and if it is not 0
// a word about why.
func (c cache) answered(t *testing.T, r result, hit bool) {
	t.Helper()
	switch {
	case r.code == done:
	case hit:
		t.Errorf("lost something that was not damaged: %v", r)
	case r.code != failed && r.code != missed:
		t.Errorf("%v", r)
	case !strings.Contains(r.err, "cache-tool: "):
		t.Errorf("no word about it: %v", r)
	}
}

// writes checks that the repository still takes a value, or says why it does
// not; and that it holds the value then.
func (c cache) writes(t *testing.T, all bool) {
	t.Helper()
	r := run(c.repo(), "put", "after", "a")
	c.answered(t, r, all)
	if r.code == done {
		c.readValue(t, []string{"get", "after"}, []string{"a\n"}, true)
	}
}

// A damage does something to a file; it may be told to do so anywhere.
type damage struct {
	name string
	do   func(t *testing.T, file string, r *rand.Rand)
}

var damages = []damage{
	{"flip", func(t *testing.T, file string, r *rand.Rand) {
		test.FlipBit(t, file, r.Int64N(8*size(t, file)))
	}},
	{"cut", func(t *testing.T, file string, r *rand.Rand) {
		test.CutShort(t, file, r.Int64N(size(t, file)))
	}},
	{"zeros", func(t *testing.T, file string, r *rand.Rand) {
		data := []byte(read(t, file))
		at := r.IntN(len(data))
		clear(data[at:min(len(data), at+512)])
		overwrite(t, file, data)
	}},
	{"longer", func(t *testing.T, file string, r *rand.Rand) {
		overwrite(t, file, append([]byte(read(t, file)), noise(r.Uint64(), 1+r.IntN(100))...))
	}},
	{"gone", func(t *testing.T, file string, r *rand.Rand) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}},
}

func size(t testing.TB, file string) int64 {
	t.Helper()
	fi, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

// overwrite puts a new file in the place of the old one, which may be mapped.
func overwrite(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// What is damaged, and what holds then.
var damaged = []struct {
	files   string // a pattern below the repository
	damages []string
	times   int  // in a soak
	all     bool // readers get everything all the same
	found   bool // fsck finds it, whatever it is
}{
	{files: "packs/*.pack", damages: []string{"flip", "cut", "zeros", "longer"}, times: 400, found: true},
	{files: "packs/*.pack", damages: []string{"gone"}, times: 50, found: true},
	{files: "packs/*.idx", damages: []string{"flip", "cut", "zeros", "longer"}, times: 300, all: true, found: true},
	{files: "packs/*.idx", damages: []string{"gone"}, times: 20, all: true},
	{files: "refs/heads/main", damages: []string{"flip", "zeros", "gone"}, times: 100},
	{files: "refs/heads/main", damages: []string{"cut"}, times: 50}, // of the line break nothing depends
	{files: "stage/*.journal", damages: []string{"flip", "zeros"}, times: 200, found: true},
	{files: "stage/*.journal", damages: []string{"cut", "longer", "gone"}, times: 100},
	{files: "logs/refs/heads/*", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 100, all: true},
	{files: "stat", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 200, all: true},
	{files: "runs", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 50, all: true},
	{files: "config", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 100},
	{files: "HEAD", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 50},
	{files: "shallow", damages: []string{"flip", "cut", "zeros", "longer", "gone"}, times: 100},
}

// TestDamagedAnywhere damages every file of a repository at random places. No
// command panics, no wrong byte leaves, and fsck finds what is damaged.
func TestDamagedAnywhere(t *testing.T) {
	alone(t)
	c := newCache(t)
	for n, class := range damaged {
		names := strings.Join(class.damages, ",")
		t.Run(class.files+":"+names, func(t *testing.T) {
			for i := range test.Count(t, class.times) {
				r := rand.New(rand.NewPCG(uint64(n), uint64(i)))
				name := class.damages[i%len(class.damages)]
				t.Run(fmt.Sprint(name, i), func(t *testing.T) {
					c := c.copy(t)
					files, err := filepath.Glob(filepath.Join(c.repo(), class.files))
					if err != nil || len(files) == 0 {
						t.Fatalf("%s: %v %v", class.files, files, err)
					}
					file := files[r.IntN(len(files))]
					t.Logf("%s %s", name, file)
					before := read(t, file)
					for _, d := range damages {
						if d.name == name {
							d.do(t, file, r)
						}
					}
					if name == "zeros" && read(t, file) == before {
						return // they were zeros
					}
					fsck := run(c.repo(), "fsck")
					if fsck.code != done && fsck.code != failed || class.found && fsck.code == done && !looksTorn(t, file, before) {
						t.Errorf("%v", fsck)
					}
					c.read(t, class.all)
					if strings.HasPrefix(class.files, "packs") && class.found && run(c.repo(), "fsck").code == done {
						c.read(t, true) // mended, or made again
					}
					c.writes(t, class.all)
				})
			}
		})
	}
}

// TestDamagedRefsJournal damages the journal of several refs that were on their
// way when the process was killed. Nobody can tell then where they are, and that
// is said; without the journal everything but those refs is as it was.
func TestDamagedRefsJournal(t *testing.T) {
	alone(t)
	c := newCache(t)
	must(t, c.repo(), "tag", "v2")
	var killed cache
	for at := 1; killed.dir == ""; at++ {
		one := c.copy(t)
		cmd := process(one.repo(), "tag", "-d", "v1", "v2")
		cmd.Env = append(cmd.Env, test.KillEnv(at, false))
		if err := cmd.Run(); err == nil {
			t.Fatal("never was there a journal of refs")
		}
		if fi, err := os.Stat(filepath.Join(one.repo(), "refs.journal")); err == nil && fi.Size() > 0 {
			killed = one
		}
	}
	for i := range test.Count(t, 200) {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		d := damages[i%3] // flip, cut, zeros
		t.Run(fmt.Sprint(d.name, i), func(t *testing.T) {
			c := killed.copy(t)
			file := filepath.Join(c.repo(), "refs.journal")
			if d.do(t, file, r); size(t, file) == 0 {
				return // that means: done
			}
			for _, args := range [][]string{{"fsck"}, {"put", "new", "a"}, {"log"}, {"restore", "tree"}} {
				if r := run(c.repo(), args...); r.code == done || !strings.Contains(r.err+r.out, "refs.journal") {
					t.Errorf("%v", r)
				}
			}
			c.cached(t) // a build goes on
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			sound(t, c.repo())
			c.readValue(t, []string{"get", "small"}, c.values["small"][:1], true)
		})
	}
}

// looksTorn reports whether the file is a journal, and what is wrong with it
// the length of its last record: that looks like a record that a killed process
// has left unfinished, which is nothing to complain of.
func looksTorn(t *testing.T, file, before string) bool {
	t.Helper()
	if filepath.Ext(file) != ".journal" {
		return false
	}
	const header = 4 + 4 + 8 + 2
	last := 0
	for at := header + int(binary.BigEndian.Uint16([]byte(before)[header-2:])) + 4; at < len(before); {
		last = at
		at += 4 + int(binary.BigEndian.Uint32([]byte(before)[at:]))
	}
	now := read(t, file)
	return now[:last] == before[:last] && now[last:last+4] != before[last:last+4]
}

func (c cache) copy(t *testing.T) cache {
	t.Helper()
	dir := test.Dir(t)
	copyDir(t, c.repo(), filepath.Join(dir, "repo"))
	copyDir(t, c.work(), filepath.Join(dir, "work"))
	c.world = world{dir}
	t.Chdir(c.work())
	return c
}

// TestNewerVersion opens what a later cache-tool wrote: that is said, and
// nothing is touched.
func TestNewerVersion(t *testing.T) {
	alone(t)
	c := newCache(t)
	for _, tt := range []struct {
		files string
		edit  func(data []byte) []byte
		key   string   // what cannot be read
		more  []string // what cannot be done either
	}{
		{"config", func(data []byte) []byte {
			return []byte(strings.Replace(string(data), "repositoryversion = 1", "repositoryversion = 2", 1))
		}, "small", []string{"put", "--stage", "new", "a"}},
		// Packs alone: their indexes are lost. (One that is there speaks for its pack.)
		{"packs/*.pack", bigEndianVersion, "small", []string{"save", "new", "tree"}},
		{"packs/*.idx", bigEndianVersion, "small", []string{"save", "new", "tree"}},
		{"stage/*.journal", bigEndianVersion, "staged", []string{"put", "--stage", "new", "a"}},
	} {
		t.Run(tt.files, func(t *testing.T) {
			c := c.copy(t)
			files, err := filepath.Glob(filepath.Join(c.repo(), tt.files))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: %v %v", tt.files, files, err)
			}
			for _, file := range files {
				data := tt.edit([]byte(read(t, file)))
				if string(data) == read(t, file) {
					t.Fatalf("%s has no version there", file)
				}
				overwrite(t, file, data)
				if index, ok := strings.CutSuffix(file, ".pack"); ok {
					if err := os.Remove(index + ".idx"); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := fileSums(t, c.repo())
			for _, args := range [][]string{{"get", tt.key}, {"fsck"}, tt.more, {"commit"}} {
				if r := run(c.repo(), args...); r.code == done || !strings.Contains(r.err+r.out, "newer") {
					t.Errorf("%v", r)
				}
			}
			after := fileSums(t, c.repo())
			for sum, name := range before {
				if after[sum] == "" {
					t.Errorf("%s is not what it was", name)
				}
			}
			c.cached(t) // a build goes on
		})
	}
}

// fileSums returns a name for the hash of every file in dir. (A journal that was
// to be committed has another name afterwards.)
func fileSums(t *testing.T, dir string) map[[sha256.Size]byte]string {
	t.Helper()
	sums := map[[sha256.Size]byte]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		sums[sha256.Sum256([]byte(read(t, path)))] = path
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// bigEndianVersion makes a later version of a file. More of it differs than that:
// else it is our own with a damaged version.
func bigEndianVersion(data []byte) []byte {
	binary.BigEndian.PutUint32(data[4:], 2)
	data[8] ^= 1
	return data
}
