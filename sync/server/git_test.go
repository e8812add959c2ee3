package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/gitwire"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

// A gitServer serves Git clients.
type gitServer struct {
	*servertest.Server
	t    *testing.T
	cuts *remotetest.Cuts
	work string // where clients work
}

// startGit runs a server of a repository that everybody may read, unless o says who.
func startGit(t *testing.T, o server.Options) *gitServer {
	t.Helper()
	dir := test.Dir(t)
	store, err := refs.Init(t.Context(), dir, refs.Branch("main"), refs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := odb.Open(filepath.Join(dir, "packs"), odb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	cuts := new(remotetest.Cuts)
	p := peer.New(db, store, cuts)
	o.Open, o.Head = func() server.Store { return p }, store.Head
	o.Objects = func() (server.GitObjects, func()) { return db, func() {} }
	s := serveGit(t, o)
	s.cuts = cuts
	return s
}

// startGitOfBucket runs a server of a bucket, whose cache is empty with each request.
func startGitOfBucket(t *testing.T, o server.Options, b remote.Bucket) *gitServer {
	t.Helper()
	o.Open = func() server.Store { return newReplica(t, b).Store() }
	o.Objects = func() (server.GitObjects, func()) { return newReplica(t, b).Objects() }
	o.Head = func(context.Context) (refs.Name, error) { return refs.Branch("main"), nil }
	return serveGit(t, o)
}

func serveGit(t *testing.T, o server.Options) *gitServer {
	t.Helper()
	if o.Anonymous.Read == nil {
		o.Anonymous.Read = []string{auth.Everything}
	}
	s := &gitServer{t: t, Server: servertest.Start(t, o), work: test.Dir(t)}
	if out, err := s.try("init", "-q", "--object-format=sha256", "probe"); err != nil {
		t.Skipf("needs a git with --object-format=sha256: %v %s", err, out)
	}
	return s
}

// eachGit runs a test over all that Git clones.
func eachGit(t *testing.T, o server.Options, run func(*testing.T, *gitServer)) {
	t.Run("repository", func(t *testing.T) { run(t, startGit(t, o)) })
	t.Run("bucket", func(t *testing.T) { run(t, startGitOfBucket(t, o, new(remotetest.Memory))) })
}

// try runs real git where clients work, without anybody's settings.
func (s *gitServer) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "git", append([]string{"-c", "fetch.unpackLimit=1", "-c", "advice.detachedHead=false"}, args...)...)
	c.Dir = s.work
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "HOME="+s.work,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a")
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (s *gitServer) git(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// url is what Git clones, with a token or without.
func (s *gitServer) url(token string) string {
	if token != "" {
		token = "any:" + token + "@"
	}
	return "http://" + token + s.Addr + "/git/cache"
}

// clone clones into dir and finds nothing wrong with it.
func (s *gitServer) clone(dir string, args ...string) {
	s.t.Helper()
	s.git(slices.Concat([]string{"clone", "-q"}, args, []string{s.url(""), dir})...)
	s.fsck(dir)
}

func (s *gitServer) fsck(dir string) {
	s.t.Helper()
	if out := s.git("-C", dir, "fsck", "--full", "--strict", "--no-progress", "--no-dangling"); out != "" {
		s.t.Errorf("git fsck: %s", out)
	}
}

// count returns how many objects have come into a clone.
func (s *gitServer) count(dir string) int {
	s.t.Helper()
	for line := range strings.Lines(s.git("-C", dir, "count-objects", "-v")) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "in-pack: "); ok {
			count, _ := strconv.Atoi(n)
			return count
		}
	}
	s.t.Fatal("git counts no objects")
	return 0
}

func (s *gitServer) want(got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func (s *gitServer) wantFailure(text string, args ...string) {
	s.t.Helper()
	out, err := s.try(args...)
	if err == nil || !strings.Contains(out, text) {
		s.t.Errorf("git %s: %v\n%s\nwant an error with %q", args[0], err, out, text)
	}
}

func (s *gitServer) move(name refs.Name, old objects.ID, to remotetest.Item) {
	s.t.Helper()
	if err := s.Store.Update(s.t.Context(), refs.Update{Name: name, Old: old, New: to.ID()}); err != nil {
		s.t.Fatal(err)
	}
}

// revision is commit number n of a history of a file that changes and others that
// don't, all modes among them.
func revision(n int, parents ...remotetest.Item) (commit remotetest.Item, all []remotetest.Item) {
	file, same := remotetest.Blob(fmt.Sprint("text ", n, "\n")), remotetest.Blob("same\n")
	target := remotetest.Blob("dir/same")
	dir := remotetest.Tree("same", same)
	root := remotetest.Item{Type: pack.Tree, Body: objects.Entries{
		{Mode: objects.ModeDir, Name: "dir", ID: dir.ID()},
		{Mode: objects.ModeFile, Name: "file", ID: file.ID()},
		{Mode: objects.ModeSymlink, Name: "link", ID: target.ID()},
		{Mode: objects.ModeExec, Name: "tool", ID: same.ID()},
	}.Encode()}
	commit = remotetest.Commit(n*1000, root, parents...)
	return commit, []remotetest.Item{file, same, target, dir, root, commit}
}

// commits makes branch main of n commits.
func (s *gitServer) commits(n int) []remotetest.Item {
	s.t.Helper()
	var line []remotetest.Item
	for i := range n {
		c, all := revision(i+1, line[max(0, i-1):i]...)
		remotetest.Upload(s.t, s.Store, all...)
		line = append(line, c)
	}
	s.move("refs/heads/main", objects.ID{}, line[n-1])
	return line
}

func TestGitClone(t *testing.T) { eachGit(t, server.Options{}, testGitClone) }

func testGitClone(t *testing.T, s *gitServer) {
	s.git("clone", "-q", s.url(""), "empty")
	s.want(s.git("-C", "empty", "branch", "--show-current"), "main")
	line := s.commits(3)
	tag := remotetest.Item{Type: pack.Tag, Body: objects.TagBody{Object: line[1].ID(), Kind: objects.Commit, Name: "v1", Tagger: objects.Signature{Name: "a", Email: "a@a", When: time.Unix(9000, 0).UTC()}, Message: "tag\n"}.Encode()}
	remotetest.Upload(t, s.Store, tag)
	s.move("refs/tags/v1", objects.ID{}, tag)
	s.clone("a")
	s.want(s.git("-C", "a", "log", "--format=%H %s"), fmt.Sprintf("%s commit 3000\n%s commit 2000\n%s commit 1000", line[2].ID(), line[1].ID(), line[0].ID()))
	s.want(s.git("-C", "a", "branch", "--show-current"), "main")
	s.want(s.git("-C", "a", "status", "--porcelain"), "")
	s.want(s.git("-C", "a", "rev-parse", "v1^{commit}"), line[1].ID().String())
	if fi, err := os.Stat(filepath.Join(s.work, "a", "tool")); err != nil || fi.Mode()&0o111 == 0 {
		t.Errorf("tool is not executable: %v", err)
	}
	if to, err := os.Readlink(filepath.Join(s.work, "a", "link")); err != nil || to != "dir/same" {
		t.Errorf("link leads to %q, %v", to, err)
	}

	// What is new travels, and nothing else: file, tree, commit.
	before := s.count("a")
	next, all := revision(4, line[2])
	remotetest.Upload(t, s.Store, all...)
	s.move("refs/heads/main", line[2].ID(), next)
	s.git("-C", "a", "pull", "-q")
	if got := s.count("a") - before; got != 3 {
		t.Errorf("%d objects came, want 3", got)
	}
	s.fsck("a")
	s.want(s.git("-C", "a", "rev-parse", "HEAD"), next.ID().String())
	s.git("-C", "a", "pull", "-q")

	// So it is for a client with commits of its own.
	s.git("-C", "a", "commit", "-q", "--allow-empty", "-m", "own")
	last, all := revision(5, next)
	remotetest.Upload(t, s.Store, all...)
	s.move("refs/heads/main", next.ID(), last)
	before = s.count("a")
	s.git("-C", "a", "pull", "-q", "--no-rebase", "--no-edit")
	if got := s.count("a") - before; got != 3 {
		t.Errorf("%d objects came, want 3", got)
	}
	s.fsck("a")
}

func TestGitDepth(t *testing.T) { eachGit(t, server.Options{}, testGitDepth) }

func testGitDepth(t *testing.T, s *gitServer) {
	line := s.commits(6)
	commits := func(dir string) string { return s.git("-C", dir, "rev-list", "--count", "HEAD") }
	s.clone("a", "--depth", "1")
	s.want(commits("a"), "1")
	if got := s.count("a"); got != 6 {
		t.Errorf("%d objects came, want 6", got)
	}
	s.git("-C", "a", "fetch", "-q", "--depth", "3")
	s.want(commits("a"), "3")
	s.fsck("a")
	s.git("-C", "a", "fetch", "-q", "--deepen", "1")
	s.want(commits("a"), "4")
	s.fsck("a")
	next, all := revision(7, line[5])
	remotetest.Upload(t, s.Store, all...)
	s.move("refs/heads/main", line[5].ID(), next)
	s.git("-C", "a", "pull", "-q")
	s.want(commits("a"), "5")
	s.git("-C", "a", "fetch", "-q", "--unshallow")
	s.want(commits("a"), "7")
	s.want(s.git("-C", "a", "rev-parse", "--is-shallow-repository"), "false")
	s.fsck("a")
	s.git("-C", "a", "fetch", "-q", "--depth", "2")
	s.want(commits("a"), "2")

	s.clone("since", "--shallow-since=@4800 +0000")
	s.want(commits("since"), "3")
	s.wantFailure("there are no commits since", "clone", "--shallow-since=2000-01-01", s.url(""), "none")
	s.wantFailure("deepen-not", "clone", "--shallow-exclude=main", s.url(""), "none")
}

func TestGitFilter(t *testing.T) { eachGit(t, server.Options{}, testGitFilter) }

func testGitFilter(t *testing.T, s *gitServer) {
	line := s.commits(4)
	s.git("clone", "-q", "--no-checkout", "--filter=blob:none", s.url(""), "a")
	if got := s.count("a"); got != 4+4+1 {
		t.Errorf("%d objects came, want commits and trees, 9", got)
	}
	s.git("-C", "a", "checkout", "-q", "main")
	s.want(s.git("-C", "a", "show", line[0].ID().String()+":file"), "text 1")
	s.want(s.git("-C", "a", "status", "--porcelain"), "")
	s.fsck("a")
	s.git("clone", "-q", "--no-checkout", "--filter=blob:limit=6", s.url(""), "b")
	if got := s.count("b"); got != 4+4+1+1 {
		t.Errorf("%d objects came, want one blob, too, 10", got)
	}
	s.git("clone", "-q", "--filter=tree:0", s.url(""), "c")
	s.want(s.git("-C", "c", "log", "--format=%s", "--", "file"), "commit 4000\ncommit 3000\ncommit 2000\ncommit 1000")
	s.fsck("c")
	s.wantFailure("this server knows the filters", "clone", "--filter=tree:3", s.url(""), "d")
}

// History that was cut off here is cut off there.
func TestGitCutHistory(t *testing.T) {
	s := startGit(t, server.Options{})
	line := s.commits(5)
	s.clone("before")
	err := s.cuts.EditShallow(t.Context(), func(cut map[objects.ID]bool) { cut[line[2].ID()] = true })
	if err != nil {
		t.Fatal(err)
	}
	s.clone("a")
	s.want(s.git("-C", "a", "rev-list", "--count", "HEAD"), "3")
	s.git("clone", "-q", "--depth", "2", s.url(""), "b")
	s.git("-C", "b", "fetch", "-q", "--unshallow")
	s.want(s.git("-C", "b", "rev-list", "--count", "HEAD"), "3")
	s.fsck("b")
	s.wantFailure("--depth=1000000", "clone", "-q", "--filter=blob:none", s.url(""), "endless")
	s.git("clone", "-q", "--filter=blob:none", "--depth=1000000", s.url(""), "filtered")
	s.want(s.git("-C", "filtered", "rev-list", "--count", "HEAD"), "3")
	s.want(s.git("-C", "filtered", "show", line[2].ID().String()+":file"), "text 3")
	next, all := revision(6, line[4])
	remotetest.Upload(t, s.Store, all...)
	s.move("refs/heads/main", line[4].ID(), next)
	for dir, want := range map[string]string{"a": "4", "b": "4", "before": "6", "filtered": "4"} {
		s.git("-C", dir, "pull", "-q")
		s.want(s.git("-C", dir, "rev-list", "--count", "HEAD"), want)
		s.fsck(dir)
	}
}

// TestGitCloneOfBucket: the requests that a clone takes do not grow with the entries.
func TestGitCloneOfBucket(t *testing.T) {
	b := &gets{Bucket: new(remotetest.Memory)}
	s := startGitOfBucket(t, server.Options{}, b)
	var items []remotetest.Item
	var entries objects.Entries
	for i := range 3000 {
		blob := remotetest.Blob(fmt.Sprint(i, "\n"))
		tree := remotetest.Tree("body", blob)
		items = append(items, blob, tree)
		entries = append(entries, objects.Entry{Mode: objects.ModeDir, Name: fmt.Sprintf("%04d", i), ID: tree.ID()})
	}
	root := remotetest.Item{Type: pack.Tree, Body: entries.Encode()}
	first := remotetest.Commit(1, root)
	remotetest.Upload(t, s.Store, append(items, root, first)...)
	s.move("refs/heads/main", objects.ID{}, first)
	for _, args := range [][]string{{}, {"--filter=blob:limit=1k"}, {"--filter=blob:none", "--no-checkout"}} {
		b.n.Store(0)
		dir := fmt.Sprint("clone", len(args))
		s.git(slices.Concat([]string{"clone", "-q"}, args, []string{s.url(""), dir})...)
		if n := b.n.Load(); n > 100 {
			t.Errorf("git clone %v: %d requests", args, n)
		}
		s.want(s.git("-C", dir, "rev-list", "--count", "HEAD"), "1")
	}
	s.fsck("clone0")

	cut := remotetest.Commit(3, root, remotetest.Commit(2, root))
	remotetest.Upload(t, s.Store, cut)
	if err := s.Store.UpdateCut(t.Context(), []objects.ID{cut.ID()}, refs.Update{Name: "refs/heads/cut", New: cut.ID()}); err != nil {
		t.Fatal(err)
	}
	s.clone("cut", "--single-branch", "--branch", "cut")
	s.want(s.git("-C", "cut", "rev-list", "--count", "HEAD"), "1")
}

// gets counts what is read of a bucket.
type gets struct {
	remote.Bucket
	n atomic.Int64
}

func (g *gets) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	g.n.Add(1)
	return g.Bucket.Get(ctx, name, off, n)
}

func TestGitRights(t *testing.T) {
	eachGit(t, server.Options{Anonymous: auth.Rules{Read: []string{}}}, testGitRights)
}

func testGitRights(t *testing.T, s *gitServer) {
	line := s.commits(2)
	secret := newEntry("secret\n")
	fill(t, s.Server, "refs/heads/secret", secret)
	all := s.Token(auth.Token{Rules: auth.Rules{Read: []string{"*"}}})
	one := s.Token(auth.Token{Rules: auth.Rules{Read: []string{"secret"}}})

	s.wantFailure("could not read Username", "clone", s.url(""), "x")
	s.wantFailure("Authentication failed", "clone", s.url("cachetool_no"), "x")
	s.want(s.git("ls-remote", s.url(all)), fmt.Sprintf("%s\tHEAD\n%[1]s\trefs/heads/main\n%s\trefs/heads/secret", line[1].ID(), secret.commit.ID()))

	// Who sees one branch gets that checked out, by its name and not by an id of others.
	s.git("-c", "http.extraHeader=Authorization: Bearer "+one, "clone", "-q", s.url(""), "one")
	s.want(s.git("-C", "one", "branch", "-a", "--format=%(refname)"), "refs/heads/secret\nrefs/remotes/origin/HEAD\nrefs/remotes/origin/secret")
	s.fsck("one")
	s.wantFailure("object not found", "-C", "one", "fetch", s.url(one), line[0].ID().String())
	// What he has brought himself leads him no further.
	thief := s.Token(auth.Token{Rules: auth.Rules{Read: []string{"secret"}, Write: []string{"pr/*"}}})
	bait := remotetest.Commit(5, secret.tree, line[0])
	remotetest.Upload(t, s.Client(thief, once), bait)
	s.wantFailure("object not found", "-C", "one", "fetch", s.url(thief), bait.ID().String())
	s.git("-C", "one", "fetch", "-q", s.url(all), line[0].ID().String())
	s.git("clone", "-q", "--no-checkout", "--filter=blob:none", s.url(one), "lazy")
	s.want(s.git("-C", "lazy", "show", "HEAD:file"), "secret")
}

func TestGitRefusals(t *testing.T) {
	s := startGit(t, server.Options{})
	s.commits(1)
	s.clone("a")
	s.git("-C", "a", "commit", "-q", "--allow-empty", "-m", "own")
	s.wantFailure("cache-tool push", "-C", "a", "push")
	s.wantFailure("version 2 of Git's protocol only", "-c", "protocol.version=0", "clone", s.url(""), "old")
	s.wantFailure("not found", "clone", s.URL+"/other/cache", "x")

	for _, tt := range []struct {
		method, path, body, encoding string
		status                       int
		text                         string
	}{
		{"GET", "/git/", "", "", 404, "git clone"},
		{"GET", "/git/x/info/refs", "", "", 404, "git clone"},
		{"GET", "/git/x/git-receive-pack", "", "", 403, "push"},
		{"POST", "/git/x/info/refs?service=git-upload-pack", "", "", 405, "GET"},
		{"GET", "/git/x/git-upload-pack", "", "", 405, "POST"},
		{"POST", "/git/x/git-upload-pack", "garbage", "", 200, "ERR malformed"},
		{"POST", "/git/x/git-upload-pack", "garbage", "gzip", 200, "ERR the body is no gzip"},
		{"POST", "/git/x/git-upload-pack", "", "br", 200, "ERR "},
		{"POST", "/git/x/git-upload-pack", "0000", "", 200, "ERR malformed"},
	} {
		r, err := http.NewRequest(tt.method, s.URL+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", gitwire.RequestType)
		r.Header.Set("Git-Protocol", "version=2")
		if tt.encoding != "" {
			r.Header.Set("Content-Encoding", tt.encoding)
		}
		status, body := roundTrip(t, r)
		if status != tt.status || !strings.Contains(body, tt.text) {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.path, status, body, tt.status, tt.text)
		}
	}
	// A bomb is of no use: it ends where a request would.
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	line := gitwire.AppendLine(nil, "agent=%s", strings.Repeat("x", 60000))
	for range 1500 {
		z.Write(line)
	}
	z.Close()
	r, err := http.NewRequest("POST", s.URL+"/git/x/git-upload-pack", &bomb)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", gitwire.RequestType)
	r.Header.Set("Git-Protocol", "version=2")
	r.Header.Set("Content-Encoding", "gzip")
	if status, body := roundTrip(t, r); status != 200 || !strings.Contains(body, "ERR a request of more than") {
		t.Errorf("a bomb: %d %q", status, body)
	}
	s.clone("b")
}

func roundTrip(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// Who hangs up in the middle of a pack takes nobody's place for longer than that.
func TestGitHangUp(t *testing.T) {
	s := startGit(t, server.Options{MaxRequests: 2, Patience: 2 * time.Second})
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	blob := remotetest.Blob(string(noise))
	tree := remotetest.Tree("big", blob)
	c := remotetest.Commit(1, tree)
	remotetest.Upload(t, s.Store, blob, tree, c)
	s.move("refs/heads/main", objects.ID{}, c)
	var body []byte
	for _, line := range []string{"command=fetch", "object-format=sha256"} {
		body = gitwire.AppendLine(body, "%s", line)
	}
	body = append(body, gitwire.Delimiter...)
	body = gitwire.AppendLine(body, "want %s", c.ID())
	body = gitwire.AppendLine(body, "done")
	body = append(body, gitwire.Flush...)
	for range 5 {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /git/x/git-upload-pack HTTP/1.1\r\nHost: x\r\nGit-Protocol: version=2\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", gitwire.RequestType, len(body), body)
		if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	// That they have gone is noticed when something is sent to them.
	for began := time.Now(); strings.Count(s.Log(), "msg=request") < 5; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal(s.Log())
		}
	}
	s.clone("a")
}
