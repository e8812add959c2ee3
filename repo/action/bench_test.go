package action_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cache-tool/cache-tool/repo/action"
)

// BenchmarkHit is all that a hit costs beside the start of the process, for a
// compile with about a hundred headers: with the outputs gone, and with them in
// place.
func BenchmarkHit(b *testing.B) {
	if _, err := exec.LookPath("gcc"); err != nil {
		b.Skip("no gcc")
	}
	dir := b.TempDir()
	source := `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <pthread.h>
#include <math.h>
#include <errno.h>
#include <signal.h>
int main(void) { puts("hello"); return 0; }
`
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte(source), 0o644); err != nil {
		b.Fatal(err)
	}
	spec := action.Spec{
		Args: []string{"gcc", "-MD", "-c", "a.c", "-o", "a.o"}, Dir: dir,
		Out: []string{"a.o"}, Depfile: "a.d",
	}
	run := func(want action.Outcome) {
		r, err := runIn(b.Context(), filepath.Join(dir, "repo"), spec, io.Discard)
		if err != nil || r.Outcome != want {
			b.Fatalf("%s (%s), %v, want %s", r.Outcome, r.Reason, err, want)
		}
	}
	run(action.Miss)
	run(action.Hit)
	b.Run("right", func(b *testing.B) {
		for b.Loop() {
			run(action.Hit)
		}
	})
	b.Run("gone", func(b *testing.B) {
		for b.Loop() {
			os.Remove(filepath.Join(dir, "a.o"))
			os.Remove(filepath.Join(dir, "a.d"))
			run(action.Hit)
		}
	})
}
