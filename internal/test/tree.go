package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tree fills dir with n files and directories, the same ones for the same
// seed: empty and long files, zeros and noise, executables, symlinks (some to
// nowhere), empty directories, and names that trip careless code.
func Tree(tb testing.TB, dir string, seed uint64, n int) {
	tb.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	dirs := []string{dir}
	for i := range n {
		path := filepath.Join(dirs[r.IntN(len(dirs))], treeName(r, i))
		var err error
		switch k := r.IntN(20); {
		case k < 3 && len(dirs) < 1+n/4:
			err = os.Mkdir(path, 0o777)
			dirs = append(dirs, path)
		case k == 4:
			err = os.Symlink([]string{".", "..", "nowhere", "a/b"}[r.IntN(4)], path)
		case k == 5:
			err = os.WriteFile(path, content(r), 0o777)
		default:
			err = os.WriteFile(path, content(r), 0o666)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func treeName(r *rand.Rand, i int) string {
	odd := []string{" ", "-", "%", "ü", "\xff", "\n", `\`, "a.c", "a-", "a", ".git", "$HOME", strings.Repeat("l", 200)}
	if r.IntN(8) == 0 {
		return fmt.Sprintf("%s%d", odd[r.IntN(len(odd))], i)
	}
	return fmt.Sprintf("f%d", i)
}

// content is mostly short text that repeats, as sources do.
func content(r *rand.Rand) []byte {
	switch k := r.IntN(40); {
	case k < 2:
		return nil
	case k == 2:
		return make([]byte, r.IntN(1<<20))
	case k == 3:
		noise := make([]byte, r.IntN(2<<20))
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		return noise
	}
	var b bytes.Buffer
	for range r.IntN(100) {
		fmt.Fprintf(&b, "line %d of some text\n", r.IntN(50))
	}
	return b.Bytes()
}

// Shape describes all that is below dir, a line for each name: mode, path, and
// content or target. Two trees are the same if their shapes are. Of the
// permissions only the owner's executable bit counts.
func Shape(tb testing.TB, dir string) string {
	tb.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case e.IsDir():
			fmt.Fprintf(&b, "dir  %q\n", rel)
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, "link %q %q\n", rel, target)
			return err
		case e.Type().IsRegular():
			return shapeFile(&b, path, rel)
		default:
			fmt.Fprintf(&b, "%v %q\n", e.Type(), rel)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func shapeFile(b *strings.Builder, path, rel string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	kind := "file"
	if fi.Mode()&0o100 != 0 {
		kind = "exec"
	}
	if len(data) > 64 {
		fmt.Fprintf(b, "%s %q %d bytes, hash %x\n", kind, rel, len(data), sha256.Sum256(data))
		return nil
	}
	fmt.Fprintf(b, "%s %q %q\n", kind, rel, data)
	return nil
}
