/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-rng (virtio 1.2, 5.4): one queue of buffers to fill with random bytes, filled while the driver rings. */
#include "vmm/dev/vvirtio.h"
#include "vmm/dev/vrng.h"
#include <stdlib.h>
#include <string.h>

#define RNG_MAX    256 /* bytes for one buffer: the driver takes what it gets and asks again (5.4.6.1) */
#define RNG_ROUNDS 4 /* of the ring while it is refilled behind us; what is left waits for the next ring of the bell */

struct vrng {
	struct vvirtio v;
	struct vvirtq_chain chain; /* v.lock */
};

/* Random bytes go through a buffer of our own: the generator must not work in memory that the guest can write. */
static uint32_t vrng_fill(struct vrng *r)
{
	uint32_t want = MIN(r->chain.in_len, RNG_MAX), done = 0;
	uint8_t buf[128];

	while (done < want) {
		uint32_t n = (uint32_t)MIN(want - done, sizeof(buf));

		r->v.dev.m->entropy(r->v.dev.m->arg, buf, n);
		done += (uint32_t)vvirtq_chain_write(&r->chain, buf, n);
	}
	memset(buf, 0, sizeof(buf));
	vvirtq_release(&r->v.q[0], &r->chain);
	return done;
}

/* Lock held. At most a ring's worth. */
static int vrng_serve(struct vrng *r)
{
	struct vvirtq *q = &r->v.q[0];
	int err = 0;

	for (unsigned i = 0; i < q->s->size && !err; i++) {
		err = vvirtq_pop(q, &r->chain);
		if (err <= 0)
			return err;
		if (!r->chain.nin || r->chain.nout) {
			q->why = "a buffer that is not only to be written";
			return -EPROTO;
		}
		err = vvirtq_put(q, 0, r->chain.head, vrng_fill(r));
		if (!err)
			err = vvirtq_publish(q, 1);
	}
	return err;
}

/* Lock held, dropped while memory is not here yet; an error of that wait is the VM's end, and not the ring's. */
static int vrng_serve_here(struct vrng *r)
{
	int err;
	while ((err = vrng_serve(r)) == -EAGAIN) {
		spin_unlock(&r->v.lock);
		err = vvirtq_wait(&r->v.q[0]);
		spin_lock(&r->v.lock);
		if (err || !vvirtio_queue_is_live(&r->v, 0))
			return 0;
	}
	return err;
}

static void vrng_notify(struct vvirtio *v, unsigned queue)
{
	struct vrng *r = CONTAINER_OF(v, struct vrng, v);
	unsigned rounds = 0;
	int err = 0;

	spin_lock(&v->lock);
	while (vvirtio_queue_is_live(v, queue)) {
		err = vrng_serve_here(r);
		if (err || !vvirtq_listen(&v->q[queue], 0) || ++rounds == RNG_ROUNDS)
			break;
	}
	if (err)
		vvirtio_break(v, v->q[queue].why);
	else if (vvirtio_queue_is_live(v, queue))
		vvirtio_signal(v, queue);
	spin_unlock(&v->lock);
}

static void vrng_reset(struct dev *d) { vvirtio_reset(&CONTAINER_OF(d, struct vrng, v.dev)->v); }

static void vrng_fini(struct dev *d)
{
	struct vrng *r = CONTAINER_OF(d, struct vrng, v.dev);

	vvirtio_fini(&r->v);
	free(r);
}

/* No quiesce or resume: it works only inside the vCPU's port write. */
static const struct dev_ops vrng_dev_ops = { .reset = vrng_reset, .fini = vrng_fini };
static const struct vvirtio_ops vrng_ops = { .notify = vrng_notify };
static const struct vvirtio_ids vrng_ids = {
	.name = "virtio-rng", .id = VIRTIO_ID_RNG, .class_code = 0x00ff00, .nqueues = 1
};

int vrng_create(struct machine *m, struct vpci_bus *b, unsigned slot)
{
	struct vrng *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return err_trace(-ENOMEM);
	err = vvirtio_init(&r->v, m, b, slot, &vrng_ids, &vrng_ops, &vrng_dev_ops);
	if (err) {
		free(r);
		return err_trace(err);
	}
	return 0;
}
