#!/usr/bin/env bash
# run.sh -- measure cache-tool beside its peers in the same run, and print where it stands. Set, if you like:
#
#   WORKDIR    where the workloads are kept and the work is done; 20 GB   ${TMPDIR:-/var/tmp}/cache-tool-bench
#   REPS       repetitions, of which the medians are taken                1
#   WORKLOADS  some of "W1 W2 W3", or nothing                             all
#   TOOLS      some of measure.sh's                                       all that can be installed
#   NEWER=1    build restic, kopia and desync with go install: kopia and
#              desync are no Debian packages, and its restic is old
#   FULL=1     also copying to a second store, and gc
#   QUIET      wait up to so many seconds before each step until the         8
#              machine is idle
#   RUNS       rounds of one compile beside ccache                        100; 0 leaves it out
#   GOBENCH=0  leaves out the Go benchmarks
set -euo pipefail
W=$(realpath -m "${WORKDIR:-${TMPDIR:-/var/tmp}/cache-tool-bench}")
TOOLS=${TOOLS:-cachetool cp tarzstd tarzstd1 git restic borg casync desync ostree bup kopia rsync}
. "$(dirname "$0")/lib.sh"
setup git rsync zstd ccache gcc casync restic borg:borgbackup ostree bup npm

RESULTS=$W/results-$(date +%Y%m%d-%H%M%S).csv
if [ "${WORKLOADS-W1 W2 W3}" ]; then
	"$HERE/gen.sh" "$W"
	"$HERE/measure.sh" "$W" "$RESULTS" "${REPS:-1}" "${WORKLOADS-W1 W2 W3}" "$TOOLS"
fi
[ "${RUNS:-100}" = 0 ] || bench compile "$RESULTS" "${RUNS:-100}"
if [ "${GOBENCH:-1}" != 0 ]; then
	(cd "$HERE/../.." && go test -run '^$' -bench . -benchmem ./... | grep -vE '^(ok|PASS|\?|goos|goarch)|no test files')
fi
bench report "$RESULTS"
echo
echo "rows of this run: $RESULTS"
