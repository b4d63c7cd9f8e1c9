/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy-on-write layer in memory (layer.h): its tree, and the requests of a disk.
 *
 *   root -> table -> ... -> leaf, a table of blocks:  address of the block's page, 0: zeros | OURS | DIRTY | SEND
 *                             an entry above a leaf:  address of the leaf | DIRTY | SEND: some block there has it
 *
 * The lock is held for one block at a time, its 4 KiB copied under it: whoever frees a page has it.
 */
#include "vmm/layer.h"
#include "kernel/base/hva.h"
#include "kernel/log.h"
#include "vmm/boot_file.h"
#include "vmm/layer_tree.h"
#include <string.h>

#define MAX_LEN MIB(1)

/* ---- the tree; the lock is held ---- */

uint64_t *layer_entry(struct layer *l, uint64_t block, unsigned level, uint64_t *next)
{
	uint64_t *e = &l->root;
	for (unsigned at = l->levels; at > level; at--) {
		if (!(*e & LAYER_ADDR)) {
			*next = (block | ((1UL << LAYER_BITS * at) - 1)) + 1;
			return NULL;
		}
		uint64_t *table = hva_of(*e & LAYER_ADDR);
		e = &table[block >> LAYER_BITS * (at - 1) & (LAYER_FAN - 1)];
	}
	return e;
}

static void used_add(struct layer *l, int64_t pages)
{
	__atomic_store_n(&l->used, l->used + (uint64_t)pages, __ATOMIC_RELAXED);
}

/* A page of the layer's own, with anything in it; HPA_NONE: it is full. over: beyond that, if the host has one. */
static hpa_t take_page(struct layer *l, bool over)
{
	if (l->used >= l->max && !over)
		return HPA_NONE;
	hpa_t hpa = l->spare;
	if (hpa) {
		l->spare = *(hpa_t *)hva_of(hpa);
	} else {
		bool extra = !l->pages.pages;
		if (extra && page_free_count() <= PAGE_KEEP)
			return HPA_NONE;
		hpa = page_alloc_reserved(&l->pages, PAGE_ORDER_4K);
		l->extra += extra && hpa != HPA_NONE;
	}
	BUG_ON(hpa == HPA_NONE && !over); /* it was promised */
	used_add(l, hpa != HPA_NONE);
	return hpa;
}

/*
 * It stays the layer's, to which it is promised. Who sends the block reads its page without the lock, and may find the
 * next user's data in it: the block is dirty by then, and goes once more.
 */
static void drop_page(struct layer *l, hpa_t hpa)
{
	*(hpa_t *)hva_of(hpa) = l->spare;
	l->spare = hpa;
	used_add(l, -1);
}

/* The entry of a block, its tables made. NULL: the layer is full. */
static uint64_t *make_entry(struct layer *l, uint64_t block, bool over)
{
	uint64_t *e = &l->root;
	for (unsigned at = l->levels; at > 0; at--) {
		if (!(*e & LAYER_ADDR)) {
			hpa_t hpa = take_page(l, over);
			if (hpa == HPA_NONE)
				return NULL;
			page_zero(hpa, PAGE_ORDER_4K);
			*e |= hpa;
		}
		uint64_t *table = hva_of(*e & LAYER_ADDR);
		e = &table[block >> LAYER_BITS * (at - 1) & (LAYER_FAN - 1)];
	}
	return e;
}

static void mark_dirty(struct layer *l, uint64_t block, uint64_t *e)
{
	uint64_t next;
	*e |= LAYER_OURS | LAYER_DIRTY;
	*layer_entry(l, block, 1, &next) |= LAYER_DIRTY;
}

/* ---- bytes ---- */

/* Where the request's data is. */
struct spot {
	const struct gmem_pin *seg;
	uint64_t skip;
};

static struct spot spot_of(const struct blockdev_req *r)
{
	struct spot c = { r->seg, r->skip };
	while (c.seg && c.skip && c.skip >= c.seg->len) {
		c.skip -= c.seg->len;
		c.seg++;
	}
	return c;
}

/* n bytes to the request's pages, from `from` (NULL: zeros); or from them to `to`. */
static void copy(struct spot *c, const void *from, void *to, size_t n)
{
	for (size_t done = 0, part; done < n; done += part) {
		char *at = (char *)c->seg->p + c->skip;
		part = MIN(n - done, c->seg->len - c->skip);
		if (to)
			memcpy((char *)to + done, at, part);
		else if (from)
			memcpy(at, (const char *)from + done, part);
		else
			memset(at, 0, part);
		c->skip += part;
		if (c->skip == c->seg->len) {
			c->seg++;
			c->skip = 0;
		}
	}
}

/* The base's bytes from off on that lie in one place, up to n; *n of them. NULL: they are zeros. */
static const void *base_at(const struct layer *l, uint64_t off, size_t *n)
{
	size_t here;
	if (!l->base || off >= l->base->size)
		return NULL;
	const void *p = boot_file_at(l->base, off, &here);
	*n = MIN(*n, here);
	return boot_file_is_hole(l->base, off / BOOT_FILE_BLOCK) ? NULL : p;
}

static void base_to_guest(const struct layer *l, struct spot *c, uint64_t off, size_t n)
{
	for (size_t done = 0, part; done < n; done += part) {
		part = n - done;
		const void *p = base_at(l, off + done, &part);
		copy(c, p, NULL, part);
	}
}

static void base_to_page(const struct layer *l, char *page, uint64_t off)
{
	for (size_t done = 0, part; done < PAGE_SIZE; done += part) {
		part = PAGE_SIZE - done;
		const void *p = base_at(l, off + done, &part);
		if (p)
			memcpy(page + done, p, part);
		else
			memset(page + done, 0, part);
	}
}

/* ---- requests, a block's part at a time: [off, off + n) lies in one ---- */

static void read_part(struct layer *l, struct spot *c, uint64_t off, size_t n)
{
	uint64_t next;
	spin_lock(&l->lock);
	const uint64_t *e = layer_entry(l, off >> PAGE_SHIFT, 0, &next);
	uint64_t v = e ? *e : 0;
	if (v & LAYER_ADDR) /* its page is freed under the lock alone */
		copy(c, (const char *)hva_of(v & LAYER_ADDR) + (off & PAGE_MASK), NULL, n);
	spin_unlock(&l->lock);
	if (v & LAYER_ADDR)
		return;
	if (v & LAYER_OURS)
		copy(c, NULL, NULL, n);
	else
		base_to_guest(l, c, off, n);
}

/* The block's page, with what it holds but for [off, off + n), which the caller writes. NULL: full. Locked. */
static char *writable_page(struct layer *l, uint64_t *e, uint64_t off, size_t n, bool over)
{
	if (*e & LAYER_ADDR)
		return hva_of(*e & LAYER_ADDR);
	hpa_t hpa = take_page(l, over);
	if (hpa == HPA_NONE)
		return NULL;
	char *page = hva_of(hpa);
	if (n < PAGE_SIZE && *e & LAYER_OURS)
		memset(page, 0, PAGE_SIZE);
	else if (n < PAGE_SIZE)
		base_to_page(l, page, ALIGN_DOWN(off, PAGE_SIZE));
	*e |= hpa;
	return page;
}

static int write_part(struct layer *l, struct spot *c, uint64_t off, size_t n)
{
	uint64_t block = off >> PAGE_SHIFT;
	spin_lock(&l->lock);
	uint64_t *e = make_entry(l, block, false);
	char *page = e ? writable_page(l, e, off, n, false) : NULL;
	if (page) {
		copy(c, NULL, page + (off & PAGE_MASK), n);
		mark_dirty(l, block, e);
	}
	spin_unlock(&l->lock);
	return page ? 0 : -ENOSPC;
}

/* Is it zeros, without the layer's having the block? */
static bool base_is_zero(const struct layer *l, uint64_t off)
{
	for (size_t done = 0, part; done < PAGE_SIZE; done += part) {
		part = PAGE_SIZE - done;
		if (base_at(l, off + done, &part))
			return false;
	}
	return true;
}

static int zero_part(struct layer *l, uint64_t off, size_t n)
{
	uint64_t block = off >> PAGE_SHIFT, next;
	int err = 0;
	spin_lock(&l->lock);
	bool whole = !(off & PAGE_MASK) && (n == PAGE_SIZE || off + n == l->b.size);
	uint64_t *e = layer_entry(l, block, 0, &next);
	if (e && *e & LAYER_OURS ? !(*e & LAYER_ADDR) : base_is_zero(l, ALIGN_DOWN(off, PAGE_SIZE)))
		goto out; /* they are zeros already */
	e = make_entry(l, block, false);
	char *page = e && !whole ? writable_page(l, e, off, n, false) : NULL;
	if (!e || (!whole && !page)) {
		err = -ENOSPC;
		goto out;
	}
	if (page)
		memset(page + (off & PAGE_MASK), 0, n);
	else if (*e & LAYER_ADDR) {
		hpa_t old = *e & LAYER_ADDR;
		*e &= ~LAYER_ADDR;
		drop_page(l, old);
	}
	mark_dirty(l, block, e);
out:
	spin_unlock(&l->lock);
	return err;
}

/* Once, until there is room again. */
static void say_full(struct layer *l, int err)
{
	spin_lock(&l->lock);
	bool say = err && !l->full;
	__atomic_store_n(&l->full, l->used >= l->max, __ATOMIC_RELAXED);
	spin_unlock(&l->lock);
	if (say)
		log_warn("disk %s: its layer of %lu MiB is full, writes to blocks that are not in it fail: free some "
			 "in the "
			 "guest (fstrim), or give it more (disk resize --layer)",
			 l->name, __atomic_load_n(&l->max, __ATOMIC_RELAXED) >> (20 - PAGE_SHIFT));
}

static void submit(struct blockdev *b, struct blockdev_req *r)
{
	struct layer *l = CONTAINER_OF(b, struct layer, b);
	struct spot c = spot_of(r);
	r->err = 0;
	for (uint64_t done = 0, n; r->op != BLOCKDEV_FLUSH && done < r->len && !r->err; done += n) {
		uint64_t off = r->off + done;
		n = MIN(r->len - done, PAGE_SIZE - (off & PAGE_MASK));
		if (r->op == BLOCKDEV_READ)
			read_part(l, &c, off, n);
		else
			r->err = r->op == BLOCKDEV_WRITE ? write_part(l, &c, off, n) : zero_part(l, off, n);
	}
	if (r->err || __atomic_load_n(&l->full, __ATOMIC_RELAXED))
		say_full(l, r->err);
	r->done(r);
}

static const struct blockdev_ops ops = { .submit = submit };

/* ---- what comes from another host ---- */

void *layer_fill_page(struct layer *l, uint64_t block)
{
	spin_lock(&l->lock);
	uint64_t *e = make_entry(l, block, true);
	char *page = e ? writable_page(l, e, block << PAGE_SHIFT, PAGE_SIZE, true) : NULL;
	if (page)
		mark_dirty(l, block, e);
	spin_unlock(&l->lock);
	return page;
}

int layer_fill_zero(struct layer *l, uint64_t block)
{
	spin_lock(&l->lock);
	uint64_t *e = make_entry(l, block, true);
	hpa_t old = e ? *e & LAYER_ADDR : 0;
	if (old) {
		*e &= ~LAYER_ADDR;
		drop_page(l, old);
	}
	if (e)
		mark_dirty(l, block, e);
	if (l->extra && l->spare) { /* nobody sends from this layer now, who could still be reading it */
		hpa_t hpa = l->spare;
		l->spare = *(hpa_t *)hva_of(hpa);
		l->extra--;
		page_free(hpa, PAGE_ORDER_4K);
	}
	spin_unlock(&l->lock);
	return e ? 0 : -ENOSPC;
}

/* ---- life ---- */

static unsigned levels_of(uint64_t size)
{
	uint64_t blocks = (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	unsigned n = 1;
	while (blocks > 1UL << LAYER_BITS * n)
		n++;
	return n;
}

void layer_init(struct layer *l, const char *name, uint64_t size, struct boot_file *base, struct page_reservation *r)
{
	BUG_ON(!size || size % SECTOR || size > LAYER_SIZE_MAX);
	*l = (struct layer){ .name = name, .max = r->pages, .pages = *r, .base = base };
	*r = (struct page_reservation){ 0 };
	l->levels = levels_of(size);
	spin_init(&l->lock, "layer");
	l->b = (struct blockdev){ .ops = &ops, .size = size, .block = PAGE_SIZE, .max_len = MAX_LEN, .depth = 1 };
}

int layer_grow(struct layer *l, uint64_t size, struct page_reservation *r)
{
	unsigned levels = levels_of(size);
	spin_lock(&l->lock);
	uint64_t more = l->root ? levels - l->levels : 0;
	int err = size < l->b.size || size > LAYER_SIZE_MAX || size % SECTOR ? -EINVAL
		  : l->used + more > l->max + r->pages                       ? -ENOSPC
									     : 0;
	if (err) {
		spin_unlock(&l->lock);
		return err;
	}
	__atomic_store_n(&l->max, l->max + r->pages, __ATOMIC_RELAXED);
	l->pages.pages += r->pages;
	*r = (struct page_reservation){ 0 };
	for (; more; more--) { /* what there is are the first blocks of a table above it */
		hpa_t hpa = take_page(l, false);
		page_zero(hpa, PAGE_ORDER_4K);
		*(uint64_t *)hva_of(hpa) = l->root;
		l->root = hpa;
	}
	l->levels = levels;
	__atomic_store_n(&l->full, false, __ATOMIC_RELAXED);
	__atomic_store_n(&l->b.size, size, __ATOMIC_RELEASE);
	spin_unlock(&l->lock);
	return 0;
}

void layer_set_base(struct layer *l, struct boot_file *base)
{
	BUG_ON(l->base);
	l->base = base;
}

/* Depth is at most four. */
static void free_below(uint64_t e, unsigned level)
{
	if (!(e & LAYER_ADDR))
		return;
	const uint64_t *table = hva_of(e & LAYER_ADDR);
	for (unsigned i = 0; level && i < LAYER_FAN; i++)
		free_below(table[i], level - 1);
	page_free(e & LAYER_ADDR, PAGE_ORDER_4K);
}

void layer_fini(struct layer *l)
{
	free_below(l->root, l->levels);
	while (l->spare) {
		hpa_t hpa = l->spare;
		l->spare = *(hpa_t *)hva_of(hpa);
		page_free(hpa, PAGE_ORDER_4K);
	}
	page_unreserve(&l->pages);
	boot_file_put(l->base);
	*l = (struct layer){ 0 };
}
