/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads an ELF file for x86-64 that is entered as Xen's PVH guests are ("x86/HVM direct boot ABI" in the documentation
 * of Xen, and its public interface's hvm_start_info): firmware (edk2's platform CloudHv), or a kernel
 * (Linux' vmlinux with CONFIG_PVH). The file is an operator's, but every number in it is checked all the same.
 */
#pragma once
#include "arch/x86/hv.h"
#include "vmm/pc/guest_image.h"

bool pvh_is_elf(const struct boot_file *f); /* is it for this loader? */
/*
 * Writes segments, initrd and hvm_start_info with the memory map; fills *boot (all fields). -EINVAL, -ENOSPC with why.
 */
int pvh_load(struct gmem *g, const struct guest_image *img, struct cpu_state *boot, struct why *w) must_check;
