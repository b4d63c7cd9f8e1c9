/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory (gmem.h) made, and taken apart: RAM, and what is kept beside it. */
#include "kernel/base/hva.h"
#include "vmm/gmem.h"
#include <string.h>

/* ---- what a VM of a size takes ---- */

static struct gmem shape(uint64_t size)
{
	uint64_t high = size > GMEM_HOLE ? size - GMEM_HOLE : 0;
	return (struct gmem){ .size = size,
			      .low = size - high,
			      .high = high,
			      .gfn_end = (high ? GMEM_HIGH + high : size) >> PAGE_SHIFT };
}

/* A root, and a page for each 512 GiB of the address space: level 4 and 3 of tables, and what gmem.gib points to. */
static uint64_t upper_pages(const struct gmem *g)
{
	return 1 + (g->gfn_end + GMEM_FAN * GMEM_GIB_FRAMES - 1) / (GMEM_FAN * GMEM_GIB_FRAMES);
}

/* Tables that map all of it by 4K leaves: on each level, one for each piece of the address space that has RAM. */
static uint64_t tables_max(const struct gmem *g)
{
	return upper_pages(g) + gmem_gibs(g->low) + gmem_gibs(g->high) + g->size / GMEM_BLOCK;
}

static unsigned order_for(uint64_t bytes)
{
	unsigned order = 0;
	while ((PAGE_SIZE << order) < bytes)
		order++;
	return order;
}

static uint64_t map_bytes(uint64_t frames) { return BITMAP_WORDS(frames) * sizeof(uint64_t); }
static uint64_t low_bytes(const struct gmem *g) { return g->low / GMEM_BLOCK * sizeof(*g->low_block); }

/* Pages for what is kept beside a range of RAM, each GiB's of which is in a piece of its own (struct gmem_gib). */
static uint64_t gib_pages(uint64_t frames, uint64_t beside)
{
	return frames ? beside + 2 * (1ULL << order_for(map_bytes(frames))) : 0;
}

static uint64_t range_pages(const struct gmem_range *r, uint64_t beside)
{
	return r->count / GMEM_GIB_FRAMES * gib_pages(GMEM_GIB_FRAMES, beside) +
	       gib_pages(r->count % GMEM_GIB_FRAMES, beside);
}

uint64_t gmem_pages(uint64_t size)
{
	struct gmem g = shape(size);
	struct gmem_range r[2];
	uint64_t n = size / PAGE_SIZE + tables_max(&g) + (1ULL << order_for(low_bytes(&g)));
	n += upper_pages(&g);
	for (unsigned i = 0, nr = gmem_ranges(&g, r); i < nr; i++)
		n += range_pages(&r[i], i ? 2 : 1); /* the piece itself; above the hole, its list of blocks */
	return n;
}

/* ---- tables come from the VM's own stock, so that a split never lacks memory ---- */

static void table_put(void *arg, hpa_t t)
{
	struct gmem *g = arg;
	spin_lock(&g->stock_lock);
	*(hpa_t *)hva_of(t) = g->stock;
	g->stock = t;
	spin_unlock(&g->stock_lock);
}

static hpa_t table_get(void *arg)
{
	struct gmem *g = arg;
	spin_lock(&g->stock_lock);
	hpa_t t = g->stock;
	if (t)
		g->stock = *(hpa_t *)hva_of(t);
	spin_unlock(&g->stock_lock);
	if (!t)
		return HPA_NONE;
	memset(hva_of(t), 0, PAGE_SIZE);
	return t;
}

static bool stock_fill(struct gmem *g, struct page_reservation *r)
{
	for (uint64_t n = tables_max(g); n; n--) {
		hpa_t t = page_alloc_reserved(r, PAGE_ORDER_4K);
		if (t == HPA_NONE)
			return false;
		table_put(g, t);
	}
	return true;
}

/* ---- made, and taken apart ---- */

static gpa_t ram_gpa(const struct gmem *g, uint64_t off) { return off < g->low ? off : off - g->low + GMEM_HIGH; }

static void *array_alloc(struct page_reservation *r, uint64_t bytes)
{
	hpa_t hpa = page_alloc_reserved(r, order_for(bytes));
	if (hpa == HPA_NONE)
		return NULL;
	page_zero(hpa, order_for(bytes));
	return hva_of(hpa);
}

static void array_free(void *p, uint64_t bytes)
{
	if (p)
		page_free(hpa_of(p), order_for(bytes));
}

static void *page_of_zeros(struct page_reservation *r) { return array_alloc(r, PAGE_SIZE); }

/* What is kept beside the GiB of RAM from frame `first` on. False: no memory; what there is, gib_free frees. */
static bool gib_alloc(struct gmem *g, gfn_t first, uint64_t count, struct page_reservation *r)
{
	struct gmem_gib ***dir = &g->gib[first / GMEM_GIB_FRAMES / GMEM_FAN], *q;
	if (!*dir && !(*dir = page_of_zeros(r)))
		return false;
	(*dir)[first / GMEM_GIB_FRAMES % GMEM_FAN] = q = page_of_zeros(r);
	if (!q)
		return false;
	q->first = first;
	q->count = count;
	q->block = first << PAGE_SHIFT < g->low ? &g->low_block[first << PAGE_SHIFT >> GMEM_BLOCK_SHIFT]
						: page_of_zeros(r);
	q->soft = array_alloc(r, map_bytes(count));
	q->track = array_alloc(r, map_bytes(count));
	return q->block && q->soft && q->track;
}

static void gib_free(const struct gmem *g, struct gmem_gib *q)
{
	array_free(q->soft, map_bytes(q->count));
	array_free(q->track, map_bytes(q->count));
	if (q->first << PAGE_SHIFT >= g->low)
		array_free(q->block, PAGE_SIZE);
	array_free(q, PAGE_SIZE);
}

static bool gibs_alloc(struct gmem *g, struct page_reservation *r)
{
	struct gmem_range rg[2];
	g->low_block = array_alloc(r, low_bytes(g));
	g->gib = page_of_zeros(r);
	if (!g->low_block || !g->gib)
		return false;
	for (unsigned i = 0, n = gmem_ranges(g, rg); i < n; i++)
		for (uint64_t f = 0; f < rg[i].count; f += GMEM_GIB_FRAMES)
			if (!gib_alloc(g, rg[i].first + f, MIN(rg[i].count - f, GMEM_GIB_FRAMES), r))
				return false;
	return true;
}

static void gibs_free(struct gmem *g)
{
	for (unsigned i = 0; g->gib && i < GMEM_FAN && g->gib[i]; i++) {
		for (unsigned k = 0; k < GMEM_FAN; k++)
			if (g->gib[i][k])
				gib_free(g, g->gib[i][k]);
		array_free(g->gib[i], PAGE_SIZE);
	}
	array_free(g->gib, PAGE_SIZE);
	array_free(g->low_block, low_bytes(g));
	g->gib = NULL;
	g->low_block = NULL;
}

hpa_t *gmem_nth_block(const struct gmem *g, uint64_t n)
{
	gpa_t gpa = ram_gpa(g, n << GMEM_BLOCK_SHIFT);
	return &gmem_gib_at(g, gpa)->block[gpa >> GMEM_BLOCK_SHIFT & (GMEM_GIB_BLOCKS - 1)];
}

/* RAM in the largest blocks that fit and that the host has, not cleared. */
static bool ram_alloc(struct gmem *g, struct page_reservation *r)
{
	for (uint64_t off = 0; off < g->size;) {
		gpa_t gpa = ram_gpa(g, off);
		uint64_t room = gpa < GMEM_HOLE ? g->low - off : g->size - off;
		unsigned order = PAGE_ORDER_1G;
		hpa_t hpa = HPA_NONE;
		for (; order >= PAGE_ORDER_2M; order--) {
			uint64_t bytes = PAGE_SIZE << order;
			if (bytes <= room && !(gpa & (bytes - 1)) && (hpa = page_alloc_reserved(r, order)) != HPA_NONE)
				break;
		}
		if (hpa == HPA_NONE)
			return false;
		for (uint64_t b = 0; b < PAGE_SIZE << order; b += GMEM_BLOCK)
			*gmem_nth_block(g, g->nblocks++) = hpa + b;
		page_guest_add(1LL << order);
		if (pt_map(&g->pt, gpa, hpa, PAGE_SIZE << order, PT_R | PT_W | PT_X))
			return false;
		off += PAGE_SIZE << order;
	}
	return true;
}

int gmem_init_from(struct gmem *g, uint64_t size, const struct pt_format *fmt, struct page_reservation *r,
		   const struct gmem_progress *p, struct why *w)
{
	*g = (struct gmem){ 0 };
	if (!size || size % GMEM_BLOCK)
		return why_set(w, -EINVAL, "memory of %lu bytes is not a multiple of 2 MiB", size);
	if (shape(size).gfn_end > GMEM_FAN * GMEM_FAN * GMEM_GIB_FRAMES)
		return why_set(w, -EINVAL, "memory of %lu TiB is more than page tables of four levels map", size >> 40);
	*g = shape(size);
	mutex_init(&g->lock, "gmem");
	spin_init(&g->stock_lock, "table stock");
	spin_init(&g->guard_lock, "gmem guards");
	if (!gibs_alloc(g, r) || !stock_fill(g, r) || pt_init(&g->pt, fmt, table_get, table_put, g) || !ram_alloc(g, r))
		goto nomem;
	int err = gmem_clear(g, p);
	if (!err)
		return 0;
	gmem_fini(g);
	return why_set(w, err, "ended while its memory was cleared: %s", err_name(err));
nomem:
	gmem_fini(g);
	return why_set(
		w, -ENOMEM,
		"not enough memory: the VM needs %lu MiB, this host has %lu MiB free, not all in pieces of 2 MiB",
		size >> 20, ((page_free_count() + (r ? r->pages : 0)) >> (20 - PAGE_SHIFT)));
}

void gmem_fini(struct gmem *g)
{
	pt_fini(&g->pt);
	while (g->stock) {
		hpa_t t = g->stock;
		g->stock = *(hpa_t *)hva_of(t);
		page_free(t, PAGE_ORDER_4K);
	}
	for (uint64_t i = 0; i < g->nblocks;) { /* back as they came: some are larger than 2 MiB */
		hpa_t block = *gmem_nth_block(g, i);
		int order = page_block_order(block);
		BUG_ON(order < PAGE_ORDER_2M);
		page_free(block, (unsigned)order);
		page_guest_add(-(1LL << order));
		i += 1ULL << (order - PAGE_ORDER_2M);
	}
	gibs_free(g);
	g->nblocks = 0;
	g->size = g->low = g->high = g->gfn_end = 0;
}
