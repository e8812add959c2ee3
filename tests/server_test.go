package tests

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// TestServerKilled kills a server with -9 again and again while clients push:
// whatever they were told, what was acknowledged is there, and nothing is damaged.
func TestServerKilled(t *testing.T) {
	alone(t)
	dir := filepath.Join(test.Dir(t), "central")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			cmd := serveAt(t, dir, addr)
			if cmd == nil {
				return
			}
			select {
			case <-stop:
				cmd.Process.Kill()
				cmd.Wait()
				return
			case <-time.After(20*time.Millisecond + rand.N(150*time.Millisecond)):
			}
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	var mu sync.Mutex
	var there []remotetest.Item
	var clients sync.WaitGroup
	for i := range 3 {
		r, err := httpremote.Open("http://"+addr, httpremote.Options{Tries: 12, Pause: 20 * time.Millisecond, Patience: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			defer r.Close()
			name := refs.Branch(fmt.Sprint(i))
			var last objects.ID
			for j := range count(t, 1000) {
				items, err := pushOne(t, r, name, last, fmt.Sprint(i, " ", j))
				if err != nil {
					t.Logf("push %d of %s: %v", j, name, err)
					continue
				}
				mu.Lock()
				there = append(there, items...)
				mu.Unlock()
				last = items[2].ID()
			}
			for ref, err := range r.Refs(t.Context(), string(name)) {
				if err != nil || ref.ID != last {
					t.Errorf("%s is at %s, want %s: %v", name, ref.ID.Short(), last.Short(), err)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	killer.Wait()
	if len(there) == 0 {
		t.Error("nothing went through")
	}
	must(t, dir, "fsck")
	r := open(t, dir)
	for _, i := range there {
		if _, err := r.DB.KindOf(ctx, i.ID()); err != nil {
			t.Errorf("%s %s: %v", i.Type, i.ID().Short(), err)
		}
	}
}

// pushOne makes a commit and pushes it, as often as it takes to know what became
// of it.
func pushOne(t *testing.T, r remote.Remote, name refs.Name, last objects.ID, text string) ([]remotetest.Item, error) {
	blob := remotetest.Blob(text)
	tree := remotetest.Tree("a", blob)
	commit := remotetest.Commit(1, tree)
	items := []remotetest.Item{blob, tree, commit}
	p := remotetest.Pack(t, items)
	if err := r.Upload(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
		return nil, err
	}
	err := r.Update(t.Context(), refs.Update{Name: name, Old: last, New: commit.ID()})
	if err == nil {
		return items, nil
	}
	var is objects.ID
	for ref, asked := range r.Refs(t.Context(), string(name)) {
		if asked != nil {
			t.Error(asked)
			return nil, asked
		}
		is = ref.ID
	}
	switch is {
	case commit.ID():
		return items, nil
	case last:
		return nil, err
	}
	t.Errorf("%s is at %s after %v", name, is.Short(), err)
	return nil, err
}

// serveAt starts a server as a process, and returns when it listens.
func serveAt(t *testing.T, dir, addr string) *exec.Cmd {
	cmd := process(dir, "serve", "-q", "--json", "--listen", addr, "--anonymous-write", "*")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		t.Errorf("serve: %v", err)
		return nil
	}
	return cmd
}
