#!/usr/bin/env bash
# gen.sh WORKDIR -- make the three workloads, each as v1 and v2.
#
#   W1 many small files: Go's own sources and a pinned node_modules
#   W2 a build cache:    GOCACHE after building std and a program with big, pinned modules
#   W3 big binaries:     five builds of that program (100 MB), with small edits in between, and
#                        node, libLLVM, the Go compiler, cc1plus: what is there of them
#   v2 has about 1 % changed:
#     W1: every 150th file has a line more, every 400th a changed copy, every 1000th is gone
#     W2: what four builds after small edits add
#     W3: a sixth build, and the fifth replaced by a seventh
#
# Needs go with a module proxy, npm with a registry, and about 12 GB. The same versions of Go and Node.js give
# the same bytes. Result: WORKDIR/data/W{1,2,3}/v{1,2}. What is finished is kept.
set -euo pipefail
export LC_ALL=C
W=$(realpath -m "${1:?usage: gen.sh WORKDIR}")
HERE=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$W"/{data,build}
# goindex=0: what Go keeps of a module's directory has the directory's name in it, and so WORKDIR's.
export GOMODCACHE=$W/build/gomod GOFLAGS="-buildvcs=false -modcacherw -trimpath" GOTOOLCHAIN=local CGO_ENABLED=0 GODEBUG=goindex=0
GOROOT=$(go env GOROOT)
P=$W/build/program

# ---- the program that W2 and W3 build
module() {
	mkdir -p "$P/leaf" "$P/mid"
	cp "$HERE/program/go.mod.txt" "$P/go.mod"
	cp "$HERE/program/go.sum.txt" "$P/go.sum"
	cp "$HERE/program/main.go.txt" "$P/main.go"
}
edit() { # edit N: the sources as of version N, changed a little in a leaf and, for even N, above it
	local n=$(($1 * 3 + 40)) i
	{
		printf 'package leaf\n\nconst Version = "1.0.%d"\n\n' "$1"
		for i in $(seq 1 $n); do echo "func F$i(x int) int { if x > $i { return x*$i + $1 }; return x ^ $i }"; done
		echo 'func All(x int) int {'
		for i in $(seq 1 $n); do echo "	x += F$i(x)"; done
		printf '	return x\n}\n'
	} > "$P/leaf/leaf.go"
	{
		printf 'package mid\n\nimport ("fmt"; "example.invalid/wbig/leaf")\n\n'
		echo 'func Do(n int) string { return fmt.Sprint(leaf.Version, leaf.All(n)) }'
		for i in $(seq 1 $(($1 / 2))); do
			echo "func G$i(n int) string { return fmt.Sprintf(\"extra $i %d\", leaf.All(n+$i)) }"
			echo "var Sink$i = G$i"
		done
	} > "$P/mid/mid.go"
}
build() { (cd "$P" && go build -o "$1" .); }
snapshot() { # snapshot DIR: keep GOCACHE as it is, but for the times of day in it
	cp -a "$GOCACHE" "$1"
	rm -f "$1"/trim.txt "$1"/testexpire.txt
	find "$1" -name '*-a' -print0 | xargs -0 perl -e '
		for my $name (@ARGV) {
			my $mtime = (stat $name)[9];
			open my $f, "<", $name or die $name; my $text = <$f>; close $f;
			$text =~ s/^(v1 \S+ )(.{7})(.* )\d{19}$/$1.$2.$3."1700000000".sprintf("%09d", hex $2)/e;
			open $f, ">", $name or die $name; print $f $text; close $f;
			utime $mtime, $mtime, $name;
		}'
}

# ---- W2 and W3
if [ ! -f "$W/data/W23.done" ]; then
	rm -rf "$W/data/W2" "$W/data/W3" "$P" "$W/build/gocache"
	mkdir -p "$W/data/W2" "$W/data/W3/v1" "$W/data/W3/v2"
	module
	export GOCACHE=$W/build/gocache
	edit 1; build "$W/data/W3/v1/wbig-1.0.1"
	(cd "$P" && go build std && { go vet . ./leaf ./mid >/dev/null 2>&1 || true; })
	snapshot "$W/data/W2/v1"
	for v in 2 3 4 5; do edit $v; build "$W/data/W3/v1/wbig-1.0.$v"; done
	snapshot "$W/data/W2/v2"
	for f in "$(readlink -f "$(command -v node || true)")" "$(find /usr/lib -name 'libLLVM*.so.*' -type f | sort | head -n 1)" \
		"$GOROOT"/pkg/tool/*/compile "$(gcc -print-prog-name=cc1plus 2>/dev/null || true)" "$GOROOT/bin/go"; do
		[ ! -f "$f" ] || cp -L --preserve=mode,timestamps "$f" "$W/data/W3/v1/"
	done
	cp -a "$W/data/W3/v1/." "$W/data/W3/v2/"
	edit 6; build "$W/data/W3/v2/wbig-1.0.6"
	edit 7; rm "$W/data/W3/v2/wbig-1.0.5"; build "$W/data/W3/v2/wbig-1.0.5"
	unset GOCACHE
	touch "$W/data/W23.done"
fi

# ---- W1
if [ ! -f "$W/data/W1.done" ]; then
	N=$W/build/node
	rm -rf "$N" "$W/data/W1"
	mkdir -p "$N" "$W/data/W1/v1"
	# The lock file fixes every version, and says where none comes from. (npm ci refuses this tree: optional peers.)
	cp "$HERE/w1-package.json" "$N/package.json"
	cp "$HERE/w1-package-lock.json" "$N/package-lock.json"
	(cd "$N" && npm install --ignore-scripts --no-audit --no-fund --legacy-peer-deps --loglevel=error)
	cp -a "$GOROOT/src" "$W/data/W1/v1/go-src"
	cp -a "$N/node_modules" "$W/data/W1/v1/node_modules"
	cp -a "$W/data/W1/v1" "$W/data/W1/v2"
	cd "$W/data/W1/v2"
	find . -type f | sort > "$W/build/w1.list"
	awk 'NR%1000==7' "$W/build/w1.list" | tr '\n' '\0' | xargs -0 rm -f
	awk 'NR%400==13' "$W/build/w1.list" | while IFS= read -r f; do [ ! -f "$f" ] || sed '1s/^/x/' "$f" > "$f.new"; done
	awk 'NR%150==11' "$W/build/w1.list" | while IFS= read -r f; do [ ! -f "$f" ] || { chmod u+w "$f"; echo "// changed" >> "$f"; }; done
	touch "$W/data/W1.done"
fi

# ---- what came out
for w in W1 W2 W3; do for v in v1 v2; do
	find "$W/data/$w/$v" -type f -printf '%s\n' | sort -n |
		awk -v n="$w/$v" '{a[NR]=$1;s+=$1} END{printf "%s files=%d (%.1f MB) median=%d p99=%d max=%d\n",n,NR,s/1e6,a[int(NR/2)+0],a[int(NR*.99)],a[NR]}'
done; done
