#!/usr/bin/env bash
# clients.sh -- the build tools whose cache the gateway is, each on a real build: from scratch, without any cache;
# on a machine that fills the cache ("first"); on a second one, with other paths (but for Go) and nothing of its own ("second");
# and on the first again, with the tool's own local cache instead ("local"). Printed are the medians of the times,
# how many of its steps (compiles, actions, tasks, rules) the tool then executed, and which share of the steps that its
# own cache saved the second machine was spared, too. Set, if you like:
#
#   WORKDIR   where the work is done; 3 GB             ${TMPDIR:-/var/tmp}/cache-tool-clients
#   REPS      repetitions                              3
#   CLIENTS   which of them                            ccache go bazel gradle dune
set -euo pipefail
export LC_ALL=C
HERE=$(cd "$(dirname "$0")" && pwd)
W=$(realpath -m "${WORKDIR:-${TMPDIR:-/var/tmp}/cache-tool-clients}")
REPS=${REPS:-3}
CLIENTS=${CLIENTS:-ccache go bazel gradle dune}
mkdir -p "$W"
"$HERE/../need.sh" gcc make ccache gradle npm dune:ocaml-dune ocamlopt:ocaml-nox menhir
command -v cache-tool > /dev/null || { echo "clients: no cache-tool in PATH; make builds it"; exit 1; }
export HOME=$W/home CACHE_TOOL_BRANCH=main GOMODCACHE=${GOMODCACHE:-$(go env GOMODCACHE)} GOPROXY GOFLAGS='-mod=mod -trimpath'
GOPROXY=$(go env GOPROXY)
[ "${1:-}" = build ] || unset CACHE_TOOL_REMOTE CACHE_TOOL_BASE GOCACHEPROG CCACHE_REMOTE_STORAGE DUNE_CACHE DUNE_CACHE_ROOT CI
mkdir -p "$HOME"

# ---- the tools. Each has NAME_source DIR; NAME_build none|own|wrapped, in the sources, with what it caches by itself
# in $OWN; and NAME_ran LOG, the number of steps that were executed.

zstd_sources() { # the C sources of zstd, which come as a Go module
	local dir
	dir=$(cd "$W" && go mod download -json github.com/DataDog/zstd@v1.5.7 | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	cp "$dir"/*.[chS] "$1" && chmod u+w "$1"/*
}

ccache_source() {
	zstd_sources "$1"
	printf 'OBJECTS := $(patsubst %%.c,%%.o,$(wildcard *.c))\nall: $(OBJECTS)\n%%.o: %%.c; $(CC) -O2 -DZSTD_DISABLE_ASM -c $< -o $@\n' > "$1/Makefile"
}
ccache_build() {
	export CCACHE_DIR=$OWN CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_STATSLOG=$PWD/statslog
	case $1 in none) make -j2 CC=gcc ;; *) make -j2 CC='ccache gcc' ;; esac
}
ccache_ran() { if [ -f statslog ]; then grep -c '^cache_miss$' statslog || true; else ls *.o | wc -l; fi; }

go_source() { (cd "$HERE/../.." && git archive HEAD | tar -xf - -C "$1"); }
go_build() {
	export GOCACHE=$OWN
	[ "$1" != none ] || GOCACHE=$(mktemp -d "$W/none.XXXXXX")
	CGO_ENABLED=0 go build -x -o app . && CGO_ENABLED=0 go test -x ./objects ./objects/chunk ./refs ./sync/wire
}
go_ran() { grep -cE '/(compile|link|asm|cgo|vet) |^ok .*[0-9]s$' "$1" || true; } # and tests, unless they are cached

bazel_program() { # npm's, which brings its own Java
	local dir=$W/npm
	[ -d "$dir/node_modules" ] || npm install --prefix "$dir" --no-audit --no-fund @bazel/bazel-linux_x64@2.1.0 > "$W/npm.log" 2>&1
	echo "$dir"/node_modules/@bazel/bazel-linux_x64/bazel-*-linux-x86_64
}
bazel_source() {
	zstd_sources "$1"
	: > "$1/WORKSPACE"
	cat > "$1/BUILD" <<-'B'
	[genrule(name = f[:-2], srcs = glob(["*.c", "*.h"]), outs = [f[:-2] + ".o"],
	    cmd = "gcc -O2 -DZSTD_DISABLE_ASM -c %s -o $@" % f) for f in glob(["*.c"])]
	genrule(name = "all_of_it", srcs = [f[:-2] + ".o" for f in glob(["*.c"])], outs = ["all.a"], cmd = "ar rcD $@ $(SRCS)")
	B
}
bazel_build() {
	local settings=/dev/null cache=()
	case $1 in own) cache=(--disk_cache="$OWN") ;; wrapped) settings=$CACHE_TOOL_BAZELRC cache=(--disk_cache="$OWN") ;; esac
	"$(bazel_program)" --batch --bazelrc="$settings" --output_user_root="$PWD.bazel" build --color=no "${cache[@]}" //:all_of_it
}
bazel_ran() { sed -n 's/^INFO: [0-9]* process[es]*: //p' "$1" | tr ',' '\n' | grep -v 'cache hit' | grep -oE '[0-9]+ (linux|local|processwrapper)' | awk '{n += $1} END {print n + 0}'; }

gradle_source() { # 4 projects, each of which needs the one before
	local p n
	echo "include 'p1', 'p2', 'p3', 'p4'" > "$1/settings.gradle"
	echo "subprojects { apply plugin: 'java' }" > "$1/build.gradle"
	for p in 1 2 3 4; do
		mkdir -p "$1/p$p/src/main/java/p$p"
		: > "$1/p$p/build.gradle"
		[ $p = 1 ] || echo "dependencies { compile project(':p$((p - 1))') }" > "$1/p$p/build.gradle"
		for n in $(seq 60); do
			printf 'package p%d;\npublic class A%d {\n\tpublic static int f(int x) { return x + %d%s; }\n}\n' $p "$n" "$n" "$([ $p = 1 ] || echo " + p$((p - 1)).A$n.f(x)")"
		done | awk -v d="$1/p$p/src/main/java/p$p" '/^package/ {n++} {print > (d "/A" n ".java")}'
	done
}
gradle_build() {
	local flags=(--no-daemon --console=plain -g "$OWN")
	case $1 in own) flags+=(--build-cache) ;; wrapped) flags+=(--build-cache -I "$CACHE_TOOL_GRADLE") ;; esac
	gradle "${flags[@]}" classes
}
gradle_ran() { grep -E '^(> Task )?:p[0-9]:compileJava' "$1" | grep -vcE 'FROM-CACHE|UP-TO-DATE|NO-SOURCE' || true; }

dune_source() { "$HERE/../dune/project.sh" "$1"; }
dune_build() {
	export DUNE_CACHE_TRANSPORT=direct
	case $1 in
	none) DUNE_CACHE=disabled dune build --display=quiet ;;
	own) DUNE_CACHE=enabled dune build --display=quiet ;;
	wrapped) dune build --display=quiet ;; # wrap has set DUNE_CACHE
	esac
}
dune_ran() { grep -E '^\$ ' _build/log | grep -cvE 'nproc|-config|dune\.ml' || true; }

# ---- the machines
if [ "${1:-}" = build ]; then # clients.sh build TOOL WHAT, within wrap
	OWN=$CLIENTS_OWN
	"$2_build" "$3"
	exit
fi
now() { echo "${EPOCHREALTIME/[.,]/}"; }
machine() { # machine NAME: a directory of its own, sources in it, a repository, and nothing cached
	local dir=$W/run/$1
	mkdir -p "$dir/src" "$dir/own"
	"${TOOL}_source" "$dir/src"
	CACHE_TOOL_REPO=$dir/repo cache-tool -q init
	CACHE_TOOL_REPO=$dir/repo cache-tool -q remote add origin "$W/run/remote"
}
step() { # step NAME MACHINE WHAT: build, and note how long it took and how many steps were executed
	local dir=$W/run/$2 log=$W/run/$1.log from us
	export CACHE_TOOL_REPO=$dir/repo CLIENTS_OWN=$dir/own
	local command=("$HERE/clients.sh" build "$TOOL" "$3")
	[ "$TOOL" != dune ] || export XDG_CACHE_HOME=$dir/own # wrap, too, has to find it
	[ "$3" != wrapped ] || command=(cache-tool wrap --push -- "${command[@]}")
	from=$(now)
	(cd "$dir/src" && "${command[@]}") > "$log" 2>&1 || { cat "$log"; echo "clients: $TOOL: $1 failed"; exit 1; }
	us=$(($(now) - from))
	printf '%s %s %d.%03d %s\n' "$TOOL" "$1" $((us / 1000000)) $((us % 1000000 / 1000)) "$(cd "$dir/src" && "${TOOL}_ran" "$log")" >> "$W/times"
	grep -h '^cache-tool: wrap: ' "$log" | sed "s/^/  $TOOL, $1: /" >> "$W/said" || true
}
afresh() { # the sources of a machine, as if nothing was built there
	local dir=$W/run/$1
	mv "$dir/src" "$W/run/built.$RANDOM"
	mkdir "$dir/src"
	"${TOOL}_source" "$dir/src"
}
median() { awk -v t="$1" -v n="$2" -v f="$3" '$1 == t && $2 == n {print $f}' "$W/times" | sort -n | awk '{a[NR] = $1} END {print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }
tidy() { [ ! -e "$W/run" ] || { chmod -R u+w "$W/run"; rm -rf "$W/run"; }; rm -rf "$W"/none.*; }

: > "$W/times"
: > "$W/said"
printf '%-8s %9s %9s %9s %9s   %s\n' tool scratch first second local 'steps executed, and the share of what the local cache saves'
for TOOL in $CLIENTS; do
	case $TOOL in bazel) command -v npm > /dev/null || { echo "bazel: no npm to install it with"; continue; } ;;
	*) command -v "$TOOL" > /dev/null || { echo "$TOOL: not installed"; continue; } ;; esac
	for _ in $(seq "$REPS"); do
		tidy
		machine scratch; step scratch scratch none
		machine a; step first a wrapped
		if [ "$TOOL" = go ]; then # to which results of tests count at one path only
			mv "$W/run/a" "$W/run/first"
			machine a; step second a wrapped
			mv "$W/run/a" "$W/run/second"; mv "$W/run/first" "$W/run/a"
		else
			machine elsewhere/b; step second elsewhere/b wrapped
		fi
		[ "$TOOL" != go ] || { afresh a; step filling a own; } # with GOCACHEPROG it fills no cache of its own
		afresh a; step local a own
	done
	awk -v t="$TOOL" -v s="$(median "$TOOL" scratch 3)" -v f="$(median "$TOOL" first 3)" -v b="$(median "$TOOL" second 3)" -v l="$(median "$TOOL" local 3)" \
		-v sr="$(median "$TOOL" scratch 4)" -v br="$(median "$TOOL" second 4)" -v lr="$(median "$TOOL" local 4)" 'BEGIN {
		printf "%-8s %7.2f s %7.2f s %7.2f s %7.2f s   %d, second %d, local %d: %s\n", t, s, f, b, l, sr, br, lr, (sr > lr) ? sprintf("%.0f %%", 100 * (sr - br) / (sr - lr)) : "-" }'
done
sort -u "$W/said" | head -n 20
[ "${KEEP:-}" ] || tidy
