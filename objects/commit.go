package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Signature says who did something and when, to the second.
type Signature struct {
	Name, Email string
	When        time.Time
}

// String returns the signature as it stands in a commit:
// "name <email> seconds ±hhmm".
func (s Signature) String() string {
	zone := s.When.Format("-0700")
	return fmt.Sprintf("%s <%s> %d %s", clean(s.Name), clean(s.Email), s.When.Unix(), zone)
}

// clean drops what would end a name or an address early, and at both ends what
// Git drops there.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '<' || r == '>' || r == '\n' || r == 0 {
			return -1
		}
		return r
	}, s)
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`.,:;"'\`, r) })
}

// ParseSignature is the inverse of Signature.String.
func ParseSignature(s string) (Signature, error) {
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || end < open || strings.Contains(s, "\n") {
		return Signature{}, fmt.Errorf("signature %q: no <address>", s)
	}
	seconds, zone, ok := strings.Cut(strings.TrimPrefix(s[end+1:], " "), " ")
	if !ok || len(zone) != 5 {
		return Signature{}, fmt.Errorf("signature %q: no time and zone", s)
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Signature{}, fmt.Errorf("signature %q: %w", s, err)
	}
	offset, err := time.Parse("-0700", zone)
	if err != nil {
		return Signature{}, fmt.Errorf("signature %q: %w", s, err)
	}
	return Signature{
		Name:  strings.TrimSuffix(s[:open], " "),
		Email: s[open+1 : end],
		When:  time.Unix(unix, 0).In(offset.Location()),
	}, nil
}

// CommitBody is what a commit says.
type CommitBody struct {
	Tree      ID
	Parents   []ID
	Author    Signature
	Committer Signature
	Message   string // ends in a newline; trailers are its last paragraph
}

// Encode returns the body of the commit.
func (c CommitBody) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", c.Tree)
	for _, p := range c.Parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n%s", c.Author, c.Committer, c.Message)
	return b.Bytes()
}

// ErrBadCommit is what every error of ParseCommit is, ErrBadTag of ParseTag.
var (
	ErrBadCommit = errors.New("malformed commit")
	ErrBadTag    = errors.New("malformed tag")
)

// headers cuts the "name value" lines above the first empty line from a body.
// A line that starts with a space continues the one before (gpgsig does that).
func headers(body []byte) (lines [][2]string, message string, err error) {
	head, message, ok := strings.Cut(string(body), "\n\n")
	if !ok {
		return nil, "", errors.New("no empty line after the header")
	}
	for line := range strings.SplitSeq(head, "\n") {
		name, value, ok := strings.Cut(line, " ")
		switch {
		case !ok:
			return nil, "", fmt.Errorf("header line %q", line)
		case name == "" && len(lines) > 0:
			lines[len(lines)-1][1] += "\n" + value
		default:
			lines = append(lines, [2]string{name, value})
		}
	}
	return lines, message, nil
}

// ParseCommit reads the body of a commit. Headers that it does not know (Git has
// several) are skipped.
func ParseCommit(body []byte) (CommitBody, error) {
	var c CommitBody
	lines, message, err := headers(body)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrBadCommit, err)
	}
	c.Message = message
	var seen int
	for i, line := range lines {
		switch name, value := line[0], line[1]; {
		case name == "tree" && i == 0:
			c.Tree, err = ParseID(value)
			seen++
		case name == "parent":
			var p ID
			p, err = ParseID(value)
			c.Parents = append(c.Parents, p)
		case name == "author":
			c.Author, err = ParseSignature(value)
			seen++
		case name == "committer":
			c.Committer, err = ParseSignature(value)
			seen++
		}
		if err != nil {
			return c, fmt.Errorf("%w: %w", ErrBadCommit, err)
		}
	}
	if seen != 3 {
		return c, fmt.Errorf("%w: wants a tree, an author and a committer", ErrBadCommit)
	}
	return c, nil
}

// ReadCommit returns what the commit id says.
func ReadCommit(ctx context.Context, r Reader, id ID) (CommitBody, error) {
	body, err := ReadKind(ctx, r, id, Commit)
	if err != nil {
		return CommitBody{}, err
	}
	c, err := ParseCommit(body)
	if err != nil {
		return c, fmt.Errorf("commit %s: %w", id, err)
	}
	return c, nil
}

// Subject returns the first line of the message.
func (c CommitBody) Subject() string {
	subject, _, _ := strings.Cut(c.Message, "\n")
	return subject
}

// Trailers returns the "Name: value" lines of the message's last paragraph.
func (c CommitBody) Trailers() map[string]string {
	trailers := map[string]string{}
	paragraphs := strings.Split(strings.TrimRight(c.Message, "\n"), "\n\n")
	for line := range strings.SplitSeq(paragraphs[len(paragraphs)-1], "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && len(paragraphs) > 1 {
			trailers[name] = value
		}
	}
	return trailers
}

// TagBody is what an annotated tag says.
type TagBody struct {
	Object  ID
	Kind    Kind
	Name    string
	Tagger  Signature
	Message string
}

// Encode returns the body of the tag.
func (t TagBody) Encode() []byte {
	return fmt.Appendf(nil, "object %s\ntype %s\ntag %s\ntagger %s\n\n%s", t.Object, t.Kind, t.Name, t.Tagger, t.Message)
}

// ParseTag reads the body of a tag.
func ParseTag(body []byte) (TagBody, error) {
	var t TagBody
	lines, message, err := headers(body)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrBadTag, err)
	}
	t.Message = message
	for _, line := range lines {
		switch value := line[1]; line[0] {
		case "object":
			t.Object, err = ParseID(value)
		case "type":
			t.Kind, err = ParseKind(value)
		case "tag":
			t.Name = value
		case "tagger":
			t.Tagger, err = ParseSignature(value)
		}
		if err != nil {
			return t, fmt.Errorf("%w: %w", ErrBadTag, err)
		}
	}
	if t.Object.IsZero() || t.Kind == 0 || t.Name == "" || strings.Contains(t.Name, "\n") {
		return t, fmt.Errorf("%w: wants an object, its type and a name", ErrBadTag)
	}
	return t, nil
}

// ReadTag returns what the tag id says.
func ReadTag(ctx context.Context, r Reader, id ID) (TagBody, error) {
	body, err := ReadKind(ctx, r, id, Tag)
	if err != nil {
		return TagBody{}, err
	}
	t, err := ParseTag(body)
	if err != nil {
		return t, fmt.Errorf("tag %s: %w", id, err)
	}
	return t, nil
}
