/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What dirty tracking costs in the nested page tables, in instructions for a GiB of guest memory (doc/scale.md), by the
 * size of leaves: 16 MiB are counted, and one leaf of 1G.
 */
#include "arch/x86/pt.h"
#include "kernel/base/err.h"
#include "tests/bench/kernel.h"
#include "tests/bench/count.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART 64
#define SIZE (GIB(1) / PART)

static struct pt pt, pt_1g;
static uint64_t map[GIB(1) >> PAGE_SHIFT >> 6];

static void setup(void)
{
	if (pt_init(&pt, &pt_format_npt, bench_table_alloc, bench_table_free, NULL) ||
	    pt_map(&pt, 0, GIB(4), SIZE, PT_R | PT_W | PT_X) ||
	    pt_init(&pt_1g, &pt_format_npt, bench_table_alloc, bench_table_free, NULL) ||
	    pt_map(&pt_1g, 0, GIB(4), GIB(1), PT_R | PT_W | PT_X))
		exit(1);
	for (uint64_t i = 0; i < SIZE / MIB(2); i++) /* tables that are there when a migration begins (gmem.c) */
		free(aligned_alloc(PAGE_SIZE, PAGE_SIZE));
}

/* As hardware does it: D in the leaf of each step-th page, A on the way. */
static void write_pages(uint64_t step)
{
	for (uint64_t va = 0; step && va < SIZE; va += step << PAGE_SHIFT) {
		uint64_t *tab = (uint64_t *)(uintptr_t)pt.root;
		for (unsigned level = 4;; level--) {
			uint64_t *e = &tab[va >> (12 + 9 * (level - 1)) & 511];
			if (level == 1 || (*e & pt.fmt->large)) {
				*e |= pt.fmt->dirty;
				break;
			}
			*e |= pt.fmt->accessed;
			tab = (uint64_t *)(uintptr_t)(*e & 0x000ffffffffff000ULL);
		}
	}
}

static int split(void)
{
	int err = pt_split(&pt, 0, SIZE);
	pt_clean(&pt, 0, SIZE);
	return err;
}
static int merge(void)
{
	pt_soil(&pt, 0, SIZE);
	pt_merge(&pt, 0, SIZE);
	return 0;
}
static int age(void)
{
	static uint64_t walked[8];
	pt_age(&pt, 0, walked);
	return 0;
}
static int harvest(void)
{
	pt_harvest(&pt, 0, SIZE, map, 0);
	return 0;
}

static int harvest_1g(void)
{
	pt_harvest(&pt_1g, 0, GIB(1), map, 0);
	return 0;
}
/* Into 2M leaves, and the first of them into 4K ones: the others follow as those of 2M do. No way leads back to 1G. */
static int split_1g(void) { return pt_split(&pt_1g, 0, PAGE_SIZE); }

static const struct {
	const char *name;
	int (*run)(void);
	uint64_t dirty; /* before it, each so many pages; 0: none */
} kinds[] = {
	{ "scan of 2M leaves, clean", harvest, 0 },     { "split into 4K leaves, D forgotten", split, 512 },
	{ "scan of 4K leaves, clean", harvest, 0 },     { "scan of 4K leaves, 1 of 64 dirty", harvest, 64 },
	{ "scan of 4K leaves, all dirty", harvest, 1 }, { "which tables were walked, 8 of 512", age, 64 },
	{ "which tables were walked, none", age, 0 },   { "merge into 2M leaves", merge, 64 },
	{ "scan of a 1G leaf, clean", harvest_1g, 0 },  { "split of a 1G leaf, up to one 4K table", split_1g, 0 },
};
static const char *name(size_t i) { return kinds[i].name; }
static bool is_1g(size_t i) { return kinds[i].run == harvest_1g || kinds[i].run == split_1g; }
static unsigned times(size_t i)
{
	/* That looks at a whole GiB, where there is a table or not. */
	return kinds[i].run == age || is_1g(i) ? 1 : PART;
}
static void prepare(size_t i) { write_pages(kinds[i].dirty); }
static int run(size_t i) { return kinds[i].run(); }

int main(int argc, char **argv)
{
	return count_main(argc, argv,
			  &(struct counted){ .program = "bench_pt",
					     .n = ARRAY_SIZE(kinds),
					     .name = name,
					     .times = times,
					     .setup = setup,
					     .prepare = prepare,
					     .run = run });
}
