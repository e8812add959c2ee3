package webdav

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/attempt"
)

// multistatus is what PROPFIND answers. Elements are known by their names,
// whatever the namespace.
type multistatus struct {
	Responses []struct {
		Href     string `xml:"href"`
		Propstat []struct {
			Status string `xml:"status"`
			Prop   struct {
				Type struct {
					Collection *struct{} `xml:"collection"`
				} `xml:"resourcetype"`
				Length   *int64 `xml:"getcontentlength"`
				Modified string `xml:"getlastmodified"`
			} `xml:"prop"`
		} `xml:"propstat"`
	} `xml:"response"`
}

const propfindBody = `<?xml version="1.0" encoding="utf-8"?>
<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>
`

func propfind(url, depth string) request {
	return request{
		method: "PROPFIND", url: url, body: strings.NewReader(propfindBody), size: int64(len(propfindBody)),
		header: map[string]string{"Depth": depth, "Content-Type": "application/xml; charset=utf-8"},
	}
}

// maxListing bounds the answer to PROPFIND: half a million files.
const maxListing = 256 << 20

// ErrNoServer says that something else is at the URL.
var ErrNoServer = errors.New("this is no WebDAV server")

// propfind lists the files in a collection, by the last parts of their names.
func (b *Bucket) propfind(ctx context.Context, dir string) ([]remote.Info, error) {
	for a := b.attempts(); ; {
		resp, err := b.send(ctx, propfind(b.at(dir), "1"))
		if c := code(err); c == http.StatusMethodNotAllowed || c == http.StatusNotImplemented {
			return nil, fmt.Errorf("%w: %w", err, ErrNoServer)
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusMultiStatus {
			attempt.Drop(resp.Body)
			return nil, fmt.Errorf("PROPFIND %s: %s: %w", b.at(dir), resp.Status, ErrNoServer)
		}
		all, err := parseListing(resp.Body)
		resp.Body.Close()
		if err == nil {
			return all, nil
		}
		err = fmt.Errorf("PROPFIND %s: %w", b.at(dir), err)
		if ctx.Err() != nil || errors.Is(err, remote.ErrUnreachable) {
			return nil, err
		}
		if err := rest(ctx, a, err); err != nil {
			return nil, err
		}
	}
}

func parseListing(r io.Reader) ([]remote.Info, error) {
	var m multistatus
	limited := &io.LimitedReader{R: r, N: maxListing}
	if err := xml.NewDecoder(limited).Decode(&m); err != nil {
		return nil, err
	}
	var all []remote.Info
	for _, resp := range m.Responses {
		// A reverse proxy may call the collection something else than we do: only
		// the last part counts.
		u, err := url.Parse(strings.TrimSpace(resp.Href))
		if err != nil {
			continue
		}
		info := remote.Info{Name: path.Base(u.Path)}
		file := false
		for _, p := range resp.Propstat {
			if _, status, _ := strings.Cut(p.Status, " "); !strings.HasPrefix(status, "200") {
				continue
			}
			file = p.Prop.Type.Collection == nil
			if p.Prop.Length != nil {
				info.Size = max(0, *p.Prop.Length)
			}
			if t, err := http.ParseTime(p.Prop.Modified); err == nil {
				info.Time = t
			}
		}
		if file && !strings.HasSuffix(u.Path, "/") {
			all = append(all, info)
		}
	}
	return all, nil
}

// Root returns the root.
func (b *Bucket) Root(ctx context.Context) (remote.Root, error) {
	const tries = 50
	for try := range tries {
		files, err := b.propfind(ctx, rootDir+"/")
		if errors.Is(err, remote.ErrNotFound) {
			return remote.Root{}, nil
		} else if err != nil {
			return remote.Root{}, err
		}
		var roots []remote.Root
		for _, f := range files {
			if r, err := remote.ParseRoot(f.Name); err == nil {
				roots = append(roots, r)
			}
		}
		if len(roots) == 1 {
			return roots[0], nil
		}
		// While the file is moved, it may be listed under both names or none.
		select {
		case <-ctx.Done():
			return remote.Root{}, ctx.Err()
		case <-time.After(time.Duration(try) * time.Millisecond):
		}
	}
	return remote.Root{}, fmt.Errorf("%s: damaged: it should hold one file, named after the root", b.at(rootDir+"/"))
}

// Swap replaces the root.
func (b *Bucket) Swap(ctx context.Context, old, next remote.Root) error {
	if err := errors.Join(ctx.Err(), remote.CheckSwap(old, next)); err != nil {
		return err
	}
	doubt := false // an attempt may have been made of which we know nothing
	for a := b.attempts(); ; {
		var err error
		if old.IsZero() {
			err = b.makeRoot(ctx, next)
		} else {
			err = b.move(ctx, rootFile(old), rootFile(next), "F")
		}
		if err == nil {
			return nil
		}
		is, reading := b.settled(ctx)
		if reading != nil {
			return fmt.Errorf("%w; and what became of it: %w", err, reading)
		}
		switch done, lost := remote.Settle(old, next, is); {
		case done:
			return nil
		case lost != nil && !doubt && code(err) == http.StatusInternalServerError:
			// Apache's word for who comes too late. But that of others after they have done
			// it, too.
			return fmt.Errorf("swap of root %s: %w (%w)", old, remote.ErrLost, lost)
		case lost != nil && !doubt && refused(err):
			return fmt.Errorf("swap of root %s: %w", old, remote.ErrLost)
		case lost != nil:
			return fmt.Errorf("%w (%w)", lost, err)
		}
		doubt = doubt || !refused(err)
		if !transient(err) && !errors.Is(err, remote.ErrNotFound) {
			return err
		}
		if err := rest(ctx, a, err); err != nil {
			return err
		}
	}
}

// refused reports whether err is the server's own word that it did not do what
// was asked. Some say 500 to who comes too late.
func refused(err error) bool {
	c := code(err)
	return errors.Is(err, remote.ErrLost) || c >= 400 && c <= http.StatusNotImplemented && c != http.StatusRequestTimeout
}

func rootFile(r remote.Root) string { return rootDir + "/" + r.String() }

// settled reads the root, even if nobody waits for the swap any more: what
// happened decides what the caller is told.
func (b *Bucket) settled(ctx context.Context) (remote.Root, error) {
	if ctx.Err() == nil {
		return b.Root(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(b.o.Patience, 15*time.Second))
	defer cancel()
	return b.Root(ctx)
}

// makeRoot makes the first root: a collection that is never seen empty.
func (b *Bucket) makeRoot(ctx context.Context, r remote.Root) error {
	is, err := b.Root(ctx)
	if err != nil {
		return err
	}
	if !is.IsZero() {
		return remote.ErrLost
	}
	tmp := pending() + "/"
	err = b.mkcol(ctx, tmp)
	if err == nil {
		err = b.do(ctx, request{method: "PUT", url: b.at(tmp + r.String()), body: strings.NewReader(rootText), size: int64(len(rootText))})
	}
	if err == nil {
		err = b.move(ctx, tmp, rootDir+"/", "F")
	}
	if err == nil {
		// Trust nobody here: it happens once in the life of a bucket.
		if is, err = b.Root(ctx); err == nil && is != r {
			err = remote.ErrLost
		}
	}
	if err != nil {
		b.tidy(ctx, tmp)
	}
	return err
}
