/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What pages of a migration cost: instructions to frame one and to digest one for --verify, and how many bytes of the
 * wire a GiB takes that nobody has ever touched. vmm/migrate's files built for this machine, over a guest memory of
 * which all 2 MiB are one.
 *
 *   bench_pages [--json | --bytes]
 */
#include "kernel/crew.h"
#include "tests/bench/count.h"
#include "tests/bench/kernel.h"
#include "vmm/migrate/pages.h"
#include "vmm/migrate/records.h"
#include "vmm/migrate/sums.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what pages.c, wire.c and sums.c want of others ---- */

#define FRAMES (GIB(1) >> PAGE_SHIFT)

static _Alignas(GMEM_BLOCK) uint8_t block[GMEM_BLOCK];
static hpa_t blocks[GIB(1) >> GMEM_BLOCK_SHIFT];
static struct gmem mem = { .size = GIB(1), .low = GIB(1), .gfn_end = FRAMES, .low_block = blocks };
static gfn_t first, end; /* what is still to be sent */
static uint64_t bytes;

uint64_t time_ns(void) { return NS_PER_SEC; }
int why_set(struct why *w, int err, const char *fmt, ...)
{
	(void)w, (void)fmt;
	return err;
}
unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ 0, g->low >> PAGE_SHIFT };
	return 1;
}
gfn_t gmem_track_next(const struct gmem *g, gfn_t from, gfn_t to)
{
	(void)g;
	return MIN(MAX(first, from), to) < end ? MIN(MAX(first, from), to) : to;
}
uint64_t gmem_track_take(struct gmem *g, gfn_t gfn)
{
	(void)g;
	if (gfn < first || gfn >= end)
		return 0;
	first = gfn + 64;
	return ~0UL;
}
uint64_t gmem_track_harvest(struct gmem *g, gfn_t gfn, uint64_t count)
{
	(void)g, (void)gfn, (void)count;
	return 0;
}
hpa_t gmem_high_block(const struct gmem *g, gpa_t gpa)
{
	(void)g, (void)gpa;
	abort();
}
bool gmem_is_here(const struct gmem *g, gpa_t gpa, size_t len)
{
	(void)g, (void)gpa, (void)len;
	return true;
}
int gmem_wait(const struct gmem *g, gpa_t gpa, size_t len)
{
	(void)g, (void)gpa, (void)len;
	return 0;
}
void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len) { (void)g, (void)gpa, (void)len; }
uint64_t layer_track_take_freed(struct layer *l, uint64_t from)
{
	(void)l, (void)from;
	return LAYER_NONE;
}
uint64_t layer_track_next(struct layer *l, uint64_t from)
{
	(void)l, (void)from;
	return LAYER_NONE;
}
const void *layer_track_take(struct layer *l, uint64_t b)
{
	(void)l, (void)b;
	return NULL;
}
bool layer_has(struct layer *l, uint64_t b, const void **page)
{
	(void)l, (void)b, (void)page;
	return false;
}
bool gmem_absent(const struct gmem *g, gfn_t gfn)
{
	(void)g, (void)gfn;
	return false;
}
int stream_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	(void)s, (void)deadline_ns;
	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].len;
	return 0;
}

/* ---- what is measured ---- */

static struct stream stream;
static struct wire_tx tx;
static struct page_tx page_tx;

static int go_on(void *arg)
{
	(void)arg;
	return 0;
}

static void setup(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++)
		blocks[i] = (hpa_t)(uintptr_t)block;
	if (wire_tx_init(&tx, &stream))
		exit(1);
	page_tx = (struct page_tx){ .tx = &tx, .mem = &mem, .end_ns = TIME_NEVER, .progress = go_on };
}

static int frame(void) { return pages_send_pass(&page_tx, false); }
static int digest(void)
{
	uint64_t hash;
	return sums_page(&(struct sums_walk){ .mem = &mem }, 5, &hash);
}

static const struct {
	const char *name;
	int (*run)(void);
	uint8_t fill; /* of all pages */
} kinds[] = {
	{ "frame 64 pages with data", frame, 1 },
	{ "frame 64 pages of zeros", frame, 0 },
	{ "digest a page with data (--verify)", digest, 1 },
	{ "digest a page of zeros (--verify)", digest, 0 },
};
static const char *name(size_t i) { return kinds[i].name; }
static void prepare(size_t i)
{
	memset(block, kinds[i].fill, sizeof(block));
	first = 0;
	end = 64;
}
static int run(size_t i) { return kinds[i].run(); }

/* A whole pass over a GiB: what it adds to the wire. */
static int never_touched(void)
{
	setup();
	first = 0;
	end = FRAMES;
	if (pages_send_pass(&page_tx, false) || page_tx.pass.zero != FRAMES)
		return 1;
	printf("{\"bytes\": %lu}\n", bytes);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--bytes"))
		return never_touched();
	return count_main(argc, argv,
			  &(struct counted){ .program = "bench_pages",
					     .n = ARRAY_SIZE(kinds),
					     .name = name,
					     .setup = setup,
					     .prepare = prepare,
					     .run = run });
}
