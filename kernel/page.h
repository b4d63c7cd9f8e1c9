/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical page allocator: a buddy system of 4K (order 0) to 1G (order 18) blocks over all RAM the loader handed over.
 * All functions may be called from any task and with interrupts off; none sleeps.
 */
#pragma once
#include "kernel/bits.h"
#include "kernel/handoff.h"

#define PAGE_ORDER_4K 0
#define PAGE_ORDER_2M 9
#define PAGE_ORDER_1G 18
#define HPA_NONE      (~(hpa_t)0)

/* The direct map: every byte of RAM has one address there. */
static inline void *hva_of(hpa_t hpa) { return (void *)(uintptr_t)(hpa + HHDM_BASE); }
static inline hpa_t hpa_of(const void *hva) { return (hpa_t)(uintptr_t)hva - HHDM_BASE; }

/* Naturally aligned block of 2^order pages, contents undefined; HPA_NONE if there is none. The caller owns it. */
hpa_t page_alloc(unsigned order) must_check;
/* Same, zeroed. */
hpa_t page_alloc_zero(unsigned order) must_check;
void page_free(hpa_t hpa, unsigned order);

/* Order of the allocated block that starts at hpa, or -1. */
int page_block_order(hpa_t hpa);

/* For kernel/main.c: take over the free ranges of the loader's map; later, all of it read, its HANDOFF_MEM_BOOT ranges too. */
void page_init(const struct handoff_mem *map, unsigned n);
void page_free_boot(void);
/* True if the range lies inside one entry of that map that the direct map covers. */
bool page_in_direct_map(hpa_t hpa, uint64_t size);

/* Pages of 4K: free now, and all that the allocator ever had. */
uint64_t page_free_count(void);
uint64_t page_total_count(void);
/* How many of the allocated pages are guests' memory; vmm says so when it takes (+) and gives back (-). Any context. */
void page_guest_add(int64_t pages);
uint64_t page_guest_count(void);
