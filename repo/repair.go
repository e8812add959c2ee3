package repo

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A Donor gives Repair what is missing: a remote.
type Donor interface {
	String() string

	// Fetch brings those of ids that it has, objects and chunks, each proven. An
	// error says that it could not be asked.
	Fetch(ctx context.Context, ids []objects.ID) error
}

// RepairOptions say how Repair works. The zero value works, without a remote.
type RepairOptions struct {
	CheckOptions

	Donors []Donor // asked in this order
}

// Repaired is something that Repair did.
type Repaired struct {
	Where string
	What  string
}

// Repair makes the repository whole, as far as that can be: what is damaged or missing
// is fetched; what can't be had again is taken out, so that it is a miss, in a commit
// on each branch that has it; refs go back to the newest value that is here; history
// that can't be had is cut off. Nothing that is good is lost, and others may read and
// write meanwhile. If a donor can't be asked, nothing is taken out: it may have what is missing.
//
// Did is told of each step, and left of each problem that is left.
func (r *Repo) Repair(ctx context.Context, o RepairOptions, did func(Repaired), left func(Problem)) (Checked, error) {
	m := &mender{
		r: r, o: o, did: did,
		down: map[Donor]error{}, came: map[Donor]int{}, lost: map[objects.ID]bool{}, hit: map[string]int{},
	}
	ctx = odb.Local(ctx) // who is asked, and for what, is decided here
	for _, part := range []func(context.Context) error{
		m.heads, m.packs, m.shallow, m.bring, m.refs, m.stages, m.takeOut, m.cut, m.logs,
	} {
		if err := part(ctx); err != nil {
			return Checked{}, err
		}
	}
	sum, err := r.Check(ctx, CheckOptions{Quick: true}, left)
	if err != nil || sum.Problems == 0 {
		return sum, err
	}
	for _, s := range o.Donors {
		if err := m.down[s]; err != nil {
			sum.Problems++
			left(Problem{Where: s.String(), What: fmt.Sprintf("it could not be asked: %v", err),
				Hint: "nothing was taken out that it may have: run this again when it answers, or name the remotes to be asked"})
		}
	}
	return sum, nil
}

// A mender repairs one repository once.
type mender struct {
	r   *Repo
	o   RepairOptions
	did func(Repaired)

	down map[Donor]error     // those that could not be asked
	came map[Donor]int       // how many objects came
	lost map[objects.ID]bool // what no donor has
	hit  map[string]int      // how many objects are damaged in a pack

	holes *holes // made when all is fetched
}

func (m *mender) done(where, format string, args ...any) {
	m.did(Repaired{where, fmt.Sprintf(format, args...)})
}

// isUnsure reports whether something may be had later that can't be had now.
func (m *mender) isUnsure() bool { return len(m.down) > 0 }
