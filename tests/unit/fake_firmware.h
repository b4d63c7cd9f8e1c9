/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The firmware as boot/image.h sees it: pages, from the top down as EDK2 gives them, of which any may be given back,
 * and a file in memory that is read in pieces of odd sizes. The sanitizer sees who touches a page that he has not got.
 */
#pragma once
#include "boot/image.h"
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_PAGES (MIB(48) / PAGE_SIZE)

static struct {
	uint8_t *base;
	bool taken[FAKE_PAGES];
	uint64_t live;    /* pages */
	uint64_t peak;    /* the most that live was */
	uint64_t largest; /* bytes that are given in one piece */
	long left;        /* times that there is memory; negative: always */
	unsigned calls;
} fake_memory = { .largest = UINT64_MAX, .left = -1 };

static inline uint64_t fake_npages(uint64_t size) { return (size + PAGE_MASK) / PAGE_SIZE; }

static inline void *fake_take(uint64_t size)
{
	uint64_t n = fake_npages(size), run = 0;

	if (!fake_memory.base) {
		fake_memory.base = aligned_alloc(PAGE_SIZE, FAKE_PAGES * PAGE_SIZE);
		ASAN_POISON_MEMORY_REGION(fake_memory.base, FAKE_PAGES * PAGE_SIZE);
	}
	fake_memory.calls++;
	if (!size || size > fake_memory.largest || !fake_memory.left)
		return NULL;
	fake_memory.left -= fake_memory.left > 0;
	for (uint64_t i = FAKE_PAGES; i-- > 0;) {
		run = fake_memory.taken[i] ? 0 : run + 1;
		if (run < n)
			continue;
		memset(fake_memory.taken + i, 1, n);
		fake_memory.live += n;
		fake_memory.peak = MAX(fake_memory.peak, fake_memory.live);
		ASAN_UNPOISON_MEMORY_REGION(fake_memory.base + i * PAGE_SIZE, n * PAGE_SIZE);
		return memset(fake_memory.base + i * PAGE_SIZE, 0xa5, n * PAGE_SIZE);
	}
	return NULL;
}

static inline void fake_give(void *p, uint64_t size)
{
	uint64_t first = (uint64_t)((uint8_t *)p - fake_memory.base) / PAGE_SIZE, n = fake_npages(size);

	if ((uintptr_t)p % PAGE_SIZE || first >= FAKE_PAGES || n > FAKE_PAGES - first)
		abort();
	for (uint64_t i = first; i < first + n; i++) {
		if (!fake_memory.taken[i])
			abort();
		fake_memory.taken[i] = false;
	}
	fake_memory.live -= n;
	ASAN_POISON_MEMORY_REGION(p, n * PAGE_SIZE);
}

struct fake_reader {
	const uint8_t *data;
	size_t size, pos;
	size_t most;    /* bytes that one call gives, 0: as many as are asked for */
	size_t fail_at; /* a read that would pass this fails, 0: none */
};

static inline int fake_read(void *file, void *to, size_t *n)
{
	struct fake_reader *r = file;

	*n = MIN(*n, r->size - r->pos);
	if (r->most)
		*n = MIN(*n, r->most);
	if (r->fail_at && r->pos + *n > r->fail_at)
		return -EIO;
	if (*n) /* a file of nothing has no address */
		memcpy(to, r->data + r->pos, *n);
	r->pos += *n;
	return 0;
}

/* Pages that the image takes: its blocks and their table. */
static inline uint64_t fake_pages_of(const struct image *im)
{
	return (im->held + im->room * sizeof(hpa_t) + PAGE_MASK) / PAGE_SIZE;
}

static inline void fake_drop(struct image *im)
{
	uint64_t at = 0, n;
	hpa_t base;

	while ((n = image_next_run(im->block, image_blocks(im->size), &at, &base)) != 0)
		fake_give((void *)(uintptr_t)base, n);
	if (im->block)
		fake_give(im->block, im->room * sizeof(hpa_t));
	*im = (struct image){ 0 };
}
