#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Make a unified kernel image, which firmware starts by itself: systemd's stub with kernel, initramfs and command line.
#
#   mkuki.sh OUT KERNEL INITRD CMDLINE
set -euo pipefail
out=$1 kernel=$2 initrd=$3
stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\0' "$4" >"$work/cmdline"
# Behind the stub's own sections, in order, each where the one before ends.
at=$(objdump -h "$stub" | awk 'NF == 7 && $1 ~ /^[0-9]+$/ { print $4, $3 }' | while read -r vma size; do echo $((0x$vma + 0x$size)); done | sort -n | tail -1)
args=()
for part in "cmdline $work/cmdline" "initrd $initrd" "linux $kernel"; do
	read -r name file <<<"$part"
	at=$(((at + 0xffff) & ~0xffff))
	args+=(--add-section ".$name=$file" --change-section-vma ".$name=$at")
	at=$((at + $(stat -L -c %s "$file")))
done
objcopy "${args[@]}" "$stub" "$out.tmp"
mv "$out.tmp" "$out"
