/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One pair of rings of a virtio-net card (virtio_net.h), with mergeable receive buffers.
 *
 * Receiving: descriptor i is page i for ever; a frame spans as many pages as it needs. Sending: frames are copied,
 * header first, into a ring of bytes and so are contiguous but for the wrap, where a second descriptor goes on:
 *
 *     tx buffer   |...free...|hdr frame|hdr frame fra|   and what is done is taken back at the next send
 *                            tail                    head
 */
#include "kernel/base/hva.h"
#include "arch/x86/hw/virtio.h"
#include "drivers/virtio_net.h"
#include "kernel/page.h"
#include <string.h>

#define TX_RESERVE 4U /* descriptors, and as many pages, for control frames alone */

struct net_hdr { /* 5.1.6; little-endian, as this machine is */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/* ---- receiving ---- */

static void rx_repost(struct virtio_pair *p, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint32_t id = virtq_used_at(&p->rx, p->rx.used_idx++)->id;
		if (id < p->rx.size) /* else the card is broken: that buffer is lost, memory is not */
			virtq_push(&p->rx, (uint16_t)id);
	}
}

/* Describe the frame that begins at the next used entry. Returns how many buffers it has; 0: not all are there yet. */
static unsigned rx_gather(struct virtio_pair *p, struct frame *f, bool *bad)
{
	const struct virtq *q = &p->rx;
	uint16_t there = (uint16_t)(__atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) - q->used_idx);
	const struct virtq_used_elem *e = virtq_used_at(q, q->used_idx);
	*bad = true;
	if (e->id >= q->size || e->len < sizeof(struct net_hdr) + FRAME_MIN || e->len > PAGE_SIZE)
		return 1;
	const struct net_hdr *h = (const void *)(p->rx_buf + e->id * PAGE_SIZE);
	unsigned count = p->card->dev.features & VIRTIO_NET_F_MRG_RXBUF ? h->num_buffers : 1;
	if (count == 0 || count > FRAME_IOV_IN)
		return 1;
	if (count > there)
		return 0;
	f->niov = count;
	f->len = 0;
	for (unsigned i = 0; i < count; i++) {
		e = virtq_used_at(q, (uint16_t)(q->used_idx + i));
		if (e->id >= q->size || e->len > PAGE_SIZE)
			return count;
		size_t skip = i == 0 ? sizeof(*h) : 0;
		f->iov[i] = (struct iov){ p->rx_buf + e->id * PAGE_SIZE + skip, e->len - skip };
		f->len += (uint32_t)f->iov[i].len;
	}
	f->flags = h->flags & (FRAME_NEEDS_CSUM | FRAME_DATA_VALID);
	f->gso = h->gso_type & (uint8_t)~VNET_GSO_ECN;
	f->hdr_len = h->hdr_len;
	f->gso_size = h->gso_size;
	f->csum_start = h->csum_start;
	f->csum_offset = h->csum_offset;
	*bad = f->len > FRAME_MAX ||
	       (f->gso != FRAME_GSO_NONE && f->gso != FRAME_GSO_TCPV4 && f->gso != FRAME_GSO_TCPV6) ||
	       (f->gso != FRAME_GSO_NONE && f->gso_size == 0);
	return count;
}

/*
 * QEMU until 9.1 that has found too few buffers for a frame, and looks once more, does not ask to be told of those that
 * came in between and were still too few, and waits for ever (its pull request 267). So whoever may have too few is
 * told.
 */
static void rx_offer(struct virtio_pair *p)
{
	uint16_t has = (uint16_t)(p->rx.published - __atomic_load_n(&p->rx.used[1], __ATOMIC_RELAXED));
	if (has <= FRAME_IOV_IN)
		virtq_offer_loud(&p->rx);
	else
		virtq_offer_done(&p->rx);
}

static bool pair_poll(struct nic_poll *poll, unsigned budget)
{
	struct virtio_pair *p = CONTAINER_OF(poll, struct virtio_pair, poll);
	struct nic *n = poll->n;
	virtq_irq_off(&p->rx);
	unsigned taken = 0;
	for (; taken < budget && virtq_has_used(&p->rx); taken++) {
		struct frame f;
		bool bad;
		unsigned count = rx_gather(p, &f, &bad);
		if (!count) /* not all of its buffers are there yet */
			break;
		if (bad) {
			nic_count(&n->stats.rx_dropped, 1);
		} else {
			nic_count(&n->stats.rx_frames, 1);
			nic_count(&n->stats.rx_bytes, f.len);
			if (n->rx)
				n->rx(n->rx_arg, &f);
		}
		rx_repost(p, count);
		if (taken % 16 == 15) /* the card must not run dry while a long burst is worked off */
			rx_offer(p);
	}
	rx_offer(p);
	return taken == budget;
}

static bool pair_rearm(struct nic_poll *poll)
{
	return virtq_irq_on(&CONTAINER_OF(poll, struct virtio_pair, poll)->rx);
}

/* ---- sending ---- */

static void tx_reclaim(struct virtio_pair *p)
{
	while (virtq_has_used(&p->tx)) {
		uint32_t id = virtq_used_at(&p->tx, p->tx.used_idx++)->id;
		if (id < p->tx.size)
			p->packet[id].done = true;
	}
	for (uint16_t tail = (uint16_t)(p->tx_desc + p->tx_free) & p->tx.mask;
	     p->tx_free < p->tx.size && p->packet[tail].done;) {
		struct tx_packet *t = &p->packet[tail];
		t->done = false;
		p->tx_tail += t->bytes;
		p->tx_free = (uint16_t)(p->tx_free + t->ndesc);
		tail = (uint16_t)(tail + t->ndesc) & p->tx.mask;
	}
	virtq_irq_off(&p->tx);
}

/* Copy n bytes to position `at` of the transmit buffer, around its end if need be. */
static uint32_t tx_put(struct virtio_pair *p, uint32_t at, const void *src, size_t n)
{
	uint32_t off = at % p->tx_bytes, first = (uint32_t)MIN(n, p->tx_bytes - off);
	memcpy(p->tx_buf + off, src, first);
	if (first < n)
		memcpy(p->tx_buf, (const uint8_t *)src + first, n - first);
	return at + (uint32_t)n;
}

static void tx_desc_set(struct virtio_pair *p, uint16_t i, uint32_t off, uint32_t len, bool more)
{
	p->tx.desc[i] = (struct virtq_desc){ .addr = hpa_of(p->tx_buf + off),
					     .len = len,
					     .flags = more ? VIRTQ_DESC_NEXT : 0,
					     .next = (uint16_t)(i + 1) & p->tx.mask };
}

static int tx_locked(struct virtio_pair *p, const struct frame *f)
{
	uint32_t len = (uint32_t)sizeof(struct net_hdr) + f->len, room = ALIGN_UP(len, 64U);
	tx_reclaim(p);
	if (p->tx_free < 2 + (f->flags & FRAME_CONTROL ? 0 : TX_RESERVE) ||
	    p->tx_bytes - (p->tx_head - p->tx_tail) < room + (f->flags & FRAME_CONTROL ? 0 : TX_RESERVE * PAGE_SIZE))
		return -ENOBUFS;
	struct net_hdr h = { 0 };
	if (f->flags & FRAME_NEEDS_CSUM)
		h = (struct net_hdr){ .flags = FRAME_NEEDS_CSUM,
				      .csum_start = f->csum_start,
				      .csum_offset = f->csum_offset };
	if (f->gso != FRAME_GSO_NONE) {
		h.gso_type = f->gso;
		h.gso_size = f->gso_size;
		h.hdr_len = f->hdr_len;
	}
	uint32_t at = tx_put(p, p->tx_head, &h, sizeof(h));
	for (unsigned i = 0; i < f->niov; i++)
		at = tx_put(p, at, f->iov[i].base, f->iov[i].len);
	/* Header and frame lie in the ring of bytes in one piece, or in two where it wraps. */
	uint16_t head = p->tx_desc, ndesc = 1;
	uint32_t off = p->tx_head % p->tx_bytes, first = (uint32_t)MIN((uint64_t)len, p->tx_bytes - off);
	tx_desc_set(p, head, off, first, first < len);
	if (first < len) {
		tx_desc_set(p, (uint16_t)(head + 1) & p->tx.mask, 0, len - first, false);
		ndesc = 2;
	}
	p->packet[head] = (struct tx_packet){ .bytes = room, .ndesc = (uint8_t)ndesc };
	p->tx_desc = (uint16_t)(head + ndesc) & p->tx.mask;
	p->tx_free = (uint16_t)(p->tx_free - ndesc);
	p->tx_head += room;
	virtq_push(&p->tx, head);
	virtq_offer_done(&p->tx);
	return 0;
}

int virtio_pair_tx(struct virtio_pair *p, const struct frame *f)
{
	spin_lock(&p->tx_lock);
	int err = tx_locked(p, f);
	spin_unlock(&p->tx_lock);
	return err;
}

unsigned virtio_pair_room(struct virtio_pair *p, size_t len)
{
	spin_lock(&p->tx_lock);
	tx_reclaim(p);
	/* One descriptor a frame, and one more where the buffer wraps. */
	uint32_t bytes = p->tx_bytes - (p->tx_head - p->tx_tail), descs = p->tx_free;
	spin_unlock(&p->tx_lock);
	if (descs < 2 + TX_RESERVE || bytes < TX_RESERVE * PAGE_SIZE)
		return 0;
	bytes -= TX_RESERVE * PAGE_SIZE;
	return MIN(descs - 2 - TX_RESERVE, bytes / (uint32_t)ALIGN_UP(len + sizeof(struct net_hdr), 64U));
}

/* ---- setting up ---- */

void virtio_pair_init(struct virtio_nic *v, unsigned n)
{
	struct virtio_pair *p = &v->pair[n];
	p->card = v;
	spin_init(&p->tx_lock, "virtio-net tx");
	nic_poll_init(&p->poll, &v->nic, pair_poll, pair_rearm);
}

int virtio_pair_make(struct virtio_pair *p, unsigned n, unsigned order, uint16_t vector)
{
	struct virtio_dev *dev = &p->card->dev;
	uint16_t number = (uint16_t)(2 * n), pages = (uint16_t)(1U << order);
	hpa_t rx = page_alloc(order), tx = page_alloc(order);
	int err = rx == HPA_NONE || tx == HPA_NONE ? -ENOMEM : virtq_init(dev, &p->rx, number, pages, vector);
	if (!err)
		err = virtq_init(dev, &p->tx, number + 1, VIRTIO_TX_MAX, VIRTIO_NO_VECTOR);
	if (err) {
		if (rx != HPA_NONE)
			page_free(rx, order);
		if (tx != HPA_NONE)
			page_free(tx, order);
		return err;
	}
	p->rx_buf = hva_of(rx);
	p->tx_buf = hva_of(tx);
	p->tx_bytes = (uint32_t)PAGE_SIZE << order;
	/* A page to each descriptor, for ever: buffer and descriptor have one number. */
	for (uint16_t i = 0; i < p->rx.size; i++) {
		p->rx.desc[i] =
			(struct virtq_desc){ .addr = rx + i * PAGE_SIZE, .len = PAGE_SIZE, .flags = VIRTQ_DESC_WRITE };
		virtq_push(&p->rx, i);
	}
	p->tx_free = p->tx.size;
	virtq_irq_off(&p->tx);
	return 0;
}

int virtio_pair_go(struct virtio_pair *p)
{
	virtq_offer_done(&p->rx);
	return nic_poll_start(&p->poll);
}
