package simulate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A machine has a repository, and a bucket that it pushes to and pulls from, in the steps
// of the commands of these names.
type machine struct {
	*repo.Repo
	*link
}

const origin = "origin"

// newMachine makes one whose repository, at dir, is made if it is not there.
func newMachine(ctx context.Context, dir string, b remote.Bucket, n Network) (*machine, error) {
	m := &machine{link: &link{Bucket: b, net: n}}
	var err error
	m.Repo, err = repo.OpenOrInit(ctx, dir, repo.Options{Promise: func(string) repo.Promise { return &promise{m: m} }})
	return m, err
}

// open begins a conversation. What is read of indexes is kept for the next one.
func (m *machine) open() *bucket.Remote {
	there := bucket.Open(m.link)
	there.KeepIn(filepath.Join(m.Dir, "buckets", origin))
	return there
}

// connect begins a conversation, and learns where the refs are there.
func (m *machine) connect(ctx context.Context) (*bucket.Remote, map[refs.Name]objects.ID, error) {
	there := m.open()
	is, err := look(ctx, there)
	return there, is, err
}

func look(ctx context.Context, there *bucket.Remote) (map[refs.Name]objects.ID, error) {
	is := map[refs.Name]objects.ID{}
	for ref, err := range there.Refs(ctx, "refs/") {
		if err != nil {
			return nil, err
		}
		is[ref.Name] = ref.ID
	}
	return is, nil
}

// put commits values under these keys.
func (m *machine) put(ctx context.Context, branch refs.Name, keys []string) error {
	ch, err := m.Change(ctx, branch, odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer ch.Close()
	for _, key := range keys {
		value, err := ch.Batch.PutBytes(objects.Blob, []byte(valueOf(key)))
		if err != nil {
			return err
		}
		meta := entry.Meta{Kind: entry.Put, Key: key, Created: time.Now()}
		id, err := entry.Write(ch.Batch, meta, objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: value}}, objects.ID{})
		if err != nil {
			return err
		}
		ch.Set(entry.Put, key, id)
	}
	_, _, err = ch.Commit(ctx, "a build")
	return err
}

// valueOf is what is kept under a key that put was given.
func valueOf(key string) string { return "what was built for " + key }

// push sends a branch and moves it there; who was faster is merged first. Nil means that
// all of the branch is there.
func (m *machine) push(ctx context.Context, branch refs.Name) error {
	const tries = 60
	there, is, err := m.connect(ctx)
	for try := 1; err == nil; try++ {
		err = m.pushOnce(ctx, there, is, branch)
		if !errors.As(err, new(*refs.ConflictError)) && !errors.Is(err, remote.ErrStale) && !errors.Is(err, remote.ErrUnsure) || try == tries {
			return err
		}
		time.Sleep(rand.N(min(time.Second, 10*time.Millisecond<<min(try, 10))))
		is, err = look(ctx, there)
	}
	return err
}

func (m *machine) pushOnce(ctx context.Context, there *bucket.Remote, is map[refs.Name]objects.ID, branch refs.Name) error {
	tip, err := m.Refs.Get(ctx, branch)
	if err != nil {
		return err
	}
	old := is[branch]
	if old == tip {
		return nil
	}
	if !old.IsZero() {
		missing, err := m.DB.Missing(ctx, []objects.ID{old})
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			if err := m.bring(ctx, there, branch, old); err != nil {
				return err
			}
			if tip, err = m.Refs.Get(ctx, branch); err != nil {
				return err
			}
		}
	}
	sending := ctx
	if m.IsLazy() {
		sending = odb.Local(ctx) // what is not here is there
	}
	_, err = transfer.Send(sending, m.DB, there, []objects.ID{tip}, slices.Collect(maps.Values(is)), transfer.Options{Promised: m.IsLazy(), Moves: true})
	if err != nil {
		return err
	}
	if err := there.UpdateCut(ctx, nil, refs.Update{Name: branch, Old: old, New: tip, Reason: "push"}); err != nil {
		return err
	}
	return m.remember(ctx, branch, tip)
}

// bring fetches what the branch is there, and merges it into the one here. To a lazy
// machine only commits come.
func (m *machine) bring(ctx context.Context, there *bucket.Remote, branch refs.Name, theirs objects.ID) error {
	var have []objects.ID
	for ref, err := range m.Refs.All(ctx, "refs/") {
		if err != nil {
			return err
		}
		have = append(have, ref.ID)
	}
	fetch := transfer.Fetch
	if m.IsLazy() {
		fetch = transfer.FetchHistory
	}
	o := transfer.Options{Promised: m.IsLazy(), Then: func(ctx context.Context, _ transfer.Stats) error {
		if err := m.remember(ctx, branch, theirs); err != nil {
			return err
		}
		_, err := m.Merge(ctx, branch, theirs, repo.Theirs, "Merge "+branch.Short())
		return err
	}}
	_, err := fetch(ctx, m.DB, there, []objects.ID{theirs}, have, o)
	return err
}

// remember notes where a branch is in the bucket.
func (m *machine) remember(ctx context.Context, branch refs.Name, id objects.ID) error {
	name := refs.Remote(origin, branch.Short())
	old, err := m.Refs.Get(ctx, name)
	if err != nil && !errors.Is(err, refs.ErrNotFound) || old == id {
		return err
	}
	return m.Refs.Apply(ctx, refs.Update{Name: name, Old: old, New: id, Reason: "simulate"})
}

// beLazy lets the machine pull commits alone; what they lead to comes when it is wanted.
func (m *machine) beLazy(ctx context.Context) error {
	if err := m.Config.Set(ctx, "remote."+origin+".lazy", "true"); err != nil {
		return err
	}
	return m.reopen(ctx)
}

// reopen opens the repository as the next command does.
func (m *machine) reopen(ctx context.Context) error {
	again, err := newMachine(ctx, m.Dir, m.Bucket, m.net)
	if err != nil {
		return err
	}
	again.link = m.link
	err = m.Close()
	m.Repo = again.Repo
	return err
}

// pull brings a branch.
func (m *machine) pull(ctx context.Context, branch refs.Name) error {
	there, is, err := m.connect(ctx)
	if err != nil {
		return err
	}
	theirs, ok := is[branch]
	if !ok {
		return fmt.Errorf("%s: %w in the bucket", branch, refs.ErrNotFound)
	}
	return m.bring(ctx, there, branch, theirs)
}

// get returns the value that a branch has under a key.
func (m *machine) get(ctx context.Context, branch refs.Name, key string) (string, error) {
	found, err := m.Lookup(ctx, []refs.Name{branch}, entry.Put, key)
	if err != nil {
		return "", err
	}
	payload, _, err := entry.Read(ctx, m.DB, found.ID)
	if err != nil {
		return "", err
	}
	body, _ := payload.Find(entry.BodyName)
	_, value, err := m.DB.ReadBytes(ctx, body.ID)
	return string(value), err
}

// A promise brings what a lazy machine lacks, in one conversation.
type promise struct {
	m     *machine
	there *bucket.Remote
}

func (p *promise) Fetch(ctx context.Context, ids []objects.ID) error {
	_, err := transfer.FetchObjects(ctx, p.m.DB, p.connect(), ids, transfer.Options{Staged: true})
	return err
}

func (p *promise) FetchAll(ctx context.Context, id objects.ID) error {
	_, err := transfer.Fetch(ctx, p.m.DB, p.connect(), []objects.ID{id}, nil, transfer.Options{Staged: true})
	return err
}

// FetchPath does nothing: a bucket is no program.
func (*promise) FetchPath(context.Context, objects.ID, string) error { return nil }

func (p *promise) connect() *bucket.Remote {
	if p.there == nil {
		p.there = p.m.open()
	}
	return p.there
}

// A collector collects a bucket, again and again. It keeps the trees that it has read.
type collector struct {
	*machine
	trees *odb.DB
}

func newCollector(ctx context.Context, dir string, b remote.Bucket, n Network) (*collector, error) {
	m, err := newMachine(ctx, dir, b, n)
	if err != nil {
		return nil, err
	}
	trees, err := odb.Open(filepath.Join(dir, "trees"), odb.Options{NoMerge: true})
	if err != nil {
		m.Close()
		return nil, err
	}
	return &collector{m, trees}, nil
}

func (c *collector) Close() error { return errors.Join(c.trees.Close(), c.machine.Close()) }

// collect collects once. History goes but for the tips of the branches cut.
func (c *collector) collect(ctx context.Context, grace time.Duration, cut ...refs.Name) error {
	there, is, err := c.connect(ctx)
	if err != nil {
		return err
	}
	o := bucket.CollectOptions{Grace: grace, Mark: func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
		_, err := transfer.FetchTrees(ctx, c.trees, there, tips, live, transfer.Options{Shallow: shallow, Staged: true})
		return err
	}}
	for _, branch := range cut {
		o.Shallow = append(o.Shallow, is[branch])
	}
	_, err = there.Collect(ctx, o)
	return err
}
