package bucket_test

import (
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/sync/remote"
	"github.com/cache-tool/cache-tool/sync/remote/bucket"
	"github.com/cache-tool/cache-tool/sync/remote/remotetest"
)

// TestTreesBefore: with a tree comes what stands just before it, which it leads to most
// likely, unless that is damaged, or worth nothing by itself; and not where all will be
// asked for anyway.
func TestTreesBefore(t *testing.T) {
	leaf := remotetest.Tree("leaf", text("leaf"))
	top := remotetest.Item{Type: leaf.Type, Body: objects.Entries{{Mode: objects.ModeDir, Name: "d", ID: leaf.ID()}}.Encode()}
	change, _ := delta(t, leaf, text("x"))
	for _, tt := range []struct {
		name   string
		extent remote.Extent
		before []remotetest.Item
		damage bool
		want   remotetest.Item
		along  bool
	}{
		{name: "tree", before: []remotetest.Item{leaf}, want: top, along: true},
		{name: "history", extent: remote.History, before: []remotetest.Item{leaf}, want: top, along: true},
		{name: "all of it", extent: remote.Closure, before: []remotetest.Item{leaf}, want: top},
		{name: "blob", before: []remotetest.Item{leaf}, want: text("blob")},
		{name: "damaged", before: []remotetest.Item{leaf}, damage: true, want: top},
		{name: "delta", before: []remotetest.Item{leaf, change}, want: top},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(remotetest.Memory)
			remotetest.UploadBlocks(t, bucket.Open(m), tt.before, []remotetest.Item{tt.want}, []remotetest.Item{text("behind")})
			if tt.damage {
				m.Damage(nameOf(t, m, "packs"), 30)
			}
			in, err := bucket.Open(m).Fetch(t.Context(), remote.Request{Want: []objects.ID{tt.want.ID()}, Extent: tt.extent})
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			got, err := remotetest.Unpack(in)
			if err != nil {
				t.Fatal(err)
			}
			_, came := got[tt.want.ID()]
			_, along := got[leaf.ID()]
			if !came || along != tt.along || len(got) > 2 {
				t.Errorf("what is wanted came: %t; what stands before it: %t, want %t; %d records", came, along, tt.along, len(got))
			}
		})
	}
}

// nameOf returns the name of the only file in a directory of a bucket.
func nameOf(t *testing.T, b remote.Bucket, dir string) (name string) {
	t.Helper()
	for info, err := range b.List(t.Context(), dir) {
		if err != nil || name != "" {
			t.Fatal(name, info, err)
		}
		name = info.Name
	}
	return name
}
