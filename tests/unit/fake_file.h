/* SPDX-License-Identifier: BSD-2-Clause */
/* A boot file over bytes of the test's own. free() ends it. */
#pragma once
#include "vmm/boot_file.h"
#include <stdlib.h>

static inline struct boot_file *fake_file(void *data, uint64_t size)
{
	uint64_t n = (size + BOOT_FILE_BLOCK - 1) / BOOT_FILE_BLOCK;
	struct boot_file *f = calloc(1, sizeof(*f) + n * sizeof(f->block[0]));
	if (!f)
		abort();
	f->size = size;
	for (uint64_t i = 0; i < n; i++)
		f->block[i] = (uint8_t *)data + i * BOOT_FILE_BLOCK;
	return f;
}
