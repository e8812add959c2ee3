package tests

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/sync/remote/webdav/davtest"
)

// TestPasswords talks to Apache with Basic and Digest authentication, with what
// ~/.netrc says: and to nobody else, and no password is ever printed or stored.
func TestPasswords(t *testing.T) {
	s := startDAV(t, davtest.Servers[0])
	root := s.url[:strings.Index(s.url, hostPort(s.url))+len(hostPort(s.url))]
	for _, scheme := range []string{"basic", "digest"} {
		t.Run(scheme, func(t *testing.T) {
			url := root + "/" + scheme + "/cache"
			h := newHost(t)
			h.must("remote", "add", "origin", url)
			write(t, h.work("big"), noise(1, 3<<20)) // more than is sent without being asked for
			h.must("put", "big", "big")

			denied := func(h *host, verb string) {
				t.Helper()
				r := h.run(verb)
				wantClear(t, r, "origin")
				if !strings.Contains(r.err, "~/.netrc") {
					t.Errorf("%v", r)
				}
			}
			denied(h, "push")
			netrc := func(h *host, text string) {
				t.Helper()
				if err := os.WriteFile(h.home(".netrc"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			netrc(h, "machine other.example.org login u password p\n")
			denied(h, "push")
			netrc(h, "machine 127.0.0.1 login u password wrong-s3cret\n")
			denied(h, "push")
			denied(h, "pull")
			netrc(h, "machine 127.0.0.1\n\tlogin u\n\tpassword p\n")
			h.must("push")
			if err := h.put("more"); err != nil {
				t.Fatal(err)
			}
			h.must("push")
			// A token of one of our own servers is nobody else's business, and in nobody's way.
			h.setenv("CACHE_TOOL_TOKEN", "cachetool_aaaaaaaa_s3cret")
			if err := h.put("most"); err != nil {
				t.Fatal(err)
			}
			h.must("push")

			other := newHost(t)
			netrc(other, "default login u password p\n")
			other.must("clone", url, other.repo())
			other.holds("more", "most")
			other.sound()
			lazy := newHost(t)
			netrc(lazy, "machine 127.0.0.1 login u password p\n")
			lazy.must("clone", "--lazy", strings.Replace(url, "://", "://u@", 1), lazy.repo())
			if r := lazy.must("get", "big"); r.out != noise(1, 3<<20) {
				t.Error("other bytes come")
			}
			// The password changes, and a build goes on.
			netrc(lazy, "machine 127.0.0.1 login u password wrong-s3cret\n")
			if r := lazy.must("run", "--", "echo", "built"); r.out != "built\n" || strings.Contains(r.err, "s3cret") {
				t.Errorf("%v", r)
			}
			for _, h := range []*host{h, other, lazy} {
				noSecret(t, h.repo(), "s3cret")
			}
		})
	}
}

// noSecret fails the test if a secret is in any file below dir.
func noSecret(t *testing.T, dir, secret string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(read(t, path), secret) {
			t.Errorf("%s has a secret in it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNoSecretIsPrinted gives every command that talks to remotes a secret in every
// way that somebody may try, and looks at all that is printed, logged and stored.
func TestNoSecretIsPrinted(t *testing.T) {
	s := startServe(t, "-v")
	token := strings.TrimPrefix(s.env[0], "CACHE_TOOL_TOKEN=")
	admin := newHost(t)
	admin.setenv("CACHE_TOOL_REPO", s.repo)
	const secret = "s3cret"
	at := hostPort(s.url)
	dead := "127.0.0.1:1"

	for i, url := range []string{
		"http://ann:s3cret@" + at, "https://ann:s3cret@" + at + "/x", "dav+http://ann:s3cret@" + at, "dav+https://ann:s3cret@" + dead,
		"http://cachetool_aaaaaaaa_s3cret@" + at, "https://cachetool_aaaaaaaa_s3cret:@" + at, "http://ann:pa/s3cret@" + at,
		"http://ann:%zzs3cret@" + at, "http://:s3cret@" + at, "ftp://ann:s3cret@" + at, "http://ann:s3cret@" + at + ":x", "http://ann:s3cret\x01@" + at,
	} {
		h := newHost(t)
		h.must("put", "value", h.file("value"))
		for _, args := range [][]string{
			{"remote", "add", "origin", url}, {"clone", url, h.work("clone")}, {"push", url}, {"pull", url, "main"}, {"fetch", url},
			{"config", "set", "remote.origin.url", url}, {"push"}, {"pull"}, {"fetch"}, {"remote"}, {"remote", "show", "origin"}, {"config", "list"},
			{"remote", "set-url", "origin", url}, {"-v", "push", url}, {"--json", "push", url}, {"clone", "-c", "remote.origin.url=" + url, s.url, h.work("clone")},
		} {
			r, err := finish(h.cmd(args...), longest)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(r.out+r.err, secret) {
				t.Errorf("URL %d: cache-tool %s prints it: %s%s", i, args[0], r.out, r.err)
			}
			if r.code == 0 && args[0] == "remote" && len(args) > 2 && args[1] != "show" {
				t.Errorf("URL %d is taken: %v", i, args)
			}
		}
		noSecret(t, h.repo(), secret)
	}

	// Tokens and passwords where they belong.
	for _, give := range []func(h *host){
		func(h *host) { h.setenv("CACHE_TOOL_TOKEN", token) },
		func(h *host) {
			if err := os.WriteFile(h.home(".netrc"), []byte("machine 127.0.0.1 login x password "+token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		func(h *host) {
			name := filepath.Join(test.Dir(t), "netrc")
			if err := os.WriteFile(name, []byte("machine 127.0.0.1 password "+token+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			h.setenv("NETRC", name)
		},
	} {
		h := newHost(t)
		give(h)
		h.must("put", fmt.Sprint("value", len(h.dir)), h.file("value"))
		h.must("remote", "add", "origin", s.url)
		for _, args := range [][]string{{"-v", "push"}, {"--json", "-v", "pull"}, {"-v", "fetch"}, {"remote", "show", "origin"}, {"config", "list"}, {"push", "origin", "main:refs/x"}} {
			r := h.run(args...)
			if args[0] == "-v" && r.code != done {
				t.Errorf("%v", r)
			}
			if strings.Contains(r.out+r.err, token) {
				t.Errorf("%v", r)
			}
		}
		noSecret(t, h.repo(), token)
	}
	for _, args := range [][]string{{"token", "list"}, {"token", "list", "--json"}, {"config", "list"}, {"reflog", "main"}, {"log"}, {"fsck"}} {
		if r := admin.must(args...); strings.Contains(r.out+r.err, token) {
			t.Errorf("%v", r)
		}
	}
	noSecret(t, s.repo, token)
	if strings.Contains(s.log(), token) || strings.Contains(s.log(), secret) {
		t.Error("a secret is in the log")
	}
	// What somebody writes into the settings by hand is his; but it is not shown around.
	h := newHost(t)
	h.must("put", "value", h.file("value"))
	config := filepath.Join(h.repo(), "config")
	write(t, config, read(t, config)+"[remote \"origin\"]\n\turl = http://x:"+token+"@"+at+"\n")
	h.must("push", "origin", "main:by-hand")
	for _, args := range [][]string{{"remote"}, {"remote", "--json"}, {"remote", "show", "origin"}, {"-v", "push"}, {"-v", "pull", "origin", "nothing"}} {
		if r := h.run(args...); strings.Contains(r.out+r.err, token) {
			t.Errorf("%v", r)
		}
	}
}
