package refs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// base evaluates what is left of a revision without ~, ^ and ^{}.
func (r Resolver) base(ctx context.Context, name string, h hint) (objects.ID, error) {
	if id, err := objects.ParseID(name); err == nil {
		return id, nil
	}
	name, when, past := cutPast(name)
	if past && name == "" {
		name = "@"
	}
	ref, id, err := r.ref(ctx, name)
	switch {
	case err == nil && past:
		return r.past(ctx, ref, id, when)
	case err == nil || !errors.Is(err, ErrNotFound):
		return id, err
	case !past && name != "@" && name != "HEAD":
		if id, err := r.short(ctx, name, h); !errors.Is(err, ErrNotFound) {
			return id, err
		}
	}
	return objects.ID{}, r.unknown(ctx, name, err)
}

// cutPast cuts "@{when}" from the end.
func cutPast(name string) (base, when string, ok bool) {
	at := strings.LastIndex(name, "@{")
	if at < 0 || !strings.HasSuffix(name, "}") {
		return name, "", false
	}
	return name[:at], name[at+2 : len(name)-1], true
}

// ref finds a ref by its full or short name. Where several are called so, Git's
// order decides.
func (r Resolver) ref(ctx context.Context, name string) (Name, objects.ID, error) {
	if name == "HEAD" || name == "@" {
		if r.Head == "" {
			return "", objects.ID{}, ErrNotFound
		}
		id, err := r.Refs.Get(ctx, r.Head)
		return r.Head, id, err
	}
	var found []Ref
	for _, dir := range [...]string{"", "refs/", tagsDir, headsDir, remotesDir} {
		full, err := ParseName(dir + name)
		if err != nil {
			continue
		}
		id, err := r.Refs.Get(ctx, full)
		if err == nil {
			found = append(found, Ref{full, id})
		} else if !errors.Is(err, ErrNotFound) {
			return full, id, err
		}
	}
	if len(found) == 0 {
		return "", objects.ID{}, ErrNotFound
	}
	if len(found) > 1 {
		r.warn("%s may be %s or %s; the first was taken", name, found[0].Name, found[1].Name)
	}
	return found[0].Name, found[0].ID, nil
}

func (r Resolver) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

// past returns where a ref was: so many moves ago, or then.
func (r Resolver) past(ctx context.Context, name Name, id objects.ID, when string) (objects.ID, error) {
	l, ok := r.Refs.(Logger)
	if !ok {
		return id, wrong("of the past of %s nothing is known", name)
	}
	entries, err := l.Log(ctx, name)
	if err != nil {
		return id, err
	}
	n, err := strconv.ParseUint(when, 10, 64)
	// Git takes long numbers for seconds since 1970.
	if err == nil && n < 100_000_000 && !strings.HasPrefix(when, "+") {
		return nth(name, id, entries, n)
	}
	now := r.Now
	if now.IsZero() {
		now = time.Now()
	}
	then, err := ParseDate(when, now)
	if err != nil {
		return id, wrong("@{%s}: %s", when, err)
	}
	return r.at(name, id, entries, then)
}

// nth returns where a ref was n moves ago.
func nth(name Name, now objects.ID, entries []LogEntry, n uint64) (objects.ID, error) {
	if n == 0 {
		return now, nil
	}
	if n <= uint64(len(entries)) {
		if old := entries[uint64(len(entries))-n].Old; !old.IsZero() {
			return old, nil
		}
	}
	return objects.ID{}, wrong("the reflog of %s knows only %d values", name, len(entries))
}

// at returns where a ref was at a time; the oldest known value, as Git does, if
// the log does not reach back so far.
func (r Resolver) at(name Name, now objects.ID, entries []LogEntry, then time.Time) (objects.ID, error) {
	for i, e := range slices.Backward(entries) {
		if e.Who.When.Unix() > then.Unix() {
			continue
		}
		if i == len(entries)-1 {
			return now, nil
		}
		return e.New, nil
	}
	if len(entries) == 0 {
		return objects.ID{}, wrong("the reflog of %s is empty", name)
	}
	first := entries[0]
	r.warn("the reflog of %s goes back only to %s", name, first.Who.When.Format(time.RFC1123Z))
	if first.Old.IsZero() {
		return first.New, nil
	}
	return first.Old, nil
}

// minShort is how many digits a short id must have.
const minShort = 4

// short expands the first digits of an id.
func (r Resolver) short(ctx context.Context, digits string, h hint) (objects.ID, error) {
	if r.IDs == nil || len(digits) < minShort || len(digits) >= 2*objects.IDSize || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return objects.ID{}, ErrNotFound
	}
	ids, err := r.IDs.Expand(ctx, strings.ToLower(digits))
	if err != nil {
		return objects.ID{}, err
	}
	if len(ids) > 1 && h != anything {
		if fit := slices.DeleteFunc(slices.Clone(ids), func(id objects.ID) bool { return !r.fits(ctx, id, h) }); len(fit) > 0 {
			ids = fit
		}
	}
	switch len(ids) {
	case 0:
		return objects.ID{}, ErrNotFound
	case 1:
		return ids[0], nil
	}
	return objects.ID{}, r.ambiguous(ctx, ids)
}

// fits reports whether id leads to what is wanted.
func (r Resolver) fits(ctx context.Context, id objects.ID, h hint) bool {
	k := objects.Commit
	if h == treeish {
		k = objects.Tree
	}
	_, err := r.peel(ctx, id, k)
	return err == nil
}

// maxCandidates bounds what an error lists.
const maxCandidates = 8

func (r Resolver) ambiguous(ctx context.Context, ids []objects.ID) error {
	e := wrong("%d objects begin so", len(ids))
	for i, id := range ids {
		if i == maxCandidates {
			e.Candidates = append(e.Candidates, "…")
			break
		}
		what := id.Short()
		if k, err := r.kind(ctx, id); err == nil {
			what += " (" + k.String() + ")"
		}
		e.Candidates = append(e.Candidates, what)
	}
	return e
}

// unknown is the error for a name that nothing has, with those that look alike.
func (r Resolver) unknown(ctx context.Context, name string, cause error) error {
	e := &RevisionError{Rev: name, Reason: "no branch, tag or commit is called so", unknown: true}
	if name == "HEAD" || name == "@" {
		if r.Head == "" {
			e.Reason = "there is no HEAD"
		} else {
			e.Reason = fmt.Sprintf("branch %s has no commit yet", r.Head.Short())
		}
		return e
	}
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err == nil && len(e.Candidates) < maxCandidates && alike(name, ref.Name.Short()) {
			e.Candidates = append(e.Candidates, ref.Name.Short())
		}
	}
	return e
}

// alike reports whether a may be a slip for b: one begins with the other, they
// differ only in case, or by a typing error in every five letters.
func alike(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if len(a) > 100 || len(b) > 100 {
		return false
	}
	if len(a) >= 3 && (strings.HasPrefix(b, a) || strings.HasSuffix(b, "/"+a)) {
		return true
	}
	return slips(a, b) <= max(len(a), len(b)+2)/5+min(1, len(a)/3)
}

// slips is how many letters must be added, dropped, changed or swapped with the
// next to make b of a.
func slips(a, b string) int {
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before2 := before
		before, row = row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before2[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
