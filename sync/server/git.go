package server

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/gitpack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/gitwire"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// GitObjects are the objects that Git clients are sent. They are Git's own already,
// id for id.
type GitObjects interface {
	objects.Reader
	gitpack.ManyReader

	// Stat returns kind and size of an object, or objects.ErrNotFound.
	Stat(ctx context.Context, id objects.ID) (objects.Kind, int64, error)

	// Prefetch says that these objects will be read. Those that lie elsewhere may come
	// all at once. That one is not to be had is no error.
	Prefetch(ctx context.Context, ids []objects.ID) error
}

// A Warmer is GitObjects that lie elsewhere, where each costs a request.
type Warmer interface {
	// Warm says that the commits and trees will be read that tips lead to, up to the
	// commits cut and what have lead to.
	Warm(ctx context.Context, tips, have []objects.ID, cut map[objects.ID]bool) error
}

const (
	// gitPath is what comes before the name of the repository. That may be any: there
	// is one, and Git calls the clone after it.
	gitPath = "/git/"

	// maxGitRequest is how many bytes a request of Git may have, decompressed: a
	// million ids.
	maxGitRequest = 80 << 20
)

// gitDialect is for Git clients before it is known that they are some: text, of which
// they show what comes with an error.
var gitDialect = dialect{
	content: gitwire.AdvertiseType,
	failure: func(e *wire.Error) (int, string, []byte) {
		return e.Status(), "text/plain; charset=utf-8", []byte(e.Message + "\n")
	},
}

// gitResult is for Git clients that have asked for something. They would not show a
// message with an HTTP error.
var gitResult = dialect{
	content: gitwire.ResultType,
	wait:    gitwire.KeepAlive,
	failure: func(e *wire.Error) (int, string, []byte) {
		return http.StatusOK, gitwire.ResultType, gitwire.Refusal(e.Message)
	},
}

// git answers a Git client, which may read and nothing else.
func (x *exchange) git() error {
	x.op, x.dialect = "git", gitDialect
	_, what, _ := strings.Cut(strings.TrimPrefix(x.r.URL.Path, gitPath), "/")
	service := x.r.URL.Query().Get("service")
	switch {
	case x.s.o.Objects == nil:
		return wire.Errorf(wire.NoOperation, "Git clients are not served here")
	case what == "git-receive-pack" || what == "info/refs" && service == "git-receive-pack":
		return wire.Errorf(wire.Denied, "Git clients can only read here; what is to be pushed goes through cache-tool: cache-tool push URL")
	case what == "info/refs" && service == "git-upload-pack":
		return x.gitAdvertise()
	case what == "git-upload-pack":
		return x.gitRequest()
	}
	return wire.Errorf(wire.NoOperation, "no such page; this is what Git clones: git clone http://HOST/git/NAME")
}

// gitVersion2 reports whether the client speaks the version that is spoken here. Git
// does since 2.26, where nobody has told it not to.
func (x *exchange) gitVersion2() bool {
	versions := strings.Split(x.r.Header.Get(gitwire.VersionHeader), ":")
	return slices.Contains(versions, "version=2")
}

const oldGit = "this server speaks version 2 of Git's protocol only: git -c protocol.version=2, with Git 2.29 or later"

// gitAdvertise says what Git clients can ask for.
func (x *exchange) gitAdvertise() error {
	if x.r.Method != http.MethodGet {
		return wire.Errorf(wire.BadMethod, "info/refs is a GET")
	}
	if err := x.identify(); err != nil {
		return err
	}
	if err := x.mayEnter(false); err != nil {
		return err
	}
	body := gitwire.Advertisement()
	if !x.gitVersion2() {
		body = gitwire.OldRefusal(oldGit)
	}
	x.answer(http.StatusOK, gitwire.AdvertiseType, body)
	return nil
}

// gitRequest answers one command.
func (x *exchange) gitRequest() error {
	switch {
	case x.r.Method != http.MethodPost:
		return wire.Errorf(wire.BadMethod, "git-upload-pack is a POST")
	case x.r.Header.Get("Content-Type") != gitwire.RequestType:
		return wire.Errorf(wire.BadType, "the body is to be %s", gitwire.RequestType)
	}
	if err := x.identify(); err != nil {
		return err
	}
	if err := x.mayEnter(false); err != nil {
		return err
	}
	x.dialect = gitResult
	if !x.gitVersion2() {
		return wire.Errorf(wire.BadRequest, oldGit)
	}
	leave, err := x.s.limits.enter(x.r.Context(), x.who.key)
	if err != nil {
		return err
	}
	defer leave()
	q, release, err := x.readGit()
	if err != nil {
		return err
	}
	defer release()
	store := x.s.o.Open()
	var done func()
	x.objects, done = x.s.o.Objects()
	defer done()
	if q.List != nil {
		x.op = "git-refs"
		return x.gitRefs(store, q.List)
	}
	x.op = "git-fetch"
	return x.gitFetch(store, q.Fetch)
}

// readGit reads the body, which is of no known length when Git compresses it, or has
// much to ask for.
func (x *exchange) readGit() (q gitwire.Request, release func(), err error) {
	h := &held{x: x, r: x.body()}
	switch x.r.Header.Get("Content-Encoding") {
	case "":
	case "gzip", "x-gzip":
		if h.r, err = gzip.NewReader(h.r); err != nil {
			return q, nil, wire.Errorf(wire.BadRequest, "the body is no gzip: %v", err)
		}
	default:
		return q, nil, wire.Errorf(wire.BadType, "the body is to be as it is, or gzip")
	}
	q, err = gitwire.ParseRequest(h)
	if err != nil {
		h.release()
		if e := wire.AsError(err); e.Code == wire.Internal { // of gzip, too
			err = wire.Errorf(wire.BadRequest, "%v", err)
		}
		return q, nil, err
	}
	return q, h.release, nil
}

// A held body takes its share of the memory for messages while it comes.
type held struct {
	x    *exchange
	r    io.Reader
	n    int64 // bytes that have come
	took int64 // bytes of memory
}

const heldStep = 1 << 20

func (h *held) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.n += int64(n)
	if h.n > maxGitRequest {
		return 0, wire.Errorf(wire.TooLarge, "a request of more than %d bytes", maxGitRequest)
	}
	for h.n > h.took {
		l := h.x.s.limits
		if _, err := l.hold(h.x.r.Context(), l.memory, heldStep); err != nil {
			return 0, err
		}
		h.took += heldStep
	}
	return n, err
}

func (h *held) release() { h.x.s.limits.memory.Release(h.took) }

// gitRefs answers with the branches and tags that the client may read.
func (x *exchange) gitRefs(store Store, q *gitwire.List) error {
	var answer []byte
	err := x.work(func(ctx context.Context) error {
		all, err := x.gitReadable(ctx, store)
		if err != nil {
			return err
		}
		head, err := x.gitHead(ctx, all)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(all, func(r refs.Ref) bool { return r.Name == head }); i >= 0 || q.Unborn && head != "" {
			line := gitwire.Ref{Name: "HEAD"}
			if i >= 0 {
				line.ID = all[i].ID
			}
			if q.Symrefs {
				line.Symref = string(head)
			}
			if wanted(q, line.Name) {
				answer = gitwire.AppendRef(answer, line)
			}
		}
		if q.Peel {
			if err := x.prefetchTags(ctx, all); err != nil {
				return err
			}
		}
		for _, ref := range all {
			line := gitwire.Ref{Name: string(ref.Name), ID: ref.ID}
			if !wanted(q, line.Name) {
				continue
			}
			if q.Peel && ref.Name.IsTag() {
				if line.Peeled, err = x.peeled(ctx, ref.ID); err != nil {
					return fmt.Errorf("%s: %w", ref.Name, err)
				}
			}
			answer = gitwire.AppendRef(answer, line)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.answer(http.StatusOK, gitwire.ResultType, append(answer, gitwire.Flush...))
	return nil
}

func wanted(q *gitwire.List, name string) bool {
	return len(q.Prefixes) == 0 || slices.ContainsFunc(q.Prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// gitReadable returns the branches and tags that the client may read. What the
// repository remembers of its own remotes is nobody's business.
func (x *exchange) gitReadable(ctx context.Context, store Store) ([]refs.Ref, error) {
	all, err := x.readable(ctx, store, "refs/")
	return slices.DeleteFunc(all, func(r refs.Ref) bool { return !r.Name.IsBranch() && !r.Name.IsTag() }), err
}

// gitHead returns the branch that a clone checks out: the repository's own, or the
// one that there is for who may not read that.
func (x *exchange) gitHead(ctx context.Context, all []refs.Ref) (refs.Name, error) {
	if x.s.o.Head == nil {
		return "", nil
	}
	head, err := x.s.o.Head(ctx)
	if err != nil || x.who.rules.Reads(head) {
		return head, err
	}
	var branches []refs.Name
	for _, r := range all {
		if r.Name.IsBranch() {
			branches = append(branches, r.Name)
		}
	}
	if len(branches) == 1 {
		return branches[0], nil
	}
	return "", nil
}

func (x *exchange) prefetchTags(ctx context.Context, all []refs.Ref) error {
	var tags []objects.ID
	for _, r := range all {
		if r.Name.IsTag() {
			tags = append(tags, r.ID)
		}
	}
	return x.objects.Prefetch(ctx, tags)
}

// peeled returns what is behind an annotated tag, and zero if it is none.
func (x *exchange) peeled(ctx context.Context, id objects.ID) (objects.ID, error) {
	r := x.objects
	kind, _, err := r.Stat(ctx, id)
	if err != nil || kind != objects.Tag {
		return objects.ID{}, err
	}
	for kind == objects.Tag {
		t, err := objects.ReadTag(ctx, r, id)
		if err != nil {
			return objects.ID{}, err
		}
		id, kind = t.Object, t.Kind
	}
	return id, nil
}
