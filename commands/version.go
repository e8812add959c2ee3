package commands

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// release is the version of this build, set by the Makefile:
//
//	go build -ldflags "-X github.com/cache-tool/cache-tool/commands.release=1.2.3"
var release string

// version returns the release, or what the Go tool knows of the build.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func versionCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:        "version",
		Category:    categoryTool,
		Usage:       "print the version of cache-tool",
		Description: text(`Prints the version, the Go release it was built with and the platform.`, `cache-tool version --json`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{
					"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			s.printf("%s version %s (%s, %s/%s)\n", programName, version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
