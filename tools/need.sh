#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Say which Debian packages tern's build and rig still need on this machine, and install them (as root, or through sudo).
# Says and does nothing if all are there. No kernel and no boot files are among them.
#
#   need.sh [PACKAGE...]      those too, for what few targets want
set -euo pipefail
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
need="gcc libc6-dev binutils make git ca-certificates dpkg-dev xz-utils bzip2 gzip patch
	clang clang-format clang-tidy llvm
	qemu-system-x86 bochs bochs-term ovmf mtools dosfstools cpio busybox-static kmod iproute2 iputils-ping openssl tcpdump
	flex bison bc lz4 zstd nasm uuid-dev g++
	python3 python3-pytest libcmocka-dev spin acpica-tools dmidecode debian-archive-keyring util-linux procps file e2fsprogs fio sqlite3 systemd-boot-efi tgt $*"
case $codename in
bookworm) need+=" libclang-rt-14-dev vgabios" ;; # Bochs takes either BIOS; it has been tried with this one
trixie) need+=" libclang-rt-19-dev" ;;
esac
missing=$(comm -23 <(tr -s ' \t' '\n\n' <<<"$need" | sort -u) \
	<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort -u) | grep . || true)
missing=$(echo $missing)
[ -n "$missing" ] || exit 0
case $codename in
bookworm | trixie) ;;
*) echo "need: this is $codename; tern is built and tested on Debian 12 and 13, so names of packages may differ" >&2 ;;
esac
echo "need: these packages are missing and will be installed: $missing"
sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || {
		echo "need: not root and no sudo here; as root do: apt-get install --no-install-recommends $missing" >&2
		exit 1
	}
	sudo=sudo
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get -qq update
$sudo apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install $missing >"$log" 2>&1 || {
	tail -20 "$log" >&2
	exit 1
}

# tgt's own service would listen on all of this machine's addresses; the tests start tgtd themselves.
if [[ " $missing " == *" tgt "* ]] && command -v systemctl >/dev/null; then
	$sudo systemctl disable --quiet --now tgt >/dev/null 2>&1 || true
fi
