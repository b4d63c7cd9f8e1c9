/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk's copy-on-write layer in memory. Blocks of 4 KiB that were written are the layer's; the others are the base
 * image's, or zeros where that has none.
 *
 *   guest reads ---> layer: has it? -- no --> base image (vmm/boot_file.h), never written
 *   guest writes --> layer
 *
 * The layer is a tree of tables of 512 entries, as page tables are. It takes no more memory than it may, tables
 * included; all of that is reserved from the beginning, so that a write fails for no other reason than that the layer
 * is full.
 *
 * A migration sends it as it does memory, pass by pass: a write marks its block dirty after its data is there, and who
 * sends it takes the mark away first and reads the data then. A block never goes back to the base's: what is in the
 * layer once stays in it, as zeros after a BLOCKDEV_ZERO.
 */
#pragma once
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include "vmm/blockdev.h"

#define LAYER_SIZE_MAX (1UL << 48) /* bytes of a disk: 36 bits of a block's number */

struct boot_file;
/*
 * (c) const after init  [l] lock  [a] atomic
 */
struct layer {
	struct blockdev b;      /* ops and limits; the owner sets serial and readonly */
	const char *name;       /* (c) for the log */
	struct boot_file *base; /* (c) while a guest runs; a reference, NULL: zeros */
	struct spinlock lock;
	unsigned levels;               /* [l] of tables */
	uint64_t max;                  /* [l], read [a]: pages that it may take */
	uint64_t root;                 /* [l] the entry above the first table */
	uint64_t used;                 /* [l], read [a]: pages, tables included */
	struct page_reservation pages; /* [l] those that it has not taken yet */
	uint64_t extra;                /* [l] pages beyond max, used or spare, that came with a migration */
	uint64_t unsent;               /* [l], read [a]: blocks in the set of those to be sent */
	hpa_t spare;                   /* [l] pages that no block has any more, chained; 0 ends it */
	bool full;                     /* [l], read [a]: it was said that it is */
};

/*
 * A disk of `size` bytes, a multiple of SECTOR and at most LAYER_SIZE_MAX, on base (its reference passes to the layer;
 * NULL: none yet or ever), with a layer of as many pages as r has, which pass to it. name: kept.
 */
void layer_init(struct layer *l, const char *name, uint64_t size, struct boot_file *base, struct page_reservation *r);
#define LAYER_BITS 9 /* of a block's number, in each level of tables */
/* Pages of a layer that may have each block of a disk. */
static inline uint64_t layer_pages_whole(uint64_t size)
{
	uint64_t n = (size + PAGE_SIZE - 1) >> PAGE_SHIFT, sum = n;
	do
		sum += n = (n + BIT(LAYER_BITS) - 1) >> LAYER_BITS;
	while (n > 1);
	return sum;
}
/*
 * It is larger from now on, and has the pages of r as well, which pass to it: -ENOSPC, the tables that this takes do
 * not fit in its layer, or -EINVAL, it would be smaller, and r is as it was. Guests may use it meanwhile, no migration.
 */
int layer_grow(struct layer *l, uint64_t size, struct page_reservation *r) must_check;
void layer_fini(struct layer *l);                             /* no request is under way; a layer of zeros has none */
void layer_set_base(struct layer *l, struct boot_file *base); /* that it had none for; takes the reference */

/*
 * The set of blocks to be sent, which one task at a time uses. _fill: all that the layer has; how many that are.
 * _harvest: those that were written since they were looked at last; how many more the set has. _next: the first block
 * of it from `from` on, or LAYER_NONE. _take: it leaves the set, and its data, NULL: zeros, stays where it is until
 * layer_fini. _take_freed: both, of the first one there that has no page.
 */
#define LAYER_NONE UINT64_MAX
uint64_t layer_track_fill(struct layer *l);
uint64_t layer_track_harvest(struct layer *l);
uint64_t layer_track_next(struct layer *l, uint64_t from);
const void *layer_track_take(struct layer *l, uint64_t block);
uint64_t layer_track_take_freed(struct layer *l, uint64_t from);
static inline uint64_t layer_blocks(const struct layer *l) /* of the disk */
{
	return (l->b.size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/*
 * What it has, whether it is to be sent or not: the first block from `from` on, or LAYER_NONE; is `block` the layer's,
 * and where is its data, NULL: zeros. No request is under way, or the page may be another's a moment later.
 */
uint64_t layer_next(struct layer *l, uint64_t from);
bool layer_has(struct layer *l, uint64_t block, const void **page);

/*
 * A block that comes from another host: the page that its data is to be written to, or zeros for all of it. No guest
 * runs. The layer may come to have more than its due for a while, as blocks come that take the place of others which
 * are not zeros yet; the host has that back as those become zeros. -ENOSPC, or NULL: this host has no memory for that.
 */
void *layer_fill_page(struct layer *l, uint64_t block) must_check;
int layer_fill_zero(struct layer *l, uint64_t block) must_check;
