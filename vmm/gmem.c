/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory and its dirty set (gmem.h). Dirt has two sources: the D bits that hardware sets in the nested tables, and
 * soft_dirty for what the hypervisor writes. The order that everything rests on:
 *
 *   guest:      write page ......................... D set by hardware
 *   harvest:             clear D and soft bit -> flush TLBs -> [return] -> caller copies the page
 *
 * A write after the flush finds D clear and sets it anew; a write before it is in the copy. A device writes first and
 * marks after, so its mark is never older than its data.
 */
#include "vmm/gmem.h"
#include <stdlib.h>
#include <string.h>

static hpa_t table_page_alloc(void *arg unused) { return page_alloc_zero(PAGE_ORDER_4K); }
static void table_page_free(void *arg unused, hpa_t hpa) { page_free(hpa, PAGE_ORDER_4K); }

static gpa_t ram_gpa(const struct gmem *g, uint64_t off) { return off < g->low ? off : off - g->low + GMEM_HIGH; }

int gmem_init(struct gmem *g, uint64_t size, const struct pt_format *fmt, struct why *w)
{
	int err;
	*g = (struct gmem){ .size = size,
			    .low = MIN(size, GMEM_HOLE),
			    .high = size > GMEM_HOLE ? size - GMEM_HOLE : 0 };
	mutex_init(&g->lock, "gmem");
	if (!size || size % GMEM_BLOCK)
		return why_set(w, -EINVAL, "memory of %llu bytes is not a multiple of 2 MiB", (unsigned long long)size);
	g->gfn_end = (g->high ? GMEM_HIGH + g->high : g->low) >> PAGE_SHIFT;
	g->block = malloc(size / GMEM_BLOCK * sizeof(*g->block));
	g->soft_dirty = calloc(BITMAP_WORDS(g->gfn_end), sizeof(uint64_t));
	err = pt_init(&g->pt, fmt, table_page_alloc, table_page_free, NULL);
	if (!g->block || !g->soft_dirty || err)
		goto nomem;
	for (uint64_t off = 0; off < size;) {
		gpa_t gpa = ram_gpa(g, off);
		uint64_t room = gpa < GMEM_HOLE ? g->low - off : size - off;
		unsigned order = PAGE_ORDER_1G;
		hpa_t hpa = HPA_NONE;
		for (; order >= PAGE_ORDER_2M; order--) { /* the largest that fits and that the host has */
			uint64_t bytes = PAGE_SIZE << order;
			if (bytes <= room && !(gpa & (bytes - 1)) && (hpa = page_alloc_zero(order)) != HPA_NONE)
				break;
		}
		if (hpa == HPA_NONE)
			goto nomem;
		for (uint64_t b = 0; b < PAGE_SIZE << order; b += GMEM_BLOCK)
			g->block[g->nblocks++] = hpa + b;
		page_guest_add(1LL << order);
		if (pt_map(&g->pt, gpa, hpa, PAGE_SIZE << order, PT_R | PT_W | PT_X))
			goto nomem;
		off += PAGE_SIZE << order;
	}
	return 0;
nomem:
	gmem_fini(g);
	return why_set(w, -ENOMEM, "not enough memory: the VM needs %llu MiB, this host has %llu MiB free",
		       (unsigned long long)(size >> 20), (unsigned long long)(page_free_count() >> (20 - PAGE_SHIFT)));
}

void gmem_fini(struct gmem *g)
{
	pt_fini(&g->pt);
	for (uint64_t i = 0; g->block && i < g->nblocks;) { /* back as they came: some are larger than 2 MiB */
		int order = page_block_order(g->block[i]);
		BUG_ON(order < PAGE_ORDER_2M);
		page_free(g->block[i], (unsigned)order);
		page_guest_add(-(1LL << order));
		i += 1ULL << (order - PAGE_ORDER_2M);
	}
	free(g->block);
	free(g->soft_dirty);
	g->block = NULL;
	g->soft_dirty = NULL;
	g->nblocks = 0;
	g->size = g->low = g->high = g->gfn_end = 0;
}

unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ 0, g->low >> PAGE_SHIFT };
	r[1] = (struct gmem_range){ GMEM_HIGH >> PAGE_SHIFT, g->high >> PAGE_SHIFT };
	return g->high ? 2 : 1;
}

void gmem_dirty(struct gmem *g, gpa_t gpa, size_t len)
{
	if (!len)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* data before mark */
	for (gfn_t f = gpa >> PAGE_SHIFT; f <= (gpa + len - 1) >> PAGE_SHIFT && f < g->gfn_end; f++)
		bitmap_set_atomic(g->soft_dirty, f);
}

/* Pieces of [gpa, gpa+len) that lie in one block each. */
static int gmem_copy(const struct gmem *g, gpa_t gpa, void *buf, size_t len, bool to_guest)
{
	char *b = buf;
	while (len) {
		size_t n = MIN(len, GMEM_BLOCK - (gpa & (GMEM_BLOCK - 1)));
		void *p = gmem_ptr(g, gpa, n);
		if (!p)
			return -EFAULT;
		memcpy(to_guest ? p : b, to_guest ? b : p, n);
		gpa += n;
		b += n;
		len -= n;
	}
	return 0;
}

int gmem_read(const struct gmem *g, gpa_t gpa, void *buf, size_t len) { return gmem_copy(g, gpa, buf, len, false); }

int gmem_write(struct gmem *g, gpa_t gpa, const void *buf, size_t len)
{
	int err = gmem_copy(g, gpa, (void *)(uintptr_t)buf, len, true);
	gmem_dirty(g, gpa, len); /* on an error too: part of it may have been written */
	return err;
}

int gmem_track_start(struct gmem *g, void (*flush)(void *), void *arg)
{
	struct gmem_range r[2];
	int err = 0;
	mutex_lock(&g->lock);
	uint64_t before = g->pt.ntables;
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n && !err; i++)
		err = pt_split(&g->pt, r[i].first << PAGE_SHIFT, r[i].count << PAGE_SHIFT);
	g->splits += g->pt.ntables - before;
	for (uint64_t i = 0; i < BITMAP_WORDS(g->gfn_end); i++)
		__atomic_store_n(&g->soft_dirty[i], 0, __ATOMIC_SEQ_CST);
	g->tracking = !err;
	mutex_unlock(&g->lock);
	flush(arg);
	return err;
}

uint64_t gmem_track_harvest(struct gmem *g, gfn_t first, uint64_t count, uint64_t *map, void (*flush)(void *),
			    void *arg)
{
	uint64_t words = BITMAP_WORDS(count), before = 0, after = 0;
	BUG_ON(!g->tracking || first % 64);
	for (uint64_t i = 0; i < words; i++)
		before += popcount64(map[i]);
	mutex_lock(&g->lock);
	pt_harvest(&g->pt, first << PAGE_SHIFT, count << PAGE_SHIFT, map, first);
	mutex_unlock(&g->lock);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t *soft = &g->soft_dirty[first / 64 + i],
			 mask = count - i * 64 < 64 ? BIT(count - i * 64) - 1 : ~0ULL;
		if (__atomic_load_n(soft, __ATOMIC_RELAXED) & mask)
			map[i] |= __atomic_fetch_and(soft, ~mask, __ATOMIC_SEQ_CST) & mask;
		after += popcount64(map[i]);
	}
	flush(arg);
	return after - before;
}

void gmem_track_stop(struct gmem *g, void (*flush)(void *), void *arg)
{
	struct gmem_range r[2];
	mutex_lock(&g->lock);
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++)
		pt_merge(&g->pt, r[i].first << PAGE_SHIFT, r[i].count << PAGE_SHIFT);
	g->tracking = false;
	flush(arg);
	pt_reap(&g->pt);
	mutex_unlock(&g->lock);
}
