package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// A Fault is what befalls one step.
type Fault uint8

// The faults. Cut is Fail for steps that write nothing. After Dead or DeadCut
// every later step fails too and does nothing, which is what the disk sees of a
// process that was killed; only its locks are given back more gently.
const (
	Fail     Fault = iota // not done, and reported as failed
	DoneFail              // done, but reported as failed
	Cut                   // half of the data written, then reported as failed
	Dead                  // not done, nor anything after it
	DeadCut               // half of the data written, nothing after it
)

// Faults is all of them.
var Faults = []Fault{Fail, DoneFail, Cut, Dead, DeadCut}

func (f Fault) String() string {
	return [...]string{"fail", "done-fail", "cut", "dead", "dead-cut"}[f]
}

// ErrDead is what steps return after the process has died, in a manner of
// speaking.
var ErrDead = errors.New("the process is dead")

// A Plan lets one fault happen at one step. The zero Plan counts steps. Syncs
// are steps, but under a plan they do nothing else.
type Plan struct {
	At    int   // the first step is 1; 0 is none
	Fault Fault // what happens there
	Err   error // what Fail, DoneFail and Cut report; nil is ENOSPC

	mu    sync.Mutex
	steps []durable.Step // without data
	dead  bool
}

// Start puts the plan into force until the test ends, or stop is called.
func (p *Plan) Start(tb testing.TB) (stop func()) {
	restore := sync.OnceFunc(durable.SetHook(func(s durable.Step, do func(durable.Step) error) error {
		return p.step(s, unsynced(do))
	}))
	tb.Cleanup(restore)
	return restore
}

// Steps returns the steps that were made so far, without their data.
func (p *Plan) Steps() []durable.Step {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps
}

// Reached reports whether the step of the fault was come to.
func (p *Plan) Reached() bool { return p.At > 0 && len(p.Steps()) >= p.At }

// Where names the step of the fault.
func (p *Plan) Where() string {
	if !p.Reached() {
		return "no fault"
	}
	s := p.Steps()[p.At-1]
	return fmt.Sprintf("%v at step %d, %s %s", p.Fault, p.At, s.Op, filepath.Base(s.Path))
}

// step makes one step after the other, so that a step number means something
// where several goroutines write.
func (p *Plan) step(s durable.Step, do func(durable.Step) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return ErrDead
	}
	noData := s
	noData.Data, noData.File = nil, nil
	p.steps = append(p.steps, noData)
	if len(p.steps) != p.At {
		return do(s)
	}
	return p.fault(s, do)
}

// unsynced makes all steps but syncs, which take most of the time and mean
// nothing to a disk that stays on.
func unsynced(do func(durable.Step) error) func(durable.Step) error {
	return func(s durable.Step) error {
		if s.Op != durable.OpSync && s.Op != durable.OpSyncDir {
			return do(s)
		}
		_, err := os.Stat(s.Path)
		if s.Op == durable.OpSync {
			err = nil // its file may have another name by now
		}
		return err
	}
}

func (p *Plan) fault(s durable.Step, do func(durable.Step) error) error {
	err := p.Err
	if err == nil {
		err = syscall.ENOSPC
	}
	if p.Fault == Dead || p.Fault == DeadCut {
		p.dead, err = true, ErrDead
	}
	switch {
	case p.Fault == DoneFail:
		if real := do(s); real != nil {
			return real
		}
	case (p.Fault == Cut || p.Fault == DeadCut) && len(s.Data) > 0:
		doHalf(s, do)
	}
	return err
}

func doHalf(s durable.Step, do func(durable.Step) error) {
	if s.Data = s.Data[:len(s.Data)/2]; len(s.Data) > 0 {
		_ = do(s)
	}
}

func withoutSync() (restore func()) {
	return durable.SetHook(func(s durable.Step, do func(durable.Step) error) error { return unsynced(do)(s) })
}

// A Case is something that must leave the old state or the new one, whole,
// wherever it is interrupted.
type Case struct {
	Setup func(dir string) error // makes the old state in an empty directory
	Act   func(dir string) error // turns it into the new state
	// Check reopens dir. If err is nil Act came through, and the new state must
	// be there. Otherwise err says what interrupted it.
	Check func(t *testing.T, dir string, err error)

	Faults []Fault // for EveryStep; nil is all of them
	Max    int     // try about so many steps per fault, evenly spread; 0 is every step
}

// EveryStep interrupts Act in this process, with every fault, at every step.
func (c Case) EveryStep(t *testing.T) {
	t.Helper()
	faults := c.Faults
	if faults == nil {
		faults = Faults
	}
	for round, fault := range faults {
		c.each(t, round, func(dir string, at int) (string, error, bool) {
			plan := &Plan{At: at, Fault: fault}
			stop := plan.Start(t)
			err := c.Act(dir)
			stop()
			if err == nil && plan.dead {
				err = ErrDead // it could not know
			}
			return plan.Where(), err, plan.Reached()
		})
	}
}

// each sets up one directory per step, interrupts Act there and checks what is
// left, until Act comes through without reaching the step. Where not every step
// is tried, each round tries others.
func (c Case) each(t *testing.T, round int, run func(dir string, at int) (where string, err error, reached bool)) {
	t.Helper()
	stride := 1
	if c.Max > 0 {
		stride = max(1, (c.count(t)+c.Max-1)/c.Max)
	}
	for at := 1 + round%stride; ; at += stride {
		var reached bool
		t.Run(fmt.Sprintf("step-%d", at), func(t *testing.T) {
			t.Helper()
			dir := Dir(t)
			c.setup(t, dir)
			where, err, r := run(dir, at)
			reached = r
			if !reached && err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			defer func() {
				if t.Failed() {
					t.Logf("after %s: %v", where, err)
				}
			}()
			defer withoutSync()()
			c.Check(t, dir, err)
		})
		if !reached || t.Failed() {
			return
		}
	}
}

// count returns how many steps Act makes.
func (c Case) count(t *testing.T) int {
	t.Helper()
	dir := Dir(t)
	c.setup(t, dir)
	plan := &Plan{}
	stop := plan.Start(t)
	defer stop()
	if err := c.Act(dir); err != nil {
		t.Fatal(err)
	}
	return len(plan.Steps())
}

func (c Case) setup(t *testing.T, dir string) {
	t.Helper()
	if c.Setup == nil {
		return
	}
	defer withoutSync()()
	if err := c.Setup(dir); err != nil {
		t.Fatalf("setup: %v", err)
	}
}
