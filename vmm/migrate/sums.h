/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Digests of a VM's memory and of its disks' layers while its guest stands still, for `migrate --verify` (verify.h).
 * Frames are those of PAGES records (pages.h): a chunk of them has how many pages, and the sum, modulo 2^64, over those
 * of H(frame, content) = XXH64 of the 4096 bytes with the frame's number as seed, 1 if that is 0. Of memory pages of
 * zeros count as nothing; of a disk each block that its layer has counts, one of zeros as XXH64 of no bytes.
 *
 * All of memory is read, on either side: which pages are zeros is just what may be wrong. In post-copy a frame whose
 * bytes stay at the source counts as one, by XXH64 of no bytes: so both sides' maps of these are compared as well.
 */
#pragma once
#include "vmm/migrate/pages.h"

#define SUMS_CHUNK WIRE_CHUNK /* frames */
#define SUMS_MAX   WIRE_SUMS_MAX

/* Through all of it: RAM in ascending order, then each disk. It is at `at`, in a part that goes to `end`. */
struct sums_walk {
	const struct gmem *mem;
	struct page_layers layers;
	unsigned part;
	struct layer *layer; /* that has this part; NULL: RAM */
	gfn_t at, end;
	bool over;
	bool absent; /* post-copy: what is in the set (gmem_absent) stays at the source */
};
void sums_walk_begin(struct sums_walk *w, const struct gmem *mem, const struct page_layers *layers, bool absent);
void sums_walk_on(struct sums_walk *w, uint64_t frames); /* at most to the part's end */
/*
 * How many frames one range may have from here on: whole chunks, or up to the part's end; of RAM SUMS_MAX chunks at
 * most.
 */
bool sums_walk_fits(const struct sums_walk *w, uint64_t frames);

struct sum {
	uint32_t chunk; /* from the range's first on */
	uint32_t pages; /* at least 1: a chunk of nothing has no sum */
	uint64_t sum;
};
struct sums_range {
	gfn_t first;
	uint64_t frames;
	unsigned n;
	struct sum sum[SUMS_MAX]; /* in ascending order */
};
/*
 * Digest what w has from where it is, `frames` at most, and at most SUMS_MAX chunks that have something: *r says how
 * far that is. On all CPUs, with tasks that are as others' are. 0, or what ended the wait for a page. Sleeps.
 */
int sums_take(const struct sums_walk *w, uint64_t frames, struct sums_range *r) must_check;
/* The first chunk in which they differ, by its first frame, or GFN_NONE. b may have ended before a. */
gfn_t sums_differ(const struct sums_range *a, const struct sums_range *b);
#define GFN_NONE UINT64_MAX

/*
 * What one frame of w's adds to its chunk's sum: 0, nothing, and for what is no frame of the VM's. 0, or as sums_take.
 */
int sums_page(const struct sums_walk *w, gfn_t gfn, uint64_t *hash) must_check;
uint64_t sums_ram(gfn_t gfn, const void *page); /* the same for a page of RAM that is here */
/* That in words; nothing: what 0 means there. */
const char *sums_text(char text[32], gfn_t gfn, uint64_t hash, const char *nothing);
