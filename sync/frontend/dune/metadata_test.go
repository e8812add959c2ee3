package dune

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const emptyName = "b83631c134a9649ec383d0eb9c356803" // of the empty file, by MD5

// list writes an s-expression: strings are atoms, or lists if they have a bracket
// in front already.
func sexpOf(parts ...string) string {
	var b strings.Builder
	b.WriteByte('(')
	for _, part := range parts {
		if strings.HasPrefix(part, "(") {
			b.WriteString(part)
		} else {
			fmt.Fprintf(&b, "%d:%s", len(part), part)
		}
	}
	b.WriteByte(')')
	return b.String()
}

func metadataOf(path, digest string) string {
	return sexpOf(sexpOf("metadata"), sexpOf("files", sexpOf(path, digest)))
}

func TestParseMetadata(t *testing.T) {
	empty, _ := parseDigest(emptyName)
	for _, tt := range []struct {
		what, body string
		want       []Target
	}{
		{"one file", "((8:metadata)(5:files(9:default/a32:" + emptyName + ")))", []Target{{Path: "default/a", Digest: empty}}},
		{"a rule without files", sexpOf(sexpOf("metadata"), sexpOf("files")), nil},
		{"a directory", sexpOf(sexpOf("metadata"), sexpOf("files", sexpOf("d", "<dir>"), sexpOf("d/f", emptyName))),
			[]Target{{Path: "d", IsDir: true}, {Path: "d/f", Digest: empty}}},
		{"the repository of Dune 2", sexpOf(
			sexpOf("metadata", sexpOf("repo", "git@example.invalid:x"), sexpOf("commit_id", "0123"), sexpOf(sexpOf("deeper"))),
			sexpOf("files", sexpOf("a (b)", emptyName))), []Target{{Path: "a (b)", Digest: empty}}},
	} {
		m, err := ParseMetadata([]byte(tt.body))
		if err != nil || !slices.Equal(m.Targets, tt.want) {
			t.Errorf("%s: %v, %v; want %v", tt.what, m.Targets, err, tt.want)
		}
		again, err := ParseMetadata(m.Encode())
		if err != nil || !slices.Equal(again.Targets, tt.want) {
			t.Errorf("%s, written and read again: %v, %v", tt.what, again.Targets, err)
		}
		if bytes.Contains(m.Encode(), []byte("example")) {
			t.Errorf("%s: the repository is carried along: %s", tt.what, m.Encode())
		}
	}
}

func TestParseMetadataRefuses(t *testing.T) {
	good := metadataOf("default/a", emptyName)
	bad := map[string]string{
		"nothing":          "",
		"something after":  good + " ",
		"a value":          sexpOf(sexpOf("metadata"), sexpOf("value", emptyName)),
		"a short digest":   metadataOf("a", emptyName[1:]),
		"another digest":   metadataOf("a", strings.ToUpper(emptyName)),
		"digits in front":  strings.Replace(good, "9:", "09:", 1),
		"a negative size":  strings.Replace(good, "9:", "-9:", 1),
		"a sum":            strings.Replace(good, "9:", "+9:", 1),
		"a huge atom":      strings.Replace(good, "9:", "2147483647:", 1),
		"a larger number":  strings.Replace(good, "9:", "18446744073709551625:", 1),
		"no colon":         "((8:metadata)(5:files(99999999999999999999999999",
		"a list for paths": sexpOf(sexpOf("metadata"), sexpOf("files", sexpOf(sexpOf("a"), emptyName))),
		"deep lists":       "((8:metadata" + strings.Repeat("(", 1<<20),
		"many bytes":       good + strings.Repeat("x", maxMetadata),
	}
	for _, path := range []string{"", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "./a", "a//b", "a/", "a\x00b"} {
		bad[fmt.Sprintf("path %q", path)] = metadataOf(path, emptyName)
	}
	for i := range len(good) {
		bad[fmt.Sprintf("the first %d bytes", i)] = good[:i]
	}
	for what, body := range bad {
		if m, err := ParseMetadata([]byte(body)); !errors.Is(err, ErrBadMetadata) {
			t.Errorf("%s: %v, %v", what, m, err)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(metadataOf("default/a", emptyName)))
	f.Add([]byte(metadataOf("default", "<dir>")))
	f.Add([]byte(sexpOf(sexpOf("metadata", sexpOf("repo", "x")), sexpOf("files"))))
	f.Add([]byte("((8:metadata)(5:files(0:"))
	f.Add([]byte("((8:metadata(((("))
	f.Add([]byte("((8:metadata4294967296:))"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := ParseMetadata(body)
		if err != nil {
			if !errors.Is(err, ErrBadMetadata) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, target := range m.Targets {
			if err := checkPath(target.Path); err != nil {
				t.Error(err)
			}
		}
		again, err := ParseMetadata(m.Encode())
		if err != nil || !slices.Equal(again.Targets, m.Targets) {
			t.Errorf("%q comes back as %v, %v", m.Encode(), again, err)
		}
	})
}
