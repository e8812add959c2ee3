// Command bench measures cache-tool beside its peers: it times the steps that
// measure.sh and sync.sh take, compares `run` with ccache on one compile, and
// reports the medians, and where cache-tool stands against its goals.
//
//	bench step RESULTS WORKLOAD TOOL STEP REP COMMAND…   time one step
//	bench size RESULTS WORKLOAD TOOL STEP REP PATH…      bytes of a store
//	bench count RESULTS WORKLOAD TOOL WHAT REP NUMBER    what a script has counted
//	bench compile RESULTS RUNS                           run beside ccache
//	bench crowd REPOSITORY N                             add N results to main
//	bench report RESULTS                                 tables, in Markdown
//
// RESULTS is a CSV file that the others add to and report reads.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/tests/crowd"
)

var errUsage = errors.New("usage: bench step|size|count|compile|report RESULTS …, or bench crowd REPOSITORY N")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	verb, file, args := args[0], args[1], args[2:]
	switch {
	case verb == "report" && len(args) == 0:
		return report(os.Stdout, file)
	case verb == "crowd" && len(args) == 1:
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return crowd.Make(ctx, file, entry.Run, n)
	case verb == "compile" && len(args) == 1:
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return compile(ctx, file, n)
	case (verb == "step" || verb == "size" || verb == "count") && len(args) > 4:
		rep, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		r := result{Workload: args[0], Tool: args[1], Step: args[2], Rep: rep}
		switch verb {
		case "step":
			err = r.time(ctx, args[4:])
		case "size":
			err = r.size(args[4:])
		case "count":
			r.Size, err = strconv.ParseInt(args[4], 10, 64)
		}
		if err != nil {
			return err
		}
		fmt.Println(strings.Join(r.row(), " "))
		return add(file, r)
	}
	return errUsage
}
