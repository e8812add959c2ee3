// Package auth says who we are to a server: it finds credentials in ~/.netrc
// and answers the challenges Basic and Digest, or sends a bearer token. And it
// says to a server who others are, and what they may do: see Tokens and Rules.
package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Credentials are a token, or else a user's name and password. The zero
// Credentials are nobody's.
type Credentials struct {
	Token          string
	User, Password string
}

// IsZero reports whether c says nothing.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// Netrc returns what $NETRC, or else .netrc in the home directory, says about a
// host; zero if it says nothing or is not there. If user is not empty, only that
// user's entry counts.
func Netrc(host, user string) (Credentials, error) {
	name := os.Getenv("NETRC")
	if name == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Credentials{}, nil
		}
		name = filepath.Join(home, ".netrc")
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil
	} else if err != nil {
		return Credentials{}, err
	}
	return parseNetrc(string(text), host, user), nil
}

// parseNetrc looks for a host as curl does: the first "machine" or "default"
// that fits counts.
func parseNetrc(text, host, user string) Credentials {
	var c Credentials
	fits := false
	tokens := &netrcTokens{text}
	for {
		word, ok := tokens.next()
		switch {
		case !ok, fits && (word == "machine" || word == "default") && (user == "" || c.User == user):
			if fits && (user == "" || c.User == user) {
				return c
			}
			return Credentials{}
		case word == "machine":
			name, _ := tokens.next()
			fits, c = strings.EqualFold(name, host), Credentials{}
		case word == "default":
			fits, c = true, Credentials{}
		case word == "login":
			c.User, _ = tokens.next()
		case word == "password":
			c.Password, _ = tokens.next()
		case word == "account":
			tokens.next()
		case word == "macdef":
			tokens.skipMacro()
		}
	}
}

type netrcTokens struct{ rest string }

// next returns the next word, or what is between quotes.
func (t *netrcTokens) next() (string, bool) {
	for {
		t.rest = strings.TrimLeft(t.rest, " \t\r\n")
		if !strings.HasPrefix(t.rest, "#") {
			break
		}
		_, t.rest, _ = strings.Cut(t.rest, "\n")
	}
	if t.rest == "" {
		return "", false
	}
	if t.rest[0] != '"' {
		end := strings.IndexAny(t.rest, " \t\r\n")
		if end < 0 {
			end = len(t.rest)
		}
		word := t.rest[:end]
		t.rest = t.rest[end:]
		return word, true
	}
	var word strings.Builder
	i := 1
	for ; i < len(t.rest) && t.rest[i] != '"'; i++ {
		if t.rest[i] == '\\' && i+1 < len(t.rest) {
			i++
		}
		word.WriteByte(t.rest[i])
	}
	t.rest = t.rest[min(i+1, len(t.rest)):]
	return word.String(), true
}

// skipMacro goes past a macro: it ends at an empty line.
func (t *netrcTokens) skipMacro() {
	_, rest, ok := strings.Cut(strings.ReplaceAll(t.rest, "\r\n", "\n"), "\n\n")
	if !ok {
		rest = ""
	}
	t.rest = rest
}
