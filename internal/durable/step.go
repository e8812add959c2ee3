package durable

import (
	"os"
	"sync/atomic"
)

// Op is what a Step does.
type Op string

// The ways in which this package changes a disk.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write"  // Data at Off
	OpAppend   Op = "append" // Data at the end
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpSyncDir  Op = "syncdir"
	OpRename   Op = "rename" // Path becomes To
	OpLink     Op = "link"   // Path is also called To
	OpRemove   Op = "remove"
	OpMkdir    Op = "mkdir"
)

// A Step is one change that is about to be made to the disk.
type Step struct {
	Op   Op
	Path string
	To   string   // the new name, for OpRename and OpLink
	File *os.File // what OpWrite, OpAppend, OpTruncate and OpSync are about; it may have been renamed since Path
	Off  int64    // the offset of OpWrite, the new size of OpTruncate
	Data []byte   // what OpWrite and OpAppend write
}

// A Hook stands between a step and the disk. It makes the step by calling do,
// which it may leave out, or give a step with less Data; and what it returns is
// what the caller sees. So a step can fail, be done in part, and be done but
// reported as failed. Hooks are called from many goroutines at once.
type Hook func(s Step, do func(Step) error) error

var hook atomic.Pointer[Hook]

// SetHook sends every step of the process through h until restore is called.
// It is for tests: without a hook a step costs nothing.
func SetHook(h Hook) (restore func()) {
	before := hook.Swap(&h)
	return func() { hook.Store(before) }
}

func step(s Step, do func(Step) error) error {
	if h := hook.Load(); h != nil {
		return (*h)(s, do)
	}
	return do(s)
}
