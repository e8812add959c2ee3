package gitwire

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// A Request is one of the two commands.
type Request struct {
	List  *List  // ls-refs
	Fetch *Fetch // fetch
}

// A List asks which refs there are.
type List struct {
	Peel     bool     // say what annotated tags point to
	Symrefs  bool     // say where HEAD leads
	Unborn   bool     // even if that branch is not there
	Prefixes []string // what names begin with, one of them; none is all
}

// Fetch asks for objects.
type Fetch struct {
	Want []objects.ID
	Have []objects.ID // commits that the client holds, with all that they lead to
	Done bool         // no more of Have is to come: the client wants a pack now

	Shallow  []objects.ID // commits whose parents the client has cut off
	Depth    int          // how many commits deep history shall go; 0: to its end
	Relative bool         // counted from Shallow on
	Since    time.Time    // no commits before that; zero: all

	IncludeTag bool // annotated tags come with what they point to
	NoProgress bool
	Filter     Filter
}

// Whole is the Depth of a client that wants all the history there is.
const Whole = math.MaxInt32

// Deepens reports whether the client says where history shall end.
func (f *Fetch) Deepens() bool { return f.Depth > 0 || !f.Since.IsZero() }

// A Filter leaves out what the client will ask for when it needs it.
type Filter struct {
	Trees    bool  // trees and blobs are left out
	Blobs    bool  // blobs are left out
	Limit    int64 // of those only blobs of as many bytes or more, if HasLimit
	HasLimit bool
}

// The limits. The memory that a request takes is a small multiple of its bytes.
const (
	maxIDs      = 1 << 20 // in one request
	maxPrefixes = 1 << 14
)

// ParseRequest reads one request, which must be all there is.
func ParseRequest(r io.Reader) (Request, error) {
	p := parser{lines: lineReader{r: r}}
	q, err := p.request()
	if err != nil {
		return Request{}, err
	}
	switch n, err := io.ReadFull(r, make([]byte, 1)); {
	case n > 0:
		return Request{}, malformed("something follows the request")
	case err != io.EOF:
		return Request{}, err
	}
	return q, nil
}

type parser struct {
	lines lineReader
	ids   int
}

// request reads the command and the capabilities, then the arguments.
func (p *parser) request() (q Request, err error) {
	command, format := "", "sha1"
	kind, line, err := p.lines.next()
	for ; err == nil && kind == data; kind, line, err = p.lines.next() {
		name, value, _ := strings.Cut(string(line), "=")
		switch name {
		case "command":
			command = value
		case "object-format":
			format = value
		}
	}
	switch {
	case err == io.EOF:
		return q, malformed("it does not end in a flush")
	case err != nil:
		return q, err
	case command != "" && format != "sha256":
		return q, fmt.Errorf("%w: objects here are of the format sha256, not %.20q", ErrMalformed, format)
	}
	var argument func(line []byte) error
	switch command {
	case "ls-refs":
		q.List = new(List)
		argument = func(line []byte) error { return p.list(q.List, string(line)) }
	case "fetch":
		q.Fetch = new(Fetch)
		argument = func(line []byte) error { return p.fetch(q.Fetch, line) }
	case "":
		return q, malformed("no command of protocol version 2")
	default:
		return q, malformed("the command %.40q is not known", command)
	}
	if kind == flush {
		return q, nil
	}
	for {
		kind, line, err := p.lines.next()
		switch {
		case err == io.EOF:
			return q, malformed("it does not end in a flush")
		case err != nil:
			return q, err
		case kind == flush:
			return q, nil
		case kind == delimiter:
			return q, malformed("more than two sections")
		}
		if err := argument(line); err != nil {
			return q, err
		}
	}
}

func (p *parser) list(l *List, line string) error {
	name, value, _ := strings.Cut(line, " ")
	switch name {
	case "peel":
		l.Peel = true
	case "symrefs":
		l.Symrefs = true
	case "unborn":
		l.Unborn = true
	case "ref-prefix":
		if len(l.Prefixes) == maxPrefixes {
			return malformed("more than %d prefixes", maxPrefixes)
		}
		l.Prefixes = append(l.Prefixes, value)
	default:
		return malformed("ls-refs has no argument %.40q", name)
	}
	return nil
}

func (p *parser) fetch(f *Fetch, line []byte) (err error) {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	switch string(word) { // most lines are one of these
	case "want":
		f.Want, err = p.id(f.Want, rest)
		return err
	case "have":
		f.Have, err = p.id(f.Have, rest)
		return err
	case "shallow":
		f.Shallow, err = p.id(f.Shallow, rest)
		return err
	}
	value := string(rest)
	switch name := string(word); name {
	case "done":
		f.Done = true
	case "deepen":
		f.Depth, err = strconv.Atoi(value)
		if err != nil || f.Depth <= 0 || f.Depth > Whole {
			return malformed("deepen %.40q", value)
		}
	case "deepen-relative":
		f.Relative = true
	case "deepen-since":
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds <= 0 {
			return malformed("deepen-since %.40q", value)
		}
		f.Since = time.Unix(seconds, 0)
	case "include-tag":
		f.IncludeTag = true
	case "no-progress":
		f.NoProgress = true
	case "filter":
		f.Filter, err = ParseFilter(value)
		return err
	case "thin-pack", "ofs-delta": // they allow what need not be
	default:
		return malformed("this server does not know fetch's argument %.40q", name)
	}
	return nil
}

func (p *parser) id(ids []objects.ID, text []byte) ([]objects.ID, error) {
	if p.ids++; p.ids > maxIDs {
		return nil, malformed("more than %d ids", maxIDs)
	}
	id, err := objects.ParseID(string(text))
	if err != nil {
		return nil, malformed("%.80q is no id", text)
	}
	return append(ids, id), nil
}

// ParseFilter reads one of the filters blob:none, blob:limit=N and tree:0.
func ParseFilter(s string) (f Filter, err error) {
	limit, hasLimit := strings.CutPrefix(s, "blob:limit=")
	switch {
	case s == "blob:none":
		f.Blobs = true
	case s == "tree:0":
		f.Blobs, f.Trees = true, true
	case hasLimit:
		// Clients have multiplied it out.
		n, err := strconv.ParseInt(limit, 10, 64)
		if err != nil || n < 0 {
			return f, malformed("filter %.80q", s)
		}
		f.Blobs, f.HasLimit, f.Limit = true, true, n
	default:
		return f, malformed("this server knows the filters blob:none, blob:limit=N and tree:0, not %.80q", s)
	}
	return f, nil
}
