package entry

import (
	"strings"
	"unicode/utf8"

	"github.com/cache-tool/cache-tool/objects"
)

// A Git work tree has names that mean something to Git itself. A payload can
// have files called so; as they are, `git fsck --strict` would complain of them,
// `git checkout` would refuse to write them, or it would change other files as
// .gitattributes says. What Git takes for such a name is more than the name:
// what HFS+ and NTFS would open under it counts, in any case, with code points
// that HFS+ ignores, with dots and spaces at the end, as 8.3 short name, as the
// stream of a file, after a backslash.
//
// Sources: fsck.c, path.c (is_ntfs_dotgit, is_ntfs_dot_generic), utf8.c
// (is_hfs_dot_generic) of Git 2.39.

// EscapeName returns the name under which a file or directory called name stands
// in a tree: name itself, but where Git would take it for one of its own a '%'
// comes behind what it knows it by (".git%", ".Git% .", ".git%:x"), and where
// there are such '%' already one more. It is one to one for each mode; mode
// decides about .gitignore and .mailmap, which Git refuses only as symlinks, and
// the zero mode stands for none of them.
func EscapeName(name string, mode objects.Mode) string {
	return mapSegments(name, func(segment string) string {
		core, n, class := ownName(segment)
		if class == notOwn || class == ownAsSymlink && n == 0 && mode != objects.ModeSymlink {
			return segment
		}
		return segment[:core] + "%" + segment[core:]
	})
}

// UnescapeName is the inverse of EscapeName. A name from a tree is to be checked
// after it, not before.
func UnescapeName(name string) string {
	if strings.IndexByte(name, '%') < 0 {
		return name
	}
	return mapSegments(name, func(segment string) string {
		core, n, _ := ownName(segment)
		if n == 0 {
			return segment
		}
		return segment[:core] + segment[core+1:]
	})
}

// mapSegments applies fn to what stands between backslashes: Git minds them,
// as Windows takes them for slashes.
func mapSegments(name string, fn func(string) string) string {
	if strings.IndexByte(name, '\\') < 0 {
		return fn(name)
	}
	segments := strings.Split(name, `\`)
	for i, s := range segments {
		segments[i] = fn(s)
	}
	return strings.Join(segments, `\`)
}

type nameClass uint8

const (
	notOwn       nameClass = iota
	ownAlways              // refused, or read by Git
	ownAsSymlink           // refused as a symlink
)

// ownNames are the names behind the dot. Git has ".git" refused everywhere; it
// reads the content of the next two, for fsck and checkout, whoever made them.
var ownNames = [...]struct {
	name  string
	short string // what NTFS falls back to if the first four short names are taken
	class nameClass
}{
	{"git", "", ownAlways},
	{"gitmodules", "gi7eba", ownAlways},
	{"gitattributes", "gi7d29", ownAlways},
	{"gitignore", "gi250a", ownAsSymlink},
	{"mailmap", "maba30", ownAsSymlink},
}

// ownName reports whether Git takes s, less the '%' that follow its first core
// bytes, for one of its own names. It returns how many '%' there are.
func ownName(s string) (core, percents int, class nameClass) {
	if !mayBeOwn(s) {
		return 0, 0, notOwn
	}
	for _, own := range ownNames {
		for _, core := range [...]int{matchDotted(s, own.name), matchShort(s, own.name, own.short)} {
			if core == 0 {
				continue
			}
			rest := strings.TrimLeft(s[core:], "%")
			if endsName(rest) {
				return core, len(s) - core - len(rest), own.class
			}
		}
	}
	return 0, 0, notOwn
}

// mayBeOwn is quick, and true for few names: those that begin like one.
func mayBeOwn(s string) bool {
	return len(s) >= len(".git") && (s[0] == '.' || s[0]|0x20 == 'g' || s[0]|0x20 == 'm' || s[0] >= utf8.RuneSelf)
}

// matchDotted returns how many bytes of s are "." and name, in any case and with
// code points between that HFS+ ignores.
func matchDotted(s, name string) int {
	i := skipIgnored(s, 0)
	if i >= len(s) || s[i] != '.' {
		return 0
	}
	i++
	for j := range len(name) {
		i = skipIgnored(s, i)
		if i >= len(s) || lower(s[i]) != name[j] {
			return 0
		}
		i++
	}
	return i
}

// matchShort returns how many bytes of s are an 8.3 name that NTFS may have made
// for "." and name.
func matchShort(s, name, fallback string) int {
	if fallback == "" {
		if len(s) >= 5 && strings.EqualFold(s[:5], "git~1") {
			return 5
		}
		return 0
	}
	if len(s) < 8 {
		return 0
	}
	if strings.EqualFold(s[:6], name[:6]) && s[6] == '~' && s[7] >= '1' && s[7] <= '4' {
		return 8
	}
	tilde := strings.IndexByte(s[:8], '~')
	if tilde < 0 || tilde > 6 || !strings.EqualFold(s[:tilde], fallback[:tilde]) {
		return 0
	}
	for i, c := range []byte(s[tilde+1 : 8]) {
		if c < '0' || c > '9' || i == 0 && c == '0' {
			return 0
		}
	}
	return 8
}

// endsName reports whether rest is nothing to NTFS or to HFS+: dots and spaces
// up to the end or the name of a stream; or code points that are ignored up to
// the end or to what is not UTF-8.
func endsName(rest string) bool {
	trimmed := strings.TrimLeft(rest, ". ")
	if trimmed == "" || trimmed[0] == ':' {
		return true
	}
	i := skipIgnored(rest, 0)
	return i == len(rest) || malformed(rest[i:])
}

func skipIgnored(s string, i int) int {
	for i < len(s) && s[i] >= utf8.RuneSelf {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			i += n
		default:
			return i
		}
	}
	return i
}

// malformed reports whether s begins with what Git holds for no UTF-8.
func malformed(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return r == utf8.RuneError && n == 1 || r == 0xfffe || r == 0xffff
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
