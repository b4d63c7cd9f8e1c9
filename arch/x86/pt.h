/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One walker for all page tables that hardware reads here: tern's own, AMD's nested tables (APM2 15.25) and Intel's EPT
 * (SDM 3C 29.3). They differ only in bit positions, so a format is data:
 *
 *   level 4        level 3        level 2        level 1
 *   +--------+     +--------+     +--------+     +--------+
 *   | table -+---->| table -+---->| table -+---->| leaf 4K|
 *   |  ...   |     | leaf 1G|     | leaf 2M|     |  ...   |      A on every entry walked, D on leaves written
 *   +--------+     +--------+     +--------+     +--------+
 *
 * Hardware sets A and D behind our back, so entries change only by atomic operations. The caller serialises callers
 * (one lock a table tree). Of different GiBs, pt_split, pt_clean, pt_harvest, pt_age, pt_soil and pt_merge may go on
 * side by side if alloc allows it; lookups by hardware need no lock. No function here flushes a TLB: that is the
 * caller's duty, and a table page taken out of use stays on pt->retired until the caller, after the flush, calls
 * pt_reap().
 */
#pragma once
#include "kernel/base/bits.h"

#define PT_R  1
#define PT_W  2
#define PT_X  4
#define PT_UC 8 /* uncached; else write-back */

struct pt_format {
	const char *name;
	uint64_t table;   /* bits of an entry that points to a table */
	uint64_t leaf;    /* bits every leaf has */
	uint64_t large;   /* bit that makes a level 2 or 3 entry a leaf */
	uint64_t r, w, x; /* set when allowed */
	uint64_t nx;      /* set when execution is not allowed */
	uint64_t later_x; /* not 0: large leaves are not executable; set in those that are so once they are 4K */
	uint64_t wb, uc;  /* memory type bits */
	uint64_t accessed, dirty;
	uint64_t present;  /* an entry with any of these is present */
	uint8_t max_level; /* largest leaf: 1 = 4K, 2 = 2M, 3 = 1G */
};
extern const struct pt_format pt_format_host, pt_format_npt, pt_format_ept;

struct pt {
	const struct pt_format *fmt;
	hpa_t root;
	hpa_t (*alloc)(void *arg); /* a zeroed 4K page, or ~0 */
	void (*free)(void *arg, hpa_t hpa);
	void *arg;
	uint64_t ntables; /* pages in use for tables, root included */
	hpa_t retired;    /* chain of table pages waiting for a flush, through their first word; ~0 ends it */
};

struct pt_leaf {       /* what translates an address */
	hpa_t hpa;     /* of the leaf's first byte */
	uint64_t size; /* 4K, 2M or 1G */
	unsigned prot; /* PT_*, as it was mapped */
	bool accessed, dirty;
};

int pt_init(struct pt *pt, const struct pt_format *fmt, hpa_t (*alloc)(void *), void (*free)(void *, hpa_t),
	    void *arg) must_check;
void pt_fini(struct pt *pt); /* frees all tables; nothing uses them any more */
void pt_reap(struct pt *pt); /* free the retired tables; every CPU has flushed since */

/*
 * Map [va, va+len) to hpa.. with the largest leaves that fit (smaller where a table was left by an earlier use).
 * -EEXIST if something is mapped there, -ENOMEM; both undone, but for empty tables, which stay for the next map.
 */
int pt_map(struct pt *pt, uint64_t va, hpa_t hpa, uint64_t len, unsigned prot) must_check;
/* Unmap; large leaves at the edges are split. -ENOMEM if a split has no memory (nothing was changed). */
int pt_unmap(struct pt *pt, uint64_t va, uint64_t len) must_check;
bool pt_lookup(const struct pt *pt, uint64_t va, struct pt_leaf *leaf);

/*
 * Dirty tracking. No step changes both the size of a leaf and its D (SDM 3A 4.10.2.2: software should not, for a CPU
 * that has both cached may use either): a flush lies between. pt_split makes all leaves of the range 4K, A and D of
 * each those of the whole. -ENOMEM: part of it is split, which harms nothing. pt_clean clears D of all leaves in the
 * range: who wants all pages sent anyway need not look at it first. pt_harvest tests and clears D of every leaf in the
 * range, and for each dirty one sets bits (va >> 12) - first of map (512 bits for a 2M leaf); a large leaf that the
 * range cuts gives the bits of this part, and keeps D. Returns the number of pages. After each: flush, and only then
 * read pages.
 */
int pt_split(struct pt *pt, uint64_t va, uint64_t len) must_check;
void pt_clean(struct pt *pt, uint64_t va, uint64_t len);
/* The leaf that has va becomes 4K ones (pt_format.later_x). -ENOMEM as above. */
int pt_split_page(struct pt *pt, uint64_t va) must_check;
uint64_t pt_harvest(struct pt *pt, uint64_t va, uint64_t len, uint64_t *map, uint64_t first);
/*
 * What of the 1 GiB from va on can have dirt at all: sets bit n of walked[8] if a walk came by the n-th 2 MiB since the
 * last call, and forgets that (A of level 2's entries; a large leaf keeps its A). A CPU that has such an entry cached
 * with A sets it no more where it is clear now (SDM 3A 4.10.3, 3C 29.4): flush, and only then harvest what was walked,
 * or the dirt of a write between is missed now, and passed over the next time. Entries above level 2 would need a flush
 * of their own before those below are looked at: they are left alone.
 */
void pt_age(struct pt *pt, uint64_t va, uint64_t *walked);
/*
 * Who writes: pt_protect takes W from the 4K leaf of va, and a write there is a fault once the translation has been
 * flushed; pt_unprotect gives it back, with D, which needs no flush (a fault that comes of an older translation is one
 * more look). True if there was a 4K leaf, and it had that.
 */
bool pt_protect(struct pt *pt, uint64_t va);
bool pt_unprotect(struct pt *pt, uint64_t va);
void pt_unprotect_all(struct pt *pt, uint64_t va, uint64_t len); /* each leaf of the range, as it was W once */
/*
 * Put 512 neighbouring leaves back into one of 2M or 1G wherever they line up and all have A and D, which pt_soil sets
 * in the range. After either: flush; and after pt_merge pt_reap.
 */
void pt_soil(struct pt *pt, uint64_t va, uint64_t len);
void pt_merge(struct pt *pt, uint64_t va, uint64_t len);
