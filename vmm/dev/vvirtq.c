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

/* 16-bit fields are aligned, so they never cross a block. False if it is not RAM. */
static bool load16(const struct vvirtq *q, gpa_t gpa, uint16_t *v)
{
	const uint16_t *p = gmem_ptr(q->mem, gpa, 2);

	if (p)
		*v = __atomic_load_n(p, __ATOMIC_ACQUIRE);
	return p;
}

static bool store16(struct vvirtq *q, gpa_t gpa, uint16_t v)
{
	uint16_t *p = gmem_ptr(q->mem, gpa, 2);

	if (!p)
		return false;
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	gmem_dirty(q->mem, gpa, 2);
	return true;
}

/* ---- taking buffers ---- */

/* A descriptor table is 16-byte aligned when it is the queue's own; an indirect one may lie anywhere. */
static bool load_desc(const struct vvirtq *q, gpa_t gpa, struct vring_desc *d)
{
	const volatile uint64_t *p;
	uint64_t w[2];

	if (gpa & 7)
		return !gmem_read(q->mem, gpa, d, sizeof(*d));
	for (unsigned i = 0; i < 2; i++) {
		p = gmem_ptr(q->mem, gpa + 8 * i, 8);
		if (!p)
			return false;
		w[i] = *p;
	}
	*d = (struct vring_desc){ w[0], (uint32_t)w[1], (uint16_t)(w[1] >> 32), (uint16_t)(w[1] >> 48) };
	return true;
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
		struct vvirtq_seg *s = &c->seg[c->nout + c->nin];
		uint8_t *p = gmem_ptr(q->mem, gpa, len);
		bool first = in ? !c->nin : !c->nout;

		if (!p)
			return broken(q, "a descriptor points outside memory");
		if (!first && s[-1].p + s[-1].len == p && s[-1].gpa + s[-1].len == gpa) {
			s[-1].len += len;
		} else {
			if (c->nout + c->nin == VIRTQ_SEGS_MAX)
				return broken(q, "a chain of too many segments");
			*s = (struct vvirtq_seg){ p, gpa, len };
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
		if (!load_desc(q, table + 16UL * i, &d))
			return broken(q, "a descriptor table outside memory");
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
		err = chain_add(q, c, &d);
		if (err || !(d.flags & VIRTQ_DESC_NEXT))
			return err;
		i = d.next;
		n++;
	}
	return broken(q, "a chain longer than the queue");
}

int vvirtq_pop(struct vvirtq *q, struct vvirtq_chain *c)
{
	struct vvirtq_state *s = q->s;
	uint16_t idx, head;
	int err;

	if (!load16(q, s->avail + RING_IDX, &idx))
		return broken(q, "the avail ring is outside memory");
	if (idx == s->last_avail)
		return 0;
	if ((uint16_t)(idx - s->last_avail) > s->size)
		return broken(q, "the avail index jumped");
	if (!load16(q, s->avail + RING_ENTRIES + AVAIL_ENTRY * (s->last_avail & (s->size - 1U)), &head))
		return broken(q, "the avail ring is outside memory");
	c->head = head;
	c->nout = c->nin = c->rseg = c->wseg = 0;
	c->out_len = c->in_len = c->roff = c->woff = 0;
	err = chain_walk(q, c, head);
	if (err)
		return err;
	s->last_avail++;
	return 1;
}

void vvirtq_unpop(struct vvirtq *q, unsigned n) { q->s->last_avail = (uint16_t)(q->s->last_avail - n); }

/* ---- giving them back ---- */

int vvirtq_put(struct vvirtq *q, unsigned i, uint16_t head, uint32_t len)
{
	gpa_t gpa = q->s->used + RING_ENTRIES + USED_ENTRY * ((q->s->used_idx + i) & (q->s->size - 1U));
	uint32_t *id = gmem_ptr(q->mem, gpa, 4), *n = gmem_ptr(q->mem, gpa + 4, 4); /* may lie in two blocks */

	if (!id || !n)
		return broken(q, "the used ring is outside memory");
	__atomic_store_n(id, head, __ATOMIC_RELAXED);
	__atomic_store_n(n, len, __ATOMIC_RELAXED);
	gmem_dirty(q->mem, gpa, USED_ENTRY);
	return 0;
}

int vvirtq_publish(struct vvirtq *q, unsigned n)
{
	uint16_t idx = (uint16_t)(q->s->used_idx + n);

	if (!store16(q, q->s->used + RING_IDX, idx))
		return broken(q, "the used ring is outside memory");
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
	if (!q->event_idx)
		return load16(q, s->avail + RING_FLAGS, &v) && !(v & VIRTQ_AVAIL_NO_INTERRUPT);
	/* Did we pass used_event since we last told? (2.7.10) */
	return load16(q, s->avail + RING_ENTRIES + AVAIL_ENTRY * s->size, &v) &&
	       (uint16_t)(s->used_idx - v - 1) < (uint16_t)(s->used_idx - old);
}

void vvirtq_quiet(struct vvirtq *q)
{
	/* With the event index silence is what one gets without moving avail_event. */
	if (!q->event_idx)
		(void)store16(q, q->s->used + RING_FLAGS, VIRTQ_USED_NO_NOTIFY);
}

bool vvirtq_listen(struct vvirtq *q)
{
	struct vvirtq_state *s = q->s;
	uint16_t idx = s->last_avail;

	if (q->event_idx)
		(void)store16(q, s->used + RING_ENTRIES + USED_ENTRY * s->size, s->last_avail);
	else
		(void)store16(q, s->used + RING_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	(void)load16(q, s->avail + RING_IDX, &idx);
	return idx != s->last_avail;
}

/* ---- a buffer's bytes ---- */

size_t vvirtq_chain_read(struct vvirtq_chain *c, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len && c->rseg < c->nout) {
		const struct vvirtq_seg *s = &c->seg[c->rseg];
		size_t n = MIN(len, (size_t)(s->len - c->roff));

		memcpy(to, s->p + c->roff, n);
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

size_t vvirtq_chain_write(struct vvirtq *q, struct vvirtq_chain *c, const void *buf, size_t len)
{
	const uint8_t *from = buf;

	while (len && c->wseg < c->nin) {
		const struct vvirtq_seg *s = &c->seg[c->nout + c->wseg];
		size_t n = MIN(len, (size_t)(s->len - c->woff));

		memcpy(s->p + c->woff, from, n);
		gmem_dirty(q->mem, s->gpa + c->woff, n);
		from += n;
		len -= n;
		c->woff += (uint32_t)n;
		if (c->woff == s->len) {
			c->wseg++;
			c->woff = 0;
		}
	}
	return (size_t)(from - (const uint8_t *)buf);
}

struct vvirtq_seg vvirtq_chain_at(const struct vvirtq_chain *c, uint32_t off)
{
	for (unsigned i = c->nout; i < c->nout + c->nin; i++) {
		const struct vvirtq_seg *s = &c->seg[i];

		if (off < s->len)
			return (struct vvirtq_seg){ s->p + off, s->gpa + off, 1 };
		off -= s->len;
	}
	return (struct vvirtq_seg){ 0 };
}
