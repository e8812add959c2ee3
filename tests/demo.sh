#!/usr/bin/env bash
# demo.sh -- what cache-tool does, on a real build: its own sources, from an empty compiler cache. It works in a
# directory of its own and leaves nothing behind.
set -euo pipefail
T=$(mktemp -d "${TMPDIR:-/tmp}/cache-tool-demo.XXXXXX")
trap 'chmod -R u+w "$T"; rm -rf "$T"' EXIT
HERE=$(cd "$(dirname "$0")/.." && pwd)
unset DUNE_CACHE DUNE_CACHE_ROOT
export CACHE_TOOL_REPO=$T/cache GOFLAGS=-buildvcs=false CGO_ENABLED=0

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { # run COMMAND…: show it, run it, say how long it took
	printf '$ %s\n' "$*"
	local from=${EPOCHREALTIME/[.,]/} code=0
	"$@" || code=$?
	local us=$((${EPOCHREALTIME/[.,]/} - from))
	printf -- '-- %d.%02d s%s\n' $((us / 1000000)) $((us % 1000000 / 10000)) "$([ $code = 0 ] || echo ", exit code $code")"
}
must() { "$@" || { echo "demo: this should hold: $*"; exit 1; }; }

mkdir -p "$T/src"
(cd "$HERE" && find . -name '*.go' ! -path './build/*' ! -path './.git/*' -o -name go.mod -o -name go.sum) | (cd "$HERE" && tar -cf - -T -) | tar -xf - -C "$T/src"
cd "$T/src"
git init -q . && git add . && git -c user.name=demo -c user.email=demo@demo commit -q -m 'the sources of the demo'

build=(cache-tool run --in '**/*.go' --in go.mod --in go.sum --env CGO_ENABLED --env GOFLAGS --out bin/app -- go build -o bin/app .)

title "A build from nothing: $(find . -name '*.go' | wc -l) Go files of our own, and all that they import"
export GOCACHE=$T/gocache
run "${build[@]}"
must test -x bin/app
made=$(sha256sum < bin/app)

title 'The same on another day: no output, no compiler cache'
rm -r bin; GOCACHE=$T/gocache-empty
run "${build[@]}"
must test "$made" = "$(sha256sum < bin/app)"
GOCACHE=$T/gocache

title 'One file changes: it is built again, and explain says why'
echo '// changed' >> main.go
run "${build[@]}"
run cache-tool explain

title 'The change is taken back: the old build is still there'
git checkout -q main.go
run "${build[@]}"
must test "$made" = "$(sha256sum < bin/app)"

title 'A compile finds its headers by itself, as with ccache'
mkdir c && for i in 1 2 3 4 5; do echo "#define N$i $i" > c/h$i.h; done
{ for i in 1 2 3 4 5; do echo "#include \"h$i.h\""; done; echo '#include <stdio.h>'; echo 'int main(void) { return printf("%d\n", N1 + N5) < 0; }'; } > c/a.c
compile=(cache-tool run --depfile c/a.d --out c/a.o -- gcc -O2 -MD -MF c/a.d -c c/a.c -o c/a.o)
run "${compile[@]}"
run "${compile[@]}"
echo '#define N6 6' >> c/h4.h
run "${compile[@]}"
run cache-tool explain

title 'A folder of dependencies is saved, loses a file, has one changed, and is restored'
cp -R "$(go env GOROOT)/src/cmd/vendor" deps # what Go's own commands depend on
printf '%s files, %s\n' "$(find deps -type f | wc -l)" "$(du -sh deps | cut -f 1)"
run cache-tool save deps-v1 deps
run cache-tool save deps-v1 deps
cp -a deps "$T/before"
mapfile -t files < <(find deps -name '*.go' | sort)
rm "${files[0]}"; echo '// broken' >> "${files[1]}"
run cache-tool restore deps-v1 --delete
must diff -r --no-dereference deps "$T/before"
echo '// a new version' >> deps/modules.txt
run cache-tool save deps-v1 deps

title 'History, like that of Git'
run cache-tool log --oneline -n 6
run cache-tool diff main~1 main deps-v1
run cache-tool stats

if command -v dune > /dev/null && command -v menhir > /dev/null; then
	title 'Dune on two machines: another home, other paths, an empty cache, and nothing is compiled'
	machine() { (cd "$T/$1/src" && HOME=$T/$1/home XDG_CACHE_HOME=$T/$1/cache "${@:2}"); }
	A() { machine a "$@"; }
	B() { machine b/elsewhere "$@"; }
	for m in a b/elsewhere; do sh "$HERE/tests/dune/project.sh" "$T/$m/src" plain; done
	build=(cache-tool dune wrap -- dune build --root . --display=quiet @all @runtest)
	run A "${build[@]}"
	run B "${build[@]}"
	run B _build/default/bin/main.exe
	must test "$(B _build/default/bin/main.exe)" = "$(A _build/default/bin/main.exe)"
	run B cache-tool dune status
else
	printf '\n(no dune or menhir here: the section about Dune is left out)\n'
fi

title 'And it is Git: an export that git checks'
run cache-tool export --git "$T/export"
run git -C "$T/export" fsck --strict --no-progress
run git -C "$T/export" log --oneline -n 3 main
printf '\ndemo: done in %d s; nothing is left of it\n' $SECONDS
