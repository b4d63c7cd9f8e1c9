/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The blocks of a layer that are still to be sent (layer.h). The lock is held for one leaf, of 2 MiB of the disk, at a
 * time. What says that a leaf has something is never behind its blocks: both change under the lock.
 */
#include "kernel/base/hva.h"
#include "vmm/layer_tree.h"

#define LOOKS 256 /* leaves passed over with the lock held */

/*
 * The entry of the first leaf from block *from on that has one of `flags`, 0: any; *from is its first block. NULL:
 * there is none up to *from. Locked.
 */
static uint64_t *leaf_from(struct layer *l, uint64_t *from, uint64_t flags)
{
	uint64_t next;
	for (unsigned looks = 0; looks < LOOKS && *from < layer_blocks(l); looks++, *from = next) {
		uint64_t *e = layer_entry(l, *from, 1, &next);
		if (!e)
			continue;
		*from &= ~(uint64_t)(LAYER_FAN - 1);
		if (*e & LAYER_ADDR && (!flags || *e & flags))
			return e;
		next = *from + LAYER_FAN;
	}
	return NULL;
}

/* Blocks with one of `flags`, or all that are the layer's, come into the set. How many are new there. */
static uint64_t gather(struct layer *l, uint64_t flags)
{
	uint64_t n = 0;
	for (uint64_t from = 0; from < layer_blocks(l);) {
		spin_lock(&l->lock);
		uint64_t *e = leaf_from(l, &from, flags & LAYER_DIRTY), before = n;
		uint64_t *leaf = e ? hva_of(*e & LAYER_ADDR) : NULL;
		for (unsigned i = 0; leaf && i < LAYER_FAN; i++) {
			if (!(leaf[i] & flags))
				continue;
			n += !(leaf[i] & LAYER_SEND);
			leaf[i] = (leaf[i] & ~LAYER_DIRTY) | LAYER_SEND;
			*e |= LAYER_SEND;
		}
		if (e) {
			*e &= ~LAYER_DIRTY;
			from += LAYER_FAN;
		}
		__atomic_store_n(&l->unsent, l->unsent + n - before, __ATOMIC_RELAXED);
		spin_unlock(&l->lock);
	}
	return n;
}

uint64_t layer_track_fill(struct layer *l)
{
	(void)gather(l, LAYER_OURS);
	return __atomic_load_n(&l->unsent, __ATOMIC_RELAXED);
}

uint64_t layer_track_harvest(struct layer *l) { return gather(l, LAYER_DIRTY); }

static void leave_set(struct layer *l, uint64_t *e)
{
	*e &= ~(LAYER_SEND | LAYER_DIRTY);
	__atomic_store_n(&l->unsent, l->unsent - 1, __ATOMIC_RELAXED);
}

/*
 * The first block from `from` on with `flag`, which is LAYER_SEND or LAYER_OURS, or LAYER_NONE; freed: that has no page
 * besides, and leaves the set.
 */
static uint64_t next(struct layer *l, uint64_t from, uint64_t flag, bool freed)
{
	for (uint64_t at = from, found = LAYER_NONE; at < layer_blocks(l);) {
		spin_lock(&l->lock);
		uint64_t *e = leaf_from(l, &at, flag & LAYER_SEND);
		uint64_t *leaf = e ? hva_of(*e & LAYER_ADDR) : NULL;
		for (uint64_t b = MAX(from, at); leaf && b < at + LAYER_FAN && found == LAYER_NONE; b++) {
			uint64_t v = leaf[b & (LAYER_FAN - 1)];
			if (v & flag && !(freed && v & LAYER_ADDR))
				found = b;
		}
		if (freed && found != LAYER_NONE)
			leave_set(l, &leaf[found & (LAYER_FAN - 1)]);
		if (e && found == LAYER_NONE) {
			if (from <= at && !freed) /* all of it was taken */
				*e &= ~(flag & LAYER_SEND);
			at += LAYER_FAN;
		}
		spin_unlock(&l->lock);
		if (found != LAYER_NONE)
			return found;
	}
	return LAYER_NONE;
}

uint64_t layer_track_next(struct layer *l, uint64_t from) { return next(l, from, LAYER_SEND, false); }
uint64_t layer_track_take_freed(struct layer *l, uint64_t from) { return next(l, from, LAYER_SEND, true); }
uint64_t layer_next(struct layer *l, uint64_t from) { return next(l, from, LAYER_OURS, false); }

bool layer_has(struct layer *l, uint64_t block, const void **page)
{
	uint64_t next;
	spin_lock(&l->lock);
	const uint64_t *e = block < layer_blocks(l) ? layer_entry(l, block, 0, &next) : NULL;
	uint64_t v = e ? *e : 0;
	spin_unlock(&l->lock);
	*page = v & LAYER_ADDR ? hva_of(v & LAYER_ADDR) : NULL;
	return v & LAYER_OURS;
}

const void *layer_track_take(struct layer *l, uint64_t block)
{
	uint64_t after;
	spin_lock(&l->lock);
	uint64_t *e = layer_entry(l, block, 0, &after);
	BUG_ON(!e || !(*e & LAYER_SEND));
	leave_set(l, e);
	const void *page = *e & LAYER_ADDR ? hva_of(*e & LAYER_ADDR) : NULL;
	spin_unlock(&l->lock);
	return page;
}
