package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/refs"
)

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		rule string
		yes  []refs.Name
		no   []refs.Name
	}{
		{"main", []refs.Name{"refs/heads/main"}, []refs.Name{"refs/heads/main2", "refs/heads/x/main", "refs/tags/main", "refs/heads/mai", "refs/other/main"}},
		{"pr/*", []refs.Name{"refs/heads/pr/1", "refs/heads/pr/1/x"}, []refs.Name{"refs/heads/main", "refs/heads/pr", "refs/heads/xpr/1", "refs/tags/pr/1"}},
		{"*-ci", []refs.Name{"refs/heads/a-ci", "refs/heads/-ci-ci", "refs/heads/a/b-ci"}, []refs.Name{"refs/heads/a-ci2", "refs/heads/ci"}},
		{"a*b*c", []refs.Name{"refs/heads/abc", "refs/heads/abbcbc"}, []refs.Name{"refs/heads/acb", "refs/heads/abcd"}},
		{"tag:v*", []refs.Name{"refs/tags/v1"}, []refs.Name{"refs/heads/v1", "refs/tags/1v"}},
		{"tag:*", []refs.Name{"refs/tags/v1", "refs/tags/a/b"}, []refs.Name{"refs/heads/v1", "refs/notes/x"}},
		{"*", []refs.Name{"refs/heads/main", "refs/tags/v1", "refs/notes/x"}, nil},
		{"**", []refs.Name{"refs/heads/main"}, []refs.Name{"refs/tags/v1"}},
	} {
		if err := CheckRule(tt.rule); err != nil {
			t.Error(err)
		}
		r := Rules{Write: []string{tt.rule}}
		for _, name := range tt.yes {
			if !r.Writes(name) || !r.Reads(name) {
				t.Errorf("%s refuses %s", tt.rule, name)
			}
		}
		for _, name := range tt.no {
			if r.Writes(name) || r.Reads(name) {
				t.Errorf("%s allows %s", tt.rule, name)
			}
		}
		if all := tt.rule == Everything; r.ReadsAll() != all {
			t.Errorf("%s reads all: %v", tt.rule, !all)
		}
		if (Rules{Read: []string{tt.rule}}).Writes(tt.yes[0]) {
			t.Errorf("who may read %s may write it", tt.rule)
		}
	}
	for _, bad := range []string{"", "refs/heads/main", "a b", "../x", "a..b", "tag:", "tag:refs/tags/x", "heads:x", "a\nb", "?", "/x", "x/"} {
		if CheckRule(bad) == nil {
			t.Errorf("%q passes for a rule", bad)
		}
	}
}

// slowMatch is match, as one would explain it.
func slowMatch(glob, s string) bool {
	switch {
	case glob == "":
		return s == ""
	case glob[0] == '*':
		return slowMatch(glob[1:], s) || s != "" && slowMatch(glob, s[1:])
	}
	return s != "" && s[0] == glob[0] && slowMatch(glob[1:], s[1:])
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "abbcbc")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, glob, s string) {
		if len(glob) > 12 || len(s) > 12 {
			return
		}
		if got := match(glob, s); got != slowMatch(glob, s) {
			t.Errorf("match(%q, %q) = %v", glob, s, got)
		}
	})
}

// TestMatchIsQuick: a rule cannot be made so that matching it takes forever.
func TestMatchIsQuick(t *testing.T) {
	if match(strings.Repeat("*a", 400)+"b", strings.Repeat("a", 900)) {
		t.Error("it matches")
	}
}

func tokensIn(t *testing.T) (*Tokens, string) {
	path := filepath.Join(test.Dir(t), "tokens")
	return OpenTokens(path), path
}

func create(t *testing.T, tokens *Tokens, want Token) (Token, string) {
	t.Helper()
	made, secret, err := tokens.Create(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

func TestTokens(t *testing.T) {
	server, path := tokensIn(t)
	if _, err := server.Find("x"); !errors.Is(err, ErrUnknownToken) {
		t.Errorf("no file: %v", err)
	}
	ci := Token{Name: "ci for pull requests", Rules: Rules{Read: []string{"main"}, Write: []string{"pr/*", "tag:v*"}}, Expires: time.Now().Add(time.Hour)}
	made, secret := create(t, OpenTokens(path), ci) // another process
	if !strings.HasPrefix(secret, TokenPrefix+made.ID+"_") || len(secret) < len(TokenPrefix)+48 {
		t.Errorf("secret %s of %s", secret, made.ID)
	}
	got, err := server.Find(secret)
	if diff := cmp.Diff(made, got, cmpopts.EquateComparable(), cmp.AllowUnexported(Token{})); err != nil || diff != "" {
		t.Errorf("Find: %v\n%s", err, diff)
	}
	for _, wrong := range []string{"", TokenPrefix, secret[:len(secret)-1], secret + "a", strings.ToUpper(secret), TokenPrefix + made.ID + "_", strings.TrimPrefix(secret, TokenPrefix)} {
		if _, err := server.Find(wrong); !errors.Is(err, ErrUnknownToken) || wrong != "" && strings.Contains(err.Error(), wrong) {
			t.Errorf("Find of a wrong secret: %v", err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), secret[len(TokenPrefix)+len(made.ID)+1:]) {
		t.Errorf("the file tells the secret: %v", err)
	}

	_, old := create(t, OpenTokens(path), Token{Name: "old", Expires: time.Now().Add(-time.Second)})
	if _, err := server.Find(old); !errors.Is(err, ErrExpiredToken) || !strings.Contains(err.Error(), "old, on 2") {
		t.Errorf("expired: %v", err)
	}
	admin, adminSecret := create(t, OpenTokens(path), Token{Rules: Rules{Write: []string{"*"}}})
	if one, err := server.Find(adminSecret); err != nil || one.ID != admin.ID || one.Expired(time.Now().AddDate(100, 0, 0)) {
		t.Errorf("%+v, %v", one, err)
	}

	gone, err := OpenTokens(path).Revoke(t.Context(), made.ID)
	if err != nil || len(gone) != 1 || gone[0].Name != ci.Name {
		t.Errorf("Revoke: %+v, %v", gone, err)
	}
	if _, err := server.Find(secret); !errors.Is(err, ErrUnknownToken) {
		t.Errorf("after Revoke: %v", err)
	}
	if _, err := server.Revoke(t.Context(), admin.ID, made.ID); !errors.Is(err, ErrNoToken) {
		t.Errorf("Revoke again: %v", err)
	}
	if list, err := server.List(); err != nil || len(list) != 2 || list[1].ID != admin.ID {
		t.Errorf("List: %+v, %v", list, err)
	}
}

func TestCertTokens(t *testing.T) {
	tokens, _ := tokensIn(t)
	made, secret := create(t, tokens, Token{Cert: "build host 7", Rules: Rules{Read: []string{"*"}}})
	if secret != "" {
		t.Errorf("a certificate got the secret %q", secret)
	}
	if got, err := tokens.FindCert("build host 7"); err != nil || got.ID != made.ID {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []string{"", "build host"} {
		if _, err := tokens.FindCert(wrong); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	// Nobody who sends an empty hash or its id is taken for it.
	if _, err := tokens.Find(TokenPrefix + made.ID + "_"); !errors.Is(err, ErrUnknownToken) {
		t.Error(err)
	}
}

func TestBadTokens(t *testing.T) {
	tokens, path := tokensIn(t)
	for _, bad := range []Token{
		{Name: "two\nlines"}, {Name: "a\tb"}, {Name: strings.Repeat("x", 201)}, {Cert: "a\tb"}, {Name: "\xff"},
		{Rules: Rules{Read: []string{"a b"}}}, {Rules: Rules{Write: []string{"refs/heads/x"}}},
	} {
		if _, _, err := tokens.Create(t.Context(), bad); err == nil {
			t.Errorf("took %+v", bad)
		}
	}
	_, secret := create(t, tokens, Token{Rules: Rules{Write: []string{"*"}}})
	good, _ := os.ReadFile(path)
	// What is damaged lets nobody in, rather than somebody too many.
	for _, bad := range []string{"", "cache-tool tokens 2\n", string(good[:len(good)-1]), string(good) + "x\n", strings.Replace(string(good), "sha256:", "sha256:0", 1)} {
		os.WriteFile(path, []byte(bad), 0o600)
		if _, err := tokens.Find(secret); err == nil || errors.Is(err, ErrUnknownToken) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, _, err := tokens.Create(t.Context(), Token{}); err == nil {
			t.Errorf("%q was replaced", bad)
		}
	}
	os.WriteFile(path, good, 0o600)
	if _, err := tokens.Find(secret); err != nil {
		t.Error(err)
	}
}

// TestTokensSurvive cuts a change anywhere: the tokens are the old ones or the
// new ones, whole.
func TestTokensSurvive(t *testing.T) {
	c := test.Case{
		Setup: func(dir string) error {
			_, _, err := OpenTokens(filepath.Join(dir, "tokens")).Create(t.Context(), Token{Name: "one"})
			return err
		},
		Act: func(dir string) error {
			_, _, err := OpenTokens(filepath.Join(dir, "tokens")).Create(t.Context(), Token{Name: "two"})
			return err
		},
		Check: func(t *testing.T, dir string, err error) {
			list, listErr := OpenTokens(filepath.Join(dir, "tokens")).List()
			if listErr != nil || len(list) < 1 || list[0].Name != "one" || err == nil && len(list) != 2 {
				t.Errorf("%+v, %v after %v", list, listErr, err)
			}
		},
	}
	c.EveryStep(t)
	c.PowerCut(t)
}

func TestTokensRace(t *testing.T) {
	tokens, path := tokensIn(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				made, secret, err := OpenTokens(path).Create(t.Context(), Token{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := tokens.Find(secret); err != nil {
					t.Error(err)
				}
				if _, err := OpenTokens(path).Revoke(t.Context(), made.ID); err != nil {
					t.Error(err)
				}
				if _, err := tokens.Find(secret); !errors.Is(err, ErrUnknownToken) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParseTokens(f *testing.F) {
	f.Add(formatTokens([]Token{{ID: "a", Name: "x y", Rules: Rules{Read: []string{"main"}, Write: []string{"pr/*", "tag:v*"}}}}))
	f.Add(formatTokens([]Token{{ID: "a", Cert: "c n", Expires: time.Unix(1, 0)}}))
	f.Add(tokensHead + "a\tcert:\t\t\t\t\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseTokens(text)
		if err != nil {
			return
		}
		again, err := parseTokens(formatTokens(list))
		if diff := cmp.Diff(list, again, cmpopts.EquateEmpty(), cmp.AllowUnexported(Token{})); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	})
}
