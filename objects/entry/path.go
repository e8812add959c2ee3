package entry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Kind is the first name of an entry's path: what sort of entry it is. Each
// build tool that is served has a kind of its own.
type Kind string

// The kinds that commands make.
const (
	Save Kind = "save" // directories and files that a person keeps
	Run  Kind = "run"  // what a command made
	Put  Kind = "put"  // one blob
)

// Valid reports whether k can be the first name of a path: lower-case letters,
// digits and dashes.
func (k Kind) Valid() bool {
	for i := range len(k) {
		c := k[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return k != "" && len(k) <= 64
}

const (
	maxName   = 200 // bytes of an escaped key; file systems allow 255
	longHead  = 120 // bytes of a longer one that are kept for people
	longMark  = "%~"
	longTail  = len(longMark) + 2*sha256.Size
	emptyName = "%" // the empty key
)

// Path returns where the entry of this kind and key stands in a branch's tree:
//
//	kind/ab/cd/name
//
// ab and cd are the first two bytes of the key's SHA-256, in hexadecimal: with a
// million entries no tree on the way holds more than 256 names or so. The name
// is the key with these bytes written as %XX: '/', '%', control characters,
// what is not UTF-8, what Windows has no names with (\ : * ? " < > |), a dot in
// front, a dot or space at the end; and what Git refuses is escaped as in
// EscapeName. A name that would be longer than 200 bytes is cut and ends in "%~"
// and the whole SHA-256; the key then has to stand in the entry's meta.
func Path(kind Kind, key string) string {
	sum := sha256.Sum256([]byte(key))
	return join(kind, sum, escapeKey(key, sum))
}

func join(kind Kind, sum [sha256.Size]byte, name string) string {
	b := make([]byte, 0, len(kind)+len("/ab/cd/")+len(name))
	b = append(append(b, kind...), '/')
	b = append(hex.AppendEncode(b, sum[:1]), '/')
	b = append(hex.AppendEncode(b, sum[1:2]), '/')
	return string(append(b, name...))
}

// IsPath reports whether path is as deep in a branch's tree as entries stand.
// What is deeper belongs to an entry, what is less deep holds entries.
func IsPath(path string) bool { return strings.Count(path, "/") == 3 }

// ErrBadPath is what every error of ParsePath is.
var ErrBadPath = errors.New("not the path of an entry")

// ParsePath is the inverse of Path. Of a key that was too long for a name it
// returns the beginning and a part of its hash, for people to read; Abbreviated
// tells, and Key knows the whole.
func ParsePath(path string) (Kind, string, error) {
	kind, fan, name, ok := cutPath(path)
	if !ok {
		return "", "", fmt.Errorf("%w: %q", ErrBadPath, path)
	}
	if head, sum, ok := cutLong(name); ok {
		if join(kind, sum, name) != path {
			return "", "", fmt.Errorf("%w: %q is in the wrong place", ErrBadPath, path)
		}
		return kind, fmt.Sprintf("%s…%x", unescapeKey(head), sum[:6]), nil
	}
	key := unescapeKey(name)
	if Path(kind, key) != path {
		return "", "", fmt.Errorf("%w: %q is in the wrong place under %s", ErrBadPath, path, fan)
	}
	return kind, key, nil
}

// Abbreviated reports whether the name at the end of path holds only a part of
// the entry's key.
func Abbreviated(path string) bool {
	_, _, name, ok := cutPath(path)
	if !ok {
		return false
	}
	_, _, long := cutLong(name)
	return long
}

func cutPath(path string) (kind Kind, fan, name string, ok bool) {
	first, rest, _ := strings.Cut(path, "/")
	if len(rest) < len("ab/cd/n") || rest[2] != '/' || rest[5] != '/' || !IsPath(path) {
		return "", "", "", false
	}
	return Kind(first), rest[:5], rest[6:], Kind(first).Valid()
}

func cutLong(name string) (head string, sum [sha256.Size]byte, ok bool) {
	cut := len(name) - longTail
	if cut < 0 || name[cut:cut+len(longMark)] != longMark {
		return "", sum, false
	}
	digits := name[cut+len(longMark):]
	if _, err := hex.Decode(sum[:], []byte(digits)); err != nil || digits != strings.ToLower(digits) {
		return "", sum, false
	}
	return name[:cut], sum, true
}

func escapeKey(key string, sum [sha256.Size]byte) string {
	if key == "" {
		return emptyName
	}
	b := make([]byte, 0, len(key)+8)
	whole := 0 // bytes of b up to which a long name may be cut
	for i := 0; i < len(key); {
		n := escapedAt(key, i)
		if n > 0 {
			b = append(b, key[i:i+n]...)
		} else {
			n = 1
			b = append(b, '%', hexDigits[key[i]>>4], hexDigits[key[i]&15])
		}
		if len(b) <= longHead {
			whole = len(b)
		}
		i += n
	}
	name := EscapeName(string(b), 0)
	if len(name) <= maxName {
		return name
	}
	return string(b[:whole]) + longMark + hex.EncodeToString(sum[:])
}

const hexDigits = "0123456789ABCDEF"

// escapedAt returns how many bytes of key at i can stand in a name as they are;
// zero if the byte there has to be escaped.
func escapedAt(key string, i int) int {
	c := key[i]
	if c >= utf8.RuneSelf {
		if r, n := utf8.DecodeRuneInString(key[i:]); r != utf8.RuneError || n > 1 {
			return n
		}
		return 0
	}
	first, last := i == 0, i == len(key)-1
	switch {
	case c < ' ', c == 0x7f, strings.IndexByte(`%/\:*?"<>|`, c) >= 0:
		return 0
	case c == '.' && (first || last), c == ' ' && last:
		return 0
	}
	return 1
}

func unescapeKey(name string) string {
	if name == emptyName {
		return ""
	}
	name = UnescapeName(name)
	if strings.IndexByte(name, '%') < 0 {
		return name
	}
	var b bytes.Buffer
	for i := 0; i < len(name); i++ {
		if name[i] == '%' && i+2 < len(name) {
			if c, err := hex.DecodeString(name[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
