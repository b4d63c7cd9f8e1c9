/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory map as the kernel wants it. Pure: no firmware call, so that it is tested on the host. */
#pragma once
#include "kernel/handoff.h"

/*
 * Flatten n ranges, in any order and overlapping at will, into out[]: sorted, page aligned, not overlapping, neighbours
 * of one type merged. Where ranges overlap the larger type wins (HANDOFF_MEM_FREE is the smallest, RESERVED the
 * largest). RAM that covers a page only in part loses that page; other types gain it. Ranges that wrap around are
 * dropped. cuts[] is scratch of 2n words, out[] has room for 2n entries. Returns the number of entries in out[].
 */
unsigned memmap_flatten(const struct handoff_mem *in, unsigned n, uint64_t *cuts, struct handoff_mem *out);
/* The highest free page in [PAGE_SIZE, limit), or 0. */
hpa_t memmap_free_page_below(const struct handoff_mem *m, unsigned n, hpa_t limit);
