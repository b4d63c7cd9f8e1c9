/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a VM starts from, and what the two ways of starting it (linux_loader.h, pvh_loader.h) put into its memory alike.
 */
#pragma once
#include "vmm/boot_file.h"
#include "vmm/gmem.h"

struct guest_image {
	const struct boot_file *kernel, *initrd; /* initrd may be NULL */
	const char *cmdline;
	gpa_t rsdp;
};

/* The guest's memory map, in order, with the types of E820 (ACPI 6.4, 15): its RAM, and what an OS must leave alone. */
enum guest_range_type { GUEST_RAM = 1, GUEST_RESERVED = 2 };
#define GUEST_RANGES_MAX 5
struct guest_range {
	uint64_t start, end;
	enum guest_range_type type;
};
unsigned guest_image_ranges(const struct gmem *g, struct guest_range r[GUEST_RANGES_MAX]); /* how many */

/* len bytes of f from off on, which it has. -EFAULT: not RAM there. */
int guest_image_put(struct gmem *g, gpa_t gpa, const struct boot_file *f, uint64_t off, uint64_t len) must_check;
int guest_image_put_reset(struct gmem *g) must_check; /* what answers at the reset vector. -EFAULT */
