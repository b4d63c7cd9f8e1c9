/* SPDX-License-Identifier: BSD-2-Clause */
/* One frame of what the hypervisor has written to a guest's memory (gmem.h), for tests without a harvest. */
#pragma once
#include "vmm/gmem.h"

static inline bool is_dirty(const struct gmem *g, gfn_t f) { return gmem_next_written(g, f, f + 1) == f; }
static inline void forget_dirt(const struct gmem *g, gfn_t f)
{
	bitmap_clear(gmem_gib_at(g, f << PAGE_SHIFT)->soft, f % GMEM_GIB_FRAMES);
}
