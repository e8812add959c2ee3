package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/cache-tool/cache-tool/commands"
	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// What the tests of the whole command share: running it, in this process or in
// one of its own, and saying what a repository holds.

// A process that runs the command, or a test of this binary again, is killed
// where its environment says so.
func init() { test.KillFromEnv() }

var ctx = context.Background()

// The exit codes of the command.
const (
	done     = 0
	failed   = 1
	misused  = 2
	missed   = 3
	conflict = 4
)

// alone gives the test an account, a home and no repository but those it names.
func alone(t testing.TB) {
	t.Helper()
	home := test.Dir(t)
	for name, value := range map[string]string{
		"HOME": home, "USER": "ann",
		"XDG_CACHE_HOME":  os.DevNull, // no directory: the stat cache is in the repository
		"CACHE_TOOL_REPO": "", "CACHE_TOOL_BRANCH": "", "CACHE_TOOL_BASE": "",
	} {
		t.Setenv(name, value)
	}
}

// A result is what became of one run of the command.
type result struct {
	code     int
	out, err string
	args     []string
}

func (r result) String() string {
	return fmt.Sprintf("cache-tool %s: exit code %d\n%s%s", strings.Join(r.args, " "), r.code, tail(r.out), tail(r.err))
}

// tail is what a person wants to see of a long text.
func tail(s string) string {
	const most = 4 << 10
	if !utf8.ValidString(s) {
		return fmt.Sprintf("%d bytes: %.100q\n", len(s), s)
	}
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// run runs the command in this process, which takes a tenth of the time of one
// of its own. A panic ends the test, as it should.
func run(dir string, args ...string) result {
	return runWith(nil, dir, args...)
}

func runWith(stdin []byte, dir string, args ...string) result {
	var out, err bytes.Buffer
	args = append([]string{"--repo", dir}, args...)
	code := commands.Main(ctx, args, commands.Streams{In: bytes.NewReader(stdin), Out: &out, Err: &err})
	return result{code, out.String(), err.String(), args}
}

// must runs the command, which has to succeed.
func must(t testing.TB, dir string, args ...string) result {
	t.Helper()
	r := run(dir, args...)
	if r.code != done {
		t.Fatal(r)
	}
	return r
}

// process returns the command as a process of its own.
func process(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("cache-tool", append([]string{"--repo", dir}, args...)...)
	// With the race detector each process would sleep for a second at its end.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// runProcess runs the command in a process of its own.
func runProcess(dir string, args ...string) result {
	var out, stderr bytes.Buffer
	cmd := process(dir, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	return result{exitCode(cmd.Run()), out.String(), stderr.String(), args}
}

// exitCode returns what a shell would say: 128 and the signal for one that died of it.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return done
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	}
	return -1
}

const killed = 128 + int(syscall.SIGKILL)

// write makes the file name, and the directories that it is in.
func write(t testing.TB, name, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// noise is n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return string(b)
}

// copyDir copies a directory of plain files and directories, such as a repository.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if e.IsDir() {
			return os.MkdirAll(target, 0o777)
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, data, fi.Mode().Perm()); err != nil {
			return err
		}
		return os.Chtimes(target, fi.ModTime(), fi.ModTime())
	})
}

// open opens the repository, and closes it when the test ends.
func open(t testing.TB, dir string) *repo.Repo {
	t.Helper()
	r, err := repo.Open(ctx, dir, repo.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// state says what a repository holds, as far as a person can tell: HEAD,
// settings, branches and tags, and of each branch the entries, staged ones
// included, with what is in them but not when it was made. Two states are the
// same if nobody can see the difference. A directory without a repository has
// none.
func state(dir string) (string, error) {
	r, err := repo.Open(ctx, dir, repo.Options{})
	if errors.Is(err, repo.ErrNotRepository) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer r.Close()
	var lines []string
	head, err := r.Refs.Head(ctx)
	if err != nil {
		return "", err
	}
	lines = append(lines, "HEAD "+string(head))
	for _, setting := range r.Config.List() {
		if !strings.HasPrefix(setting[0], "core.") {
			lines = append(lines, fmt.Sprintf("config %s %q", setting[0], setting[1]))
		}
	}
	branches := []refs.Name{head} // which may have a stage and no commit yet
	for ref, err := range r.Refs.All(ctx, "refs/") {
		if err != nil {
			return "", err
		}
		lines = append(lines, "ref "+string(ref.Name))
		if ref.Name.IsBranch() {
			branches = append(branches, ref.Name)
			continue
		}
		id := ref.ID
		if tag, err := objects.ReadTag(ctx, r.DB, id); err == nil {
			lines = append(lines, fmt.Sprintf("tag %s %q", ref.Name, tag.Message))
			id = tag.Object
		}
		commit, err := objects.ReadCommit(ctx, r.DB, id)
		if err != nil {
			return "", err
		}
		for found, err := range r.EntriesAt(ctx, commit.Tree, "") {
			if lines, err = appendEntry(lines, r, string(ref.Name), found, err); err != nil {
				return "", err
			}
		}
	}
	for _, branch := range branches {
		for found, err := range r.Entries(ctx, branch, "") {
			if lines, err = appendEntry(lines, r, string(branch), found, err); err != nil {
				return "", err
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n"), nil
}

func appendEntry(lines []string, r *repo.Repo, where string, found repo.Found, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	payload, _, err := entry.Read(ctx, r.DB, found.ID)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", found.Path, where, err)
	}
	sum := objects.Sum(objects.Tree, payload.Encode())
	return append(lines, fmt.Sprintf("%s has %s %s, %s", where, found.Kind, found.Key, sum.Short())), nil
}

// mustState is the state of a repository that has one.
func mustState(t testing.TB, dir string) string {
	t.Helper()
	s, err := state(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A problem is one that fsck found.
type problem struct{ Where, What string }

// problems returns what fsck finds wrong, and fails the test where that and the
// exit code differ.
func problems(t testing.TB, dir string) []problem {
	t.Helper()
	r := run(dir, "--json", "fsck")
	var found struct{ Problems []problem }
	if err := json.Unmarshal([]byte(r.out), &found); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if (r.code == done) != (len(found.Problems) == 0) {
		t.Errorf("fsck found %d problems, and %v", len(found.Problems), r)
	}
	return found.Problems
}

// sound fails the test if fsck finds anything wrong.
func sound(t testing.TB, dir string) {
	t.Helper()
	if found := problems(t, dir); len(found) > 0 {
		t.Fatalf("fsck: %q", found)
	}
}
