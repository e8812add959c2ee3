// Command cache-tool is a build cache that works like Git.
package main

import (
	"os"

	"github.com/cache-tool/cache-tool/commands"
)

func main() {
	ctx, stop := commands.Signals(os.Args[1:])
	code := commands.Main(ctx, os.Args[1:], commands.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
