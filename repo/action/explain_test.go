package action

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// explain returns the explanation of the last miss, in lines.
func (b *bench) explain(key string) []string {
	b.t.Helper()
	e, err := Explain(b.t.Context(), b.store, b.repo, key)
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	if e.Reason != "" {
		lines = append(lines, e.Reason)
	}
	for _, d := range e.Differences {
		lines = append(lines, d.Text)
	}
	return lines
}

func TestExplain(t *testing.T) {
	t.Setenv("CFLAGS", "-O1")
	b := newBench(t)
	b.write("cc", "#!/bin/sh\necho compiled > $2\n")
	os.Chmod(filepath.Join(b.dir, "cc"), 0o755)
	for _, name := range []string{"a.c", "include/a.h", "include/b.h", "include/sub/c.h"} {
		b.write(name, name)
	}
	spec := Spec{Args: []string{"./cc", "-o", "a.o", "-O1", "a.c"}, In: []string{"*.c", "include"}, Out: []string{"a.o"}, Env: []string{"CFLAGS"}}
	b.want(Miss, spec)
	if got, want := b.explain(""), []string{"nothing like it ran before"}; !slices.Equal(got, want) {
		t.Errorf("the first run: %q, want %q", got, want)
	}
	for _, tt := range []struct {
		name string
		do   func()
		want []string
	}{
		{"a flag", func() { spec.Args[3] = "-O2" }, []string{`argument "-O1" became "-O2"`}},
		{"one header among many", func() { b.write("include/sub/c.h", "x") }, []string{"input include/sub/c.h changed"}},
		{"a new header", func() { b.write("include/d.h", "x") }, []string{"input include/d.h is new"}},
		{"a header less", func() { b.remove("include/a.h") }, []string{"input include/a.h is gone"}},
		{"the execute bit", func() { os.Chmod(filepath.Join(b.dir, "a.c"), 0o755) }, []string{"input a.c is executable, and was not"}},
		{"a variable", func() { t.Setenv("CFLAGS", "-g") }, []string{"variable CFLAGS has another value"}},
		{"a variable unset", func() { os.Unsetenv("CFLAGS") }, []string{"variable CFLAGS was set, and is not"}},
		{"a variable more", func() { spec.Env = append(spec.Env, "LANG") }, []string{"variable LANG counts, and did not before"}},
		{"the compiler itself", func() { b.write("cc", "#!/bin/sh\necho compiled well > $2\n") }, []string{`the program "cc" itself changed`}},
		{"salt", func() { spec.Salt = "1" }, []string{`the salt is "1", there was none`}},
		{"other salt", func() { spec.Salt = "2" }, []string{`the salt was "1", is "2"`}},
		{"flags more and less", func() { spec.Args = []string{"./cc", "-o", "a.o", "-g", "-Wall", "a.c"} },
			[]string{`argument "-O2" became "-g"`, `argument "-Wall" is new`}},
		{"a link", func() { b.remove("include/b.h"); os.Symlink("sub/c.h", filepath.Join(b.dir, "include/b.h")) },
			[]string{"input include/b.h is a link, was a file"}},
		{"an input named", func() { spec.In = append(spec.In, "config") }, []string{"input config is new"}},
		{"that appears", func() { b.write("config", "") }, []string{"input config was absent, and is there"}},
		{"other outputs", func() { spec.Out = []string{"a.o", "cc"} }, []string{"output cc is new"}},
	} {
		tt.do()
		r := b.want(Miss, spec)
		got := b.explain("")
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
		}
		if again := b.explain(r.Key.String()[:8]); !slices.Equal(again, got) {
			t.Errorf("%s: by its key %q, want %q", tt.name, again, got)
		}
	}
}

func TestExplainResultsThatAreNotThere(t *testing.T) {
	b := newBench(t)
	if _, err := Explain(t.Context(), b.store, b.repo, ""); !errors.Is(err, ErrNoRun) {
		t.Errorf("without any run: %v", err)
	}
	fail := sh("exit 2", Spec{})
	b.want(Uncached, fail)
	b.want(Uncached, fail)
	got := b.explain("")
	if len(got) != 1 || !strings.Contains(got[0], "the same was run before, and its result was not kept either: exit code 2") {
		t.Errorf("after a failure: %q", got)
	}
	r := b.want(Miss, sh("true", Spec{}))
	b.want(Hit, sh("true", Spec{}))
	clear(b.store.entries)
	b.want(Miss, sh("true", Spec{}))
	got = b.explain(r.Key.String())
	if len(got) != 1 || !strings.Contains(got[0], "its result is gone") {
		t.Errorf("after its result was removed: %q", got)
	}
	if _, err := Explain(t.Context(), b.store, b.repo, "ffff"); !errors.Is(err, ErrNoRun) {
		t.Errorf("a key that nobody ran: %v", err)
	}
}

// What others have made is compared with, too: their runs are in no log here.
func TestExplainWithoutALog(t *testing.T) {
	b := newBench(t)
	b.write("in", "1")
	spec := sh("cat in", Spec{In: []string{"in"}})
	b.want(Miss, spec)
	if err := os.Remove(filepath.Join(b.repo, logFile)); err != nil {
		t.Fatal(err)
	}
	b.write("in", "2")
	b.want(Miss, spec)
	if got, want := b.explain(""), []string{"input in changed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestExplainHeaders(t *testing.T) {
	gcc(t)
	b := newBench(t)
	b.write("a.c", "#include <stdio.h>\n#include \"a.h\"\n#include \"b.h\"\n")
	b.write("a.h", "")
	b.write("b.h", "")
	spec := Spec{Args: []string{"gcc", "-MD", "-c", "a.c"}, Out: []string{"a.o"}, Depfile: "a.d"}
	b.want(Miss, spec)
	b.write("b.h", "int b;\n")
	b.want(Miss, spec)
	if got, want := b.explain(""), []string{"input b.h changed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	b.write("c.h", "")
	b.write("b.h", "#include \"c.h\"\n")
	b.want(Miss, spec)
	if got, want := b.explain(""), []string{"input b.h changed", "input c.h is new"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEachEdit(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a b c", "a b c", ""},
		{"a b c", "a x c", "[b>x]"},
		{"a b c", "a c", "[b>]"},
		{"a c", "a b c", "[>b]"},
		{"a b c d e", "b c x e f", "[a>][d>x][>f]"},
		{"a", "", "[a>]"},
		{"a a b", "a b b", "[a>][>b]"},
	} {
		var got string
		eachEdit(strings.Fields(tt.a), strings.Fields(tt.b), func(gone, added []string) {
			got += "[" + strings.Join(gone, " ") + ">" + strings.Join(added, " ") + "]"
		})
		if got != tt.want && !(tt.a == "a a b" && got == "[a>b]") {
			t.Errorf("from %q to %q: %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}
