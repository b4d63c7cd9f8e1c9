/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical page allocator: a buddy system of 4K (order 0) to 1G (order 18) blocks over all RAM the loader handed over.
 * All functions may be called from any task and with interrupts off; none sleeps.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/handoff.h"

#define PAGE_ORDER_4K 0
#define PAGE_ORDER_2M 9
#define PAGE_ORDER_1G 18

/*
 * Naturally aligned block of 2^order pages, zeroed: nobody shows or sends what was left there. HPA_NONE if there is
 * none. The caller owns it.
 */
hpa_t page_alloc(unsigned order) must_check;
void page_free(hpa_t hpa, unsigned order);
#define PAGE_KEEP (MIB(16) / PAGE_SIZE) /* what those leave to the rest of the host that take memory for guests */
/* Fill a block of the caller's with zeros. */
void page_zero(hpa_t hpa, unsigned order);

/*
 * Pages that are promised to one user before it allocates them: nobody else's allocation takes the last of them. It is
 * a number, not places: large blocks may still be missing where free memory lies in small pieces. page_reserve: `pages`
 * of them if `keep` more are free, else -ENOMEM; *have is what was free. page_alloc_reserved takes a block on r's
 * account and what goes beyond it, or all of it if r is NULL, from what is free. page_unreserve gives back what was not
 * used; again or on {0} it does nothing. One task uses an r at a time.
 */
struct page_reservation {
	uint64_t pages; /* not used yet */
};
int page_reserve(struct page_reservation *r, uint64_t pages, uint64_t keep, uint64_t *have) must_check;
void page_unreserve(struct page_reservation *r);
hpa_t page_alloc_reserved(struct page_reservation *r, unsigned order) must_check; /* contents undefined */

/* Order of the allocated block that starts at hpa, or -1. */
int page_block_order(hpa_t hpa);

/*
 * For kernel/main.c: take over the free ranges of the loader's map; later, all of it read, its HANDOFF_MEM_BOOT ranges
 * too.
 */
void page_init(const struct handoff_mem *map, unsigned n);
void page_free_boot(void);
/* True if the range lies inside one entry of that map that the direct map covers. */
bool page_in_direct_map(hpa_t hpa, uint64_t size);

/* Pages of 4K: free now and reserved for nobody, and all that the allocator ever had. */
uint64_t page_free_count(void);
uint64_t page_total_count(void);
/* How many of the allocated pages are guests' memory; vmm says so when it takes (+) and gives back (-). Any context. */
void page_guest_add(int64_t pages);
uint64_t page_guest_count(void);
