package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo/stage"
)

// A Problem is something that Check found wrong.
type Problem struct {
	Where string // a file, a ref, a staged entry
	What  string
	Hint  string // the way out, if there is one
}

// Checked is what Check looked at.
type Checked struct {
	Refs     int
	Staged   int // records
	Reached  int // objects that refs and stage lead to
	Promised int // in a lazy repository: those nearest to them that are not here
	Problems int
}

// CheckOptions say how Check works. The zero value works.
type CheckOptions struct {
	// Quick looks at indexes and at what leads to what, and not at the content of
	// packs: damage to payload goes unseen.
	Quick bool

	// Progress, if not nil, is told of the bytes of packs that were read.
	Progress func(bytes int64)
}

// Check verifies all that is stored: every pack and index, every object's id,
// that all that refs, the stage and shallow lead to is there, and that the small
// files can be read and say what they should. It changes nothing, but takes note of what is missing.
// Each problem is reported once; an error is returned only if the check itself could not go on.
func (r *Repo) Check(ctx context.Context, o CheckOptions, report func(Problem)) (Checked, error) {
	c := &checker{repo: r, o: o, report: report}
	for _, part := range []func(context.Context) error{
		c.packs, c.config, c.shallow, c.refs, c.stages, c.reach,
	} {
		if err := part(ctx); err != nil {
			return c.sum, err
		}
	}
	return c.sum, nil
}

type checker struct {
	repo   *Repo
	o      CheckOptions
	report func(Problem)
	sum    Checked
	tips   []tip

	pack func(odb.Problem)        // told of each problem with packs, if not nil
	lost func(tip, reach.Missing) // told of each object that is missing, if not nil
}

// A tip is an object that must be whole with all that it leads to.
type tip struct {
	id     objects.ID
	where  string
	hint   string
	staged bool
}

func (c *checker) problem(where, hint string, err error) {
	c.sum.Problems++
	c.report(Problem{Where: where, What: err.Error(), Hint: hint})
}

func (c *checker) packs(ctx context.Context) error {
	return c.repo.DB.Verify(odb.Local(ctx), odb.VerifyOptions{Progress: c.o.Progress, Quick: c.o.Quick}, func(p odb.Problem) {
		hint := "another copy is whole and is used"
		if p.Lost {
			hint = "what needs it counts as a miss: make it again"
		}
		if c.pack != nil {
			c.pack(p)
		}
		c.problem("packs", hint, p)
	})
}

func (c *checker) config(context.Context) error {
	for _, err := range checkConfig(c.repo.Dir) {
		c.problem("config", "", err)
	}
	return nil
}

func (c *checker) shallow(ctx context.Context) error {
	shallow, err := c.repo.Shallow()
	if err != nil {
		c.problem("shallow", "", err)
	}
	for id := range shallow {
		if near, ok := c.repo.neighbour(ctx, id); ok {
			c.problem("shallow", "", fmt.Errorf("it names %s, which is not here, and differs in one digit from the commit %s", id, near))
		}
	}
	return nil
}

func (c *checker) refs(ctx context.Context) error {
	if head, err := c.repo.Refs.Head(ctx); err != nil {
		c.problem("HEAD", "", err)
	} else if near := c.repo.Refs.HeadNeighbours(ctx); len(near) > 0 {
		c.problem("HEAD", "", fmt.Errorf("it names %s, which does not exist, and hardly differs from %s, which does", head, near[0]))
	}
	if err := c.repo.Refs.CheckJournal(ctx); err != nil {
		c.problem("refs.journal", "", err)
		return nil // nobody can tell where the refs are
	}
	for ref, err := range c.repo.Refs.All(ctx, "") {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.sum.Refs++
		if err != nil {
			c.problem(string(ref.Name), "", err)
			if ref.Name == "" {
				return nil // they can't be listed
			}
		} else {
			hint := fmt.Sprintf(`"cache-tool reflog %s" lists what it was before; "cache-tool reset" takes it back`, ref.Name.Short())
			c.tips = append(c.tips, tip{id: ref.ID, where: string(ref.Name), hint: hint})
		}
		found, err := c.repo.Refs.CheckLog(ctx, ref.Name)
		if err != nil {
			found = []string{err.Error()}
		}
		for _, text := range found {
			c.problem("logs/"+string(ref.Name), "", errors.New(text))
		}
	}
	return nil
}

func (c *checker) stages(ctx context.Context) error {
	branches, err := stage.Branches(c.repo.path("stage"))
	if err != nil {
		return err
	}
	for _, branch := range branches {
		name := refs.Branch(branch)
		s := stage.Open(c.repo.path("stage"), branch, stage.Options{
			Warn:   func(text string) { c.problem("stage of "+branch, "", errors.New(text)) },
			Folded: func(ctx context.Context, seq uint64) (bool, error) { return c.repo.folded(ctx, name, seq) },
		})
		records, err := s.All(ctx)
		if err != nil {
			c.problem("stage of "+branch, "", err)
			continue
		}
		c.sum.Staged += len(records)
		for _, record := range records {
			if !record.ID.IsZero() {
				c.tips = append(c.tips, tip{record.ID, "staged " + record.Path, "it counts as a miss", true})
			}
		}
	}
	return nil
}

// reach walks from every tip with one set of what was seen: what two tips have
// in common is walked, and its damage reported, once.
func (c *checker) reach(ctx context.Context) error {
	shallow, err := c.repo.Shallow()
	if err != nil {
		shallow = nil // reported already
	}
	seen := new(reach.Set)
	for _, t := range c.tips {
		err := reach.Walk(odb.Local(ctx), c.repo.DB, []objects.ID{t.id}, reach.Options{
			Seen:       seen,
			CheckBlobs: true,
			Shallow:    func(id objects.ID) bool { return shallow[id] },
			Missing: func(m reach.Missing) error {
				if c.isPromised(t, m) {
					c.sum.Promised++
					return nil
				}
				c.repo.noteLoss(m)
				if c.lost != nil {
					c.lost(t, m)
				}
				c.problem(t.where, t.hint, m)
				return nil
			},
		})
		if err != nil {
			return err
		}
	}
	c.sum.Reached = seen.Len() - c.sum.Promised
	return nil
}

// isPromised reports whether what is missing can be fetched from the remote of a
// lazy repository: that has all of its branches but for what is damaged here, or was
// only staged; and commits are brought at once.
func (c *checker) isPromised(t tip, m reach.Missing) bool {
	damaged := errors.As(m.Err, new(*objects.DamagedError))
	return c.repo.IsLazy() && !t.staged && !damaged && m.Kind != objects.Commit && m.Kind != 0
}
