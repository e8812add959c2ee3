package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
)

// A Token is what a server knows of somebody whom it lets in: a program that
// knows the secret, or one that shows a client certificate.
type Token struct {
	ID   string // names it in lists and logs
	Name string // for people; one line
	Rules
	Cert    string // the common name in a client certificate, if that stands in a secret's place
	Created time.Time
	Expires time.Time // zero: never

	hash [sha256.Size]byte // of the secret
}

// Expired reports whether the token is not good any more.
func (t Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// TokenPrefix begins every secret, so that whoever searches logs and sources for
// secrets finds them.
const TokenPrefix = "cachetool_"

// IsToken reports whether s looks like a secret.
func IsToken(s string) bool { return strings.HasPrefix(s, TokenPrefix) }

// Secrets are TokenPrefix, the id, "_" and 240 random bits.
const (
	idBytes     = 5
	secretBytes = 30
)

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

var (
	// ErrUnknownToken says that a token was never made here, or is no more.
	ErrUnknownToken = errors.New("unknown token: it was not made for this repository, or has been revoked")

	// ErrExpiredToken is what the errors about expired tokens are.
	ErrExpiredToken = errors.New("the token has expired")
)

// Tokens are those in a file, which keeps of each secret only the hash. Changes
// that other processes make are seen at once. It may be used from many goroutines
// at once.
type Tokens struct {
	path string

	mu   sync.Mutex
	list []Token     // guarded by mu; as last read
	seen fs.FileInfo // guarded by mu; the file as it was then, nil if there was none
	read time.Time   // guarded by mu; when
}

// OpenTokens returns the tokens in the file path, which need not exist.
func OpenTokens(path string) *Tokens { return &Tokens{path: path} }

// List returns all tokens, the expired ones too, the oldest first.
func (t *Tokens) List() ([]Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refresh(); err != nil {
		return nil, err
	}
	return slices.Clone(t.list), nil
}

// settled is how old a file must be before its time tells one content from
// another.
const settled = time.Second

// refresh reads the file if it is not the one that was read last. A file that
// cannot be read lets nobody in.
func (t *Tokens) refresh() error {
	now := time.Now()
	is, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		t.list, t.seen = nil, nil
		return nil
	} else if err != nil {
		return err
	}
	if t.seen != nil && os.SameFile(is, t.seen) && is.Size() == t.seen.Size() &&
		is.ModTime().Equal(t.seen.ModTime()) && t.read.Sub(is.ModTime()) > settled {
		return nil
	}
	list, err := readTokens(t.path)
	if err != nil {
		t.seen = nil
		return err
	}
	t.list, t.seen, t.read = list, is, now
	return nil
}

func readTokens(path string) ([]Token, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	list, err := parseTokens(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// Find returns the token with this secret. The error is ErrUnknownToken or
// ErrExpiredToken, or about the file.
func (t *Tokens) Find(secret string) (Token, error) {
	hash := sha256.Sum256([]byte(secret))
	id, _, _ := strings.Cut(strings.TrimPrefix(secret, TokenPrefix), "_")
	return t.find(func(one Token) bool {
		return one.Cert == "" && one.ID == id && subtle.ConstantTimeCompare(one.hash[:], hash[:]) == 1
	})
}

// FindCert is Find for whoever has proven to be the name in a client certificate.
func (t *Tokens) FindCert(name string) (Token, error) {
	return t.find(func(one Token) bool { return name != "" && one.Cert == name })
}

func (t *Tokens) find(is func(Token) bool) (Token, error) {
	list, err := t.List()
	if err != nil {
		return Token{}, err
	}
	failed := ErrUnknownToken
	for _, one := range list {
		switch {
		case !is(one):
		case one.Expired(time.Now()):
			failed = fmt.Errorf("%w: %s, on %s", ErrExpiredToken, one, one.Expires.UTC().Format(time.DateTime))
		default:
			return one, nil
		}
	}
	return Token{}, failed
}

// String is how logs and reflogs call the token.
func (t Token) String() string { return cmp.Or(t.Name, t.Cert, t.ID) }

// Create adds a token with the name, rules, expiry and Cert of want. It returns
// the token and, if that is not for a certificate, its secret, which nobody can
// find out any more afterwards.
func (t *Tokens) Create(ctx context.Context, want Token) (made Token, secret string, err error) {
	if err := want.check(); err != nil {
		return Token{}, "", err
	}
	made = want
	made.Created = time.Now().UTC().Truncate(time.Second)
	if !made.Expires.IsZero() {
		made.Expires = made.Expires.UTC().Truncate(time.Second)
	}
	err = t.change(ctx, func(list []Token) ([]Token, error) {
		for made.ID == "" || slices.ContainsFunc(list, func(o Token) bool { return o.ID == made.ID }) {
			made.ID = randomText(idBytes)
		}
		if made.Cert == "" {
			secret = TokenPrefix + made.ID + "_" + randomText(secretBytes)
			made.hash = sha256.Sum256([]byte(secret))
		}
		return append(list, made), nil
	})
	return made, secret, err
}

// ErrNoToken says that there is no token to revoke.
var ErrNoToken = errors.New("no such token")

// Revoke removes the tokens with these ids, all or none.
func (t *Tokens) Revoke(ctx context.Context, ids ...string) (gone []Token, err error) {
	err = t.change(ctx, func(list []Token) ([]Token, error) {
		for _, id := range ids {
			i := slices.IndexFunc(list, func(o Token) bool { return o.ID == id })
			if i < 0 {
				return nil, fmt.Errorf("%s: %w", id, ErrNoToken)
			}
			gone = append(gone, list[i])
			list = slices.Delete(list, i, i+1)
		}
		return list, nil
	})
	return gone, err
}

// change replaces the file, durably, by what edit makes of the list in it.
func (t *Tokens) change(ctx context.Context, edit func([]Token) ([]Token, error)) error {
	lock, err := durable.LockExclusive(ctx, t.path+".lock")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	list, err := readTokens(t.path)
	if err != nil {
		return err
	}
	if list, err = edit(list); err != nil {
		return err
	}
	return durable.WriteFile(t.path, []byte(formatTokens(list)), durable.Synced)
}
