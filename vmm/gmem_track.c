/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dirty set of guest memory (gmem.h). Dirt has two sources: the D bits that hardware sets in the nested tables, and
 * gmem_gib.soft for what the hypervisor writes. The order that everything rests on:
 *
 *   guest:      write page ......................... D set by hardware
 *   harvest:             clear D and soft bit -> flush TLBs -> [return] -> caller copies the page
 *
 * A write after the flush finds D clear and sets it anew; a write before it is in the copy. A device writes first and
 * marks after, so its mark is never older than its data.
 *
 * A harvest of all memory looks only at tables that a walk has come by, which A in the entry above says:
 *
 *   clear A, note what had it -> flush TLBs -> clear D in the tables noted -> flush TLBs -> [return]
 *
 * Between the two flushes no CPU has an entry cached that is older than the clearing of A: who sets a D behind the
 * scan's back has come by the entry above, and so set A, and the next harvest looks there. Without the first flush it
 * would not. Who sets a D between the clearing and the first flush has a table cached that was noted, for it had A, or
 * comes by its entry now, and sets A. That is so for one level: of two, a CPU that has the upper one cached would leave
 * it without A above a table with dirt, so only the entries of 2 MiB are looked at.
 */
#include "arch/x86/cpu.h"
#include "kernel/crew.h"
#include "kernel/time.h"
#include "vmm/gmem.h"
#include <string.h>

/* What makes one more task worth its while: pieces whose tables' A is looked at, 2 MiB blocks that are scanned. */
#define GIBS_AGED      64
#define BLOCKS_SCANNED (4 * GMEM_GIB_BLOCKS)

#define BLOCK_FRAMES (GMEM_BLOCK >> PAGE_SHIFT)

/* ---- pieces ---- */

/* The piece of RAM that has frame f, or else the first one behind it. NULL: there is none. */
static struct gmem_gib *gib_from(const struct gmem *g, gfn_t f)
{
	for (; f < g->gfn_end; f = ALIGN_DOWN(f, GMEM_GIB_FRAMES) + GMEM_GIB_FRAMES)
		if (gmem_is_ram(g, f << PAGE_SHIFT))
			return gmem_gib_at(g, f << PAGE_SHIFT);
	return NULL;
}

struct track_round {
	struct gmem *g;
	uint64_t from; /* the piece that is part 0 */
	uint64_t n;    /* [a] what the parts add up */
	void (*part)(struct track_round *r, struct gmem_gib *q);
};

static void do_part(void *arg, uint64_t n)
{
	struct track_round *r = arg;
	uint64_t low = gmem_gibs(r->g->low), i = r->from + n;
	r->part(r, gmem_gib_at(r->g, i < low ? GIB(i) : GMEM_HIGH + GIB(i - low)));
}

/* Pieces [r->from, r->from + n), on all CPUs: a task more for each `worth` of them. */
static void round_run(struct track_round *r, uint64_t n, uint64_t worth, enum task_prio prio)
{
	struct crew_work w = { "track", do_part, NULL, r, n, worth, prio };
	BUG_ON(crew_run(&w));
}

static uint64_t pieces(const struct gmem *g) { return gmem_gibs(g->low) + gmem_gibs(g->high); }

/* ---- what the hypervisor writes ---- */

/* The first bit of a map that is set in [from, end), or end. */
static uint64_t next_bit(const uint64_t *map, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t word = __atomic_load_n(&map[from / 64], __ATOMIC_RELAXED) >> from % 64;
		if (word)
			return MIN(from + (unsigned)__builtin_ctzll(word), end);
		from = (from / 64 + 1) * 64;
	}
	return end;
}

/* The first frame of [from, end) that is in the one map or the other of its piece, or end. */
static gfn_t next_frame(const struct gmem *g, gfn_t from, gfn_t end, bool soft)
{
	for (struct gmem_gib *q; (q = gib_from(g, from)) && q->first < end; from = q->first + GMEM_GIB_FRAMES) {
		if (soft ? !__atomic_load_n(&q->written, __ATOMIC_SEQ_CST) : !q->left)
			continue;
		uint64_t stop = MIN(end - q->first, q->count), begin = from > q->first ? from - q->first : 0;
		uint64_t at = next_bit(soft ? q->soft : q->track, begin, stop);
		if (at < stop)
			return q->first + at;
	}
	return end;
}

gfn_t gmem_next_written(const struct gmem *g, gfn_t from, gfn_t end) { return next_frame(g, from, end, true); }

/* Words [from, to) of what the hypervisor has written go over to the set. How many frames that are. */
static uint64_t soft_take(struct gmem_gib *q, uint64_t from, uint64_t to)
{
	uint64_t n = 0;
	for (uint64_t i = from; i < to; i++)
		if (__atomic_load_n(&q->soft[i], __ATOMIC_RELAXED)) {
			uint64_t word = __atomic_exchange_n(&q->soft[i], 0, __ATOMIC_SEQ_CST);
			q->track[i] |= word;
			n += popcount64(word);
		}
	return n;
}

/* ---- the set ---- */

static uint64_t bits(const uint64_t *map, uint64_t from, uint64_t to) /* words */
{
	uint64_t n = 0;
	for (uint64_t i = from; i < to; i++)
		n += map[i] ? popcount64(map[i]) : 0;
	return n;
}

uint64_t gmem_track_fill(struct gmem *g)
{
	for (struct gmem_gib *q = gib_from(g, 0); q; q = gib_from(g, q->first + GMEM_GIB_FRAMES)) {
		memset(q->track, 0xff, q->count / 8); /* RAM is whole 2 MiB blocks */
		q->left = q->count;
	}
	return g->size >> PAGE_SHIFT;
}

void gmem_track_add(struct gmem *g, gfn_t first, uint64_t count)
{
	for (gfn_t f = first; f < first + count; f++) {
		struct gmem_gib *q = gmem_gib_at(g, f << PAGE_SHIFT);
		uint64_t *word = &q->track[(f - q->first) / 64], bit = BIT((f - q->first) % 64);
		q->left += !(*word & bit);
		*word |= bit;
	}
}

uint64_t gmem_track_left(const struct gmem *g)
{
	uint64_t n = 0;
	for (struct gmem_gib *q = gib_from(g, 0); q; q = gib_from(g, q->first + GMEM_GIB_FRAMES))
		n += q->left;
	return n;
}

void gmem_track_clear(struct gmem *g)
{
	for (struct gmem_gib *q = gib_from(g, 0); q; q = gib_from(g, q->first + GMEM_GIB_FRAMES)) {
		memset(q->track, 0, q->count / 8);
		q->left = 0;
	}
}

gfn_t gmem_track_gap(const struct gmem *g, gfn_t from, gfn_t end)
{
	while (from < end) {
		const struct gmem_gib *q = gmem_gib_at(g, from << PAGE_SHIFT);
		uint64_t at = from - q->first;
		uint64_t word = ~__atomic_load_n(&q->track[at / 64], __ATOMIC_RELAXED) >> at % 64;
		if (word)
			return MIN(from + (unsigned)__builtin_ctzll(word), end);
		from += 64 - at % 64;
	}
	return end;
}

gfn_t gmem_track_next(const struct gmem *g, gfn_t from, gfn_t end) { return next_frame(g, from, end, false); }

uint64_t gmem_track_take_of(struct gmem *g, gfn_t gfn, uint64_t mask)
{
	struct gmem_gib *q = gmem_gib_at(g, gfn << PAGE_SHIFT);
	uint64_t *at = &q->track[(gfn - q->first) / 64], word = *at & mask;
	*at &= ~word;
	q->left -= popcount64(word);
	return word;
}

uint64_t gmem_track_take(struct gmem *g, gfn_t gfn) { return gmem_track_take_of(g, gfn, ~0ULL); }

/* ---- harvests ---- */

uint64_t gmem_track_harvest(struct gmem *g, gfn_t first, uint64_t count)
{
	gfn_t end = first + count;
	uint64_t n = 0;
	BUG_ON(!g->tracking || (first | count) % 64);
	mutex_lock(&g->lock);
	for (struct gmem_gib *q; first < end && (q = gib_from(g, first)); first = q->first + GMEM_GIB_FRAMES) {
		uint64_t from = first - q->first, to = MIN(end - q->first, q->count);
		uint64_t before = bits(q->track, from / 64, to / 64);
		pt_harvest(&g->pt, first << PAGE_SHIFT, (to - from) << PAGE_SHIFT, q->track, q->first);
		if (__atomic_load_n(&q->written, __ATOMIC_SEQ_CST))
			soft_take(q, from / 64, to / 64);
		uint64_t more = bits(q->track, from / 64, to / 64) - before;
		q->left += more;
		n += more;
	}
	mutex_unlock(&g->lock);
	gmem_flush(g);
	return n;
}

static void note_walked(struct track_round *r, struct gmem_gib *q)
{
	pt_age(&r->g->pt, q->first << PAGE_SHIFT, q->due);
	__atomic_fetch_add(&r->n, bits(q->due, 0, ARRAY_SIZE(q->due)), __ATOMIC_RELAXED);
}

/* The flush that follows a harvest is also the one that makes a guard hold. */
static void guard_samples(struct gmem *g, struct gmem_gib *q, uint64_t from, uint64_t count)
{
	for (uint64_t at = next_bit(q->track, from, from + count); at < from + count;
	     at = next_bit(q->track, at + 1, from + count))
		if (!(++q->sampled % g->sample))
			(void)pt_protect(&g->pt, (q->first + at) << PAGE_SHIFT);
}

static void look_where_walked(struct track_round *r, struct gmem_gib *q)
{
	uint64_t dirty = 0, words = q->count / 64;
	for (uint64_t b = next_bit(q->due, 0, GMEM_GIB_BLOCKS); b < GMEM_GIB_BLOCKS;
	     b = next_bit(q->due, b + 1, GMEM_GIB_BLOCKS)) {
		uint64_t more = pt_harvest(&r->g->pt, (q->first << PAGE_SHIFT) + b * GMEM_BLOCK, GMEM_BLOCK, q->track,
					   q->first);
		if (more && r->g->sample)
			guard_samples(r->g, q, b * BLOCK_FRAMES, BLOCK_FRAMES);
		dirty += more;
	}
	memset(q->due, 0, sizeof(q->due));
	if (__atomic_exchange_n(&q->written, false, __ATOMIC_SEQ_CST)) {
		uint64_t soft = soft_take(q, 0, words);
		__atomic_fetch_add(&r->g->soft_dirt, soft, __ATOMIC_RELAXED);
		dirty += soft;
	}
	if (!dirty)
		return;
	uint64_t left = bits(q->track, 0, words);
	__atomic_fetch_add(&r->n, left - q->left, __ATOMIC_RELAXED);
	q->left = left;
}

uint64_t gmem_track_harvest_all(struct gmem *g, bool still)
{
	struct track_round r = { .g = g, .part = note_walked };
	enum task_prio prio = still ? TASK_PRIO_SWITCH : TASK_PRIO_NORMAL;
	BUG_ON(!g->tracking);
	mutex_lock(&g->lock);
	__atomic_store_n(&g->soft_dirt, 0, __ATOMIC_RELAXED);
	uint64_t all = pieces(g);
	round_run(&r, all, GIBS_AGED, prio);
	if (!still)
		gmem_flush(g);
	/* One more CPU for so many blocks that are due, as if they lay evenly. */
	struct track_round scan = { .g = g, .part = look_where_walked };
	round_run(&scan, all, MAX(all * BLOCKS_SCANNED / MAX(r.n, 1UL), 1UL), prio);
	mutex_unlock(&g->lock);
	gmem_flush(g);
	return scan.n;
}

/* ---- its beginning and end ---- */

/*
 * Tables that a round of merging leaves are freed after it, by one task. Where vCPUs wait for the lock
 * (gmem_make_executable), it goes to them between two rounds of as many pieces as there are CPUs; that takes them a
 * moment.
 */
#define ROUND_GIBS 32
static uint64_t round_of(const struct gmem *g) { return (g->pt.fmt->later_x ? 1 : ROUND_GIBS) * cpu_count(); }

static void give_way(struct gmem *g)
{
	mutex_unlock(&g->lock);
	if (g->pt.fmt->later_x)
		task_sleep_until(time_ns() + 20 * NS_PER_US);
	mutex_lock(&g->lock);
}

static void split_piece(struct track_round *r, struct gmem_gib *q)
{
	BUG_ON(pt_split(&r->g->pt, q->first << PAGE_SHIFT, q->count << PAGE_SHIFT)); /* tables_max */
}

static void forget_piece(struct track_round *r, struct gmem_gib *q)
{
	pt_clean(&r->g->pt, q->first << PAGE_SHIFT, q->count << PAGE_SHIFT);
	for (uint64_t i = 0; i < q->count / 64; i++)
		__atomic_store_n(&q->soft[i], 0, __ATOMIC_SEQ_CST);
	memset(q->track, 0, q->count / 8);
	q->left = 0;
}

/* Of n pieces the sizes of leaves and their D, one after the other (pt.h). */
static void in_steps(struct track_round *r, uint64_t n, void (*first)(struct track_round *r, struct gmem_gib *q),
		     void (*then)(struct track_round *r, struct gmem_gib *q))
{
	r->part = first;
	round_run(r, n, 1, TASK_PRIO_NORMAL);
	gmem_flush(r->g);
	r->part = then;
	round_run(r, n, 1, TASK_PRIO_NORMAL);
}

void gmem_track_start(struct gmem *g)
{
	struct track_round r = { .g = g };
	uint64_t n = pieces(g), each = round_of(g);
	mutex_lock(&g->lock);
	for (; r.from < n; r.from += each) {
		uint64_t before = g->pt.ntables;
		in_steps(&r, MIN(each, n - r.from), split_piece, forget_piece);
		__atomic_store_n(&g->splits, g->splits + g->pt.ntables - before, __ATOMIC_RELAXED);
		give_way(g);
	}
	__atomic_store_n(&g->tracking, true, __ATOMIC_RELAXED);
	mutex_unlock(&g->lock);
	gmem_flush(g);
}

static void soil_piece(struct track_round *r, struct gmem_gib *q)
{
	pt_soil(&r->g->pt, q->first << PAGE_SHIFT, q->count << PAGE_SHIFT);
}

static void merge_piece(struct track_round *r, struct gmem_gib *q)
{
	pt_merge(&r->g->pt, q->first << PAGE_SHIFT, q->count << PAGE_SHIFT);
}

static void lift_piece(struct track_round *r, struct gmem_gib *q)
{
	pt_unprotect_all(&r->g->pt, q->first << PAGE_SHIFT, q->count << PAGE_SHIFT);
}

/* After it nobody looks for guards in tables, which may then be merged. g->lock is held. */
static void lift_guards(struct gmem *g)
{
	struct track_round r = { .g = g, .part = lift_piece };
	g->sample = 0;
	if (!__atomic_load_n(&g->guards, __ATOMIC_RELAXED))
		return;
	round_run(&r, pieces(g), GIBS_AGED, TASK_PRIO_NORMAL);
	spin_lock(&g->guard_lock);
	__atomic_store_n(&g->guards, false, __ATOMIC_RELAXED);
	spin_unlock(&g->guard_lock);
}

void gmem_track_stop(struct gmem *g)
{
	struct track_round r = { .g = g };
	uint64_t n = pieces(g), each = round_of(g);
	mutex_lock(&g->lock);
	lift_guards(g);
	for (; r.from < n; r.from += each) {
		in_steps(&r, MIN(each, n - r.from), soil_piece, merge_piece);
		gmem_flush(g);
		pt_reap(&g->pt);
		if (r.from + each < n)
			give_way(g);
	}
	__atomic_store_n(&g->tracking, false, __ATOMIC_RELAXED);
	mutex_unlock(&g->lock);
}

/* ---- who writes ---- */

void gmem_track_sample(struct gmem *g, uint64_t one_of)
{
	mutex_lock(&g->lock);
	BUG_ON(!g->tracking);
	g->sample = one_of;
	spin_lock(&g->guard_lock);
	if (one_of)
		__atomic_store_n(&g->guards, true, __ATOMIC_RELAXED);
	spin_unlock(&g->guard_lock);
	mutex_unlock(&g->lock);
}

bool gmem_wrote_sample(struct gmem *g, gpa_t gpa)
{
	if (!__atomic_load_n(&g->guards, __ATOMIC_RELAXED))
		return false;
	spin_lock(&g->guard_lock); /* not g->lock, which a harvest holds for long: tables stay while there are guards */
	bool was = g->guards && pt_unprotect(&g->pt, gpa);
	spin_unlock(&g->guard_lock);
	return was;
}
