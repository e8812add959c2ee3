package stage

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

func group(paths ...string) []byte {
	var records []Record
	for i, p := range paths {
		r := Record{Path: p}
		if i%2 == 0 {
			r.Mode, r.ID = objects.ModeDir, objects.ID{byte(i + 1)}
		}
		records = append(records, r)
	}
	return appendRecords(nil, records)
}

// Whatever stands between groups, the groups are found, and nothing else.
func FuzzScan(f *testing.F) {
	one, three := group("a"), group("save/ab/cd/x", "b", "c")
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add(make([]byte, 100), one[:len(one)-1], three[:len(three)-1])
	f.Add(three[:len(group("save/ab/cd/x"))], three[5:], []byte{0, 0, 0, 41, 0, 0, 0x40, 0})
	f.Fuzz(func(t *testing.T, before, between, after []byte) {
		data := slices.Concat(before, one, between, three, after)
		var shown [][]byte
		done, damaged := scan(data, func(g []byte) {
			var records []Record
			eachRecord(g, func(r rawRecord) { records = append(records, r.record()) })
			if again := appendRecords(nil, records); !bytes.Equal(again, g) {
				t.Errorf("%q is shown as a group, its records are %q", g, again)
			}
			shown = append(shown, g)
		})
		if done > len(data) || damaged > len(before)+len(between)+len(after) {
			t.Errorf("done with %d of %d bytes, %d damaged", done, len(data), damaged)
		}
		for _, want := range [][]byte{one, three} {
			if !slices.ContainsFunc(shown, func(g []byte) bool { return bytes.Equal(g, want) }) {
				t.Errorf("%q is not found in %q", want, data)
			}
		}
	})
}

func FuzzParseHeader(f *testing.F) {
	f.Add(appendHeader(nil, 1, "feature/x"))
	f.Add(appendHeader(nil, 1, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, errHeader) && !errors.Is(err, ErrNewer) || h.size != 0 {
				t.Errorf("%+v, %v", h, err)
			}
			return
		}
		if again := appendHeader(nil, h.seq, h.branch); !bytes.Equal(again, b[:h.size]) {
			t.Errorf("parsed %+v, which is %q", h, again)
		}
	})
}
