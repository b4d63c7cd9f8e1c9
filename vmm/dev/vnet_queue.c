/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring of frames (vnet_queue.h): each a header and its bytes, in one piece. One that would go over the end begins
 * anew, and a header of no bytes says so.
 */
#include "vmm/dev/vnet_queue.h"
#include <stdlib.h>

struct entry {
	uint32_t len;
	uint8_t flags, gso;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
	uint16_t reserved;
};
#define UNIT sizeof(struct entry) /* all lengths are multiples of it, so a header always fits */
_Static_assert(VNET_QUEUE_SIZE % UNIT == 0 && VNET_QUEUE_SIZE >= 2 * (FRAME_MAX + 2 * UNIT), "room for the largest");

static struct entry *entry_at(struct vnet_queue *q, uint64_t pos)
{
	return (struct entry *)(void *)(q->buf + pos % VNET_QUEUE_SIZE);
}

static uint64_t space(uint32_t len) { return UNIT + ALIGN_UP((uint64_t)len, UNIT); }

int vnet_queue_init(struct vnet_queue *q)
{
	spin_init(&q->lock, "vnet queue");
	q->head = q->tail = q->expired = 0;
	q->buf = malloc(VNET_QUEUE_SIZE);
	return q->buf ? 0 : -ENOMEM;
}

void vnet_queue_fini(struct vnet_queue *q) { free(q->buf); }

int vnet_queue_put(struct vnet_queue *q, const struct frame *f)
{
	uint64_t need = space(f->len);
	if (!f->len || f->len > FRAME_MAX)
		return -ENOBUFS;
	spin_lock(&q->lock);
	uint64_t left = VNET_QUEUE_SIZE - q->tail % VNET_QUEUE_SIZE, skip = left < need ? left : 0;
	bool fits = q->tail - q->head + skip + need <= VNET_QUEUE_SIZE;
	if (fits) {
		if (skip)
			entry_at(q, q->tail)->len = 0;
		q->tail += skip;
		struct entry *e = entry_at(q, q->tail);
		*e = (struct entry){ .len = f->len,
				     .flags = f->flags,
				     .gso = f->gso,
				     .hdr_len = f->hdr_len,
				     .gso_size = f->gso_size,
				     .csum_start = f->csum_start,
				     .csum_offset = f->csum_offset };
		(void)frame_copy_out(f, 0, e + 1, f->len);
		q->tail += need;
	}
	spin_unlock(&q->lock);
	return fits ? 0 : -ENOBUFS;
}

/* One fewer than there might be: where the ring begins anew bytes are left over. */
unsigned vnet_queue_room(struct vnet_queue *q, uint32_t len)
{
	spin_lock(&q->lock);
	uint64_t fit = (VNET_QUEUE_SIZE - (q->tail - q->head)) / space(len);
	spin_unlock(&q->lock);
	return fit ? (unsigned)fit - 1 : 0;
}

uint64_t vnet_queue_used(struct vnet_queue *q)
{
	spin_lock(&q->lock);
	uint64_t used = q->tail - MAX(q->head, q->expired);
	spin_unlock(&q->lock);
	return used;
}

bool vnet_queue_first(struct vnet_queue *q, struct frame *f)
{
	spin_lock(&q->lock);
	q->head = MAX(q->head, q->expired);
	if (q->head != q->tail && !entry_at(q, q->head)->len)
		q->head += VNET_QUEUE_SIZE - q->head % VNET_QUEUE_SIZE;
	bool any = q->head != q->tail;
	if (any) {
		struct entry *e = entry_at(q, q->head);
		frame_init_flat(f, e + 1, e->len);
		f->flags = e->flags;
		f->gso = e->gso;
		f->hdr_len = e->hdr_len;
		f->gso_size = e->gso_size;
		f->csum_start = e->csum_start;
		f->csum_offset = e->csum_offset;
	}
	spin_unlock(&q->lock);
	return any;
}

void vnet_queue_drop(struct vnet_queue *q)
{
	spin_lock(&q->lock);
	q->head += space(entry_at(q, q->head)->len);
	spin_unlock(&q->lock);
}

void vnet_queue_expire(struct vnet_queue *q)
{
	spin_lock(&q->lock);
	q->expired = q->tail;
	spin_unlock(&q->lock);
}
