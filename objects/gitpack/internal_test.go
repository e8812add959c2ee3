package gitpack

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
)

// CutSmall makes packs of few objects.
var CutSmall = Options{batch: 2}

// Packs over 2 GiB need the wide offsets, which no test wants to write for real.
func TestWideOffsets(t *testing.T) {
	rows := []row{
		{id: objects.ID{1}, crc: 0x11111111, off: 12},
		{id: objects.ID{1, 2}, crc: 0x22222222, off: 1<<31 - 1},
		{id: objects.ID{7}, crc: 0x33333333, off: 1 << 31},
		{id: objects.ID{255, 255}, crc: 0x44444444, off: 5 << 32},
	}
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	writeIndex(out, rows)
	out.Write(make([]byte, 64))
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	x, err := parseIndex(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !x.Has(r.id) {
			t.Errorf("Has(%s) = false", r.id)
		}
	}
	c := exec.Command("git", "show-index", "--object-format=sha256")
	c.Stdin = &b
	got, err := c.Output()
	if err != nil {
		t.Skipf("needs git show-index --object-format: %v", err)
	}
	var want strings.Builder
	for i, offset := range []string{"12", "2147483647", "2147483648", "21474836480"} {
		want.WriteString(offset + " " + rows[i].id.String() + " (" + strings.Repeat(string(rune('1'+i)), 8) + ")\n")
	}
	if string(got) != want.String() {
		t.Errorf("git reads the index as\n%swant\n%s", got, want.String())
	}
}

func FuzzIndex(f *testing.F) {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	writeIndex(out, []row{{id: objects.ID{1}}, {id: objects.ID{200}, off: 1 << 40}})
	out.Write(make([]byte, 64))
	out.Flush()
	f.Add(b.Bytes(), []byte{200})
	f.Add(b.Bytes()[:b.Len()-8], []byte{1})
	f.Add([]byte(indexMagic), []byte{})
	f.Fuzz(func(t *testing.T, data, prefix []byte) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}
		var id objects.ID
		copy(id[:], prefix)
		x.Has(id)
		for i := range x.Len() {
			copy(id[:], x.id(i))
			x.Has(id)
		}
	})
}

func FuzzRefLines(f *testing.F) {
	id := objects.EmptyTree.String()
	f.Add(packedHead + "\n" + id + " refs/heads/main\n" + id + " refs/tags/v1\n^" + id + "\n")
	f.Add("^" + id)
	f.Add(id + " HEAD\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseRefLines([]byte(text))
		if err != nil {
			return
		}
		again, err := parseRefLines(encodeRefLines(recordHead, lines))
		if err != nil || len(again) != len(lines) {
			t.Fatalf("%d lines, then %d, %v", len(lines), len(again), err)
		}
	})
}

func TestDamagedIndexIsAnError(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.idx")
	for _, data := range []string{"", "short", strings.Repeat("x", 2000)} {
		if err := os.WriteFile(name, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenIndex(name); err == nil {
			t.Errorf("OpenIndex of %d bytes: no error", len(data))
		}
	}
}
