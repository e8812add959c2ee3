package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/commands"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/tests/crowd"
)

// A process that is to be measured writes its Measure to the file that this
// variable names. (What the kernel tells a parent of a child's peak memory is
// that of the parent, if that is larger.)
const measureEnv = "CACHE_TOOL_MEASURE"

// A Measure is what a process has taken.
type Measure struct {
	Peak   int64 // bytes of memory
	Mapped int64 // bytes of files that are in memory at the end, such as parts of indexes
	Calls  int64 // of read(2) and its like
	Read   int64 // bytes that they returned
}

func init() {
	name := os.Getenv(measureEnv)
	if name == "" {
		return
	}
	context, stop := commands.Signals(os.Args[1:])
	code := commands.Main(context, os.Args[1:], commands.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	m := Measure{
		Peak:   1024 * procNumber("status", "VmHWM:"),
		Mapped: 1024 * (procNumber("status", "RssFile:") + procNumber("status", "RssShmem:")),
		Calls:  procNumber("io", "syscr:"),
		Read:   procNumber("io", "rchar:"),
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(name, data, 0o666)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

// procNumber returns the number behind name in a file that the kernel keeps
// about this process, -1 where there is none.
func procNumber(file, name string) int64 {
	data, err := os.ReadFile(filepath.Join("/proc/self", file))
	if err != nil {
		return -1
	}
	_, rest, _ := strings.Cut(string(data), name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return -1
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// measure runs the command in a process of its own.
func measure(t *testing.T, dir string, args ...string) (Measure, result) {
	t.Helper()
	name := filepath.Join(test.Dir(t), "measure")
	cmd := process(dir, args...)
	cmd.Env = append(cmd.Env, measureEnv+"="+name)
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	r := result{exitCode(cmd.Run()), out.String(), stderr.String(), args}
	if r.code != done {
		t.Fatal(r)
	}
	var m Measure
	if err := json.Unmarshal([]byte(read(t, name)), &m); err != nil {
		t.Fatal(err)
	}
	return m, r
}

// fillBranch makes a repository whose branch main has n values, all different.
func fillBranch(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(test.Dir(t), "repo")
	if err := crowd.Make(ctx, dir, entry.Put, n); err != nil {
		t.Fatal(err)
	}
	return dir
}

func keyOf(i int) string   { return crowd.Key(entry.Put, i) }
func valueOf(i int) string { return crowd.Value(i) }

const (
	treeDepth  = 4             // put/ab/cd/key
	around     = 4             // of one entry: its tree, meta and value; and a commit
	maxMemory  = 200 << 20     //
	extraCalls = 4 * treeDepth // reads more in a large repository than in a small one
	extraBytes = 64 << 10 * (treeDepth + around)

	extraMapped = 8 << 20 // the kernel maps the pages around a page, too
)

// TestMillionEntries puts one more value into a branch of a million, and gets
// some: what has to be read and written for it is the trees on the way, and does
// not grow with their number; nor does memory.
func TestMillionEntries(t *testing.T) {
	alone(t)
	n := test.Count(t, 1_000_000)
	few, many := fillBranch(t, 1000), fillBranch(t, n)
	value := write(t, filepath.Join(test.Dir(t), "value"), "one more\n")

	countTrees(t, many, n)
	for _, do := range []struct {
		name string
		args func(n int) []string
		want func(n int) string // on standard output
	}{
		{"get", func(n int) []string { return []string{"get", keyOf(n / 3)} }, func(n int) string { return valueOf(n / 3) }},
		{"get the first", func(int) []string { return []string{"get", keyOf(0)} }, func(int) string { return valueOf(0) }},
		{"get the last", func(n int) []string { return []string{"get", keyOf(n - 1)} }, func(n int) string { return valueOf(n - 1) }},
		{"put", func(int) []string { return []string{"-q", "put", "one more", value} }, nil},
		{"put another value", func(n int) []string { return []string{"-q", "put", keyOf(n / 2), value} }, nil},
		{"stage", func(int) []string { return []string{"-q", "put", "--stage", "yet one", value} }, nil},
		{"rm", func(n int) []string { return []string{"-q", "rm", keyOf(n / 5)} }, nil},
		{"get what was put", func(int) []string { return []string{"get", "one more"} }, func(int) string { return "one more\n" }},
	} {
		small, _ := measure(t, few, do.args(1000)...)
		before := packsIn(t, many)
		large, r := measure(t, many, do.args(n)...)
		t.Logf("%s: %d reads, %d kB, mapped %d kB (among 1000: %d, %d kB, %d kB), %d MB of memory", do.name,
			large.Calls, large.Read>>10, large.Mapped>>10, small.Calls, small.Read>>10, small.Mapped>>10, large.Peak>>20)
		if do.want != nil && r.out != do.want(n) {
			t.Errorf("%v", r)
		}
		if large.Calls > small.Calls+extraCalls || large.Read > small.Read+extraBytes || large.Mapped > small.Mapped+extraMapped {
			t.Errorf("%s: %+v among %d entries, %+v among 1000", do.name, large, n, small)
		}
		if large.Peak > maxMemory && !test.Race {
			t.Errorf("%s: %d MB of memory", do.name, large.Peak>>20)
		}
		written := 0
		for name, records := range packsIn(t, many) {
			if _, old := before[name]; !old {
				written += records
			}
		}
		if written > treeDepth+1+around { // one tree more: the root
			t.Errorf("%s wrote %d objects", do.name, written)
		}
	}
	for _, args := range [][]string{{"fsck"}, {"stats", "--by", "client", "--largest", "10", "--unused"}} {
		if large, _ := measure(t, many, args...); large.Peak > 2*maxMemory && !test.Race {
			t.Errorf("%s: %d MB of memory", args[0], large.Peak>>20)
		} else {
			t.Logf("%s: %d MB of memory", args[0], large.Peak>>20)
		}
	}
}

// packsIn returns the packs of a repository, with how many records they hold.
func packsIn(t *testing.T, dir string) map[string]int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "packs", "*.idx"))
	if err != nil {
		t.Fatal(err)
	}
	packs := map[string]int{}
	for _, name := range names {
		x, err := pack.OpenIndex(name)
		if err != nil {
			t.Fatal(err)
		}
		packs[filepath.Base(name)] = x.Len()
	}
	return packs
}

// countTrees counts what a lookup and an edit read and write themselves.
func countTrees(t *testing.T, dir string, n int) {
	t.Helper()
	r := open(t, dir)
	_, root, err := r.Tip(ctx, refs.Branch("main"))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Close()
	for i := range 100 {
		c := &counter{DB: r.DB, batch: batch}
		e, err := trees.Lookup(ctx, c, root, entry.Path(entry.Put, keyOf(i*(n/100))))
		if err != nil || c.reads > treeDepth {
			t.Errorf("a lookup read %d trees, want %d at most: %v", c.reads, treeDepth, err)
		}
		c.reads = 0
		path := entry.Path(entry.Put, fmt.Sprint("new", i))
		if _, err := trees.Apply(ctx, c, c, root, []trees.Edit{{Path: path, Mode: objects.ModeDir, ID: e.ID}}); err != nil {
			t.Fatal(err)
		}
		if c.reads > treeDepth || c.writes > treeDepth {
			t.Errorf("an edit read %d trees and wrote %d, want %d at most", c.reads, c.writes, treeDepth)
		}
	}
}

// A counter counts objects that are read and written.
type counter struct {
	*odb.DB
	batch         *odb.Batch
	reads, writes int
}

func (c *counter) Open(ctx context.Context, id objects.ID) (objects.Object, error) {
	c.reads++
	return c.DB.Open(ctx, id)
}

func (c *counter) ReadBytes(ctx context.Context, id objects.ID) (objects.Kind, []byte, error) {
	c.reads++
	return c.DB.ReadBytes(ctx, id)
}

func (c *counter) PutTree(body []byte, base objects.ID) (objects.ID, error) {
	c.writes++
	return c.batch.PutTree(slices.Clone(body), base)
}
