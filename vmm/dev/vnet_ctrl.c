/* SPDX-License-Identifier: BSD-2-Clause */
/* The control queue (vnet_ctrl.h). It works inside the vCPU's port write only. */
#include "vmm/dev/vnet_ctrl.h"

/* Of a command: Linux has up to 4. Many would keep the device's lock from who sends to this guest. */
#define PIECES_MAX  16
#define BYTES_MAX   65536 /* the same: each 2 MiB is a piece of work */
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

unsigned vnet_ctrl_queue(const struct vnet_ctrl *c) { return 2 * (vvirtio_has(c->v, VIRTIO_NET_F_MQ) ? c->npairs : 1); }

static bool is_command(const uint8_t h[VNET_CTRL_MQ_LEN], uint8_t kind, uint8_t command)
{
	return h[VNET_CTRL_CLASS] == kind && h[VNET_CTRL_COMMAND] == command;
}

/* The answer to a command of len bytes, of which h has the first. */
static uint8_t answer(struct vnet_ctrl *c, const uint8_t h[VNET_CTRL_MQ_LEN], uint32_t len)
{
	uint16_t pairs = get_le16(h + VNET_CTRL_HDR_LEN);

	if (is_command(h, VNET_CTRL_ANNOUNCE, VNET_CTRL_ANNOUNCE_ACK) && len == VNET_CTRL_HDR_LEN &&
	    vvirtio_has(c->v, VIRTIO_NET_F_GUEST_ANNOUNCE)) {
		status_set(c, (uint16_t)(*c->status & ~VNET_ANNOUNCE));
		return VNET_CTRL_OK;
	}
	if (is_command(h, VNET_CTRL_MQ, VNET_CTRL_MQ_PAIRS) && len == VNET_CTRL_MQ_LEN && pairs && pairs <= c->npairs &&
	    vvirtio_has(c->v, VIRTIO_NET_F_MQ)) {
		__atomic_store_n(c->pairs, pairs, __ATOMIC_RELAXED);
		return VNET_CTRL_OK;
	}
	return VNET_CTRL_ERR;
}

/* Lock held. At most a ring's worth: 0, -EPROTO, -EAGAIN as vvirtq_pop has it. */
static int serve(struct vnet_ctrl *c)
{
	struct vvirtq *q = &c->v->q[vnet_ctrl_queue(c)];
	int err = 0;

	for (unsigned i = 0; i < q->s->size && !err; i++) {
		uint8_t h[VNET_CTRL_MQ_LEN] = { 0 };

		err = vvirtq_pop(q, &c->chain);
		if (err <= 0)
			return err;
		if (!c->chain.nin) {
			q->why = "a control command without room for its answer";
			return -EPROTO;
		}
		if (c->chain.nin + c->chain.nout > PIECES_MAX || c->chain.out_len > BYTES_MAX ||
		    c->chain.in_len > BYTES_MAX) {
			q->why = "a control command that is too long, or in too many pieces";
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
	unsigned queue = vnet_ctrl_queue(c);
	int err;

	while ((err = serve(c)) == -EAGAIN) {
		spin_unlock(&c->v->lock);
		err = vvirtq_wait(&c->v->q[queue]);
		spin_lock(&c->v->lock);
		if (err || vnet_ctrl_queue(c) != queue || !vvirtio_queue_is_live(c->v, queue))
			return 0;
	}
	return err;
}

void vnet_ctrl_notify(struct vnet_ctrl *c)
{
	struct vvirtio *v = c->v;
	unsigned rounds = 0, queue;
	int err = 0;

	spin_lock(&v->lock);
	for (;;) {
		queue = vnet_ctrl_queue(c);
		if (!vvirtio_has(v, VIRTIO_NET_F_CTRL_VQ) || !vvirtio_queue_is_live(v, queue))
			break;
		err = serve_here(c);
		if (err || !vvirtq_listen(&v->q[queue], 0) || ++rounds == CTRL_ROUNDS)
			break;
	}
	if (err)
		vvirtio_break(v, v->q[queue].why);
	else if (queue == vnet_ctrl_queue(c) && vvirtio_queue_is_live(v, queue))
		vvirtio_signal(v, queue);
	spin_unlock(&v->lock);
}
