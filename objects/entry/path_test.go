package entry_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/objectstest"
)

func TestPath(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tt := range []struct{ key, want string }{
		{"deps", "deps"},
		{"npm-linux-x64-abc", "npm-linux-x64-abc"},
		{"", "%"},
		{"a/b", "a%2Fb"},
		{"100%", "100%25"},
		{"..", "%2E%2E"},
		{".hidden", "%2Ehidden"},
		{"a.b ", "a.b%20"},
		{"a.", "a%2E"},
		{"ünï\xff", "ünï%FF"},
		{"a\x00\n\x7f", "a%00%0A%7F"},
		{`a:b*c?d"e<f>g|h\`, "a%3Ab%2Ac%3Fd%22e%3Cf%3Eg%7Ch%5C"},
		{"git~1", "git~1%"},
		{"GIT~1%", "GIT~1%25"},
		{long, long},
		{long + "x", long[:120] + "%~"},
		{strings.Repeat("/", 100), strings.Repeat("%2F", 40) + "%~"},
		{strings.Repeat("€", 100), strings.Repeat("€", 40) + "%~"},
	} {
		path := entry.Path(entry.Save, tt.key)
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(tt.key)))
		cut := strings.HasSuffix(tt.want, "%~")
		if cut {
			tt.want += sum
		}
		if want := "save/" + sum[:2] + "/" + sum[2:4] + "/" + tt.want; path != want {
			t.Errorf("Path(%q) = %q, want %q", tt.key, path, want)
		}
		if got := entry.Abbreviated(path); got != cut {
			t.Errorf("Abbreviated(%q) = %v", path, got)
		}
		if !entry.IsPath(path) {
			t.Errorf("IsPath(%q) is false", path)
		}
		kind, key, err := entry.ParsePath(path)
		if err != nil || kind != entry.Save || !cut && key != tt.key {
			t.Errorf("ParsePath(%q) = %q, %q, %v; want %q", path, kind, key, err, tt.key)
		}
		if cut && !strings.HasPrefix(tt.key, strings.Split(key, "…")[0]) {
			t.Errorf("ParsePath(%q) = %q of %q", path, key, tt.key)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	good := entry.Path(entry.Save, "deps")
	long := entry.Path(entry.Save, strings.Repeat("x", 300))
	for _, bad := range []string{
		"", "save", "save/f9/34", "/f9/34/deps", good + "/x", good + "x",
		"Save" + good[4:], "sa_ve" + good[4:],
		strings.Replace(good, "f9", "f8", 1),
		strings.Replace(good, "f9", "F9", 1),
		entry.Path(entry.Save, ".x")[:11] + ".x",
		strings.Replace(entry.Path(entry.Save, "a/b"), "%2F", "%2f", 1),
		strings.Replace(long, "/x", "/y", 1)[:len(long)-1] + "x",
		strings.ToUpper(long),
	} {
		if kind, key, err := entry.ParsePath(bad); !errors.Is(err, entry.ErrBadPath) {
			t.Errorf("ParsePath(%q) = %q, %q, %v", bad, kind, key, err)
		}
	}
}

// The name that a key gets is one that every file system and Git can have.
func FuzzPath(f *testing.F) {
	for _, key := range []string{"", "a/b", "..", "%", "git~1", ".git%", "\u200c.git", "git~1\\x", "gi7eba~1", strings.Repeat("%", 67)} {
		f.Add(key)
	}
	sound := regexp.MustCompile(`^save/[0-9a-f]{2}/[0-9a-f]{2}/[^\x00-\x1f\x7f/\\:*?"<>|]{1,200}$`)
	f.Fuzz(func(t *testing.T, key string) {
		path := entry.Path(entry.Save, key)
		if !sound.MatchString(path) || len(path) > 11+200 {
			t.Errorf("Path(%q) = %q", key, path)
		}
		_, got, err := entry.ParsePath(path)
		if err != nil || !entry.Abbreviated(path) && got != key {
			t.Errorf("ParsePath(%q) = %q, %v; want %q", path, got, err, key)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	f.Add("save/f9/34/deps")
	f.Add(entry.Path(entry.Run, strings.Repeat("x", 300)))
	f.Fuzz(func(t *testing.T, path string) {
		kind, key, err := entry.ParsePath(path)
		if err == nil && !entry.Abbreviated(path) && entry.Path(kind, key) != path {
			t.Errorf("%q is %s %q, whose path is %q", path, kind, key, entry.Path(kind, key))
		}
	})
}

func TestKey(t *testing.T) {
	ctx := context.Background()
	m := new(objectstest.Memory)
	for _, key := range []string{"short", strings.Repeat("long\n", 100)} {
		id, err := entry.Write(m, entry.Meta{Kind: entry.Put, Key: key}, nil, objects.ID{})
		if err != nil {
			t.Fatal(err)
		}
		path := entry.Path(entry.Put, key)
		if got, err := entry.Key(ctx, m, path, id); err != nil || got != key {
			t.Errorf("Key = %q, %v; want %q", got, err, key)
		}
		other := entry.Path(entry.Put, strings.Repeat("long\n", 100)+"!")
		if got, err := entry.Key(ctx, m, other, id); err == nil {
			t.Errorf("Key of another's path = %q", got)
		}
	}
}

func ExamplePath() {
	fmt.Println(entry.Path(entry.Save, "npm/linux"))
	// Output: save/92/4d/npm%2Flinux
}
