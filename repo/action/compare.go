package action

import (
	"context"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
)

// A Difference is one thing in which two actions differ.
type Difference struct {
	What string `json:"what"` // argument, variable, input, program, directory, output, depfile, platform, salt, stdin
	Text string `json:"text"` // for people: input "src/a.h" changed
}

// compare returns what differs between the actions with these ids, the older
// first.
func compare(ctx context.Context, r objects.Reader, older, newer objects.ID) ([]Difference, error) {
	was, wasInputs, err := ReadAction(ctx, r, older)
	if err != nil {
		return nil, err
	}
	is, isInputs, err := ReadAction(ctx, r, newer)
	if err != nil {
		return nil, err
	}
	d := differences{}
	d.program(was.Program, is.Program)
	d.list("argument", was.Args, is.Args, quoted)
	d.value("directory", "the working directory", Show(was.Dir), Show(is.Dir))
	d.env(was.Env, is.Env)
	d.list("output", was.Outs, is.Outs, Show)
	d.value("depfile", "the depfile", showPlace(was.Depfile), showPlace(is.Depfile))
	d.value("platform", "the platform", was.Platform, is.Platform)
	d.value("salt", "the salt", was.Salt, is.Salt)
	if was.Stdin != is.Stdin {
		d.add("stdin", "standard input differs")
	}
	err = d.inputs(ctx, r, wasInputs, isInputs)
	return d.found, err
}

type differences struct{ found []Difference }

func (d *differences) add(what, format string, args ...any) {
	d.found = append(d.found, Difference{what, fmt.Sprintf(format, args...)})
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

func showPlace(place string) string {
	if place == "" {
		return ""
	}
	return Show(place)
}

// value compares two strings, an empty one being none.
func (d *differences) value(what, name, was, is string) {
	switch {
	case was == is:
	case was == "":
		d.add(what, "%s is %q, there was none", name, is)
	case is == "":
		d.add(what, "%s was %q, there is none", name, was)
	default:
		d.add(what, "%s was %q, is %q", name, was, is)
	}
}

// list compares two lists of which the order counts.
func (d *differences) list(what string, was, is []string, show func(string) string) {
	eachEdit(was, is, func(gone, added []string) {
		for len(gone) > 0 && len(added) > 0 {
			d.add(what, "%s %s became %s", what, show(gone[0]), show(added[0]))
			gone, added = gone[1:], added[1:]
		}
		for _, s := range gone {
			d.add(what, "%s %s is gone", what, show(s))
		}
		for _, s := range added {
			d.add(what, "%s %s is new", what, show(s))
		}
	})
}

// maxEdit bounds the lists for which the smallest difference is looked for.
const maxEdit = 2000

// eachEdit calls fn for each place at which a and b differ, with what stands
// there in either: the smallest difference that leaves the rest in order.
func eachEdit(a, b []string, fn func(gone, added []string)) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a) == 0 && len(b) == 0 {
		return
	}
	if len(a) == 0 || len(b) == 0 || len(a) > maxEdit || len(b) > maxEdit {
		fn(a, b)
		return
	}
	common := commonLengths(a, b)
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		fromA, fromB := i, j
		for i < len(a) || j < len(b) {
			if i < len(a) && j < len(b) && a[i] == b[j] {
				break
			}
			if j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1] {
				i++
			} else {
				j++
			}
		}
		if i > fromA || j > fromB {
			fn(a[fromA:i], b[fromB:j])
		}
		for i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
		}
	}
}

// commonLengths returns, for each pair of tails of a and b, the length of their
// longest common subsequence.
func commonLengths(a, b []string) [][]int32 {
	lengths := make([][]int32, len(a)+1)
	for i := range lengths {
		lengths[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lengths[i][j] = lengths[i+1][j+1] + 1
			} else {
				lengths[i][j] = max(lengths[i+1][j], lengths[i][j+1])
			}
		}
	}
	return lengths
}

func (d *differences) program(was, is []Program) {
	for i := range max(len(was), len(is)) {
		role := "the program"
		if i > 0 {
			role = "the interpreter"
		}
		switch {
		case i >= len(is):
			d.add("program", "%s %q was needed, and is not", role, was[i].Name)
		case i >= len(was):
			d.add("program", "%s %q is needed, and was not", role, is[i].Name)
		case was[i].Name != is[i].Name:
			d.add("program", "%s was %q, is %q", role, was[i].Name, is[i].Name)
		case was[i].ID != is[i].ID:
			d.add("program", "%s %q itself changed (%s, now %s)", role, is[i].Name, was[i].ID.Short(), is[i].ID.Short())
		}
	}
}

func (d *differences) env(was, is []Variable) {
	before, now := byName(was), byName(is)
	for _, v := range was {
		if _, ok := now[v.Name]; !ok {
			d.add("variable", "variable %s counted, and does not any more", v.Name)
		}
	}
	for _, v := range is {
		sum, ok := before[v.Name]
		switch {
		case ok && sum == v.Sum:
		case !ok:
			d.add("variable", "variable %s counts, and did not before", v.Name)
		case sum == unset:
			d.add("variable", "variable %s is set, and was not", v.Name)
		case v.Sum == unset:
			d.add("variable", "variable %s was set, and is not", v.Name)
		default:
			d.add("variable", "variable %s has another value", v.Name)
		}
	}
}

func byName(env []Variable) map[string]string {
	sums := make(map[string]string, len(env))
	for _, v := range env {
		sums[v.Name] = v.Sum
	}
	return sums
}

func (d *differences) inputs(ctx context.Context, r objects.Reader, was, is objects.ID) error {
	return trees.Diff(ctx, r, was, is, func(c trees.Change) error {
		names := strings.Split(c.Path, "/")
		for i := range names {
			names[i] = entry.UnescapeName(names[i])
		}
		name := Show(strings.Join(names, "/"))
		switch {
		case c.Added():
			d.add("input", "input %s is new", name)
		case c.Deleted():
			d.add("input", "input %s is gone", name)
		case c.Old.ID == c.New.ID:
			d.add("input", "input %s %s", name, executableNow(c.New.Mode))
		default:
			return d.input(ctx, r, name, c)
		}
		return nil
	}, trees.DiffOptions{})
}

func executableNow(m objects.Mode) string {
	if m == objects.ModeExec {
		return "is executable, and was not"
	}
	return "was executable, and is not"
}

// input says how the content of an input differs.
func (d *differences) input(ctx context.Context, r objects.Reader, name string, c trees.Change) error {
	var texts [2]string
	for i, e := range []objects.Entry{c.Old, c.New} {
		if e.Mode.IsDir() {
			texts[i] = leafDirectory
			continue
		}
		body, err := objects.ReadKind(ctx, r, e.ID, objects.Blob)
		if err != nil {
			return err
		}
		texts[i] = string(body)
	}
	was, is := texts[0], texts[1]
	switch {
	case was == leafAbsent:
		d.add("input", "input %s was absent, and is there", name)
	case is == leafAbsent:
		d.add("input", "input %s was there, and is absent", name)
	case strings.HasPrefix(is, leafLink) && strings.HasPrefix(was, leafLink) && firstLine(was) != firstLine(is):
		d.add("input", "input %s is a link to %q, was one to %q", name, firstLine(is)[len(leafLink):], firstLine(was)[len(leafLink):])
	case leafKind(was) != leafKind(is):
		d.add("input", "input %s is %s, was %s", name, leafKind(is), leafKind(was))
	default:
		d.add("input", "input %s changed", name)
	}
	return nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// leafKind says in words what sort of thing a leaf stands for.
func leafKind(text string) string {
	switch {
	case text == leafDirectory:
		return "a directory"
	case text == leafDevice:
		return "a device"
	case strings.HasPrefix(text, leafLink):
		return "a link"
	}
	return "a file"
}
