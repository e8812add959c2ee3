// Package crowd makes branches of many entries, for tests and benchmarks of what
// must not grow with their number.
package crowd

import (
	"context"
	"fmt"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

// Make adds n entries of a kind to the branch main of a repository, which is made
// if it is not there: values, or results of commands, all different.
func Make(ctx context.Context, dir string, kind entry.Kind, n int) error {
	r, err := repo.OpenOrInit(ctx, dir, repo.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	ch, err := r.Change(ctx, refs.Branch(repo.DefaultBranch), odb.BatchOptions{})
	if err != nil {
		return err
	}
	defer ch.Close()
	created := time.Unix(1_800_000_000, 0)
	for i := range n {
		value, err := ch.Batch.PutBytes(objects.Blob, []byte(Value(i)))
		if err != nil {
			return err
		}
		payload := objects.Entries{{Mode: objects.ModeFile, Name: entry.BodyName, ID: value}}
		if kind == entry.Run {
			payload[0].Name = entry.StdoutName
		}
		meta := entry.Meta{Kind: kind, Key: Key(kind, i), Created: created.Add(time.Duration(i) * time.Second)}
		id, err := entry.Write(ch.Batch, meta, payload, objects.ID{})
		if err != nil {
			return err
		}
		ch.Set(kind, meta.Key, id)
	}
	_, _, err = ch.Commit(ctx, "a lot")
	return err
}

// Key returns the key of an entry. That of a result is an id.
func Key(kind entry.Kind, i int) string {
	if kind == entry.Run {
		return objects.Sum(objects.Tree, []byte(Value(i))).String()
	}
	return fmt.Sprint("some/key/", i)
}

// Value returns the value of an entry, or what the command printed.
func Value(i int) string { return fmt.Sprintln("the value of", i) }
