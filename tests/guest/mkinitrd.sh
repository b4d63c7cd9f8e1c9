#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Make the guest's initramfs: busybox, the virtio modules of the kernel unpacked in LINUX, init and the test programs: FOREIGN, and
# PROGRAMS, which is each NAME.
#
#   mkinitrd.sh LINUX OUT INIT FOREIGN PROGRAMS NAME...
set -euo pipefail
linux=$1 out=$2 init=$3 foreign=$4 programs=$5
shift 5
[ -d "$linux" ] || { echo "mkinitrd: no directory $linux" >&2 && exit 1; }
# And what they need; what has no file is built into the kernel, as is ext4 in Debian's cloud kernels so far.
modules="virtio_pci virtio_net virtio_blk virtio-rng button evdev 8021q ext4"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,modules,dev}
install -m 755 "$(command -v busybox)" "$root/bin/busybox"
install -m 755 "$init" "$root/init"
install -m 755 -s "$foreign" "$programs" "$root/bin/"
for name in "$@"; do
	ln -s "${programs##*/}" "$root/bin/$name"
done
: >"$root/modules/order"

# Take a module, what it depends on first; file names may have - where the kernel says _.
add() {
	local f ko
	f=$(find "$linux" -name "${1//[-_]/[-_]}.ko" -o -name "${1//[-_]/[-_]}.ko.[xz]*" | head -1)
	[ -n "$f" ] || return 0
	ko=$(basename "${f%.ko*}").ko
	[ ! -e "$root/modules/$ko" ] || return 0
	case $f in
	*.xz) xz -dc "$f" ;;
	*.zst) zstd -qdc "$f" ;;
	*) cat "$f" ;;
	esac >"$root/modules/$ko"
	for d in $(grep -azo '^depends=.*' "$root/modules/$ko" | tr -d '\0' | sed 's/depends=//' | tr , ' '); do
		add "$d"
	done
	echo "$ko" >>"$root/modules/order"
}
for m in $modules; do
	add "$m"
done
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) | lz4 -lq9 >"$out.tmp"
mv "$out.tmp" "$out"
