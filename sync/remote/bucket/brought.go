package bucket

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/reach"
)

// UploadFor is Upload for a server, which tells apart who brings what: until the pack
// goes into another one, Brought knows.
func (r *Remote) UploadFor(ctx context.Context, who string, p io.ReaderAt, size int64) error {
	u, err := examine(p, size)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	u.name.Nonce = nonceFor(who, u.name.Hash, uint32(u.name.Nonce))
	return r.upload(ctx, p, u, func(name PackName) bool { return name.isOf(who) })
}

// nonceFor returns a nonce of which one half is random, and the other says to whom who
// is known that it was he who brought the pack.
func nonceFor(who string, pack objects.ID, random uint32) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%s %08x brought by %s", pack, random, who)
	return uint64(binary.BigEndian.Uint32(h.Sum(nil)))<<32 | uint64(random)
}

// isOf reports whether a pack was brought by who. Of four billion packs of others it is
// wrong about one.
func (p PackName) isOf(who string) bool { return p.Nonce == nonceFor(who, p.Hash, uint32(p.Nonce)) }

// Brought adds to ids what is in packs that were uploaded for somebody since.
func (r *Remote) Brought(ctx context.Context, who string, since time.Time, ids *reach.Set) error {
	_, err := r.again(ctx, r.load, func(v *view) error {
		his := map[PackName]bool{}
		for name, info := range v.Packs {
			if info.Time.After(since) && name.isOf(who) {
				his[name] = true
			}
		}
		for _, info := range v.Indexes {
			if err := r.addIDs(ctx, info, his, ids); err != nil {
				return fmt.Errorf("%s: %w", info.file(), err)
			}
		}
		return nil
	})
	return err
}

// addIDs adds what is in some packs, as far as an index says.
func (r *Remote) addIDs(ctx context.Context, info IndexInfo, packs map[PackName]bool, ids *reach.Set) error {
	x, err := r.index(ctx, info)
	if err != nil {
		return err
	}
	wanted, some := make([]bool, len(x.packs)), false
	for i, name := range x.packs {
		wanted[i] = packs[name]
		some = some || wanted[i]
	}
	if !some {
		return nil
	}
	body, err := r.reader(ctx, info)
	if err != nil {
		return err
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, 256<<10)
	if _, err := io.CopyN(io.Discard, in, info.Head); err != nil {
		return err
	}
	var buf [entrySize]byte
	for range x.n {
		if _, err := io.ReadFull(in, buf[:]); err != nil {
			return err
		}
		e := parseEntry(buf[:])
		if int64(e.block) >= int64(len(x.blocks)) {
			return badIndex("an id in block %d of %d", e.block, len(x.blocks))
		}
		if wanted[x.blocks[e.block].pack] {
			ids.Add(e.id)
		}
	}
	return nil
}
