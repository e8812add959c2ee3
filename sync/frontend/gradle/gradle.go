// Package gradle serves the build system Gradle, as its HTTP build cache: the last
// part of a URL is the key of a task.
package gradle

import (
	"strings"

	"github.com/cache-tool/cache-tool/sync/frontend"
)

// Client is Gradle.
var Client = frontend.Client{Kind: "gradle", Parse: parse, ContentType: "application/vnd.gradle.build-cache-artifact.v1"}

// Script returns an init script that has Gradle use the cache at url, which it also
// does with its own local one.
func Script(url string) string {
	return `gradle.settingsEvaluated { settings ->
    settings.buildCache {
        remote(HttpBuildCache) {
            url = "` + url + `/"
            push = true
            if (it.hasProperty("allowInsecureProtocol")) {
                allowInsecureProtocol = true
            }
        }
    }
}
`
}

func parse(path string) (frontend.Name, bool) {
	const most = 128
	notIn := func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_'
	}
	return frontend.Name{Key: path}, path != "" && len(path) <= most && !strings.ContainsFunc(path, notIn)
}
