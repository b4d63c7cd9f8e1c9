/* SPDX-License-Identifier: BSD-2-Clause */
/* The allocator behind <stdlib.h>'s malloc: any context, never sleeps, aligned to 16 bytes (to 64 from 64 bytes up). */
#pragma once

#include <stdint.h>

void malloc_init(void); /* after page_init */

/* Bytes held for objects of up to two pages (what is larger is pages of its own); *used: of them, those in use. */
uint64_t malloc_slab_bytes(uint64_t *used);
