#!/usr/bin/env bash
# later.sh DIR -- make later versions of Dune than the system has, from Debian's next releases: DIR/VERSION/dune
# for each. They are bootstrapped from the source package, which takes a minute; where that is not to be had, the
# binary package is used, with the libraries that it wants. Prints what $CACHE_TOOL_DUNES is to be, for the tests.
set -euo pipefail
DIR=$(realpath -m "${1:?usage: later.sh DIR}")
SUITES=${SUITES:-trixie sid}
uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2> /dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | head -n 1 || true)
dunes=
for suite in $SUITES; do
	W=$DIR/apt/$suite
	mkdir -p "$W"/{lists,cache}/partial
	printf 'Types: deb deb-src\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$uri" "$suite" > "$W/list.sources"
	o=(-o Dir::Etc::sourcelist="$W/list.sources" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$W/lists" -o Dir::Cache="$W/cache" -o APT::Sandbox::User=root)
	apt-get -qq "${o[@]}" update || { echo "later: no $suite here" >&2; continue; }
	version=$(apt-cache "${o[@]}" madison ocaml-dune | awk '$NF == "Sources" {print $3; exit}')
	to=$DIR/${version%%-*}
	if [ ! -x "$to/dune" ]; then
		mkdir -p "$to/src"
		cd "$W"
		if apt-get -qq "${o[@]}" source --download-only --tar-only "ocaml-dune=$version" 2> /dev/null; then
			tar -xf "$W"/ocaml-dune_"${version%%-*}".orig.tar.* -C "$to/src" --strip-components=1
			(cd "$to/src" && ocaml boot/bootstrap.ml > "$to/log" 2>&1) || { tail -n 5 "$to/log" >&2; continue; }
			ln -sf "$to/src/_boot/dune.exe" "$to/dune"
		elif apt-get -qq "${o[@]}" -t "$suite" download ocaml-dune libc6; then
			for package in "$W"/*.deb; do dpkg-deb -x "$package" "$to/src"; done
			loader=$(find "$to/src" -name 'ld-linux-*.so.*' | head -n 1)
			printf '#!/bin/sh\nexec %s --library-path %s %s/src/usr/bin/dune "$@"\n' "$loader" "$(dirname "$loader")" "$to" > "$to/dune"
			chmod +x "$to/dune"
		else
			echo "later: Dune $version of $suite is not to be had" >&2
			continue
		fi
	fi
	echo "later: $("$to/dune" --version) in $to" >&2
	dunes=$dunes:$to/dune
done
echo "${dunes#:}"
