package action

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPlace(t *testing.T) {
	for _, tt := range []struct{ base, path, place, show string }{
		{"/p", "/p", "base", "."},
		{"/p", "/p/a/b", "base/a/b", "a/b"},
		{"/p", "/pq/a", "abs/pq/a", "/pq/a"},
		{"/p", "/", "abs", "/"},
		{"/", "/", "base", "."},
		{"/", "/a", "base/a", "a"},
	} {
		b := base(tt.base)
		place := b.place(tt.path)
		if place != tt.place || b.path(place) != tt.path || Show(place) != tt.show {
			t.Errorf("base %s: %s has place %s, path %s, shown %s", tt.base, tt.path, place, b.path(place), Show(place))
		}
		if err := checkPlace(place); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "x", "/", "base/", "base//a", "base/../a", "abs/.", "home/a", "base/a\x00b"} {
		if checkPlace(bad) == nil {
			t.Errorf("checkPlace(%q) took it", bad)
		}
	}
	if got, want := treePath("base/a/.git/.Git/x"), "base/a/.git%/.Git%/x"; got != want {
		t.Errorf("in a tree it is %s, want %s", got, want)
	}
}

func TestFindBase(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "w", "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := findBase(deep); got != deep {
		t.Errorf("without a work tree: %s, want %s", got, deep)
	}
	if err := os.WriteFile(filepath.Join(dir, "w", ".git"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := findBase(deep), filepath.Join(dir, "w"); got != want {
		t.Errorf("in a work tree: %s, want %s", got, want)
	}
}

func TestLocateMindsSymlinks(t *testing.T) {
	dir, err := physical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a/b", "far/away"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	os.Symlink("../far/away", filepath.Join(dir, "a/link"))
	os.WriteFile(filepath.Join(dir, "far/x.h"), nil, 0o644)
	for _, tt := range []struct{ name, want string }{
		{"a/x.h", "a/x.h"},
		{"./a//x.h", "a/x.h"},
		{"a/b/../x.h", "a/x.h"},
		{"a/link/../x.h", "far/x.h"},
		{"../x.h", "../x.h"},
	} {
		got, err := locate(dir, tt.name)
		if err != nil || got != filepath.Join(dir, tt.want) {
			t.Errorf("locate(%q) = %s, %v, want %s", tt.name, got, err, filepath.Join(dir, tt.want))
		}
	}
}
