/* SPDX-License-Identifier: BSD-2-Clause */
/* Digests of memory and layers (sums.h). */
#include "vmm/migrate/sums.h"
#include "kernel/base/zero.h"
#include "kernel/crew.h"
#include <common/xxhash.h>
#include <stdio.h>
#include <string.h>

#define WORTH 8 /* chunks that make one more task worth its while */

/* ---- the way through ---- */

static void enter(struct sums_walk *w)
{
	struct gmem_range r[2];
	unsigned n = w->mem->size ? gmem_ranges(w->mem, r) : 0; /* one that is off has none */
	w->layer = NULL;
	if (w->part < n) {
		w->at = r[w->part].first;
		w->end = w->at + r[w->part].count;
	} else if (w->part - n < w->layers.n) {
		w->layer = w->layers.of[w->part - n];
		w->at = PAGES_DISK(w->part - n);
		w->end = w->at + layer_blocks(w->layer);
	} else {
		w->over = true;
	}
}

void sums_walk_begin(struct sums_walk *w, const struct gmem *mem, const struct page_layers *layers, bool absent)
{
	*w = (struct sums_walk){ .mem = mem, .layers = *layers, .absent = absent };
	enter(w);
}

void sums_walk_on(struct sums_walk *w, uint64_t frames)
{
	BUG_ON(w->over || frames > w->end - w->at);
	w->at += frames;
	if (w->at < w->end)
		return;
	w->part++;
	enter(w);
}

bool sums_walk_fits(const struct sums_walk *w, uint64_t frames)
{
	if (w->over || !frames || frames > w->end - w->at || (frames % SUMS_CHUNK && frames != w->end - w->at))
		return false;
	return w->layer || frames <= SUMS_MAX * SUMS_CHUNK;
}

/* ---- digests ---- */

/* page NULL: of a block of zeros, or of what is absent. */
static uint64_t hash_of(gfn_t gfn, const void *page)
{
	uint64_t hash = XXH64(page, page ? PAGE_SIZE : 0, gfn);
	return hash + !hash;
}

uint64_t sums_ram(gfn_t gfn, const void *page) { return is_zero(page, PAGE_SIZE) ? 0 : hash_of(gfn, page); }

static int ram_page(const struct sums_walk *w, gfn_t gfn, uint64_t *hash)
{
	struct gmem_pin pin;
	if (gfn >= w->mem->gfn_end || !gmem_is_ram(w->mem, gfn << PAGE_SHIFT))
		return 0;
	if (w->absent && gmem_absent(w->mem, gfn)) {
		*hash = hash_of(gfn, NULL);
		return 0;
	}
	int err = gmem_pin_wait(w->mem, gfn << PAGE_SHIFT, PAGE_SIZE, GMEM_READ, &pin);
	if (err)
		return err;
	*hash = sums_ram(gfn, pin.p);
	gmem_unpin(w->mem, &pin);
	return 0;
}

int sums_page(const struct sums_walk *w, gfn_t gfn, uint64_t *hash)
{
	uint64_t block;
	struct layer *l = pages_layer(&w->layers, gfn, &block);
	const void *page = NULL;
	*hash = 0;
	if (!l)
		return ram_page(w, gfn, hash);
	if (layer_has(l, block, &page))
		*hash = hash_of(gfn, page && !is_zero(page, PAGE_SIZE) ? page : NULL);
	return 0;
}

const char *sums_text(char text[32], gfn_t gfn, uint64_t hash, const char *nothing)
{
	sniprintf(text, 32, "digest %016lx", hash);
	return !hash ? nothing : gfn >> PAGES_DISK_SHIFT || hash != hash_of(gfn, NULL) ? text : "absent";
}

struct sums_job {
	const struct sums_walk *w;
	struct sums_range *r;
	int err; /* [a] */
};

static void chunk_sum(void *arg, uint64_t n)
{
	struct sums_job *j = arg;
	struct sum *s = &j->r->sum[n];
	gfn_t first = j->r->first + (uint64_t)s->chunk * SUMS_CHUNK;
	gfn_t end = MIN(first + SUMS_CHUNK, j->r->first + j->r->frames);
	for (gfn_t f = first; f < end; f++) {
		uint64_t hash;
		int err = sums_page(j->w, f, &hash);
		if (err)
			__atomic_store_n(&j->err, err, __ATOMIC_RELAXED);
		s->pages += !!hash;
		s->sum += hash;
	}
}

/* Which chunks of the range to look at, and how far it goes. */
static void find_chunks(const struct sums_walk *w, uint64_t frames, struct sums_range *r)
{
	frames = MIN(frames, w->end - w->at);
	*r = (struct sums_range){ .first = w->at, .frames = frames };
	if (!w->layer) {
		r->frames = MIN(frames, (uint64_t)SUMS_MAX * SUMS_CHUNK);
		for (; r->n * (uint64_t)SUMS_CHUNK < r->frames; r->n++)
			r->sum[r->n].chunk = r->n;
		return;
	}
	uint64_t zero = w->at & (BIT(PAGES_DISK_SHIFT) - 1), end = zero + frames;
	for (uint64_t b = zero; (b = layer_next(w->layer, b)) < end; r->n++) {
		if (r->n == SUMS_MAX) {
			r->frames = ALIGN_DOWN(b - zero, (uint64_t)SUMS_CHUNK);
			return;
		}
		r->sum[r->n].chunk = (uint32_t)((b - zero) / SUMS_CHUNK);
		b = zero + (r->sum[r->n].chunk + 1UL) * SUMS_CHUNK;
	}
}

int sums_take(const struct sums_walk *w, uint64_t frames, struct sums_range *r)
{
	struct sums_job j = { .w = w, .r = r };
	find_chunks(w, frames, r);
	/* Its helpers are as others' tasks are: at this one's they would keep all CPUs from all other guests. */
	struct crew_work work = { "verify", chunk_sum, NULL, &j, r->n, WORTH, TASK_PRIO_NORMAL };
	int err = crew_run(&work);
	unsigned n = 0;
	for (unsigned i = 0; i < r->n; i++)
		if (r->sum[i].pages)
			r->sum[n++] = r->sum[i];
	r->n = n;
	return err ? err : j.err;
}

gfn_t sums_differ(const struct sums_range *a, const struct sums_range *b)
{
	for (unsigned i = 0; i < MAX(a->n, b->n); i++) {
		const struct sum *x = i < a->n ? &a->sum[i] : NULL, *y = i < b->n ? &b->sum[i] : NULL;
		if (x && y && x->chunk == y->chunk && x->pages == y->pages && x->sum == y->sum)
			continue;
		uint32_t chunk = !y || (x && x->chunk < y->chunk) ? x->chunk : y->chunk;
		return a->first + (uint64_t)chunk * SUMS_CHUNK;
	}
	return b->frames < a->frames ? a->first + b->frames : GFN_NONE;
}
