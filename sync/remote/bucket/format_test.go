package bucket

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

func exampleState() *State {
	at := time.Unix(1_800_000_000, 0)
	s := newState()
	s.Unique = 0xabc
	s.Past = []objects.ID{{3}, {2}}
	s.Packs[PackName{objects.ID{1}, 2}] = PackInfo{100, at}
	s.Packs[PackName{objects.ID{1}, 1}] = PackInfo{200, at}
	s.Condemned[PackName{objects.ID{9}, 9}] = PackInfo{300, at}
	s.Indexes = []IndexInfo{{objects.ID{7}, 1000, 500}, {objects.ID{6}, 1, 1}}
	s.Dropped[objects.ID{5}] = at
	s.Shallow[objects.ID{4}] = true
	s.Refs["refs/heads/main"] = objects.ID{8}
	s.Refs[refs.Branch("übb")] = objects.ID{8}
	return s
}

const exampleText = `cache-tool bucket 1
unique 0000000000000abc
past 03@
past 02@
pack 01@-0000000000000001 200 1800000000
pack 01@-0000000000000002 100 1800000000
condemned 09@-0000000000000009 300 1800000000
index 07@ 1000 500
index 06@ 1 1
dropped 05@ 1800000000
shallow 04@
ref 08@ refs/heads/main
ref 08@ refs/heads/übb
`

func TestStateFormat(t *testing.T) {
	s := exampleState()
	data := s.encode()
	want := strings.ReplaceAll(exampleText, "@", strings.Repeat("00", objects.IDSize-1))
	if diff := cmp.Diff(want, string(data[:len(data)-9])); diff != "" {
		t.Error(diff)
	}
	if got := string(data[len(data)-9:]); got != "3e347532\n" {
		t.Errorf("checksum %q", got)
	}
	back, err := parseState(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back); diff != "" {
		t.Error(diff)
	}
}

func TestBadStates(t *testing.T) {
	good := exampleText
	seal := func(text string) []byte {
		text = strings.ReplaceAll(text, "@", strings.Repeat("00", objects.IDSize-1))
		return sealed([]byte(text))
	}
	if _, err := parseState(seal(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ what, old, new string }{
		{"newer", "bucket 1", "bucket 2"},
		{"no version", "bucket 1", "bucket"},
		{"unknown line", "shallow", "narrow"},
		{"twice", "shallow 04@\n", "shallow 04@\nshallow 04@\n"},
		{"disorder", "shallow 04@\n", "shallow 04@\nshallow 03@\n"},
		{"order of kinds", "unique 0000000000000abc\n", "unique 0000000000000abc\nref 08@ refs/heads/a\n"},
		{"short id", "shallow 04@", "shallow 04"},
		{"negative size", " 200 ", " -200 "},
		{"leading zero", " 200 ", " 0200 "},
		{"more fields", "index 06@ 1 1", "index 06@ 1 1 1"},
		{"bad ref", "refs/heads/main", "refs/heads/../main"},
		{"ref to nothing", "ref 08@ refs/heads/main", "ref 00@ refs/heads/main"},
		{"CR LF", "shallow 04@\n", "shallow 04@\r\n"},
		{"empty line", "shallow 04@\n", "shallow 04@\n\n"},
		{"too many indexes", "index 06@ 1 1\n", strings.Repeat("index 06@ 1 1\n", 10)},
		{"too long a past", "past 02@\n", strings.Repeat("past 02@\n", 16)},
	} {
		if _, err := parseState(seal(strings.Replace(good, tt.old, tt.new, 1))); err == nil {
			t.Errorf("%s: taken", tt.what)
		}
	}
	data := seal(good)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 4
		if _, err := parseState(bad); err == nil {
			t.Errorf("taken with byte %d changed", i)
		}
		if _, err := parseState(data[:i]); err == nil {
			t.Errorf("taken with %d bytes", i)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add(exampleState().encode())
	f.Add(newState().encode())
	f.Add([]byte(stateHead + "1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, sealed(data)} {
			s, err := parseState(data)
			if err == nil && !bytes.Equal(s.encode(), data) {
				t.Errorf("%q is written as %q", data, s.encode())
			}
		}
	})
}

func exampleIndex() ([]byte, int64) {
	packs := []PackName{{objects.ID{1}, 1}, {objects.ID{2}, 2}}
	blocks := []block{{0, 50, 8}, {0, 60, 58}, {1, 70, 8}}
	entries := []entry{
		{objects.ID{9}, 2, 3 << 28, 10}, {objects.ID{5}, 1, 1<<28 | 7, 20}, {objects.ID{5}, 2, 1<<28 | 1, 20},
		{objects.ID{5}, 0, 1<<28 | 7, 20},
	}
	return encodeIndex(0xabc, packs, blocks, entries)
}

func TestIndexFormat(t *testing.T) {
	data, head := exampleIndex()
	zeros := strings.Repeat("00", objects.IDSize-1)
	want := strings.ReplaceAll(strings.Join(strings.Fields(`
		43544258 00000001 0000000000000abc 00000003 00000003 00000002 00000000
		01@ 0000000000000001  02@ 0000000000000002
		00000000 00000032 0000000000000008
		00000000 0000003c 000000000000003a
		00000001 00000046 0000000000000008
		00000003
		f90f088d
		05@ 00000000 10000007 00000014
		05@ 00000002 10000001 00000014
		09@ 00000002 30000000 0000000a`), ""), "@", zeros)
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	h, err := parseHead(data[:head])
	if err != nil || h.fileSize() != int64(len(data)) {
		t.Errorf("%v: %v", h, err)
	}
	for i := range head {
		bad := bytes.Clone(data[:head])
		bad[i] ^= 1
		if _, err := parseHead(bad); err == nil {
			t.Errorf("taken with byte %d changed", i)
		}
		if _, err := parseHead(data[:i]); !errors.Is(err, ErrBadIndex) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	data, head := exampleIndex()
	f.Add(data[:head])
	f.Fuzz(func(t *testing.T, data []byte) {
		resum := bytes.Clone(data)
		if len(resum) >= crcSize {
			resum = sealedHead(resum[:len(resum)-crcSize])
		}
		for _, data := range [][]byte{data, resum} {
			h, err := parseHead(data)
			if err == nil && !bytes.Equal(h.encode(), data) {
				t.Errorf("%x is written as %x", data, h.encode())
			}
		}
	})
}

func TestFanBits(t *testing.T) {
	for _, tt := range []struct{ n, bits int }{{0, 0}, {255, 0}, {256, 1}, {1 << 20, 13}, {1 << 31, 20}} {
		if got := fanBits(tt.n); got != tt.bits {
			t.Errorf("fanBits(%d) = %d, want %d", tt.n, got, tt.bits)
		}
	}
	id := objects.ID{0b10110000}
	for bits, want := range []int{0, 1, 0b10, 0b101, 0b1011} {
		if got := prefix(&id, bits); got != want {
			t.Errorf("prefix of %d bits: %b", bits, got)
		}
	}
}

func TestChoose(t *testing.T) {
	var all []IndexInfo
	most := 0
	for range 10_000 {
		batch := []*upload{{entries: make([]entry, 10)}}
		keep, take := choose(all, batch)
		size := int64(10 * entrySize)
		for _, x := range take {
			size += x.Size
		}
		all = append(slices.Clone(keep), IndexInfo{Size: size})
		most = max(most, len(all))
	}
	if most > maxIndexes {
		t.Errorf("%d indexes", most)
	}
}
