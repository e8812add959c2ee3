#!/usr/bin/env bash
# same.sh A B -- are the two directories the same: every file, mode, link and time?
# same.sh --git A B -- is B, which git checked out of an export, the same as A, but for what Git does not keep
# (empty directories, times, modes other than the executable bit) and for names that Git will not have?
set -euo pipefail
export LC_ALL=C
list() { # list DIR FORMAT FIND-TEST…
	(cd "$1" && find . -mindepth 1 "${@:3}" -printf "$2" | sort -z | tr '\0' '\n')
}
if [ "$1" != --git ]; then
	diff -r --no-dereference "$1" "$2"
	cmp <(list "$1" '%P %y %m %s %l %T@\0' ! -type d) <(list "$2" '%P %y %m %s %l %T@\0' ! -type d)
	cmp <(list "$1" '%P %m\0' -type d) <(list "$2" '%P %m\0' -type d)
	exit
fi
A=$2 B=$3
# Take the escape out of the names again, deepest first.
find "$B" -mindepth 1 -depth -name '*%*' ! -path "$B/.git/*" -print0 | while IFS= read -r -d '' f; do
	n=$(basename "$f")
	case ${n,,} in
	.git*%* | git~1%* | .mailmap%*) mv "$f" "$(dirname "$f")/${n/\%/}" ;;
	esac
done
x() { find . -mindepth 1 -path ./.git -prune -o ! -type d -perm "$@" -printf '%P\n' | sort; }
cmp <(list "$A" '%P %y %l\0' ! -type d) <(cd "$B" && find . -mindepth 1 -path ./.git -prune -o ! -type d -printf '%P %y %l\0' | sort -z | tr '\0' '\n')
cmp <(cd "$A" && x /100) <(cd "$B" && x /100)
(cd "$A" && find . ! -type d ! -type l -print0 | sort -z | xargs -0 sha256sum) | (cd "$B" && sha256sum --quiet -c -)
