package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
)

// maxNamed is how many entries a commit message names one by one.
const maxNamed = 20

// describe returns message, or one made from the edits if it is empty: what was
// asked for in the subject, the rest of what the commit takes along below it.
func describe(message string, staged, own []trees.Edit) string {
	all := append(append([]trees.Edit{}, staged...), own...)
	if message == "" && len(all) == 1 {
		return editLine(all[0]) + "\n"
	}
	if message == "" {
		message = fmt.Sprintf("%d entries", len(all))
	}
	message = strings.TrimRight(message, "\n") + "\n"
	if len(all) < 2 {
		return message
	}
	var b strings.Builder
	b.WriteString(message + "\n")
	for i, e := range all {
		if i == maxNamed {
			fmt.Fprintf(&b, "and %d more\n", len(all)-i)
			break
		}
		b.WriteString(editLine(e) + "\n")
	}
	return b.String()
}

func editLine(e trees.Edit) string {
	name := e.Path
	if kind, key, err := entry.ParsePath(e.Path); err == nil {
		name = fmt.Sprintf("%s %s", kind, key)
	}
	if e.ID.IsZero() {
		return "remove " + name
	}
	return name
}

// addTrailer appends a line to the trailers of message, which are made if there
// are none: the last paragraph, apart from the subject.
func addTrailer(message, name, value string) string {
	return addTrailers(message, name+": "+value+"\n")
}

func addTrailers(message, lines string) string {
	if lines == "" {
		return message
	}
	message = strings.TrimRight(message, "\n") + "\n"
	if !endsInTrailers(message) {
		message += "\n"
	}
	return message + lines
}

func endsInTrailers(message string) bool {
	paragraphs := strings.Split(strings.TrimRight(message, "\n"), "\n\n")
	if len(paragraphs) < 2 {
		return false
	}
	for line := range strings.SplitSeq(paragraphs[len(paragraphs)-1], "\n") {
		name, _, ok := strings.Cut(line, ": ")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return false
		}
	}
	return true
}

// stageTrailer is in a commit that took along what was staged: the repository
// and the sequence of the journal. See package stage.
const stageTrailer = "Stage"

func (r *Repo) stageMark(seq uint64) string { return fmt.Sprintf("%s %d", r.ID(), seq) }

// folded reports whether the history of branch has taken in the journal seq of
// this repository. No commit made before the journal can have.
func (r *Repo) folded(ctx context.Context, branch refs.Name, seq uint64) (bool, error) {
	tip, err := r.Refs.Get(ctx, branch)
	if errors.Is(err, refs.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	begun := time.Unix(0, int64(seq)).Truncate(time.Second)
	for c, err := range r.Log(ctx, tip) {
		if err != nil {
			return false, err
		}
		if c.Trailers()[stageTrailer] == r.stageMark(seq) {
			return true, nil
		}
		if c.Committer.When.Before(begun) {
			return false, nil
		}
	}
	return false, nil
}

// withProvenance adds to message where the work is being done.
func (r *Repo) withProvenance(message string) string {
	dir, err := os.Getwd()
	if err != nil {
		dir = r.Dir
	}
	return addTrailers(message, ReadProvenance(dir).Trailers())
}
