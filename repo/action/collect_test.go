package action

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCollect(t *testing.T) {
	dir, err := physical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "odd [dir]")
	for _, name := range []string{"a.c", "b.c", "b.h", "sub/c.c", "sub/deep/d.c", "sub/deep/e.h", ".git/config", ".cache-tool/x.c", "cache/x.c", "out/o.c", "we*rd"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "sub/empty"), 0o755)
	os.Symlink("sub", filepath.Join(dir, "link"))
	for _, tt := range []struct{ in, want string }{
		{"a.c", "a.c"},
		{"./sub/../a.c", "a.c"},
		{"absent", "absent"},
		{"*.c", "a.c b.c"},
		{"*.{c,h}", "a.c b.c b.h"},
		{"{a.c,sub/c.c}", "a.c sub/c.c"},
		{"**/*.c", "a.c b.c sub/c.c sub/deep/d.c"},
		{"sub/*/*.c", "sub/deep/d.c"},
		{"sub/deep/", "sub/deep/d.c sub/deep/e.h"},
		{"s*", "sub/c.c sub/deep/d.c sub/deep/e.h sub/empty/"},
		{"sub/**", "sub/c.c sub/deep/d.c sub/deep/e.h sub/empty/"},
		{".", "a.c b.c b.h link sub/c.c sub/deep/d.c sub/deep/e.h sub/empty/ we*rd"},
		{"link", "link/c.c link/deep/d.c link/deep/e.h link/empty/"},
		{"link/c.c", "link/c.c"},
		{"li*", "link"},
		{`we\*rd`, "we*rd"},
		{"out/*.c", ""},
		{"out/o.c", "out/o.c"},
		{"nothing/*", ""},
		{strings.ReplaceAll(dir, "[", `\[`) + "/a.c", "a.c"},
		{strings.ReplaceAll(dir, "[", `\[`) + "/*.h", "b.h"},
	} {
		c := collector{base: base(dir), dir: dir, skip: []string{filepath.Join(dir, "cache"), filepath.Join(dir, "out")}}
		err := c.collect(tt.in)
		var got []string
		for _, in := range sortInputs(c.seen) {
			got = append(got, strings.TrimPrefix(in.place, "base/"))
		}
		if want := strings.Fields(tt.want); err != nil || !slices.Equal(got, want) {
			t.Errorf("collect(%q) found %q, %v, want %q", tt.in, got, err, want)
		}
	}
	c := collector{base: base(dir), dir: filepath.Join(dir, "sub")}
	if err := c.collect("../*.h"); err != nil || len(c.seen) != 1 || c.seen[0].place != "base/b.h" {
		t.Errorf("from a subdirectory: %+v, %v", c.seen, err)
	}
}
