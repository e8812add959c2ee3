package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newToken makes a token that all servers know.
func (f *fleet) newToken(t *testing.T, args ...string) string {
	t.Helper()
	token := strings.TrimSpace(f.hosts[0].must(append([]string{"-q", "token", "create"}, args...)...).out)
	for _, h := range f.hosts[1:] {
		copyFile(t, filepath.Join(f.hosts[0].repo(), "tokens"), filepath.Join(h.repo(), "tokens"))
	}
	return token
}

// eachRequest is an address that passes each request on to the next server.
func (f *fleet) eachRequest(t *testing.T) string {
	t.Helper()
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.next++
		r.Out.URL.Scheme, r.Out.URL.Host = "http", f.addresses[f.next%len(f.addresses)]
	}, Transport: &http.Transport{}})
	t.Cleanup(front.Close)
	return front.URL
}

// TestReplicasFewRights: a token for pull requests is worth on servers of a bucket what
// it is worth on one of a repository, whichever of them is asked each time.
func TestReplicasFewRights(t *testing.T) {
	s := placesNamed("bucket")[0].start(t)
	f := startFleet(t, s, 3)
	f.serve(t, s.url)
	url := f.eachRequest(t)
	client := func(token string) *host {
		h := newHost(t)
		h.setenv("CACHE_TOOL_TOKEN", token)
		return h
	}
	owner := client(f.token)
	owner.must("remote", "add", "origin", url)
	for i := range 20 {
		owner.must("put", fmt.Sprintf("value-%d", i), owner.file(fmt.Sprintf("public %d", i)))
	}
	owner.must("put", "big", write(t, owner.work("big"), noise(1, 3<<20)))
	owner.must("push")
	owner.must("--branch", "secret", "put", "secret", owner.file("hidden"))
	owner.must("push", "origin", "secret")

	pr := client(f.newToken(t, "--name", "pull requests", "--read", "main", "--write", "pr/*"))
	pr.must("clone", url, pr.repo())
	if r := pr.must("get", "value-7"); r.out != "public 7\n" {
		t.Errorf("%v", r)
	}
	if r := pr.must("get", "big"); r.out != noise(1, 3<<20) {
		t.Error("the big value is another one")
	}
	if r := pr.must("remote", "show", "origin"); strings.Contains(r.out, "secret") || !strings.Contains(r.out, "main") {
		t.Errorf("%v", r)
	}
	if r := pr.run("fetch", "origin", "secret"); r.code != failed || !strings.Contains(r.err, "no such ref at origin") {
		t.Errorf("%v", r)
	}
	browse(t, pr, url+"/git/cache")
	pr.must("put", "mine", pr.file("mine"))
	if r := pr.run("push"); r.code != failed || !strings.Contains(r.err, "pull requests may not move refs/heads/main") {
		t.Errorf("%v", r)
	}
	// What he brings lies with this server and that one, and gets there all the same.
	for i := range 5 {
		pr.must("put", fmt.Sprintf("large-%d", i), write(t, pr.work("large"), noise(uint64(10+i), 3<<20)))
		pr.must("put", "big", write(t, pr.work("big"), noise(1, 3<<20)+fmt.Sprint(i)))
		pr.must("push", "origin", "main:pr/1")
	}
	again := client(f.newToken(t, "--read", "pr/*"))
	again.must("clone", "--branch", "pr/1", url, again.repo())
	if r := again.must("get", "large-4"); r.out != noise(14, 3<<20) {
		t.Error("the large value is another one")
	}
	again.sound()
	if r := again.must("get", "mine"); r.out != "mine\n" {
		t.Errorf("%v", r)
	}
}

// browse clones what a host may read with Git.
func browse(t *testing.T, h *host, url string) {
	t.Helper()
	token := strings.TrimPrefix(h.env[len(h.env)-1], "CACHE_TOOL_TOKEN=")
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "http.extraHeader=Authorization: Bearer " + token}, args...)...)
		cmd.Dir = h.work()
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "HOME="+h.home())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
		return string(out)
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Log("there is no git")
		return
	}
	git("clone", "-q", url)
	if out := git("-C", "cache", "fsck", "--full", "--strict", "--no-progress"); out != "" {
		t.Errorf("git fsck: %s", out)
	}
	if out := git("-C", "cache", "branch", "-r"); strings.Contains(out, "secret") {
		t.Errorf("it sees %s", out)
	}
}

// serve starts all servers, until the test ends.
func (f *fleet) serve(t *testing.T, url string) {
	t.Helper()
	log := &records{}
	for i := range f.hosts {
		cmd, err := f.start(i, url, log)
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		t.Cleanup(func() { end(cmd) })
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log)
		}
	})
}

func end(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}
