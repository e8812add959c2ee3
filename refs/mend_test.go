package refs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/refs/refstest"
)

func TestMendLog(t *testing.T) {
	ctx := t.Context()
	id := func(n uint64) objects.ID { return objects.Sum(objects.Blob, []byte{byte(n)}) }
	first, third := id(1).String(), id(3).String()
	for _, tt := range []struct {
		name   string
		damage func(log string) string
		want   string // what CheckLog says, in part; nothing if it is not to be told
		moves  int    // in the end
	}{
		{"nothing", func(log string) string { return log }, "", 3},
		{"a digit of an id in the middle", func(log string) string { return strings.Replace(log, first, otherDigit(first[:1])+first[1:], 1) },
			"is followed by one from", 3},
		{"a digit of the last id", func(log string) string {
			at := strings.LastIndex(log, third)
			return log[:at] + otherDigit(third[:1]) + log[at+1:]
		}, "does not end at", 3},
		{"a digit of the zeros", func(log string) string { return "2" + log[1:] }, "zeros but for a digit", 3},
		{"a line that is none", func(log string) string { return strings.Replace(log, " <", " >", 1) }, "1 damaged lines", 2},
		{"the end of a line", func(log string) string { return strings.Replace(log, "\n", "\v", 1) }, "is followed by one from", 3},
		{"the end of the last line", func(log string) string { return log[:len(log)-1] + "\v" }, "does not end at", 3},
		{"all of it", func(string) string { return "nothing of this is a reflog\n" }, "1 damaged lines", 1},
		{"a crash has left half a line", func(log string) string { return log + first }, "", 3},
		{"a crash has left a move that never came", func(log string) string {
			last := log[strings.LastIndexByte(log[:len(log)-1], '\n')+1:]
			return log + third + " " + first + last[2*len(third)+1:]
		}, "", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := test.Dir(t)
			f := newFiles(t, dir)
			for n := range uint64(3) {
				u := refs.Update{Name: mainBranch, New: id(n + 1), Reason: "move"}
				if n > 0 {
					u.Old = id(n)
				}
				if err := f.Apply(ctx, u); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, "logs", string(mainBranch))
			log, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(file, []byte(tt.damage(string(log))), 0o666)
			found, err := f.CheckLog(ctx, mainBranch)
			if err != nil || (tt.want == "") != (len(found) == 0) || !strings.Contains(strings.Join(found, "; "), tt.want) {
				t.Errorf("found %q, %v; want %q", found, err, tt.want)
			}
			exists := func(x objects.ID) bool { return x == id(1) || x == id(2) || x == id(3) }
			if mended, err := f.MendLog(ctx, mainBranch, exists); err != nil || len(mended) != len(found) {
				t.Errorf("mended %q, %v", mended, err)
			}
			if found, err := f.CheckLog(ctx, mainBranch); err != nil || len(found) > 0 {
				t.Errorf("afterwards: %q, %v", found, err)
			}
			moves, err := f.Log(ctx, mainBranch)
			if err != nil || len(moves) != tt.moves {
				t.Fatalf("%d moves, want %d: %v", len(moves), tt.moves, err)
			}
			for i, m := range moves {
				if tt.moves == 3 && (m.New != id(uint64(i+1)) || i > 0 && m.Old != id(uint64(i))) {
					t.Errorf("move %d is %s to %s", i, m.Old.Short(), m.New.Short())
				}
			}
		})
	}
}

func TestSetBack(t *testing.T) {
	ctx, dir := t.Context(), test.Dir(t)
	f := newFiles(t, dir)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.Apply(ctx, refs.Update{Name: mainBranch, New: refstest.ID(1)}))
	must(f.Apply(ctx, refs.Update{Name: mainBranch, Old: refstest.ID(1), New: refstest.ID(2)}))
	// Of a file that is damaged the log knows all.
	must(os.WriteFile(filepath.Join(dir, string(mainBranch)), []byte("damaged"), 0o666))
	must(f.SetBack(ctx, mainBranch, objects.ID{}, refstest.ID(2), "fsck"))
	// What is lost was a move, and to go back is another.
	must(f.SetBack(ctx, mainBranch, refstest.ID(2), refstest.ID(1), "fsck"))
	if err := f.SetBack(ctx, mainBranch, refstest.ID(2), refstest.ID(1), "fsck"); err == nil {
		t.Error("set back though it had moved")
	}
	if id, err := f.Get(ctx, mainBranch); err != nil || id != refstest.ID(1) {
		t.Errorf("it is at %s, %v", id.Short(), err)
	}
	if found, err := f.CheckLog(ctx, mainBranch); err != nil || len(found) > 0 {
		t.Errorf("the log: %q, %v", found, err)
	}
	if moves, err := f.Log(ctx, mainBranch); err != nil || len(moves) != 3 {
		t.Errorf("%d moves, want 3: %v", len(moves), err)
	}
}

func TestHeadNeighbours(t *testing.T) {
	ctx, dir := t.Context(), test.Dir(t)
	f := newFiles(t, dir)
	head := filepath.Join(dir, "HEAD")
	os.WriteFile(head, []byte("ref: refs/heads/maim\n"), 0o666)
	if near := f.HeadNeighbours(ctx); len(near) > 0 {
		t.Errorf("nothing is there, and %q are near", near)
	}
	if err := f.Apply(ctx, refs.Update{Name: mainBranch, New: refstest.ID(1)}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]refs.Name{
		"ref: refs/heads/main\n": "",
		"ref: refs/heads/maio\n": mainBranch,
		"ref: refs/heads/mai":    mainBranch,
		"zef: refs/heads/main\n": mainBranch,
		"ref: refs/heads/next\n": "",
	} {
		os.WriteFile(head, []byte(text), 0o666)
		if near := f.HeadNeighbours(ctx); want == "" && len(near) > 0 || want != "" && !slices.Equal(near, []refs.Name{want}) {
			t.Errorf("near %q are %q, want %q", text, near, want)
		}
	}
}

// otherDigit returns what a flipped bit makes of a hexadecimal digit.
func otherDigit(d string) string {
	const digits = "0123456789abcdef"
	return string(digits[strings.Index(digits, d)^1])
}
