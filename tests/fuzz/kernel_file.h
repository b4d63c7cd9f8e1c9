/* SPDX-License-Identifier: BSD-2-Clause */
/* A fuzzer's bytes as the kernel of a guest with 8 MiB, for loaders. */
#pragma once
#include "kernel/host.h"
#include "tests/unit/fake_file.h"
#include "vmm/gmem.h"
#include "vmm/pc/guest_image.h"
#include <stdlib.h>
#include <string.h>

struct host_info host_info;
static struct gmem g;
static uint8_t kernel[8192];
static struct guest_image img = { .cmdline = "x", .rsdp = 0xe0000 };

/* The bytes are in `kernel`, to be mended, and it is img's, with an initrd if there is an odd number. False: none. */
static inline bool kernel_file(const uint8_t *data, size_t size)
{
	static uint8_t initrd[5000];
	static struct boot_file *file, *initrd_file;

	if (!g.size && gmem_init(&g, MIB(8), &pt_format_npt, NULL))
		abort();
	size = MIN(size, sizeof(kernel));
	if (!size)
		return false;
	if (!file) {
		file = fake_file(kernel, sizeof(kernel));
		initrd_file = fake_file(initrd, sizeof(initrd));
	}
	file->size = size;
	memcpy(kernel, data, size);
	img.kernel = file;
	img.initrd = size & 1 ? initrd_file : NULL;
	return true;
}
