# s3.sh -- what sync.sh measures on an object store: versitygw, which keeps a bucket in a directory. Sourced, not run.
#
# Destinations of cache-tool and restic are copies of a store, of rclone the tree as it is, of tar|zstd|curl an archive
# (written to a file first, as the protocol wants to know how long it is). The server's log tells the bytes of what is
# put, not of what is got.
S3BIN=${XDG_CACHE_HOME:-$HOME/.cache}/cache-tool-test/bin # where need-go.sh puts it
unset AWS_CA_BUNDLE                                       # which Debian's rclone cannot bear
export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1

s3curl() { curl -sf --aws-sigv4 aws:amz:us-east-1:s3 -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@"; }
# versitygw: an object store at $URL with the bucket "bench". It logs requests.
versitygw() {
	local _ port
	[ -x "$S3BIN/versitygw" ] || { echo "skip $TOOL on $WL: versitygw is not built here"; return 1; }
	mkdir -p "$TO"
	for port in $(shuf -n 5 -i 20000-30000); do
		ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY "$S3BIN/versitygw" --keep-alive --quiet \
			--access-log "$R/tmp.log" --port "127.0.0.1:$port" posix "$TO" >> "$R/log.$TOOL" 2>&1 &
		SERVER=$!
		URL=http://127.0.0.1:$port
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			sleep 0.3
			kill -0 $SERVER 2> /dev/null || break
			s3curl -X PUT "$URL/bench" && return
		done
		stop
	done
	echo "skip $TOOL on $WL: versitygw does not start: $(tail -n 1 "$R/log.$TOOL")"
	return 1
}
asked() { # asked STEP FILE: what the server's log says after mark
	sleep 0.2
	local said bytes
	said=$(tail -n +$((SEEN + 1)) "$2" | awk '/ s3_/ { sum += $14; lines++ } END { printf "%d %d\n", sum, lines }')
	bytes=${said% *}
	count "$1.requests" "${said#* }"
	case $1 in push*) count "$1.bytes" "$bytes" ;; esac
}
atS3() { # atS3 STEP COMMAND…
	mark "$R/tmp.log"
	t "$@"
	asked "$1" "$R/tmp.log"
}

t_cachetool-s3() {
	sources
	versitygw || return
	AWS_ENDPOINT_URL_S3=$URL replicate s3://bench/cache "$R/tmp.log" asked "$R/tmp.log"
	stop
}
t_rclone-s3() {
	versitygw || return
	local d=$W/data/$WL rc="rclone sync --links --s3-upload-cutoff 64M"
	export RCLONE_CONFIG_B_TYPE=s3 RCLONE_CONFIG_B_PROVIDER=Other RCLONE_CONFIG_B_ENV_AUTH=true RCLONE_CONFIG_B_ENDPOINT=$URL
	atS3 push1 $rc "$d/v1" b:bench/tree; atS3 push0 $rc "$d/v1" b:bench/tree; atS3 clone1 $rc b:bench/tree "$R/clone1"
	atS3 push2 $rc "$d/v2" b:bench/tree; atS3 pull $rc b:bench/tree "$R/clone1"; atS3 clone $rc b:bench/tree "$R/clone2"
	stop
}
t_restic-s3() {
	versitygw || return
	export RESTIC_PASSWORD=x RESTIC_FROM_PASSWORD=x
	local copy="restic -q copy --from-repo" s to=s3:$URL/bench/restic
	restic -q -r "$S" init
	for s in "$to" "$R/clone1" "$R/clone2"; do restic -q -r "$s" init --from-repo "$S" --copy-chunker-params; done
	live v1; (cd "$L" && restic -q -r "$S" backup .)
	atS3 push1 $copy "$S" -r "$to" latest; atS3 push0 $copy "$S" -r "$to" latest; atS3 clone1 $copy "$to" -r "$R/clone1" latest
	live v2; (cd "$L" && restic -q -r "$S" backup .)
	atS3 push2 $copy "$S" -r "$to" latest; atS3 pull $copy "$to" -r "$R/clone1" latest; atS3 clone $copy "$to" -r "$R/clone2"
	stop
}
t_tarcurl-s3() {
	versitygw || return
	export -f s3curl
	local d=$W/data/$WL
	put() { atS3 "$1" bash -c "tar --posix -cf - -C '$d/$2' . | zstdmt -q -3 > '$R/tmp.tar.zst' && s3curl -T '$R/tmp.tar.zst' '$URL/bench/$2.tar.zst'"; }
	get() { mkdir "$R/$3"; atS3 "$1" bash -c "s3curl '$URL/bench/$2.tar.zst' | unzstd -q | tar -xf - -C '$R/$3'"; }
	put push1 v1; get clone1 v1 clone1; put push2 v2; get clone v2 clone2
	stop
}
