package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/commands"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	shared "github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// command runs the command in this process, for Case.Act.
func command(dir string, args ...string) error {
	var out bytes.Buffer
	args = append([]string{"--repo", dir}, args...)
	if code := commands.Main(ctx, args, commands.Streams{In: &bytes.Buffer{}, Out: &out, Err: &out}); code != done {
		return fmt.Errorf("%s: exit code %d: %s", strings.Join(args, " "), code, &out)
	}
	return nil
}

// TestCollectFailsAnywhere lets a collection fail, or die, at every change that it
// makes to the disk. Nothing is lost, and the next one does it.
func TestCollectFailsAnywhere(t *testing.T) {
	alone(t)
	for _, a := range acts {
		if a.args[0] != "gc" {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			c := newCrash(t, a)
			test.Case{
				Setup: func(dir string) error { return copyTree(c.from.dir, dir) },
				Act:   func(dir string) error { return command(world{dir}.repo(), a.args...) },
				Check: func(t *testing.T, dir string, err error) {
					w := world{dir}
					t.Chdir(w.work())
					if err == nil {
						c.check(t, w, c.new)
					} else {
						c.check(t, w, c.old, c.new)
					}
				},
				Max: test.Count(t, 60),
			}.EveryStep(t)
		})
	}
}

// TestPowerCutOfPush pushes to another repository and to a bucket, with collections of
// all three in between, and cuts the power at every step. Whatever was acknowledged
// is there; all three are sound, and go on.
func TestPowerCutOfPush(t *testing.T) {
	alone(t)
	from := newWorld(t, act{empty: true})
	must(t, from.repo(), "init")
	config := filepath.Join(from.repo(), "config")
	write(t, config, read(t, config)+"[remote \"origin\"]\n\turl = ../other\n[remote \"share\"]\n\turl = bucket+file://SHARE\n")
	for _, args := range [][]string{{"put", "zero", "big"}, {"put", "zero", "a"}, {"push", "-q", "origin"}} {
		must(t, from.repo(), args...)
	}
	var acknowledged []string // where, and which key
	test.Case{
		Setup: func(dir string) error {
			if err := copyTree(from.dir, dir); err != nil {
				return err
			}
			config := filepath.Join(world{dir}.repo(), "config")
			data, err := os.ReadFile(config)
			if err != nil {
				return err
			}
			return os.WriteFile(config, []byte(strings.ReplaceAll(string(data), "SHARE", filepath.Join(dir, "share"))), 0o666)
		},
		Act: func(dir string) error {
			acknowledged = nil
			w := world{dir}
			if err := os.Chdir(w.work()); err != nil {
				return err
			}
			for i, key := range []string{"first", "second"} {
				if err := command(w.repo(), "put", key, []string{"big", "b"}[i]); err != nil {
					return err
				}
				for _, where := range []string{"origin", "share"} {
					if err := command(w.repo(), "push", "-q", where); err != nil {
						return err
					}
					acknowledged = append(acknowledged, where+" "+key)
				}
				for _, repo := range []string{w.repo(), w.other()} {
					if err := command(repo, "gc", "--grace", "0", "--keep-history", "0"); err != nil {
						return err
					}
				}
				if err := collectShare(filepath.Join(dir, "share")); err != nil {
					return err
				}
			}
			return nil
		},
		Check: func(t *testing.T, dir string, _ error) {
			w := world{dir}
			w.reboot(t)
			reboot(t, w.other())
			config := filepath.Join(w.repo(), "config") // it says where the bucket was before the cut
			lines := strings.Split(read(t, config), "\n")
			for i, line := range lines {
				if strings.Contains(line, "bucket+file") {
					lines[i] = "\turl = bucket+file://" + filepath.Join(dir, "share")
				}
			}
			write(t, config, strings.Join(lines, "\n"))
			t.Chdir(w.work())
			sound(t, w.repo())
			sound(t, w.other())
			clone := filepath.Join(dir, "clone")
			if len(acknowledged) > 1 {
				must(t, clone, "clone", "-q", "bucket+file://"+filepath.Join(dir, "share"), clone)
				sound(t, clone)
			}
			for _, a := range acknowledged {
				where, key, _ := strings.Cut(a, " ")
				must(t, map[string]string{"origin": w.other(), "share": clone}[where], "get", key)
				must(t, w.repo(), "get", key)
			}
			must(t, w.repo(), "get", "zero")
			must(t, w.other(), "get", "zero")
			must(t, w.repo(), "put", "third", "a")
			for _, where := range []string{"origin", "share"} {
				must(t, w.repo(), "push", "-q", where)
			}
			for _, repo := range []string{w.repo(), w.other()} {
				must(t, repo, "gc", "--grace", "0")
				sound(t, repo)
			}
			if err := collectShare(filepath.Join(dir, "share")); err != nil {
				t.Error(err)
			}
			must(t, clone+"2", "clone", "-q", "bucket+file://"+filepath.Join(dir, "share"), clone+"2")
			must(t, clone+"2", "get", "third")
			sound(t, clone+"2")
		},
		Max: test.Count(t, 60),
	}.PowerCut(t)
}

// collectShare collects a bucket in a directory, as somebody who has nothing else.
func collectShare(dir string) error {
	scratch, err := os.MkdirTemp(filepath.Dir(dir), "scratch")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	db, err := odb.Open(scratch, odb.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	r := bucket.Open(shared.Open(dir))
	_, err = r.Collect(ctx, bucket.CollectOptions{
		Rewrite: 0.01,
		Mark: func(ctx context.Context, tips []objects.ID, shallow map[objects.ID]bool, live *reach.Set) error {
			_, err := transfer.FetchTrees(ctx, db, r, tips, live, transfer.Options{Shallow: shallow, Staged: true})
			return err
		},
	})
	return err
}
