#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Fetch Debian packages, source or binary, without touching the machine's configuration and without root: a private apt
# state under build/. The mirrors are those of the machine's own apt configuration (either file format); the archive's
# signatures are checked with Debian's installed keyring, every file against the signed index.
#
#   debsrc.sh update STATE [CODENAME]                    make STATE and read the indexes; CODENAME: of that release alone
#   debsrc.sh mirrors STATE RELEASE                      say what update would read, for another release: "site suite" lines
#   debsrc.sh source STATE PKG VERSION SHA256 OUT        unpack source package PKG into OUT. VERSION is the upstream version and
#                                                        SHA256 that of its .orig tarball; "-" for either: not pinned
#   debsrc.sh kernel STATE OUT                           unpack Debian's cloud kernel into OUT
#   debsrc.sh kernel-source STATE OUT                    unpack the package with that kernel's source, a tarball, into OUT
#   debsrc.sh binary STATE PKG OUT                       unpack binary package PKG (not installed) into OUT
set -euo pipefail
verb=$1
state=$(realpath -m "$2")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() {
	echo "debsrc: $*" >&2
	exit 1
}

# The user's own apt hooks have no business here; the sandbox user could not read build/.
apt_get() {
	apt-get -qq -c "$state/apt.conf" "$@"
}

# What `apt-get update` would read first tells mirror and suite, whatever the configuration is written in.
mirrors() {
	apt-get update --print-uris -o Dir::State::Lists="$state/none" 2>/dev/null |
		sed -n "s|^'\(.*\)/dists/$codename\([a-z-]*\)/InRelease'.*|\1 $1\2|p" | sort -u
}

codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
case $verb in
mirrors)
	mirrors "$3"
	;;
update)
	mkdir -p "$state"/{lists,archives,dl}/partial
	wanted=${3:-$codename}
	mirrors "$wanted" |
		while read -r site suite; do
			echo "deb [signed-by=$keyring] $site $suite main"
			echo "deb-src [signed-by=$keyring] $site $suite main"
		done >"$state/sources.list"
	[ -s "$state/sources.list" ] || die "no $codename mirror in the machine's apt configuration; add one to /etc/apt"
	cat >"$state/apt.conf" <<-END
		#clear APT::Update;
		#clear DPkg;
		APT::Sandbox::User "root";
		APT::Architecture "amd64";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Dir::Etc::SourceList "$state/sources.list";
		Dir::Etc::SourceParts "-";
		Dir::Etc::PreferencesParts "/dev/null";
		Dir::State::Lists "$state/lists";
		Dir::Cache "$state";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
	END
	apt_get update || die "could not read every index; going on with what is there"
	;;
source)
	pkg=$3 version=$4 sha=$5 out=$(realpath -m "$6")
	dl=$state/dl/$pkg
	rm -rf "$dl" "$out"
	mkdir -p "$dl" "$out"
	# The newest there is: a mirror may not have yet, or no more, what its index names. And some lack the small files of a source
	# package; the upstream tarball alone will do, it is what the pin is about.
	for v in $(apt-cache -c "$state/apt.conf" showsrc "$pkg" | sed -n 's/^Version: //p' | sort -Vru); do
		rm -f "$dl"/*
		(cd "$dl" && apt_get source --download-only "$pkg=$v" 2>/dev/null || apt_get source --tar-only "$pkg=$v") && break
	done
	orig=$(find "$dl" -name "*.orig.tar.*" ! -name '*.asc')
	[ -n "$orig" ] || die "cannot fetch source package $pkg"
	have=${orig##*_}
	have=${have%.orig.tar.*}
	[ "$version" = - ] || [ "$version" = "$have" ] ||
		die "$pkg: version $have is in the archive, deps.mk is pinned to $version: check it, then move the pin"
	got=$(sha256sum "$orig" | cut -d' ' -f1)
	[ "$sha" = - ] || [ "$sha" = "$got" ] || die "$pkg: $orig has sha256 $got, deps.mk says $sha"
	if ls "$dl"/*.dsc >/dev/null 2>&1 && ls "$dl"/*.debian.tar.* >/dev/null 2>&1; then
		rmdir "$out"
		dpkg-source --no-check --no-copy -x "$dl"/*.dsc "$out" >/dev/null # apt has checked it against the signed index
	else
		tar -xf "$orig" -C "$out" --strip-components=1
		echo "debsrc: $pkg: the mirror has no packaging files; upstream source, without Debian's patches" >&2
	fi
	echo "$pkg $have $got"
	;;
binary)
	pkg=$3 out=$(realpath -m "$4")
	dl=$state/dl/$pkg
	rm -rf "$dl" "$out"
	mkdir -p "$dl"
	(cd "$dl" && apt_get download "$pkg") || die "cannot fetch package $pkg"
	mkdir -p "$out"
	dpkg -x "$dl"/*.deb "$out"
	;;
kernel | kernel-source)
	# Debian's newest cloud kernel or its source, with Debian's patches: the metapackage names it. Moves with each security update,
	# so it is not pinned.
	[ "$verb" = kernel ] && meta=linux-image-cloud-amd64 || meta=linux-source
	pkg=$(apt-cache -c "$state/apt.conf" show --no-all-versions $meta |
		sed -n "s/^Depends: *\(${meta%-cloud-amd64}-[^ ,]*\).*/\1/p")
	[ -n "$pkg" ] || die "the archive has no $meta"
	exec "$0" binary "$state" "$pkg" "$3"
	;;
*)
	die "unknown verb $verb"
	;;
esac
