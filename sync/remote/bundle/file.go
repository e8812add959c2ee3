package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A File is a bundle that is there as a whole: a remote that can only be read.
type File struct {
	Contents
	Objects int // and chunks of big blobs

	pack *io.SectionReader
	ids  reach.Set
}

// Open reads all of a bundle of size bytes, and returns it if there is nothing wrong
// with it: whoever fetches from it is not left with half of it. Damage is ErrBad, or
// pack.ErrBadPack; a newer version is a *VersionError.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*File, error) {
	f := new(File)
	if err := f.readContents(ctx, r, size); err != nil {
		return nil, err
	}
	err := pack.Scan(f.pack, f.pack.Size(), func(_ pack.BlockInfo, d *pack.Data, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		for i := 0; err == nil && i < d.Len(); i++ {
			t, body := d.Record(i)
			var id objects.ID
			if id, err = pack.RecordID(t, body); err == nil && f.ids.Add(id) {
				f.Objects++
			}
		}
		return err
	})
	return f, err
}

// A VersionError says that a bundle was written by a newer cache-tool.
type VersionError struct{ Version uint32 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("bundle of version %d: this cache-tool reads up to version %d; a newer one is needed", e.Version, version)
}

func (f *File) readContents(ctx context.Context, r io.ReaderAt, size int64) error {
	var head [headSize]byte
	if n, err := r.ReadAt(head[:], 0); n < headSize || string(head[:4]) != magic {
		if err != nil && err != io.EOF {
			return err
		}
		return bad("it does not begin as a bundle does")
	}
	if v := binary.BigEndian.Uint32(head[4:]); v != version {
		return &VersionError{v}
	}
	if size < headSize+trailerSize {
		return bad("it is cut short")
	}
	// First: what it says of itself is not believed before.
	if err := checkSum(ctx, r, size-objects.IDSize); err != nil {
		return err
	}
	var length [8]byte
	if _, err := r.ReadAt(length[:], size-trailerSize); err != nil {
		return err
	}
	room := size - headSize - trailerSize
	n := binary.BigEndian.Uint64(length[:])
	if n > maxContents || n > uint64(room) {
		return bad("contents of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, size-trailerSize-int64(n)); err != nil && n > 0 {
		return err
	}
	f.pack = io.NewSectionReader(r, headSize, room-int64(n))
	var err error
	f.Contents, err = parseContents(string(text))
	return err
}

// checkSum reads n bytes and the sum that follows them.
func checkSum(ctx context.Context, r io.ReaderAt, n int64) error {
	sum := sha256.New()
	body := io.NewSectionReader(r, 0, n+objects.IDSize)
	for left := n; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		copied, err := io.CopyN(sum, body, min(left, 8<<20))
		left -= copied
		if err != nil {
			return err
		}
	}
	var want [objects.IDSize]byte
	if _, err := io.ReadFull(body, want[:]); err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		return bad("its bytes have not the sum that they had when it was written, or not all of them are there")
	}
	return nil
}

// Refs yields what the bundle brings.
func (f *File) Refs(_ context.Context, prefix string) iter.Seq2[refs.Ref, error] {
	return func(yield func(refs.Ref, error) bool) {
		for _, r := range f.Contents.Refs {
			if strings.HasPrefix(string(r.Name), prefix) && !yield(r, nil) {
				return
			}
		}
	}
}

// Missing returns those of ids that the bundle lacks.
func (f *File) Missing(ctx context.Context, ids []objects.ID) (missing []objects.ID, err error) {
	for _, id := range ids {
		if !f.ids.Has(id) {
			missing = append(missing, id)
		}
	}
	return missing, ctx.Err()
}

// Fetch returns the whole pack, whatever is wanted of it: it has no index.
func (f *File) Fetch(ctx context.Context, q remote.Request) (io.ReadCloser, error) {
	missing, err := f.Missing(ctx, q.Want)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s is not in the bundle: %w", missing[0].Short(), objects.ErrNotFound)
	}
	return io.NopCloser(io.NewSectionReader(f.pack, 0, f.pack.Size())), nil
}

// Shallow returns the commits whose parents were cut off.
func (f *File) Shallow(context.Context) ([]objects.ID, error) { return f.Cut, nil }

// Upload is refused.
func (f *File) Upload(context.Context, io.ReaderAt, int64) error { return errOther }

// Update is refused.
func (f *File) Update(context.Context, ...refs.Update) error { return errOther }

// UpdateCut is refused.
func (f *File) UpdateCut(context.Context, []objects.ID, ...refs.Update) error { return errOther }

var (
	_ remote.Remote = (*File)(nil)
	_ remote.Cutter = (*File)(nil)
)
