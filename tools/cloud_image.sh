#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A disk image like Debian's own cloud images, for guests that boot by UEFI from a disk; no such image is in Debian's package archive,
# so it is made of packages. And the seed that tells cloud-init on it who may log in.
#
#   cloud_image.sh disk OUT [RELEASE [KERNEL]]     as root. RELEASE: this machine's; KERNEL: linux-image-cloud-amd64. A sparse raw
#                                                  image of DISK_MIB (environment; 4096) is made in OUT
#   cloud_image.sh seed OUT FILE...                a FAT volume "CIDATA" for cloud-init's NoCloud: user-data, meta-data, network-config
#
# The layout is that of Debian's images: GPT, partition 15 the EFI system partition with shim and GRUB (signed ones) at the path of
# removable media, partition 1 behind it the root, ext4, to be grown by cloud-init. Console on ttyS0. No loop devices are used: mkfs
# and mtools fill the volumes. Mirrors are the machine's own (debsrc.sh), and nothing is installed on the machine. Takes some
# 5 minutes of one CPU, fetches 200 MB, and is killed after half an hour.
set -euo pipefail
verb=$1 out=$(realpath -m "$2")
shift 2
top=$(realpath "$(dirname "$0")/..")

die() {
	echo "cloud_image: $*" >&2
	exit 1
}

disk() {
	local release=${1-$(. /etc/os-release && echo "$VERSION_CODENAME")} kernel=${2-linux-image-cloud-amd64}
	[ "$(id -u)" = 0 ] || die "not root"
	[ -z "${CLOUD_IMAGE_TIMED-}" ] && CLOUD_IMAGE_TIMED=1 exec timeout -k 10 1800 "$BASH" "$0" disk "$out" "$release" "$kernel"
	work=$out.build # not local: for the trap
	rm -rf --one-file-system "$work"
	mkdir -p "$work"
	trap 'rm -rf --one-file-system "$work"' EXIT

	"$top/tools/need.sh" mmdebstrap fdisk
	"$top/tools/debsrc.sh" mirrors "$work/apt" "$release" | sed 's/^/deb /; s/$/ main/' >"$work/sources.list"
	[ -s "$work/sources.list" ] || die "no mirror for $release in the machine's apt configuration"
	local options=()
	while read -r line; do
		options+=(--aptopt="$line")
	done < <(apt-config dump | grep -i '^Acquire::https\?::.*proxy' || true)

	local root_uuid esp_id esp_uuid
	root_uuid=$(cat /proc/sys/kernel/random/uuid) esp_id=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ' | tr a-f A-F)
	esp_uuid=${esp_id:0:4}-${esp_id:4}
	mmdebstrap --quiet --mode=root --variant=important --format=directory "${options[@]}" \
		--include="$kernel,initramfs-tools,grub-efi-amd64-signed,shim-signed,grub2-common,systemd-sysv,systemd-resolved,dbus,udev" \
		--include=cloud-init,cloud-guest-utils,netplan.io,openssh-server,sudo,iproute2,iputils-ping,ca-certificates,e2fsprogs,dosfstools \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		"$release" "$work/root" "$work/sources.list" >"$work/log" 2>&1 || {
		tail -20 "$work/log" >&2
		die "mmdebstrap failed"
	}
	settings "$work/root" "$root_uuid" "$esp_uuid"
	volumes "$work" "$root_uuid" "$esp_id"
	mv "$work/disk" "$out"
}

# What an installer, or Debian's builder of images, would have set.
settings() {
	local root=$1 root_uuid=$2 esp_uuid=$3 options='console=tty0 console=ttyS0,115200 consoleblank=0'
	echo localhost >"$root/etc/hostname"
	: >"$root/etc/machine-id" # each guest makes its own
	rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf"
	ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
	mkdir -p "$root/boot/efi" "$root/boot/grub"
	cat >"$root/etc/fstab" <<-END
		UUID=$root_uuid / ext4 rw,discard,errors=remount-ro 0 1
		UUID=$esp_uuid /boot/efi vfat defaults,umask=077,nofail 0 2
	END
	echo 'datasource_list: [ NoCloud, None ]' >"$root/etc/cloud/cloud.cfg.d/90_dpkg.cfg"
	echo 'locale: C.UTF-8' >"$root/etc/cloud/cloud.cfg.d/91_locale.cfg" # no other is made, and cloud-init would call it an error
	# update-grub would look for the device of /, which there is not yet; the guest's own update-grub goes by this file.
	cat >"$root/etc/default/grub" <<-END
		GRUB_DEFAULT=0
		GRUB_TIMEOUT=0
		GRUB_DISTRIBUTOR=Debian
		GRUB_CMDLINE_LINUX="$options"
		GRUB_TERMINAL=console
	END
	local version
	version=$(basename "$root"/boot/vmlinuz-*)
	version=${version#vmlinuz-}
	cat >"$root/boot/grub/grub.cfg" <<-END
		set timeout=0
		menuentry 'Debian GNU/Linux' {
			search --no-floppy --fs-uuid --set=root $root_uuid
			linux /boot/vmlinuz-$version root=UUID=$root_uuid ro $options
			initrd /boot/initrd.img-$version
		}
	END
}

# The two volumes, and the disk around them: $1/disk of $1/root.
volumes() {
	local work=$1 root_uuid=$2 esp_id=$3 esp_mib=127 mib=${DISK_MIB:-4096}
	local root_mib=$((mib - esp_mib - 2)) # the first MiB and the last are the partition table's
	local boot=$work/root/usr/lib f
	cat >"$work/grub.cfg" <<-END
		search.fs_uuid $root_uuid root
		set prefix=(\$root)'/boot/grub'
		configfile \$prefix/grub.cfg
	END
	truncate -s ${esp_mib}M "$work/esp"
	mkfs.fat -F 32 -s 1 -i "$esp_id" -n ESP "$work/esp" >/dev/null
	export MTOOLS_SKIP_CHECK=1
	mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
	for f in ::/EFI/BOOT/BOOTX64.EFI ::/EFI/debian/shimx64.efi; do
		mcopy -i "$work/esp" "$boot/shim/shimx64.efi.signed" $f
	done
	for f in ::/EFI/BOOT/grubx64.efi ::/EFI/debian/grubx64.efi; do
		mcopy -i "$work/esp" "$boot/grub/x86_64-efi-signed/grubx64.efi.signed" $f
	done
	mcopy -i "$work/esp" "$work/grub.cfg" ::/EFI/debian/grub.cfg

	truncate -s ${root_mib}M "$work/ext4"
	mkfs.ext4 -q -F -U "$root_uuid" -L cloudimg-rootfs -d "$work/root" "$work/ext4" || die "the root does not fit in $root_mib MiB"
	truncate -s ${mib}M "$work/disk"
	sfdisk --quiet "$work/disk" <<-END
		label: gpt
		15: start=1MiB, size=${esp_mib}MiB, type=uefi
		1: start=$((esp_mib + 1))MiB, size=${root_mib}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
	END
	dd if="$work/esp" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
	dd if="$work/ext4" of="$work/disk" bs=1M seek=$((esp_mib + 1)) conv=notrunc,sparse status=none
}

seed() {
	rm -f "$out.tmp"
	truncate -s 1M "$out.tmp"
	mkfs.fat -n CIDATA "$out.tmp" >/dev/null
	for f in "$@"; do
		MTOOLS_SKIP_CHECK=1 mcopy -i "$out.tmp" "$f" "::/$(basename "$f")"
	done
	mv "$out.tmp" "$out"
}

case $verb in
disk | seed) "$verb" "$@" ;;
*) die "unknown verb $verb" ;;
esac
