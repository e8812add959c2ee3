package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The file of tokens is lines of text, each ended by LF:
//
//	cache-tool tokens 1
//	ID TAB PROOF TAB CREATED TAB EXPIRES TAB READ TAB WRITE TAB NAME
//
// PROOF is "sha256:" and the hash of the secret, or "cert:" and the common name
// of a client certificate. Times are as in RFC 3339; a token that does not expire
// has "never". READ and WRITE are rules with spaces between them.
const tokensHead = "cache-tool tokens 1\n"

const never = "never"

func formatTokens(list []Token) string {
	var b strings.Builder
	b.WriteString(tokensHead)
	for _, t := range list {
		proof := "sha256:" + hex.EncodeToString(t.hash[:])
		if t.Cert != "" {
			proof = "cert:" + t.Cert
		}
		expires := never
		if !t.Expires.IsZero() {
			expires = t.Expires.UTC().Format(time.RFC3339)
		}
		fields := []string{t.ID, proof, t.Created.UTC().Format(time.RFC3339), expires, strings.Join(t.Read, " "), strings.Join(t.Write, " "), t.Name}
		b.WriteString(strings.Join(fields, "\t") + "\n")
	}
	return b.String()
}

func parseTokens(text string) ([]Token, error) {
	body, ok := strings.CutPrefix(text, tokensHead)
	if !ok {
		first, _, _ := strings.Cut(text, "\n")
		return nil, fmt.Errorf("it begins with %.40q, want %q", first, strings.TrimSpace(tokensHead))
	}
	var list []Token
	for n := 2; body != ""; n++ {
		var line string
		line, body, ok = strings.Cut(body, "\n")
		t, err := parseToken(line)
		if !ok && err == nil {
			err = errors.New("it is cut short")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func parseToken(line string) (Token, error) {
	var t Token
	fields := strings.Split(line, "\t")
	if len(fields) != 7 || fields[0] == "" {
		return t, fmt.Errorf("%d fields, want 7", len(fields))
	}
	t.ID, t.Name = fields[0], fields[6]
	t.Read, t.Write = strings.Fields(fields[4]), strings.Fields(fields[5])
	var err error
	if t.Created, err = time.Parse(time.RFC3339, fields[2]); err != nil {
		return t, err
	}
	if fields[3] != never {
		if t.Expires, err = time.Parse(time.RFC3339, fields[3]); err != nil {
			return t, err
		}
	}
	var isCert bool
	if t.Cert, isCert = strings.CutPrefix(fields[1], "cert:"); !isCert {
		t.Cert = ""
		if t.hash, err = parseHash(fields[1]); err != nil {
			return t, err
		}
	} else if t.Cert == "" {
		return t, errors.New("a certificate without a name")
	}
	return t, t.check()
}

func parseHash(s string) (hash [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(s, "sha256:")
	data, err := hex.DecodeString(digits)
	if !ok || err != nil || len(data) != len(hash) {
		return hash, errors.New("no hash of a secret")
	}
	return [sha256.Size]byte(data), nil
}

// maxText is how long a name may be.
const maxText = 200

// check refuses what a line has no place for, and rules that are none.
func (t Token) check() error {
	for what, text := range map[string]string{"name": t.Name, "name of a certificate": t.Cert} {
		if len(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%s %.40q: want one line of at most %d bytes", what, text, maxText)
		}
	}
	for _, rules := range [][]string{t.Read, t.Write} {
		for _, rule := range rules {
			if err := CheckRule(rule); err != nil {
				return err
			}
		}
	}
	return nil
}
