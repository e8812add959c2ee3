package gitbridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
)

// A source is stores that are looked into one after the other: what is in none of them
// is missing.
type source []*odb.DB

func (s source) each(id objects.ID, fn func(*odb.DB) error) error {
	err := fmt.Errorf("%s: %w", id, objects.ErrNotFound)
	for _, db := range s {
		if err = fn(db); !errors.Is(err, objects.ErrNotFound) {
			break
		}
	}
	return err
}

// Open implements objects.Reader.
func (s source) Open(ctx context.Context, id objects.ID) (o objects.Object, err error) {
	err = s.each(id, func(db *odb.DB) error {
		o, err = db.Open(ctx, id)
		return err
	})
	return o, err
}

// ReadBytes implements objects.BytesReader.
func (s source) ReadBytes(ctx context.Context, id objects.ID) (k objects.Kind, body []byte, err error) {
	err = s.each(id, func(db *odb.DB) error {
		k, body, err = db.ReadBytes(ctx, id)
		return err
	})
	return k, body, err
}

// KindOf returns what an object is.
func (s source) KindOf(ctx context.Context, id objects.ID) (k objects.Kind, err error) {
	err = s.each(id, func(db *odb.DB) error {
		k, err = db.KindOf(ctx, id)
		return err
	})
	return k, err
}

// readMany reads blobs in the order in which they are stored. Big ones are only opened.
func (s source) readMany(ctx context.Context, ids []objects.ID, small func(id objects.ID, body []byte) error, big func(objects.ID, objects.Object) error) error {
	for i, db := range s {
		var lost []objects.ID
		all := ids
		o := odb.ManyOptions{
			Big: func(_ int, id objects.ID, _ int64) error {
				o, err := db.Open(ctx, id)
				if err != nil {
					return err
				}
				defer o.Body.Close()
				return big(id, o)
			},
		}
		if i < len(s)-1 {
			missing, err := db.Missing(odb.Local(ctx), ids)
			if err != nil {
				return err
			}
			lost, all = missing, without(ids, missing)
		}
		err := db.ReadMany(ctx, all, o, func(i int, k objects.Kind, body []byte) error {
			if k != objects.Blob {
				return fmt.Errorf("%s is a %s, and not a blob", all[i].Short(), k)
			}
			return small(all[i], body)
		})
		if err != nil {
			return err
		}
		ids = lost
	}
	return nil
}

// without returns ids, in their order, but for those of gone, which are among them in the
// same order.
func without(ids, gone []objects.ID) []objects.ID {
	var rest []objects.ID
	for _, id := range ids {
		if len(gone) > 0 && gone[0] == id {
			gone = gone[1:]
			continue
		}
		rest = append(rest, id)
	}
	return rest
}
