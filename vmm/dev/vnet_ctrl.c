/* SPDX-License-Identifier: BSD-2-Clause */
/* The control queue (vnet_ctrl.h). It works inside the vCPU's port write only. */
#include "vmm/dev/vnet_ctrl.h"

/* Of a command: Linux has up to 4. Many would keep the device's lock from who sends to this guest. */
#define PIECES_MAX  16
#define CTRL_ROUNDS 4 /* of the ring while it is refilled behind us; what is left waits for the next ring of the bell */

static void status_set(struct vnet_ctrl *c, uint16_t status) { __atomic_store_n(c->status, status, __ATOMIC_RELAXED); }

void vnet_ctrl_announce(struct vnet_ctrl *c)
{
	if (!(c->v->s.status & VIRTIO_DRIVER_OK) || !vvirtio_has(c->v, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    !vvirtio_has(c->v, VIRTIO_NET_F_STATUS))
		return;
	status_set(c, *c->status | VNET_ANNOUNCE);
	vvirtio_config_changed(c->v);
}

/* The answer to a command of len bytes, of which h has the first. */
static uint8_t answer(struct vnet_ctrl *c, const uint8_t h[VNET_CTRL_HDR_LEN], uint32_t len)
{
	if (len != VNET_CTRL_HDR_LEN || h[VNET_CTRL_CLASS] != VNET_CTRL_ANNOUNCE ||
	    h[VNET_CTRL_COMMAND] != VNET_CTRL_ANNOUNCE_ACK || !vvirtio_has(c->v, VIRTIO_NET_F_GUEST_ANNOUNCE))
		return VNET_CTRL_ERR;
	status_set(c, (uint16_t)(*c->status & ~VNET_ANNOUNCE));
	return VNET_CTRL_OK;
}

/* Lock held. At most a ring's worth: 0, -EPROTO, -EAGAIN as vvirtq_pop has it. */
static int serve(struct vnet_ctrl *c)
{
	struct vvirtq *q = &c->v->q[c->queue];
	int err = 0;

	for (unsigned i = 0; i < q->s->size && !err; i++) {
		uint8_t h[VNET_CTRL_HDR_LEN] = { 0 };

		err = vvirtq_pop(q, &c->chain);
		if (err <= 0)
			return err;
		if (!c->chain.nin) {
			q->why = "a control command without room for its answer";
			return -EPROTO;
		}
		if (c->chain.nin + c->chain.nout > PIECES_MAX) {
			q->why = "a control command in too many pieces";
			return -EPROTO;
		}
		(void)vvirtq_chain_read(&c->chain, h, sizeof(h));
		uint8_t ack = answer(c, h, c->chain.out_len);
		(void)vvirtq_chain_write(&c->chain, &ack, 1);
		vvirtq_release(q, &c->chain);
		err = vvirtq_put(q, 0, c->chain.head, 1);
		if (!err)
			err = vvirtq_publish(q, 1);
	}
	return err;
}

/* Lock held, dropped while memory is not here yet; an error of that wait is the VM's end, and not the ring's. */
static int serve_here(struct vnet_ctrl *c)
{
	int err;

	while ((err = serve(c)) == -EAGAIN) {
		spin_unlock(&c->v->lock);
		err = vvirtq_wait(&c->v->q[c->queue]);
		spin_lock(&c->v->lock);
		if (err || !vvirtio_queue_is_live(c->v, c->queue))
			return 0;
	}
	return err;
}

void vnet_ctrl_notify(struct vnet_ctrl *c)
{
	struct vvirtio *v = c->v;
	unsigned rounds = 0;
	int err = 0;

	spin_lock(&v->lock);
	while (vvirtio_has(v, VIRTIO_NET_F_CTRL_VQ) && vvirtio_queue_is_live(v, c->queue)) {
		err = serve_here(c);
		if (err || !vvirtq_listen(&v->q[c->queue], 0) || ++rounds == CTRL_ROUNDS)
			break;
	}
	if (err)
		vvirtio_break(v, v->q[c->queue].why);
	else if (vvirtio_queue_is_live(v, c->queue))
		vvirtio_signal(v, c->queue);
	spin_unlock(&v->lock);
}
