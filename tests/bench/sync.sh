#!/usr/bin/env bash
# sync.sh -- measure push and pull beside peers in the same run, and print where cache-tool stands. Set what run.sh
# knows: WORKDIR, REPS, WORKLOADS, QUIET, NEWER; and
#
#   TOOLS   some of those below   all that can be installed
#
# One repetition of one tool is an empty destination and these steps, each timed by itself:
#   push1   v1, to the empty destination
#   push0   v1 again: nothing to do
#   clone1  v1, into an empty repository
#   push2   v2
#   pull    v1 to v2, into the repository that clone1 made
#   clone   v2, into an empty repository
#   unpack  v2, out of that into an empty directory (what cache-tool calls restore)
#   lazy    clone --lazy
#   unlazy  restore from that
# And as a workload of its own, "lazy": a branch of 100,000 results, of which one is wanted by a build that has
# nothing yet: clone --lazy, and run, which is a hit.
#
# For each: bytes on the wire and requests. Destinations of cache-tool are another repository by path, a bucket in a
# directory, one on Apache (WebDAV), a server of its own, and an object store (s3.sh). Stores that need no program of their own to be copied
# (borg, casync) are copied by rsync, which tells what it costs to move bytes at all. There is no kopia in Debian;
# where it is installed (NEWER=1) it takes part.
set -u
export LC_ALL=C
W=$(realpath -m "${WORKDIR:-${TMPDIR:-/var/tmp}/cache-tool-bench}")
REPS=${REPS:-1}; WLS=${WORKLOADS-W1 W2 W3}
TOOLS=${TOOLS:-changed cachetool-path cachetool-bucket cachetool-apache cachetool-serve cachetool-s3 rsync git restic borg casync desync bup ostree kopia tarcurl rclone-s3 restic-s3 tarcurl-s3}
R=$W/sync; S=$R/store; L=$R/live; O=$R/out; TO=$R/to
. "$(dirname "$0")/lib.sh"
setup git rsync zstd curl rclone apache2:apache2-bin casync restic borg:borgbackup bup ostree npm && "$HERE/gen.sh" "$W" || exit
export PATH=$PATH:/usr/sbin
CSV=$W/results-sync-$(date +%Y%m%d-%H%M%S).csv
mkdir -p "$R"
trap stop EXIT

prep() {
	aside "$R"/{store,to,clone,out,tmp,home}*
	home
}

# ---- what was moved: mark before a step, and after it one of those that tell
mark() { [ ! -e "$1" ] && SEEN=0 || SEEN=$(wc -l < "$1"); }
moved() { # moved STEP BYTES [REQUESTS]
	count "$1.bytes" "$2"; [ -z "${3:-}" ] || count "$1.requests" "$3"
}
logged() { # logged STEP FILE AWK-SUM: what lines after mark say
	sleep 0.2 # servers write their logs when they are done
	moved "$1" $(tail -n +$((SEEN + 1)) "$2" | awk "$3 END { printf \"%d %d\\n\", sum, lines }")
}
said() { # said STEP PATTERN: numbers that the tool has printed
	moved "$1" "$(tail -n +$((SEEN + 1)) "$R/log.$TOOL" | grep -oE "$2" | tr -dc '0-9\n' | awk '{ sum += $1 } END { printf "%d\n", sum }')"
}
bytes() { du -sb --apparent-size "$1" 2> /dev/null | cut -f 1; }
grown() { # grown STEP DIR COMMAND…: what a step adds to a store
	local before; before=$(bytes "$2")
	t "$1" "${@:3}"
	moved "$1" $(($(bytes "$2") - ${before:-0}))
}
sent() { # sent STEP RSYNC-ARGUMENTS…
	mark "$R/log.$TOOL"
	t "$1" rsync -a --stats "${@:2}"
	said "$1" '^Total bytes (sent|received): [0-9,]*'
}

# ---- servers
SERVER=
stop() {
	[ -n "$SERVER" ] || return 0
	kill "$SERVER" 2> /dev/null; wait "$SERVER" 2> /dev/null
	SERVER=
}
# apache: WebDAV at $URL, of the directory $TO. It logs the bytes of each request and answer, with their heads.
apache() {
	local m port
	mkdir -p "$TO/data"
	for port in $(shuf -n 5 -i 20000-30000); do
		{
			for m in mpm_event authn_core authz_core dav dav_fs; do echo "LoadModule ${m}_module /usr/lib/apache2/modules/mod_$m.so"; done
			[ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n'
			cat <<-END
				ServerRoot "$TO"
				ServerName localhost
				Listen 127.0.0.1:$port
				PidFile "$TO/pid"
				Mutex "file:$TO"
				ErrorLog "$TO/error.log"
				LogFormat "%m %U %>s %I %O" bytes
				CustomLog "$TO/access.log" bytes
				DavLockDB "$TO/locks"
				DocumentRoot "$TO/data"
				<Directory "$TO/data">
				  Dav On
				  Require all granted
				</Directory>
			END
		} > "$TO/config"
		[ "$(id -u)" != 0 ] || chown -R www-data: "$TO"
		apache2 -f "$TO/config" -DFOREGROUND >> "$R/log.$TOOL" 2>&1 &
		SERVER=$!
		URL=http://127.0.0.1:$port
		for m in 1 2 3 4 5 6 7 8 9 10; do
			sleep 0.3
			kill -0 $SERVER 2> /dev/null || break
			curl -sf -o /dev/null -X PROPFIND -H 'Depth: 0' "$URL/" && return
		done
		stop
	done
	echo "skip $TOOL on $WL: Apache does not start: $(tail -n 1 "$R/log.$TOOL" "$TO/error.log" 2> /dev/null)"
	return 1
}
serve() { # a server of our own at $URL, with the repository $TO
	local _
	cache-tool -q init "$TO"
	cache-tool --repo "$TO" serve --listen 127.0.0.1:0 --anonymous-read '*' --anonymous-read 'tag:*' --anonymous-write '*' \
		> "$R/tmp.url" 2> "$R/tmp.log" &
	SERVER=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.3
		URL=$(sed -n 's/^serving .* at //p' "$R/tmp.url")
		[ -z "$URL" ] || return 0
	done
	echo "skip $TOOL on $WL: the server does not start: $(tail -n 1 "$R/tmp.log")"
	return 1
}

# ---- what the bytes of v2 are held against: the files that changed, as tar|zstd -3 has them, and the trees above them
t_changed() {
	local v at=$R/tmp.git
	git init -q --bare --object-format=sha256 "$at" || return
	for v in v1 v2; do
		(cd "$W/data/$WL/$v" && export GIT_DIR=$at GIT_INDEX_FILE=$at/index && git -c core.autocrlf=false --work-tree=. add -A -f . && git write-tree) > "$at/$v"
	done
	git -C "$at" diff-tree -r -t -z --no-renames --diff-filter=AM "$(cat "$at/v1")" "$(cat "$at/v2")" | tr '\0' '\n' > "$at/changed"
	count push2.bytes $(($(awk '/^:/ && $2 == "040000" { print $4 }' "$at/changed" | git -C "$at" cat-file --batch='' | zstd -q -3 | wc -c) +
		$(awk '/^:/ { file = $2 != "040000"; next } file' "$at/changed" | tar --posix -cf - -C "$W/data/$WL/v2" --no-recursion --verbatim-files-from -T - | zstd -q -3 | wc -c)))
}

# ---- cache-tool. The store to push from is made once for all destinations, and goes with what was put aside.
sources() {
	A=$R/aside/source
	[ ! -d "$A" ] || return 0
	local TOOL=cachetool
	mkdir -p "$A"
	if [ "$WL" = lazy ]; then
		rm -rf "$L"; mkdir "$L"
		echo 'int a;' > "$L/a.c"; echo 'int h;' > "$L/a.h"
		(cd "$L" && cache-tool -q --repo "$A/v1" "${compile[@]}") > /dev/null
		bench crowd "$A/v1" 100000
		return
	fi
	live v1
	(cd "$L" && cache-tool -q init "$A/v1" && t save1 cache-tool -q --repo "$A/v1" save live . && cp -a "$A/v1" "$A/v2")
	live v2
	(cd "$L" && t save2 cache-tool -q --repo "$A/v2" save live .)
}
replicate() { # replicate URL LOG TELL…: TELL follows a step, and says what LOG shows was moved
	local c="cache-tool --json --no-progress" url=$1 log=$2 tell=("${@:3}")
	step() { mark "$log"; t "$@"; "${tell[0]}" "$1" "${tell[@]:1}"; }
	if [ "$WL" = lazy ]; then
		hit
		return
	fi
	cp -a "$A/v1" "$S"
	step push1 $c --repo "$S" push "$url" main
	step push0 $c --repo "$S" push "$url" main
	step clone1 $c clone "$url" "$R/clone1"
	(cd "$L" && cache-tool -q --repo "$S" save live .)
	step push2 $c --repo "$S" push "$url" main
	step pull $c --repo "$R/clone1" pull
	step clone $c clone "$url" "$R/clone2"
	step lazy $c clone --lazy "$url" "$R/clone3"
	t unpack $c --repo "$R/clone2" restore live --to "$O.2"; proof clone "$HERE/same.sh" "$L" "$O.2"
	mark "$log"
	t unlazy $c --repo "$R/clone3" restore live --to "$O.3"; proof lazy "$HERE/same.sh" "$L" "$O.3"
	[ "${tell[0]}" = said ] || "${tell[0]}" unlazy "${tell[@]:1}"
	cache-tool -q --repo "$R/clone1" restore live --to "$O.1"; proof pull "$HERE/same.sh" "$L" "$O.1"
}
hit() { # the rest of replicate for that workload
	cd "$L"
	rm -f a.o a.d
	cache-tool -q --repo "$A/v1" push "$url" main
	step lazy $c clone --lazy "$url" "$R/clone3"
	mark "$log"
	t hit cache-tool -v --repo "$R/clone3" "${compile[@]}"
	[ "${tell[0]}" = said ] || "${tell[0]}" hit "${tell[@]:1}"
	proof hit grep -q '^hit ' "$R/log.$TOOL"
	cd "$R"
}
compile=(run --depfile a.d --out a.o -- sh -c 'cat a.c a.h > a.o && echo "a.o: a.c a.h" > a.d && echo made')
packs='"bytes": *[0-9]+'
t_cachetool-path() { sources; replicate "$TO" "$R/log.$TOOL" said "$packs"; }
t_cachetool-bucket() { sources; replicate "bucket+file://$TO" "$R/log.$TOOL" said "$packs"; }
t_cachetool-apache() {
	sources
	apache || return
	replicate "dav+$URL/bucket" "$TO/access.log" logged "$TO/access.log" '{ sum += $4 + $5; lines++ }'
	stop
}
# what a line of the server's log says of a request
requests='/ msg=request / { n = split($0, f, " "); for (i = 1; i <= n; i++) if (f[i] ~ /^(in|out)=[0-9]+$/) { sub(/.*=/, "", f[i]); sum += f[i] }; lines++ }'
t_cachetool-serve() {
	sources
	serve || return
	replicate "$URL" "$R/tmp.log" logged "$R/tmp.log" "$requests"
	count server.peak $(($(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' "/proc/$SERVER/status") * 1024))
	stop
}

# ---- the trees as they are
t_rsync() {
	local d=$W/data/$WL
	sent push1 "$d/v1/" "$TO/"; sent push0 "$d/v1/" "$TO/"; sent clone1 "$TO/" "$R/clone1/"
	sent push2 --delete "$d/v2/" "$TO/"; sent pull --delete "$TO/" "$R/clone1/"; sent clone "$TO/" "$R/clone2/"
}
# ---- git: bare repositories
t_git() {
	export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
	local g="git -C $S" v
	git init -q --bare "$S"; git init -q --bare "$TO"
	git config --global gc.auto 0; git config --global receive.unpackLimit 1; git config --global fetch.unpackLimit 1
	git config --global core.autocrlf false
	for v in v1 v2; do
		(cd "$W/data/$WL/$v" && git --git-dir="$S" --work-tree=. add -A -f . && git --git-dir="$S" --work-tree=. commit -q -m x && $g branch $v)
	done
	grown push1 "$TO" $g push -q "$TO" v1:refs/heads/main; grown push0 "$TO" $g push -q "$TO" v1:refs/heads/main
	git -C "$TO" symbolic-ref HEAD refs/heads/main
	grown clone1 "$R/clone1" git clone -q --bare --no-local "$TO" "$R/clone1"
	grown push2 "$TO" $g push -q "$TO" v2:refs/heads/main
	grown pull "$R/clone1" git -C "$R/clone1" fetch -q "$TO" main:main; grown clone "$R/clone2" git clone -q --bare --no-local "$TO" "$R/clone2"
}
# ---- restic: its defaults; encryption cannot be turned off
t_restic() {
	export RESTIC_PASSWORD=x RESTIC_FROM_PASSWORD=x
	local copy="restic -q copy --from-repo" s
	restic -q -r "$S" init
	for s in "$TO" "$R/clone1" "$R/clone2"; do restic -q -r "$s" init --from-repo "$S" --copy-chunker-params; done
	live v1; (cd "$L" && restic -q -r "$S" backup .)
	grown push1 "$TO" $copy "$S" -r "$TO" latest; grown push0 "$TO" $copy "$S" -r "$TO" latest; grown clone1 "$R/clone1" $copy "$TO" -r "$R/clone1" latest
	live v2; (cd "$L" && restic -q -r "$S" backup .)
	grown push2 "$TO" $copy "$S" -r "$TO" latest
	grown pull "$R/clone1" $copy "$TO" -r "$R/clone1" latest; grown clone "$R/clone2" $copy "$TO" -r "$R/clone2"
}
# ---- stores that are copied file by file
by_rsync() { # by_rsync SAVE: a function that saves a version into the store
	"$1" v1
	sent push1 "$S/" "$TO/"; sent push0 "$S/" "$TO/"; sent clone1 "$TO/" "$R/clone1/"
	"$1" v2
	sent push2 --delete "$S/" "$TO/"; sent pull --delete "$TO/" "$R/clone1/"; sent clone "$TO/" "$R/clone2/"
}
t_borg() {
	export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
	borg init -e none "$S"
	into_borg() { live "$1"; (cd "$L" && borg create "$S::$1" .); }
	by_rsync into_borg
}
t_casync() {
	mkdir "$S"
	into_casync() { live "$1"; casync --with=unix --store="$S" make "$S/$1.caidx" "$L" > /dev/null; }
	by_rsync into_casync
}
t_desync() {
	mkdir "$S" "$TO" "$R/clone1" "$R/clone2"
	live v1; desync tar -i -s "$S" "$R/tmp1.caidx" "$L"
	grown push1 "$TO" desync cache -s "$S" -c "$TO" "$R/tmp1.caidx"; grown push0 "$TO" desync cache -s "$S" -c "$TO" "$R/tmp1.caidx"
	grown clone1 "$R/clone1" desync cache -s "$TO" -c "$R/clone1" "$R/tmp1.caidx"
	live v2; desync tar -i -s "$S" "$R/tmp2.caidx" "$L"
	grown push2 "$TO" desync cache -s "$S" -c "$TO" "$R/tmp2.caidx"
	grown pull "$R/clone1" desync cache -s "$TO" -c "$R/clone1" "$R/tmp2.caidx"
	grown clone "$R/clone2" desync cache -s "$TO" -c "$R/clone2" "$R/tmp1.caidx" "$R/tmp2.caidx"
}
t_bup() {
	local s
	into_bup() { live "$1"; bup -d "$S" index -u "$L" && bup -d "$S" save -q -n main --strip "$L"; }
	for s in "$S" "$TO" "$R/clone1" "$R/clone2"; do bup -d "$s" init; done > /dev/null 2>&1
	into_bup v1
	grown push1 "$TO" bup -d "$TO" get -s "$S" --ff main; grown push0 "$TO" bup -d "$TO" get -s "$S" --ff main
	grown clone1 "$R/clone1" bup -d "$R/clone1" get -s "$TO" --ff main
	into_bup v2
	grown push2 "$TO" bup -d "$TO" get -s "$S" --ff main
	grown pull "$R/clone1" bup -d "$R/clone1" get -s "$TO" --ff main; grown clone "$R/clone2" bup -d "$R/clone2" get -s "$TO" --ff main
}
t_ostree() { # archive mode, as it is served: compressed
	local s pull="pull-local --disable-fsync"
	for s in "$S" "$TO" "$R/clone1" "$R/clone2"; do ostree --repo="$s" init --mode=archive; done
	ostree --repo="$S" commit -b main --fsync=false --tree=dir="$W/data/$WL/v1" > /dev/null
	grown push1 "$TO" ostree --repo="$TO" $pull "$S" main; grown push0 "$TO" ostree --repo="$TO" $pull "$S" main
	grown clone1 "$R/clone1" ostree --repo="$R/clone1" $pull "$TO" main
	ostree --repo="$S" commit -b main --fsync=false --tree=dir="$W/data/$WL/v2" > /dev/null
	grown push2 "$TO" ostree --repo="$TO" $pull "$S" main
	grown pull "$R/clone1" ostree --repo="$R/clone1" $pull "$TO" main; grown clone "$R/clone2" ostree --repo="$R/clone2" $pull "$TO" main
}
t_kopia() {
	export KOPIA_PASSWORD=x KOPIA_CHECK_FOR_UPDATES=false KOPIA_LOG_DIR=$R/home/log
	local k="kopia --no-progress"
	{
		kopia repository create filesystem --path "$S"; kopia policy set --global --compression=zstd-fastest
		kopia maintenance set --enable-quick false --enable-full false
	} > /dev/null 2>&1
	mkdir "$TO" "$R/clone2"
	live v1; $k snapshot create "$L"
	grown push1 "$TO" $k repository sync-to filesystem --path "$TO"; grown push0 "$TO" $k repository sync-to filesystem --path "$TO"
	live v2; $k snapshot create "$L"
	grown push2 "$TO" $k repository sync-to filesystem --path "$TO"
	grown clone "$R/clone2" $k repository sync-to filesystem --path "$R/clone2"
	kopia repository disconnect > /dev/null 2>&1
}
# ---- what GitHub's cache does, with Apache in its place: save and push in one, pull and restore in one
t_tarcurl() {
	apache || return
	local d=$W/data/$WL log=$TO/access.log sum='{ sum += $4 + $5; lines++ }'
	put() { mark "$log"; t "$1" sh -c "tar --posix -cf - -C '$d/$2' . | zstdmt -q -3 | curl -sfT - '$URL/$2.tar.zst'"; logged "$1" "$log" "$sum"; }
	get() { mkdir "$R/$3"; mark "$log"; t "$1" sh -c "curl -sf '$URL/$2.tar.zst' | unzstd -q | tar -xf - -C '$R/$3'"; logged "$1" "$log" "$sum"; }
	put push1 v1; get clone1 v1 clone1; put push2 v2; get clone v2 clone2
	stop
}

. "$HERE/s3.sh"

(WLS=lazy; TOOLS=$(tr ' ' '\n' <<< "$TOOLS" | grep cachetool); turns)
turns
bench report "$CSV"
echo
echo "rows of this run: $CSV"
