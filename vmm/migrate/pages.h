/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory, and the layers of disks (vmm/layer.h), in PAGES records, both directions. A record covers pages in
 * ascending order from a base: runs of pages with data, which follows the fields, and runs of zero pages, which are
 * markers only. Within a pass the records ascend too, so no page comes twice, and a count proves that pass 1 brought
 * every page of memory. Blocks of disk i are frames from PAGES_DISK(i) on, behind all memory; of a disk those go that
 * its layer has. Before them all go those without a page, which a guest has discarded, as zeros from PAGES_FREED(i) on:
 * the destination has their pages for what comes then, or a layer that is full would need more than its due there.
 *
 *   fields: base gfn u64 | runs u32 | data pages u32 | runs x { offset from base u32, count u32 (bit 31: zero) }
 */
#pragma once
#include "vmm/layer.h"
#include "vmm/migrate/wire.h"

#define PAGES_ZERO  (1U << 31)
#define PAGES_BATCH 4096 /* pages harvested, flushed and read together: 16 MiB */

#define PAGES_DISK_SHIFT 36 /* 48 bits of an address, as of an offset in a disk */
#define PAGES_DISKS      5
#define PAGES_FREED(i)   ((uint64_t)((i) + 1) << PAGES_DISK_SHIFT)
#define PAGES_DISK(i)    PAGES_FREED((i) + PAGES_DISKS)
#define PAGES_DISK_RUN   4096 /* blocks of one run at most: for each zero there is work */

struct page_layers {
	struct layer *of[PAGES_DISKS];
	unsigned n;
};

/* The layer that has this frame, and which block it would be there; NULL: none. */
struct layer *pages_layer(const struct page_layers *s, gfn_t gfn, uint64_t *block);

struct page_counts {
	uint64_t data, zero;
};

/* The record being put together. */
struct page_run {
	uint32_t off, count; /* as on the wire */
};
struct page_tx {
	struct wire_tx *tx;
	struct gmem *mem;
	struct page_layers layers;
	uint64_t idle_ns; /* for one record */
	uint64_t end_ns;  /* for all of them: absolute */
	struct page_counts pass, total;
	uint64_t disk; /* of total: blocks of disks */
	uint64_t base;
	unsigned nruns, ndata;
	struct page_run run[WIRE_RUNS_MAX];
	struct gmem_pin pin[WIRE_PAGES_MAX]; /* its data pages; of a layer's only where */
	/*
	 * After each full record and each batch: may stop the pass with -errno, and may flush and send a record of
	 * its own.
	 */
	int (*progress)(void *arg);
	void *arg;
	bool stop; /* progress wants the pass to end: what memory has not gone stays in the set. Layers go */
};
/*
 * One pass: send the pages of the set (gmem_track_next, layer_track_next), which leave it. With harvest, each batch
 * of a running guest has its dirt taken (cleared, flushed) right before it is read, so what was dirtied since the
 * last look goes now.
 */
int pages_send_pass(struct page_tx *p, bool harvest) must_check;
/* A pass as well: of memory only these frames, ascending, as far as they are in the set; and the layers. */
int pages_send_frames(struct page_tx *p, const gfn_t *frame, unsigned n) must_check;
/*
 * The same in parts, between which others' records may go: _begin, what the set has of spans, which are multiples of
 * 64 frames of one range, and the layers.
 */
void pages_begin(struct page_tx *p);
int pages_send_span(struct page_tx *p, gfn_t first, uint64_t count) must_check;
int pages_send_layers(struct page_tx *p) must_check;
/* No pass: what the set has of [first, first + count), which are in one of its words (a multiple of 64 begins it). */
int pages_send_range(struct page_tx *p, gfn_t first, unsigned count) must_check;

/* Until when the next record has to be out. */
uint64_t pages_deadline(const struct page_tx *p);
/* Send the record that is being put together, if any: before another record goes out. */
int pages_flush(struct page_tx *p) must_check;

struct page_rx {
	struct wire_rx *rx;
	struct gmem *mem;
	struct page_layers layers;
	uint64_t idle_ns;
	struct page_counts pass, total;
	uint64_t disk; /* of pass: blocks of disks */
	gfn_t next;    /* the lowest frame that may come in this pass */
	/*
	 * Only frames in the set may come, which are asked for (pulled.h), or absent, of a guest that runs already
	 * (pull.h); came hears of each record's runs, and takes them out. NULL: whatever comes in ascending order.
	 */
	void (*came)(void *arg, gfn_t first, uint64_t count);
	void *arg;
};
/*
 * The PAGES record that wire_recv has just read, into guest memory and layers. -EPROTO: outside of them or out of
 * order; -ENOSPC with why.
 */
int pages_recv(struct page_rx *p, struct why *w) must_check;
