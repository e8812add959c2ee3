#!/bin/sh
# lint.sh MODULE/CMD@VERSION ARGUMENT… -- run a checker that is no dependency of
# the project. Where it cannot be fetched, or what it reads cannot, that is one
# line and no failure; what it finds is a failure.
set -u
tool=$1; shift
name=$(basename "${tool%@*}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if ! GOBIN=$dir go install "$tool" >"$dir/log" 2>&1; then
	echo "$name: skipped, it cannot be fetched or built: $(tail -n 1 "$dir/log")"
	exit 0
fi
"$dir/$name" "$@" >"$dir/log" 2>&1
status=$?
if [ "$name" = govulncheck ] && grep -qE '^govulncheck: .*(fetching|dial|lookup)' "$dir/log"; then
	echo "$name: skipped, its vulnerability database cannot be reached: $(grep '^govulncheck:' "$dir/log" | head -n 1)"
	exit 0
fi
cat "$dir/log"
[ $status != 0 ] || echo "$name: clean"
exit $status
