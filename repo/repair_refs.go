package repo

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// heads mends what says where the refs are.
func (m *mender) heads(ctx context.Context) error {
	if m.r.Refs.CheckJournal(ctx) != nil {
		dropped, err := m.r.Refs.DropJournal(ctx)
		if err != nil {
			return err
		}
		if dropped {
			m.done("refs.journal", "removed: nobody could read it; refs that were to move together may have moved in part")
		}
	}
	near := m.r.Refs.HeadNeighbours(ctx)
	if _, err := m.r.Refs.Head(ctx); err == nil && len(near) == 0 {
		return nil
	}
	head := m.someHead(ctx, near)
	if err := m.r.Refs.SetHead(ctx, head); err != nil {
		return err
	}
	m.done("HEAD", "it names %s again", head)
	return nil
}

// someHead returns the default branch of a repository that does not say which it is:
// one of near, if there are any.
func (m *mender) someHead(ctx context.Context, near []refs.Name) refs.Name {
	usual := refs.Branch(DefaultBranch)
	if len(near) == 0 {
		for ref := range m.r.Refs.All(ctx, "refs/heads/") {
			near = append(near, ref.Name)
		}
	}
	if slices.Contains(near, usual) || len(near) == 0 || near[0] == "" {
		return usual
	}
	return near[0]
}

// refs sets those back that point to what can't be had.
func (m *mender) refs(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "") {
		var damaged *refs.DamagedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.As(err, &damaged):
			return err
		case err == nil:
			if _, ok := m.readable(ctx, ref.ID, ref.Name); ok {
				continue
			}
			if _, ok := m.r.neighbour(ctx, ref.ID); m.isUnsure() && !ok {
				continue
			}
		}
		if err := m.setBack(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// readable reports whether what a ref may point to is here, and for a branch its root tree.
func (m *mender) readable(ctx context.Context, id objects.ID, name refs.Name) (tree objects.ID, ok bool) {
	k, body, err := objects.Read(ctx, m.r.DB, id)
	if err == nil && k == objects.Tag && !name.IsBranch() {
		t, err := objects.ParseTag(body)
		return tree, err == nil && t.Object != id
	}
	if err != nil || k != objects.Commit {
		return tree, false
	}
	c, err := objects.ParseCommit(body)
	return c.Tree, err == nil
}

func (m *mender) setBack(ctx context.Context, ref refs.Ref) error {
	to, ok, err := m.earlier(ctx, ref)
	if err != nil {
		return err
	}
	where := string(ref.Name)
	what := "what it pointed to can't be had"
	if ref.ID.IsZero() {
		what = "its file was damaged"
	}
	if !ok && strings.HasPrefix(string(ref.Name), "refs/remotes/") && !ref.ID.IsZero() {
		err := m.r.Refs.Apply(ctx, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "fsck: " + what})
		if err == nil {
			m.done(where, "forgotten: %s; the next fetch brings it again", what)
		}
		return passed(err)
	}
	if !ok {
		return nil // the check at the end says so
	}
	err = m.r.Refs.SetBack(ctx, ref.Name, ref.ID, to, "fsck: set back, as "+what)
	if err == nil {
		m.done(where, "%s: it is at %s now, the newest value known that is here", what, to.Short())
	}
	return passed(err)
}

// passed drops the error of a ref that somebody else has moved: it is none of ours
// any more.
func passed(err error) error {
	if errors.As(err, new(*refs.ConflictError)) {
		return nil
	}
	return err
}

// earlier returns the newest value of a ref that is here. Where no reflog says what it
// was, a branch is where it was at a remote.
func (m *mender) earlier(ctx context.Context, ref refs.Ref) (objects.ID, bool, error) {
	if near, ok := m.r.neighbour(ctx, ref.ID); ok && !ref.ID.IsZero() {
		return near, true, nil // a digit of it is damaged
	}
	moves, err := m.r.Refs.Log(ctx, ref.Name)
	if err != nil {
		return objects.ID{}, false, err
	}
	for _, move := range slices.Backward(moves) {
		for _, id := range [...]objects.ID{move.New, move.Old} {
			if tree, ok := m.readable(ctx, id, ref.Name); ok && (tree.IsZero() || m.hasRoot(ctx, tree)) {
				return id, true, nil
			}
		}
	}
	if ref.Name.IsBranch() {
		for there, err := range m.r.Refs.All(ctx, "refs/remotes/") {
			_, branch, _ := strings.Cut(strings.TrimPrefix(string(there.Name), "refs/remotes/"), "/")
			if _, ok := m.readable(ctx, there.ID, ref.Name); err == nil && ok && branch == ref.Name.Short() {
				return there.ID, true, nil
			}
		}
	}
	return objects.ID{}, false, nil
}

func (m *mender) hasRoot(ctx context.Context, tree objects.ID) bool {
	_, err := objects.ReadTree(ctx, m.r.DB, tree)
	return err == nil || m.holes.isPromised(tree)
}

// logs mends reflogs.
func (m *mender) logs(ctx context.Context) error {
	for ref, err := range m.r.Refs.All(ctx, "") {
		if err != nil {
			continue
		}
		found, err := m.r.Refs.MendLog(ctx, ref.Name, func(id objects.ID) bool {
			_, err := objects.ReadCommit(ctx, m.r.DB, id)
			return err == nil
		})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			m.done("logs/"+string(ref.Name), "mended: %s", strings.Join(found, "; "))
		}
	}
	return nil
}
