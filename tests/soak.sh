#!/bin/sh
# soak.sh [PACKAGE…] -- run every test at its full counts and sum it up.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
began=$(date +%s)
CACHE_TOOL_SOAK=1 go test -count=1 -timeout 12h -v "${@:-./...}" >"$log" 2>&1
status=$?
grep -aE '^(FAIL|ok|---? FAIL|panic:|\?)' "$log"
echo
echo "the slowest tests:"
sed -n 's/^--- [A-Z]*: \([^ ]*\) (\([0-9.]*\)s)$/\2 s  \1/p' "$log" | sort -rn | head -n 15
echo
echo "$(grep -ac '^--- PASS' "$log") passed, $(grep -ac '^--- FAIL' "$log") failed, $(grep -ac '^--- SKIP' "$log") skipped"
grep -a '^--- SKIP' "$log"
echo "soak: $(($(date +%s) - began)) s, exit code $status"
[ $status = 0 ] || { kept=$(mktemp /tmp/cache-tool-soak.XXXXXX); cp "$log" "$kept"; echo "everything it printed: $kept"; }
exit $status
