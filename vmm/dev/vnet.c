/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-net (virtio 1.2, 5.1): one pair of queues, and a control queue (vnet_ctrl.c). Checksum and segmentation
 * offloads are not done here but carried: struct virtio_net_hdr and struct frame say the same things, and the bridge
 * does what the other side of a frame cannot take.
 *
 *   TX: notify (port write) -> worker: pop a chain, call tx() WITHOUT the lock (it may end in another guest's vnet_rx),
 *       put it back.
 *   RX: vnet_rx -> queue -> worker: vnet_rx.c, under the lock.
 *
 * The worker is a task of the card's own (kernel/worker.h): neither a vCPU that sends nor whoever sends to this guest
 * pays for what its rings look like.
 *
 * quiesce: waits for the worker's turn, which ends with the frame that it is at; from then on the card takes no frame,
 * and guest memory is still. Frames that wait in the queue go on waiting, and what was not signalled is by resume.
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
static bool tx_frame(struct vnet *n, struct frame *f)
{
	struct vvirtq_chain *c = &n->tx_chain;
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
	if (!tx_may_ask(n, f))
		return false;
	f->niov = 0;
	if (c->nout - c->rseg > FRAME_IOV_IN) {
		(void)vvirtq_chain_read(c, n->bounce, f->len);
		f->iov[f->niov++] = (struct iov){ n->bounce, f->len };
		return true;
	}
	for (unsigned i = c->rseg; i < c->nout; i++) {
		uint32_t skip = i == c->rseg ? c->roff : 0;

		f->iov[f->niov++] = (struct iov){ (char *)c->seg[i].p + skip, c->seg[i].len - skip };
	}
	return true;
}

/*
 * Send what is in the ring, as much as a turn may. Lock held; dropped around each frame. True: there may be more;
 * *absent: memory is not here yet, and until it is (vvirtq_wait) nothing more can be taken.
 */
static bool tx_drain(struct vnet *n, bool *absent)
{
	uint64_t end = time_ns() + VNET_TURN_NS;
	struct vvirtq *q = &n->v.q[VNET_TX];
	uint32_t epoch = n->v.epoch;
	unsigned done = 0;
	struct frame f;
	int r = 0;

	for (; !n->quiesced && vvirtio_queue_is_live(&n->v, VNET_TX); done++) {
		if (done == VNET_TURN_FRAMES || time_ns() > end)
			return true;
		r = vvirtq_pop(q, &n->tx_chain);
		if (r <= 0)
			break;
		spin_unlock(&n->v.lock);
		if (tx_frame(n, &f))
			n->wire.tx(n->wire.arg, &f);
		vvirtq_release(q, &n->tx_chain);
		spin_lock(&n->v.lock);
		if (epoch != n->v.epoch) /* reset meanwhile: this chain belongs to the driver again */
			return false;
		r = vvirtq_put(q, 0, n->tx_chain.head, 0);
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

static bool tx_turn(struct vnet *n)
{
	struct vvirtq *q = &n->v.q[VNET_TX];
	bool more = false, absent = false;

	spin_lock(&n->v.lock);
	if (!n->quiesced && vvirtio_queue_is_live(&n->v, VNET_TX)) {
		vvirtq_quiet(q);
		more = tx_drain(n, &absent);
	}
	if (!n->quiesced && !absent && vvirtio_queue_is_live(&n->v, VNET_TX)) {
		vvirtio_signal(&n->v, VNET_TX);
		more = more || vvirtq_listen(q, 0);
	}
	spin_unlock(&n->v.lock);
	return absent ? !vvirtq_wait(q) : more; /* an error is the VM's end, and who brings its pages says so */
}

static bool work(void *arg)
{
	struct vnet *n = arg;
	bool more = vnet_rx_turn(n);
	return tx_turn(n) || more;
}

static void vnet_notify(struct vvirtio *v, unsigned q)
{
	if (q == VNET_CTRL)
		vnet_ctrl_notify(&vnet_of(v)->ctrl);
	else
		worker_kick(&vnet_of(v)->worker);
}

/* ---- configuration and features ---- */

static uint64_t vnet_config_read(struct vvirtio *v, unsigned off, unsigned size unused)
{
	const struct vnet *n = vnet_of(v);
	uint8_t c[VNET_CFG_LEN + 8] = { 0 };

	memcpy(c + VNET_CFG_MAC, n->s.mac, ETH_ALEN);
	put_le16(c + VNET_CFG_STATUS, __atomic_load_n(&n->s.status, __ATOMIC_RELAXED));
	put_le16(c + VNET_CFG_MAX_PAIRS, 1);
	put_le16(c + VNET_CFG_MTU, n->mtu);
	return get_le64(c + off);
}

/* 5.1.3.1: segmentation wants checksums, announcing an acknowledgement. */
static bool vnet_features_ok(uint64_t f)
{
	return (!(f & (VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6)) || f & VIRTIO_NET_F_CSUM) &&
	       (!(f & (VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6)) || f & VIRTIO_NET_F_GUEST_CSUM) &&
	       (!(f & VIRTIO_NET_F_GUEST_ANNOUNCE) || f & VIRTIO_NET_F_CTRL_VQ);
}

static void vnet_driver_ok(struct vvirtio *v)
{
	if (vvirtio_queue_is_live(v, VNET_RX))
		vvirtq_quiet(&v->q[VNET_RX]); /* the first buffers are found when a frame comes */
}

/* v->lock is held. */
static void vnet_was_reset(struct vvirtio *v)
{
	vnet_of(v)->s.status &= ~VNET_ANNOUNCE;
	vnet_queue_expire(&vnet_of(v)->queue); /* it was for a driver that has gone */
	vnet_of(v)->rx_waits_ns = 0;           /* and so was its patience */
}

void vnet_announce(struct vnet *n)
{
	spin_lock(&n->v.lock);
	if (!n->quiesced)
		vnet_ctrl_announce(&n->ctrl);
	spin_unlock(&n->v.lock);
}

/* ---- state and life ---- */

static const struct sfield vnet_fields[] = { F_ARR(struct vnet_state, mac), F(struct vnet_state, status) };

static int vnet_check(const void *obj, const void *state, struct why *w)
{
	const struct vnet *n = obj;
	const struct vnet_state *s = state;

	if (memcmp(s->mac, n->s.mac, ETH_ALEN))
		return why_set(w, -EINVAL, "virtio-net: the MAC in its state is not the one in the VM's configuration");
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
	.version = 1,
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
	worker_settle(&n->worker);
}

static void vnet_resume(struct dev *d)
{
	struct vnet *n = CONTAINER_OF(d, struct vnet, v.dev);

	spin_lock(&n->v.lock);
	__atomic_store_n(&n->quiesced, false, __ATOMIC_RELAXED);
	for (unsigned q = 0; q < VNET_QUEUES; q++)
		if (vvirtio_queue_is_live(&n->v, q))
			vvirtio_signal(&n->v, q); /* used buffers that were published but not signalled */
	spin_unlock(&n->v.lock);
	worker_kick(&n->worker);
}

static void vnet_fini(struct dev *d)
{
	struct vnet *n = CONTAINER_OF(d, struct vnet, v.dev);

	worker_stop(&n->worker);
	vvirtio_fini(&n->v);
	vnet_queue_fini(&n->queue);
	free(n->bounce);
	free(n);
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
};
static const struct vvirtio_ids vnet_ids = {
	.name = "virtio-net",
	.id = VIRTIO_ID_NET,
	.class_code = 0x020000,
	.nqueues = VNET_QUEUES,
	.own_ports = VNET_PAIR,
	.cfg_len = VNET_CFG_LEN,
	.features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC |
		    VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_HOST_TSO4 |
		    VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ |
		    VIRTIO_NET_F_GUEST_ANNOUNCE,
};

int vnet_create(struct machine *m, struct vpci_bus *b, struct vnet **v, unsigned slot, const uint8_t mac[ETH_ALEN],
		unsigned mtu, const struct vnet_wire *wire)
{
	struct vnet *n = calloc(1, sizeof(*n));
	int err = -ENOMEM;

	if (!n || !(n->bounce = malloc(FRAME_MAX)) || vnet_queue_init(&n->queue))
		goto free_it;
	n->wire = *wire;
	n->mtu = (uint16_t)mtu;
	memcpy(n->s.mac, mac, ETH_ALEN);
	n->s.status = VNET_LINK_UP;
	n->ctrl.v = &n->v;
	n->ctrl.queue = VNET_CTRL;
	n->ctrl.status = &n->s.status;
	err = vvirtio_init(&n->v, m, b, slot, &vnet_ids, &vnet_ops, &vnet_dev_ops);
	if (err)
		goto free_it;
	err = worker_start(&n->worker, "virtio-net", work, n, m->share);
	if (err)
		goto fini;
	dev_add_section(&n->v.dev, &vnet_desc, n);
	*v = n;
	return 0;
fini:
	vvirtio_fini(&n->v);
free_it:
	if (n) {
		vnet_queue_fini(&n->queue);
		free(n->bounce);
	}
	free(n);
	return err_trace(err);
}
