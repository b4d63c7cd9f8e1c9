/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dirty tracking (vmm/gmem.c) under a modelled CPU. The emulators of the rigs flush the whole TLB at each entry, so
 * that a forgotten flush never shows there; it does here. The modelled TLB keeps, as hardware does:
 *   - leaf translations with the fact "D is set already": a write through such a one does not touch the table again;
 *   - pointers to level 1 and level 2 tables (paging-structure caches), which may point to a table that was retired:
 *     who begins there sets no A above.
 * A copier runs passes as a migration does, guest and devices write between, before and inside its flushes. When all
 * have stopped, one last pass must make its copy equal. The wrong orders must show as a copy that differs.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/gmem.h"
#include "kernel/page.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define TLB  16
#define PWC  4
#define ADDR 0x000ffffffffff000ULL

struct rng {
	uint64_t s;
};
static uint64_t rnd(struct rng *r, uint64_t n)
{
	r->s ^= r->s >> 12, r->s ^= r->s << 25, r->s ^= r->s >> 27;
	return (r->s * 0x2545f4914f6cdd1dULL >> 20) % n;
}

/* ---- the modelled CPU ---- */

struct cpu_model {
	struct gmem *g;
	struct rng r;
	struct {
		gpa_t base;
		uint64_t size, hpa;
		bool dirty;
	} tlb[TLB]; /* size 0: empty */
	struct {
		gpa_t base;
		uint64_t *table;
	} pwc[PWC], pdpe; /* table NULL: empty */
	uint64_t hits, walks, pwc_hits, samples;
	bool sure; /* it uses what it has cached of tables, always */
	unsigned flush_seen;
};

static void cpu_flush(struct cpu_model *c)
{
	memset(c->tlb, 0, sizeof(c->tlb));
	memset(c->pwc, 0, sizeof(c->pwc));
	c->pdpe.table = NULL;
}

/* Level 1 table for gpa from the paging-structure cache, at times. */
static uint64_t *pwc_find(struct cpu_model *c, gpa_t gpa)
{
	for (unsigned i = 0; i < PWC; i++)
		if (c->pwc[i].table && c->pwc[i].base == ALIGN_DOWN(gpa, MIB(2)) && (c->sure || rnd(&c->r, 4))) {
			c->pwc_hits++;
			return c->pwc[i].table;
		}
	return NULL;
}

/* Walk for a write: A on the way, D in the leaf by a locked compare-and-exchange, as hardware does it. */
static void cpu_walk(struct cpu_model *c, gpa_t gpa, unsigned slot)
{
	const struct pt_format *f = c->g->pt.fmt;
	for (;;) {
		uint64_t *tab = (uint64_t *)(uintptr_t)c->g->pt.root, *cached = pwc_find(c, gpa), *e;
		unsigned level = 4;
		uint64_t v;
		if (cached)
			tab = cached, level = 1;
		else if (c->pdpe.table && c->pdpe.base == ALIGN_DOWN(gpa, GIB(1)) && (c->sure || rnd(&c->r, 4)))
			tab = cached = c->pdpe.table, level = 2;
		for (;; level--) {
			e = &tab[gpa >> (12 + 9 * (level - 1)) & 511];
			v = __atomic_load_n(e, __ATOMIC_SEQ_CST);
			if (!(v & f->present) || level == 1 || (v & f->large))
				break;
			if (!(v & f->accessed))
				__atomic_fetch_or(e, f->accessed, __ATOMIC_SEQ_CST);
			tab = (uint64_t *)(uintptr_t)(v & ADDR);
			if (level == 2) {
				unsigned i = (unsigned)rnd(&c->r, PWC);
				c->pwc[i].base = ALIGN_DOWN(gpa, MIB(2));
				c->pwc[i].table = tab;
			} else if (level == 3) {
				c->pdpe.base = ALIGN_DOWN(gpa, GIB(1));
				c->pdpe.table = tab;
			}
		}
		c->walks++;
		if (!(v & f->present)) { /* a retired table's link word: a fault; the exit lets it in, without caches */
			assert_non_null(cached);
			memset(c->pwc, 0, sizeof(c->pwc));
			c->pdpe.table = NULL;
			continue;
		}
		if (!(v &
		      f->w)) { /* an exit; gmem_wrote_sample without its lock, which a flush's caller here may have */
			assert_true(c->g->guards && pt_unprotect(&c->g->pt, gpa));
			c->samples++;
			continue;
		}
		if (!__atomic_compare_exchange_n(e, &v, v | f->accessed | f->dirty, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		uint64_t size = 1ULL << (12 + 9 * (level - 1));
		c->tlb[slot].base = ALIGN_DOWN(gpa, size);
		c->tlb[slot].size = size;
		c->tlb[slot].hpa = v & ADDR & ~(size - 1);
		c->tlb[slot].dirty = true;
		return;
	}
}

static void cpu_write(struct cpu_model *c, gpa_t gpa, uint64_t val)
{
	unsigned slot = (unsigned)rnd(&c->r, TLB);
	for (unsigned i = 0; i < TLB; i++)
		if (c->tlb[i].size && gpa - c->tlb[i].base < c->tlb[i].size)
			slot = i;
	if (!c->tlb[slot].size || gpa - c->tlb[slot].base >= c->tlb[slot].size || !c->tlb[slot].dirty)
		cpu_walk(c, gpa, slot);
	else
		c->hits++;
	__atomic_store_n((uint64_t *)(uintptr_t)(c->tlb[slot].hpa + (gpa - c->tlb[slot].base)), val, __ATOMIC_SEQ_CST);
}

/* Mostly the same few pages, so that translations are still cached when it matters. */
static gpa_t random_gpa(const struct gmem *g, struct rng *r)
{
	uint64_t off = rnd(r, 16) ? rnd(r, 8) * MIB(1) % g->size : rnd(r, g->size);
	return (off < g->low ? off : off - g->low + GMEM_HIGH) & ~7ULL;
}

static void cpu_step(struct cpu_model *c) { cpu_write(c, random_gpa(c->g, &c->r), rnd(&c->r, ~0ULL)); }

/* ---- devices ---- */

static void device_step(struct gmem *g, struct rng *r, bool forgets)
{
	uint64_t buf[600];
	gpa_t gpa = random_gpa(g, r);
	for (unsigned i = 0; i < ARRAY_SIZE(buf); i++)
		buf[i] = r->s * i;
	if (rnd(r, 2) && !forgets) {
		(void)!gmem_write(g, gpa, buf, 8 * (1 + rnd(r, ARRAY_SIZE(buf)))); /* may reach over the end of RAM */
	} else {
		uint64_t *p = gmem_ptr(g, gpa, 8);
		__atomic_store_n(p, buf[1], __ATOMIC_SEQ_CST);
		if (!forgets)
			gmem_dirty(g, gpa, 8);
	}
}

/* ---- the copier ---- */

enum mistake { NONE, NO_FLUSH, FLUSH_BEFORE_CLEAR, DEVICE_FORGETS, NO_FIRST_FLUSH };
struct rig {
	struct gmem g;
	struct cpu_model cpu[2];
	unsigned ncpu;
	struct rng r;
	bool threads, stopped, samples;
	enum mistake mistake;
	unsigned flush_wanted;
	unsigned drop; /* so many of the next flushes reach nobody */
	uint8_t *copy; /* by RAM offset */
};

static void steps(struct rig *t, unsigned n)
{
	if (t->stopped || t->threads)
		return;
	for (unsigned i = (unsigned)rnd(&t->r, n + 1); i; i--)
		if (rnd(&t->r, 6))
			cpu_step(&t->cpu[rnd(&t->r, t->ncpu)]);
		else
			device_step(&t->g, &t->r, t->mistake == DEVICE_FORGETS);
}

static void flush_really(struct rig *t)
{
	if (!t->threads || t->stopped) {
		for (unsigned i = 0; i < t->ncpu; i++)
			cpu_flush(&t->cpu[i]);
		return;
	}
	unsigned want = __atomic_add_fetch(&t->flush_wanted, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < t->ncpu; i++)
		while (__atomic_load_n(&t->cpu[i].flush_seen, __ATOMIC_SEQ_CST) != want)
			sched_yield();
}

static void flush_cb(void *arg) /* the guest runs on until it is flushed, and after */
{
	struct rig *t = arg;
	steps(t, 8);
	if (t->drop)
		t->drop--;
	else if (t->mistake != NO_FLUSH && t->mistake != FLUSH_BEFORE_CLEAR)
		flush_really(t);
	steps(t, 8);
}

static uint8_t *copy_of(struct rig *t, gfn_t gfn)
{
	gpa_t gpa = gfn << PAGE_SHIFT;
	return t->copy + (gpa < GMEM_HIGH ? gpa : gpa - GMEM_HIGH + t->g.low);
}

/* What of the 64 frames from f on is in the set. */
static uint64_t copy_set(struct rig *t, gfn_t f)
{
	uint64_t sent = 0;
	for (uint64_t word = gmem_track_take(&t->g, f); word; word &= word - 1) {
		gfn_t gfn = f + (unsigned)__builtin_ctzll(word);
		uint64_t *to = (uint64_t *)(void *)copy_of(t, gfn),
			 *from = gmem_ptr(&t->g, gfn << PAGE_SHIFT, PAGE_SIZE);
		for (unsigned q = 0; q < PAGE_SIZE / 8; q++) /* whole words: a torn one is not the point here */
			to[q] = __atomic_load_n(&from[q], __ATOMIC_RELAXED);
		sent++;
	}
	steps(t, 3);
	return sent;
}

/* As a migration does it: parts that have something to send, with what is dirty there by now, then a look at all. */
static uint64_t pass(struct rig *t)
{
	struct gmem_range r[2];
	uint64_t sent = 0;
	if (t->stopped)
		gmem_track_harvest_all(&t->g, true);
	for (unsigned i = 0, n = gmem_ranges(&t->g, r); i < n; i++) {
		gfn_t end = r[i].first + r[i].count;
		for (gfn_t f = r[i].first; (f = gmem_track_next(&t->g, f, end)) < end;) {
			f = ALIGN_DOWN(f, 512UL);
			if (t->mistake == FLUSH_BEFORE_CLEAR) {
				flush_really(t);
				steps(t, 24);
			}
			if (!t->stopped)
				gmem_track_harvest(&t->g, f, 512);
			for (gfn_t stop = f + 512; f < stop; f += 64)
				sent += copy_set(t, f);
		}
	}
	t->drop = t->mistake == NO_FIRST_FLUSH;
	if (!t->stopped)
		gmem_track_harvest_all(&t->g, false);
	t->drop = 0;
	return sent;
}

static uint64_t differing(struct rig *t)
{
	struct gmem_range r[2];
	uint64_t bad = 0;
	for (unsigned i = 0, n = gmem_ranges(&t->g, r); i < n; i++)
		for (gfn_t f = r[i].first; f < r[i].first + r[i].count; f++)
			bad += !!memcmp(copy_of(t, f), gmem_ptr(&t->g, f << PAGE_SHIFT, PAGE_SIZE), PAGE_SIZE);
	return bad;
}

static void rig_init(struct rig *t, uint64_t seed, uint64_t size, const struct pt_format *fmt)
{
	memset(t, 0, sizeof(*t));
	assert_int_equal(gmem_init(&t->g, size, fmt, NULL), 0);
	gmem_on_flush(&t->g, flush_cb, t);
	t->ncpu = 2;
	t->r.s = seed;
	for (unsigned i = 0; i < 2; i++)
		t->cpu[i] = (struct cpu_model){ .g = &t->g, .r = { seed * 31 + i + 1 } };
	t->copy = calloc(1, t->g.size);
}

static void rig_fini(struct rig *t)
{
	gmem_fini(&t->g);
	free(t->copy);
	assert_int_equal(fake_page_live(), 0);
}

static bool all_large(struct rig *t)
{
	struct gmem_range r[2];
	struct pt_leaf l;
	for (unsigned i = 0, n = gmem_ranges(&t->g, r); i < n; i++)
		for (gfn_t f = r[i].first; f < r[i].first + r[i].count; f += l.size >> PAGE_SHIFT)
			if (!pt_lookup(&t->g.pt, f << PAGE_SHIFT, &l) || l.size < MIB(2) || !(l.prot & PT_W))
				return false;
	return true;
}

static void attempt_start(struct rig *t)
{
	gmem_track_start(&t->g);
	assert_int_equal(gmem_track_fill(&t->g), t->g.size >> PAGE_SHIFT);
	if (t->samples)
		gmem_track_sample(&t->g, 3);
}

/* One attempt: a few passes, a stop, the last pass. Returns how many pages of the copy are wrong. */
static uint64_t attempt(struct rig *t, unsigned passes)
{
	attempt_start(t);
	for (unsigned i = 0; i < passes; i++)
		pass(t);
	steps(t, 12);
	t->stopped = true;
	pass(t); /* with the same mistake: D of translations that are still cached is not set again */
	t->stopped = false;
	return differing(t);
}

static void stop(struct rig *t)
{
	t->mistake = NONE;
	gmem_track_stop(&t->g);
	assert_int_equal(t->g.pt.retired, ~0ULL);
	assert_true(all_large(t));
}

/* Who writes is seen in proportion, the copy is exact with guards as without, and none is left behind. */
static void test_samples(void **s unused)
{
	for (uint64_t seed = 1; seed <= 24; seed++) {
		struct rig t;
		rig_init(&t, seed, MIB(8), seed % 2 ? &pt_format_npt : &pt_format_ept);
		t.samples = true;
		assert_int_equal(attempt(&t, 6), 0);
		assert_true(t.cpu[0].samples + t.cpu[1].samples);
		stop(&t);
		assert_false(gmem_wrote_sample(&t.g, 0));
		t.samples = false; /* the next attempt has none */
		t.cpu[0].samples = t.cpu[1].samples = 0;
		assert_int_equal(attempt(&t, 6), 0);
		assert_int_equal(t.cpu[0].samples + t.cpu[1].samples, 0);
		/* One writes to four times as many pages as the other. */
		gmem_track_sample(&t.g, 1);
		t.stopped = true; /* nobody but us */
		for (unsigned round = 0; round < 20; round++) {
			for (gpa_t page = 0; page < 250; page++)
				cpu_write(&t.cpu[page % 5 == 0], page << PAGE_SHIFT, round);
			gmem_track_harvest_all(&t.g, true);
		}
		assert_int_equal(t.cpu[0].samples, 19 * 200);
		assert_int_equal(t.cpu[1].samples, 19 * 50);
		stop(&t);
		rig_fini(&t);
	}
}

static void test_copy_is_exact(void **s)
{
	static const struct pt_format *const fmts[] = { &pt_format_npt, &pt_format_ept };
	(void)s;
	for (uint64_t seed = 1; seed <= 24; seed++) {
		struct rig t;
		rig_init(&t, seed * 7919, MIB(8), fmts[seed % 2]);
		steps(&t, 200);
		uint64_t tables = fake_page_live();
		for (unsigned n = 0; n < 3; n++) { /* an attempt that was given up half-way, then the next */
			assert_int_equal(attempt(&t, 1 + (unsigned)rnd(&t.r, 4)), 0);
			assert_true(t.cpu[0].hits && t.cpu[0].pwc_hits);
			stop(&t);
			assert_int_equal(fake_page_live(), tables);
			steps(&t, 200);
		}
		rig_fini(&t);
	}
}

static void must_go_wrong(enum mistake m)
{
	unsigned wrong = 0;
	for (uint64_t seed = 1; seed <= (m == NO_FIRST_FLUSH && !wrong ? 400 : 16); seed++) {
		struct rig t;
		rig_init(&t, seed * 104729, MIB(8), &pt_format_npt);
		steps(&t, 200);
		t.mistake = m;
		wrong += attempt(&t, 3) != 0;
		stop(&t);
		t.mistake = NONE;
		assert_int_equal(attempt(&t, 2), 0); /* and nothing of it is left */
		stop(&t);
		rig_fini(&t);
	}
	assert_true(wrong > 0);
}
/* All has been sent, no random steps follow, and one CPU is left: what the shortest stories begin with. */
static void rig_sent(struct rig *t, uint64_t size, const struct pt_format *fmt)
{
	rig_init(t, 1, size, fmt);
	attempt_start(t);
	t->stopped = true;
	pass(t);
	t->ncpu = 1;
}

/* The shortest story of each wrong order: one page, written before, between and after. */
static void test_one_page(void **s)
{
	static const enum mistake how[] = { NONE, NO_FLUSH, FLUSH_BEFORE_CLEAR };
	(void)s;
	for (unsigned i = 0; i < ARRAY_SIZE(how); i++) {
		struct rig t;
		rig_sent(&t, MIB(2), &pt_format_npt);
		if (how[i] == FLUSH_BEFORE_CLEAR)
			flush_really(&t);
		cpu_write(&t.cpu[0], 0x5000, 1);
		t.mistake = how[i];
		assert_int_equal(gmem_track_harvest(&t.g, 0, 512), 1);
		assert_int_equal(copy_set(&t, 0), 1);
		cpu_write(&t.cpu[0], 0x5000, 2);
		t.mistake = NONE;
		assert_int_equal(pass(&t), how[i] == NONE);
		assert_int_equal(differing(&t), how[i] != NONE);
		stop(&t);
		rig_fini(&t);
	}
}

/*
 * Of one table: a CPU that has it cached when A is cleared writes to a page that the scan has passed. The next look at
 * all memory finds that only if the first flush made the CPU walk, and set A, once more.
 */
static unsigned flushes;
static void write_behind(void *arg)
{
	struct rig *t = arg;
	if (flushes++ == 0 && t->drop)
		return;
	if (flushes == 2) /* the scan is over, and what is cached is used once more before it goes */
		cpu_write(&t->cpu[0], 0x5000, 3);
	flush_really(t);
}

static void harvest_under(struct rig *t, void (*flush)(void *arg))
{
	flushes = 0;
	t->g.flush = flush;
	gmem_track_harvest_all(&t->g, false);
	t->g.flush = flush_cb;
}

static void test_a_table_that_is_passed_over(void **s)
{
	(void)s;
	for (unsigned drop = 0; drop < 2; drop++) {
		struct rig t;
		rig_sent(&t, MIB(4), &pt_format_ept);
		t.cpu[0].sure = true;
		t.drop = drop;
		cpu_write(&t.cpu[0], 0x6000, 1); /* walks: the table is cached, and has A */
		harvest_under(&t, write_behind);
		t.drop = 0;
		copy_set(&t, 0);
		pass(&t);
		assert_int_equal(differing(&t), drop);
		stop(&t);
		rig_fini(&t);
	}
}

/*
 * Between the clearing of A and the flush, a CPU that has the 1 GiB's table of tables cached writes where nobody was
 * before: no A is set above that, and the next look must find the page all the same.
 */
static void write_before(void *arg)
{
	struct rig *t = arg;
	if (flushes++ == 0)
		cpu_write(&t->cpu[0], MIB(2) + 0x5000, 7);
	flush_really(t);
}

static void test_written_below_a_cached_table(void **s)
{
	struct rig t;
	(void)s;
	rig_sent(&t, MIB(4), &pt_format_npt);
	t.cpu[0].sure = true;
	cpu_write(&t.cpu[0], 0x6000, 1);
	harvest_under(&t, write_before);
	pass(&t);
	assert_int_equal(differing(&t), 0);
	stop(&t);
	rig_fini(&t);
}

/* Tables that no walk came by are not looked at: D there, which hardware never leaves so, stays. */
static void test_what_was_not_walked(void **s)
{
	struct gmem g;
	(void)s;
	assert_int_equal(gmem_init(&g, MIB(8), &pt_format_npt, NULL), 0);
	struct cpu_model c = { .g = &g, .r = { 5 } };
	gmem_track_start(&g);
	cpu_write(&c, 0, 1);
	assert_int_equal(gmem_track_harvest_all(&g, true), 1); /* and forgets A of the splits */
	assert_int_equal(gmem_track_take(&g, 0), 1);
	cpu_flush(&c);
	cpu_write(&c, MIB(2) + 0x3000, 1);
	cpu_write(&c, MIB(6), 1);
	cpu_flush(&c);
	uint64_t *tab = (uint64_t *)(uintptr_t)g.pt.root;
	for (unsigned level = 4; level > 1; level--)
		tab = (uint64_t *)(uintptr_t)(tab[level == 2 ? 2 : 0] & ADDR);
	tab[7] |= pt_format_npt.dirty; /* 4 MiB + 0x7000 */
	assert_int_equal(gmem_track_harvest_all(&g, true), 2);
	assert_int_equal(gmem_track_next(&g, 0, 2048), 512 + 3);
	assert_int_equal(gmem_track_take(&g, 512), BIT(3));
	assert_int_equal(gmem_track_next(&g, 0, 2048), 1536);
	assert_int_equal(gmem_track_take(&g, 1536), 1);
	assert_int_equal(gmem_track_next(&g, 0, 2048), 2048);
	assert_int_equal(gmem_track_harvest(&g, 1024, 512), 1); /* where all is looked at, it is found */
	gmem_track_stop(&g);
	gmem_fini(&g);
}

static void test_without_flush_is_seen(void **s)
{
	(void)s;
	must_go_wrong(NO_FLUSH);
}
static void test_forgotten_first_flush_is_seen(void **s)
{
	(void)s;
	must_go_wrong(NO_FIRST_FLUSH);
}
static void test_flush_before_clear_is_seen(void **s)
{
	(void)s;
	must_go_wrong(FLUSH_BEFORE_CLEAR);
}
static void test_unmarked_device_write_is_seen(void **s)
{
	(void)s;
	must_go_wrong(DEVICE_FORGETS);
}

/* A full host can be emptied: after creation nothing is allocated, and all that was is what gmem_pages says. */
/* ---- sizes and D change one after the other (SDM 3A 4.10.2.2) ---- */

static struct pt_leaf leaves[2 * MIB(16) / PAGE_SIZE];
static unsigned resized;

/* At a flush: whatever has another size than at the one before is else as it was there. */
static void sizes_change_alone(void *arg)
{
	struct rig *t = arg;
	struct pt_leaf l;
	for (gfn_t f = 0; f < t->g.size >> PAGE_SHIFT; f++) {
		struct pt_leaf *old = &leaves[f];
		assert_true(pt_lookup(&t->g.pt, f << PAGE_SHIFT, &l));
		if (old->size && l.size != old->size) {
			assert_int_equal(l.dirty, old->dirty);
			assert_int_equal(l.accessed, old->accessed);
			assert_int_equal(l.prot, old->prot);
			resized++;
		}
		*old = l;
	}
}

static void test_sizes_change_alone(void **s)
{
	static const struct pt_format *const fmts[] = { &pt_format_npt, &pt_format_ept };
	(void)s;
	for (unsigned i = 0; i < 2 * 8; i++) {
		struct rig t;
		rig_init(&t, i / 2 + 1, MIB(16), fmts[i % 2]);
		steps(&t, 40);
		memset(leaves, 0, sizeof(leaves));
		sizes_change_alone(&t);
		resized = 0;
		gmem_on_flush(&t.g, sizes_change_alone, &t);
		gmem_track_start(&t.g);
		assert_int_equal(resized, MIB(16) / PAGE_SIZE);
		for (gfn_t f = 0; f < t.g.size >> PAGE_SHIFT; f++)
			assert_true(!leaves[f].dirty && leaves[f].size == PAGE_SIZE);
		for (unsigned c = 0; c < 2; c++)
			cpu_flush(&t.cpu[c]);
		steps(&t, 40);
		gmem_track_stop(&t.g);
		assert_int_equal(resized, 2 * MIB(16) / PAGE_SIZE);
		assert_true(all_large(&t));
		rig_fini(&t);
	}
}

static void test_host_is_full(void **s)
{
	static const uint64_t sizes[] = { MIB(2), MIB(16), MIB(62) };
	(void)s;
	for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
		struct rig t;
		rig_init(&t, 42, sizes[n], n % 2 ? &pt_format_npt : &pt_format_ept);
		uint64_t before = fake_page_live();
		assert_int_equal(before, gmem_pages(sizes[n]));
		steps(&t, 200);
		fake_page_alloc_fail_after(0);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(attempt(&t, 2), 0);
			steps(&t, 50);
			stop(&t);
			assert_int_equal(fake_page_live(), before);
		}
		fake_page_alloc_fail_after(-1);
		rig_fini(&t);
	}
}

/* All of it comes from the reservation, none of it from what others may take. */
static void test_from_a_reservation(void **s)
{
	static const uint64_t sizes[] = { MIB(2), MIB(510), GIB(3), GIB(3) + MIB(2) };
	(void)s;
	for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
		struct gmem g;
		struct page_reservation r;
		uint64_t have, free = page_free_count(), pages = gmem_pages(sizes[n]);
		assert_in_range(pages - sizes[n] / PAGE_SIZE, 1, sizes[n] / PAGE_SIZE * 25 / 10000 + 16);
		assert_int_equal(page_reserve(&r, pages + 5, 0, &have), 0);
		assert_int_equal(gmem_init_from(&g, sizes[n], &pt_format_npt, &r, NULL, NULL), 0);
		assert_int_equal(r.pages, 5);
		assert_int_equal(page_free_count(), free - pages - 5);
		page_unreserve(&r);
		gmem_fini(&g);
		assert_int_equal(page_free_count(), free);
	}
}

/* RAM on both sides of the hole, in 1G blocks; sparse. */
static void test_above_the_hole(void **s)
{
	struct gmem g;
	struct gmem_range r[2];
	struct cpu_model c = { .g = &g, .r = { 99 } };
	static const gpa_t at[] = {
		0, PAGE_SIZE, GMEM_HOLE - 8, GMEM_HIGH, GMEM_HIGH + PAGE_SIZE, GMEM_HIGH + GIB(1) + MIB(4) - 8
	};
	uint64_t n = 0;
	(void)s;
	assert_int_equal(gmem_init(&g, GIB(4) + MIB(4), &pt_format_npt, NULL), 0);
	fake_page_alloc_fail_after(0);
	assert_int_equal(gmem_ranges(&g, r), 2);
	assert_int_equal(r[0].count + r[1].count, (GIB(4) + MIB(4)) >> PAGE_SHIFT);
	assert_null(gmem_ptr(&g, GMEM_HOLE, 1));
	assert_null(gmem_ptr(&g, GMEM_HIGH + g.high, 1));
	assert_int_equal(gmem_write(&g, GMEM_HOLE - 4, "12345678", 8), -EFAULT);
	assert_int_equal(gmem_write(&g, GMEM_HIGH - 4, "12345678", 8), -EFAULT);
	assert_int_equal(gmem_read(&g, ~7ULL, &n, 16), -EFAULT);
	gmem_track_start(&g);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
		cpu_write(&c, at[i], i + 1);
		assert_int_equal(gmem_read(&g, at[i], &n, 8), 0);
		assert_int_equal(n, i + 1);
	}
	assert_int_equal(gmem_write(&g, GMEM_HIGH + MIB(600) - 1, "ab", 2), 0);
	n = 0;
	for (unsigned i = 0; i < 2; i++)
		n += gmem_track_harvest(&g, r[i].first, r[i].count);
	assert_int_equal(n, ARRAY_SIZE(at) + 2);
	for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
		assert_int_equal(gmem_track_next(&g, at[i] >> PAGE_SHIFT, g.gfn_end), at[i] >> PAGE_SHIFT);
	assert_int_equal(gmem_track_harvest(&g, r[1].first, r[1].count), 0);
	assert_int_equal(gmem_track_harvest_all(&g, true), 0);
	cpu_flush(&c);
	gmem_track_stop(&g);
	struct pt_leaf l;
	assert_true(pt_lookup(&g.pt, GMEM_HIGH, &l));
	assert_int_equal(l.size, GIB(1));
	fake_page_alloc_fail_after(-1);
	gmem_fini(&g);
	assert_int_equal(fake_page_live(), 0);
}

static void test_init_fails_clean(void **s)
{
	struct gmem g;
	struct why w = { "" };
	(void)s;
	assert_int_equal(gmem_init(&g, MIB(3), &pt_format_npt, &w), -EINVAL);
	gmem_fini(&g);
	for (long n = 0; n < 40; n++) { /* 2M blocks are tried after larger ones */
		fake_page_alloc_fail_after(n);
		int err = gmem_init(&g, MIB(14), &pt_format_npt, &w);
		fake_page_alloc_fail_after(-1);
		assert_true(!err || err == -ENOMEM);
		gmem_fini(&g);
		assert_int_equal(fake_page_live(), 0);
		if (!err)
			return;
	}
	fail();
}

/* ---- the same on threads ---- */

static bool quit;
static void *guest_thread(void *arg)
{
	struct cpu_model *c = arg;
	struct rig *t = CONTAINER_OF(c->g, struct rig, g);
	while (!__atomic_load_n(&quit, __ATOMIC_SEQ_CST)) {
		unsigned want = __atomic_load_n(&t->flush_wanted, __ATOMIC_SEQ_CST);
		if (want != c->flush_seen) {
			cpu_flush(c);
			__atomic_store_n(&c->flush_seen, want, __ATOMIC_SEQ_CST);
		}
		cpu_step(c);
	}
	return NULL;
}

static void *device_thread(void *arg)
{
	struct rig *t = arg;
	struct rng r = { 4711 };
	while (!__atomic_load_n(&quit, __ATOMIC_SEQ_CST))
		device_step(&t->g, &r, false);
	return NULL;
}

static void test_threads(void **s)
{
	struct rig t;
	(void)s;
	rig_init(&t, 5, MIB(8), &pt_format_npt);
	uint64_t before = fake_page_live();
	for (unsigned n = 0; n < 10; n++) {
		pthread_t th[3];
		quit = false;
		t.threads = true;
		for (unsigned i = 0; i < 2; i++)
			pthread_create(&th[i], NULL, guest_thread, &t.cpu[i]);
		pthread_create(&th[2], NULL, device_thread, &t);
		attempt_start(&t);
		for (unsigned i = 0; i < 6; i++)
			pass(&t);
		if (n % 2) /* given up while the guest runs on */
			gmem_track_stop(&t.g);
		__atomic_store_n(&quit, true, __ATOMIC_SEQ_CST);
		for (unsigned i = 0; i < 3; i++)
			pthread_join(th[i], NULL);
		t.stopped = true;
		t.threads = false;
		if (n % 2 == 0) {
			pass(&t);
			assert_int_equal(differing(&t), 0);
			gmem_track_stop(&t.g);
		}
		t.stopped = false;
		assert_true(all_large(&t));
		assert_int_equal(fake_page_live(), before);
	}
	rig_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_is_exact),
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_one_page),
		cmocka_unit_test(test_without_flush_is_seen),
		cmocka_unit_test(test_forgotten_first_flush_is_seen),
		cmocka_unit_test(test_a_table_that_is_passed_over),
		cmocka_unit_test(test_written_below_a_cached_table),
		cmocka_unit_test(test_what_was_not_walked),
		cmocka_unit_test(test_flush_before_clear_is_seen),
		cmocka_unit_test(test_unmarked_device_write_is_seen),
		cmocka_unit_test(test_sizes_change_alone),
		cmocka_unit_test(test_host_is_full),
		cmocka_unit_test(test_from_a_reservation),
		cmocka_unit_test(test_above_the_hole),
		cmocka_unit_test(test_init_fails_clean),
		cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
