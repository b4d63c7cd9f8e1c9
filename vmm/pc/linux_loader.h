/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads a Linux bzImage and initrd into guest memory by the 64-bit boot protocol (Linux
 * Documentation/arch/x86/boot.rst) and gives the boot CPU's state. The files are an operator's, but every offset in
 * them is checked all the same.
 */
#pragma once
#include "arch/x86/hv.h"
#include "vmm/pc/guest_image.h"

/*
 * Writes the image, boot_params with the E820 map, GDT and page tables; fills *boot (all fields). -EINVAL, -ENOSPC with
 * why.
 */
int linux_load(struct gmem *g, const struct guest_image *img, struct cpu_state *boot, struct why *w) must_check;
