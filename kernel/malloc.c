/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc for the kernel and for newlib and lwIP inside it, in place of newlib's own: locks are ours, all of it works
 * with interrupts off and in any context, and what is freed goes back to the page allocator, so that "free pages are
 * back where they were" can be tested.
 *
 *   slab, 16 KiB, aligned:  | struct slab | object | object | ...        one size a slab, free ones chained
 *   large:                  a block of the page allocator; its order is what the allocator remembers
 *
 * A large block starts on a page that the page allocator knows as the start of a block; an object never does, because
 * the header is there. That tells them apart on free.
 */
#include "kernel/base/hva.h"
#include "kernel/malloc.h"
#include "kernel/base/err.h"
#include "kernel/base/list.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_ORDER 2
#define SLAB_SIZE  (PAGE_SIZE << SLAB_ORDER)
#define SLAB_MAGIC 0x62616c736e726574UL
#define HEADER     64

struct slab {
	uint64_t magic;
	struct list node;       /* in its class's list while it has a free object */
	void *free;             /* chain through the first word */
	uint32_t nfree, nfresh; /* objects never used yet lie at the end */
	uint32_t k, total;      /* its objects are of sizes[k] */
};
_Static_assert(sizeof(struct slab) <= HEADER, "header");

static const uint16_t sizes[] = {
	16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3264, 5440, 8160
};
static struct size_class {
	struct spinlock lock;
	struct list partial;
	unsigned empty;       /* slabs on it with nothing in use: one is kept */
	unsigned slabs, used; /* slabs in all, objects in use */
} classes[ARRAY_SIZE(sizes)];
static bool ready;

void malloc_init(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		spin_init(&classes[i].lock, "malloc");
		list_init(&classes[i].partial);
	}
	ready = true;
}

static unsigned order_of(size_t n)
{
	unsigned order = 0;
	while (order <= PAGE_ORDER_1G && (PAGE_SIZE << order) < n)
		order++;
	return order;
}

static void *large_alloc(size_t n)
{
	unsigned order = order_of(n);
	hpa_t hpa = order <= PAGE_ORDER_1G ? page_alloc(order) : HPA_NONE;
	if (hpa == HPA_NONE) {
		errno = ENOMEM;
		return NULL;
	}
	return hva_of(hpa);
}

/*
 * The slab an object lies in, or NULL for a large block. Anything else was never ours, or has been overwritten: panic.
 */
static struct slab *slab_of(const void *p)
{
	if (((uintptr_t)p & PAGE_MASK) == 0 && page_block_order(hpa_of(p)) >= 0)
		return NULL;
	struct slab *s = (struct slab *)ALIGN_DOWN((uintptr_t)p, SLAB_SIZE);
	if (s->magic != SLAB_MAGIC || ((uintptr_t)p - (uintptr_t)s - HEADER) % sizes[s->k] != 0)
		panic("malloc: %p is not an allocated object", p);
	return s;
}

static struct slab *slab_new(unsigned k)
{
	hpa_t hpa = page_alloc(SLAB_ORDER);
	if (hpa == HPA_NONE)
		return NULL;
	struct slab *s = hva_of(hpa);
	*s = (struct slab){ .magic = SLAB_MAGIC, .k = k };
	s->total = s->nfree = s->nfresh = (uint32_t)((SLAB_SIZE - HEADER) / sizes[k]);
	return s;
}

/* Not named malloc: the compiler would make of calloc's malloc + memset a call of calloc. */
static void *alloc(size_t n)
{
	BUG_ON(!ready);
	unsigned k = 0;
	while (k < ARRAY_SIZE(sizes) && sizes[k] < n)
		k++;
	if (k == ARRAY_SIZE(sizes))
		return large_alloc(n);
	struct size_class *c = &classes[k];
	uint64_t flags = spin_lock_irqsave(&c->lock);
	struct slab *s = list_first(&c->partial, struct slab, node);
	if (!s) {
		s = slab_new(k);
		if (!s) {
			spin_unlock_irqrestore(&c->lock, flags);
			errno = ENOMEM;
			return NULL;
		}
		list_append(&c->partial, &s->node);
		c->empty++;
		c->slabs++;
	}
	if (s->nfree == s->total)
		c->empty--;
	void *p = s->free;
	if (p)
		s->free = *(void **)p;
	else
		p = (char *)s + HEADER + (size_t)(s->total - s->nfresh--) * sizes[k];
	if (--s->nfree == 0)
		list_remove(&s->node);
	c->used++;
	spin_unlock_irqrestore(&c->lock, flags);
	return p;
}

void *malloc(size_t n) { return alloc(n); }

void free(void *p)
{
	if (!p)
		return;
	struct slab *s = slab_of(p);
	if (!s) {
		page_free(hpa_of(p), (unsigned)page_block_order(hpa_of(p)));
		return;
	}
	struct size_class *c = &classes[s->k];
	uint64_t flags = spin_lock_irqsave(&c->lock);
	BUG_ON(s->nfree >= s->total);
	*(void **)p = s->free;
	s->free = p;
	if (s->nfree++ == 0)
		list_insert(&c->partial, &s->node);
	bool release = s->nfree == s->total && c->empty > 0;
	c->used--;
	if (release) {
		list_remove(&s->node);
		s->magic = 0;
		c->slabs--;
	} else if (s->nfree == s->total) {
		c->empty++;
		list_remove(&s->node);
		list_append(&c->partial, &s->node); /* last: fill the others first */
	}
	spin_unlock_irqrestore(&c->lock, flags);
	if (release)
		page_free(hpa_of(s), SLAB_ORDER);
}

uint64_t malloc_slab_bytes(uint64_t *used)
{
	uint64_t held = *used = 0;
	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		struct size_class *c = &classes[k];
		uint64_t flags = spin_lock_irqsave(&c->lock);
		held += (uint64_t)c->slabs * SLAB_SIZE;
		*used += (uint64_t)c->used * sizes[k];
		spin_unlock_irqrestore(&c->lock, flags);
	}
	return held;
}

size_t malloc_usable_size(void *p)
{
	if (!p)
		return 0;
	struct slab *s = slab_of(p);
	return s ? sizes[s->k] : PAGE_SIZE << page_block_order(hpa_of(p));
}

void *calloc(size_t n, size_t size)
{
	size_t bytes;
	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	void *p = alloc(bytes);
	if (p && bytes <= sizes[ARRAY_SIZE(sizes) - 1]) /* larger ones are pages, which come zeroed */
		memset(p, 0, bytes);
	return p;
}

void *realloc(void *p, size_t n)
{
	if (!p)
		return malloc(n);
	size_t have = malloc_usable_size(p);
	if (n <= have && n > have / 4)
		return p;
	void *q = malloc(n);
	if (!q)
		return n <= have ? p : NULL;
	memcpy(q, p, MIN(n, have));
	free(p);
	return q;
}

void *memalign(size_t align, size_t n)
{
	if (align <= 16)
		return malloc(n);
	return large_alloc(MAX(align, n)); /* blocks are aligned to their size */
}

void *aligned_alloc(size_t align, size_t n) { return memalign(align, n); }

/* What newlib itself calls. */
void *_malloc_r(struct _reent *r unused, size_t n) { return malloc(n); }

void _free_r(struct _reent *r unused, void *p) { free(p); }

void *_calloc_r(struct _reent *r unused, size_t n, size_t size) { return calloc(n, size); }

void *_realloc_r(struct _reent *r unused, void *p, size_t n) { return realloc(p, n); }
