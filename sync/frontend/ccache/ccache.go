// Package ccache serves the compiler cache ccache, as its remote HTTP storage.
//
// A URL ends in the key of a result or of a manifest, written as the layout says that
// is set with it:
//
//	flat      <key>                     2 hexadecimal digits, then base 32
//	subdirs   <2 digits>/<rest of key>
//	bazel     ac/<64 digits>            the key in hexadecimal, filled up
//
// A value begins with the bytes cc ac, a version, and its type: 0 is a result. 1 is a
// manifest, which lists results by what they include, and is written again whenever
// there is one more.
package ccache

import (
	"bytes"
	"strings"

	"github.com/cache-tool/cache-tool/sync/frontend"
)

// Client is ccache.
var Client = frontend.Client{Kind: "ccache", Parse: parse, IsLatest: isManifest}

// Storage returns what CCACHE_REMOTE_STORAGE is to be for the cache at url.
func Storage(url string) string { return url + "|layout=flat" }

func parse(path string) (frontend.Name, bool) {
	dir, key, deep := strings.Cut(path, "/")
	switch {
	case !deep:
		key = path
	case dir != "ac" || len(key) != 64: // that is the key of no other layout
		key = dir + key
	}
	return frontend.Name{Key: key}, isKey(key) && (!deep || len(dir) == 2)
}

// isKey reports whether s is made of what keys are made of.
func isKey(s string) bool {
	const least, most = 20, 100
	notIn := func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') }
	return len(s) >= least && len(s) <= most && !strings.ContainsFunc(s, notIn)
}

var magic = []byte{0xcc, 0xac}

func isManifest(head []byte) bool {
	const at, manifest = 3, 1
	return bytes.HasPrefix(head, magic) && len(head) > at && head[at] == manifest
}
