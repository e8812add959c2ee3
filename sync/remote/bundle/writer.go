package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/objects/reach"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Writer writes a bundle. It is a remote that has nothing and takes what it is sent,
// in this process only.
type Writer struct {
	// Known are chunks of big blobs that who imports the bundle has, with what it needs.
	Known reach.Set

	out  io.Writer
	hash hash.Hash
	pack *pack.Writer
}

// NewWriter begins a bundle.
func NewWriter(w io.Writer) (*Writer, error) {
	b := &Writer{hash: sha256.New()}
	b.out = io.MultiWriter(w, b.hash)
	_, err := b.out.Write(binary.BigEndian.AppendUint32([]byte(magic), version))
	b.pack = pack.NewWriter(b.out)
	return b, err
}

// Finish ends the bundle.
func (w *Writer) Finish(c Contents) error {
	if _, err := w.pack.Finish(); err != nil {
		return err
	}
	c.Refs = slices.SortedFunc(slices.Values(c.Refs), func(a, b refs.Ref) int { return strings.Compare(string(a.Name), string(b.Name)) })
	c.Needs, c.Cut = sorted(c.Needs), sorted(c.Cut)
	text := c.encode()
	if len(text) > maxContents {
		return errors.New("more refs than a bundle can hold")
	}
	if _, err := w.out.Write(binary.BigEndian.AppendUint64(text, uint64(len(text)))); err != nil {
		return err
	}
	_, err := w.out.Write(w.hash.Sum(nil))
	return err
}

// Take adds what is in parcels.
func (w *Writer) Take(ctx context.Context, parcels []*odb.Parcel, done func(*odb.Parcel)) error {
	for _, p := range parcels {
		if err := p.WriteTo(ctx, w.pack); err != nil {
			return err
		}
		done(p)
	}
	return nil
}

// Missing returns those of ids that are not known.
func (w *Writer) Missing(_ context.Context, ids []objects.ID) ([]objects.ID, error) {
	return slices.DeleteFunc(slices.Clone(ids), w.Known.Has), nil
}

// Refs yields none.
func (w *Writer) Refs(context.Context, string) iter.Seq2[refs.Ref, error] {
	return func(func(refs.Ref, error) bool) {}
}

// Fetch returns nothing: it is being written.
func (w *Writer) Fetch(context.Context, remote.Request) (io.ReadCloser, error) {
	return nil, objects.ErrNotFound
}

var errOther = errors.New("a bundle is written and read as a whole")

// Upload is what Take is for.
func (w *Writer) Upload(context.Context, io.ReaderAt, int64) error { return errOther }

// Update is what Finish is for.
func (w *Writer) Update(context.Context, ...refs.Update) error { return errOther }

var _ remote.Remote = (*Writer)(nil)
