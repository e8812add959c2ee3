#!/bin/sh
# need.sh PROGRAM[:PACKAGE]… -- install the programs that are missing, from
# Debian's packages, as root or through sudo. A PROGRAM with a slash in front is
# any file. What cannot be installed is named on one line; whoever needs it skips
# what it is for.
packages=
for need; do
	program=${need%%:*}
	case $program in
	/*) [ -e "$program" ] ;;
	*) command -v "$program" >/dev/null 2>&1 ;;
	esac || packages="$packages ${need##*:}"
done
[ -n "$packages" ] || exit 0

as=
if [ "$(id -u)" != 0 ]; then
	if sudo -n true 2>/dev/null; then as=sudo; else
		echo "need: not root and no sudo; for everything to run: apt-get install$packages"
		exit 0
	fi
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "need: no apt-get here; missing:$packages"
	exit 0
fi
echo "need: installing$packages"
install() { DEBIAN_FRONTEND=noninteractive $as apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null 2>&1; }
install $packages && exit 0
$as apt-get update -qq >/dev/null 2>&1
# One by one: a package that is not to be had must not keep out the others.
for package in $packages; do
	install "$package" || echo "need: $package could not be installed"
done
exit 0
