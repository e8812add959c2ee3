#!/usr/bin/env bash
# dune.sh [URL] -- Dune on a second machine: a real project is built from nothing on "machine" A, whose cache is
# pushed; on "machine" B, which has another home, other paths and an empty cache, it is pulled and built. Printed
# are the time from scratch, that with the filled cache, that with Dune's own local cache, and which rules were
# still executed. Set, if you like:
#
#   URL        the remote, where each repetition makes a directory of its own; "apache" starts an Apache with WebDAV
#              on this machine; without it both machines use one repository
#   WORKDIR    where the work is done; 5 GB                ${TMPDIR:-/var/tmp}/cache-tool-dune
#   REPS       repetitions, of which the medians are taken 3
#   SOURCE     the project's sources                       Coq 8.16's core, from Debian's source package
#   BUILD      how it is built, in SOURCE                  dune build --display=quiet -p coq-core
#   EDIT       a source file that gets a line more         toplevel/ccompile.ml
#   DUNE       another Dune; ../dune/later.sh makes some   dune
set -euo pipefail
export LC_ALL=C
HERE=$(cd "$(dirname "$0")" && pwd)
URL=${1:-}
W=$(realpath -m "${WORKDIR:-${TMPDIR:-/var/tmp}/cache-tool-dune}")
REPS=${REPS:-3}
BUILD=${BUILD:-dune build --display=quiet -p coq-core}
EDIT=${EDIT:-toplevel/ccompile.ml}
[ ! "${DUNE:-}" ] || export PATH=$(dirname "$(realpath -s "$DUNE")"):$PATH OCAMLPATH=${OCAMLPATH:-/usr/lib/ocaml}
export DUNE_TRACE=cache,process
export COQ_CONFIGURE_PREFIX=/usr/local # Coq's default is the directory that it is built in
mkdir -p "$W"

"$HERE/../need.sh" dune:ocaml-dune ocamlopt:ocaml-nox ocamlfind:ocaml-findlib /usr/lib/ocaml/zarith/META:libzarith-ocaml-dev
command -v dune > /dev/null || { echo "dune: no dune here; nothing to measure"; exit 0; }
command -v cache-tool > /dev/null || { echo "dune: no cache-tool in PATH; make bench builds it"; exit 1; }

# ---- the remote
serve() { # an Apache of our own, on a port that is free, as long as we run
	"$HERE/../need.sh" apache2:apache2-bin
	local d=$W/apache port=$((20000 + RANDOM % 10000)) m
	rm -rf "$d"
	mkdir -p "$d/data"
	{
		for m in mpm_event authz_core dav dav_fs; do echo "LoadModule ${m}_module /usr/lib/apache2/modules/mod_$m.so"; done
		[ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n'
		printf 'ServerRoot %s\nServerName localhost\nListen 127.0.0.1:%d\nPidFile %s/pid\nMutex file:%s\nErrorLog %s/error.log\n' "$d" "$port" "$d" "$d" "$d"
		printf 'DavLockDB %s/locks\nDocumentRoot %s/data\n<Directory %s/data>\nDav On\nRequire all granted\n</Directory>\n' "$d" "$d" "$d"
	} > "$d/conf"
	[ "$(id -u)" != 0 ] || chown www-data "$d" "$d/data"
	apache2 -f "$d/conf" -k start
	trap 'kill "$(cat "$W/apache/pid")"' EXIT
	URL=dav+http://127.0.0.1:$port
}
[ "$URL" != apache ] || serve

# ---- the project
coq() { # from Debian's sources, whether or not the system lists them
	[ ! -f "$W/source/dune-project" ] || return 0
	local list=$W/apt/list.list
	mkdir -p "$W"/apt/{lists,cache}/partial "$W/source"
	if ls /etc/apt/sources.list.d/*.sources > /dev/null 2>&1; then
		list=$W/apt/list.sources
		sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/*.sources > "$list"
	else
		sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$list"
	fi
	local apt=(apt-get -qq -o Dir::Etc::sourcelist="$list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$W/apt/lists" -o Dir::Cache="$W/apt/cache" -o APT::Sandbox::User=root)
	(cd "$W/apt" && "${apt[@]}" update && "${apt[@]}" source --download-only coq)
	tar -xf "$W"/apt/coq_*.orig.tar.* -C "$W/source" --strip-components=1
}
[ "${SOURCE:-}" ] || { coq; SOURCE=$W/source; }

# ---- the machines
on() { # on MACHINE COMMAND…: run it there, in the sources
	local m=$1; shift
	(cd "$W/$m/src" && env -u DUNE_CACHE_ROOT HOME="$W/$m/home" XDG_CACHE_HOME="$W/$m/cache" CACHE_TOOL_REPO="$(repo "$m")" CACHE_TOOL_BRANCH= "$@")
}
repo() { if [ "$URL" ]; then echo "$W/$1/repo"; else echo "$W/repo"; fi; }
fresh() { # fresh MACHINE: another home, other paths, an empty cache
	aside "$W/$1"
	mkdir -p "$W/$1/home" "$W/$1/cache"
	cp -a "$SOURCE" "$W/$1/src"
}
# What is over is put aside until all is measured: some file systems are slow for minutes after many files were removed.
clear() { [ ! -d "$W/aside" ] || { chmod -R u+w "$W/aside" && rm -rf "$W/aside"; }; }
clear
turn=0
aside() { for old; do [ ! -e "$old" ] || { mkdir -p "$W/aside/$((++turn))"; mv "$old" "$W/aside/$turn/"; }; done; }
timed() { # timed NAME COMMAND…: run it, note its seconds
	local name=$1 from=${EPOCHREALTIME/[.,]/}; shift
	"$@" > "$W/log" 2>&1 || { cat "$W/log"; echo "dune: $name failed"; exit 1; }
	local us=$((${EPOCHREALTIME/[.,]/} - from))
	printf '%s %d.%03d\n' "$name" $((us / 1000000)) $((us % 1000000 / 1000)) >> "$W/times"
}
median() { awk -v n="$1" '$1 == n {print $2}' "$W/times" | sort -n | awk '{a[NR] = $1} END {print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2}'; }
notes() { # notes MACHINE: what Dune notes of its last build
	if [ -f "$W/$1/src/_build/log" ]; then cat "$W/$1/src/_build/log"; else on "$1" dune trace cat; fi
}
executed() { # executed MACHINE: the commands that ran; Dune asks about its surroundings in every build
	notes "$1" | grep -E '^\$ |"cat":"process","name":"start"' | grep -vE 'nproc|-config|dune\.ml' || true
}
rules() { # rules MACHINE: what was hit, and what was not
	notes "$1" | awk -v ran="$(executed "$1" | wc -l)" '
		/^# cache hit|"cat":"cache","name":"hit"/ {h++} /^# cache miss|"cat":"cache","name":"miss"/ {m++}
		END {printf "%d hits, %d misses, %d commands run", h, m, ran}'
}
cached=(env DUNE_CACHE=enabled DUNE_CACHE_TRANSPORT=direct)
remote=()
# shellcheck disable=SC2086
build() { on "$1" "${@:2}" $BUILD; }

: > "$W/times"
for rep in $(seq "$REPS"); do
	fresh scratch
	timed scratch build scratch env DUNE_CACHE=disabled

	aside "$W/repo"
	fresh A
	timed filling build A "${cached[@]}"
	fresh B/elsewhere
	if [ "$URL" ]; then
		for m in A B/elsewhere; do on $m cache-tool -q init; on $m cache-tool -q remote add origin "$URL/$$-$rep"; done
		remote=(origin)
	fi
	timed push on A cache-tool dune push "${remote[@]}"
	pushed=$(tail -n 1 "$W/log") stored=
	[ "$URL" ] || stored=$(du -sm "$W/repo" | cut -f 1)
	timed pull on B/elsewhere cache-tool dune pull "${remote[@]}"
	timed restored build B/elsewhere "${cached[@]}"
	elsewhere=$(rules B/elsewhere)
	executed B/elsewhere | cut -c 1-200 > "$W/executed"
	timed push-unchanged on B/elsewhere cache-tool dune push "${remote[@]}"

	# What Dune's own cache saves where it was filled: A once more, without its build directory.
	aside "$W/A/src/_build"
	timed local build A "${cached[@]}"
	locally=$(rules A)

	[ -f "$W/A/src/$EDIT" ] || { echo "dune: no $EDIT in the sources"; exit 1; }
	echo 'let a_line_more = 1' >> "$W/A/src/$EDIT"
	timed edited build A "${cached[@]}"
	timed push-edit on A cache-tool dune push "${remote[@]}"
	edited=$(tail -n 1 "$W/log")
	[ "$URL" ] || edited="$edited, $(du -sm "$W/repo" | cut -f 1) MB stored then"
	timed pull-edit on B/elsewhere cache-tool dune pull "${remote[@]}"
done

# ---- what came out
echo "Dune $(dune --version), medians of $REPS"
s=$(median scratch) p=$(median pull) r=$(median restored) l=$(median local)
awk -v s="$s" -v p="$p" -v r="$r" -v l="$l" 'BEGIN {
	printf "%-58s %8.1f s\n", "from scratch, without a cache", s
	printf "%-58s %8.1f s   %3.0f %% less\n", "with the local cache that Dune itself has filled", l, 100 * (s - l) / s
	printf "%-58s %8.1f s   %3.0f %% less, %.0f %% of what the local cache saves\n", "on another machine, with the pull", p + r, 100 * (s - p - r) / s, 100 * (s - p - r) / (s - l)
	printf "%-58s %8.1f s\n", "  of which the pull", p
}'
for n in filling push push-unchanged push-edit pull-edit; do printf '%-58s %8.2f s\n' "$n" "$(median $n)"; done
echo "pushed: $pushed${stored:+, $stored MB stored}"
echo "after a line more in $EDIT: $edited"
echo "rules on the other machine: $elsewhere; with the local cache: $locally"
sed 's/^/  /' "$W/executed" | head -n 20
clear
