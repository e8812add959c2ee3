package gitbridge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/gitbridge"
	"github.com/cache-tool/cache-tool/sync/transfer"
)

// A store is a repository with a Git server as its remote.
type store struct {
	*odb.DB
	dir  string
	tips []objects.ID
	o    gitbridge.Options
	url  string
}

func newStore(t testing.TB, url string) *store {
	t.Helper()
	dir := test.Dir(t)
	db, err := odb.Open(filepath.Join(dir, "packs"), odb.Options{Warn: func(err error) { t.Logf("warning: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := &store{DB: db, dir: dir, url: url}
	s.o = gitbridge.Options{Dir: filepath.Join(dir, "bridge"), DB: db, Tips: func(context.Context) ([]objects.ID, error) { return s.tips, nil }}
	return s
}

func (s *store) put(t testing.TB, k objects.Kind, size int64, body io.Reader) objects.ID {
	t.Helper()
	b, err := s.NewBatch(t.Context(), odb.BatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	id, err := b.Put(t.Context(), k, size, body)
	if err == nil {
		err = b.Commit(t.Context(), odb.Staged)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *store) blob(t testing.TB, body []byte) objects.ID {
	return s.put(t, objects.Blob, int64(len(body)), bytes.NewReader(body))
}

func (s *store) tree(t testing.TB, entries ...objects.Entry) objects.ID {
	list := objects.Entries(entries)
	list.Sort()
	body := list.Encode()
	return s.put(t, objects.Tree, int64(len(body)), bytes.NewReader(body))
}

func (s *store) commit(t testing.TB, tree objects.ID, parents ...objects.ID) objects.ID {
	who := objects.Signature{Name: "test", Email: "test@localhost", When: time.Unix(1e9+int64(len(s.tips)), 0).UTC()}
	body := objects.CommitBody{Tree: tree, Parents: parents, Author: who, Committer: who, Message: "a commit\n\nwith a message\n"}.Encode()
	id := s.put(t, objects.Commit, int64(len(body)), bytes.NewReader(body))
	s.tips = append(s.tips, id)
	return id
}

// push moves a branch from old to next, with all that is missing for that.
func (s *store) push(t testing.TB, name string, old, next objects.ID, cut ...objects.ID) error {
	t.Helper()
	r := open(t, s.url, s.o)
	defer r.Close()
	there := refsOf(t, r)
	var have []objects.ID
	for _, id := range there {
		have = append(have, id)
	}
	shallow := map[objects.ID]bool{}
	for _, id := range cut {
		shallow[id] = true
	}
	if !next.IsZero() {
		if _, err := transfer.Send(t.Context(), s.DB, r, []objects.ID{next}, have, transfer.Options{Shallow: shallow}); err != nil {
			return err
		}
	}
	return r.UpdateCut(t.Context(), cut, refs.Update{Name: refs.Branch(name), Old: old, New: next})
}

func (s *store) mustPush(t testing.TB, name string, old, next objects.ID, cut ...objects.ID) {
	t.Helper()
	if err := s.push(t, name, old, next, cut...); err != nil {
		t.Fatal(err)
	}
}

// pull brings all branches, and returns where they are.
func (s *store) pull(t testing.TB) map[refs.Name]objects.ID {
	t.Helper()
	r := open(t, s.url, s.o)
	there := refsOf(t, r)
	var want []objects.ID
	for _, id := range there {
		want = append(want, id)
	}
	cuts, err := r.Shallow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shallow := map[objects.ID]bool{}
	for _, id := range cuts {
		shallow[id] = true
	}
	if _, err := transfer.Fetch(t.Context(), s.DB, r, want, s.tips, transfer.Options{ShallowThere: shallow}); err != nil {
		t.Fatal(err)
	}
	s.tips = append(s.tips, want...)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	// What the repository has taken need not be kept twice.
	if _, err := os.Stat(filepath.Join(s.o.Dir, "spool")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the spool is still there: %v", err)
	}
	return there
}

func refsOf(t testing.TB, r remote.Remote) map[refs.Name]objects.ID {
	t.Helper()
	there := map[refs.Name]objects.ID{}
	for ref, err := range r.Refs(t.Context(), "refs/") {
		if err != nil {
			t.Fatal(err)
		}
		there[ref.Name] = ref.ID
	}
	return there
}

func clean(t testing.TB, dir string) {
	t.Helper()
	for line := range strings.Lines(git(t, dir, "fsck", "--strict", "--full", "--no-dangling")) {
		if !strings.HasPrefix(line, "notice: ") { // as that there is no branch yet
			t.Errorf("git fsck: %s", line)
		}
	}
}

func noise(n int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	body := make([]byte, n)
	rand.NewChaCha8(key).Read(body)
	return body
}

func file(name string, id objects.ID) objects.Entry {
	return objects.Entry{Mode: objects.ModeFile, Name: name, ID: id}
}

// objectsIn returns how many objects git counts.
func objectsIn(t testing.TB, dir string) int {
	t.Helper()
	return strings.Count(git(t, dir, "cat-file", "--batch-all-objects", "--batch-check"), "\n")
}

// TestRoundTrip pushes all that a tree can have, and pulls it into an empty repository.
func TestRoundTrip(t *testing.T) {
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			repo := bare(t)
			here := newStore(t, server.url(t, repo))
			a := here.blob(t, []byte("a\n"))
			sub := here.tree(t, file("x", a), objects.Entry{Mode: objects.ModeDir, Name: "empty", ID: objects.EmptyTree})
			root := here.tree(t,
				file("file", a), file("file.c", a), objects.Entry{Mode: objects.ModeDir, Name: "file-", ID: sub},
				objects.Entry{Mode: objects.ModeExec, Name: "run", ID: here.blob(t, []byte("#!/bin/sh\n"))},
				objects.Entry{Mode: objects.ModeSymlink, Name: "link", ID: here.blob(t, []byte("run"))},
				file("void", here.blob(t, nil)), file(".git%", a), file("weird \xff\n name", a),
				file("cache-tool-blob", a), file("cache-tool-blob%", a), file("cache-tool-blob-exec%%", a),
				objects.Entry{Mode: objects.ModeDir, Name: "sub", ID: here.tree(t, objects.Entry{Mode: objects.ModeDir, Name: "cache-tool-blob", ID: sub})},
			)
			first := here.commit(t, root)
			second := here.commit(t, sub, first)
			merged := here.commit(t, objects.EmptyTree, second, first)
			here.mustPush(t, "main", objects.ID{}, merged)
			clean(t, repo)
			tree := git(t, repo, "ls-tree", "-z", "main~1^")
			for _, want := range []string{"100755 blob", "120000 blob", "\tweird \xff\n name\x00", "\tcache-tool-blob%\x00", "\tcache-tool-blob%%\x00"} {
				if !strings.Contains(tree, want) {
					t.Errorf("git ls-tree says nothing of %q:\n%q", want, tree)
				}
			}
			before := objectsIn(t, repo)
			fourth := here.commit(t, here.tree(t, file("new", here.blob(t, []byte("new")))), merged)
			here.mustPush(t, "main", merged, fourth)
			if n := objectsIn(t, repo) - before; n != 3 {
				t.Errorf("the second push made %d objects, want 3", n)
			}
			clean(t, repo)

			there := newStore(t, here.url)
			if got := there.pull(t); got["refs/heads/main"] != fourth {
				t.Errorf("main is %s there, want %s", got["refs/heads/main"].Short(), fourth.Short())
			}
			all(t, there, fourth, merged, second, first, root, sub, a)

			// A push that is stale is refused, says so, and changes nothing.
			stale := there.commit(t, sub, fourth)
			fifth := here.commit(t, root, fourth)
			here.mustPush(t, "main", fourth, fifth)
			var conflict *refs.ConflictError
			if err := there.push(t, "main", fourth, stale); !errors.As(err, &conflict) || conflict.Is != fifth {
				t.Errorf("a stale push: %v", err)
			}
			if got := there.pull(t); got["refs/heads/main"] != fifth {
				t.Errorf("main is at %s", got["refs/heads/main"].Short())
			}
		})
	}
}

// all fails the test unless these are here.
func all(t *testing.T, s *store, ids ...objects.ID) {
	t.Helper()
	if missing, err := s.Missing(t.Context(), ids); err != nil || len(missing) > 0 {
		t.Errorf("%d of %d objects are missing: %v", len(missing), len(ids), err)
	}
	for _, id := range ids {
		if _, _, err := objects.Read(t.Context(), s, id); err != nil {
			t.Errorf("%s: %v", id.Short(), err)
		}
	}
}

// bytesPushed returns how many bytes of packs fn makes.
func bytesPushed(t *testing.T, fn func()) int64 {
	t.Helper()
	before := gitbridge.Packed()
	fn()
	return gitbridge.Packed() - before
}

// TestPieces pushes blobs that are too big for the server.
func TestPieces(t *testing.T) {
	repo := bare(t)
	here := newStore(t, "git+file://"+repo)
	here.o.MaxBlob = 1 << 20
	body := noise(5<<20, 1)
	big := here.blob(t, body)
	small := here.blob(t, noise(1<<20, 2))
	first := here.commit(t, here.tree(t, file("big", big), objects.Entry{Mode: objects.ModeExec, Name: "big.x", ID: big}, file("big-", small)))
	here.mustPush(t, "main", objects.ID{}, first)
	clean(t, repo)
	for line := range strings.Lines(git(t, repo, "cat-file", "--batch-all-objects", "--batch-check=%(objectsize) %(objecttype)")) {
		var size int
		if fmt.Sscan(line, &size); size > 1<<20 {
			t.Errorf("an object there is too big: %s", line)
		}
	}
	there := newStore(t, here.url)
	if got := there.pull(t)["refs/heads/main"]; got != first {
		t.Fatalf("main is %s, want %s", got.Short(), first.Short())
	}
	all(t, there, big, small)

	// A change of it brings the pieces that differ, and the others are taken from what is
	// there; where that is not there any more all comes again.
	body = slices.Insert(body, 2<<20, []byte("something new")...)
	changed := here.blob(t, body)
	second := here.commit(t, here.tree(t, file("big", changed)), first)
	before := objectsIn(t, repo)
	if sent := bytesPushed(t, func() { here.mustPush(t, "main", first, second) }); sent > 2<<20 {
		t.Errorf("a change of some bytes sent %d", sent)
	}
	if n := objectsIn(t, repo) - before; n > 8 {
		t.Errorf("a change of some bytes made %d objects", n)
	}
	clean(t, repo)
	if got := there.pull(t)["refs/heads/main"]; got != second {
		t.Errorf("main is %s, want %s", got.Short(), second.Short())
	}
	all(t, there, changed)

	// The bits of a mode are no matter of the blob.
	third := here.commit(t, here.tree(t, objects.Entry{Mode: objects.ModeExec, Name: "big", ID: changed}), second)
	before = objectsIn(t, repo)
	here.mustPush(t, "main", second, third)
	if n := objectsIn(t, repo) - before; n > 3 {
		t.Errorf("a change of mode made %d objects", n)
	}
	clean(t, repo)
	if got := there.pull(t)["refs/heads/main"]; got != third {
		t.Errorf("main is %s, want %s", got.Short(), third.Short())
	}

	// Who takes bigger blobs gets the same.
	other := newStore(t, here.url)
	if got := other.pull(t)["refs/heads/main"]; got != third {
		t.Errorf("main is %s, want %s", got.Short(), third.Short())
	}
	all(t, other, big, changed)
	fourth := other.commit(t, other.tree(t, file("big", changed), file("again", big)), third)
	other.mustPush(t, "main", third, fourth)
	clean(t, repo)
	if got := here.pull(t)["refs/heads/main"]; got != fourth {
		t.Errorf("main is %s, want %s", got.Short(), fourth.Short())
	}
}

// TestDeltas pulls what git has packed anew, with deltas upon deltas.
func TestDeltas(t *testing.T) {
	repo := bare(t)
	here := newStore(t, "git+file://"+repo)
	body := noise(300<<10, 3)
	huge := noise(9<<20, 4) // too big to be taken into memory
	var tip objects.ID
	for i := range 20 {
		copy(body[1000*i:], fmt.Sprint("version ", i))
		if i%7 == 0 {
			huge[i] = byte(i)
		}
		tree := here.tree(t, file("a", here.blob(t, body)), file("huge", here.blob(t, huge)))
		var parents []objects.ID
		if i > 0 {
			parents = []objects.ID{tip}
		}
		tip = here.commit(t, tree, parents...)
	}
	here.mustPush(t, "main", objects.ID{}, tip)
	for _, args := range [][]string{
		{"repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=20"},
		{"-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f"},
	} {
		git(t, repo, args...)
		there := newStore(t, here.url)
		if got := there.pull(t)["refs/heads/main"]; got != tip {
			t.Errorf("main is %s, want %s", got.Short(), tip.Short())
		}
	}
}

// TestLostMap loses, and damages, what is remembered. It is made again.
func TestLostMap(t *testing.T) {
	repo := bare(t)
	here := newStore(t, "git+file://"+repo)
	first := here.commit(t, here.tree(t, file("a", here.blob(t, []byte("a")))))
	here.mustPush(t, "main", objects.ID{}, first)
	tip := first
	for i, harm := range []func(name string){
		func(name string) { test.FlipBit(t, name, 999) },
		func(name string) { test.CutShort(t, name, -7) },
		func(name string) { os.Remove(name) },
		func(name string) { os.WriteFile(name, nil, 0o666) },
	} {
		names, err := filepath.Glob(filepath.Join(here.o.Dir, "map", "*.map"))
		if err != nil || len(names) == 0 {
			t.Fatalf("%d tables, %v", len(names), err)
		}
		harm(names[0])
		next := here.commit(t, here.tree(t, file("a", here.blob(t, fmt.Append(nil, i)))), tip)
		before := objectsIn(t, repo)
		here.mustPush(t, "main", tip, next)
		if n := objectsIn(t, repo) - before; n != 3 {
			t.Errorf("harm %d: %d objects were sent, want 3", i, n)
		}
		clean(t, repo)
		tip = next
	}
	// What was pulled is gone from the repository: it is fetched again.
	there := newStore(t, here.url)
	there.pull(t)
	lost := newStore(t, here.url)
	lost.o.Dir = there.o.Dir
	if got := lost.pull(t)["refs/heads/main"]; got != tip {
		t.Errorf("main is %s, want %s", got.Short(), tip.Short())
	}
	all(t, lost, tip, first)
}

// TestCut pushes history without its beginning, and then all of it from elsewhere.
func TestCut(t *testing.T) {
	repo := bare(t)
	whole := newStore(t, "git+file://"+repo)
	var commits []objects.ID
	for i := range 4 {
		commits = append(commits, whole.commit(t, whole.tree(t, file("a", whole.blob(t, fmt.Append(nil, i)))), commits[max(0, i-1):i]...))
	}
	// The same with its beginning cut off.
	cut := newStore(t, whole.url)
	for i, id := range commits[2:] {
		_, body, err := objects.Read(t.Context(), whole, id)
		if err != nil {
			t.Fatal(err)
		}
		cut.put(t, objects.Commit, int64(len(body)), bytes.NewReader(body))
		cut.tree(t, file("a", cut.blob(t, fmt.Append(nil, i+2))))
	}
	cut.tips = commits[3:]
	cut.mustPush(t, "cut", objects.ID{}, commits[3], commits[2])
	clean(t, repo)
	there := newStore(t, whole.url)
	if got := there.pull(t)["refs/heads/cut"]; got != commits[3] {
		t.Fatalf("cut is %s, want %s", got.Short(), commits[3].Short())
	}
	all(t, there, commits[2], commits[3])
	whole.mustPush(t, "whole", objects.ID{}, commits[1])
	clean(t, repo)
	next := cut.commit(t, cut.tree(t, file("b", cut.blob(t, []byte("b")))), commits[3])
	cut.mustPush(t, "cut", commits[3], next)
	clean(t, repo)
	if got := there.pull(t)["refs/heads/cut"]; got != next {
		t.Errorf("cut is %s, want %s", got.Short(), next.Short())
	}
}

// TestForeign refuses what no cache can keep, and says what that is.
func TestForeign(t *testing.T) {
	repo := bare(t)
	work := filepath.Join(test.Dir(t), "work")
	git(t, ".", "clone", "-q", repo, work)
	git(t, work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs")
	git(t, work, "push", "-q", "origin", "HEAD:refs/heads/main")
	here := newStore(t, "git+file://"+repo)
	if got := here.pull(t); len(got) != 1 {
		t.Errorf("%d refs: what git itself makes can be pulled", len(got))
	}
	head := strings.TrimSpace(git(t, work, "rev-parse", "HEAD"))
	git(t, work, "update-index", "--add", "--cacheinfo", "160000,"+head+",module")
	git(t, work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a submodule")
	git(t, work, "push", "-q", "origin", "HEAD:refs/heads/main")
	r := open(t, here.url, here.o)
	var failed error
	for _, err := range r.Refs(t.Context(), "") {
		failed = err
	}
	if !errors.Is(failed, gitbridge.ErrForeign) || !strings.Contains(failed.Error(), "160000") {
		t.Errorf("a submodule: %v", failed)
	}
}

// TestLostAnswer cuts the connection after a push has been done: nobody takes it for one
// that failed, nor does it again.
func TestLostAnswer(t *testing.T) {
	repo := bare(t)
	var cut bool
	url := serveHTTP(t, repo, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cut && r.Method == "POST" && strings.HasSuffix(r.URL.Path, "receive-pack") {
				cut = false
				h.ServeHTTP(deaf{}, r)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	here := newStore(t, "git+"+url)
	first := here.commit(t, here.tree(t, file("a", here.blob(t, []byte("a")))))
	cut = true
	here.mustPush(t, "main", objects.ID{}, first)
	if got := here.pull(t)["refs/heads/main"]; got != first || cut {
		t.Errorf("main is %s, want %s", got.Short(), first.Short())
	}
}

type deaf struct{}

func (deaf) Header() http.Header         { return http.Header{} }
func (deaf) Write(p []byte) (int, error) { return len(p), nil }
func (deaf) WriteHeader(int)             {}

// TestCredentials wants a password, which is in ~/.netrc or known to a helper of Git.
func TestCredentials(t *testing.T) {
	const secret = "s3cret-word"
	repo := bare(t)
	url := serveHTTP(t, repo, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "ann" || password != secret {
				w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("NETRC", filepath.Join(home, ".netrc"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, "gitconfig"))
	t.Setenv("GIT_ASKPASS", "")
	t.Setenv("SSH_ASKPASS", "")
	here := newStore(t, "git+"+url)
	tip := here.commit(t, here.tree(t, file("a", here.blob(t, []byte("a")))))
	try := func() error {
		r := open(t, here.url, here.o)
		for _, err := range r.Refs(t.Context(), "") {
			return err
		}
		return r.Update(t.Context(), refs.Update{Name: "refs/heads/main", New: tip})
	}
	if err := try(); !errors.Is(err, remote.ErrDenied) || strings.Contains(err.Error(), secret) {
		t.Errorf("without a password: %v", err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("helper", "#!/bin/sh\n[ \"$1\" = get ] && printf 'username=ann\\npassword="+secret+"\\n'; echo \"$1\" >>"+home+"/asked\n")
	os.Chmod(filepath.Join(home, "helper"), 0o755)
	write("gitconfig", "[credential]\n\thelper = "+home+"/helper\n")
	if err := try(); err != nil {
		t.Errorf("with a helper: %v", err)
	}
	if asked, _ := os.ReadFile(filepath.Join(home, "asked")); string(asked) != "get\n" {
		t.Errorf("the helper was asked to %q", asked)
	}
	write("gitconfig", "")
	write(".netrc", "machine 127.0.0.1 login ann password "+secret+"\n")
	here.mustPush(t, "other", objects.ID{}, tip)
	// It is written down nowhere.
	found := exec.Command("grep", "-r", secret, here.dir, repo)
	if out, err := found.Output(); err == nil {
		t.Errorf("the password is in %s", out)
	}
}

// TestHuge pushes and pulls a blob of half a gigabyte, and holds little of it in memory at
// once.
func TestHuge(t *testing.T) {
	size := int64(test.Count(t, 500)) << 20
	for _, tt := range []struct {
		name string
		max  int64
	}{{"whole", 2 * size}, {"pieces", 0}} {
		t.Run(tt.name, func(t *testing.T) {
			repo := bare(t)
			here := newStore(t, "git+"+serveHTTP(t, repo, nil))
			if here.o.MaxBlob = tt.max; tt.max == 0 {
				here.o.MaxBlob = min(gitbridge.DefaultMaxBlob, size/2)
			}
			peak := watchMemory(t)
			h := sha256.New()
			id := here.put(t, objects.Blob, size, io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{7}), size), h))
			tip := here.commit(t, here.tree(t, file("huge", id)))
			here.mustPush(t, "main", objects.ID{}, tip)
			there := newStore(t, here.url)
			there.o.MaxBlob = here.o.MaxBlob
			if got := there.pull(t)["refs/heads/main"]; got != tip {
				t.Errorf("main is %s, want %s", got.Short(), tip.Short())
			}
			o, err := there.Open(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			again := sha256.New()
			if _, err := io.Copy(again, o.Body); err != nil || !bytes.Equal(again.Sum(nil), h.Sum(nil)) {
				t.Errorf("the blob is another one: %v", err)
			}
			if most := peak(); most > 200<<20 {
				t.Errorf("it took %d MiB of memory", most>>20)
			} else {
				t.Logf("%d MiB, %d MiB of memory", size>>20, most>>20)
			}
		})
	}
}
