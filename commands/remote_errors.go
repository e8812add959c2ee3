package commands

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/gitbridge"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// An aboutRemote is an error that says which remote it is about.
type aboutRemote struct {
	remoteStore
	err error
}

func (e *aboutRemote) Error() string { return fmt.Sprintf("%s: %v", e.remoteStore, e.err) }

func (e *aboutRemote) Unwrap() error { return e.err }

// remoteError says which remote an error is about, and what could be done.
func remoteError(m remoteStore, err error) error {
	if err == nil || errors.As(err, new(*aboutRemote)) {
		return err
	}
	hints := remoteHints(m, err)
	if m.name != "" || !strings.Contains(err.Error(), m.url) {
		err = &aboutRemote{m, err}
	}
	return withHint(err, hints...)
}

// remoteHints are the ways out of an error about a remote.
func remoteHints(m remoteStore, err error) []string {
	var said *wire.Error
	if hints := s3Hints(m, err); hints != nil {
		return hints
	}
	switch {
	case errors.As(err, &said) && said.Code == wire.Denied:
		return []string{`who runs the server says who may do what, with "cache-tool token create"`}
	case errors.Is(err, auth.ErrUnencrypted):
		return []string{fmt.Sprintf(`if something else encrypts: "cache-tool config set remote.%s.insecure true"`, cmp.Or(m.name, "NAME"))}
	case errors.Is(err, remote.ErrDenied) && m.isGit():
		return []string{"credentials come from ~/.netrc, from Git's helpers or from $CACHE_TOOL_TOKEN; those of ssh from its agent and ~/.ssh/config"}
	case errors.Is(err, gitbridge.ErrForeign):
		return []string{"a cache wants a Git repository of its own, with nothing in it but what is pushed there"}
	case errors.Is(err, remote.ErrDenied):
		return []string{"credentials come from $CACHE_TOOL_TOKEN, or from ~/.netrc"}
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return []string{fmt.Sprintf(`"cache-tool config set remote.%s.caFile FILE" trusts the authority in FILE; for all programs, so does $SSL_CERT_FILE`, cmp.Or(m.name, "NAME"))}
	case statusOf(err) >= 300 && statusOf(err) < 400:
		return []string{"nobody knows who is there, so nothing was sent. " + setURLHint(m)}
	case errors.Is(err, httpremote.ErrNoServer):
		return []string{"a WebDAV server is dav+https://… or dav+http://…"}
	case errors.Is(err, gitbridge.ErrNoServer):
		return []string{"is the URL right? It is that which git clone takes, with git+ before it. " + setURLHint(m)}
	case errors.Is(err, webdav.ErrNoServer):
		return []string{"a cache-tool server is https://… or http://…, without dav+"}
	case errors.Is(err, syscall.ENOSPC) && !m.isPath():
		return []string{"the disk of the server is full: with more room there, run the command again"}
	case errors.Is(err, pack.ErrBadPack), errors.Is(err, bucket.ErrBadRoot), errors.Is(err, bucket.ErrBadIndex):
		return []string{"nothing of it was believed. If another try says the same, it is damaged at the remote: who has the entries can push them to another one"}
	case said != nil && said.Code == wire.TooLarge:
		return []string{"who runs the server says how much it takes at once: see serve --max-upload"}
	case errors.Is(err, remote.ErrUnreachable) && statusOf(err) >= 500:
		return []string{"the server is in trouble: its log may say why. Run the command again later: it goes on where it stopped"}
	case said == nil && statusOf(err) == http.StatusBadRequest && strings.Contains(m.url, "http://"):
		return []string{"is the URL right? That of a server which encrypts has https in it"}
	case said == nil && statusOf(err) > 0, said != nil && said.Code == wire.NoOperation:
		return []string{"is the URL right? " + setURLHint(m)}
	case errors.Is(err, remote.ErrUnreachable):
		return []string{"run the command again when it answers: it goes on where it stopped. " + setURLHint(m)}
	case errors.Is(err, refs.ErrNameTaken):
		return []string{fmt.Sprintf(`"cache-tool push %s HERE:THERE" gives it another name there; "cache-tool push %s :THERE" deletes the other one`, m, m)}
	case errors.Is(err, objects.ErrNotFound):
		return []string{"the remote lacks what its branches lead to: who has it pushes it again"}
	}
	return hintsOf(err)
}

// statusOf returns the code of the answer that an error is about; 0 if it is about
// none.
func statusOf(err error) int {
	var ours *httpremote.StatusError
	var dav *webdav.StatusError
	var object *s3.StatusError
	var git *gitbridge.StatusError
	switch {
	case errors.As(err, &ours):
		return ours.Code
	case errors.As(err, &dav):
		return dav.Code
	case errors.As(err, &object):
		return object.Code
	case errors.As(err, &git):
		return git.Code
	}
	return 0
}

// setURLHint says how to name another place.
func setURLHint(m remoteStore) string {
	if m.name == "" {
		return "A URL is that of the store itself"
	}
	return fmt.Sprintf(`"cache-tool remote set-url %s URL" changes where it is`, m.name)
}
