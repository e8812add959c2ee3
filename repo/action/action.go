package action

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// An Action is all that the result of a command may depend on, apart from the
// content of its inputs. It is a tree; with the inputs in it, the tree's id is
// the key of the result. Nothing in it differs between two machines that should
// share results:
//
//	args       the arguments, each followed by NUL; the first is the program, as typed
//	depfile    the place of the depfile, if there is one
//	dir        the place of the working directory
//	env/NAME   SHA-256 of the variable's value, or "unset"
//	format     "1"
//	inputs/    a leaf at the place of each input
//	outs       the places of the declared outputs, sorted, each followed by NUL
//	platform   "linux/amd64"
//	program    for the program and, if it is a script, its interpreter: id, space, name
//	salt       what --salt says, if anything
//	stdin      the id of the standard input, if it is read
//
// All but args and outs are lines. A leaf is a blob that says what the input is
// (see leafText): the inputs themselves are not kept, so that what is cached and
// pushed is results.
type Action struct {
	Args     []string
	Depfile  string
	Dir      string
	Env      []Variable // sorted by name
	Outs     []string   // sorted
	Platform string
	Program  []Program
	Salt     string
	Stdin    objects.ID
}

// A Variable is a variable of the environment, by the hash of its value: values
// may be secrets, and actions are pushed.
type Variable struct {
	Name string
	Sum  string // hexadecimal, or "unset"
}

// A Program is a file that is executed.
type Program struct {
	Name string // without directories
	ID   objects.ID
}

const (
	formatLine = "1\n"
	unset      = "unset"
)

// platform is what machines must have in common to share results.
const platform = runtime.GOOS + "/" + runtime.GOARCH

// The names in an action's tree.
const (
	nameArgs     = "args"
	nameDepfile  = "depfile"
	nameDir      = "dir"
	nameEnv      = "env"
	nameFormat   = "format"
	nameInputs   = "inputs"
	nameOuts     = "outs"
	namePlatform = "platform"
	nameProgram  = "program"
	nameSalt     = "salt"
	nameStdin    = "stdin"
)

// write gives the objects of the action to s and returns its tree, which lacks
// the inputs.
func (a *Action) write(s sink) (objects.Entries, error) {
	w := actionWriter{sink: s, tree: make(objects.Entries, 0, 11)}
	w.add(nameArgs, joinList(a.Args))
	w.addLine(nameDepfile, a.Depfile)
	w.addLine(nameDir, a.Dir)
	if len(a.Env) > 0 {
		w.addEnv(a.Env)
	}
	w.add(nameFormat, []byte(formatLine))
	w.add(nameOuts, joinList(a.Outs))
	w.addLine(namePlatform, a.Platform)
	var program []byte
	for _, p := range a.Program {
		program = append(hex.AppendEncode(program, p.ID[:]), ' ')
		program = append(append(program, p.Name...), '\n')
	}
	w.add(nameProgram, program)
	w.addLine(nameSalt, a.Salt)
	if !a.Stdin.IsZero() {
		w.addLine(nameStdin, a.Stdin.String())
	}
	return w.tree, w.err
}

// withInputs returns the whole tree of an action: its id is the key.
func withInputs(s sink, fixed objects.Entries, inputs objects.ID) (objects.ID, error) {
	e := objects.Entry{Mode: objects.ModeDir, Name: nameInputs, ID: inputs}
	i, _ := slices.BinarySearchFunc(fixed, e, objects.CompareEntries)
	tree := make(objects.Entries, 0, len(fixed)+1)
	tree = append(append(append(tree, fixed[:i]...), e), fixed[i:]...)
	return s.tree(tree.Encode())
}

// An actionWriter's error stays.
type actionWriter struct {
	sink
	tree objects.Entries
	err  error
}

func (w *actionWriter) add(name string, body []byte) {
	if w.err != nil {
		return
	}
	var id objects.ID
	id, w.err = w.blob(body)
	w.tree = append(w.tree, objects.Entry{Mode: objects.ModeFile, Name: name, ID: id})
}

func (w *actionWriter) addLine(name, line string) {
	if line != "" {
		w.add(name, append([]byte(line), '\n'))
	}
}

func (w *actionWriter) addEnv(env []Variable) {
	leaves := make([]leaf, 0, len(env))
	for _, v := range env {
		id, err := w.blob([]byte(v.Sum + "\n"))
		if err != nil {
			w.err = errors.Join(w.err, err)
			return
		}
		leaves = append(leaves, leaf{entry.EscapeName(v.Name, objects.ModeFile), objects.ModeFile, id})
	}
	sortLeaves(leaves)
	id, err := grow(w.sink, leaves)
	w.err = errors.Join(w.err, err)
	w.tree = append(w.tree, objects.Entry{Mode: objects.ModeDir, Name: nameEnv, ID: id})
}

// joinList writes a list of strings that hold no NUL.
func joinList(list []string) []byte {
	var b []byte
	for _, s := range list {
		b = append(append(b, s...), 0)
	}
	return b
}

// splitList is the inverse of joinList.
func splitList(b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[len(b)-1] != 0 {
		return nil, errors.New("list is cut short")
	}
	return strings.Split(string(b[:len(b)-1]), "\x00"), nil
}

// ErrBadAction is what the errors of ReadAction are, but for those of the reader.
var ErrBadAction = errors.New("malformed action")

// ReadAction returns the action that the tree id is, and the tree of its inputs.
func ReadAction(ctx context.Context, r objects.Reader, id objects.ID) (a Action, inputs objects.ID, err error) {
	tree, err := objects.ReadTree(ctx, r, id)
	if err != nil {
		return a, inputs, err
	}
	for _, e := range tree {
		if e.Name == nameInputs {
			inputs = e.ID
			continue
		}
		if err := a.readPart(ctx, r, e); err != nil {
			return a, inputs, fmt.Errorf("action %s: %s: %w", id, e.Name, err)
		}
	}
	if len(a.Args) == 0 || inputs.IsZero() {
		return a, inputs, fmt.Errorf("%w: %s lacks its arguments or inputs", ErrBadAction, id)
	}
	return a, inputs, nil
}

func (a *Action) readPart(ctx context.Context, r objects.Reader, e objects.Entry) error {
	if e.Name == nameEnv {
		return a.readEnv(ctx, r, e.ID)
	}
	body, err := objects.ReadKind(ctx, r, e.ID, objects.Blob)
	if err != nil {
		return err
	}
	if err := a.parsePart(e.Name, body); err != nil {
		return fmt.Errorf("%w: %w", ErrBadAction, err)
	}
	return nil
}

// parsePart reads one of the blobs of an action. What a later version may have
// added is no error: an action that has more is simply another one.
func (a *Action) parsePart(name string, body []byte) (err error) {
	line := strings.TrimSuffix(string(body), "\n")
	switch name {
	case nameArgs:
		a.Args, err = splitList(body)
	case nameDepfile:
		a.Depfile = line
	case nameDir:
		a.Dir = line
	case nameOuts:
		a.Outs, err = splitList(body)
	case namePlatform:
		a.Platform = line
	case nameProgram:
		a.Program, err = parseProgram(line)
	case nameSalt:
		a.Salt = line
	case nameStdin:
		a.Stdin, err = objects.ParseID(line)
	}
	return err
}

func parseProgram(lines string) ([]Program, error) {
	var program []Program
	for line := range strings.SplitSeq(lines, "\n") {
		digits, name, _ := strings.Cut(line, " ")
		id, err := objects.ParseID(digits)
		if err != nil {
			return nil, err
		}
		program = append(program, Program{Name: name, ID: id})
	}
	return program, nil
}

func (a *Action) readEnv(ctx context.Context, r objects.Reader, id objects.ID) error {
	tree, err := objects.ReadTree(ctx, r, id)
	if err != nil {
		return err
	}
	for _, e := range tree {
		body, err := objects.ReadKind(ctx, r, e.ID, objects.Blob)
		if err != nil {
			return err
		}
		a.Env = append(a.Env, Variable{entry.UnescapeName(e.Name), strings.TrimSuffix(string(body), "\n")})
	}
	slices.SortFunc(a.Env, func(x, y Variable) int { return strings.Compare(x.Name, y.Name) })
	return nil
}
