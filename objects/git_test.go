package objects_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// repository is a bare Git repository of object format sha256: what Git itself
// says of objects.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) repository {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("git", "init", "-q", "--bare", "--object-format=sha256", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no Git that knows SHA-256: %v: %s", err, out)
	}
	return repository{t, dir}
}

// git runs a command and returns its output without the last newline.
func (r repository) git(stdin []byte, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", r.dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git %q: %v: %s", args, err, &stderr)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// put hands an object to Git, which checks its form, and compares the ids.
func (r repository) put(k objects.Kind, body []byte) objects.ID {
	r.t.Helper()
	id := objects.Sum(k, body)
	if got := r.git(body, "hash-object", "-t", k.String(), "-w", "--stdin"); got != id.String() {
		r.t.Fatalf("%s %q: Git's id is %s, ours %s", k, body, got, id)
	}
	return id
}

func TestGitAgrees(t *testing.T) {
	r := newRepository(t)
	for _, size := range []int{0, 1, 31, 32, 33, 55, 56, 64, 1000, 100_000} {
		r.put(objects.Blob, bytes.Repeat([]byte("x"), size))
	}
	blob := r.put(objects.Blob, []byte("hello\n"))
	if got := r.git(nil, "hash-object", "-t", "tree", "/dev/null"); got != objects.EmptyTree.String() {
		t.Errorf("the empty tree is %s, ours %s", got, objects.EmptyTree)
	}

	sub := objects.Entries{{Mode: objects.ModeFile, Name: "f", ID: blob}}
	subID := r.put(objects.Tree, sub.Encode())
	root := objects.Entries{
		{Mode: objects.ModeFile, Name: "a", ID: blob},
		{Mode: objects.ModeDir, Name: "a-b", ID: subID},
		{Mode: objects.ModeDir, Name: "b", ID: subID},
		{Mode: objects.ModeExec, Name: "b-", ID: blob},
		{Mode: objects.ModeSymlink, Name: "b0", ID: blob},
		{Mode: objects.ModeDir, Name: "c", ID: objects.EmptyTree},
	}
	root.Sort()
	var listing strings.Builder
	for _, e := range root {
		fmt.Fprintf(&listing, "%06o %s %s\t%s\n", e.Mode, e.Mode.Kind(), e.ID, e.Name)
	}
	r.git(nil, "hash-object", "-t", "tree", "-w", "/dev/null")
	rootID := r.put(objects.Tree, root.Encode())
	if got := r.git([]byte(listing.String()), "mktree"); got != rootID.String() {
		t.Errorf("mktree makes %s, ours is %s", got, rootID)
	}
	if got := r.git(nil, "ls-tree", rootID.String()); got+"\n" != listing.String() {
		t.Errorf("Git lists\n%s\nwant\n%s", got, &listing)
	}

	who := objects.Signature{Name: "Ann Ölmann", Email: "ann@example.org", When: time.Unix(1769846400, 0).In(time.FixedZone("", -5400))}
	first := objects.CommitBody{Tree: rootID, Author: who, Committer: who, Message: "first\n"}
	firstID := r.put(objects.Commit, first.Encode())
	second := objects.CommitBody{
		Tree: subID, Parents: []objects.ID{firstID}, Author: who, Committer: who,
		Message: "second\n\nbody\n\nHost: h\n",
	}
	t.Setenv("GIT_AUTHOR_NAME", who.Name)
	t.Setenv("GIT_AUTHOR_EMAIL", who.Email)
	t.Setenv("GIT_AUTHOR_DATE", "1769846400 -0130")
	t.Setenv("GIT_COMMITTER_NAME", who.Name)
	t.Setenv("GIT_COMMITTER_EMAIL", who.Email)
	t.Setenv("GIT_COMMITTER_DATE", "1769846400 -0130")
	secondID := r.put(objects.Commit, second.Encode())
	got := r.git([]byte(second.Message), "commit-tree", subID.String(), "-p", firstID.String())
	if got != secondID.String() {
		t.Errorf("commit-tree makes %s, ours is %s", got, secondID)
	}

	tag := objects.TagBody{Object: secondID, Kind: objects.Commit, Name: "v1", Tagger: who, Message: "one\n"}
	tagID := r.put(objects.Tag, tag.Encode())
	if got := r.git(tag.Encode(), "mktag", "--strict"); got != tagID.String() {
		t.Errorf("mktag makes %s, ours is %s", got, tagID)
	}
	r.git(nil, "update-ref", "refs/heads/main", secondID.String())
	r.git(nil, "update-ref", "refs/tags/v1", tagID.String())
	if out := r.git(nil, "fsck", "--strict", "--full", "--no-dangling"); out != "" {
		t.Errorf("fsck: %s", out)
	}
}

// Git accepts every tree that we make, and reads in it what we put there.
func TestGitAgreesOnRandomTrees(t *testing.T) {
	r := newRepository(t)
	blob := r.put(objects.Blob, nil)
	r.git(nil, "hash-object", "-t", "tree", "-w", "/dev/null")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		tree := randomTree(rnd, blob)
		id := r.put(objects.Tree, tree.Encode())
		var listing strings.Builder
		for _, e := range tree {
			fmt.Fprintf(&listing, "%06o %s %s\t%s\x00", e.Mode, e.Mode.Kind(), e.ID, e.Name)
		}
		if got := r.git(nil, "ls-tree", "-z", id.String()); got != listing.String() {
			t.Fatalf("Git lists %q, want %q", got, &listing)
		}
		if got := r.git([]byte(listing.String()), "mktree", "-z"); got != id.String() {
			t.Fatalf("mktree makes %s, ours is %s of %q", got, id, &listing)
		}
	}
	r.git(nil, "fsck", "--strict")
}

// randomTree returns names that are hard to order: prefixes of each other,
// followed by bytes next to '/'.
func randomTree(rnd *rand.Rand, blob objects.ID) objects.Entries {
	const alphabet = "ab-./0\x01\xff"
	names := map[string]bool{}
	var tree objects.Entries
	for range rnd.IntN(40) {
		var name []byte
		for range 1 + rnd.IntN(4) {
			name = append(name, alphabet[rnd.IntN(len(alphabet))])
		}
		if objects.CheckName(string(name)) != nil || names[string(name)] {
			continue
		}
		names[string(name)] = true
		mode := []objects.Mode{objects.ModeFile, objects.ModeExec, objects.ModeSymlink, objects.ModeDir}[rnd.IntN(4)]
		e := objects.Entry{Mode: mode, Name: string(name), ID: blob}
		if mode.IsDir() {
			e.ID = objects.EmptyTree
		}
		tree = append(tree, e)
	}
	tree.Sort()
	return tree
}
