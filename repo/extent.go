package repo

import (
	"strconv"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo/worktree"
)

// How much a saved entry holds stands among the extras of its meta: who lists
// entries would have to walk their trees otherwise.
const (
	extraFiles = "files"
	extraBytes = "bytes"
)

func extentOf(s worktree.Snapshot) map[string]string {
	return map[string]string{
		extraFiles: strconv.Itoa(s.Count),
		extraBytes: strconv.FormatInt(s.Bytes, 10),
	}
}

// Extent returns how many files and links a saved entry has, and how many bytes
// they hold; ok says whether its meta tells.
func Extent(m entry.Meta) (files, bytes int64, ok bool) {
	files, err1 := strconv.ParseInt(m.Extra[extraFiles], 10, 64)
	bytes, err2 := strconv.ParseInt(m.Extra[extraBytes], 10, 64)
	return files, bytes, err1 == nil && err2 == nil
}
