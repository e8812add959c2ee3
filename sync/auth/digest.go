package auth

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A challenge is what a server wants, from WWW-Authenticate.
type challenge struct {
	scheme string
	params map[string]string // by lower-case name
}

// parseChallenges reads one header, which may hold several challenges. What is
// malformed ends it.
func parseChallenges(header string) []challenge {
	var all []challenge
	for {
		header = strings.TrimLeft(header, " \t,")
		word, rest := cutToken(header)
		if word == "" {
			return all
		}
		rest = strings.TrimLeft(rest, " \t")
		value, isParam := strings.CutPrefix(rest, "=")
		if !isParam || len(all) == 0 {
			all = append(all, challenge{word, map[string]string{}})
			header = rest
			continue
		}
		value, header = cutValue(strings.TrimLeft(value, " \t"))
		all[len(all)-1].params[strings.ToLower(word)] = value
	}
}

// cutToken cuts off a name.
func cutToken(s string) (token, rest string) {
	i := strings.IndexAny(s, " \t,=\"")
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:]
}

// cutValue cuts off a name, or what is between quotes.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return cutToken(s)
	}
	var b strings.Builder
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), s[min(i+1, len(s)):]
}

// A digest answers one challenge, as often as the server takes it (RFC 7616).
type digest struct {
	realm, nonce, opaque, algorithm string

	qop   bool // else as in RFC 2069
	count uint32
	hash  func(string) string
}

// newDigest returns nil if c is another challenge, or cannot be answered.
func newDigest(c challenge) *digest {
	if !strings.EqualFold(c.scheme, "Digest") || c.params["nonce"] == "" {
		return nil
	}
	d := &digest{realm: c.params["realm"], nonce: c.params["nonce"], opaque: c.params["opaque"], algorithm: c.params["algorithm"]}
	switch strings.ToUpper(d.algorithm) {
	case "", "MD5":
		d.hash = func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	case "SHA-256":
		d.hash = func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	default:
		return nil
	}
	if qop := c.params["qop"]; qop != "" {
		d.qop = slices.Contains(strings.Split(strings.ReplaceAll(qop, " ", ""), ","), "auth")
		if !d.qop {
			return nil
		}
	}
	return d
}

func (d *digest) answer(req *http.Request, c Credentials) string {
	uri := req.URL.RequestURI()
	secret := d.hash(c.User + ":" + d.realm + ":" + c.Password)
	what := d.hash(req.Method + ":" + uri)
	b := fmt.Appendf(nil, `Digest username=%s, realm=%s, nonce=%s, uri=%s`, quote(c.User), quote(d.realm), quote(d.nonce), quote(uri))
	if d.qop {
		d.count++
		own := rand.Text()
		count := fmt.Sprintf("%08x", d.count)
		response := d.hash(strings.Join([]string{secret, d.nonce, count, own, "auth", what}, ":"))
		b = fmt.Appendf(b, `, qop=auth, nc=%s, cnonce=%s, response="%s"`, count, quote(own), response)
	} else {
		b = fmt.Appendf(b, `, response="%s"`, d.hash(secret+":"+d.nonce+":"+what))
	}
	if d.opaque != "" {
		b = fmt.Appendf(b, `, opaque=%s`, quote(d.opaque))
	}
	if d.algorithm != "" {
		b = fmt.Appendf(b, `, algorithm=%s`, d.algorithm)
	}
	return string(b)
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
