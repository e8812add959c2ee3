#!/bin/sh
# need-go.sh MODULE/CMD@VERSION… -- build the servers that are missing, with Go's own
# tool, where package s3test looks for them. They are no dependencies of the project.
# What cannot be fetched or built is named on one line; whoever needs it skips what it
# is for.
set -u
bin=${XDG_CACHE_HOME:-$HOME/.cache}/cache-tool-test/bin
mkdir -p "$bin" || exit 0
for need; do
	name=$(basename "${need%@*}")
	if [ -x "$bin/$name" ] && [ "$(cat "$bin/$name.version" 2>/dev/null)" = "$need" ]; then continue; fi
	echo "need: building $need"
	# In a directory of its own: who runs what is there now is not disturbed.
	dir=$(mktemp -d "$bin/tmp-XXXXXX") || exit 0
	if (cd "$dir" && GOBIN=$dir GOFLAGS= go install "$need" >log 2>&1); then
		mv "$dir/$name" "$bin/$name" && echo "$need" >"$bin/$name.version"
	else
		echo "need: $name could not be built: $(tail -n 1 "$dir/log")"
	fi
	rm -rf "$dir"
done
exit 0
