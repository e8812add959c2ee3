package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// commitOf returns the commit that rev names; the tip of the current branch for
// an empty one.
func (s *session) commitOf(ctx context.Context, r *repo.Repo, rev string) (objects.ID, error) {
	if rev != "" {
		id, err := r.Resolve(ctx, rev)
		if errors.Is(err, refs.ErrNotFound) {
			err = withHint(err, `"cache-tool branch --list" and "cache-tool tag" show what there is`)
		}
		return id, err
	}
	branch, err := s.branch(ctx, r)
	if err != nil {
		return objects.ID{}, err
	}
	id, err := r.Refs.Get(ctx, branch)
	if errors.Is(err, refs.ErrNotFound) {
		return id, withHint(fmt.Errorf("branch %s has no commit yet", branch.Short()), `"save", "put" and "commit" make one`)
	}
	return id, err
}

// A commitJSON is what --json says of a commit.
type commitJSON struct {
	ID        objects.ID        `json:"id"`
	Tree      objects.ID        `json:"tree"`
	Parents   []objects.ID      `json:"parents"`
	Author    personJSON        `json:"author"`
	Committer personJSON        `json:"committer"`
	Subject   string            `json:"subject"`
	Message   string            `json:"message"`
	Trailers  map[string]string `json:"trailers,omitempty"`
	Cut       bool              `json:"cut,omitempty"` // the parents are gone
	Refs      []string          `json:"refs,omitempty"`
	Changes   []entryChange     `json:"changes,omitempty"`
}

type personJSON struct {
	Name  string    `json:"name"`
	Email string    `json:"email"`
	When  time.Time `json:"when"`
}

func describeCommit(c repo.Commit, names []string) commitJSON {
	parents := c.Parents
	if parents == nil {
		parents = []objects.ID{}
	}
	return commitJSON{
		ID: c.ID, Tree: c.Tree, Parents: parents,
		Author: personJSON(c.Author), Committer: personJSON(c.Committer),
		Subject: c.Subject(), Message: c.Message, Trailers: c.Trailers(), Cut: c.Cut, Refs: names,
	}
}

// printCommit prints a commit as git log does.
func (s *session) printCommit(c repo.Commit, names []string) {
	s.printf("commit %s%s\n", c.ID, decoration(c, names))
	if len(c.Parents) > 1 {
		s.printf("Merge:")
		for _, p := range c.Parents {
			s.printf(" %s", p.Short())
		}
		s.printf("\n")
	}
	s.printf("Author: %s <%s>\nDate:   %s\n\n", printable(c.Author.Name), printable(c.Author.Email), c.Author.When.Format(dateFormat))
	for line := range strings.Lines(c.Message) {
		s.printf("    %s\n", printable(strings.TrimRight(line, "\n")))
	}
}

// printable is text without what would steer the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}

func decoration(c repo.Commit, names []string) string {
	if c.Cut {
		names = append(slices.Clip(names), "history cut")
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// decorations returns what names each commit has: "HEAD -> main", "tag: v1".
func decorations(ctx context.Context, r *repo.Repo) (map[objects.ID][]string, error) {
	names := map[objects.ID][]string{}
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return nil, err
	}
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			continue // who asks for the ref itself is told
		}
		id, name := ref.ID, ref.Name.Short()
		switch {
		case ref.Name == head:
			name = "HEAD -> " + name
		case ref.Name.IsTag():
			name = "tag: " + name
			if tag, err := objects.ReadTag(ctx, r.DB, id); err == nil {
				id = tag.Object
			}
		}
		if ref.Name == head {
			names[id] = append([]string{name}, names[id]...)
		} else {
			names[id] = append(names[id], name)
		}
	}
	return names, nil
}
