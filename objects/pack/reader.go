package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/cache-tool/cache-tool/objects"
	"golang.org/x/sys/unix"
)

// A File is a pack on disk, opened for reading when it is first read from. It
// may be used from many goroutines at once. It is closed when nothing refers to
// it any more.
type File struct {
	path string

	once sync.Once
	fd   int
	err  error
}

// NewFile returns the pack called path, which is not looked at yet.
func NewFile(path string) *File { return &File{path: path} }

// Path returns what NewFile was given.
func (f *File) Path() string { return f.path }

func (f *File) open() error {
	f.once.Do(func() {
		fd, err := openRead(f.path)
		if err != nil {
			f.err = err
			return
		}
		f.fd = fd
		runtime.AddCleanup(f, func(fd int) { unix.Close(fd) }, fd)
		// The header is not looked at: the index has the pack's name and version.
	})
	return f.err
}

func (f *File) readAt(p []byte, off int64) error {
	err := preadFull(f.fd, p, off)
	runtime.KeepAlive(f)
	return err
}

// Size returns the size of the file.
func (f *File) Size() (int64, error) {
	if err := f.open(); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: f.path, Err: err}
	}
	runtime.KeepAlive(f)
	return st.Size, nil
}

// ReadAt makes a File an io.ReaderAt over the bytes of the pack.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if err := f.open(); err != nil {
		return 0, err
	}
	n, err := unix.Pread(f.fd, p, off)
	runtime.KeepAlive(f)
	if err != nil {
		return 0, &os.PathError{Op: "read", Path: f.path, Err: err}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ReadStored reads the block at b as it stands in the pack into dst, which grows
// as needed. Its checksum is not looked at.
func (f *File) ReadStored(b BlockInfo, dst []byte) ([]byte, error) {
	if err := f.open(); err != nil {
		return nil, err
	}
	if n := b.Size(); cap(dst) < n {
		dst = make([]byte, n, max(n, min(2*cap(dst), n+1<<20))) // not anew for each that is a little longer
	} else {
		dst = dst[:n]
	}
	if err := f.readAt(dst, b.Offset); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = badPack("%w", err)
		}
		return nil, fmt.Errorf("pack %s: block at offset %d: %w", f.path, b.Offset, err)
	}
	return dst, nil
}

// Read reads the block at b and decodes it into d. It reads by way of scratch,
// and returns that, grown as needed.
func (f *File) Read(b BlockInfo, d *Data, scratch []byte) ([]byte, error) {
	stored, err := f.ReadStored(b, scratch)
	if err != nil {
		return scratch, err
	}
	if err := d.Decode(stored); err != nil {
		return stored, fmt.Errorf("pack %s: block at offset %d: %w", f.path, b.Offset, err)
	}
	return stored, nil
}

// trailer is the end of a pack.
type trailer struct {
	blocks, records int
	name            objects.ID
}

func parseTrailer(p []byte) (t trailer, err error) {
	if len(p) != trailerSize || p[0] != trailerMark || p[1]|p[2]|p[3] != 0 {
		return t, badPack("it has no trailer")
	}
	t.blocks = int(binary.BigEndian.Uint32(p[4:]))
	records := binary.BigEndian.Uint64(p[8:])
	if records > maxRecords {
		return t, badPack("%d records", records)
	}
	t.records = int(records)
	copy(t.name[:], p[16:])
	return t, nil
}

// CheckSum reads the whole pack of size bytes and proves the SHA-256 at its end,
// which it returns.
func CheckSum(r io.ReaderAt, size int64) (name objects.ID, err error) {
	if size < headerSize+trailerSize {
		return name, badPack("it is cut short")
	}
	var head [headerSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return name, err
	}
	if err := checkMagic(head[:], packMagic, "pack", ErrBadPack); err != nil {
		return name, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size-objects.IDSize)); err != nil {
		return name, err
	}
	var got objects.ID
	h.Sum(got[:0])
	if _, err := r.ReadAt(name[:], size-objects.IDSize); err != nil && !errors.Is(err, io.EOF) {
		return name, err
	}
	if got != name {
		return name, badPack("wrong checksum")
	}
	return name, nil
}
