/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (virtio 1.2, 5.1): pairs of queues, and a control queue (vnet_ctrl.c). Checksum and segmentation offloads
 * are not done here but carried: struct virtio_net_hdr and struct frame say the same things, and the bridge
 * does what the other side of a frame cannot take.
 *
 *   TX: notify (port write) -> worker: pop a chain, call tx() WITHOUT the lock (it may end in another guest's vnet_rx),
 *       put it back.
 *   RX: vnet_rx -> queue -> worker: vnet_rx.c, under the lock.
 *
 * Each pair's worker is a task of its own (kernel/worker.h): neither a vCPU that sends nor whoever sends to this guest
 * pays for what its rings look like.
 *
 * quiesce: waits for the workers' turns, which end with the frame that they are at; from then on the card takes no
 * frame, and guest memory is still. Frames that wait in a queue go on waiting, and what was not signalled is by resume.
 */
#include "kernel/time.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_device.h"
#include <stdlib.h>
#include <string.h>

static struct vnet *vnet_of(struct vvirtio *v) { return CONTAINER_OF(v, struct vnet, v); }

/* ---- transmit ---- */

/* May the driver ask for what the header asks for? (5.1.6.2.2) Whether it fits the frame, the bridge sees. */
static bool tx_may_ask(const struct vnet *n, const struct frame *f)
{
	if (f->flags && !vvirtio_has(&n->v, VIRTIO_NET_F_CSUM))
		return false;
	switch (f->gso) {
	case FRAME_GSO_NONE: return true;
	case FRAME_GSO_TCPV4: return vvirtio_has(&n->v, VIRTIO_NET_F_HOST_TSO4);
	case FRAME_GSO_TCPV6: return vvirtio_has(&n->v, VIRTIO_NET_F_HOST_TSO6);
	default: return false;
	}
}

/* The chain without its header as a frame, in place if its pieces are few enough. False: drop it. No lock held. */
static bool tx_frame(struct vnet_pair *p, struct frame *f)
{
	struct vvirtq_chain *c = &p->tx_chain;
	uint8_t h[VNET_HDR_LEN];

	if (c->nin || c->out_len < VNET_HDR_LEN + FRAME_MIN || c->out_len - VNET_HDR_LEN > FRAME_MAX)
		return false;
	(void)vvirtq_chain_read(c, h, VNET_HDR_LEN);
	f->len = c->out_len - VNET_HDR_LEN;
	f->flags = h[VNET_HDR_FLAGS] & FRAME_NEEDS_CSUM;
	f->gso = h[VNET_HDR_GSO];
	f->hdr_len = get_le16(h + VNET_HDR_HDR_LEN);
	f->gso_size = get_le16(h + VNET_HDR_GSO_SIZE);
	f->csum_start = get_le16(h + VNET_HDR_CSUM_START);
	f->csum_offset = get_le16(h + VNET_HDR_CSUM_OFFSET);
	if (!tx_may_ask(p->n, f))
		return false;
	f->niov = 0;
	if (c->nout - c->rseg > FRAME_IOV_IN) {
		if (!p->bounce)
			p->bounce = malloc(FRAME_MAX);
		if (!p->bounce)
			return false;
		(void)vvirtq_chain_read(c, p->bounce, f->len);
		f->iov[f->niov++] = (struct iov){ p->bounce, f->len };
		return true;
	}
	for (unsigned i = c->rseg; i < c->nout; i++) {
		uint32_t skip = i == c->rseg ? c->roff : 0;

		f->iov[f->niov++] = (struct iov){ (char *)c->seg[i].p + skip, c->seg[i].len - skip };
	}
	return true;
}

/* A frame of the guest's. No lock held. */
static void tx_one(struct vnet_pair *p)
{
	struct vnet *n = p->n;
	struct frame f;

	if (!tx_frame(p, &f))
		return;
	if (n->npairs > 1)
		__atomic_store_n(&n->flow[frame_flow(&f) % VNET_FLOWS], (uint8_t)(1 + (p - n->pair)), __ATOMIC_RELAXED);
	n->wire.tx(n->wire.arg, &f);
}

/*
 * Send what is in the ring, as much as a turn may. Lock held; dropped around each frame. True: there may be more;
 * *absent: memory is not here yet, and until it is (vvirtq_wait) nothing more can be taken.
 */
static bool tx_drain(struct vnet_pair *p, bool *absent)
{
	uint64_t end = time_ns() + VNET_TURN_NS;
	struct vnet *n = p->n;
	struct vvirtq *q = &n->v.q[p->tx];
	uint32_t epoch = n->v.epoch;
	unsigned done = 0;
	int r = 0;

	for (; vnet_is_live(p, p->tx); done++) {
		if (done == VNET_TURN_FRAMES || time_ns() > end)
			return true;
		r = vvirtq_pop(q, &p->tx_chain);
		if (r <= 0)
			break;
		spin_unlock(&p->lock);
		tx_one(p);
		vvirtq_release(q, &p->tx_chain);
		vvirtio_queue_lock(&n->v, &p->lock, &n->excluded);
		if (epoch != n->v.epoch) /* reset meanwhile: this chain belongs to the driver again */
			return false;
		r = vvirtq_put(q, 0, p->tx_chain.head, 0);
		if (!r)
			r = vvirtq_publish(q, 1);
		if (r)
			break;
	}
	*absent = r == -EAGAIN;
	if (r < 0 && !*absent)
		vvirtio_break(&n->v, q->why);
	return false;
}

static bool tx_turn(struct vnet_pair *p)
{
	struct vvirtq *q = &p->n->v.q[p->tx];
	bool more = false, absent = false;

	spin_lock(&p->lock);
	if (vnet_is_live(p, p->tx)) {
		vvirtq_quiet(q);
		more = tx_drain(p, &absent);
	}
	if (!absent && vnet_is_live(p, p->tx)) {
		vvirtio_signal(&p->n->v, p->tx);
		more = more || vvirtq_listen(q, 0);
	}
	spin_unlock(&p->lock);
	return absent ? !vvirtq_wait(q) : more; /* an error is the VM's end, and who brings its pages says so */
}

static bool work(void *arg)
{
	struct vnet_pair *p = arg;
	bool more = vnet_rx_turn(p);
	return tx_turn(p) || more;
}

static void kick_all(struct vnet *n)
{
	for (unsigned i = 0; i < n->npairs; i++)
		worker_kick(&n->pair[i].worker);
}

static void vnet_notify(struct vvirtio *v, unsigned q)
{
	struct vnet *n = vnet_of(v);

	if (q == vnet_ctrl_queue(&n->ctrl))
		vnet_ctrl_notify(&n->ctrl);
	else if (q < 2 * n->npairs)
		worker_kick(&n->pair[q / 2].worker);
}

/* v->lock is held. */
static void vnet_exclude(struct vvirtio *v, bool on)
{
	struct vnet *n = vnet_of(v);

	__atomic_store_n(&n->excluded, on, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < n->npairs && on; i++) {
		spin_lock(&n->pair[i].lock);
		spin_unlock(&n->pair[i].lock);
	}
	if (!on)
		kick_all(n);
}

/* ---- configuration and features ---- */

static uint64_t vnet_config_read(struct vvirtio *v, unsigned off, unsigned size unused)
{
	const struct vnet *n = vnet_of(v);
	uint8_t c[VNET_CFG_LEN + 8] = { 0 };

	memcpy(c + VNET_CFG_MAC, n->s.mac, ETH_ALEN);
	put_le16(c + VNET_CFG_STATUS, __atomic_load_n(&n->s.status, __ATOMIC_RELAXED));
	put_le16(c + VNET_CFG_MAX_PAIRS, (uint16_t)n->npairs);
	put_le16(c + VNET_CFG_MTU, n->mtu);
	return get_le64(c + off);
}

/* 5.1.3.1: segmentation wants checksums, announcing an acknowledgement. */
static bool vnet_features_ok(uint64_t f)
{
	return (!(f & (VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6)) || f & VIRTIO_NET_F_CSUM) &&
	       (!(f & (VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6)) || f & VIRTIO_NET_F_GUEST_CSUM) &&
	       (!(f & (VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_MQ)) || f & VIRTIO_NET_F_CTRL_VQ);
}

/* v->lock is held, and the pairs are excluded. */
static void vnet_driver_ok(struct vvirtio *v)
{
	for (unsigned i = 0; i < vnet_of(v)->npairs; i++) {
		unsigned rx = vnet_of(v)->pair[i].rx;
		if (vvirtio_queue_is_live(v, rx) && rx != vnet_ctrl_queue(&vnet_of(v)->ctrl))
			vvirtq_quiet(&v->q[rx]); /* the first buffers are found when a frame comes */
	}
}

/* The same. */
static void vnet_was_reset(struct vvirtio *v)
{
	struct vnet *n = vnet_of(v);

	n->s.status &= ~VNET_ANNOUNCE;
	__atomic_store_n(&n->s.pairs, 1, __ATOMIC_RELAXED);
	memset(n->flow, 0, sizeof(n->flow));
	for (unsigned i = 0; i < n->npairs; i++) {
		struct vnet_pair *p = &n->pair[i];

		vnet_queue_expire(&p->queue); /* it was for a driver that has gone */
		spin_lock(&p->lock);
		p->rx_waits_ns = 0; /* and so was its patience */
		spin_unlock(&p->lock);
	}
}

void vnet_announce(struct vnet *n)
{
	spin_lock(&n->v.lock);
	if (!n->quiesced)
		vnet_ctrl_announce(&n->ctrl);
	spin_unlock(&n->v.lock);
}

/* ---- state and life ---- */

static const struct sfield vnet_fields[] = {
	F_ARR(struct vnet_state, mac),
	F(struct vnet_state, status),
	F(struct vnet_state, pairs),
};

static int vnet_check(const void *obj, const void *state, struct why *w)
{
	const struct vnet *n = obj;
	const struct vnet_state *s = state;

	if (memcmp(s->mac, n->s.mac, ETH_ALEN))
		return why_set(w, -EINVAL, "virtio-net: the MAC in its state is not the one in the VM's configuration");
	if (!s->pairs || s->pairs > n->npairs)
		return why_set(w, -EINVAL, "virtio-net: %u pairs of queues of %u", s->pairs, n->npairs);
	return s->status & ~(VNET_LINK_UP | VNET_ANNOUNCE)
		       ? why_set(w, -EINVAL, "virtio-net: link status %04x", s->status)
		       : 0;
}

/* Loaded but not yet running: guest memory is not ours until resume. */
static void vnet_post_load(void *obj)
{
	struct vnet *n = obj;

	spin_lock(&n->v.lock);
	__atomic_store_n(&n->quiesced, true, __ATOMIC_RELAXED);
	spin_unlock(&n->v.lock);
}

static const struct sdesc vnet_desc = {
	.name = "virtio-net",
	.version = 2,
	SDESC(struct vnet, s, struct vnet_state, vnet_fields),
	.check = vnet_check,
	.post_load = vnet_post_load,
};

static void vnet_reset(struct dev *d) { vvirtio_reset(&CONTAINER_OF(d, struct vnet, v.dev)->v); }

static void vnet_quiesce(struct dev *d)
{
	struct vnet *n = CONTAINER_OF(d, struct vnet, v.dev);

	spin_lock(&n->v.lock);
	__atomic_store_n(&n->quiesced, true, __ATOMIC_RELAXED);
	spin_unlock(&n->v.lock);
	for (unsigned i = 0; i < n->npairs; i++)
		worker_settle(&n->pair[i].worker);
}

/* Used buffers that were published but not signalled. */
static void vnet_resume(struct dev *d)
{
	struct vnet *n = CONTAINER_OF(d, struct vnet, v.dev);
	unsigned ctrl;

	spin_lock(&n->v.lock);
	vnet_keep_end(n);
	ctrl = vnet_ctrl_queue(&n->ctrl);
	if (vvirtio_queue_is_live(&n->v, ctrl))
		vvirtio_signal(&n->v, ctrl);
	spin_unlock(&n->v.lock);
	for (unsigned q = 0; q < 2 * n->npairs; q++) {
		struct vnet_pair *p = &n->pair[q / 2];

		spin_lock(&p->lock);
		if (vnet_is_live(p, q))
			vvirtio_signal(&n->v, q);
		spin_unlock(&p->lock);
	}
	kick_all(n);
}

/* Its workers do not run. */
static void vnet_free(struct vnet *n)
{
	for (unsigned i = 0; n->pair && i < n->npairs; i++) {
		vnet_queue_fini(&n->pair[i].queue);
		free(n->pair[i].bounce);
	}
	free(n->pair);
	free(n);
}

static void vnet_fini(struct dev *d)
{
	struct vnet *n = CONTAINER_OF(d, struct vnet, v.dev);

	for (unsigned i = 0; i < n->npairs; i++)
		worker_stop(&n->pair[i].worker);
	vvirtio_fini(&n->v);
	vnet_free(n);
}

static const struct dev_ops vnet_dev_ops = {
	.reset = vnet_reset,
	.quiesce = vnet_quiesce,
	.resume = vnet_resume,
	.fini = vnet_fini,
};
static const struct vvirtio_ops vnet_ops = {
	.notify = vnet_notify,
	.config_read = vnet_config_read,
	.features_ok = vnet_features_ok,
	.driver_ok = vnet_driver_ok,
	.was_reset = vnet_was_reset,
	.exclude = vnet_exclude,
};
static const struct vvirtio_ids vnet_ids = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.class_code = 0x020000,
	.own_ports = 2,
	.cfg_len = VNET_CFG_LEN,
	.features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC |
		    VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_HOST_TSO4 |
		    VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ |
		    VIRTIO_NET_F_GUEST_ANNOUNCE,
};

static int make_pairs(struct vnet *n)
{
	n->pair = calloc(n->npairs, sizeof(*n->pair));
	if (!n->pair)
		return -ENOMEM;
	for (unsigned i = 0; i < n->npairs; i++) {
		struct vnet_pair *p = &n->pair[i];

		p->n = n;
		p->rx = 2 * i;
		p->tx = 2 * i + 1;
		spin_init(&p->lock, "virtio-net pair");
		if (vnet_queue_init(&p->queue))
			return -ENOMEM;
	}
	return 0;
}

static int start_workers(struct vnet *n)
{
	for (unsigned i = 0; i < n->npairs; i++) {
		int err = worker_start(&n->pair[i].worker, "virtio-net", work, &n->pair[i], n->v.dev.m->share);
		if (!err)
			continue;
		while (i--)
			worker_stop(&n->pair[i].worker);
		return err;
	}
	return 0;
}

int vnet_create(struct machine *m, struct vpci_bus *b, struct vnet **v, unsigned slot, unsigned pairs,
		const struct vnet_card *card)
{
	struct vnet *n = calloc(1, sizeof(*n));
	int err = -ENOMEM;

	if (!n)
		return err_trace(err);
	n->npairs = MIN(pairs, VNET_PAIRS_MAX);
	n->wire = card->wire;
	n->mtu = card->mtu;
	memcpy(n->s.mac, card->mac, ETH_ALEN);
	n->s.status = VNET_LINK_UP;
	n->ctrl = (struct vnet_ctrl){ .v = &n->v, .npairs = n->npairs, .status = &n->s.status, .pairs = &n->s.pairs };
	n->ids = vnet_ids;
	n->ids.nqueues = 2 * n->npairs + 1;
	if (n->npairs > 1) { /* a VM of one vCPU has the function that it has always had */
		n->ids.features |= VIRTIO_NET_F_MQ;
		n->ids.nvectors = n->ids.nqueues;
	}
	err = make_pairs(n);
	if (err)
		goto free_it;
	err = vvirtio_init(&n->v, m, b, slot, &n->ids, &vnet_ops, &vnet_dev_ops);
	if (err)
		goto free_it;
	err = start_workers(n);
	if (err)
		goto fini;
	dev_add_section(&n->v.dev, &vnet_desc, n);
	*v = n;
	return 0;
fini:
	vvirtio_fini(&n->v);
free_it:
	vnet_free(n);
	return err_trace(err);
}
