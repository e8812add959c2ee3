package entry

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Meta is what an entry says of its payload. Encode writes:
//
//	cache-tool entry 1              magic and version
//	kind save
//	key …                           if the path cannot hold it
//	created 2026-01-31T09:00:00.5Z
//	commit …                        of the source repository
//	branch …
//	took 1.5s
//	latest
//	extra NAME VALUE                sorted by name
//	files COUNT MODES TIMES PATH    one line for each of Files
//	                                an empty line
//	then for each of Files its columns: MODES bytes, TIMES bytes (see columns.go)
//
// A value with control characters or a quote in front is written as a Go string.
// Lines that are not known are skipped; a version that is not known is an error.
type Meta struct {
	Kind    Kind
	Key     string // written only if the path cannot hold it
	Created time.Time
	Commit  string        // what the source repository had checked out
	Branch  string        // and on which branch
	Took    time.Duration // run: how long the command took
	Latest  bool          // a client rewrites the value: a merge takes the newest
	Extra   map[string]string
	Files   []Files
}

// Files is what Git's trees do not keep of the file or directory at Path in the
// entry, and of all below it: in the order in which trees.Walk meets them, the
// one at Path first.
type Files struct {
	Path  string   // such as "base/target"
	Modes []uint16 // permission bits 07777 or NoPermission, zero where the tree says enough; nil if it always does
	Times []int64  // modification times in nanoseconds since 1970; nil if they are not kept
}

// metaVersion is the one that Encode writes. Raise it when a program that knows
// only the version before would do the wrong thing.
const metaVersion = 1

const metaMagic = "cache-tool entry "

// maxFiles bounds what a parsed meta may claim to describe.
const maxFiles = 1 << 24

// ErrBadMeta is what the errors of ParseMeta are, but for ErrNewer.
var ErrBadMeta = errors.New("malformed meta")

// ErrNewer says that an entry was made by a later version of this program.
var ErrNewer = errors.New("entry format is newer than this program")

// Encode returns the content of the meta blob.
func (m Meta) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%d\n", metaMagic, metaVersion)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s %s\n", name, quote(value))
		}
	}
	line("kind", string(m.Kind))
	if Abbreviated(Path(m.Kind, m.Key)) {
		line("key", m.Key)
	}
	if !m.Created.IsZero() {
		line("created", m.Created.UTC().Format(time.RFC3339Nano))
	}
	line("commit", m.Commit)
	line("branch", m.Branch)
	if m.Took != 0 {
		line("took", m.Took.String())
	}
	if m.Latest {
		b.WriteString("latest\n")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Extra)) {
		fmt.Fprintf(&b, "extra %s %s\n", quoteWord(name), quote(m.Extra[name]))
	}
	var columns []byte
	for _, f := range m.Files {
		start := len(columns)
		columns = appendModes(columns, f.Modes)
		middle := len(columns)
		columns = appendTimes(columns, f.Times)
		count := max(len(f.Modes), len(f.Times))
		fmt.Fprintf(&b, "files %d %d %d %s\n", count, middle-start, len(columns)-middle, quote(f.Path))
	}
	b.WriteByte('\n')
	b.Write(columns)
	return b.Bytes()
}

// ParseMeta is the inverse of Encode.
func ParseMeta(body []byte) (Meta, error) {
	head, columns, ok := bytes.Cut(body, []byte("\n\n"))
	magic, lines, _ := strings.Cut(string(head), "\n")
	digits, known := strings.CutPrefix(magic, metaMagic)
	version, err := strconv.Atoi(digits)
	switch {
	case !known || err != nil || version < 1:
		return Meta{}, fmt.Errorf("%w: it begins with %.40q", ErrBadMeta, magic)
	case version > metaVersion:
		return Meta{}, fmt.Errorf("%w: it has version %d, known is %d", ErrNewer, version, metaVersion)
	case !ok:
		return Meta{}, fmt.Errorf("%w: cut short", ErrBadMeta)
	}
	p := metaParser{columns: columns}
	if lines != "" {
		for line := range strings.SplitSeq(lines, "\n") {
			if err := p.line(line); err != nil {
				return Meta{}, fmt.Errorf("%w: line %.80q: %w", ErrBadMeta, line, err)
			}
		}
	}
	if len(p.columns) > 0 {
		return Meta{}, fmt.Errorf("%w: %d bytes too many", ErrBadMeta, len(p.columns))
	}
	return p.m, nil
}

type metaParser struct {
	m       Meta
	columns []byte // what is left of them
	files   int    // described so far
}

func (p *metaParser) line(line string) (err error) {
	name, value, _ := strings.Cut(line, " ")
	switch name {
	case "files":
		return p.filesLine(value)
	case "extra":
		return p.extraLine(value)
	case "latest":
		p.m.Latest = true
		return nil
	}
	if value, err = unquote(value); err != nil {
		return err
	}
	switch name {
	case "kind":
		p.m.Kind = Kind(value)
	case "key":
		p.m.Key = value
	case "created":
		p.m.Created, err = time.Parse(time.RFC3339Nano, value)
	case "commit":
		p.m.Commit = value
	case "branch":
		p.m.Branch = value
	case "took":
		p.m.Took, err = time.ParseDuration(value)
	}
	return err
}

func (p *metaParser) extraLine(value string) error {
	name, value, err := cutWord(value)
	if err != nil {
		return err
	}
	value, err = unquote(value)
	if p.m.Extra == nil {
		p.m.Extra = map[string]string{}
	}
	p.m.Extra[name] = value
	return err
}

func (p *metaParser) filesLine(value string) error {
	var n [3]int // entries, bytes of modes, bytes of times
	for i := range n {
		var digits string
		digits, value, _ = strings.Cut(value, " ")
		number, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return err
		}
		n[i] = int(number)
	}
	if p.files += n[0]; p.files > maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	if n[1]+n[2] > len(p.columns) {
		return errors.New("columns are cut short")
	}
	path, err := unquote(value)
	if err != nil {
		return err
	}
	f := Files{Path: path}
	if f.Modes, err = parseModes(p.columns[:n[1]], n[0]); err != nil {
		return err
	}
	if f.Times, err = parseTimes(p.columns[n[1]:n[1]+n[2]], n[0]); err != nil {
		return err
	}
	p.m.Files = append(p.m.Files, f)
	p.columns = p.columns[n[1]+n[2]:]
	return nil
}

func quote(value string) string {
	if strings.HasPrefix(value, `"`) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
		return strconv.Quote(value)
	}
	return value
}

func quoteWord(word string) string {
	if word == "" || strings.Contains(word, " ") {
		return strconv.Quote(word)
	}
	return quote(word)
}

func unquote(value string) (string, error) {
	if !strings.HasPrefix(value, `"`) {
		return value, nil
	}
	return strconv.Unquote(value)
}

// cutWord takes what quoteWord wrote off the front of a line.
func cutWord(line string) (word, rest string, err error) {
	if !strings.HasPrefix(line, `"`) {
		word, rest, _ = strings.Cut(line, " ")
		return word, rest, nil
	}
	quoted, err := strconv.QuotedPrefix(line)
	if err != nil {
		return "", "", err
	}
	word, err = strconv.Unquote(quoted)
	return word, strings.TrimPrefix(line[len(quoted):], " "), err
}
