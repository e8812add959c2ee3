package httpremote_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/server"
	"github.com/cache-tool/cache-tool/sync/server/servertest"
)

func TestBadURLs(t *testing.T) {
	for _, url := range []string{"", "host/path", "ftp://h/", "https:///x", "https://u:secret@h/?x=1", "https://u:secret@h/#x", "https://u:secret@h:port/"} {
		if _, err := httpremote.Open(url, httpremote.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestCredentials: where a token may come from, and which of several counts.
func TestCredentials(t *testing.T) {
	s := servertest.Start(t, server.Options{Anonymous: auth.Rules{Read: []string{"public"}}})
	good := s.Token(auth.Token{Rules: auth.Rules{Write: []string{"*"}}})
	bad := auth.TokenPrefix + "bad"
	host := strings.TrimPrefix(s.URL, "http://")
	for _, tt := range []struct {
		what, url, env, netrc string
		ok                    bool
	}{
		{"none", s.URL, "", "", false},
		{"variable", s.URL, good, "", true},
		{"wrong variable", s.URL, bad, "", false},
		{"netrc", s.URL, "", "machine 127.0.0.1 login x password " + good, true},
		{"netrc of another host", s.URL, "", "machine localhost login x password " + good, false},
		{"variable before netrc", s.URL, bad, "machine 127.0.0.1 login x password " + good, false},
		{"netrc with a password that is none of ours", s.URL, "", "machine 127.0.0.1 login x password y", false},
		{"user in the URL", "http://" + good + "@" + host, bad, "", true},
		{"password in the URL", "http://x:" + good + "@" + host + "/", bad, "", true},
		{"wrong password in the URL", "http://x:" + bad + "@" + host + "/", good, "", false},
	} {
		netrc := filepath.Join(t.TempDir(), "netrc")
		if err := os.WriteFile(netrc, []byte(tt.netrc), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("NETRC", netrc)
		t.Setenv(httpremote.TokenVariable, tt.env)
		r, err := httpremote.Open(tt.url, httpremote.Options{Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		// What anybody may do would not show who we are.
		err = r.Upload(t.Context(), strings.NewReader("x"), 1)
		if denied := errors.Is(err, remote.ErrDenied); denied == tt.ok || strings.Contains(err.Error(), auth.TokenPrefix+"bad") || strings.Contains(err.Error(), good) {
			t.Errorf("%s: %v", tt.what, err)
		}
		r.Close()
	}
}

// TestNotInTheClear: a token does not go over a network unencrypted.
func TestNotInTheClear(t *testing.T) {
	r, err := httpremote.Open("http://192.0.2.1/", httpremote.Options{Credentials: auth.Credentials{Token: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Missing(t.Context(), []objects.ID{{1}}); !errors.Is(err, auth.ErrUnencrypted) {
		t.Errorf("%v", err)
	}
}
