/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-table walker (pt.h has the picture and the contract). Entries are read and written atomically because
 * hardware walkers set A and D at any moment; nothing else may change them behind the caller's lock.
 */
#include "kernel/base/hva.h"
#include "arch/x86/pt.h"
#include "arch/x86/hw/pte.h"
#include <errno.h>
#include <string.h>

/* clang-format off */
const struct pt_format pt_format_host = { /* SDM 3A 4.5 */
	.name = "host", .table = PTE_P | PTE_W, .leaf = PTE_P, .large = PTE_PS, .w = PTE_W, .nx = PTE_NX,
	.uc = PTE_PWT | PTE_PCD, .accessed = PTE_A, .dirty = PTE_D, .present = PTE_P, .max_level = 3,
};
/* clang-format on */
/* clang-format off */
const struct pt_format pt_format_npt = { /* APM2 15.25.5: a nested walk is a user access, so U is set at all levels */
	.name = "NPT", .table = PTE_P | PTE_W | PTE_U, .leaf = PTE_P | PTE_U, .large = PTE_PS, .w = PTE_W, .nx = PTE_NX,
	.uc = PTE_PWT | PTE_PCD, .accessed = PTE_A, .dirty = PTE_D, .present = PTE_P, .max_level = 3,
};
/* clang-format on */
/* clang-format off */
const struct pt_format pt_format_ept = { /* SDM 3C 29.3.2 */
	.name = "EPT", .table = EPTE_R | EPTE_W | EPTE_X, .leaf = 0, .large = EPTE_LARGE, .r = EPTE_R, .w = EPTE_W,
	.x = EPTE_X, .wb = EPTE_WB, .accessed = EPTE_A, .dirty = EPTE_D, .present = EPTE_R | EPTE_W | EPTE_X,
	.max_level = 3,
};
/* clang-format on */

static uint64_t level_size(unsigned level) { return 1ULL << (PAGE_SHIFT + 9 * (level - 1)); }
static unsigned level_index(uint64_t va, unsigned level)
{
	return va >> (PAGE_SHIFT + 9 * (level - 1)) & (PT_ENTRIES - 1);
}
static uint64_t *table_of(hpa_t hpa) { return hva_of(hpa & PTE_ADDR); }
static uint64_t load(const uint64_t *e) { return __atomic_load_n(e, __ATOMIC_RELAXED); }
static bool present(const struct pt *pt, uint64_t e) { return e & pt->fmt->present; }
static bool is_leaf(const struct pt *pt, uint64_t e, unsigned level) { return level == 1 || (e & pt->fmt->large); }

static uint64_t make_leaf(const struct pt *pt, hpa_t hpa, unsigned level, unsigned prot)
{
	const struct pt_format *f = pt->fmt;
	uint64_t x = level > 1 && f->later_x ? f->later_x : f->x;
	return hpa | f->leaf | (level > 1 ? f->large : 0) | (prot & PT_R ? f->r : 0) | (prot & PT_W ? f->w : 0) |
	       (prot & PT_X ? x : f->nx) | (prot & PT_UC ? f->uc : f->wb);
}

static hpa_t table_alloc(struct pt *pt)
{
	hpa_t t = pt->alloc(pt->arg);
	if (t != HPA_NONE)
		__atomic_fetch_add(&pt->ntables, 1, __ATOMIC_RELAXED);
	return t;
}

/*
 * Take a table out of use. Its first word becomes the link to the next; the link is page aligned and so reads as "not
 * present" to a hardware walker that still holds the old pointer, which then faults and is let in again.
 */
static void table_retire(struct pt *pt, hpa_t t)
{
	hpa_t head = __atomic_load_n(&pt->retired, __ATOMIC_RELAXED);
	do {
		__atomic_store_n(table_of(t), head == HPA_NONE ? 0 : head, __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&pt->retired, &head, t & PTE_ADDR, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
}

int pt_init(struct pt *pt, const struct pt_format *fmt, hpa_t (*alloc)(void *), void (*free)(void *, hpa_t), void *arg)
{
	*pt = (struct pt){ .fmt = fmt, .alloc = alloc, .free = free, .arg = arg, .retired = HPA_NONE };
	pt->root = table_alloc(pt);
	return pt->root == HPA_NONE ? -ENOMEM : 0;
}

void pt_reap(struct pt *pt)
{
	while (pt->retired != HPA_NONE) {
		hpa_t t = pt->retired, next = *table_of(t);
		pt->retired = next ? next : HPA_NONE;
		pt->free(pt->arg, t);
		pt->ntables--;
	}
}

static void retire_subtree(struct pt *pt, hpa_t t, unsigned level)
{
	uint64_t *tab = table_of(t);
	for (unsigned i = 0; level > 1 && i < PT_ENTRIES; i++) {
		uint64_t e = load(&tab[i]);
		if (present(pt, e) && !is_leaf(pt, e, level))
			retire_subtree(pt, e & PTE_ADDR, level - 1);
	}
	table_retire(pt, t);
}

void pt_fini(struct pt *pt)
{
	if (!pt->fmt || pt->root == HPA_NONE)
		return;
	retire_subtree(pt, pt->root, PT_LEVELS);
	pt_reap(pt);
	pt->root = HPA_NONE;
}

/*
 * Entry for va at `level`, making tables on the way. NULL with *err -ENOMEM, or -EEXIST if a larger leaf is in the way.
 */
static uint64_t *entry_make(struct pt *pt, uint64_t va, unsigned level, int *err)
{
	uint64_t *tab = table_of(pt->root);
	for (unsigned l = PT_LEVELS; l > level; l--) {
		uint64_t *e = &tab[level_index(va, l)], v = load(e);
		if (!present(pt, v)) {
			hpa_t t = table_alloc(pt);
			if (t == HPA_NONE) {
				*err = -ENOMEM;
				return NULL;
			}
			v = t | pt->fmt->table;
			__atomic_store_n(e, v, __ATOMIC_RELEASE);
		} else if (is_leaf(pt, v, l)) {
			*err = -EEXIST;
			return NULL;
		}
		tab = table_of(v);
	}
	return &tab[level_index(va, level)];
}

int pt_map(struct pt *pt, uint64_t va, hpa_t hpa, uint64_t len, unsigned prot)
{
	uint64_t done = 0;
	int err = -EINVAL;
	if ((va | hpa | len) & PAGE_MASK)
		return -EINVAL;
	while (done < len) {
		unsigned level = pt->fmt->max_level;
		while (level > 1 &&
		       (((va + done) | (hpa + done)) & (level_size(level) - 1) || len - done < level_size(level)))
			level--;
		uint64_t *e = entry_make(pt, va + done, level, &err);
		while (e && present(pt, load(e)) &&
		       !is_leaf(pt, load(e), level)) /* a table, empty perhaps: go below it */
			e = entry_make(pt, va + done, --level, &err);
		if (e && present(pt, load(e)))
			err = -EEXIST;
		if (!e || present(pt, load(e)))
			goto undo;
		__atomic_store_n(e, make_leaf(pt, hpa + done, level, prot), __ATOMIC_RELEASE);
		done += level_size(level);
	}
	return 0;
undo:
	if (done && pt_unmap(pt, va, done))
		return -ENOMEM; /* cannot be: whole leaves of ours need no split */
	return err;
}

/* Replace a large leaf by a table of 512 smaller ones, each with its A and D. */
static int split_leaf(struct pt *pt, uint64_t *e, unsigned level)
{
	const struct pt_format *f = pt->fmt;
	hpa_t t = table_alloc(pt);
	if (t == HPA_NONE)
		return -ENOMEM;
	uint64_t *tab = table_of(t), v = load(e), clean = ~v & f->dirty;
	if (level == 2)
		v = (v & ~(f->large | f->later_x)) | (v & f->later_x ? f->x : 0);
	for (unsigned i = 0; i < PT_ENTRIES; i++)
		tab[i] = v + i * level_size(level - 1);
	v = __atomic_exchange_n(e, t | f->table | f->accessed, __ATOMIC_ACQ_REL);
	if (v & clean) /* hardware has set it until now */
		for (unsigned i = 0; i < PT_ENTRIES; i++)
			__atomic_fetch_or(&tab[i], f->dirty, __ATOMIC_RELAXED);
	return 0;
}

/* Make addr a boundary between leaves. */
static int split_at(struct pt *pt, uint64_t addr)
{
	uint64_t *tab = table_of(pt->root);
	for (unsigned l = PT_LEVELS; l > 1; l--) {
		uint64_t *e = &tab[level_index(addr, l)];
		if (!(addr & (level_size(l) - 1)) || !present(pt, load(e)))
			return 0;
		if (is_leaf(pt, load(e), l)) {
			int err = split_leaf(pt, e, l);
			if (err)
				return err;
		}
		tab = table_of(load(e));
	}
	return 0;
}

static void unmap_table(struct pt *pt, hpa_t t, unsigned level, uint64_t base, uint64_t lo, uint64_t hi)
{
	uint64_t size = level_size(level), *tab = table_of(t);
	for (unsigned i = lo > base ? (lo - base) / size : 0; i < PT_ENTRIES && base + i * size < hi; i++) {
		uint64_t v = load(&tab[i]), start = base + i * size;
		if (!present(pt, v))
			continue;
		if (!is_leaf(pt, v, level) && (start < lo || start + size > hi)) {
			unmap_table(pt, v & PTE_ADDR, level - 1, start, lo, hi);
			continue;
		}
		__atomic_store_n(&tab[i], 0, __ATOMIC_RELEASE);
		if (!is_leaf(pt, v, level))
			retire_subtree(pt, v & PTE_ADDR, level - 1);
	}
}

/* The lowest address that entry 0 of the root stands for: the walker works on offsets below 2^48. */
static uint64_t canonical(uint64_t va) { return va & (BIT(48) - 1); }

int pt_unmap(struct pt *pt, uint64_t va, uint64_t len)
{
	if (!len)
		return 0;
	va = canonical(va);
	if (split_at(pt, va) || split_at(pt, va + len))
		return -ENOMEM;
	unmap_table(pt, pt->root, PT_LEVELS, 0, va, va + len);
	return 0;
}

bool pt_lookup(const struct pt *pt, uint64_t va, struct pt_leaf *leaf)
{
	const struct pt_format *f = pt->fmt;
	const uint64_t *tab = table_of(pt->root);
	for (unsigned l = PT_LEVELS;; l--) {
		uint64_t v = load(&tab[level_index(va, l)]);
		if (!present(pt, v))
			return false;
		if (is_leaf(pt, v, l)) {
			bool uc = f->uc ? (v & f->uc) == f->uc : !(v & f->wb); /* EPT has types: 0 is UC */
			*leaf = (struct pt_leaf){
				.hpa = v & PTE_ADDR & ~(level_size(l) - 1),
				.size = level_size(l),
				.prot = PT_R | (v & f->w ? PT_W : 0) |
					((f->nx ? !(v & f->nx) : !!(v & (f->x | f->later_x))) ? PT_X : 0) |
					(uc ? PT_UC : 0),
				.accessed = v & f->accessed,
				.dirty = v & f->dirty,
			};
			return true;
		}
		tab = table_of(v);
	}
}

static int split_table(struct pt *pt, hpa_t t, unsigned level, uint64_t base, uint64_t lo, uint64_t hi)
{
	uint64_t size = level_size(level), *tab = table_of(t);
	for (unsigned i = lo > base ? (lo - base) / size : 0; i < PT_ENTRIES && base + i * size < hi; i++) {
		uint64_t v = load(&tab[i]);
		if (!present(pt, v))
			continue;
		int err = is_leaf(pt, v, level) ? split_leaf(pt, &tab[i], level) : 0;
		if (!err && level > 2)
			err = split_table(pt, load(&tab[i]) & PTE_ADDR, level - 1, base + i * size, lo, hi);
		if (err)
			return err;
	}
	return 0;
}

int pt_split(struct pt *pt, uint64_t va, uint64_t len)
{
	va = canonical(va);
	return split_table(pt, pt->root, PT_LEVELS, 0, va, va + len);
}

int pt_split_page(struct pt *pt, uint64_t va) { return split_at(pt, canonical(va) | 1); /* no leaf ends there */ }

struct harvest {
	uint64_t lo, hi, first, *map, n;
};

/*
 * A leaf with D set: taken, and noted in the map. One that the range cuts keeps D, which the rest of it needs: this
 * part is noted once more then, which costs a page sent twice.
 */
static void harvest_leaf(struct pt *pt, uint64_t *e, uint64_t start, uint64_t size, struct harvest *h)
{
	if (start >= h->lo && start + size <= h->hi)
		__atomic_fetch_and(e, ~pt->fmt->dirty, __ATOMIC_RELAXED);
	uint64_t from = MAX(start, h->lo) >> PAGE_SHIFT, to = MIN(start + size, h->hi) >> PAGE_SHIFT;
	for (uint64_t gfn = from; gfn < to; gfn++)
		bitmap_set(h->map, gfn - h->first);
	h->n += to - from;
}

/* The loop that a pass over a guest's memory spends its time in: an entry without D costs a load, a test and a jump. */
static void harvest_pages(struct pt *pt, uint64_t *tab, uint64_t base, struct harvest *h)
{
	unsigned from = h->lo > base ? (unsigned)((h->lo - base) >> PAGE_SHIFT) : 0,
		 to = (unsigned)MIN((uint64_t)PT_ENTRIES, (h->hi - base + PAGE_MASK) >> PAGE_SHIFT);
	uint64_t dirty = pt->fmt->dirty;
	for (uint64_t *e = tab + from, *end = tab + to; e < end; e++)
		if (load(e) & dirty)
			harvest_leaf(pt, e, base + ((uint64_t)(e - tab) << PAGE_SHIFT), PAGE_SIZE, h);
}

static void harvest_table(struct pt *pt, hpa_t t, unsigned level, uint64_t base, struct harvest *h)
{
	uint64_t size = level_size(level), *tab = table_of(t);
	if (level == 1) {
		harvest_pages(pt, tab, base, h);
		return;
	}
	for (unsigned i = h->lo > base ? (h->lo - base) / size : 0; i < PT_ENTRIES && base + i * size < h->hi; i++) {
		uint64_t v = load(&tab[i]), start = base + i * size;
		if (!present(pt, v))
			continue;
		if (!is_leaf(pt, v, level))
			harvest_table(pt, v & PTE_ADDR, level - 1, start, h);
		else if (v & pt->fmt->dirty)
			harvest_leaf(pt, &tab[i], start, size, h);
	}
}

uint64_t pt_harvest(struct pt *pt, uint64_t va, uint64_t len, uint64_t *map, uint64_t first)
{
	struct harvest h = { .lo = canonical(va), .hi = canonical(va) + len, .first = first, .map = map };
	harvest_table(pt, pt->root, PT_LEVELS, 0, &h);
	return h.n;
}

void pt_age(struct pt *pt, uint64_t va, uint64_t *walked)
{
	uint64_t accessed = pt->fmt->accessed, e4 = load(&table_of(pt->root)[level_index(va, 4)]);
	uint64_t e3 = present(pt, e4) ? load(&table_of(e4)[level_index(va, 3)]) : 0;
	if (!present(pt, e3))
		return;
	if (is_leaf(pt, e3, 3)) {
		memset(walked, 0xff, PT_ENTRIES / 8);
		return;
	}
	/* A of level 3 says nothing: who has that entry cached sets A below it alone. */
	uint64_t *tab = table_of(e3);
	for (unsigned i = 0; i < PT_ENTRIES; i++) {
		uint64_t v = load(&tab[i]);
		if (!(v & accessed))
			continue;
		if (!is_leaf(pt, v, 2))
			__atomic_fetch_and(&tab[i], ~accessed, __ATOMIC_RELAXED);
		bitmap_set(walked, i);
	}
}

/* The bits are set in all leaves of [lo, hi), or are cleared there. */
static void mark_table(struct pt *pt, hpa_t t, unsigned level, uint64_t base, uint64_t lo, uint64_t hi, uint64_t set,
		       uint64_t clear)
{
	uint64_t size = level_size(level), *tab = table_of(t);
	unsigned from = lo > base ? (unsigned)((lo - base) / size) : 0,
		 to = (unsigned)MIN((uint64_t)PT_ENTRIES, (hi - base + size - 1) / size);
	for (uint64_t *e = tab + from, *end = tab + to; e < end; e++) {
		uint64_t v = load(e);
		if (level > 1 && present(pt, v) && !is_leaf(pt, v, level))
			mark_table(pt, v & PTE_ADDR, level - 1, base + (uint64_t)(e - tab) * size, lo, hi, set, clear);
		else if ((~v & set) && present(pt, v))
			__atomic_fetch_or(e, set, __ATOMIC_RELAXED);
		else if (v & clear)
			__atomic_fetch_and(e, ~clear, __ATOMIC_RELAXED);
	}
}

void pt_clean(struct pt *pt, uint64_t va, uint64_t len)
{
	va = canonical(va);
	mark_table(pt, pt->root, PT_LEVELS, 0, va, va + len, 0, pt->fmt->dirty);
}

void pt_soil(struct pt *pt, uint64_t va, uint64_t len)
{
	va = canonical(va);
	mark_table(pt, pt->root, PT_LEVELS, 0, va, va + len, pt->fmt->accessed | pt->fmt->dirty, 0);
}

/* The entry that is the 4K leaf of va, or NULL. */
static uint64_t *page_entry(struct pt *pt, uint64_t va)
{
	uint64_t *tab = table_of(pt->root);
	va = canonical(va);
	for (unsigned l = PT_LEVELS; l > 1; l--) {
		uint64_t v = load(&tab[level_index(va, l)]);
		if (!present(pt, v) || is_leaf(pt, v, l))
			return NULL;
		tab = table_of(v);
	}
	uint64_t *e = &tab[level_index(va, 1)];
	return present(pt, load(e)) ? e : NULL;
}

void pt_unprotect_all(struct pt *pt, uint64_t va, uint64_t len)
{
	va = canonical(va);
	mark_table(pt, pt->root, PT_LEVELS, 0, va, va + len, pt->fmt->w, 0);
}

bool pt_protect(struct pt *pt, uint64_t va)
{
	uint64_t *e = page_entry(pt, va);
	return e && __atomic_fetch_and(e, ~pt->fmt->w, __ATOMIC_RELAXED) & pt->fmt->w;
}

bool pt_unprotect(struct pt *pt, uint64_t va)
{
	uint64_t *e = page_entry(pt, va), w = pt->fmt->w;
	return e && !(__atomic_fetch_or(e, w | pt->fmt->dirty, __ATOMIC_RELAXED) & w);
}

/* One leaf that stands for the whole table t of 512 leaves, or 0 if they do not line up or are not all dirty. */
static uint64_t merged_leaf(struct pt *pt, hpa_t t, unsigned level)
{
	const struct pt_format *f = pt->fmt;
	uint64_t *tab = table_of(t), first = load(&tab[0]);
	if (!present(pt, first) || !is_leaf(pt, first, level) || !(first & f->accessed) || !(first & f->dirty) ||
	    (first & PTE_ADDR & (level_size(level + 1) - 1)))
		return 0;
	for (unsigned i = 1; i < PT_ENTRIES; i++)
		if (load(&tab[i]) != first + i * level_size(level))
			return 0;
	if (level == 1 && f->later_x && first & f->x)
		first = (first & ~f->x) | f->later_x;
	return first | f->large;
}

static void merge_table(struct pt *pt, hpa_t t, unsigned level, uint64_t base, uint64_t lo, uint64_t hi)
{
	uint64_t size = level_size(level), *tab = table_of(t);
	for (unsigned i = lo > base ? (lo - base) / size : 0; i < PT_ENTRIES && base + i * size < hi; i++) {
		uint64_t v = load(&tab[i]), start = base + i * size;
		if (!present(pt, v) || is_leaf(pt, v, level))
			continue;
		hpa_t sub = v & PTE_ADDR;
		if (level > 2)
			merge_table(pt, sub, level - 1, start, lo, hi);
		uint64_t leaf = level <= pt->fmt->max_level && start >= lo && start + size <= hi
					? merged_leaf(pt, sub, level - 1)
					: 0;
		if (!leaf)
			continue;
		__atomic_store_n(&tab[i], leaf, __ATOMIC_RELEASE); /* with A and D: hardware had no more to set below */
		table_retire(pt, sub);
	}
}

void pt_merge(struct pt *pt, uint64_t va, uint64_t len)
{
	va = canonical(va);
	merge_table(pt, pt->root, PT_LEVELS, 0, va, va + len);
}
