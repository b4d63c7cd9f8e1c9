/* SPDX-License-Identifier: BSD-2-Clause */
/* What a virtio device over PCI is after a reset, what follows from its features, and its state that migrates. */
#include "vmm/dev/vvirtio.h"
#include <stdlib.h>
#include <string.h>

int vvirtio_queues_init(struct vvirtio *v, struct gmem *mem)
{
	unsigned n = v->ids->nqueues, nmore = n > VIRTIO_QUEUES_FEW ? n - VIRTIO_QUEUES_FEW : 0;

	BUG_ON(n > VIRTIO_QUEUES_MAX);
	v->q = calloc(n, sizeof(*v->q));
	v->more = nmore ? calloc(nmore, sizeof(*v->more)) : NULL;
	if (!v->q || (nmore && !v->more)) {
		vvirtio_queues_fini(v);
		return err_trace(-ENOMEM);
	}
	for (unsigned i = 0; i < nmore; i++)
		v->more[i].v = v;
	for (unsigned i = 0; i < n; i++)
		v->q[i] = (struct vvirtq){ .s = i < VIRTIO_QUEUES_FEW ? &v->s.q[i] : v->more[i - VIRTIO_QUEUES_FEW].s.q,
					   .mem = mem };
	return 0;
}

void vvirtio_queues_fini(struct vvirtio *v)
{
	free(v->q);
	free(v->more);
}

/* What follows from the negotiated features. */
void vvirtio_features_apply(struct vvirtio *v)
{
	for (unsigned i = 0; i < v->ids->nqueues; i++) {
		v->q[i].indirect = vvirtio_has(v, VIRTIO_F_INDIRECT_DESC);
		v->q[i].event_idx = vvirtio_has(v, VIRTIO_F_EVENT_IDX);
	}
}

/* v->lock is held, or nobody else knows it yet. */
void vvirtio_state_reset(struct vvirtio *v)
{
	memset(&v->s, 0, sizeof(v->s));
	v->s.config_vector = VIRTIO_NO_VECTOR;
	for (unsigned i = 0; i < v->ids->nqueues; i++)
		*v->q[i].s = (struct vvirtq_state){ .size = VIRTQ_SIZE_MAX, .vector = VIRTIO_NO_VECTOR };
	v->why = NULL;
	v->epoch++;
	vvirtio_features_apply(v);
	if (v->ops->was_reset)
		v->ops->was_reset(v);
}

bool vvirtio_features_good(const struct vvirtio *v, uint64_t f)
{
	return !(f & ~v->features) && f & VIRTIO_F_VERSION_1 && (!v->ops->features_ok || v->ops->features_ok(f));
}

#define Q_FIELDS(type, i)          \
	F(type, q[i].desc)         \
	, F(type, q[i].avail)      \
	, F(type, q[i].used)       \
	, F(type, q[i].size)       \
	, F(type, q[i].vector)     \
	, F(type, q[i].enabled)    \
	, F(type, q[i].last_avail) \
	, F(type, q[i].used_idx)   \
	, F(type, q[i].signalled)  \
	, F_ARR(type, q[i].reserved)

static const struct sfield vvirtio_fields[] = {
	F(struct vvirtio_state, driver_features),
	Q_FIELDS(struct vvirtio_state, 0),
	Q_FIELDS(struct vvirtio_state, 1),
	F(struct vvirtio_state, device_feature_select),
	F(struct vvirtio_state, driver_feature_select),
	F(struct vvirtio_state, config_vector),
	F(struct vvirtio_state, queue_select),
	F(struct vvirtio_state, status),
	F(struct vvirtio_state, isr),
	F_ARR(struct vvirtio_state, reserved),
	Q_FIELDS(struct vvirtio_state, 2),
	F(struct vvirtio_state, generation),
	F_ARR(struct vvirtio_state, reserved2),
};

static bool vector_is_sane(const struct vvirtio *v, uint16_t vec)
{
	return vec == VIRTIO_NO_VECTOR || vec < v->pci.nvectors;
}

static int queue_check(const struct vvirtio *v, unsigned i, const struct vvirtq_state *q, struct why *w)
{
	static const struct vvirtq_state none;
	bool ok = i >= v->ids->nqueues
			  ? !memcmp(q, &none, sizeof(none))
			  : vector_is_sane(v, q->vector) && q->enabled <= 1 && (!q->enabled || vvirtq_is_sane(q)) &&
				    !q->reserved[0] && !q->reserved[1];

	return ok ? 0
		  : why_set(w, -EINVAL, "%s: queue %u: size %u, vector %u, enabled %u: not a state it can have",
			    v->ids->name, i, q->size, q->vector, q->enabled);
}

static int vvirtio_check(const void *obj, const void *state, struct why *w)
{
	const struct vvirtio *v = obj;
	const struct vvirtio_state *s = state;
	const char *n = v->ids->name;
	static const uint8_t zeros[sizeof(s->reserved2)];

	if (s->status & ~(VVIRTIO_STATUS_BITS | VIRTIO_NEEDS_RESET) ||
	    s->isr & ~(VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG) || s->reserved[0] || s->reserved[1] ||
	    memcmp(s->reserved2, zeros, sizeof(zeros)))
		return why_set(w, -EINVAL, "%s: status %02x, ISR %02x: unknown bits", n, s->status, s->isr);
	if (s->status & VIRTIO_FEATURES_OK ? !vvirtio_features_good(v, s->driver_features)
					   : s->status & VIRTIO_DRIVER_OK)
		return why_set(w, -EINVAL, "%s: the guest's driver uses features %lx, this host's device offers %lx", n,
			       s->driver_features, v->features);
	if (!vector_is_sane(v, s->config_vector))
		return why_set(w, -EINVAL, "%s: configuration vector %u of %u", n, s->config_vector, v->pci.nvectors);
	int err = 0;
	for (unsigned i = 0; i < VIRTIO_QUEUES_FEW && !err; i++)
		err = queue_check(v, i, &s->q[i], w);
	return err;
}

static int vvirtio_queue_check(const void *obj, const void *state, struct why *w)
{
	const struct vvirtio_queue *q = obj;
	const struct vvirtio_queue_state *s = state;

	return queue_check(q->v, VIRTIO_QUEUES_FEW + (unsigned)(q - q->v->more), s->q, w);
}

static void vvirtio_post_load(void *obj)
{
	struct vvirtio *v = obj; /* vCPUs are parked */

	v->epoch++;
	v->why = v->s.status & VIRTIO_NEEDS_RESET ? "broken before the migration" : NULL;
	vvirtio_features_apply(v);
}

const struct sdesc vvirtio_desc = {
	.name = "virtio",
	.version = 2,
	SDESC(struct vvirtio, s, struct vvirtio_state, vvirtio_fields),
	.check = vvirtio_check,
	.post_load = vvirtio_post_load,
};

static const struct sfield vvirtio_queue_fields[] = { Q_FIELDS(struct vvirtio_queue_state, 0) };

const struct sdesc vvirtio_queue_desc = {
	.name = "virtio-queue",
	.version = 1,
	SDESC(struct vvirtio_queue, s, struct vvirtio_queue_state, vvirtio_queue_fields),
	.check = vvirtio_queue_check,
};

void vvirtio_add_sections(struct vvirtio *v)
{
	dev_add_section(&v->dev, &vvirtio_desc, v);
	for (unsigned i = VIRTIO_QUEUES_FEW; i < v->ids->nqueues; i++)
		dev_add_section(&v->dev, &vvirtio_queue_desc, &v->more[i - VIRTIO_QUEUES_FEW]);
}
