# lib.sh -- what measure.sh and sync.sh share. Sourced, not run.
#
# Who sources it has set W (the work directory), R (where the stores of one tool are), CSV (the results), REPS, WLS
# and TOOLS, and defines a function t_NAME for each tool, which takes its steps.
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# setup NEED…: install peers, build bench and what NEWER asks for, and find cache-tool.
setup() {
	mkdir -p "$W/bin"
	export PATH=$W/bin:$PATH
	"$HERE/../need.sh" "$@"
	if [ "${NEWER:-}" ]; then
		for peer in github.com/restic/restic/cmd/restic github.com/kopia/kopia github.com/folbricht/desync/cmd/desync; do
			[ -x "$W/bin/$(basename $peer)" ] || GOBIN=$W/bin CGO_ENABLED=0 go install $peer@latest > "$W/bin/log" 2>&1 ||
				echo "bench: $peer could not be built: $(tail -n 1 "$W/bin/log")"
		done
	fi
	(cd "$HERE/../.." && go build -o "$W/bin/bench" ./tests/bench) || return
	command -v cache-tool > /dev/null || { echo "bench: no cache-tool in PATH; make builds it"; return 1; }
}

full() { [ -n "${FULL:-}" ]; }
t() { # t STEP COMMAND…
	case $1 in copy* | gc) full || return 0 ;; esac
	bench step "$CSV" "$WL" "$TOOL" "$1" "$REP" "${@:2}" 2>> "$R/log.$TOOL"
}
sz() { bench size "$CSV" "$WL" "$TOOL" "$1" "$REP" "${@:2}"; }
count() { bench count "$CSV" "$WL" "$TOOL" "$1" "$REP" "$2"; } # count WHAT NUMBER
live() { # live VERSION: make the live tree that version
	rsync -a --delete "$W/data/$WL/$1/" "$L/"
	find "$L" -type f -print0 | xargs -0 cat > /dev/null
}
proof() { # proof WHAT COMMAND…
	if "${@:2}" >> "$R/log.$TOOL" 2>&1; then echo "$WL $TOOL: $1 is right"; else
		echo "$WL $TOOL: $1 is WRONG: $(tail -n 1 "$R/log.$TOOL")"
		cp "$R/log.$TOOL" "$W/wrong.$WL.$1"
	fi
}
# What is over is put aside until all tools had their turn with a workload: some file systems (ext4 without a journal)
# make files ten times slower for minutes after many were removed.
turn=0
aside() { # aside PATH…
	local to=$R/aside/$((++turn))
	mkdir -p "$to"
	mv "$@" "$to" 2> /dev/null
}
home() { # an empty home directory, and an empty log
	mkdir -p "$R/home"
	export HOME=$R/home XDG_CACHE_HOME=$R/home/.cache
	: > "$R/log.$TOOL"
}

# turns: the tools take turns within a repetition, so that a slow hour of the machine hits all alike.
turns() {
	local program
	for REP in $(seq "$REPS"); do for WL in $WLS; do
		for TOOL in $TOOLS; do
			case $TOOL in tarzstd*) program=zstd ;; cachetool*) program=cache-tool ;; tarcurl*) program=curl ;; changed) program=git ;; *) program=${TOOL%-s3} ;; esac
			command -v "$program" > /dev/null || { [ "$REP" != 1 ] || echo "skip $TOOL on $WL: not installed"; continue; }
			prep
			cd "$R"; "t_$TOOL"; cd "$R"
		done
		chmod -R u+w "$R/aside"; rm -rf "$R/aside"
	done; done
	chmod -R u+w "$R" 2> /dev/null
	rm -rf "$R"
}
