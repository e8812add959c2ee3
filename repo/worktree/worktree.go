// Package worktree carries directories into trees and trees into directories.
//
// What it knows that no other package does: how little of a file system has to
// be touched to do that, and how to do it safely. Unchanged files are not read,
// right files are not written; a restore makes what it needs under names of its
// own, proven, and moves it into place only when all of it is there; no symbolic
// link is ever followed inside a saved or restored tree.
//
// A tree keeps of a file what Git keeps. What is missing to an exact copy, the
// permissions and times, goes into columns beside the tree: see entry.Files.
package worktree

import (
	"fmt"
	"runtime"

	"github.com/cache-tool/cache-tool/objects"
)

// A Meter is told how the work goes on. Its methods are called from several
// goroutines at once.
type Meter interface {
	Expect(files int, bytes int64) // more work is known
	Done(files int, bytes int64)   // some of it is done
}

type noMeter struct{}

func (noMeter) Expect(int, int64) {}
func (noMeter) Done(int, int64)   {}

func meterOr(m Meter) Meter {
	if m == nil {
		return noMeter{}
	}
	return m
}

// A ChangedError says that a file would not hold still: it was written to, or
// went away, each time it was read.
type ChangedError struct {
	Path string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s changes while it is being read", e.Path)
}

// stagePrefix begins the names of directories in which restores keep what is not
// in place yet. No snapshot sees them.
const stagePrefix = ".cache-tool-restore-"

// gitDir is the name that a work tree's own repository has.
const gitDir = ".git"

// The permissions that files have if a tree is all that is known of them.
const (
	filePerm = 0o644
	execPerm = 0o755
	dirPerm  = 0o755
	permBits = 0o7777
)

// permOf returns the permissions that mode stands for.
func permOf(m objects.Mode) uint16 {
	switch m {
	case objects.ModeFile:
		return filePerm
	case objects.ModeExec:
		return execPerm
	case objects.ModeDir:
		return dirPerm
	}
	return 0
}

func parallel(n int) int {
	if n > 0 {
		return n
	}
	return max(2, runtime.GOMAXPROCS(0))
}
