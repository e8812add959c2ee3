package simulate

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/tests/crowd"
)

// A Step is what something took of one machine.
type Step struct {
	Name    string
	Entries int // in the branch
	Changed int // of these, since the step before
	Count
	Time  time.Duration // of the network; what is computed takes none
	Files int           // in the bucket afterwards
	Bytes int64         // in these
}

var main = refs.Branch("main")

// Sizes does what teams do with a branch of so many small entries: each is a value of
// about 20 bytes, so that what is counted is what the cache itself adds.
func Sizes(ctx context.Context, dir string, entries int, n Network) ([]Step, error) {
	s := &sizes{dir: dir, entries: entries, net: n, bucket: new(remotetest.Memory)}
	if err := crowd.Make(ctx, filepath.Join(dir, "builder"), entry.Put, entries); err != nil {
		return nil, err
	}
	for _, do := range []func(context.Context) error{s.fill, s.change, s.lazily, s.collect} {
		if err := do(ctx); err != nil {
			return s.steps, fmt.Errorf("%d entries: %w", entries, err)
		}
	}
	return s.steps, nil
}

type sizes struct {
	dir     string
	entries int
	net     Network
	bucket  *remotetest.Memory
	steps   []Step

	builder, reader *machine
}

func (s *sizes) machine(ctx context.Context, name string) (*machine, error) {
	return newMachine(ctx, filepath.Join(s.dir, name), s.bucket, s.net)
}

// step does something and notes what it took.
func (s *sizes) step(ctx context.Context, name string, changed int, m *machine, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	step := Step{Name: name, Entries: s.entries, Changed: changed, Count: m.take(), Time: time.Since(began)}
	var err error
	step.Files, step.Bytes, err = usage(ctx, s.bucket)
	s.steps = append(s.steps, step)
	return err
}

// usage returns how much is in a bucket: files but the root, and their bytes.
func usage(ctx context.Context, b *remotetest.Memory) (files int, bytes int64, err error) {
	for _, dir := range []string{"packs", "indexes", "roots", "uses"} {
		for info, err := range b.List(ctx, dir) {
			if err != nil {
				return 0, 0, err
			}
			files++
			bytes += info.Size
		}
	}
	return files, bytes, nil
}

// fill pushes all to an empty bucket, and clones that.
func (s *sizes) fill(ctx context.Context) (err error) {
	if s.builder, err = s.machine(ctx, "builder"); err != nil {
		return err
	}
	if s.reader, err = s.machine(ctx, "reader"); err != nil {
		return err
	}
	if err := s.step(ctx, "first push", s.entries, s.builder, func() error { return s.builder.push(ctx, main) }); err != nil {
		return err
	}
	return s.step(ctx, "clone", s.entries, s.reader, func() error { return s.reader.pull(ctx, main) })
}

// change changes some, pushes that, and pulls it elsewhere.
func (s *sizes) change(ctx context.Context) error {
	for round, c := range []struct {
		n    int
		name string
	}{{1, "1"}, {100, "100"}, {s.entries / 100, "1 %"}} {
		n := min(c.n, s.entries)
		if err := s.builder.put(ctx, main, someKeys(s.entries, n, round)); err != nil {
			return err
		}
		if err := s.step(ctx, "push of "+c.name, n, s.builder, func() error { return s.builder.push(ctx, main) }); err != nil {
			return err
		}
		if err := s.step(ctx, "pull of "+c.name, n, s.reader, func() error { return s.reader.pull(ctx, main) }); err != nil {
			return err
		}
	}
	return s.step(ctx, "pull, nothing new", 0, s.reader, func() error { return s.reader.pull(ctx, main) })
}

// someKeys returns n keys of the branch, spread over all of it; others in each round.
func someKeys(entries, n, round int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = crowd.Key(entry.Put, (i*(entries/n)+7*round+3)%entries)
	}
	return keys
}

// lazily does what a machine of a CI does, that is made for one build: a lazy clone,
// some hits, and a push of what is new to a branch of its own.
func (s *sizes) lazily(ctx context.Context) error {
	m, err := s.machine(ctx, "lazy")
	if err != nil {
		return err
	}
	defer func() { m.Close() }()
	if err := m.beLazy(ctx); err != nil {
		return err
	}
	if err := s.step(ctx, "lazy clone", 0, m, func() error { return m.pull(ctx, main) }); err != nil {
		return err
	}
	hits := func(from, n int) func() error {
		return func() error {
			if err := m.reopen(ctx); err != nil {
				return err
			}
			for i := range n {
				at := (from + i*(s.entries/n)) % s.entries
				if got, err := m.get(ctx, main, crowd.Key(entry.Put, at)); err != nil || got != crowd.Value(at) && got != valueOf(crowd.Key(entry.Put, at)) {
					return fmt.Errorf("entry %d is %q, %w", at, got, err)
				}
			}
			return nil
		}
	}
	if err := s.step(ctx, "lazy hit, first", 0, m, hits(s.entries/3, 1)); err != nil {
		return err
	}
	if err := s.step(ctx, "lazy hit, later", 0, m, hits(s.entries/2, 1)); err != nil {
		return err
	}
	if err := s.step(ctx, "100 lazy hits", 0, m, hits(1, 100)); err != nil {
		return err
	}
	own := refs.Branch("pr/1")
	if err := m.put(ctx, own, []string{"one more"}); err != nil {
		return err
	}
	return s.step(ctx, "lazy push, own branch", 1, m, func() error { return m.push(ctx, own) })
}

// collect cuts history and collects after two hours, twice: the first gc condemns and
// brings the trees here, the other one deletes.
func (s *sizes) collect(ctx context.Context) error {
	c, err := newCollector(ctx, filepath.Join(s.dir, "collector"), s.bucket, s.net)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, name := range []string{"gc, first", "gc, again"} {
		time.Sleep(2 * time.Hour)
		if err := s.step(ctx, name, 0, c.machine, func() error { return c.collect(ctx, time.Hour, main) }); err != nil {
			return err
		}
	}
	return nil
}
