package commands

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/dir"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/peer"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
)

// originName is the remote that clone makes, and that is meant where none is named.
const originName = "origin"

// A remoteStore is a remote as it is configured, or as it was typed.
type remoteStore struct {
	name string // empty if it was named by its URL
	url  string
	lazy bool

	hasty bool // whoever asks would rather do without than wait long

	given map[string]string // settings that are yet to be written
}

// String is how messages call it.
func (m remoteStore) String() string {
	if m.name != "" {
		return m.name
	}
	return m.url
}

// shownURL is the URL without a password that somebody has written into the settings
// by hand.
func (m remoteStore) shownURL() string {
	if u, err := url.Parse(m.url); err == nil && u.User != nil {
		return u.Redacted()
	}
	return m.url
}

// setting returns one of the remote's settings; the default for a URL.
func (m remoteStore) setting(r *repo.Repo, key string) string {
	if value, ok := m.given[key]; ok {
		return value
	}
	value, err := r.Config.Get("remote." + m.name + "." + key)
	if m.name == "" || err != nil {
		return ""
	}
	return value
}

// How long the remote is waited for by who is hasty, and how often it is asked.
const (
	hastyPatience = 15 * time.Second
	hastyTries    = 2
)

// patience returns how long the remote may be silent, and how often it is asked
// again; zeros are what everybody has.
func (m remoteStore) patience(r *repo.Repo) (silence time.Duration, tries int) {
	if seconds, err := strconv.Atoi(m.setting(r, "timeout")); err == nil {
		silence = time.Duration(seconds) * time.Second
	}
	if m.hasty {
		return min(cmp.Or(silence, hastyPatience), hastyPatience), hastyTries
	}
	return silence, 0
}

// isPath reports whether the remote is on a file system of this machine.
func (m remoteStore) isPath() bool {
	scheme, _, isURL := strings.Cut(m.url, "://")
	return !isURL || strings.HasSuffix(scheme, "file")
}

// isInsecure reports whether passwords and tokens may go to the remote unencrypted.
func (m remoteStore) isInsecure(r *repo.Repo) bool { return m.setting(r, "insecure") == "true" }

// remoteNames returns the names of the remotes that are configured.
func remoteNames(r *repo.Repo) []string {
	var names []string
	for _, pair := range r.Config.List() {
		if rest, ok := strings.CutPrefix(pair[0], "remote."); ok {
			if name, ok := strings.CutSuffix(rest, ".url"); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// remoteNamed returns the remote with this name or URL.
func (s *session) remoteNamed(r *repo.Repo, name string) (remoteStore, error) {
	if at, err := r.Config.Get("remote." + name + ".url"); err == nil && at != "" {
		m := remoteStore{name: name, url: at}
		m.lazy = m.setting(r, "lazy") == "true"
		return m, nil
	}
	if strings.Contains(name, "://") || strings.ContainsAny(name, "/:") || name == "." || name == ".." {
		return remoteStore{url: name}, checkURL(name)
	}
	return remoteStore{}, noRemote(r, name)
}

// configured returns the remote with this name.
func (s *session) configured(r *repo.Repo, name string) (remoteStore, error) {
	m, err := s.remoteNamed(r, name)
	if err != nil || m.name == "" {
		return m, noRemote(r, name)
	}
	return m, nil
}

func noRemote(r *repo.Repo, name string) error {
	err := fmt.Errorf("%s: no such remote", shown(name))
	if names := remoteNames(r); len(names) > 0 {
		return withHint(err, "there are: "+strings.Join(names, ", "))
	}
	return withHint(err, fmt.Sprintf(`"cache-tool remote add %s URL" makes one`, originName))
}

// remoteFor returns the remote that is meant by name, or for branch if name is
// empty: the branch's own, else origin, else the only one.
func (s *session) remoteFor(r *repo.Repo, name string, branch refs.Name) (remoteStore, error) {
	if name == "" {
		name, _ = r.Config.Get("branch." + branch.Short() + ".remote")
	}
	if name != "" {
		return s.remoteNamed(r, name)
	}
	names := remoteNames(r)
	for _, n := range names {
		if n == originName {
			return s.remoteNamed(r, n)
		}
	}
	switch len(names) {
	case 1:
		return s.remoteNamed(r, names[0])
	case 0:
		return remoteStore{}, withHint(errors.New("there is no remote"), fmt.Sprintf(`"cache-tool remote add %s URL" makes one`, originName))
	}
	return remoteStore{}, withHint(errors.New("which remote?"), "there are: "+strings.Join(names, ", "),
		fmt.Sprintf(`"cache-tool config set branch.%s.remote NAME" chooses one for the branch`, branch.Short()))
}

// checkURL refuses what is no place for a store, and passwords: URLs are stored
// and printed.
func checkURL(raw string) error {
	scheme, _, ok := strings.Cut(raw, "://")
	if first, _, _ := strings.Cut(raw, "/"); !ok && strings.Contains(first, ":") {
		return &usageError{fmt.Sprintf("%s: no such kind of remote", shown(raw)), []string{kindsOfRemotes, "a path with a colon in it begins with ./ or /"}}
	}
	if !ok {
		if raw == "" {
			return usagef("the URL is empty")
		}
		return nil
	}
	switch scheme {
	case "file", "bucket+file", "dav+http", "dav+https", "s3", "http", "https", "git+file", "git+ssh", "git+http", "git+https":
	case "git", "ssh":
		return &usageError{fmt.Sprintf("%s://: no such kind of remote", scheme), []string{"git+ssh://… or git+https://… is a Git server"}}
	case "dav", "webdav":
		return &usageError{fmt.Sprintf("%s://: no such kind of remote", scheme), []string{"dav+https://… or dav+http://… is a WebDAV server"}}
	default:
		return &usageError{fmt.Sprintf("%s://: no such kind of remote", shown(scheme)),
			[]string{kindsOfRemotes}}
	}
	u, err := url.Parse(raw)
	if err != nil {
		// What is wrong with it may be a part of a password.
		return &usageError{fmt.Sprintf("%s: malformed URL", shown(scheme+"://…")), []string{"in a URL %, / and @ are written %25, %2F and %40"}}
	}
	if scheme == "s3" {
		return checkS3URL(u)
	}
	if _, secret := u.User.Password(); secret || auth.IsToken(u.User.Username()) {
		return &usageError{"the URL holds a password, and URLs are stored and printed",
			[]string{"put it into ~/.netrc, or a token into $CACHE_TOOL_TOKEN, and leave it out of the URL"}}
	}
	switch isFile := strings.HasSuffix(scheme, "file"); {
	case isFile && u.Host != "" && u.Host != "localhost":
		return usagef("%s: a host in a URL of files: write %s:///…", shown(raw), scheme)
	case isFile:
		return nil
	case u.Hostname() == "":
		return usagef("%s://: no host in the URL", scheme)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return usagef("%s://%s: the URL of a store has no ? and no #", scheme, shown(u.Host)) // what follows may be part of a password
	case u.Port() != "":
		if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
			return usagef("%s://%s: no port has that number", scheme, shown(u.Host))
		}
	}
	return nil
}

const kindsOfRemotes = "a path or file:// is a repository, bucket+file:// a directory on a share, dav+https:// WebDAV, s3:// an object store, https:// a server, git+https:// or git+ssh:// a Git server"

// connect opens a conversation with a remote. It does not touch the network yet.
// With toWrite a repository is made that is not there.
func (s *session) connect(ctx context.Context, r *repo.Repo, m remoteStore, toWrite bool) (remote.Remote, error) {
	scheme, rest, ok := strings.Cut(m.url, "://")
	if !ok {
		scheme, rest = "file", m.url
	}
	patience, tries := m.patience(r)
	switch scheme {
	case "file":
		path, err := pathOf(m.url, rest, ok)
		if err != nil {
			return nil, err
		}
		return s.openPeer(ctx, r, path, toWrite)
	case "bucket+file", "dav+http", "dav+https", "s3":
		b, err := bucketAt(r, m)
		if err != nil {
			return nil, err
		}
		return openBucket(r, m, b), nil
	case "http", "https":
		config, err := tlsOf(r, m)
		if err != nil {
			return nil, err
		}
		return httpremote.Open(m.url, httpremote.Options{Unencrypted: m.isInsecure(r), TLS: config, Patience: patience, Tries: tries})
	}
	if strings.HasPrefix(scheme, "git+") {
		return s.openGit(r, m)
	}
	return nil, checkURL(m.url)
}

// bucketAt returns the bucket that a remote is; nil if it is none.
func bucketAt(r *repo.Repo, m remoteStore) (remote.Bucket, error) {
	scheme, rest, _ := strings.Cut(m.url, "://")
	switch scheme {
	case "bucket+file":
		path, err := pathOf(m.url, rest, true)
		return dir.Open(path), err
	case "dav+http", "dav+https":
		config, err := tlsOf(r, m)
		if err != nil {
			return nil, err
		}
		patience, tries := m.patience(r)
		return webdav.Open(m.url, webdav.Options{
			Credentials: davCredentials(), Unencrypted: m.isInsecure(r), TLS: config, Patience: patience, Tries: tries,
		})
	case "s3":
		return openS3(r, m)
	}
	return nil, nil
}

// openBucket opens a bucket. What was read of its indexes is kept in the repository.
func openBucket(r *repo.Repo, m remoteStore, b remote.Bucket) remote.Remote {
	there := bucket.Open(b)
	there.KeepIn(bucketDir(r, m))
	return there
}

// bucketDir is where in the repository copies are kept of what is in a bucket.
func bucketDir(r *repo.Repo, m remoteStore) string {
	return filepath.Join(r.Dir, "buckets", remoteID(m))
}

// pathOf returns the path in a URL of files, or the path that stands for one.
func pathOf(raw, path string, isURL bool) (string, error) {
	if !isURL {
		return path, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(u.Path) {
		return "", usagef("%s: want an absolute path", raw)
	}
	return u.Path, nil
}

// openPeer opens another repository. One that is to be written to is made.
func (s *session) openPeer(ctx context.Context, r *repo.Repo, path string, toWrite bool) (remote.Remote, error) {
	open := repo.Open
	if toWrite {
		open = repo.OpenOrInit
	}
	there, err := open(ctx, path, repo.Options{Warn: func(err error) { s.warn("%s: %v", path, err) }})
	if errors.Is(err, repo.ErrNotRepository) {
		return nil, withHint(err, "the first push makes it; a directory on a share is bucket+file://"+path)
	}
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, there.Close)
	if there.ID() == r.ID() && samePlace(there.Dir, r.Dir) {
		return nil, fmt.Errorf("%s is this repository itself", path)
	}
	return peer.New(there.DB, there.Refs, there), nil
}

func samePlace(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(x, y)
}

// davCredentials are what the environment says; without them ~/.netrc counts. What
// our own servers have made is of no use to others, and not for their eyes.
func davCredentials() auth.Credentials {
	if token := os.Getenv(httpremote.TokenVariable); !auth.IsToken(token) {
		return auth.Credentials{Token: token}
	}
	return auth.Credentials{}
}

// tlsOf returns what a remote's settings say about certificates; nil if nothing.
func tlsOf(r *repo.Repo, m remoteStore) (*tls.Config, error) {
	config, err := auth.TLSFiles{CA: m.setting(r, "caFile"), Cert: m.setting(r, "certFile"), Key: m.setting(r, "keyFile")}.Config()
	if err != nil {
		err = withHint(&aboutRemote{m, err}, fmt.Sprintf("remote.%s.caFile, .certFile and .keyFile are settings that name such files", m.name))
	}
	return config, err
}
