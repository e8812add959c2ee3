package bucket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"

	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// usesDir has a file for each time that somebody told which entries were used, called
// after the day and something random. No root names them. A file is
//
//	4 bytes   "CTBU"
//	4 bytes   version, 1
//	n bytes   a table as it travels: see uses.Table
//	4 bytes   CRC-32C of the bytes above
const (
	usesDir   = "uses"
	usesMagic = "CTBU\x00\x00\x00\x01"

	manyUses = 16      // files that are left as they are
	mostUses = 4 << 20 // records in a file
	maxUses  = 8 + 4 + 12*mostUses + crcSize
)

// NoteUses puts uses into the bucket, for whoever collects it.
func (r *Remote) NoteUses(ctx context.Context, t uses.Table) error {
	if err := ctx.Err(); err != nil || len(t) == 0 {
		return err
	}
	data := append([]byte(usesMagic), t.Newest(mostUses).Encode()...)
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	name := fmt.Sprintf("%s/%s-%016x", usesDir, time.Now().UTC().Format(time.DateOnly), rand.Uint64())
	return r.b.Put(ctx, name, bytes.NewReader(data), int64(len(data)))
}

// Uses returns what is in the bucket of uses, and the names of the files that tell.
// What is damaged tells nothing.
func (r *Remote) Uses(ctx context.Context) (t uses.Table, files []string, err error) {
	for try := 1; ; try++ {
		t, files, err = r.uses(ctx)
		// Somebody may have folded them meanwhile.
		if !errors.Is(err, remote.ErrNotFound) || try == tries {
			return t.Until(uses.Tomorrow(time.Now())), files, err
		}
	}
}

func (r *Remote) uses(ctx context.Context) (uses.Table, []string, error) {
	var files []string
	for info, err := range r.b.List(ctx, usesDir) {
		if err != nil {
			return nil, nil, err
		}
		files = append(files, info.Name)
	}
	t := uses.Table{}
	for _, name := range files {
		data, err := r.readAll(ctx, name, maxUses+1)
		if err != nil {
			return nil, nil, err
		}
		if part, ok := parseUses(data); ok {
			t.Merge(part)
		}
	}
	return t, files, nil
}

func parseUses(data []byte) (uses.Table, bool) {
	end := len(data) - crcSize
	if end < len(usesMagic) || string(data[:len(usesMagic)]) != usesMagic || crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return nil, false
	}
	t, err := uses.Parse(data[len(usesMagic):end], mostUses)
	return t, err == nil
}

// FoldUses replaces files by one that tells what they did, if they are many. Of what was
// used before since nothing is kept.
func (r *Remote) FoldUses(ctx context.Context, t uses.Table, files []string, since int32) error {
	if len(files) <= manyUses {
		return nil
	}
	if err := r.NoteUses(ctx, t.Since(since)); err != nil {
		return err
	}
	for _, name := range files {
		if err := r.b.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

var _ remote.UseNoter = (*Remote)(nil)
