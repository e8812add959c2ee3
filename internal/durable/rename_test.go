package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestLinkNew(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for i, want := range []error{nil, fs.ErrExist} {
		if err := os.WriteFile(from, []byte{'0' + byte(i)}, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := linkNew(from, to); !errors.Is(err, want) {
			t.Errorf("link %d: %v, want %v", i, err, want)
		}
		if _, err := os.Stat(from); (err == nil) != (i == 1) {
			t.Errorf("after link %d the old name: %v", i, err)
		}
	}
	if got, _ := os.ReadFile(to); string(got) != "0" {
		t.Errorf("read %q, want what was there first", got)
	}
}
