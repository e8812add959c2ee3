package refs

import (
	"errors"
	"fmt"
	"strings"
)

// A Name is the full name of a ref, such as "refs/heads/main".
type Name string

// Where the refs are that people give short names.
const (
	headsDir   = "refs/heads/"
	tagsDir    = "refs/tags/"
	remotesDir = "refs/remotes/"
)

// ErrBadName is what every error of ParseName is.
var ErrBadName = errors.New("bad ref name")

// Branch returns the name of a branch.
func Branch(short string) Name { return Name(headsDir + short) }

// Tag returns the name of a tag.
func Tag(short string) Name { return Name(tagsDir + short) }

// Remote returns the name under which a remote's branch is remembered.
func Remote(remote, branch string) Name { return Name(remotesDir + remote + "/" + branch) }

// ParseName returns s as a Name if Check passes it.
func ParseName(s string) (Name, error) {
	if err := Name(s).Check(); err != nil {
		return "", err
	}
	return Name(s), nil
}

// Check holds a name to the rules of git check-ref-format, and to two of our
// own: it has the form refs/<kind>/<name>, so that no ref can take the place of
// refs/heads, and its parts fit into a directory.
func (n Name) Check() error {
	if reason := n.bad(); reason != "" {
		return fmt.Errorf("%w %q: %s", ErrBadName, string(n), reason)
	}
	return nil
}

func (n Name) bad() string {
	s := string(n)
	if !strings.HasPrefix(s, "refs/") || strings.Count(s, "/") < 2 {
		return "it is not refs/<kind>/<name>"
	}
	if len(s) > 1000 {
		return "longer than 1000 bytes"
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return "holds a control character"
		case strings.IndexByte(" ~^:?*[\\", c) >= 0:
			return fmt.Sprintf("holds %q", c)
		}
	}
	if strings.Contains(s, "..") {
		return `holds ".."`
	}
	if strings.Contains(s, "@{") {
		return `holds "@{"`
	}
	if strings.HasSuffix(s, ".") {
		return "ends in a dot"
	}
	for part := range strings.SplitSeq(s, "/") {
		switch {
		case part == "":
			return "a part between slashes is empty"
		case part[0] == '.':
			return "a part begins with a dot"
		case strings.HasSuffix(part, ".lock"):
			return `a part ends in ".lock"`
		case len(part) > 255:
			return "a part is longer than 255 bytes"
		}
	}
	return ""
}

// Short returns the name as people write it: without refs/heads/, refs/tags/
// or refs/remotes/.
func (n Name) Short() string {
	for _, dir := range [...]string{headsDir, tagsDir, remotesDir} {
		if short, ok := strings.CutPrefix(string(n), dir); ok {
			return short
		}
	}
	return string(n)
}

// IsBranch reports whether n names a branch.
func (n Name) IsBranch() bool { return strings.HasPrefix(string(n), headsDir) }

// IsTag reports whether n names a tag.
func (n Name) IsTag() bool { return strings.HasPrefix(string(n), tagsDir) }
