/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames for the guest (virtio 1.2, 5.1.6.4): vnet_rx, called in any task, copies into as many buffers as it takes
 * (MRG_RXBUF), all under the lock.
 */
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

/* Lock held. Nothing is published unless the whole frame fits: else the buffers go back to the ring's front. */
static int rx_deliver(struct vnet *n, const struct frame *f)
{
	struct vvirtq *q = &n->v.q[VNET_RX];
	struct vvirtq_chain *c = &n->rx_chain;
	bool merge = vvirtio_has(&n->v, VIRTIO_NET_F_MRG_RXBUF);
	struct rx_cursor k = { .f = f };
	gpa_t patch[2] = { 0 };
	unsigned nbufs = 0, ndesc = 0;
	int r;

	rx_header(n, f, k.hdr);
	while (k.done < VNET_HDR_LEN + f->len) {
		r = nbufs < q->s->size && (merge || !nbufs) ? vvirtq_pop(q, c) : 0;
		if (r > 0 && (c->nout || c->in_len < VNET_HDR_LEN)) {
			q->why = "a receive buffer with readable parts or without room for the header";
			r = -EPROTO;
		}
		if (r > 0 && (ndesc += c->ndesc) > VIRTQ_SIZE_MAX) { /* the sender of the frame pays for each */
			q->why = "receive buffers in too many small pieces";
			r = -EPROTO;
		}
		if (r == -EAGAIN)
			vvirtq_want(q); /* this frame is lost; its sender sends it again, and then the page is here */
		else if (r < 0)
			vvirtio_break(&n->v, q->why);
		if (r <= 0) {
			vvirtq_unpop(q, nbufs);
			return r && r != -EAGAIN ? -ENETDOWN : -ENOBUFS;
		}
		if (!nbufs)
			for (unsigned i = 0; i < 2; i++)
				patch[i] = vvirtq_chain_at(c, VNET_HDR_BUFFERS + i);
		n->rx_used[nbufs].head = c->head;
		n->rx_used[nbufs].len = rx_fill_chain(c, &k);
		vvirtq_release(q, c);
		nbufs++;
	}
	r = nbufs > 1 ? rx_patch(q, patch, nbufs) : 0;
	for (unsigned i = 0; i < nbufs && !r; i++)
		r = vvirtq_put(q, i, n->rx_used[i].head, n->rx_used[i].len);
	if (!r)
		r = vvirtq_publish(q, nbufs);
	if (r) {
		vvirtio_break(&n->v, q->why);
		return -ENETDOWN;
	}
	vvirtio_signal(&n->v, VNET_RX);
	return 0;
}

int vnet_rx(struct vnet *n, const struct frame *f)
{
	int r = -ENETDOWN;

	spin_lock(&n->v.lock);
	if (!n->quiesced && vvirtio_queue_is_live(&n->v, VNET_RX))
		r = rx_offloads_ok(n, f) ? rx_deliver(n, f) : -EINVAL;
	spin_unlock(&n->v.lock);
	return r;
}
