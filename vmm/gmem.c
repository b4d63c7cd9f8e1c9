/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory and its dirty set (gmem.h). Dirt has two sources: the D bits that hardware sets in the nested tables,
 * and soft_dirty for what the hypervisor writes. The order that everything rests on:
 *
 *   guest:      write page ......................... D set by hardware
 *   harvest:             clear D and soft bit -> flush TLBs -> [return] -> caller copies the page
 *
 * A write after the flush finds D clear and sets it anew; a write before it is in the copy. A device writes first and
 * marks after, so its mark is never older than its data.
 */
#include "kernel/base/hva.h"
#include "vmm/gmem.h"
#include "kernel/task.h"
#include "kernel/time.h"
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

/* Tables that map all of it by 4K leaves: on each level, one for each piece of the address space that has RAM. */
static uint64_t tables_max(const struct gmem *g)
{
	struct gmem_range r[2];
	uint64_t n = 1 + ((g->gfn_end << PAGE_SHIFT) + GIB(512) - 1) / GIB(512) + g->size / GMEM_BLOCK;
	for (unsigned i = 0, nr = gmem_ranges(g, r); i < nr; i++)
		n += ((r[i].count << PAGE_SHIFT) + GIB(1) - 1) / GIB(1);
	return n;
}

static unsigned order_for(uint64_t bytes)
{
	unsigned order = 0;
	while ((PAGE_SIZE << order) < bytes)
		order++;
	return order;
}

static uint64_t map_bytes(const struct gmem *g) { return BITMAP_WORDS(g->gfn_end) * sizeof(uint64_t); }
static uint64_t blocks_bytes(const struct gmem *g) { return g->size / GMEM_BLOCK * sizeof(*g->block); }

uint64_t gmem_pages(uint64_t size)
{
	struct gmem g = shape(size);
	return size / PAGE_SIZE + tables_max(&g) + 2 * (1ULL << order_for(map_bytes(&g))) +
	       (1ULL << order_for(blocks_bytes(&g)));
}

/*
 * ---- tables come from the VM's own stock, so that a split never lacks memory; g->lock is held, or nobody else knows g
 * ----
 */

static void table_put(void *arg, hpa_t t)
{
	struct gmem *g = arg;
	*(hpa_t *)hva_of(t) = g->stock;
	g->stock = t;
}

static hpa_t table_get(void *arg)
{
	struct gmem *g = arg;
	hpa_t t = g->stock;
	if (!t)
		return HPA_NONE;
	g->stock = *(hpa_t *)hva_of(t);
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
			g->block[g->nblocks++] = hpa + b;
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
	*g = shape(size);
	mutex_init(&g->lock, "gmem");
	if (!size || size % GMEM_BLOCK)
		return why_set(w, -EINVAL, "memory of %lu bytes is not a multiple of 2 MiB", size);
	g->block = array_alloc(r, blocks_bytes(g));
	g->soft_dirty = array_alloc(r, map_bytes(g));
	g->track_map = array_alloc(r, map_bytes(g));
	if (!g->block || !g->soft_dirty || !g->track_map || !stock_fill(g, r) ||
	    pt_init(&g->pt, fmt, table_get, table_put, g) || !ram_alloc(g, r))
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
	for (uint64_t i = 0; g->block && i < g->nblocks;) { /* back as they came: some are larger than 2 MiB */
		int order = page_block_order(g->block[i]);
		BUG_ON(order < PAGE_ORDER_2M);
		page_free(g->block[i], (unsigned)order);
		page_guest_add(-(1LL << order));
		i += 1ULL << (order - PAGE_ORDER_2M);
	}
	array_free(g->block, blocks_bytes(g));
	array_free(g->soft_dirty, map_bytes(g));
	array_free(g->track_map, map_bytes(g));
	g->block = NULL;
	g->soft_dirty = g->track_map = NULL;
	g->nblocks = 0;
	g->size = g->low = g->high = g->gfn_end = 0;
}

unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ 0, g->low >> PAGE_SHIFT };
	r[1] = (struct gmem_range){ GMEM_HIGH >> PAGE_SHIFT, g->high >> PAGE_SHIFT };
	return g->high ? 2 : 1;
}

void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len)
{
	if (!len)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* data before mark */
	for (gfn_t f = gpa >> PAGE_SHIFT; f <= (gpa + len - 1) >> PAGE_SHIFT && f < g->gfn_end; f++)
		bitmap_set_atomic(g->soft_dirty, f);
}

gfn_t gmem_next_written(const struct gmem *g, gfn_t from, gfn_t end)
{
	while (from < end) {
		uint64_t word = __atomic_load_n(&g->soft_dirty[from / 64], __ATOMIC_RELAXED) >> from % 64;
		if (word)
			return MIN(from + (unsigned)__builtin_ctzll(word), end);
		from = (from / 64 + 1) * 64;
	}
	return end;
}

/* ---- bytes, and pages that are not here yet ---- */

void gmem_on_flush(struct gmem *g, void (*flush)(void *arg), void *arg)
{
	g->flush = flush;
	g->flush_arg = arg;
}

/* What is no RAM is not to come: who touches it finds out. */
static bool is_absent(const struct gmem *g, const struct gmem_pager *p, gfn_t f)
{
	return gmem_is_ram(g, f << PAGE_SHIFT) && !p->here(p->arg, f);
}

int gmem_wait(const struct gmem *g, gpa_t gpa, size_t len)
{
	const struct gmem_pager *p = __atomic_load_n(&g->pager, __ATOMIC_ACQUIRE);
	int err = 0;
	for (gfn_t f = gpa >> PAGE_SHIFT; p && len && !err && f <= (gpa + len - 1) >> PAGE_SHIFT; f++)
		if (is_absent(g, p, f))
			err = p->fetch(p->arg, f);
	return err;
}

bool gmem_is_here(const struct gmem *g, gpa_t gpa, size_t len)
{
	const struct gmem_pager *p = __atomic_load_n(&g->pager, __ATOMIC_ACQUIRE);
	for (gfn_t f = gpa >> PAGE_SHIFT; p && len && f <= (gpa + len - 1) >> PAGE_SHIFT; f++)
		if (is_absent(g, p, f))
			return false;
	return true;
}

/* Pieces of [gpa, gpa+len) that lie in one block each. */
static int gmem_copy(const struct gmem *g, gpa_t gpa, void *buf, size_t len, bool to_guest)
{
	char *b = buf;
	while (len) {
		size_t n = MIN(len, GMEM_BLOCK - (gpa & (GMEM_BLOCK - 1)));
		struct gmem_pin pin;
		int err = gmem_pin_wait(g, gpa, n, to_guest ? GMEM_WRITE : GMEM_READ, &pin);
		if (err)
			return err;
		memcpy(to_guest ? pin.p : b, to_guest ? b : pin.p, n);
		gmem_unpin(g, &pin);
		gpa += n;
		b += n;
		len -= n;
	}
	return 0;
}

int gmem_read(const struct gmem *g, gpa_t gpa, void *buf, size_t len) { return gmem_copy(g, gpa, buf, len, false); }

int gmem_write(struct gmem *g, gpa_t gpa, const void *buf, size_t len)
{
	return gmem_copy(g, gpa, (void *)(uintptr_t)buf, len, true);
}

static void flush(const struct gmem *g)
{
	if (g->flush)
		g->flush(g->flush_arg);
}

void gmem_make_executable(struct gmem *g, gpa_t gpa)
{
	if (!g->pt.fmt->later_x)
		return;
	mutex_lock(&g->lock);
	uint64_t before = g->pt.ntables;
	BUG_ON(pt_split_page(&g->pt, gpa)); /* tables_max */
	bool split = g->pt.ntables != before;
	g->splits += split;
	mutex_unlock(&g->lock);
	if (split)
		flush(g); /* SDM 3C, guidelines for INVEPT: what is cached of a table entry that was a leaf */
}

/* Of vCPUs' memory: in pieces where they wait for the lock (gmem_make_executable). */
static uint64_t piece_of(const struct gmem *g) { return g->pt.fmt->later_x ? GIB(1) : UINT64_MAX / 2; }

/* Between two pieces: the lock goes to those who wait, which takes them a moment. */
static void give_way(struct gmem *g)
{
	mutex_unlock(&g->lock);
	if (g->pt.fmt->later_x)
		task_sleep_until(time_ns() + 20 * NS_PER_US);
	mutex_lock(&g->lock);
}

/* The lock is held. */
static void split_all(struct gmem *g)
{
	struct gmem_range r[2];
	uint64_t piece = piece_of(g);
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++)
		for (uint64_t off = 0, len = r[i].count << PAGE_SHIFT; off < len; off += piece) {
			uint64_t before = g->pt.ntables;
			BUG_ON(pt_split(&g->pt, (r[i].first << PAGE_SHIFT) + off,
					MIN(len - off, piece))); /* tables_max */
			g->splits += g->pt.ntables - before;
			give_way(g);
		}
}

void gmem_track_start(struct gmem *g)
{
	mutex_lock(&g->lock);
	split_all(g);
	for (uint64_t i = 0; i < BITMAP_WORDS(g->gfn_end); i++)
		__atomic_store_n(&g->soft_dirty[i], 0, __ATOMIC_SEQ_CST);
	g->tracking = true;
	mutex_unlock(&g->lock);
	flush(g);
}

uint64_t gmem_track_harvest(struct gmem *g, gfn_t first, uint64_t count, uint64_t *map)
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
	flush(g);
	return after - before;
}

void gmem_track_stop(struct gmem *g)
{
	struct gmem_range r[2];
	uint64_t piece = piece_of(g);
	mutex_lock(&g->lock);
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++)
		for (uint64_t off = 0, len = r[i].count << PAGE_SHIFT; off < len; off += piece) {
			pt_merge(&g->pt, (r[i].first << PAGE_SHIFT) + off, MIN(len - off, piece));
			if (off + piece < len) { /* else the flush below does */
				flush(g);
				pt_reap(&g->pt);
				give_way(g);
			}
		}
	g->tracking = false;
	flush(g);
	pt_reap(&g->pt);
	mutex_unlock(&g->lock);
}
