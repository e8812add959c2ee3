package commands

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/trees"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/sync/auth"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/gitbridge"
	"github.com/cache-tool/cache-tool/sync/remote/httpremote"
	"github.com/cache-tool/cache-tool/sync/remote/s3"
	"github.com/cache-tool/cache-tool/sync/remote/webdav"
	"github.com/cache-tool/cache-tool/sync/transfer"
	"github.com/cache-tool/cache-tool/sync/wire"
)

// An exchange is one conversation of this repository with a remote, for push,
// fetch and pull.
type exchange struct {
	s *session
	r *repo.Repo
	m remoteStore
	remote.Remote

	there   map[refs.Name]objects.ID // the remote's refs as last seen
	stats   transfer.Stats
	settled []trees.Conflict
	meter   *meter

	packSize int64 // of the packs that travel; 0: as usual
}

// exchangeWith begins a conversation with a remote, and learns its refs.
func (s *session) exchangeWith(ctx context.Context, r *repo.Repo, m remoteStore, toWrite bool) (*exchange, error) {
	conn, err := s.connect(ctx, r, m, toWrite)
	if err != nil {
		return nil, err
	}
	x := &exchange{s: s, r: r, m: m, Remote: conn}
	return x, x.look(ctx)
}

// look learns where the remote's refs are.
func (x *exchange) look(ctx context.Context) error {
	x.there = map[refs.Name]objects.ID{}
	for ref, err := range x.Refs(ctx, "refs/") {
		if err != nil {
			return remoteError(x.m, err)
		}
		x.there[ref.Name] = ref.ID
	}
	if x.m.lazy {
		_ = os.Remove(silentFile(x.r)) // it answers
	}
	return nil
}

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

// options of a transfer.
func (x *exchange) options(ctx context.Context) (transfer.Options, error) {
	o := transfer.Options{Promised: x.m.lazy, PackSize: x.packSize}
	if x.meter != nil {
		o.Meter = x.meter
	}
	var err error
	if o.Shallow, err = x.r.Shallow(); err != nil {
		return o, err
	}
	there, ok := x.Remote.(remote.Cutter)
	if !ok {
		return o, nil
	}
	ids, err := there.Shallow(ctx)
	if err != nil {
		return o, remoteError(x.m, err)
	}
	o.ShallowThere = map[objects.ID]bool{}
	for _, id := range ids {
		o.ShallowThere[id] = true
	}
	return o, nil
}

func (x *exchange) count(stats transfer.Stats) {
	x.stats.Objects += stats.Objects
	x.stats.Bytes += stats.Bytes
	x.stats.Packs += stats.Packs
}

// send makes sure that the remote has tips with all that they lead to. It returns the
// commits at which what was sent ends, since history was cut off here.
func (x *exchange) send(ctx context.Context, tips []objects.ID, dryRun bool) (cut []objects.ID, err error) {
	o, err := x.options(ctx)
	if err != nil {
		return nil, err
	}
	o.DryRun = dryRun
	if x.m.lazy {
		ctx = odb.Local(ctx) // what is not here is there
	}
	var have []objects.ID
	for _, id := range x.there {
		have = append(have, id)
	}
	stats, err := transfer.Send(ctx, x.r.DB, x.Remote, tips, have, o)
	x.count(stats)
	return stats.Cut, remoteError(x.m, err)
}

// move moves refs of the remote, after all was sent that they lead to.
func (x *exchange) move(ctx context.Context, cut []objects.ID, updates []refs.Update) error {
	there, ok := x.Remote.(remote.Cutter)
	if !ok {
		return collected(x.Update(ctx, updates...)) // which says what it lacks
	}
	return collected(there.UpdateCut(ctx, cut, updates...))
}

// errCollected says that the remote lacks something of which it did not say so before.
var errCollected = errors.New("what was there has been collected meanwhile")

func collected(err error) error {
	if errors.Is(err, objects.ErrNotFound) {
		return fmt.Errorf("%w: %w", errCollected, err)
	}
	return err
}

// bring makes sure that tips are here: their commits alone if lazy, else with all
// that they lead to.
//
// Then is called while nobody can collect what has come, and makes refs lead to it.
func (x *exchange) bring(ctx context.Context, tips []objects.ID, lazy bool, then func(context.Context) error) error {
	o, err := x.options(ctx)
	if err != nil {
		return err
	}
	var failed error
	o.Then = func(ctx context.Context, stats transfer.Stats) error {
		if failed = x.noteCuts(ctx, stats); failed == nil {
			failed = then(ctx)
		}
		return failed
	}
	have, err := x.known(ctx)
	if err != nil {
		return err
	}
	fetch := transfer.Fetch
	if lazy {
		fetch = transfer.FetchHistory
	}
	stats, err := fetch(ctx, x.r.DB, x.Remote, tips, have, o)
	x.count(stats)
	if failed != nil {
		return failed // which is not the remote's fault
	}
	return remoteError(x.m, err)
}

// again calls fn, and once more as long as what it misses at the remote may have been
// collected because a branch has moved on.
func (x *exchange) again(ctx context.Context, fn func() error) error {
	const tries = 10
	for try := 1; ; try++ {
		err := fn()
		if !errors.Is(err, objects.ErrNotFound) || try == tries {
			return err
		}
		before := x.there
		if x.look(ctx) != nil || maps.Equal(before, x.there) {
			return err
		}
	}
}

// noteCuts notes where the history ends that has come, before a ref leads to it.
func (x *exchange) noteCuts(ctx context.Context, stats transfer.Stats) error {
	if len(stats.Cut)+len(stats.Whole) == 0 {
		return nil
	}
	return x.r.EditShallow(ctx, func(shallow map[objects.ID]bool) {
		for _, id := range stats.Cut {
			shallow[id] = true
		}
		for _, id := range stats.Whole {
			delete(shallow, id)
		}
	})
}

// known returns the commits that are here with all that they lead to, or, in a
// lazy repository, with all their history.
func (x *exchange) known(ctx context.Context) ([]objects.ID, error) {
	var have []objects.ID
	for ref, err := range x.r.Refs.All(ctx, "refs/") {
		if err != nil {
			x.s.warn("%v", err)
			continue
		}
		have = append(have, ref.ID)
	}
	return have, nil
}

// tracking returns the ref that remembers where a branch of the remote is; empty
// for a remote without a name, and for what is no branch.
func (x *exchange) tracking(branch refs.Name) refs.Name {
	if x.m.name == "" || !branch.IsBranch() {
		return ""
	}
	return refs.Remote(x.m.name, branch.Short())
}

// remember notes where a branch of the remote is now; zero if it is gone.
func (x *exchange) remember(ctx context.Context, branch refs.Name, id objects.ID, why string) error {
	name := x.tracking(branch)
	if name == "" {
		return nil
	}
	for {
		old, err := x.r.Refs.Get(ctx, name)
		if err != nil && !errors.Is(err, refs.ErrNotFound) {
			return err
		}
		if old == id {
			return nil
		}
		err = x.r.Refs.Apply(ctx, refs.Update{Name: name, Old: old, New: id, Reason: why})
		if !errors.As(err, new(*refs.ConflictError)) {
			return err
		}
	}
}

// merge brings a commit of the remote into a branch. What reached the remote first
// stays; which keys that concerns is told at the end.
func (x *exchange) merge(ctx context.Context, branch refs.Name, theirs objects.ID) (repo.Merged, error) {
	const tries = 20
	message := fmt.Sprintf("Merge %s of %s", branch.Short(), x.m)
	o, err := x.options(ctx)
	if err != nil {
		return repo.Merged{}, err
	}
	for try := 1; ; try++ {
		merged, err := x.r.MergeCut(ctx, branch, theirs, o.ShallowThere, repo.Theirs, message)
		if errors.As(err, new(*refs.ConflictError)) && try < tries {
			continue // somebody here committed meanwhile
		}
		x.settled = append(x.settled, merged.Settled...)
		if merged.Baseless {
			x.s.warn("the history of %s at %s was cut off, and where it was before is not known here: what was taken out there may have come back", shown(branch.Short()), x.m)
		}
		return merged, err
	}
}

// A settledJSON is an entry that both sides had made, each in its own way.
type settledJSON struct {
	Kind entry.Kind `json:"kind"`
	Key  string     `json:"key"`
}

// settledEntries names what was settled.
func (x *exchange) settledEntries(ctx context.Context) []settledJSON {
	var list []settledJSON
	for _, c := range x.settled {
		d := describeConflict(ctx, x.r, c.Path, c.Base, c.Ours, c.Theirs)
		list = append(list, settledJSON{d.Kind, d.Key})
	}
	return list
}

// warnOfSettled tells which entries differ here and there: a build whose result
// depends on more than its key is worth knowing about.
func (x *exchange) warnOfSettled(list []settledJSON) {
	if len(list) == 0 {
		return
	}
	const most = 5
	var names []string
	for i, e := range list {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		names = append(names, shown(shownPath(e.Kind, e.Key)))
	}
	what := "has other bytes"
	if len(list) > 1 {
		what = "have other bytes"
	}
	x.s.warn("%s %s here than at %s: what was there first stays: %s", counted(len(list), "entry"), what, x.m, strings.Join(names, ", "))
}

// A movedRef is what became of one ref of a push, a fetch or a pull.
type movedRef struct {
	Ref    string      `json:"ref"` // where it was written
	Old    *objects.ID `json:"old,omitempty"`
	New    *objects.ID `json:"new,omitempty"`
	Status string      `json:"status"` // see the constants
}

// What becomes of a ref.
const (
	refUpToDate = "up to date"
	refCreated  = "new"
	refUpdated  = "updated"
	refMerged   = "merged"
	refForced   = "forced"
	refDeleted  = "deleted"
	refPulled   = "pulled" // a push found that the branch here was behind
)

func moved(name refs.Name, old, now objects.ID, status string) movedRef {
	m := movedRef{Ref: string(name), Status: status}
	if !old.IsZero() {
		m.Old = &old
	}
	if !now.IsZero() {
		m.New = &now
	}
	return m
}

// An exchangedJSON is what --json says of a push, a fetch or a pull.
type exchangedJSON struct {
	Remote  string        `json:"remote"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Refs    []movedRef    `json:"refs"`
	Objects int           `json:"objects"`
	Bytes   int64         `json:"bytes"` // of packs
	Packs   int           `json:"packs"`
	Settled []settledJSON `json:"settled,omitempty"`
}

// show tells what a push, fetch or pull came to: a line for each ref that moved,
// or one for all.
func (x *exchange) show(ctx context.Context, verb string, dryRun bool, list []movedRef) error {
	if len(x.there) == 0 && verb != "push" {
		x.s.warn("there is nothing at %s yet: the first push to it brings something", shown(x.m.String()))
	}
	settled := x.settledEntries(ctx)
	x.warnOfSettled(settled)
	if list == nil {
		list = []movedRef{}
	}
	if x.s.json {
		return x.s.answer(exchangedJSON{x.m.String(), dryRun, list, x.stats.Objects, x.stats.Bytes, x.stats.Packs, settled})
	}
	var parts []string
	for _, m := range list {
		if m.Status == refUpToDate {
			continue
		}
		part := shown(refs.Name(m.Ref).Short()) + " " + m.Status
		if m.New != nil {
			part += " " + m.New.Short()
		}
		parts = append(parts, part)
	}
	if dryRun {
		verb += " (dry run)"
	}
	switch {
	case len(parts) == 0 && x.stats.Objects == 0:
		x.s.say("%s %s: everything is up to date", verb, shown(x.m.String()))
		return nil
	case len(parts) == 0:
		parts = append(parts, "no branch moved")
	}
	if dryRun && x.stats.Objects == 0 { // what would come is not known
		x.s.say("%s %s: %s", verb, shown(x.m.String()), strings.Join(parts, ", "))
		return nil
	}
	x.s.say("%s %s: %s (%s, %s)", verb, shown(x.m.String()), strings.Join(parts, ", "), counted(x.stats.Objects, "object"), size(x.stats.Bytes))
	return nil
}
