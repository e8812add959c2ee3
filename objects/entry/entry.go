// Package entry knows what a cache entry is: its path in a branch, the tree that
// it is, and the meta blob in that tree.
//
// An entry is a tree. Beside the blob "meta" stands its payload:
//
//	save    base/…  home/…  abs/…    what was kept, by where its path came from
//	run     action/  out/…  stdout  stderr  order  exit
//	other   body                     one blob
//
// The same payload makes the same entry but for meta; Same compares so.
package entry

import (
	"context"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
)

// The names at the top of an entry's tree.
const (
	MetaName = "meta"

	BaseName = "base" // save: paths below the base directory
	HomeName = "home" // save: paths below the home directory
	AbsName  = "abs"  // save: other absolute paths, without the leading slash

	ActionName = "action" // run: the tree whose id is the key
	OutName    = "out"    // run: what the command wrote
	StdoutName = "stdout"
	StderrName = "stderr"
	OrderName  = "order" // run: which stream wrote how much, as read
	ExitName   = "exit"  // run: the exit code, in digits

	BodyName = "body" // a client's value
)

// A Writer keeps what entries are made of. PutTree may store the tree as a
// difference from base, an earlier version of it, which may be zero.
type Writer interface {
	PutBytes(k objects.Kind, body []byte) (objects.ID, error)
	PutTree(body []byte, base objects.ID) (objects.ID, error)
}

// Write makes the entry of m and payload and returns its id. The payload may be
// in any order. Base is the entry that the new one replaces, or zero.
func Write(w Writer, m Meta, payload objects.Entries, base objects.ID) (objects.ID, error) {
	id, err := w.PutBytes(objects.Blob, m.Encode())
	if err != nil {
		return objects.ID{}, fmt.Errorf("write meta: %w", err)
	}
	tree := make(objects.Entries, 0, len(payload)+1)
	tree = append(tree, objects.Entry{Mode: objects.ModeFile, Name: MetaName, ID: id})
	for _, e := range payload {
		if e.Name == MetaName {
			return objects.ID{}, fmt.Errorf("write entry: the payload has a %q of its own", MetaName)
		}
		tree = append(tree, e)
	}
	tree.Sort()
	return w.PutTree(tree.Encode(), base)
}

// Read returns the payload and the meta of the entry id.
func Read(ctx context.Context, r objects.Reader, id objects.ID) (objects.Entries, Meta, error) {
	tree, err := objects.ReadTree(ctx, r, id)
	if err != nil {
		return nil, Meta{}, err
	}
	payload := make(objects.Entries, 0, len(tree))
	var meta objects.Entry
	for _, e := range tree {
		if e.Name == MetaName {
			meta = e
		} else {
			payload = append(payload, e)
		}
	}
	if meta.Mode != objects.ModeFile {
		return nil, Meta{}, fmt.Errorf("entry %s: %w: there is none", id, ErrBadMeta)
	}
	body, err := objects.ReadKind(ctx, r, meta.ID, objects.Blob)
	if err != nil {
		return nil, Meta{}, fmt.Errorf("entry %s: meta: %w", id, err)
	}
	m, err := ParseMeta(body)
	if err != nil {
		return nil, Meta{}, fmt.Errorf("entry %s: %w", id, err)
	}
	return payload, m, nil
}

// Key returns the whole key of the entry id that stands at path. It reads the
// entry only if the path holds no more than a part of the key.
func Key(ctx context.Context, r objects.Reader, path string, id objects.ID) (string, error) {
	kind, key, err := ParsePath(path)
	if err != nil || !Abbreviated(path) {
		return key, err
	}
	_, m, err := Read(ctx, r, id)
	if err != nil {
		return "", err
	}
	if Path(kind, m.Key) != path {
		return "", fmt.Errorf("entry %s: the key in its meta is not that of %s", id, path)
	}
	return m.Key, nil
}
