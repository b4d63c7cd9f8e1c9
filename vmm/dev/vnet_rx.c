/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames for the guest (virtio 1.2, 5.1.6.4). vnet_rx, called in any task, puts them into a pair's queue: that of the
 * pair which last sent a frame of the same flow (automatic receive steering, 5.1.6.5.6). The pair's worker copies each
 * into as many buffers as it takes (MRG_RXBUF), under the pair's lock. One for which there are no buffers yet waits for
 * the driver's ring.
 */
#include "kernel/time.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_device.h"
#include <string.h>

unsigned vnet_offloads(const struct vnet *n)
{
	uint64_t f = __atomic_load_n(&n->v.s.driver_features, __ATOMIC_RELAXED);

	if (!(__atomic_load_n(&n->v.s.status, __ATOMIC_ACQUIRE) & VIRTIO_DRIVER_OK))
		return 0;
	return (f & VIRTIO_NET_F_GUEST_CSUM ? FRAME_TAKES_CSUM : 0) |
	       (f & VIRTIO_NET_F_GUEST_TSO4 ? FRAME_TAKES_TSO4 : 0) |
	       (f & VIRTIO_NET_F_GUEST_TSO6 ? FRAME_TAKES_TSO6 : 0);
}

/* A driver with buffers in its ring that are too few for a frame adds some within that, or has no more. */
#define RX_PATIENCE_NS (100 * NS_PER_MS)

/* Lock held. The bridge asked vnet_offloads(), but the driver may have been replaced since. */
static bool rx_offloads_ok(const struct vnet *n, const struct frame *f)
{
	unsigned takes = vnet_offloads(n);

	return (!(f->flags & FRAME_NEEDS_CSUM) || takes & FRAME_TAKES_CSUM) &&
	       (f->gso != FRAME_GSO_TCPV4 || takes & FRAME_TAKES_TSO4) &&
	       (f->gso != FRAME_GSO_TCPV6 || takes & FRAME_TAKES_TSO6);
}

static void rx_header(const struct vnet *n, const struct frame *f, uint8_t h[VNET_HDR_LEN])
{
	memset(h, 0, VNET_HDR_LEN);
	h[VNET_HDR_FLAGS] =
		f->flags & (vvirtio_has(&n->v, VIRTIO_NET_F_GUEST_CSUM) ? FRAME_NEEDS_CSUM | FRAME_DATA_VALID : 0);
	put_le16(h + VNET_HDR_BUFFERS, 1);
	if (f->flags & FRAME_NEEDS_CSUM) {
		h[VNET_HDR_FLAGS] &= ~FRAME_DATA_VALID;
		put_le16(h + VNET_HDR_CSUM_START, f->csum_start);
		put_le16(h + VNET_HDR_CSUM_OFFSET, f->csum_offset);
	}
	if (f->gso != FRAME_GSO_NONE) {
		h[VNET_HDR_GSO] = f->gso;
		put_le16(h + VNET_HDR_GSO_SIZE, f->gso_size);
		put_le16(h + VNET_HDR_HDR_LEN, f->hdr_len);
	}
}

/* Where a copy of header and frame has got to. */
struct rx_cursor {
	const struct frame *f;
	uint8_t hdr[VNET_HDR_LEN];
	uint32_t done; /* bytes, the header included */
	unsigned iov;
	size_t off; /* in iov */
};

static uint32_t rx_fill_chain(struct vvirtq_chain *c, struct rx_cursor *k)
{
	uint32_t before = k->done;
	size_t n = 1;

	if (k->done < VNET_HDR_LEN)
		k->done += (uint32_t)vvirtq_chain_write(c, k->hdr + k->done, VNET_HDR_LEN - k->done);
	while (n && k->done >= VNET_HDR_LEN && k->iov < k->f->niov) {
		const struct iov *v = &k->f->iov[k->iov];

		n = vvirtq_chain_write(c, (uint8_t *)v->base + k->off, v->len - k->off);
		k->done += (uint32_t)n;
		k->off += n;
		if (k->off == v->len) {
			k->iov++;
			k->off = 0;
			n = 1;
		}
	}
	return k->done - before;
}

/* num_buffers is known when the last one was filled. Its two bytes may lie anywhere. */
static int rx_patch(struct vvirtq *q, const gpa_t at[2], unsigned nbufs)
{
	for (unsigned i = 0; i < 2; i++)
		if (!vvirtq_poke(q, at[i], (uint8_t)(nbufs >> 8 * i)))
			return -EPROTO;
	return 0;
}

/*
 * Lock held. Nothing is published unless the whole frame fits: else the buffers go back to the ring's front. 0;
 * -ENOBUFS, the *known ones that there are will not do; -EAGAIN, memory is not here yet; -EMSGSIZE, it will never fit;
 * -ENETDOWN, the ring is broken.
 */
static int rx_deliver(struct vnet_pair *p, const struct frame *f, unsigned *known)
{
	struct vnet *n = p->n;
	struct vvirtq *q = &n->v.q[p->rx];
	struct vvirtq_chain *c = &p->rx_chain;
	unsigned max = vvirtio_has(&n->v, VIRTIO_NET_F_MRG_RXBUF) ? q->s->size : 1;
	struct rx_cursor k = { .f = f };
	gpa_t patch[2] = { 0 };
	unsigned nbufs = 0, ndesc = 0;
	int r;

	rx_header(n, f, k.hdr);
	while (k.done < VNET_HDR_LEN + f->len) {
		r = nbufs < max ? vvirtq_pop(q, c) : -EMSGSIZE;
		if (r > 0 && (c->nout || c->in_len < VNET_HDR_LEN)) {
			q->why = "a receive buffer with readable parts or without room for the header";
			r = -EPROTO;
		}
		if (r > 0 && (ndesc += c->ndesc) > VIRTQ_SIZE_MAX) { /* with the lock held */
			q->why = "receive buffers in too many small pieces";
			r = -EPROTO;
		}
		if (r == -EPROTO)
			vvirtio_break(&n->v, q->why);
		if (r <= 0) {
			vvirtq_unpop(q, nbufs);
			*known = nbufs;
			return !r ? -ENOBUFS : r == -EPROTO ? -ENETDOWN : r;
		}
		if (!nbufs)
			for (unsigned i = 0; i < 2; i++)
				patch[i] = vvirtq_chain_at(c, VNET_HDR_BUFFERS + i);
		p->rx_used[nbufs].head = c->head;
		p->rx_used[nbufs].len = rx_fill_chain(c, &k);
		vvirtq_release(q, c);
		nbufs++;
	}
	r = nbufs > 1 ? rx_patch(q, patch, nbufs) : 0;
	for (unsigned i = 0; i < nbufs && !r; i++)
		r = vvirtq_put(q, i, p->rx_used[i].head, p->rx_used[i].len);
	if (!r)
		r = vvirtq_publish(q, nbufs);
	if (r) {
		vvirtio_break(&n->v, q->why);
		return -ENETDOWN;
	}
	return 0;
}

/* The first frame of the queue. Lock held. 1: it has been dealt with; 0: the driver has to ring; -EAGAIN */
static int rx_one(struct vnet_pair *p, const struct frame *f)
{
	struct vnet *n = p->n;
	struct vvirtq *q = &n->v.q[p->rx];
	unsigned known = 0;
	int r = rx_offloads_ok(n, f) ? rx_deliver(p, f, &known) : -EINVAL;

	if (r == -EAGAIN)
		return r;
	if (r == -ENOBUFS && !vvirtq_listen(q, known)) {
		uint64_t now = time_ns();
		if (!p->rx_waits_ns)
			p->rx_waits_ns = now;
		if (!known || now - p->rx_waits_ns < RX_PATIENCE_NS)
			return 0;
		r = -EMSGSIZE;
	}
	if (r != -ENOBUFS) {
		p->rx_waits_ns = 0;
		vnet_queue_drop(&p->queue);
		if (r)
			n->wire.lost(n->wire.arg);
	}
	vvirtq_quiet(q);
	return 1;
}

bool vnet_rx_turn(struct vnet_pair *p)
{
	struct vnet *n = p->n;
	struct vvirtq *q = &n->v.q[p->rx];
	struct frame f;
	uint64_t end = time_ns() + VNET_TURN_NS;
	int r = 1;
	bool more = true;

	spin_lock(&p->lock);
	for (unsigned i = 0; more && r > 0 && i < VNET_TURN_FRAMES && time_ns() <= end; i++) {
		more = !vnet_stands_still(n) && vnet_queue_first(&p->queue, &f);
		if (more && vnet_has_ring(p, p->rx))
			r = rx_one(p, &f);
		else if (more)
			vnet_queue_expire(&p->queue);
		spin_unlock(&p->lock); /* for the vCPUs */
		spin_lock(&p->lock);
	}
	if (vnet_is_live(p, p->rx))
		vvirtio_signal(&n->v, p->rx);
	spin_unlock(&p->lock);
	return r == -EAGAIN ? !vvirtq_wait(q) : more && r > 0; /* an error is the VM's end */
}

/* Frames for one flow go to one of the pairs: so much room has any. */
unsigned vnet_room(struct vnet *n, size_t len)
{
	unsigned least = ~0U, pairs = vnet_pairs(n);

	for (unsigned i = 0; i < pairs; i++) {
		unsigned room = vnet_queue_room(&n->pair[i].queue, (uint32_t)len);
		if (!room)
			worker_kick(&n->pair[i].worker); /* as vnet_rx does */
		least = MIN(least, room);
	}
	return least;
}

static struct vnet_pair *pair_for(struct vnet *n, const struct frame *f)
{
	unsigned pairs = vnet_pairs(n), flow, at;

	if (pairs == 1)
		return n->pair;
	flow = frame_flow(f) % VNET_FLOWS;
	at = __atomic_load_n(&n->flow[flow], __ATOMIC_RELAXED);
	return &n->pair[(at ? at - 1 : flow) % pairs];
}

/* Of a card that stands still: no storm of broadcasts takes the room of what is for the guest alone. */
static bool has_place(struct vnet_pair *p, const struct frame *f)
{
	uint8_t first = 0;

	(void)frame_copy_out(f, 0, &first, 1);
	return !(first & 1) || vnet_queue_used(&p->queue) + f->len <= VNET_QUEUE_SIZE / 4;
}

int vnet_rx(struct vnet *n, const struct frame *f)
{
	uint8_t status = __atomic_load_n(&n->v.s.status, __ATOMIC_RELAXED);
	bool still = __atomic_load_n(&n->quiesced, __ATOMIC_RELAXED);

	if ((status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) != VIRTIO_DRIVER_OK ||
	    (still && !__atomic_load_n(&n->keeps, __ATOMIC_ACQUIRE) &&
	     __atomic_load_n(&n->quiesced, __ATOMIC_RELAXED))) /* once more: it may have gone on in between */
		return -ENETDOWN;
	struct vnet_pair *p = pair_for(n, f);
	int r = !still || has_place(p, f) ? vnet_queue_put(&p->queue, f) : -ENOBUFS;
	/* If there is no room, too: it may have been waiting for what will not come. Who resumes it kicks then. */
	if (!__atomic_load_n(&n->quiesced, __ATOMIC_SEQ_CST))
		worker_kick(&p->worker);
	return r;
}

#define KEPT_NS (10 * NS_PER_SEC) /* answers to what it said longer ago are for nobody any more */

void vnet_keep(struct vnet *n)
{
	spin_lock(&n->v.lock);
	n->keeps_ns = time_ns();
	__atomic_store_n(&n->keeps, true, __ATOMIC_RELAXED);
	spin_unlock(&n->v.lock);
}

void vnet_keep_end(struct vnet *n)
{
	bool stale = n->keeps && time_ns() - n->keeps_ns > KEPT_NS;

	for (unsigned i = 0; stale && i < n->npairs; i++)
		vnet_queue_expire(&n->pair[i].queue);
	__atomic_store_n(&n->quiesced, false, __ATOMIC_RELAXED); /* first: at no moment is one refused */
	__atomic_store_n(&n->keeps, false, __ATOMIC_RELEASE);
}

bool vnet_kept(struct vnet *n, unsigned *pair, struct frame *f)
{
	for (*pair = 0; *pair < n->npairs; ++*pair)
		if (vnet_queue_first(&n->pair[*pair].queue, f))
			return true;
	return false;
}

void vnet_kept_drop(struct vnet *n, unsigned pair) { vnet_queue_drop(&n->pair[pair].queue); }
