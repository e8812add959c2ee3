package dune

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	older, newer := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(older, "meta"), filepath.Join(newer, "db", "meta"), filepath.Join(newer, "meta")} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		env     map[string]string
		version string
		v4, v5  string
	}{
		{map[string]string{"HOME": "/h"}, "", "/h/.cache/dune/db", "/h/.cache/dune/db"},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "", "/x/dune/db", "/x/dune/db"},
		{map[string]string{"HOME": "/h", "DUNE_CACHE_ROOT": "/r"}, "2.9.3", "/h/.cache/dune/db", "/r/db"},
		{map[string]string{"HOME": "/h", "DUNE_CACHE_ROOT": "/r"}, "3.0.2\n", "/h/.cache/dune/db", "/r"},
		{map[string]string{"HOME": "/h", "DUNE_CACHE_ROOT": "/r"}, "3.21.1", "/h/.cache/dune/db", "/r"},
		{map[string]string{"HOME": "/h", "DUNE_CACHE_ROOT": "/r"}, "3.22.0-5-g0123456", "/h/.cache/dune/db", "/r/db"},
		{map[string]string{"HOME": "/h", "DUNE_CACHE_ROOT": "/r"}, "4.0", "/h/.cache/dune/db", "/r/db"},
		{map[string]string{"DUNE_CACHE_ROOT": "/r"}, "n/a", "", "/r/db"},
		{map[string]string{"DUNE_CACHE_ROOT": older}, "", "", older},
		{map[string]string{"DUNE_CACHE_ROOT": newer}, "", "", newer + "/db"},
		{map[string]string{"DUNE_CACHE_ROOT": older}, "3.22", "", older + "/db"},
	} {
		c, err := Find(func(name string) string { return tt.env[name] }, func() string { return tt.version })
		if err != nil {
			t.Errorf("%v: %v", tt.env, err)
			continue
		}
		if c.roots[4] != tt.v4 || c.roots[5] != tt.v5 {
			t.Errorf("%v, Dune %q: %q and %q, want %q and %q", tt.env, tt.version, c.roots[4], c.roots[5], tt.v4, tt.v5)
		}
	}
	for _, env := range []map[string]string{{}, {"HOME": "/h", "DUNE_CACHE_ROOT": "r"}} {
		if c, err := Find(func(name string) string { return env[name] }, func() string { return "" }); err == nil {
			t.Errorf("%v: %q", env, c.Roots())
		}
	}
}

func TestKeys(t *testing.T) {
	digest, _ := parseDigest(emptyName)
	for _, version := range versions {
		key := Key{version, digest}
		if got, ok := ParseKey(key.String()); !ok || got != key {
			t.Errorf("%s comes back as %v, %v", key, got, ok)
		}
	}
	for _, bad := range []string{"", "meta/v4", "meta/v3/" + emptyName, "meta/v5/" + emptyName + "0", "v5/" + emptyName, "meta/v5/" + emptyName[:2] + "/" + emptyName} {
		if key, ok := ParseKey(bad); ok {
			t.Errorf("%q is taken for %v", bad, key)
		}
	}

	root := filepath.Join(t.TempDir(), "dune", "db")
	for _, name := range []string{
		"meta/v4/b8/" + emptyName, "meta/v5/b8/" + emptyName,
		"meta/v4/aa/" + emptyName, "meta/v4/b8/promoting.1", "meta/v4/" + emptyName, "meta/v4/xx", "meta/v3/b8/" + emptyName, "temp/" + emptyName,
	} {
		write(t, filepath.Join(root, name), "", 0o644)
	}
	keys, err := cacheAt(root).Keys()
	if err != nil || len(keys) != 2 || !keys[Key{4, digest}] || !keys[Key{5, digest}] {
		t.Errorf("Keys = %v, %v", keys, err)
	}
	if keys, err := cacheAt(t.TempDir()).Keys(); err != nil || len(keys) > 0 {
		t.Errorf("Keys of an empty directory = %v, %v", keys, err)
	}
	if got := cacheAt(root).Roots(); !slices.Equal(got, []string{root}) {
		t.Errorf("Roots = %q", got)
	}
}

// What a killed delivery left is removed by whoever comes by, if it is old.
func TestKeysSweeps(t *testing.T) {
	root := t.TempDir()
	stale, young := filepath.Join(root, "meta/v5/b8/tmp-stale"), filepath.Join(root, "meta/v5/b8/tmp-young")
	write(t, stale, "half", 0o644)
	write(t, young, "half", 0o644)
	then := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(stale, then, then); err != nil {
		t.Fatal(err)
	}
	if _, err := cacheAt(root).Keys(); err != nil {
		t.Fatal(err)
	}
	if exists(stale) || !exists(young) {
		t.Errorf("the old one is there: %v; the young one is there: %v", exists(stale), exists(young))
	}
}

// cacheAt returns a cache of which all is in one directory.
func cacheAt(root string) *Cache { return &Cache{roots: map[int]string{4: root, 5: root}} }

func write(t *testing.T, name, content string, perm os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, perm); err != nil {
		t.Fatal(err)
	}
}
