/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RAM whose bytes are still at another host (post-copy; gmem.h). A frame that is absent has no leaf in the nested page
 * tables, so who touches it exits, and a bit in the map that tracking uses at a source; no VM is both.
 *
 *   fill:    bytes by GMEM_FILL -> [came] leaf, then bit cleared (release) -> whoever waited is woken by the pager
 *   access:  bit set (acquire)? ask and sleep : go on
 */
#include "kernel/base/bits.h"
#include "vmm/gmem.h"

static bool test(const struct gmem_gib *q, gfn_t gfn)
{
	uint64_t i = gfn - q->first;
	return __atomic_load_n(&q->track[i / 64], __ATOMIC_ACQUIRE) >> i % 64 & 1;
}

bool gmem_absent(const struct gmem *g, gfn_t gfn) { return test(gmem_gib_at(g, gfn << PAGE_SHIFT), gfn); }

void gmem_absent_add(struct gmem *g, gfn_t first, uint64_t count)
{
	gmem_track_add(g, first, count);
	mutex_lock(&g->lock);
	BUG_ON(pt_unmap(&g->pt, first << PAGE_SHIFT, count << PAGE_SHIFT)); /* what tables it takes, tables_max has */
	mutex_unlock(&g->lock);
}

void gmem_absent_ready(struct gmem *g)
{
	gmem_flush(g);
	mutex_lock(&g->lock);
	pt_reap(&g->pt);
	mutex_unlock(&g->lock);
}

bool gmem_absent_came(struct gmem *g, gfn_t gfn)
{
	gpa_t gpa = gfn << PAGE_SHIFT;
	struct gmem_gib *q = gmem_gib_at(g, gpa);
	uint64_t i = gfn - q->first;
	if (!test(q, gfn))
		return false;
	mutex_lock(&g->lock);
	BUG_ON(pt_map(&g->pt, gpa, hpa_of(gmem_ptr(g, gpa, PAGE_SIZE)), PAGE_SIZE, PT_R | PT_W | PT_X));
	mutex_unlock(&g->lock);
	__atomic_fetch_and(&q->track[i / 64], ~BIT(i % 64), __ATOMIC_RELEASE);
	q->left--;
	return true;
}
