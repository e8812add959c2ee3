// Package bazel serves the build system Bazel, and others that speak its HTTP protocol
// for remote caches.
//
//	ac/<64 digits>    what an action made: written by clients, named by the action
//	cas/<64 digits>   a file, named by its SHA-256
//
// A file that has another SHA-256 is not taken, and is a miss if it is there.
package bazel

import (
	"strings"

	"github.com/cache-tool/cache-tool/sync/frontend"
)

// Client is Bazel.
var Client = frontend.Client{Kind: "bazel", Parse: parse}

// Settings returns a file for bazel --bazelrc that has it use the cache at url.
func Settings(url string) string {
	return "build --remote_cache=" + url + "\nbuild --remote_upload_local_results=true\n"
}

func parse(path string) (frontend.Name, bool) {
	space, digest, _ := strings.Cut(path, "/")
	notHex := func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') }
	if len(digest) != 64 || strings.ContainsFunc(digest, notHex) {
		return frontend.Name{}, false
	}
	switch space {
	case "ac":
		return frontend.Name{Key: path}, true
	case "cas":
		return frontend.Name{Key: path, SHA256: digest}, true
	}
	return frontend.Name{}, false
}
