/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making a guest's memory (vmm/gmem.c, gmem_clear.c): all of it cleared by however many tasks, told of, and ended
 * half-way.
 */
#include "tests/unit/fake_kernel.h"
#include "tests/unit/gmem_dirt.h"
#include "vmm/vm.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct listener {
	uint64_t calls, done, total;
	uint64_t widest;    /* between two calls */
	uint64_t end_after; /* calls; 0: never */
};

static int step(void *arg, uint64_t done, uint64_t total)
{
	struct listener *l = arg;
	assert_true(done >= l->done && done <= total);
	l->widest = MAX(l->widest, done - l->done);
	l->done = done;
	l->total = total;
	return ++l->calls == l->end_after ? -ECANCELED : 0;
}

/*
 * Memory from the machine under us is zero more often than not: blocks that were used before are what shows a mistake.
 */
static void soil(uint64_t size)
{
	hpa_t block[64];
	unsigned n = (unsigned)(size / GMEM_BLOCK);
	assert_true(n <= ARRAY_SIZE(block));
	for (unsigned i = 0; i < n; i++) {
		block[i] = page_alloc(PAGE_ORDER_2M);
		assert_int_not_equal(block[i], HPA_NONE);
		memset(hva_of(block[i]), 0xa5, GMEM_BLOCK);
	}
	while (n)
		page_free(block[--n], PAGE_ORDER_2M);
}

static uint64_t not_zero(const struct gmem *g)
{
	uint64_t bad = 0;
	for (uint64_t i = 0; i < g->nblocks; i++)
		for (uint64_t *p = hva_of(*gmem_nth_block(g, i)), *end = p + GMEM_BLOCK / sizeof(*p); p < end; p++)
			bad += *p != 0;
	return bad;
}

static void test_cleared_by_many(void **s)
{
	(void)s;
	for (fake_cpus = 1; fake_cpus <= 5; fake_cpus += 2) {
		struct listener l = { 0 };
		struct gmem g;
		soil(MIB(46));
		assert_int_equal(gmem_init_from(&g, MIB(46), &pt_format_npt, NULL, &(struct gmem_progress){ step, &l },
						NULL),
				 0);
		assert_int_equal(not_zero(&g), 0);
		assert_int_equal(l.done, MIB(46));
		assert_int_equal(l.total, MIB(46));
		assert_true(l.calls >= 1);
		assert_true(fake_tasks_wait());
		gmem_fini(&g);
		assert_int_equal(fake_page_live(), 0);
	}
	fake_cpus = 1;
}

/* With a clock that stands still, the bytes alone call: by the caller and at most the helpers' blocks in between. */
static void test_told_often(void **s)
{
	struct listener l = { 0 };
	struct gmem g;
	(void)s;
	fake_time_freeze(NS_PER_SEC);
	assert_int_equal(gmem_init_from(&g, GIB(1) + MIB(2), &pt_format_npt, NULL, &(struct gmem_progress){ step, &l },
					NULL),
			 0);
	assert_in_range(l.widest, 1, MIB(64));
	assert_int_equal(l.calls, 17);
	gmem_fini(&g);
	fake_time_thaw();
}

static int slow_step(void *arg, uint64_t done, uint64_t total)
{
	fake_time_advance(NS_PER_SEC); /* so the next part is told of as well */
	return step(arg, done, total);
}

static void test_told_in_time(void **s)
{
	struct listener l = { 0 };
	struct gmem g;
	(void)s;
	fake_time_freeze(NS_PER_SEC);
	assert_int_equal(gmem_init_from(&g, GIB(1), &pt_format_npt, NULL, &(struct gmem_progress){ slow_step, &l },
					NULL),
			 0);
	assert_int_equal(l.calls,
			 GIB(1) / KIB(64) - 1023 + 1); /* the first after 64 MiB, then each part, and the end */
	gmem_fini(&g);
	fake_time_thaw();
}

static void test_ended_half_way(void **s)
{
	(void)s;
	for (unsigned i = 0; i < 6; i++) {
		fake_cpus = 1 + i % 4;
		/* with helpers, the first call may be the last */
		struct listener l = { .end_after = fake_cpus == 1 ? 1 + i / 2 : 1 };
		struct gmem g;
		struct why w = { "" };
		struct page_reservation r;
		uint64_t have;
		assert_int_equal(page_reserve(&r, gmem_pages(GIB(1)), 0, &have), 0);
		assert_int_equal(gmem_init_from(&g, GIB(1), &pt_format_npt, &r, &(struct gmem_progress){ step, &l },
						&w),
				 -ECANCELED);
		assert_int_equal(l.calls, l.end_after); /* who has ended it hears no more */
		assert_true(fake_cpus > 1 || l.done == l.end_after * MIB(64));
		assert_non_null(strstr(w.text, "ended while its memory was cleared"));
		page_unreserve(&r);
		assert_true(fake_tasks_wait());
		assert_int_equal(fake_page_live(), 0);
		assert_int_equal(fake_page_reserved(), 0);
	}
	fake_cpus = 1;
}

/* ---- tracking, on several CPUs and far up ---- */

/* As hardware writes: A on the way, D in the leaf. */
static void write_page(struct gmem *g, gfn_t f)
{
	const struct pt_format *fmt = g->pt.fmt;
	uint64_t *tab = hva_of(g->pt.root);
	for (unsigned level = 4; level > 1; level--) {
		uint64_t *e = &tab[f >> 9 * (level - 1) & 511];
		__atomic_fetch_or(e, fmt->accessed, __ATOMIC_RELAXED);
		tab = hva_of(__atomic_load_n(e, __ATOMIC_RELAXED) & 0x000ffffffffff000ULL);
	}
	__atomic_fetch_or(&tab[f & 511], fmt->accessed | fmt->dirty, __ATOMIC_RELAXED);
}

static uint64_t rnd(uint64_t *s, uint64_t n)
{
	*s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
	return (*s >> 33) % n;
}

struct writers {
	struct gmem *g;
	uint64_t seed;
	uint64_t *wrote; /* bit per frame */
};

/* Half by the guest, half by a device: in few places, that some tables are not walked. */
static void *write_thread(void *arg)
{
	struct writers *w = arg;
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t off = GIB(rnd(&w->seed, 5)) + MIB(2) * rnd(&w->seed, 9) + PAGE_SIZE * rnd(&w->seed, 512);
		gpa_t gpa = off < w->g->low ? off : off - w->g->low + GMEM_HIGH;
		if (rnd(&w->seed, 2))
			write_page(w->g, gpa >> PAGE_SHIFT);
		else
			gmem_dirty(w->g, gpa, 8);
		bitmap_set_atomic(w->wrote, gpa >> PAGE_SHIFT);
	}
	return NULL;
}

/* What is in the set leaves it; how many, and all of them were written. */
static uint64_t take_all(struct gmem *g, const uint64_t *wrote, uint64_t *found)
{
	uint64_t n = 0;
	for (gfn_t f = 0; (f = gmem_track_next(g, f, g->gfn_end)) < g->gfn_end; f += 64) {
		f = ALIGN_DOWN(f, 64UL);
		uint64_t word = gmem_track_take(g, f);
		assert_int_equal(word & ~__atomic_load_n(&wrote[f / 64], __ATOMIC_RELAXED), 0);
		found[f / 64] |= word;
		n += popcount64(word);
	}
	return n;
}

static void test_tracked_by_many(void **s)
{
	struct gmem g;
	(void)s;
	assert_int_equal(gmem_init(&g, GIB(5), &pt_format_ept, NULL), 0);
	uint64_t words = BITMAP_WORDS(g.gfn_end), *wrote = calloc(words, 8), *found = calloc(words, 8);
	for (fake_cpus = 1; fake_cpus <= 4; fake_cpus += 3) {
		memset(wrote, 0, words * 8);
		memset(found, 0, words * 8);
		gmem_track_start(&g);
		assert_int_equal(gmem_track_next(&g, 0, g.gfn_end), g.gfn_end);
		struct writers w[2] = { { &g, 1, wrote }, { &g, 2, wrote } };
		pthread_t th[2];
		for (unsigned i = 0; i < 2; i++)
			pthread_create(&th[i], NULL, write_thread, &w[i]);
		uint64_t n = 0, took = 0;
		for (unsigned i = 0; i < 4; i++) {
			n += gmem_track_harvest_all(&g, false);
			took += take_all(&g, wrote, found);
		}
		for (unsigned i = 0; i < 2; i++)
			pthread_join(th[i], NULL);
		n += gmem_track_harvest_all(&g, true);
		took += take_all(&g, wrote, found);
		assert_int_equal(n, took);
		assert_memory_equal(wrote, found, words * 8);
		assert_int_equal(gmem_track_harvest_all(&g, true), 0);
		assert_int_equal(gmem_track_fill(&g), GIB(5) >> PAGE_SHIFT);
		gmem_track_stop(&g);
		assert_true(fake_tasks_wait());
		struct pt_leaf l;
		assert_true(pt_lookup(&g.pt, GMEM_HIGH, &l) && l.size == GIB(1));
	}
	fake_cpus = 1;
	free(wrote);
	free(found);
	gmem_fini(&g);
	assert_int_equal(fake_page_live(), 0);
}

#define TIB(n) GIB((n) << 10)
/* The last GiB of a guest of 240 TiB, alone: all that is below it would be 500 GB of tables. */
static void test_far_up(void **s)
{
	static struct gmem_gib *dir[GMEM_FAN], **root[GMEM_FAN];
	static uint64_t soft[GMEM_GIB_FRAMES / 64], track[GMEM_GIB_FRAMES / 64];
	static hpa_t block[GMEM_GIB_BLOCKS];
	struct gmem_gib last = { .count = GMEM_GIB_FRAMES, .soft = soft, .track = track, .block = block };
	struct gmem g = { .low = GMEM_HOLE, .high = TIB(240UL), .gib = root };
	gpa_t top = GMEM_HIGH + g.high;
	gfn_t end = top >> PAGE_SHIFT;
	(void)s;
	g.gfn_end = end;
	last.first = end - GMEM_GIB_FRAMES;
	root[(top - 1) >> 39] = dir;
	dir[(top - 1) >> 30 & 511] = &last;
	block[511] = hpa_of(soft) - GMEM_BLOCK + PAGE_SIZE;
	assert_ptr_equal(gmem_ptr(&g, top - PAGE_SIZE, PAGE_SIZE), soft);
	assert_null(gmem_ptr(&g, top, 1));
	assert_int_equal(gmem_next_written(&g, last.first, end), end);
	gmem_dirty(&g, top - 1, 8); /* what is beyond is no RAM */
	assert_int_equal(gmem_next_written(&g, last.first, end), end - 1);
	last.left = 1;
	track[GMEM_GIB_FRAMES / 64 - 1] = BIT(62);
	assert_int_equal(gmem_track_next(&g, last.first, end), end - 2);
	assert_int_equal(gmem_track_take(&g, end - 64), BIT(62));
	assert_int_equal(gmem_track_next(&g, last.first, end), end);

	/* Beside it, at most a quarter of a per cent. More than four levels of tables map is refused. */
	for (uint64_t size = GIB(64); size < TIB(256UL); size *= 5)
		assert_in_range(gmem_pages(size) - size / PAGE_SIZE, 1, size / PAGE_SIZE / 400);
	struct why w = { "" };
	assert_int_equal(gmem_init(&g, TIB(256UL), &pt_format_npt, &w), -EINVAL);
	assert_string_equal(w.text, "memory of 256 TiB is more than page tables of four levels map");
	gmem_fini(&g);
	assert_int_equal(fake_page_live(), 0);
}

/* ---- admission ---- */

struct entrant {
	struct vm_reservation r;
	struct why w;
	int err;
};

static void *reserve_thread(void *arg)
{
	struct entrant *e = arg;
	e->err = vm_memory_reserve(&(struct vm_config){ .mem = GIB(1) + MIB(400) }, &e->r, &e->w);
	return NULL;
}

/* Frame by frame, from any frame to any: the first that was written. */
static void test_next_written(void **s)
{
	static const gfn_t written[] = { 0, 1, 63, 64, 130, 511 };
	struct gmem g;
	(void)s;
	assert_int_equal(gmem_init(&g, MIB(2), &pt_format_npt, NULL), 0);
	assert_int_equal(gmem_next_written(&g, 0, 512), 512);
	for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
		gmem_dirty(&g, written[i] << PAGE_SHIFT, 1);
	for (gfn_t from = 0; from <= 512; from++) {
		for (gfn_t end = from; end <= 512; end++) {
			gfn_t want = end;
			for (unsigned i = ARRAY_SIZE(written); i--;)
				if (written[i] >= from && written[i] < end)
					want = written[i];
			assert_int_equal(gmem_next_written(&g, from, end), want);
		}
	}
	gmem_fini(&g);
}

/* However many come at once, those for whom there is room are let in, and no more. */
static void test_admission(void **s)
{
	(void)s;
	for (unsigned round = 0; round < 20; round++) {
		struct entrant e[6] = { 0 };
		pthread_t th[ARRAY_SIZE(e)];
		unsigned in = 0;
		for (unsigned i = 0; i < ARRAY_SIZE(e); i++)
			pthread_create(&th[i], NULL, reserve_thread, &e[i]);
		for (unsigned i = 0; i < ARRAY_SIZE(e); i++) {
			pthread_join(th[i], NULL);
			in += !e[i].err;
		}
		assert_int_equal(in, 2); /* of 4 GiB */
		for (unsigned i = 0; i < ARRAY_SIZE(e); i++) {
			assert_true(!e[i].err || (e[i].err == -ENOMEM && !e[i].r.pages.pages));
			assert_true(!e[i].err || strstr(e[i].w.text, "not enough memory: the VM needs 1428 MiB; "));
			vm_memory_release(&e[i].r);
		}
		assert_int_equal(fake_page_reserved(), 0);
	}
}

/* To the page: what is needed and kept is there, or one page is missing. */
static void test_admission_bound(void **s)
{
	struct vm_config cfg = { .mem = MIB(990) };
	struct vm_reservation r;
	struct page_reservation rest;
	struct why w = { "" };
	uint64_t have, need = gmem_pages(cfg.mem) + 136 + MIB(16) / PAGE_SIZE;
	(void)s;
	assert_int_equal(page_reserve(&rest, page_free_count() - need, 0, &have), 0);
	assert_int_equal(vm_memory_reserve(&cfg, &r, &w), 0);
	vm_memory_release(&r);
	page_unreserve(&rest);
	assert_int_equal(page_reserve(&rest, page_free_count() - need + 1, 0, &have), 0);
	assert_int_equal(vm_memory_reserve(&cfg, &r, &w), -ENOMEM);
	assert_string_equal(w.text,
			    "not enough memory: the VM needs 993 MiB; 1008 MiB are free, of which the host keeps 16");
	page_unreserve(&rest);
	cfg.mem = ~0ULL << GMEM_BLOCK_SHIFT; /* from a peer, anything may come */
	assert_int_equal(vm_memory_reserve(&cfg, &r, &w), -ENOMEM);
}

static struct {
	uint64_t here[8];
	int err; /* of a wait */
	unsigned waits;
} far;
static bool far_here(void *arg unused, gfn_t gfn) { return bitmap_test(far.here, gfn); }
static int far_fetch(void *arg unused, gfn_t gfn)
{
	far.waits++;
	if (!far.err)
		bitmap_set(far.here, gfn);
	return far.err;
}

/* What a pin promises: bytes of one block, never a wait, and dirt from the unpin on. */
static void test_pins(void **s)
{
	static const struct gmem_pager pager = { far_here, far_fetch, NULL, NULL };
	struct gmem g;
	struct gmem_pin p;
	uint8_t b[8] = { 1 };
	(void)s;
	assert_int_equal(gmem_init(&g, MIB(2), &pt_format_npt, NULL), 0);
	assert_int_equal(gmem_pin(&g, MIB(2) - 4, 8, GMEM_READ, &p), -EFAULT);
	assert_int_equal(gmem_pin(&g, 0x1000, 8, GMEM_READ, &p), 0);
	gmem_unpin(&g, &p);
	assert_false(is_dirty(&g, 1));
	assert_int_equal(gmem_pin(&g, 0x1ffc, 8, GMEM_WRITE, &p), 0);
	assert_false(is_dirty(&g, 1));
	memcpy(p.p, b, 8);
	gmem_unpin(&g, &p);
	assert_true(is_dirty(&g, 1) && is_dirty(&g, 2) && !is_dirty(&g, 3));
	g.pager = &pager;
	assert_int_equal(gmem_pin(&g, 0x4ffc, 8, GMEM_READ, &p), -EAGAIN);
	assert_int_equal(gmem_pin(&g, 0x4ffc, 8, GMEM_FILL, &p), 0); /* who brings it */
	assert_int_equal(gmem_wait(&g, 0x4ffc, 8), 0);
	assert_true(far.waits == 2 && gmem_is_here(&g, 0x4ffc, 8) && !gmem_is_here(&g, 0x4ffc, 0x2000));
	assert_int_equal(gmem_pin(&g, 0x4ffc, 8, GMEM_WRITE, &p), 0);
	assert_int_equal(gmem_pin_wait(&g, 0x7000, 8, GMEM_READ, &p), 0);
	assert_int_equal(far.waits, 3);
	assert_int_equal(gmem_read(&g, 0x8ffc, b, 8), 0);
	assert_int_equal(far.waits, 5);
	far.err = -ECANCELED;
	assert_int_equal(gmem_write(&g, 0x10000, b, 8), -ECANCELED);
	assert_int_equal(gmem_pin_wait(&g, 0x10000, 8, GMEM_READ, &p), -ECANCELED);
	gmem_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pins),
		cmocka_unit_test(test_cleared_by_many),
		cmocka_unit_test(test_told_often),
		cmocka_unit_test(test_told_in_time),
		cmocka_unit_test(test_ended_half_way),
		cmocka_unit_test(test_next_written),
		cmocka_unit_test(test_tracked_by_many),
		cmocka_unit_test(test_far_up),
		cmocka_unit_test(test_admission),
		cmocka_unit_test(test_admission_bound),
	};
	return cmocka_run_group_tests_name("gmem", tests, NULL, NULL);
}
