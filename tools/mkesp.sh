#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Make an EFI system partition image without root: \EFI\BOOT\BOOTX64.EFI (from $EFI, default build/BOOTX64.EFI), CONF as
# \tern.conf, and each FILE in the root under its own name. One image for each host of the rig.
#
#   mkesp.sh OUT CONF [FILE...]
set -euo pipefail
out=$1 conf=$2
shift 2
efi=${EFI:-build/BOOTX64.EFI}
kib=$(du -kc --apparent-size "$efi" "$conf" "$@" | awk 'END { print $1 }')
kib=$(((kib + kib / 20 + 4096 + 1023) / 1024 * 1024))
[ $kib -ge 40960 ] || kib=40960 # FAT32 wants 65525 clusters
rm -f "$out.tmp"
truncate -s ${kib}K "$out.tmp"
mkfs.fat -F 32 -s 1 -n TERN "$out.tmp" >/dev/null
export MTOOLS_SKIP_CHECK=1
mmd -i "$out.tmp" ::/EFI ::/EFI/BOOT
mcopy -i "$out.tmp" "$efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$out.tmp" "$conf" ::/tern.conf
for f in "$@"; do
	mcopy -i "$out.tmp" "$f" "::/$(basename "$f")"
done
mv "$out.tmp" "$out"
