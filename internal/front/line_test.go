package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/repo/action"
)

func TestParse(t *testing.T) {
	cc := func(spec action.Spec) line {
		spec.Args = []string{"cc", "-c", "a.c"}
		return line{Line: run.Line{Spec: spec}}
	}
	for _, tt := range []struct {
		words string
		want  line
	}{
		{"run -- cc -c a.c", cc(action.Spec{})},
		{"run cc -c a.c", cc(action.Spec{})},
		{"run --out a.o --out=b.o --in x --env CC --depfile a.d --salt=1 --base . --stdin -- cc -c a.c",
			cc(action.Spec{Out: []string{"a.o", "b.o"}, In: []string{"x"}, Env: []string{"CC"}, Depfile: "a.d", Salt: "1", Base: ".", Stdin: true})},
		{"--repo r run --branch=pr/7 --cache-failures -v -q -- cc -c a.c",
			line{Line: run.Line{Spec: cc(action.Spec{}).Spec, CacheFailures: true}, repo: "r", branch: "pr/7", verbose: true}},
	} {
		got, ok := parse(strings.Fields(tt.words))
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(line{})); !ok || diff != "" {
			t.Errorf("%s: %t\n%s", tt.words, ok, diff)
		}
	}
}

// TestParseLeavesAlone has lines that are for the full program: other verbs, help,
// and what is wrong.
func TestParseLeavesAlone(t *testing.T) {
	for _, words := range []string{
		"", "run", "run --", "run --out a.o", "run --out", "save k dir", "get run", "--json run -- cc", "run --help", "run -h -- cc", "-h run",
		"run --nonsense x -- cc", "--out x run -- cc", "--stdin run -- cc", "run --branch a..b -- cc", "run --stdin=maybe -- cc", "version",
		"run -x -- cc", "--repo", "run --json -- cc",
	} {
		if got, ok := parse(strings.Fields(words)); ok {
			t.Errorf("%q: %+v", words, got)
		}
	}
}
