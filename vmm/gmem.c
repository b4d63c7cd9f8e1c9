/* SPDX-License-Identifier: BSD-2-Clause */
/* The bytes of guest memory, as devices and the loader reach them (gmem.h). */
#include "vmm/gmem.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <string.h>

unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ 0, g->low >> PAGE_SHIFT };
	r[1] = (struct gmem_range){ GMEM_HIGH >> PAGE_SHIFT, g->high >> PAGE_SHIFT };
	return g->high ? 2 : 1;
}

hpa_t gmem_high_block(const struct gmem *g, gpa_t gpa)
{
	return gmem_gib_at(g, gpa)->block[gpa >> GMEM_BLOCK_SHIFT & (GMEM_GIB_BLOCKS - 1)];
}

/* ---- bytes, and pages that are not here yet ---- */

void gmem_on_flush(struct gmem *g, void (*flush)(void *arg), void *arg)
{
	g->flush = flush;
	g->flush_arg = arg;
}

/*
 * Whoever uses a pager is counted before he looks which it is, and who changes it looks afterwards whether one is: so
 * none is used that has gone.
 */
static const struct gmem_pager *pager_get(const struct gmem *g)
{
	unsigned *users = (unsigned *)(uintptr_t)&g->pager_users;
	if (!__atomic_load_n(&g->pager, __ATOMIC_ACQUIRE))
		return NULL;
	__atomic_fetch_add(users, 1, __ATOMIC_SEQ_CST);
	const struct gmem_pager *p = __atomic_load_n(&g->pager, __ATOMIC_SEQ_CST);
	if (!p)
		__atomic_fetch_sub(users, 1, __ATOMIC_SEQ_CST);
	return p;
}

static void pager_put(const struct gmem *g, const struct gmem_pager *p)
{
	if (p)
		__atomic_fetch_sub((unsigned *)(uintptr_t)&g->pager_users, 1, __ATOMIC_SEQ_CST);
}

void gmem_set_pager(struct gmem *g, const struct gmem_pager *p)
{
	__atomic_store_n(&g->pager, p, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&g->pager_users, __ATOMIC_SEQ_CST)) /* it has all that they wait for: moments */
		task_sleep_until(time_ns() + 20 * NS_PER_US);
}

/* What is no RAM is not to come: who touches it finds out. */
static bool is_absent(const struct gmem *g, const struct gmem_pager *p, gfn_t f)
{
	return gmem_is_ram(g, f << PAGE_SHIFT) && !p->here(p->arg, f);
}

int gmem_wait(const struct gmem *g, gpa_t gpa, size_t len)
{
	const struct gmem_pager *p = pager_get(g);
	int err = 0;
	for (gfn_t f = gpa >> PAGE_SHIFT; p && len && !err && f <= (gpa + len - 1) >> PAGE_SHIFT; f++)
		if (is_absent(g, p, f))
			err = p->fetch(p->arg, f);
	pager_put(g, p);
	return err;
}

void gmem_end_waits(const struct gmem *g)
{
	const struct gmem_pager *p = pager_get(g);
	if (p && p->end)
		p->end(p->arg);
	pager_put(g, p);
}

bool gmem_is_here(const struct gmem *g, gpa_t gpa, size_t len)
{
	const struct gmem_pager *p = pager_get(g);
	bool here = true;
	for (gfn_t f = gpa >> PAGE_SHIFT; p && len && here && f <= (gpa + len - 1) >> PAGE_SHIFT; f++)
		here = !is_absent(g, p, f);
	pager_put(g, p);
	return here;
}

static bool lost_here(void *arg unused, gfn_t gfn unused) { return false; }
static int lost_fetch(void *arg unused, gfn_t gfn unused) { return -ECANCELED; }
const struct gmem_pager gmem_lost = { .here = lost_here, .fetch = lost_fetch };

/* Pieces of [gpa, gpa+len) that lie in one block each. */
static int gmem_copy(const struct gmem *g, gpa_t gpa, void *buf, size_t len, bool to_guest)
{
	char *b = buf;
	while (len) {
		size_t n = MIN(len, GMEM_BLOCK - (gpa & (GMEM_BLOCK - 1)));
		struct gmem_pin pin;
		int err = gmem_pin_wait(g, gpa, n, to_guest ? GMEM_WRITE : GMEM_READ, &pin);
		if (err)
			return err;
		memcpy(to_guest ? pin.p : b, to_guest ? b : pin.p, n);
		gmem_unpin(g, &pin);
		gpa += n;
		b += n;
		len -= n;
	}
	return 0;
}

int gmem_read(const struct gmem *g, gpa_t gpa, void *buf, size_t len) { return gmem_copy(g, gpa, buf, len, false); }

int gmem_write(struct gmem *g, gpa_t gpa, const void *buf, size_t len)
{
	return gmem_copy(g, gpa, (void *)(uintptr_t)buf, len, true);
}

void gmem_make_executable(struct gmem *g, gpa_t gpa)
{
	if (!g->pt.fmt->later_x)
		return;
	mutex_lock(&g->lock);
	uint64_t before = g->pt.ntables;
	BUG_ON(pt_split_page(&g->pt, gpa)); /* tables_max */
	bool split = g->pt.ntables != before;
	__atomic_store_n(&g->splits, g->splits + split, __ATOMIC_RELAXED);
	mutex_unlock(&g->lock);
	if (split)
		gmem_flush(g); /* SDM 3C, guidelines for INVEPT: what is cached of a table entry that was a leaf */
}

/* ---- what the hypervisor writes ---- */

/*
 * The bit is set before `written` is looked at, and a harvest clears `written` before it looks at the bits: so what it
 * misses makes `written` true for the next.
 */
void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len)
{
	if (!len)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* data before mark */
	for (gfn_t f = gpa >> PAGE_SHIFT; f <= (gpa + len - 1) >> PAGE_SHIFT; f++) {
		if (!gmem_is_ram(g, f << PAGE_SHIFT))
			continue;
		struct gmem_gib *q = gmem_gib_at(g, f << PAGE_SHIFT);
		bitmap_set_atomic(q->soft, f - q->first);
		if (!__atomic_load_n(&q->written, __ATOMIC_SEQ_CST))
			__atomic_store_n(&q->written, true, __ATOMIC_SEQ_CST);
	}
}
