// Package remote says what another store must be able to do so that this one
// can be replicated with it, and what a place for files must be able to do so
// that package bucket can make such a store of it.
//
// Who implements one of the two interfaces runs the suite of package remotetest.
package remote

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

// A Remote is another store: another repository, a bucket, a server. It may be
// used from many goroutines at once, but is one conversation: two pushes at the
// same time take two. What it returns is not to be trusted: ids are proven by
// whoever takes objects into a store.
type Remote interface {
	// Refs yields the refs whose names begin with prefix, in the order of their
	// names, as they were at one moment.
	Refs(ctx context.Context, prefix string) iter.Seq2[refs.Ref, error]

	// Missing returns those of ids that the remote lacks, in the order given. They
	// may be ids of objects and of chunks of big blobs. What is not missing stays
	// at least until an Update of this Remote, or that Update says ErrStale.
	Missing(ctx context.Context, ids []objects.ID) ([]objects.ID, error)

	// Fetch returns a pack with the objects of r. If the remote lacks one of
	// r.Want it fails, at once or from Read, with objects.ErrNotFound.
	Fetch(ctx context.Context, r Request) (io.ReadCloser, error)

	// Upload adds the objects of a pack. Nil means that they are durable, and no
	// longer missing. ErrStale is an answer as it is of Update: a part of what is in
	// the pack may be about to go.
	Upload(ctx context.Context, pack io.ReaderAt, size int64) error

	// Update moves refs, all or none, durably. A *refs.ConflictError says which is
	// not where it was expected; refs.ErrNameTaken is another answer, and so is
	// ErrStale. A ref is not moved to an object that the remote lacks. After any
	// other error the refs may have moved.
	Update(ctx context.Context, updates ...refs.Update) error
}

// A Request says what to fetch.
type Request struct {
	// Want are objects, and chunks of big blobs. A big blob comes as its recipe,
	// its chunks are wanted by their own ids. A tree that is kept as a delta comes
	// with its base, in any order, unless Have names that, or Holds knows it.
	Want []objects.ID

	// Have are objects that the caller holds with all that they lead to.
	Have []objects.ID

	// Holds, if not nil, reports whether the caller has a tree. It is asked beside what
	// else happens, by remotes that look for bases one by one, and others ignore it.
	Holds func(tree objects.ID) bool

	// Shallow are commits whose parents the caller has cut off: Have lead no further.
	Shallow []objects.ID

	// Extent is how much of what Want lead to may come along. A remote that is no
	// program cannot follow objects: of such a one callers get what they want and
	// no more, look at it, and ask again.
	Extent Extent

	// Neighbours says that the caller may see all that the remote has: blocks of which
	// nearly all is wanted may come as they are. A server decides that itself.
	Neighbours bool
}

// Extent is how far a fetch goes beyond the objects that it wants.
type Extent uint8

// The extents. In all of them more objects may come than were asked for, such
// as the neighbours of an object in its block.
const (
	Only    Extent = iota // the wanted objects
	History               // and the commits behind them
	Closure               // and all that they lead to
)

// A PathFetcher is a Remote that finds objects by their paths, so that a look-up in
// a lazy repository takes one request and not one for each tree on the way.
type PathFetcher interface {
	// FetchPaths returns a pack with the trees that lead to each of paths. Of what
	// stands there and below it as much comes along as budget allows, in bytes of
	// bodies, trees before blobs; big blobs come as their recipes. A path that is
	// not there is no error: the trees say so. A root that is not there is
	// objects.ErrNotFound.
	FetchPaths(ctx context.Context, paths []Path, budget int64) (io.ReadCloser, error)
}

// A BaseProber is a Remote that can say which trees it keeps whole, so that others
// may be sent as their differences to them.
type BaseProber interface {
	// MissingBases returns those of ids that the remote does not keep as whole
	// trees, in the order given. The others stay as those that are not Missing do.
	MissingBases(ctx context.Context, ids []objects.ID) ([]objects.ID, error)
}

// A Cutter is a Remote whose history may have been cut off: some of its commits count
// as having no parents, as Git's shallow says.
type Cutter interface {
	// Shallow returns the commits whose parents were cut off there, as of the last
	// Refs of this Remote or later.
	Shallow(ctx context.Context) ([]objects.ID, error)

	// UpdateCut is Update by one who has himself cut history off, at the commits cut. Those
	// of them that the refs come to lead to, and were not led to before, are cut off
	// there in the same step, unless the remote has their parents with all that these
	// lead to: nobody can hide what is there.
	UpdateCut(ctx context.Context, cut []objects.ID, updates ...refs.Update) error
}

// MaxUses is how many uses a UseNoter is told of at once.
const MaxUses = 64 << 10

// A UseNoter is a Remote that remembers when entries were used, so that a gc of it
// knows what others need. To lose some is no harm: who tells does so once.
type UseNoter interface {
	// NoteUses notes at most MaxUses uses, with one request at most.
	NoteUses(ctx context.Context, t uses.Table) error
}

// A Path is a place in a tree.
type Path struct {
	Root objects.ID // a commit or a tree
	Path string     // as in package trees
}

// A Bucket keeps files, with one of them, the root, to say which count. It may
// be used from many goroutines at once, and by many processes on many machines.
//
// Names are those of CheckName. A file is immutable: the same name is always
// given to the same bytes.
type Bucket interface {
	// Get opens n bytes of a file, from off on; all that follow if n is negative.
	// A file that is not there is ErrNotFound; one that ends before the n bytes do
	// ends in io.ErrUnexpectedEOF, and so does one that is cut short on its way.
	Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)

	// Put keeps a file of size bytes. Readers see all of it or nothing. After nil
	// it is durable, as far as the storage can promise that. It is no error if the
	// file is there already.
	Put(ctx context.Context, name string, body io.ReaderAt, size int64) error

	// List yields the files in a directory, one of Dirs, in any order. Those that
	// come or go meanwhile may be left out.
	List(ctx context.Context, dir string) iter.Seq2[Info, error]

	// Delete removes a file. It is no error if that is not there.
	Delete(ctx context.Context, name string) error

	// Root returns the root, the zero Root if the bucket has none yet.
	Root(ctx context.Context) (Root, error)

	// Swap makes next the root, durably, if old still is: of all who want to
	// replace old one wins. The others get ErrLost, and nothing has changed.
	// After any other error, or if that is ErrUnsure too, it may have happened, or
	// may still happen. A zero old makes the first root. next.Seq must be old.Seq + 1, and its Nonce new.
	Swap(ctx context.Context, old, next Root) error
}

// A Tidier is a Bucket in which somebody who was killed may leave what no List shows.
type Tidier interface {
	// Tidy drops it, if it is older than age by the clock of the storage, if that tells one.
	Tidy(ctx context.Context, age time.Duration) error
}

// The errors that callers tell apart.
var (
	// ErrNotFound says that a bucket has no such file.
	ErrNotFound = errors.New("no such file in the bucket")

	// ErrLost says that somebody else has replaced the root.
	ErrLost = errors.New("somebody else was faster")

	// ErrStale says that something which was not missing is about to be collected:
	// ask again what is missing, upload that, and update again.
	ErrStale = errors.New("the remote's packs have changed: what is missing must be asked again")

	// ErrNotCommit says that a branch was to be moved to something else.
	ErrNotCommit = errors.New("a branch points to commits only")

	// ErrDenied says that the remote knows us and refuses, or does not know us.
	ErrDenied = errors.New("access denied")

	// ErrUnsure says that what was asked for may have been done, and then been undone
	// by others: nobody can know any more.
	ErrUnsure = errors.New("the reply was lost")

	// ErrUnreachable says that the remote was asked as often as there is sense in,
	// and does not answer, or not with more than an error.
	ErrUnreachable = errors.New("the remote does not answer")
)

// Unreachable makes an ErrUnreachable of err, which says more about it.
func Unreachable(err error) error { return unreachable{err} }

type unreachable struct{ error }

func (u unreachable) Is(target error) bool { return target == ErrUnreachable }
func (u unreachable) Unwrap() error        { return u.error }
