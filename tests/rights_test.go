package tests

import (
	"strings"
	"testing"
)

// TestNoRights tries what somebody can who has no token, a wrong one, one that has
// expired or was revoked, or one for something else: he reads nothing and writes
// nothing, and is told why and what helps.
func TestNoRights(t *testing.T) {
	s := startServe(t)
	owner := s.connected(t)
	write(t, owner.work("secret"), "the secret value\n")
	owner.must("put", "secret", "secret")
	owner.must("tag", "v1")
	owner.must("push", "--tags")
	owner.must("--branch", "pr/1", "put", "mine", "secret")
	owner.must("push", "origin", "pr/1")
	secretID := strings.Fields(owner.must("log", "--oneline").out)[0]

	admin := newHost(t)
	admin.setenv("CACHE_TOOL_REPO", s.repo)
	token := func(args ...string) string {
		return strings.TrimSpace(admin.must(append([]string{"-q", "token", "create"}, args...)...).out)
	}
	revoked := token("--write", "*")
	id, _, _ := strings.Cut(strings.TrimPrefix(revoked, "cachetool_"), "_")
	admin.must("token", "revoke", id)
	expired := token("--write", "*", "--expires", "1s")
	before := admin.must("branch", "--list").out + admin.must("log", "--oneline").out + admin.must("tag").out

	unknown := "hint: credentials come from $CACHE_TOOL_TOKEN, or from ~/.netrc"
	for _, tt := range []struct{ name, token, says, hint string }{
		{"none", "", "who shows no token may read nothing here", unknown},
		{"invented", "cachetool_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "unknown token", unknown},
		{"changed", revoked[:len(revoked)-1] + "a", "unknown token", unknown},
		{"not ours", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "unknown token", unknown},
		{"revoked", revoked, "unknown token: it was not made for this repository, or has been revoked", unknown},
		{"expired", expired, "the token has expired", unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.setenv("CACHE_TOOL_TOKEN", tt.token)
			if tt.name == "expired" {
				for h.run("clone", s.url, h.repo()).code == done {
					h = newHost(t) // it is good for a second
					h.setenv("CACHE_TOOL_TOKEN", tt.token)
				}
			}
			h.must("put", "secret", h.file("other"))
			h.must("remote", "add", "origin", s.url)
			for _, args := range [][]string{
				{"push"}, {"push", "--all"}, {"push", "origin", "main:pr/1"}, {"push", "origin", "+main"}, {"push", "origin", ":main"},
				{"push", "--prune"}, {"pull"}, {"pull", "--lazy"}, {"fetch"}, {"fetch", "--tags"}, {"remote", "show", "origin"},
				{"clone", s.url, h.work("clone")}, {"clone", "--lazy", s.url, h.work("clone")},
			} {
				r := h.run(args...)
				if r.code != failed || !strings.Contains(r.err, tt.says) || !strings.Contains(r.err, tt.hint) {
					t.Errorf("%v, want %q and %q", r, tt.says, tt.hint)
				}
				if tt.token != "" && strings.Contains(r.out+r.err, tt.token) {
					t.Errorf("the token is printed: %v", r)
				}
				if strings.Contains(r.out+r.err, secretID) {
					t.Errorf("it learns what is there: %v", r)
				}
			}
			if r := h.must("get", "secret"); r.out != "other\n" {
				t.Errorf("%v", r)
			}
		})
	}
	if after := admin.must("branch", "--list").out + admin.must("log", "--oneline").out + admin.must("tag").out; after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	admin.must("fsck")
	for _, secret := range []string{revoked, expired, strings.TrimPrefix(s.env[0], "CACHE_TOOL_TOKEN=")} {
		if strings.Contains(s.log(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// TestFewRights: a token for pull requests reads main, writes its own branches, and
// cannot get at anything else, however it asks.
func TestFewRights(t *testing.T) {
	s := startServe(t)
	owner := s.connected(t)
	owner.must("put", "value", owner.file("public"))
	owner.must("push")
	owner.must("--branch", "secret", "put", "secret", owner.file("hidden"))
	owner.must("push", "origin", "secret")
	owner.must("tag", "v1")
	owner.must("push", "--tags")
	mainAt := strings.Fields(owner.must("log", "--oneline").out)[0]
	secretAt := strings.Fields(owner.must("log", "--oneline", "secret").out)[0]

	admin := newHost(t)
	admin.setenv("CACHE_TOOL_REPO", s.repo)
	token := strings.TrimSpace(admin.must("-q", "token", "create", "--name", "pull requests", "--read", "main", "--write", "pr/*").out)
	h := newHost(t)
	h.setenv("CACHE_TOOL_TOKEN", token)
	h.must("clone", s.url, h.repo())
	if r := h.must("get", "value"); r.out != "public\n" {
		t.Errorf("%v", r)
	}
	if r := h.must("remote", "show", "origin"); strings.Contains(r.out, "secret") || strings.Contains(r.out, "v1") || !strings.Contains(r.out, "main") {
		t.Errorf("%v", r)
	}

	h.must("put", "value", h.file("poisoned"))
	for _, args := range [][]string{
		{"push"}, {"push", "origin", "main"}, {"push", "origin", "+main"}, {"push", "--force-with-lease"}, {"push", "origin", ":main"},
		{"push", "--delete", "origin", "main"}, {"push", "origin", "main:other"}, {"push", "origin", "main:prx"}, {"push", "origin", "main:pr/1", "main"},
		{"push", "origin", "main:secret"}, {"push", "origin", "main:refs/tags/v2"}, {"push", "origin", "main:refs/remotes/x/y"}, {"push", "--all"},
	} {
		r := h.run(args...)
		if r.code != failed || !strings.Contains(r.err, "pull requests may not move refs/") || !strings.Contains(r.err, `hint: who runs the server says who may do what, with "cache-tool token create"`) {
			t.Errorf("%v", r)
		}
	}
	for _, args := range [][]string{{"pull", "origin", "secret"}, {"fetch", "origin", "secret"}, {"fetch", "origin", "refs/tags/v1"}} {
		if r := h.run(args...); r.code != failed || !strings.Contains(r.err, "no such ref at origin") {
			t.Errorf("%v", r)
		}
	}
	// What he deletes with --prune is only what he sees and may write.
	if r := h.run("push", "--prune"); r.code != failed {
		t.Errorf("%v", r)
	}

	h.must("push", "origin", "main:pr/1")
	h.must("push", "origin", "main:pr/deep/er")
	h.must("push", "origin", ":pr/deep/er")
	if r := owner.must("remote", "show", "origin"); !strings.Contains(r.out, mainAt) || !strings.Contains(r.out, secretAt) || !strings.Contains(r.out, "pr/1") {
		t.Errorf("%v", r)
	}
	// Pull requests do not reach who reads main.
	other := s.clone(t)
	if r := other.must("get", "value"); r.out != "public\n" {
		t.Errorf("%v", r)
	}
	admin.must("fsck")
	if strings.Contains(s.log(), token) {
		t.Error("the token is in the log")
	}
	if r := admin.must("reflog", "pr/1"); !strings.Contains(r.out, "push by pull requests") {
		t.Errorf("%v", r)
	}
}
