/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-table walker against a flat model: one entry a page, for each of the three formats. Random maps, unmaps,
 * splits, merges, harvests and writes by "hardware", with allocations that fail, and after each step both say the same.
 * Tables are counted: none is lost, none is freed before pt_reap.
 */
#include "arch/x86/pt.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LO    (GIB(1) - MIB(4)) /* the universe: pieces of three 1G regions */
#define HI    (GIB(2) + MIB(8))
#define PAGES ((HI - LO) >> PAGE_SHIFT)
#define ADDR  0x000ffffffffff000ULL

struct model_page {
	hpa_t hpa;
	uint8_t mapped, prot, dirty;
};
static struct model_page model[PAGES];
static struct pt pt;

/* ---- random numbers, tables ---- */

static uint64_t seed;
static uint64_t rnd(uint64_t n) /* xorshift64*, 0..n-1 */
{
	seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL >> 20) % n;
}

static long fail_after = -1; /* allocations left before they fail; negative: for ever */
static uint64_t live;
static bool may_free;

static hpa_t table_alloc(void *arg)
{
	(void)arg;
	if (fail_after == 0)
		return ~(hpa_t)0;
	fail_after -= fail_after > 0;
	live++;
	void *p = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	memset(p, 0, PAGE_SIZE);
	return (hpa_t)(uintptr_t)p;
}

static void table_free(void *arg, hpa_t hpa)
{
	(void)arg;
	assert_true(may_free);
	live--;
	memset((void *)(uintptr_t)hpa, 0xff, PAGE_SIZE);
	free((void *)(uintptr_t)hpa);
}

static void reap(void)
{
	may_free = true;
	pt_reap(&pt);
	may_free = false;
}

/* What a CPU's walk does: A on the way, D in the leaf. Returns the leaf's size. */
static uint64_t hardware_write(uint64_t va)
{
	uint64_t *tab = (uint64_t *)(uintptr_t)pt.root;
	for (unsigned level = 4;; level--) {
		uint64_t *e = &tab[va >> (12 + 9 * (level - 1)) & 511];
		assert_true(*e & pt.fmt->present);
		*e |= pt.fmt->accessed;
		if (level == 1 || (*e & pt.fmt->large)) {
			*e |= pt.fmt->dirty;
			return 1ULL << (12 + 9 * (level - 1));
		}
		tab = (uint64_t *)(uintptr_t)(*e & ADDR);
	}
}

/* ---- model ---- */

static struct model_page *page(uint64_t va) { return &model[(va - LO) >> PAGE_SHIFT]; }

static void check_page(uint64_t va)
{
	struct pt_leaf l;
	const struct model_page *m = page(va);
	bool there = pt_lookup(&pt, va + rnd(PAGE_SIZE), &l);
	if (there != m->mapped ||
	    (there && (l.hpa + (va & (l.size - 1)) != m->hpa || l.prot != m->prot || l.dirty != m->dirty)))
		fail_msg("%s: at %llx: is %d %llx %x %d, model %d %llx %x %d", pt.fmt->name, (unsigned long long)va,
			 there, (unsigned long long)l.hpa, l.prot, l.dirty, m->mapped, (unsigned long long)m->hpa,
			 m->prot, m->dirty);
}

/* Only 4K leaves are executable where the format wants that. */
static void check_leaves(hpa_t table, unsigned level)
{
	const uint64_t *tab = (const uint64_t *)(uintptr_t)table;
	for (unsigned i = 0; i < 512; i++) {
		bool large = level > 1 && tab[i] & pt.fmt->large;
		if (!(tab[i] & pt.fmt->present))
			continue;
		if (level > 1 && !large)
			check_leaves(tab[i] & ADDR, level - 1);
		else
			assert_int_equal(tab[i] & (large ? pt.fmt->x : pt.fmt->later_x), 0);
	}
}

static void check_all(void)
{
	if (pt.fmt->later_x)
		check_leaves(pt.root, 4);
	for (uint64_t va = LO; va < HI; va += PAGE_SIZE)
		check_page(va);
}

static uint64_t leaf_size(uint64_t va)
{
	struct pt_leaf l;
	return pt_lookup(&pt, va, &l) ? l.size : PAGE_SIZE;
}

static void random_range(uint64_t *va, uint64_t *len)
{
	static const uint64_t unit[] = { PAGE_SIZE, PAGE_SIZE, MIB(2), MIB(2), MIB(2), GIB(1) };
	uint64_t u = unit[rnd(ARRAY_SIZE(unit))], v = unit[rnd(ARRAY_SIZE(unit))];
	if (rnd(12))
		u = MIN(u, MIB(2)), v = MIN(v, MIB(2));
	do {
		*va = ALIGN_DOWN(LO + rnd(HI - LO), u);
		*len = v * (1 + rnd(v == GIB(1) ? 1 : 4));
	} while (*va < LO || *va + *len > HI);
}

/* ---- steps: each does to the tables and to the model what was asked, or sees that a failure changed nothing ---- */

static void step_map(uint64_t va, uint64_t len)
{
	unsigned prot = PT_R | (rnd(3) ? PT_W : 0) | (rnd(2) ? PT_X : 0) | (rnd(4) ? 0 : PT_UC);
	hpa_t hpa = rnd(8) ? va + GIB(8) : ALIGN_DOWN(rnd(GIB(256)), PAGE_SIZE);
	bool taken = false;
	for (uint64_t a = va; a < va + len; a += PAGE_SIZE)
		taken |= page(a)->mapped;
	int err = pt_map(&pt, va, hpa, len, prot);
	if (taken) {
		assert_true(err == -EEXIST || (err == -ENOMEM && fail_after == 0));
		return;
	}
	assert_true(!err || (err == -ENOMEM && fail_after == 0));
	for (uint64_t off = 0; !err && off < len; off += PAGE_SIZE)
		*page(va + off) = (struct model_page){ hpa + off, 1, (uint8_t)prot, 0 };
}

static void step_unmap(uint64_t va, uint64_t len)
{
	int err = pt_unmap(&pt, va, len);
	assert_true(!err || (err == -ENOMEM && fail_after == 0));
	for (uint64_t a = va; !err && a < va + len; a += PAGE_SIZE)
		*page(a) = (struct model_page){ 0, 0, 0, 0 };
}

/* Whatever a failed split reached: sizes alone have changed. */
static void step_split(uint64_t va, uint64_t len)
{
	uint64_t end = va + len;
	va = MAX(ALIGN_DOWN(va, leaf_size(va)), LO);
	end = MIN(ALIGN_UP(end, leaf_size(end - 1)), HI);
	int err = pt_split(&pt, va, end - va);
	assert_true(!err || (err == -ENOMEM && fail_after == 0));
	for (uint64_t a = va; a < end; a += PAGE_SIZE) {
		struct pt_leaf l;
		if (!pt_lookup(&pt, a, &l))
			continue;
		assert_true(err || l.size == PAGE_SIZE);
		assert_int_equal(page(a)->dirty, l.dirty);
	}
}

static void step_merge(uint64_t va, uint64_t len)
{
	uint64_t end = va + len, size;
	for (uint64_t a = va; a < end; a += size) {
		size = leaf_size(a);
		for (uint64_t b = ALIGN_DOWN(a, size); b < ALIGN_DOWN(a, size) + size; b += PAGE_SIZE)
			page(b)->dirty = page(b)->mapped;
		size -= a % size;
	}
	pt_soil(&pt, va, len);
	check_all();
	pt_merge(&pt, va, len);
	for (uint64_t a = LO; a < HI; a += size) {
		unsigned n = 0;
		size = leaf_size(a);
		if (a & (MIB(2) - 1) || a < va || a + MIB(2) > end || (page(a)->hpa & (MIB(2) - 1)))
			continue;
		for (const struct model_page *p = page(a); n < 512 && p[n].mapped && p[n].prot == p->prot; n++)
			if (p[n].hpa != p->hpa + n * PAGE_SIZE)
				break;
		assert_true(n < 512 || size >= MIB(2)); /* all that can be merged is */
	}
}

static void step_harvest(uint64_t va, uint64_t len)
{
	static uint64_t map[BITMAP_WORDS(PAGES) + 1];
	uint64_t end = va + len, n = 0;
	memset(map, 0, sizeof(map));
	bitmap_set(map, (end - va) >> PAGE_SHIFT); /* not its own: stays */
	uint64_t got = pt_harvest(&pt, va, end - va, map, va >> PAGE_SHIFT);
	for (uint64_t a = va; a < end; a += PAGE_SIZE) {
		assert_int_equal(bitmap_test(map, (a - va) >> PAGE_SHIFT), page(a)->dirty);
		n += page(a)->dirty;
		uint64_t size = leaf_size(a), start = ALIGN_DOWN(a, size);
		if (start >= va && start + size <= end) /* one that is cut stays dirty: its other pages are not lost */
			page(a)->dirty = 0;
	}
	assert_int_equal(got, n);
	bitmap_clear(map, (end - va) >> PAGE_SHIFT);
	for (uint64_t i = (end - va) >> PAGE_SHIFT; i < PAGES; i++)
		assert_false(bitmap_test(map, i));
}

static void step_write(void)
{
	for (unsigned i = 0; i < 64; i++) {
		uint64_t va = ALIGN_DOWN(LO + rnd(HI - LO), PAGE_SIZE);
		if (!page(va)->mapped)
			continue;
		uint64_t size = hardware_write(va);
		for (uint64_t a = ALIGN_DOWN(va, size), e = a + size; a < e; a += PAGE_SIZE)
			page(a)->dirty = 1;
	}
}

static void run(const struct pt_format *fmt, uint64_t start, unsigned steps)
{
	seed = start;
	fail_after = -1;
	memset(model, 0, sizeof(model));
	assert_int_equal(pt_init(&pt, fmt, table_alloc, table_free, NULL), 0);
	for (unsigned i = 0; i < steps; i++) {
		uint64_t va, len;
		random_range(&va, &len);
		fail_after = rnd(3) ? -1 : (long)rnd(4);
		switch (rnd(10)) {
		case 0:
		case 1:
		case 2:
		case 3: step_map(va, len); break;
		case 4:
		case 5: step_unmap(va, len); break;
		case 6: step_split(va, len); break;
		case 7: step_merge(va, len); break;
		case 8: step_harvest(va, len); break;
		default: step_write(); break;
		}
		assert_int_equal(pt.ntables, live);
		if (!rnd(8))
			reap();
		for (unsigned k = 0; k < 32; k++)
			check_page(ALIGN_DOWN(LO + rnd(HI - LO), PAGE_SIZE));
		for (int64_t off = -2; off <= 2; off++) /* edges of what was just done */
			for (unsigned end = 0; end < 2; end++) {
				uint64_t a = va + (end ? len : 0) + (uint64_t)(off * (int64_t)PAGE_SIZE);
				if (a >= LO && a < HI)
					check_page(a);
			}
		if (i % 32 == 31)
			check_all();
	}
	check_all();
	may_free = true;
	pt_fini(&pt);
	may_free = false;
	assert_int_equal(live, 0);
	assert_int_equal(pt.ntables, 0);
}

static void test_host(void **s)
{
	(void)s;
	for (uint64_t i = 1; i <= 3; i++)
		run(&pt_format_host, i * 7919, 500);
}
static void test_npt(void **s)
{
	(void)s;
	for (uint64_t i = 1; i <= 3; i++)
		run(&pt_format_npt, i * 104729, 500);
}
static void test_ept(void **s)
{
	(void)s;
	for (uint64_t i = 1; i <= 3; i++)
		run(&pt_format_ept, i * 1299709, 500);
}

static struct pt_format split_to_run; /* as on a CPU where a large leaf may not be executed */
static void test_large_not_executable(void **s)
{
	struct pt_leaf l;
	(void)s;
	split_to_run = pt_format_ept;
	split_to_run.later_x = BIT(11);
	for (uint64_t i = 1; i <= 3; i++)
		run(&split_to_run, i * 15485863, 500);
	fail_after = -1;
	assert_int_equal(pt_init(&pt, &split_to_run, table_alloc, table_free, NULL), 0);
	assert_int_equal(pt_map(&pt, GIB(1), GIB(5), GIB(1), PT_R | PT_W | PT_X), 0);
	assert_int_equal(hardware_write(GIB(1) + MIB(3)), GIB(1));
	assert_int_equal(pt_split_page(&pt, GIB(1) + MIB(2) + 0x1234), 0);
	for (uint64_t a = GIB(1); a < GIB(2); a += PAGE_SIZE) {
		bool small = a >= GIB(1) + MIB(2) && a < GIB(1) + MIB(4);
		assert_true(pt_lookup(&pt, a, &l) && l.dirty && l.prot == (PT_R | PT_W | PT_X) &&
			    l.hpa + a % l.size == a + GIB(4));
		assert_int_equal(l.size, small ? PAGE_SIZE : MIB(2));
	}
	check_leaves(pt.root, 4);
	pt_soil(&pt, GIB(1), GIB(1));
	pt_merge(&pt, GIB(1), GIB(1));
	assert_true(pt_lookup(&pt, GIB(1) + MIB(2), &l) && l.size == GIB(1) && l.dirty && l.prot & PT_X);
	check_leaves(pt.root, 4);
	reap();
	fail_after = 0;
	assert_int_equal(pt_split_page(&pt, GIB(1)), -ENOMEM);
	fail_after = -1;
	assert_int_equal(pt_split(&pt, GIB(1), GIB(1)), 0);
	check_leaves(pt.root, 4);
	may_free = true;
	pt_fini(&pt);
	may_free = false;
}

/* Every single allocation of a map, an unmap in the middle of a 1G leaf, and a split fails once. */
static void test_each_allocation_fails(void **s)
{
	static const struct pt_format *const fmts[] = { &pt_format_host, &pt_format_npt, &pt_format_ept };
	(void)s;
	for (unsigned f = 0; f < 3; f++) {
		memset(model, 0, sizeof(model));
		seed = 1;
		fail_after = 0;
		assert_int_equal(pt_init(&pt, fmts[f], table_alloc, table_free, NULL), -ENOMEM);
		pt_fini(&pt);
		fail_after = -1;
		assert_int_equal(pt_init(&pt, fmts[f], table_alloc, table_free, NULL), 0);
		for (long n = 0;; n++) { /* 4K edges on both sides of 2M and 1G leaves */
			fail_after = n;
			int err = pt_map(&pt, GIB(1) - MIB(2) - PAGE_SIZE, GIB(5) - MIB(2) - PAGE_SIZE,
					 GIB(1) + MIB(4) + 2 * PAGE_SIZE, PT_R | PT_W);
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_true(n < 10);
			check_all();
		}
		for (uint64_t a = GIB(1) - MIB(2) - PAGE_SIZE; a < GIB(2) + MIB(2) + PAGE_SIZE; a += PAGE_SIZE)
			*page(a) = (struct model_page){ a + GIB(4), 1, PT_R | PT_W, 0 };
		check_all();
		assert_int_equal(leaf_size(GIB(1)), GIB(1));
		for (long n = 0;; n++) {
			fail_after = n;
			int err = pt_unmap(&pt, GIB(1) + MIB(512) - PAGE_SIZE, 2 * PAGE_SIZE);
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_true(n < 10);
			check_all();
		}
		assert_int_equal(leaf_size(GIB(1)), MIB(2));
		fail_after = -1;
		assert_int_equal(pt_map(&pt, GIB(1) + MIB(512) - PAGE_SIZE, GIB(5) + MIB(512) - PAGE_SIZE,
					2 * PAGE_SIZE, PT_R | PT_W),
				 0);
		pt_merge(&pt, GIB(1), GIB(1));
		assert_int_equal(leaf_size(GIB(1)), MIB(2)); /* not all dirty */
		pt_soil(&pt, GIB(1), GIB(1));
		pt_merge(&pt, GIB(1), GIB(1));
		assert_int_equal(leaf_size(GIB(1)), GIB(1)); /* as before */
		for (uint64_t a = GIB(1); a < GIB(2); a += PAGE_SIZE)
			page(a)->dirty = 1;
		uint64_t retired = live;
		reap();
		assert_int_equal(retired - live, 3); /* one of 2M leaves, two of 4K */
		for (long n = 0;; n += 100) {
			fail_after = n;
			int err = pt_split(&pt, GIB(1), GIB(1));
			check_all();
			if (!err)
				break;
			assert_int_equal(err, -ENOMEM);
			assert_true(n < 1000);
		}
		assert_int_equal(leaf_size(GIB(2) - 1), PAGE_SIZE);
		may_free = true;
		pt_fini(&pt);
		may_free = false;
		assert_int_equal(live, 0);
	}
}

/* A table left empty by unmapping its pages one by one does not keep a larger leaf out. */
static void test_map_over_empty_table(void **s)
{
	(void)s;
	seed = 1;
	fail_after = -1;
	memset(model, 0, sizeof(model));
	assert_int_equal(pt_init(&pt, &pt_format_npt, table_alloc, table_free, NULL), 0);
	step_map(GIB(1) + PAGE_SIZE, PAGE_SIZE);
	step_unmap(GIB(1) + PAGE_SIZE, PAGE_SIZE);
	step_map(GIB(1), GIB(1));
	check_all();
	assert_int_equal(pt_map(&pt, PAGE_SIZE + 1, 0, PAGE_SIZE, PT_R), -EINVAL);
	may_free = true;
	pt_fini(&pt);
	may_free = false;
	assert_int_equal(live, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_over_empty_table),
		cmocka_unit_test(test_each_allocation_fails),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_npt),
		cmocka_unit_test(test_ept),
		cmocka_unit_test(test_large_not_executable),
	};
	return cmocka_run_group_tests_name("pt", tests, NULL, NULL);
}
