package auth

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const exampleNetrc = `
# comment with machine h login no
machine other login o password p
macdef init
machine h login macro password macro

machine h
	login u
	password "p \"q\" \\ #"
machine H.example login big password 1 account x
machine two login a password 1
machine two login b password 2
default login d password e
`

func TestNetrc(t *testing.T) {
	for _, tt := range []struct {
		host, user string
		want       Credentials
	}{
		{"h", "", Credentials{User: "u", Password: `p "q" \ #`}},
		{"h.example", "", Credentials{User: "big", Password: "1"}},
		{"two", "", Credentials{User: "a", Password: "1"}},
		{"two", "b", Credentials{User: "b", Password: "2"}},
		{"two", "c", Credentials{}},
		{"none", "", Credentials{User: "d", Password: "e"}},
	} {
		if got := parseNetrc(exampleNetrc, tt.host, tt.user); got != tt.want {
			t.Errorf("%s %s: %+v, want %+v", tt.host, tt.user, got, tt.want)
		}
	}
	name := filepath.Join(t.TempDir(), "netrc")
	t.Setenv("NETRC", name)
	if c, err := Netrc("h", ""); err != nil || !c.IsZero() {
		t.Errorf("no file: %v, %v", c, err)
	}
	os.WriteFile(name, []byte(exampleNetrc), 0o600)
	if c, err := Netrc("h", ""); err != nil || c.User != "u" {
		t.Errorf("%v, %v", c, err)
	}
}

func FuzzNetrc(f *testing.F) {
	f.Add(exampleNetrc)
	f.Add("machine h login \"")
	f.Add("machine h password \"\\")
	f.Fuzz(func(t *testing.T, text string) { parseNetrc(text, "h", "") })
}

func TestParseChallenges(t *testing.T) {
	got := parseChallenges(`Negotiate, Basic realm="a, \"b\"", Digest realm=x, nonce="n=1", qop="auth,auth-int", stale=TRUE`)
	want := []challenge{
		{"Negotiate", map[string]string{}},
		{"Basic", map[string]string{"realm": `a, "b"`}},
		{"Digest", map[string]string{"realm": "x", "nonce": "n=1", "qop": "auth,auth-int", "stale": "TRUE"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(challenge{})); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Basic realm="a"`)
	f.Add(`Digest nonce="\`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range parseChallenges(header) {
			newDigest(c)
		}
	})
}

// TestDigest is the example of RFC 2617 without qop, of which the answer is
// known; the other form depends on our own nonce, and real servers check it.
func TestDigest(t *testing.T) {
	d := newDigest(challenge{"Digest", map[string]string{"realm": "testrealm@host.com", "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093"}})
	req := httptest.NewRequest("GET", "/dir/index.html", nil)
	got := d.answer(req, Credentials{User: "Mufasa", Password: "Circle Of Life"})
	if want := `response="670fd8c2df070c60b045671b8b24ff02"`; !strings.Contains(got, want) {
		t.Errorf("%s lacks %s", got, want)
	}
}

func TestTransport(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.Header.Get("Authorization")+" "+string(body))
		if user, password, _ := r.BasicAuth(); user == "u" && password == "p" || r.Header.Get("Authorization") == "Bearer t" {
			return
		}
		w.Header().Add("WWW-Authenticate", `Negotiate`)
		w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, tt := range []struct {
		c    Credentials
		want []string
		code int
	}{
		{Credentials{User: "u", Password: "p"}, []string{" body", "Basic dTpw body", "Basic dTpw body"}, 200},
		{Credentials{User: "u", Password: "wrong"}, []string{" body", "Basic dTp3cm9uZw== body", "Basic dTp3cm9uZw== body"}, 401},
		{Credentials{Token: "t"}, []string{"Bearer t body", "Bearer t body"}, 200},
		{Credentials{}, []string{" body", " body"}, 401},
	} {
		seen = nil
		client := http.Client{Transport: &Transport{Base: http.DefaultTransport, Host: host, Credentials: tt.c}}
		for range 2 {
			resp, err := client.Post(server.URL, "text/plain", strings.NewReader("body"))
			if err != nil || resp.StatusCode != tt.code {
				t.Fatalf("%+v: %v, %v", tt.c, resp, err)
			}
			resp.Body.Close()
		}
		if diff := cmp.Diff(tt.want, seen); diff != "" {
			t.Errorf("%+v:\n%s", tt.c, diff)
		}
	}
}

func TestNotInTheClear(t *testing.T) {
	for _, c := range []Credentials{{Token: "t"}, {User: "u", Password: "p"}} {
		sent := false
		tr := &Transport{Host: "example.org", Credentials: c, basic: true, Base: roundTripper(func(*http.Request) { sent = true })}
		for _, url := range []string{"http://example.org/", "https://example.org/", "http://other.example.org/"} {
			sent = false
			_, err := tr.RoundTrip(httptest.NewRequest("GET", url, nil))
			if bad := url == "http://example.org/"; bad == sent || bad != errors.Is(err, ErrUnencrypted) {
				t.Errorf("%s: sent %v, %v", url, sent, err)
			}
		}
	}
}

type roundTripper func(*http.Request)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	f(req)
	return nil, errors.New("sent")
}
