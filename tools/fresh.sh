#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A bare Debian system with a clean clone of this tree in it, and commands run there: does it build and work where nothing is
# installed yet? For `make test-fresh`. Needs root or sudo, and the package debootstrap.
#
#   fresh.sh root RELEASE [LIMIT]               make build/fresh/RELEASE anew: minbase and make, and the last commit in /tern
#   fresh.sh in RELEASE [LIMIT] COMMAND...      run COMMAND there, in /tern, with RIG from the environment
#   fresh.sh remove RELEASE
#
# LIMIT: seconds after which it is killed with all that it started (3600). What runs has process and mount namespaces of its own:
# whatever ends it, its processes die with it, and its mounts (/proc, /sys, /dev) are gone with the last of them. So no other
# process ever sees a mount below build/fresh. The network is the machine's.
set -euo pipefail
verb=$1 release=$2
shift 2
limit=3600
[[ ! ${1-} =~ ^[0-9]+$ ]] || { limit=$1 && shift; }
top=$(realpath "$(dirname "$0")/..")
here=$top/build/fresh
root=$here/$release
files=$here/$release.files # what goes into it

die() {
	echo "fresh: $*" >&2
	exit 1
}

# The rest of this file as root, killed when whoever started it dies.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		exec setpriv --pdeathsig KILL "$BASH" "$0" "$@"
	else
		exec sudo RIG="${RIG-}" setpriv --pdeathsig KILL "$BASH" "$0" "$@"
	fi
}

# Run a shell script in the namespaces: jailed SCRIPT NAME ARGUMENT... The kernel kills each process of the chain with its parent. unshare
# blocks SIGINT and SIGTERM, and the first process of a namespace does not know them: they are for this script. It ends here, for bash
# would read on in the middle of a line if this file was changed in those hours.
jailed() {
	[ "$(id -u)" = 0 ] || die "not root"
	trap 'exit 1' INT TERM HUP
	setpriv --pdeathsig KILL timeout --foreground -s KILL "$limit" \
		setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "$BASH" -c "$@" <&0 &
	wait $! || exit
	exit 0
}

case $verb in
root)
	[ -c /dev/net/tun ] || die "no /dev/net/tun here: load the module tun"
	rm -rf "$files"
	mkdir -p "$files"
	git -C "$top" diff --quiet HEAD || echo "fresh: what is not committed yet is not in the clone" >&2
	git clone -q --no-hardlinks "$top" "$files/tern"
	as_root as-root-root "$release" "$limit"
	;;
as-root-root)
	rm -rf --one-file-system "$root"
	mkdir -p "$root"
	list=$("$top/tools/debsrc.sh" mirrors "$here/apt" "$release")
	site=$(sed -n "s/ $release\$//p" <<<"$list" | head -1)
	[ -n "$site" ] || die "no mirror for $release in the machine's apt configuration"
	include=make
	[ "$site" = "${site#https:}" ] || include+=,ca-certificates
	mkdir -p "$files/etc/apt/apt.conf.d"
	sed 's/^/deb /; s/$/ main/' <<<"$list" >"$files/etc/apt/sources.list"
	apt-config dump | grep -i '^Acquire::https\?::.*proxy' >"$files/etc/apt/apt.conf.d/90machine" || true
	[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$files/etc/"
	jailed '
		set -e
		debootstrap --variant=minbase --include="$1" "$2" "$3" "$4"
		cp -r --no-preserve=ownership "$5/." "$3"
		rm -rf "$5"
	' fresh "$include" "$release" "$root" "$site" "$files"
	;;
in)
	as_root as-root-in "$release" "$limit" "$@"
	;;
as-root-in)
	[ -d "$root/tern" ] || die "no root of $release: fresh.sh root $release"
	jailed '
		set -e
		mount --bind "$1" "$1" # a root that is no mount point cannot have such namespaces of its own: this script is tested there too
		cd "$1"
		shift
		mount -t proc proc proc
		mount -t sysfs sysfs sys
		mount --rbind /dev dev
		exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM-dumb}" \
			${RIG:+RIG="$RIG"} sh -c "cd /tern && exec \"\$@\"" sh "$@"
	' fresh "$root" "$@"
	;;
remove)
	as_root as-root-remove "$release"
	;;
as-root-remove)
	rm -rf --one-file-system "$root" "$files"
	;;
*)
	die "unknown verb $verb"
	;;
esac
