/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Split virtqueues (vvirtq.h). Rings are reached by gpa at each access: no host pointer outlives a call, so nothing
 * has to be rebuilt after a migration. The order of memory accesses, and with whom each pairs:
 *
 *   avail.idx load (acquire)      the driver's store of ring entry, then idx
 *   used.ring, used.idx (release) the driver's load of idx, then entry
 *   used.idx, full fence, used_event / flags      the driver's store of used_event, fence, load of used.idx
 *   avail_event, full fence, avail.idx            the driver's store of avail.idx, fence, load of avail_event
 */
#include "vmm/dev/vvirtq.h"
#include "arch/x86/hw/virtio.h"
#include <string.h>

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
/* Offsets in avail and used. */
enum { RING_FLAGS = 0, RING_IDX = 2, RING_ENTRIES = 4, AVAIL_ENTRY = 2, USED_ENTRY = 8 };

static int broken(struct vvirtq *q, const char *why)
{
	q->why = why;
	return -EPROTO;
}

bool vvirtq_is_sane(const struct vvirtq_state *s)
{
	uint64_t last = ~0UL - 16 * VIRTQ_SIZE_MAX; /* no part wraps around */

	return s->size && s->size <= VIRTQ_SIZE_MAX && !(s->size & (s->size - 1)) && !(s->desc & 15) &&
	       !(s->avail & 1) && !(s->used & 3) && s->desc < last && s->avail < last && s->used < last;
}

static int absent(struct vvirtq *q, gpa_t gpa, size_t len)
{
	q->absent = gpa;
	q->absent_len = len;
	return -EAGAIN;
}

int vvirtq_wait(const struct vvirtq *q) { return gmem_wait(q->mem, q->absent, q->absent_len); }

/* Memory of one block, to be unpinned: 0, -EPROTO (why), -EAGAIN. */
static inline int pin(struct vvirtq *q, gpa_t gpa, size_t len, enum gmem_access a, struct gmem_pin *p, const char *why)
{
	int err = gmem_pin(q->mem, gpa, len, a, p);
	return !err ? 0 : err == -EAGAIN ? absent(q, gpa, len) : broken(q, why);
}

/* 16-bit fields are aligned, so they never cross a block. */
static int load16(struct vvirtq *q, gpa_t gpa, uint16_t *v, const char *why)
{
	struct gmem_pin p;
	int err = pin(q, gpa, 2, GMEM_READ, &p, why);
	if (err)
		return err;
	*v = __atomic_load_n((const uint16_t *)p.p, __ATOMIC_ACQUIRE);
	gmem_unpin(q->mem, &p);
	return 0;
}

static int store16(struct vvirtq *q, gpa_t gpa, uint16_t v)
{
	struct gmem_pin p;
	int err = pin(q, gpa, 2, GMEM_WRITE, &p, "the used ring is outside memory");
	if (err)
		return err;
	__atomic_store_n((uint16_t *)p.p, v, __ATOMIC_RELEASE);
	gmem_unpin(q->mem, &p);
	return 0;
}

/* ---- taking buffers ---- */

/* A descriptor table is 16-byte aligned when it is the queue's own; an indirect one may lie anywhere. */
static int load_desc(struct vvirtq *q, gpa_t gpa, struct vring_desc *d)
{
	unsigned step = gpa & 7 ? 1 : 8; /* what surely lies in one block */

	for (unsigned i = 0; i < sizeof(*d); i += step) {
		struct gmem_pin p;
		int err = pin(q, gpa + i, step, GMEM_READ, &p, "a descriptor table outside memory");
		if (err)
			return err;
		if (step == 8)
			((uint64_t *)d)[i / 8] = *(const volatile uint64_t *)p.p;
		else
			((uint8_t *)d)[i] = *(const volatile uint8_t *)p.p;
		gmem_unpin(q->mem, &p);
	}
	return 0;
}

/* Append the memory of d, cut where blocks of guest memory end and joined where the host's addresses go on. */
static int chain_add(struct vvirtq *q, struct vvirtq_chain *c, const struct vring_desc *d)
{
	bool in = d->flags & VIRTQ_DESC_WRITE;
	uint32_t *total = in ? &c->in_len : &c->out_len, left = d->len;
	gpa_t gpa = d->addr;

	if (!in && c->nin)
		return broken(q, "a readable descriptor after a writable one");
	if (!left || gpa + left < gpa)
		return broken(q, left ? "a descriptor wraps around the address space" : "a descriptor of no bytes");
	if (*total + left < *total)
		return broken(q, "a chain of 4 GiB or more");
	*total += left;
	while (left) {
		uint32_t len = (uint32_t)MIN(left, GMEM_BLOCK - (gpa & (GMEM_BLOCK - 1)));
		struct gmem_pin *s = &c->seg[c->nout + c->nin], p;
		bool first = in ? !c->nin : !c->nout;
		int err = pin(q, gpa, len, in ? GMEM_WRITE : GMEM_READ, &p, "a descriptor points outside memory");

		if (err)
			return err;
		if (!first && (char *)s[-1].p + s[-1].len == p.p && s[-1].gpa + s[-1].len == gpa) {
			s[-1].len += len;
		} else {
			if (c->nout + c->nin == VIRTQ_SEGS_MAX)
				return broken(q, "a chain of too many segments");
			*s = p;
			*(in ? &c->nin : &c->nout) += 1;
		}
		gpa += len;
		left -= len;
	}
	return 0;
}

/* Follow the chain from index i of the table; at most as many descriptors as the queue has (2.7.5). */
static int chain_walk(struct vvirtq *q, struct vvirtq_chain *c, uint16_t i)
{
	gpa_t table = q->s->desc;
	uint32_t entries = q->s->size;
	bool in_indirect = false;
	struct vring_desc d;
	int err;

	for (unsigned n = 0; n < q->s->size;) {
		if (i >= entries)
			return broken(q, "a descriptor index out of range");
		err = load_desc(q, table + 16UL * i, &d);
		if (err)
			return err;
		if (d.flags & VIRTQ_DESC_INDIRECT) {
			if (!q->indirect || in_indirect || d.flags & VIRTQ_DESC_NEXT)
				return broken(q, "an indirect descriptor where none may be");
			if (!d.len || d.len % 16 || d.addr + d.len < d.addr)
				return broken(q, "an indirect table of a bad size");
			table = d.addr;
			entries = MIN(d.len / 16, 0x10000U);
			in_indirect = true;
			i = 0;
			continue; /* at most once: not counted */
		}
		c->ndesc++;
		err = chain_add(q, c, &d);
		if (err || !(d.flags & VIRTQ_DESC_NEXT))
			return err;
		i = d.next;
		n++;
	}
	return broken(q, "a chain longer than the queue");
}

/* With its used element and the rest of the used ring, so that a buffer that was taken can be given back. */
static int look(struct vvirtq *q, uint16_t *head)
{
	struct vvirtq_state *s = q->s;
	size_t used = RING_ENTRIES + USED_ENTRY * s->size + 2;
	uint16_t idx;
	int err = load16(q, s->avail + RING_IDX, &idx, "the avail ring is outside memory");

	if (err)
		return err;
	if (idx == s->last_avail)
		return 0;
	if ((uint16_t)(idx - s->last_avail) > s->size)
		return broken(q, "the avail index jumped");
	if (!gmem_is_here(q->mem, s->used, used))
		return absent(q, s->used, used);
	err = load16(q, s->avail + RING_ENTRIES + AVAIL_ENTRY * (s->last_avail & (s->size - 1U)), head,
		     "the avail ring is outside memory");
	return err ? err : 1;
}

int vvirtq_pop(struct vvirtq *q, struct vvirtq_chain *c)
{
	uint16_t head;
	int err = look(q, &head);

	if (err <= 0)
		return err;
	c->head = head;
	c->nout = c->nin = c->ndesc = c->rseg = c->wseg = c->dseg = 0;
	c->out_len = c->in_len = c->roff = c->woff = c->doff = 0;
	err = chain_walk(q, c, head);
	if (err)
		return err;
	q->s->last_avail++;
	return 1;
}

void vvirtq_chain_mark(struct vvirtq *q, struct vvirtq_chain *c)
{
	for (; c->dseg < c->nin && c->dseg <= c->wseg; c->dseg++, c->doff = 0) {
		const struct gmem_pin *s = &c->seg[c->nout + c->dseg];
		size_t end = c->dseg == c->wseg ? c->woff : s->len;
		gmem_dirty(q->mem, s->gpa + c->doff, end - c->doff);
		if (c->dseg == c->wseg)
			break;
	}
	c->doff = c->woff;
}

void vvirtq_release(struct vvirtq *q, struct vvirtq_chain *c)
{
	vvirtq_chain_mark(q, c); /* those that nothing was written to are as they were */
	c->nout = c->nin = 0;
}

void vvirtq_unpop(struct vvirtq *q, unsigned n) { q->s->last_avail = (uint16_t)(q->s->last_avail - n); }

/* ---- giving them back ---- */

int vvirtq_put(struct vvirtq *q, unsigned i, uint16_t head, uint32_t len)
{
	gpa_t gpa = q->s->used + RING_ENTRIES + USED_ENTRY * ((q->s->used_idx + i) & (q->s->size - 1U));
	const uint32_t val[2] = { head, len };

	for (unsigned k = 0; k < 2; k++) { /* may lie in two blocks */
		struct gmem_pin p;
		int err = pin(q, gpa + 4 * k, 4, GMEM_WRITE, &p, "the used ring is outside memory");
		if (err)
			return err;
		__atomic_store_n((uint32_t *)p.p, val[k], __ATOMIC_RELAXED);
		gmem_unpin(q->mem, &p);
	}
	return 0;
}

int vvirtq_publish(struct vvirtq *q, unsigned n)
{
	uint16_t idx = (uint16_t)(q->s->used_idx + n);

	int err = store16(q, q->s->used + RING_IDX, idx);
	if (err)
		return err;
	q->s->used_idx = idx;
	return 0;
}

bool vvirtq_must_signal(struct vvirtq *q)
{
	struct vvirtq_state *s = q->s;
	uint16_t old = s->signalled, v = 0;

	if (s->used_idx == old)
		return false;
	s->signalled = s->used_idx;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	int err = load16(q, q->event_idx ? s->avail + RING_ENTRIES + AVAIL_ENTRY * s->size : s->avail + RING_FLAGS, &v,
			 "the avail ring is outside memory");
	if (err)
		return err == -EAGAIN; /* what it wishes is not here: one signal too many does no harm */
	if (!q->event_idx)
		return !(v & VIRTQ_AVAIL_NO_INTERRUPT);
	/* Did we pass used_event since we last told? (2.7.10) */
	return (uint16_t)(s->used_idx - v - 1) < (uint16_t)(s->used_idx - old);
}

void vvirtq_quiet(struct vvirtq *q)
{
	/* With the event index silence is what one gets without moving avail_event. */
	if (!q->event_idx)
		(void)store16(q, q->s->used + RING_FLAGS, VIRTQ_USED_NO_NOTIFY);
}

bool vvirtq_listen(struct vvirtq *q, unsigned n)
{
	struct vvirtq_state *s = q->s;
	uint16_t known = (uint16_t)(s->last_avail + n), idx = known;

	if (q->event_idx)
		(void)store16(q, s->used + RING_ENTRIES + USED_ENTRY * s->size, known);
	else
		(void)store16(q, s->used + RING_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (load16(q, s->avail + RING_IDX, &idx, "the avail ring is outside memory") == -EAGAIN)
		return true; /* vvirtq_pop says so again, and what to do */
	return idx != known;
}

/* ---- a buffer's bytes ---- */

size_t vvirtq_chain_read(struct vvirtq_chain *c, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len && c->rseg < c->nout) {
		const struct gmem_pin *s = &c->seg[c->rseg];
		size_t n = MIN(len, (size_t)(s->len - c->roff));

		memcpy(to, (const char *)s->p + c->roff, n);
		to += n;
		len -= n;
		c->roff += (uint32_t)n;
		if (c->roff == s->len) {
			c->rseg++;
			c->roff = 0;
		}
	}
	return (size_t)(to - (uint8_t *)buf);
}

/* n bytes to the write part, or NULL: they are there. How many there was room for. */
static size_t chain_fill(struct vvirtq_chain *c, const uint8_t *from, size_t len)
{
	size_t done = 0;

	while (done < len && c->wseg < c->nin) {
		const struct gmem_pin *s = &c->seg[c->nout + c->wseg];
		size_t n = MIN(len - done, (size_t)(s->len - c->woff));

		if (from)
			memcpy((char *)s->p + c->woff, from + done, n);
		done += n;
		c->woff += (uint32_t)n;
		if (c->woff == s->len) {
			c->wseg++;
			c->woff = 0;
		}
	}
	return done;
}

size_t vvirtq_chain_write(struct vvirtq_chain *c, const void *buf, size_t len) { return chain_fill(c, buf, len); }

void vvirtq_chain_wrote(struct vvirtq_chain *c, size_t len) { (void)chain_fill(c, NULL, len); }

void vvirtq_chain_skip(struct vvirtq *q, struct vvirtq_chain *c, size_t len)
{
	vvirtq_chain_mark(q, c);
	(void)chain_fill(c, NULL, len);
	c->dseg = c->wseg;
	c->doff = c->woff;
}

gpa_t vvirtq_chain_at(const struct vvirtq_chain *c, uint32_t off)
{
	for (unsigned i = c->nout; i < c->nout + c->nin; i++) {
		const struct gmem_pin *s = &c->seg[i];

		if (off < s->len)
			return s->gpa + off;
		off -= (uint32_t)s->len;
	}
	return ~(gpa_t)0;
}

bool vvirtq_poke(struct vvirtq *q, gpa_t gpa, uint8_t v)
{
	struct gmem_pin p;
	if (pin(q, gpa, 1, GMEM_WRITE, &p, "a receive buffer is outside memory"))
		return false;
	*(uint8_t *)p.p = v;
	gmem_unpin(q->mem, &p);
	return true;
}
