package refs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// A Resolver finds what a revision names, by Git's rules (gitrevisions):
//
//	main v1 origin/main refs/…   a ref: as it stands, then below refs/, refs/tags/,
//	                             refs/heads/ and refs/remotes/
//	HEAD, @                      the branch that is Head
//	4f2a, 4f2a91c07b1e…          an id, or the only one that begins so: 4 digits or more
//	REF@{2}, REF@{yesterday}     where REF was 2 moves ago, or then; alone, where Head was
//	REV~2, REV^, REV^2           two commits back, the first parent, the second
//	REV^{commit} ^{tree} ^{tag} ^{blob} ^{object}, REV^{}
//	                             what that leads to, through tags
type Resolver struct {
	Refs    Store          // one that is a Logger too can say where its refs were
	Objects objects.Reader // commits and tags are read from it
	Head    Name           // what HEAD and @ mean
	IDs     Expander       // nil: ids must be whole
	Now     time.Time      // what dates are relative to; zero is now
	Warn    func(string)   // told what Git warns of; may be nil

	// Shallow are commits whose parents were cut off: ~ and ^ lead no further.
	Shallow map[objects.ID]bool
}

// An Expander returns the ids that begin with the hexadecimal digits of prefix.
type Expander interface {
	Expand(ctx context.Context, prefix string) ([]objects.ID, error)
}

// A RevisionError says why a revision names nothing. It is ErrNotFound if no
// ref or object is called so, and the words might have meant something else; if
// there is one, and only what was said of it is wrong, it is not.
type RevisionError struct {
	Rev        string // as it was given
	Reason     string
	Candidates []string // what may have been meant
	unknown    bool
}

func (e *RevisionError) Error() string {
	s := fmt.Sprintf("revision %q: %s", e.Rev, e.Reason)
	if len(e.Candidates) == 0 {
		return s
	}
	if e.unknown {
		return s + "; did you mean " + strings.Join(e.Candidates, " or ") + "?"
	}
	return s + ": " + strings.Join(e.Candidates, ", ")
}

// Is makes the error of an unknown name ErrNotFound.
func (e *RevisionError) Is(target error) bool { return e.unknown && target == ErrNotFound }

// maxRevision bounds how deep a revision nests.
const maxRevision = 4096

// Resolve returns the object that rev names, of any kind: that of an annotated
// tag is the tag. A whole id is taken as it is, even if there is no such object.
func (r Resolver) Resolve(ctx context.Context, rev string) (objects.ID, error) {
	return r.resolve(ctx, rev, rev, anything)
}

// ResolveCommit returns the commit that rev leads to.
func (r Resolver) ResolveCommit(ctx context.Context, rev string) (objects.ID, error) {
	id, err := r.resolve(ctx, rev, rev, committish)
	if err != nil {
		return id, err
	}
	return r.about(rev)(r.peel(ctx, id, objects.Commit))
}

func (r Resolver) resolve(ctx context.Context, whole, rev string, h hint) (objects.ID, error) {
	if len(rev) > maxRevision {
		return objects.ID{}, &RevisionError{Rev: rev[:40] + "…", Reason: "it is too long", unknown: true}
	}
	return r.about(whole)(r.eval(ctx, rev, h))
}

// about puts the whole revision into the error of a part.
func (r Resolver) about(whole string) func(objects.ID, error) (objects.ID, error) {
	return func(id objects.ID, err error) (objects.ID, error) {
		var wrong *RevisionError
		if err == nil || errors.As(err, &wrong) && wrong.Rev == whole {
			return id, err
		}
		if wrong != nil {
			wrong.Rev = whole
			return id, wrong
		}
		return id, fmt.Errorf("revision %q: %w", whole, err)
	}
}

// A hint says what a short id must lead to, where more than one begins so.
type hint uint8

const (
	anything hint = iota
	committish
	treeish
)

// eval takes rev apart from its end, as Git does.
func (r Resolver) eval(ctx context.Context, rev string, h hint) (objects.ID, error) {
	if base, op, digits, ok := cutStep(rev); ok {
		id, err := r.eval(ctx, base, committish)
		if err == nil {
			id, err = r.peel(ctx, id, objects.Commit)
		}
		if err != nil {
			return id, err
		}
		n, err := strconv.Atoi(digits)
		if err != nil && digits != "" {
			return id, wrong("there is no commit %s%s", string(op), digits)
		}
		if digits == "" {
			n = 1
		}
		if op == '~' {
			return r.ancestor(ctx, id, n)
		}
		return r.parent(ctx, id, n)
	}
	if base, what, ok := cutPeel(rev); ok {
		return r.evalPeel(ctx, base, what)
	}
	return r.base(ctx, rev, h)
}

// cutStep cuts "~n" or "^n" from the end; the digits may be missing.
func cutStep(rev string) (base string, op byte, digits string, ok bool) {
	base = strings.TrimRight(rev, "0123456789")
	if base == "" {
		return "", 0, "", false
	}
	digits = rev[len(base):]
	op = base[len(base)-1]
	return base[:len(base)-1], op, digits, op == '~' || op == '^'
}

// cutPeel cuts "^{what}" from the end.
func cutPeel(rev string) (base, what string, ok bool) {
	at := strings.LastIndex(rev, "^{")
	if at < 0 || !strings.HasSuffix(rev, "}") {
		return "", "", false
	}
	return rev[:at], rev[at+2 : len(rev)-1], true
}

func wrong(format string, args ...any) *RevisionError {
	return &RevisionError{Reason: fmt.Sprintf(format, args...)}
}

func (r Resolver) evalPeel(ctx context.Context, base, what string) (objects.ID, error) {
	h := anything
	switch what {
	case "commit":
		h = committish
	case "tree":
		h = treeish
	}
	id, err := r.eval(ctx, base, h)
	if err != nil {
		return id, err
	}
	switch what {
	case "":
		return r.peel(ctx, id, 0)
	case "object":
		_, err := r.kind(ctx, id)
		return id, err
	}
	k, err := objects.ParseKind(what)
	if err != nil {
		return id, wrong("^{%s} is not known; there are ^{commit}, ^{tree}, ^{tag}, ^{blob}, ^{object} and ^{}", what)
	}
	return r.peel(ctx, id, k)
}

// peel follows tags, and commits to their trees, until it comes to an object of
// kind k, or if k is 0 to one that is no tag.
func (r Resolver) peel(ctx context.Context, id objects.ID, k objects.Kind) (objects.ID, error) {
	for start := id; ; {
		is, err := r.kind(ctx, id)
		switch {
		case err != nil:
			return id, err
		case is == k || k == 0 && is != objects.Tag:
			return id, nil
		case is == objects.Tag:
			tag, err := objects.ReadTag(ctx, r.Objects, id)
			if err != nil {
				return id, err
			}
			id = tag.Object
		case is == objects.Commit && k == objects.Tree:
			c, err := objects.ReadCommit(ctx, r.Objects, id)
			return c.Tree, err
		default:
			return id, wrong("%s leads to a %s, not a %s", start.Short(), is, k)
		}
	}
}

func (r Resolver) kind(ctx context.Context, id objects.ID) (objects.Kind, error) {
	o, err := r.Objects.Open(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", id.Short(), err)
	}
	o.Body.Close()
	return o.Kind, nil
}

// ancestor goes back n first parents from a commit.
func (r Resolver) ancestor(ctx context.Context, id objects.ID, n int) (objects.ID, error) {
	for i := range n {
		c, err := objects.ReadCommit(ctx, r.Objects, id)
		if err != nil {
			return id, err
		}
		if len(c.Parents) > 0 && r.Shallow[id] {
			return id, wrong("history was cut off at %s, %d back from there", id.Short(), i)
		}
		if len(c.Parents) == 0 {
			return id, wrong("history goes back only %d commits from there, to %s", i, id.Short())
		}
		id = c.Parents[0]
	}
	return id, nil
}

// parent returns the nth parent of a commit, which is itself the 0th.
func (r Resolver) parent(ctx context.Context, id objects.ID, n int) (objects.ID, error) {
	if n == 0 {
		return id, nil
	}
	c, err := objects.ReadCommit(ctx, r.Objects, id)
	if err != nil {
		return id, err
	}
	if len(c.Parents) > 0 && r.Shallow[id] {
		return id, wrong("history was cut off at %s: its parents are gone", id.Short())
	}
	if n > len(c.Parents) {
		return id, wrong("commit %s has %d parents, not %d", id.Short(), len(c.Parents), n)
	}
	return c.Parents[n-1], nil
}
