/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical pages: a buddy system. Physical address space is cut into regions of 1 GiB, the largest block; no block
 * crosses one. Each region with RAM has a byte for each of its 4K pages:
 *
 *   region[i] -> | F|9 |  0  |  0  | ... | A|0 | F|0 | A|1 | 0 | ...
 *
 * F: free, A: allocated, each with its block's order; 0: inside a block, or no RAM. Only the byte of a block's first
 * page is set, so allocating or freeing touches one byte a split or merge step. A region that is one free block of 1
 * GiB needs no bytes: they are cleared when it is first split or allocated, which keeps 24 TB cheap at boot (0.025% of
 * RAM set aside, of which nothing is touched). Free blocks are chained through their first bytes in the direct map.
 * One lock; nothing here sleeps.
 *
 * A reservation sets pages aside without choosing which: free_pages is what is in the lists less what is reserved, and
 * is what anybody may take.
 */
#include "kernel/base/hva.h"
#include "kernel/page.h"
#include "kernel/base/err.h"
#include "kernel/base/list.h"
#include "kernel/log.h"
#include "kernel/spinlock.h"
#include <string.h>

#define ORDERS       (PAGE_ORDER_1G + 1)
#define REGION_PAGES (1UL << PAGE_ORDER_1G)
#define REGION_SHIFT (PAGE_SHIFT + PAGE_ORDER_1G)
#define STATE_FREE   0x80
#define STATE_ALLOC  0x40
#define LOW_LIMIT    MIB(1) /* left alone: firmware's and the trampoline's; and 0 stays no address */
#define MAP_MAX      1024

struct region {
	uint8_t *state; /* REGION_PAGES bytes, NULL: no RAM here */
	bool ready;     /* the bytes have been cleared; else the region is one free block, or nothing yet */
};

static struct spinlock lock = SPINLOCK_INIT("page");
static struct list free_list[ORDERS];
static struct region *region;
static uint64_t nregions, guest_pages;
static uint64_t total_pages, free_pages; /* free: and not reserved; written under lock, read without */
static struct handoff_mem map[MAP_MAX];  /* copy of the loader's: it lies in memory that is freed */
static unsigned nmap;

/* One of the two counts. lock is held. */
static void add(uint64_t *pages, uint64_t n) { __atomic_store_n(pages, *pages + n, __ATOMIC_RELAXED); }

static struct list *node_of(hpa_t hpa) { return hva_of(hpa); }

static uint8_t *state_of(hpa_t hpa)
{
	return &region[hpa >> REGION_SHIFT].state[(hpa >> PAGE_SHIFT) & (REGION_PAGES - 1)];
}

static void make_ready(hpa_t hpa)
{
	struct region *r = &region[hpa >> REGION_SHIFT];
	if (!r->ready) {
		memset(r->state, 0, REGION_PAGES);
		r->ready = true;
	}
}

/* Put a block, no longer merged with anything, on its list. */
static void put_block(hpa_t hpa, unsigned order)
{
	if (order < PAGE_ORDER_1G)
		*state_of(hpa) = (uint8_t)(STATE_FREE | order);
	list_insert(&free_list[order], node_of(hpa));
}

static void take_block(hpa_t hpa)
{
	list_remove(node_of(hpa));
	make_ready(hpa);
	*state_of(hpa) = 0;
}

/* Merge with free buddies as far as that goes, then list. lock is held. */
static void give(hpa_t hpa, unsigned order)
{
	add(&free_pages, 1UL << order);
	if (order < PAGE_ORDER_1G)
		make_ready(hpa);
	while (order < PAGE_ORDER_1G) {
		hpa_t buddy = hpa ^ (PAGE_SIZE << order);
		if (*state_of(buddy) != (STATE_FREE | order))
			break;
		take_block(buddy);
		hpa = MIN(hpa, buddy);
		order++;
	}
	put_block(hpa, order);
}

hpa_t page_alloc_reserved(struct page_reservation *r, unsigned order)
{
	BUG_ON(order > PAGE_ORDER_1G);
	hpa_t hpa = HPA_NONE;
	uint64_t flags = spin_lock_irqsave(&lock);
	uint64_t n = 1UL << order, drawn = r ? MIN(r->pages, n) : 0;
	unsigned o = order;
	while (o < ORDERS && list_empty(&free_list[o]))
		o++;
	if (o < ORDERS && n - drawn <= free_pages) {
		hpa = hpa_of(free_list[o].next);
		take_block(hpa);
		while (o > order) { /* split: give back the upper halves */
			o--;
			put_block(hpa + (PAGE_SIZE << o), o);
		}
		*state_of(hpa) = (uint8_t)(STATE_ALLOC | order);
		add(&free_pages, drawn - n);
		if (drawn)
			r->pages -= drawn;
	}
	spin_unlock_irqrestore(&lock, flags);
	return hpa;
}

void page_zero(hpa_t hpa, unsigned order) { memset(hva_of(hpa), 0, PAGE_SIZE << order); }

hpa_t page_alloc(unsigned order)
{
	hpa_t hpa = page_alloc_reserved(NULL, order);
	if (hpa != HPA_NONE)
		page_zero(hpa, order);
	return hpa;
}

int page_reserve(struct page_reservation *r, uint64_t pages, uint64_t keep, uint64_t *have)
{
	int err = -ENOMEM;
	uint64_t flags = spin_lock_irqsave(&lock);
	r->pages = 0;
	*have = free_pages;
	if (pages <= free_pages && keep <= free_pages - pages) {
		add(&free_pages, -pages);
		r->pages = pages;
		err = 0;
	}
	spin_unlock_irqrestore(&lock, flags);
	return err;
}

void page_unreserve(struct page_reservation *r)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	add(&free_pages, r->pages);
	r->pages = 0;
	spin_unlock_irqrestore(&lock, flags);
}

void page_free(hpa_t hpa, unsigned order)
{
	int was = page_block_order(hpa);
	if (was != (int)order)
		panic("page_free(%#lx, order %u): the allocator has order %d there (-1: nothing allocated)", hpa, order,
		      was);
	uint64_t flags = spin_lock_irqsave(&lock);
	*state_of(hpa) = 0;
	give(hpa, order);
	spin_unlock_irqrestore(&lock, flags);
}

int page_block_order(hpa_t hpa)
{
	uint64_t r = hpa >> REGION_SHIFT;
	if (hpa & PAGE_MASK || r >= nregions || !region[r].state || !region[r].ready)
		return -1;
	uint8_t s = *state_of(hpa);
	return s & STATE_ALLOC ? s & ~STATE_ALLOC : -1;
}

uint64_t page_free_count(void) { return __atomic_load_n(&free_pages, __ATOMIC_RELAXED); }

uint64_t page_total_count(void) { return __atomic_load_n(&total_pages, __ATOMIC_RELAXED); }

void page_guest_add(int64_t pages) { __atomic_fetch_add(&guest_pages, (uint64_t)pages, __ATOMIC_RELAXED); }

uint64_t page_guest_count(void) { return __atomic_load_n(&guest_pages, __ATOMIC_RELAXED); }

/* Hand a range of RAM to the allocator, in the largest blocks that fit. */
static void add_range(hpa_t base, hpa_t end)
{
	base = MAX(base, LOW_LIMIT);
	while (base < end) {
		unsigned order = MIN((unsigned)__builtin_ctzll(base >> PAGE_SHIFT), (unsigned)PAGE_ORDER_1G);
		while ((PAGE_SIZE << order) > end - base)
			order--;
		uint64_t flags = spin_lock_irqsave(&lock);
		give(base, order);
		add(&total_pages, 1UL << order);
		spin_unlock_irqrestore(&lock, flags);
		base += PAGE_SIZE << order;
	}
}

/* Cut size bytes (of pages) off the end of a free range that stays above LOW_LIMIT; they are never given back. */
static void *boot_take(uint64_t size)
{
	size = ALIGN_UP(size, PAGE_SIZE);
	for (unsigned i = nmap; i-- > 0;) {
		struct handoff_mem *m = &map[i];
		if (m->type != HANDOFF_MEM_FREE || m->base + m->size < LOW_LIMIT + size || m->size < size)
			continue;
		m->size -= size;
		return hva_of(m->base + m->size);
	}
	return NULL;
}

void page_init(const struct handoff_mem *mem, unsigned n)
{
	hpa_t end = 0;
	nmap = 0;
	free_pages = total_pages = 0;
	for (unsigned o = 0; o < ORDERS; o++)
		list_init(&free_list[o]);
	for (unsigned i = 0; i < n && nmap < MAP_MAX; i++) {
		map[nmap++] = mem[i];
		if (mem[i].type == HANDOFF_MEM_FREE || mem[i].type == HANDOFF_MEM_BOOT)
			end = MAX(end, mem[i].base + mem[i].size);
	}
	if (n > MAP_MAX)
		log_warn("page: the memory map has %u entries, only the first %u are used", n, MAP_MAX);
	nregions = (end + GIB(1) - 1) >> REGION_SHIFT;
	region = boot_take(nregions * sizeof(*region));
	if (!region)
		panic("page: no memory for the allocator's own tables");
	memset(region, 0, nregions * sizeof(*region));
	/* The loader's memory (BOOT) is given back later, so its regions have state from the start. */
	for (unsigned i = 0; i < nmap; i++) {
		if ((map[i].type != HANDOFF_MEM_FREE && map[i].type != HANDOFF_MEM_BOOT) || map[i].size == 0)
			continue;
		for (uint64_t r = map[i].base >> REGION_SHIFT; r <= (map[i].base + map[i].size - 1) >> REGION_SHIFT;
		     r++) {
			if (region[r].state)
				continue;
			region[r].state = boot_take(REGION_PAGES);
			if (!region[r].state)
				panic("page: no memory for the allocator's own tables");
		}
	}
	for (unsigned i = 0; i < nmap; i++)
		if (map[i].type == HANDOFF_MEM_FREE)
			add_range(map[i].base, map[i].base + map[i].size);
}

bool page_in_direct_map(hpa_t hpa, uint64_t size)
{
	for (unsigned i = 0; i < nmap; i++)
		if (map[i].type != HANDOFF_MEM_RESERVED && hpa >= map[i].base && size <= map[i].size &&
		    hpa - map[i].base <= map[i].size - size)
			return true;
	return false;
}

void page_free_boot(void)
{
	for (unsigned i = 0; i < nmap; i++)
		if (map[i].type == HANDOFF_MEM_BOOT) {
			add_range(map[i].base, map[i].base + map[i].size);
			map[i].type = HANDOFF_MEM_FREE;
		}
}
