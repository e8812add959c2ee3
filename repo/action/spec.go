package action

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/statcache"
)

// A Spec says what to run, and what its result depends on, as typed.
type Spec struct {
	Args []string // the program and its arguments
	Dir  string   // where to run it; "" is the working directory
	Base string   // what places begin at; "" is the enclosing Git work tree, else Dir

	In      []string // globs of inputs: files, and directories with all that is in them
	Out     []string // files, directories and symlinks that the command makes
	Env     []string // names of variables that it reads
	Depfile string   // a file that it writes, which lists further inputs
	Salt    string   // anything else that the result depends on
	Stdin   bool     // it reads standard input, all of which is an input, too
}

// A SpecError is what is wrong with a Spec. Nothing was run.
type SpecError struct{ Reason string }

func (e *SpecError) Error() string { return e.Reason }

// A job is a Spec that has come to terms with this machine.
type job struct {
	spec    Spec
	base    base
	dir     string   // absolute
	outs    []string // places, sorted; the depfile among them
	depfile string   // absolute, or ""
	program string   // path
	look    reader
	stdin   *os.File // what was read of standard input, if it is an input

	// What prepare finds out:
	action Action
	fixed  objects.Entries // the action's tree, but for the inputs
	inputs []input         // declared, sorted by place
	tools  []input         // program and interpreter
	key    objects.ID      // of the action with the declared inputs

	hash hashing
}

// newJob checks the spec.
func newJob(spec Spec, cache *statcache.Cache) (*job, error) {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return nil, &SpecError{"which command?"}
	}
	j := &job{spec: spec, look: reader{cache}}
	var err error
	if j.dir, err = physical(spec.Dir); err != nil {
		return nil, err
	}
	j.base = base(findBase(j.dir))
	if spec.Base != "" {
		given, err := physical(spec.Base)
		if err != nil {
			return nil, &SpecError{fmt.Sprintf("base: %v", err)}
		}
		j.base = base(given)
	}
	for _, name := range spec.Env {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "=/\x00") {
			return nil, &SpecError{fmt.Sprintf("%q is no name of a variable", name)}
		}
	}
	for _, pattern := range spec.In {
		if pattern == "" || !doublestar.ValidatePattern(pattern) {
			return nil, &SpecError{fmt.Sprintf("%q is no pattern of inputs", pattern)}
		}
	}
	if spec.Depfile != "" {
		j.depfile = absolute(j.dir, spec.Depfile)
	}
	return j, j.setOuts()
}

// setOuts makes places of the declared outputs. One that lies in another is a
// part of that.
func (j *job) setOuts() error {
	for _, out := range j.spec.Out {
		path := absolute(j.dir, out)
		if out == "" || path == "/" || strings.Contains(out, "\x00") {
			return &SpecError{fmt.Sprintf("%q cannot be an output", out)}
		}
		j.outs = append(j.outs, j.base.place(path))
	}
	if j.depfile != "" {
		j.outs = append(j.outs, j.base.place(j.depfile))
	}
	slices.Sort(j.outs)
	kept := j.outs[:0]
	for _, out := range j.outs {
		if !slices.ContainsFunc(kept, func(k string) bool { return within(out, k) }) {
			kept = append(kept, out)
		}
	}
	j.outs = kept
	return nil
}

// made reports whether the file at path is made by the command.
func (j *job) made(path string) bool {
	place := j.base.place(path)
	return slices.ContainsFunc(j.outs, func(out string) bool { return within(place, out) })
}

// prepare finds the inputs, hashes what the stat cache does not know, and
// computes the key. Repository is a directory that is never an input.
func (j *job) prepare(ctx context.Context, repository string) error {
	c := collector{base: j.base, dir: j.dir}
	if len(j.spec.In) > 0 {
		if dir, err := physical(repository); err == nil {
			c.skip = append(c.skip, dir)
		}
	}
	for _, out := range j.outs {
		c.skip = append(c.skip, j.base.path(out))
	}
	for _, pattern := range j.spec.In {
		if err := c.collect(pattern); err != nil {
			return err
		}
	}
	j.inputs = sortInputs(c.seen)
	if err := j.look.lookAll(ctx, j.inputs); err != nil {
		return err
	}
	if err := j.setAction(); err != nil {
		return err
	}
	leaves, err := leavesOf(&j.hash, j.inputs)
	if err == nil {
		j.key, err = j.keyOf(leaves)
	}
	return err
}

func (j *job) setAction() (err error) {
	a := Action{Args: j.spec.Args, Dir: j.base.place(j.dir), Outs: j.outs, Salt: j.spec.Salt, Platform: platform}
	if j.depfile != "" {
		a.Depfile = j.base.place(j.depfile)
	}
	for _, name := range j.spec.Env {
		v := Variable{name, unset}
		if value, ok := os.LookupEnv(name); ok {
			v.Sum = sumOf(value)
		}
		a.Env = append(a.Env, v)
	}
	slices.SortFunc(a.Env, func(x, y Variable) int { return strings.Compare(x.Name, y.Name) })
	a.Env = slices.Compact(a.Env)
	if a.Program, j.tools, err = j.look.identify(j.program, j.dir, os.Getenv("PATH")); err != nil {
		return err
	}
	if j.stdin != nil {
		if a.Stdin, _, _, err = hashOpen(j.stdin); err != nil {
			return err
		}
	}
	j.action = a
	j.fixed, err = a.write(&j.hash)
	return err
}

// keyOf returns the key of the action with the inputs that have these leaves.
func (j *job) keyOf(leaves []leaf) (objects.ID, error) {
	sortLeaves(leaves)
	tree, err := grow(&j.hash, leaves)
	if err != nil {
		return objects.ID{}, err
	}
	return withInputs(&j.hash, j.fixed, tree)
}

// family is what runs have in common that differ in inputs and flags only.
func (j *job) family() uint64 {
	text := filepath.Base(j.spec.Args[0]) + "\x00" + j.base.place(j.dir) + "\x00" + string(joinList(j.outs))
	id := objects.Sum(objects.Blob, []byte(text))
	return binary.BigEndian.Uint64(id[:])
}
