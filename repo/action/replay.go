package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/cache-tool/cache-tool/objects"
)

// emptyBlob is the id of what most commands print.
var emptyBlob = objects.Sum(objects.Blob, nil)

// A transcript is what a command printed when the result was made, proven and
// ready to be printed again.
type transcript struct {
	streams [2]readerOfSize
	order   Order
}

type readerOfSize struct {
	io.Reader
	size int64
	file *os.File // that holds it, if it is long
}

// readTranscript fetches what was printed. Nothing is printed before all of it
// is there.
func readTranscript(ctx context.Context, r Store, stdout, stderr, order objects.ID) (t transcript, err error) {
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	for s, id := range [...]objects.ID{Stdout: stdout, Stderr: stderr} {
		if t.streams[s], err = openPrinted(ctx, r, id); err != nil {
			return t, fmt.Errorf("read what was printed: %w", err)
		}
	}
	switch {
	case t.streams[Stderr].size == 0 && t.streams[Stdout].size == 0:
		return t, nil
	case t.streams[Stderr].size == 0:
		t.order = oneStream(Stdout, t.streams[Stdout].size)
	case t.streams[Stdout].size == 0:
		t.order = oneStream(Stderr, t.streams[Stderr].size)
	default:
		t.order, err = objects.ReadKind(ctx, r, order, objects.Blob)
	}
	if err != nil {
		return t, fmt.Errorf("read the order of what was printed: %w", err)
	}
	return t, t.order.Replay(t.streams[Stdout].size, t.streams[Stderr].size, func(Stream, int64) error { return nil })
}

func oneStream(s Stream, n int64) Order {
	var w orderWriter
	w.add(s, int(n))
	w.flush()
	return w.order
}

func openPrinted(ctx context.Context, r Store, id objects.ID) (readerOfSize, error) {
	if id == emptyBlob {
		return readerOfSize{Reader: bytes.NewReader(nil)}, nil
	}
	body, long, err := readBlob(ctx, r, id, maxWhole)
	if err != nil {
		return readerOfSize{}, err
	}
	if long == nil {
		return readerOfSize{Reader: bytes.NewReader(body), size: int64(len(body))}, nil
	}
	defer long.Close()
	f, err := anonymousFile()
	if err != nil {
		return readerOfSize{}, err
	}
	n, err := io.Copy(f, long)
	if err != nil {
		f.Close()
		return readerOfSize{}, err
	}
	return readerOfSize{Reader: io.NewSectionReader(f, 0, n), size: n, file: f}, nil
}

// print prints it all, mixed as it was.
func (t *transcript) print(out streams) error {
	return t.order.Replay(t.streams[Stdout].size, t.streams[Stderr].size, func(s Stream, n int64) error {
		_, err := io.CopyN(out[s], t.streams[s], n)
		return err
	})
}

func (t *transcript) close() {
	for _, s := range t.streams {
		if s.file != nil {
			s.file.Close()
		}
	}
}
