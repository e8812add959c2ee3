package remotetest

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/compress"
	"github.com/cache-tool/cache-tool/objects/pack"
)

// An Item is a record of a pack.
type Item struct {
	Type pack.Type
	Body []byte
}

// ID returns the id of the record.
func (i Item) ID() objects.ID {
	id, err := pack.RecordID(i.Type, i.Body)
	if err != nil {
		panic(err)
	}
	return id
}

// Blob returns a blob.
func Blob(text string) Item { return Item{pack.Blob, []byte(text)} }

// Tree returns a tree with one file.
func Tree(name string, blob Item) Item {
	return Item{pack.Tree, objects.Entries{{Mode: objects.ModeFile, Name: name, ID: blob.ID()}}.Encode()}
}

// Commit returns commit number n of a tree.
func Commit(n int, tree Item, parents ...Item) Item {
	who := objects.Signature{Name: "test", Email: "test@localhost", When: time.Unix(int64(n), 0).UTC()}
	return Item{pack.Commit, objects.CommitBody{Tree: tree.ID(), Parents: ids(parents), Author: who, Committer: who, Message: fmt.Sprintf("commit %d\n", n)}.Encode()}
}

// Pack returns a pack with a block for each of blocks.
func Pack(tb testing.TB, blocks ...[]Item) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := pack.NewWriter(&out)
	e := compress.GetEncoder(compress.Default, 64<<10)
	defer compress.PutEncoder(e)
	for _, items := range blocks {
		var b pack.Block
		for _, i := range items {
			copy(b.Space(len(i.Body)), i.Body)
			b.Add(pack.Record{ID: i.ID(), Type: i.Type, Size: uint32(len(i.Body))})
		}
		if _, err := w.Append(b.AppendTo(nil, e), b.Records); err != nil {
			tb.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// Unpack reads a pack that somebody sent, and returns what is in it by id.
func Unpack(r io.Reader) (map[objects.ID]Item, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	size := int64(len(data))
	if _, err := pack.CheckSum(bytes.NewReader(data), size); err != nil {
		return nil, err
	}
	got := map[objects.ID]Item{}
	err = pack.Scan(bytes.NewReader(data), size, func(_ pack.BlockInfo, d *pack.Data, err error) error {
		if err != nil {
			return err
		}
		for i := range d.Len() {
			t, body := d.Record(i)
			item := Item{t, bytes.Clone(body)}
			got[item.ID()] = item
		}
		return nil
	})
	return got, err
}
