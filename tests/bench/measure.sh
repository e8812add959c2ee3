#!/usr/bin/env bash
# measure.sh WORKDIR RESULTS REPS WORKLOADS TOOLS -- time tools on the workloads that gen.sh made in WORKDIR.
#
# One repetition of one tool is a fresh store and these steps, each timed by itself:
#   save     the live tree, which is v1, into an empty store         size1   the store then
#   again    nothing changed
#   copy     to a second, empty store                                (with FULL=1)
#            the live tree becomes v2
#   v2       what changed                                            size2
#   copy2    the second store follows                                (with FULL=1)
#   restore  v2, into an empty directory
#   same     v2 again, over that
#   back     v1, over that
#   gc       v1 and what only it uses goes                           (with FULL=1)
# The page cache is warm. Add a tool by adding a function t_NAME.
set -u
export LC_ALL=C
W=$(realpath -m "$1"); CSV=$(realpath -m "$2"); REPS=$3; WLS=$4; TOOLS=$5
R=$W/run; S=$R/store; S2=$R/store2; L=$R/live; O=$R/out
. "$(dirname "$0")/lib.sh"
mkdir -p "$R"

prep() {
	aside "$R"/{store,store2,out,export,home,tmp}*
	home
	live v1
}

# ---- cache-tool, with proof that what comes back is what went in
t_cachetool() {
	export CACHE_TOOL_REPO=$S
	local c="cache-tool -q"
	$c init "$S" && ! full || $c remote add second "$S2"
	cd "$L"
	t save $c save live .; sz size1 "$S"; t again $c save live .; t copy $c push second main
	live v2
	t v2 $c save live .; sz size2 "$S"; t copy2 $c push second main
	cd "$R"
	t restore $c restore live --to "$O"; proof restore "$HERE/same.sh" "$L" "$O"
	t same $c restore live --to "$O"; proof same "$HERE/same.sh" "$L" "$O"
	if [ "$REP" = 1 ]; then
		proof export sh -c "$c export --git '$R/export' && cd '$R/export' && git fsck --strict --no-progress && git checkout -q -f main"
		local entry; entry=$(dirname "$(find "$R/export/save" -name meta -type f | head -n 1)")
		proof checkout "$HERE/same.sh" --git "$L" "$entry/base"
		rm -rf "$R/export"
	fi
	live v1
	t back $c restore main~1:live --delete --to "$O"; proof back "$HERE/same.sh" "$L" "$O"
	t gc $c gc --keep-history 0 --grace 0
	unset CACHE_TOOL_REPO
}
# ---- the floor: plain copies, no store
t_cp() {
	t save cp -a "$L" "$S"; sz size1 "$S"
	t restore cp -a "$S" "$O"
}
# ---- what GitHub's cache does, and the same at zstd's fastest level
t_tarzstd() {
	tarzstd zstdmt -q --long=30
}
t_tarzstd1() {
	tarzstd zstd -q -1
}
tarzstd() {
	local pack="tar --posix -cf - -C '$L' . | $* >" unpack="| tar -xf - -C '$O'"
	t save sh -c "$pack '$S'"; sz size1 "$S"; t again sh -c "$pack '$S2'"; t copy cp "$S" "$S2"
	live v2
	t v2 sh -c "$pack '$S.2'"; sz size2 "$S" "$S.2"
	mkdir "$O"
	t restore sh -c "unzstd -q --long=30 -c '$S.2' $unpack"; t same sh -c "unzstd -q --long=30 -c '$S.2' $unpack"
}
# ---- git: a repository and a work tree
t_git() {
	git init -q --bare "$S"; git init -q --bare "$S2"; git -C "$S2" config receive.unpackLimit 1
	export GIT_DIR=$S GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@a
	git config gc.auto 0; git config core.autocrlf false
	local add="git --work-tree='$L' add -A -f . && git --work-tree='$L' commit -q --allow-empty -m x"
	local out="GIT_INDEX_FILE='$R/tmp.index' git --work-tree='$O' -c checkout.workers=2 read-tree --reset -u"
	cd "$L"
	t save sh -c "$add"; sz size1 "$S"; t again sh -c "$add"; git branch -f v1; t copy git push -q "$S2" HEAD:refs/heads/main
	live v2
	t v2 sh -c "$add"; sz size2 "$S"; t copy2 git push -q "$S2" HEAD:refs/heads/main
	cd "$R"; mkdir "$O"
	t restore sh -c "$out HEAD"; t same sh -c "$out HEAD"; t back sh -c "$out v1"
	if full; then
		git branch -D -q v1; git update-ref HEAD "$(git commit-tree -m x 'HEAD^{tree}')"; rm -rf "$S/logs" "$S/ORIG_HEAD"
		t gc git gc -q --prune=now
	fi
	unset GIT_DIR
}
# ---- restic: its defaults; encryption cannot be turned off
t_restic() {
	export RESTIC_PASSWORD=x RESTIC_FROM_PASSWORD=x
	local r="restic -q -r $S" id
	$r init; ! full || restic -q -r "$S2" init --from-repo "$S" --copy-chunker-params
	cd "$L"
	t save $r backup .; sz size1 "$S"; t again $r backup .; t copy restic -q -r "$S2" copy --from-repo "$S" latest
	live v2
	t v2 $r backup .; sz size2 "$S"; t copy2 restic -q -r "$S2" copy --from-repo "$S" latest
	cd "$R"
	t restore $r restore latest --target "$O"
	if restic restore --help | grep -q -- --overwrite; then
		id=$($r snapshots --json | grep -o '"short_id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)
		t same $r restore latest --target "$O" --overwrite if-changed --delete
		t back $r restore "$id" --target "$O" --overwrite if-changed --delete
	fi
	t gc $r forget --keep-last 1 --prune --max-unused 0 --group-by ''
}
# ---- borg: no encryption, its default compression (lz4)
t_borg() {
	export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes BORG_RELOCATED_REPO_ACCESS_IS_OK=yes
	borg init -e none "$S"
	cd "$L"
	t save borg create "$S::v1" .; sz size1 "$S"; t again borg create "$S::v1b" .; t copy rsync -a "$S/" "$S2/"
	live v2
	t v2 borg create "$S::v2" .; sz size2 "$S"; t copy2 rsync -a --delete "$S/" "$S2/"
	mkdir "$O"; cd "$O"
	t restore borg extract "$S::v2"; t same borg extract "$S::v2"
	cd "$R"
	t gc sh -c "borg delete '$S' v1 v1b && borg compact --threshold 0 '$S'"
}
# ---- casync, and desync, the same in Go: its default chunks of 64 KiB
t_casync() {
	local c="casync --with=unix --store=$S"
	mkdir "$S"
	t save $c make "$R/tmp1.caidx" "$L"; sz size1 "$S" "$R/tmp1.caidx"; t again $c make "$R/tmp1.caidx" "$L"; t copy rsync -a "$S/" "$S2/"
	live v2
	t v2 $c make "$R/tmp2.caidx" "$L"; sz size2 "$S" "$R"/tmp?.caidx; t copy2 rsync -a "$S/" "$S2/"
	t restore $c extract --mkdir=yes "$R/tmp2.caidx" "$O"; t same $c extract --delete=yes "$R/tmp2.caidx" "$O"
	t back $c extract --delete=yes "$R/tmp1.caidx" "$O"
	t gc $c gc "$R/tmp2.caidx"
}
t_desync() {
	local i="desync tar -i -s $S"
	mkdir "$S" "$S2" "$O"
	t save $i "$R/tmp1.caidx" "$L"; sz size1 "$S" "$R/tmp1.caidx"; t again $i "$R/tmp1.caidx" "$L"; t copy desync cache -s "$S" -c "$S2" "$R/tmp1.caidx"
	live v2
	t v2 $i "$R/tmp2.caidx" "$L"; sz size2 "$S" "$R"/tmp?.caidx; t copy2 desync cache -s "$S" -c "$S2" "$R/tmp2.caidx"
	t restore desync untar -i -s "$S" "$R/tmp2.caidx" "$O"; t same desync untar -i -s "$S" "$R/tmp2.caidx" "$O"
	t gc desync prune -y -s "$S" "$R/tmp2.caidx"
}
# ---- ostree: files as they are, restored by hard links
t_ostree() {
	local r="ostree --repo=$S" v1
	local c="$r commit -b main --fsync=false --tree=dir=$L"
	$r init --mode=bare; ostree --repo="$S2" init --mode=bare
	t save $c; sz size1 "$S"; t again $c; t copy ostree --repo="$S2" pull-local --disable-fsync "$S" main
	v1=$($r rev-parse main)
	live v2
	t v2 $c; sz size2 "$S"; t copy2 ostree --repo="$S2" pull-local --disable-fsync "$S" main
	t restore $r checkout -H main "$O"; t same $r checkout -H --union main "$O"; t back $r checkout -H --union "$v1" "$O"
	t gc $r prune --refs-only --depth=0
}
# ---- bup
t_bup() {
	export BUP_DIR=$S
	bup init > /dev/null 2>&1
	local c="bup index -u '$L' && bup save -q -n main --strip '$L'" old
	t save sh -c "$c"; sz size1 "$S"; t again sh -c "$c"
	! full || BUP_DIR=$S2 bup init > /dev/null 2>&1
	t copy bup -d "$S2" get -s "$S" --ff main
	live v2
	t v2 sh -c "$c"; sz size2 "$S"; t copy2 bup -d "$S2" get -s "$S" --ff main
	t restore bup restore -q -C "$O" main/latest/.
	old=$(bup ls main | grep -v latest | head -n 2 | sed 's,^,main/,' | tr '\n' ' ')
	t gc sh -c "bup rm --unsafe $old && bup gc --unsafe --threshold 0"
	unset BUP_DIR
}
# ---- kopia: zstd-fastest (its default compresses nothing), its default splitter
t_kopia() {
	export KOPIA_PASSWORD=x KOPIA_CHECK_FOR_UPDATES=false KOPIA_LOG_DIR=$R/home/log
	local k="kopia --no-progress" root ids
	{
		kopia repository create filesystem --path "$S"; kopia policy set --global --compression=zstd-fastest
		kopia policy set --global --keep-latest 100; kopia maintenance set --enable-quick false --enable-full false
	} > /dev/null 2>&1
	mkdir "$S2"
	t save $k snapshot create "$L"; sz size1 "$S"; t again $k snapshot create "$L"; t copy $k repository sync-to filesystem --path "$S2"
	live v2
	t v2 $k snapshot create "$L"; sz size2 "$S"; t copy2 $k repository sync-to filesystem --path "$S2"
	root=$(kopia snapshot list --json "$L" | grep -o '"obj": *"[^"]*"' | tail -n 1 | cut -d '"' -f 4)
	t restore $k restore "$root" "$O"; t same $k restore --skip-existing "$root" "$O"
	if full; then
		ids=$(kopia snapshot list --json "$L" | grep -oE '"id": *"[0-9a-f]{32}"' | cut -d '"' -f 4 | head -n -1)
		for id in $ids; do kopia snapshot delete "$id" --delete > /dev/null 2>&1; done
		t gc $k maintenance run --full --safety=none
	fi
	kopia repository disconnect > /dev/null 2>&1
}
# ---- a plain mirror, with versions by hard links
t_rsync() {
	mkdir "$S"
	t save rsync -a "$L/" "$S/v1/"; sz size1 "$S"; t again rsync -a "$L/" "$S/v1/"
	live v2
	t v2 rsync -a --link-dest=../v1 "$L/" "$S/v2/"; sz size2 "$S"
	t restore rsync -a "$S/v2/" "$O/"; t same rsync -a --delete "$S/v2/" "$O/"; t back rsync -a --delete "$S/v1/" "$O/"
	t gc rm -rf "$S/v1"
}

turns
