#!/usr/bin/env bash
# demo.sh -- what cache-tool does, on real input: the C sources of the zstd
# library, built through `run`, and the vendored modules of this project, kept
# with `save`. Needs the command in PATH, go, gcc and git. Leaves nothing behind.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
top=$(mktemp -d "${TMPDIR:-/tmp}/cache-tool-demo.XXXXXX")
trap 'chmod -R u+w "$top"; rm -rf "$top"' EXIT
export CACHE_TOOL_REPO=$top/repo

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
shell() { printf '$ %s\n' "$*"; "$@"; }
clock() { # clock WHAT COMMAND…: run it and say how long it took
  local what=$1 start end
  shift
  start=$(date +%s%N)
  "$@"
  end=$(date +%s%N)
  printf '  %-46s %6d.%02d s\n' "$what" $(((end - start) / 1000000000)) $(((end - start) / 10000000 % 100))
}

title "A C library, built through the cache"
module=$(cd "$project" && GOFLAGS=-mod=mod go mod download -json github.com/DataDog/zstd@v1.5.7 | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
mkdir "$top/zstd"
cp "$module"/*.c "$module"/*.h "$module"/*.S "$top/zstd/"
chmod -R u+w "$top/zstd"
cd "$top/zstd"
cat >Makefile <<'MAKE'
CC      = cache-tool run --out $@ --depfile $(@:.o=.d) -- gcc
CFLAGS  = -O1 -DXXH_NAMESPACE=ZSTD_ -MD
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c)) huf_decompress_amd64.o
libzstd.a: $(OBJECTS)
	@ar rcs $@ $^
%.o: %.c
	@$(CC) $(CFLAGS) -c $< -o $@
%.o: %.S
	@$(CC) $(CFLAGS) -c $< -o $@
MAKE
build() { make -s -j2 libzstd.a; }
clean() { rm -f ./*.o ./*.d ./*.a; }
echo "$(ls ./*.c | wc -l) C files, $(du -ch ./*.[ch] | tail -1 | cut -f1); each compiled with: cache-tool run --out X.o --depfile X.d -- gcc -O1 -MD -c X.c"
clock 'make, with an empty cache' build
cp libzstd.a ../first.a
clean
clock 'make clean, make again: all from the cache' build
cmp libzstd.a ../first.a && echo "  libzstd.a is the same, byte for byte"

title "One header changes: what is built again, and why"
sed -i '1i /* a harmless comment */' zstd_ddict.h
clean
clock 'make, after an edit of zstd_ddict.h' build
shell cache-tool explain
shell cache-tool commit -m 'build of zstd'

title "A dependency folder"
cd "$project"
go mod vendor -o "$top/app/vendor"
cd "$top/app"
echo "vendor: $(find vendor -type f | wc -l) files, $(du -sh vendor | cut -f1)"
clock 'cache-tool save deps vendor' cache-tool save deps vendor
clock 'again, nothing changed' cache-tool save deps vendor
echo '// changed' >>vendor/modules.txt
clock 'again, one file changed' cache-tool save deps vendor
rm -rf vendor
clock 'rm -rf vendor; cache-tool restore deps' cache-tool restore deps
clock 'restore over what is right already' cache-tool restore deps
clock 'back to the version before' cache-tool restore main~1:deps

title "It works like Git"
shell cache-tool log --oneline
shell cache-tool diff main~1 main deps
shell cache-tool blame save/deps/base/vendor/modules.txt
shell cache-tool revert main
shell cache-tool stats
shell cache-tool fsck
shell cache-tool export --git "$top/export.git"
shell git -C "$top/export.git" fsck --strict --no-progress
shell git -C "$top/export.git" log --oneline
