package action

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

var sample = Action{
	Args:     []string{"cc", "-c", "", "a b.c"},
	Depfile:  "base/a.d",
	Dir:      "base/src",
	Env:      []Variable{{".git", unset}, {"CFLAGS", sumOf("-O2")}},
	Outs:     []string{"base/a.d", "base/a.o"},
	Platform: "plan9/arm",
	Program:  []Program{{"cc", objects.Sum(objects.Blob, []byte("cc"))}, {"sh", objects.Sum(objects.Blob, nil)}},
	Salt:     "pepper",
	Stdin:    objects.Sum(objects.Blob, []byte("in")),
}

func TestActionComesBack(t *testing.T) {
	store := newMemory()
	inputs := []input{
		{place: "abs/usr/include/.git/x.h", state: state{text: "1\n"}},
		{place: "base/empty/", state: state{text: leafDirectory}},
		{place: "base/run.sh", state: state{text: "2\n", exec: true}},
		{place: "base/run/x", state: state{text: "3\n"}},
	}
	var ids [2]objects.ID
	for i, s := range []sink{&hashing{}, writing{store}} {
		fixed, err := sample.write(s)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := inputsTree(s, inputs)
		if err != nil {
			t.Fatal(err)
		}
		if ids[i], err = withInputs(s, fixed, tree); err != nil {
			t.Fatal(err)
		}
	}
	if ids[0] != ids[1] {
		t.Fatalf("looked up as %s, written as %s", ids[0], ids[1])
	}
	got, tree, err := ReadAction(t.Context(), store, ids[0])
	if err != nil || !reflect.DeepEqual(got, sample) {
		t.Errorf("came back as %+v, %v, want %+v", got, err, sample)
	}
	var paths []string
	walk(t, store, tree, "", &paths)
	want := []string{"abs/usr/include/.git%/x.h 100644", "base/empty/", "base/run.sh 100755", "base/run/x 100644"}
	if !slices.Equal(paths, want) {
		t.Errorf("inputs %q, want %q", paths, want)
	}
}

func walk(t *testing.T, store *memory, id objects.ID, prefix string, paths *[]string) {
	tree, err := objects.ReadTree(t.Context(), store, id)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) == 0 {
		*paths = append(*paths, prefix)
	}
	for _, e := range tree {
		if e.Mode.IsDir() {
			walk(t, store, e.ID, prefix+e.Name+"/", paths)
		} else {
			*paths = append(*paths, fmt.Sprintf("%s%s %o", prefix, e.Name, e.Mode))
		}
	}
}

// Whatever a result depends on must be in the key.
func TestEveryPartOfAnActionCounts(t *testing.T) {
	key := func(a Action) objects.ID {
		s := &hashing{}
		fixed, err := a.write(s)
		if err != nil {
			t.Fatal(err)
		}
		id, err := withInputs(s, fixed, objects.EmptyTree)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	seen := map[objects.ID]string{key(sample): "as it is"}
	for name, change := range map[string]func(*Action){
		"an argument more":         func(a *Action) { a.Args = append(slices.Clone(a.Args), "") },
		"arguments joined":         func(a *Action) { a.Args = []string{"cc", "-c", "a b.c"} },
		"depfile":                  func(a *Action) { a.Depfile = "" },
		"directory":                func(a *Action) { a.Dir = "base" },
		"a variable not named":     func(a *Action) { a.Env = a.Env[1:] },
		"a variable that is set":   func(a *Action) { a.Env = []Variable{{".git", sumOf("")}, a.Env[1]} },
		"outputs":                  func(a *Action) { a.Outs = a.Outs[1:] },
		"platform":                 func(a *Action) { a.Platform = "plan9/arm64" },
		"program":                  func(a *Action) { a.Program = a.Program[:1] },
		"no salt":                  func(a *Action) { a.Salt = "" },
		"standard input":           func(a *Action) { a.Stdin = objects.Sum(objects.Blob, nil) },
		"standard input not taken": func(a *Action) { a.Stdin = objects.ID{} },
	} {
		a := sample
		change(&a)
		if before, ok := seen[key(a)]; ok {
			t.Errorf("%s: same key as %s", name, before)
		}
		seen[key(a)] = name
	}
}

func TestWritingRefusesWhatIsNoTree(t *testing.T) {
	inputs := []input{{place: "base/a", state: state{text: "1\n"}}, {place: "base/a.c", state: state{text: "1\n"}}, {place: "base/a/b", state: state{text: leafAbsent}}}
	if _, err := inputsTree(writing{newMemory()}, inputs); err == nil {
		t.Error("a file and a directory of one name were written")
	}
}

func FuzzActionParts(f *testing.F) {
	f.Add(nameArgs, []byte("cc\x00-c\x00"))
	f.Add(nameProgram, []byte(objects.EmptyTree.String()+" cc\n"))
	f.Add(nameStdin, []byte(objects.EmptyTree.String()+"\n"))
	f.Add(nameOuts, []byte("no end"))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		var a Action
		if err := a.parsePart(name, body); err != nil {
			return
		}
		if name == nameArgs && !slices.Equal(joinList(a.Args), body) {
			t.Errorf("arguments %q came back as %q", body, joinList(a.Args))
		}
	})
}
