/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-blk (virtio 1.2, 5.2): queues of requests, each with a task of its own, so that a vCPU that asks does not pay
 * for what the back end takes.
 *
 *   notify (port write) -> worker: pop a chain, see what it asks for -> submit, WITHOUT the lock
 *     -> done, from any task -> worker: the next piece of it, or its status and the used ring
 *
 * A reset does not wait for requests under way, which may still write to the pages that the driver gave: until the last
 * has ended the driver reads a status that is not 0 yet (4.1.4.3.2), and nothing is put into rings that it has taken
 * back.
 *
 * quiesce: no request is taken any more, and it waits until what the back end has is done: then a request is in the
 * used ring, or, if pieces of it are left, taken back. What was not signalled is by resume. What the back end could not
 * do in time is held, and asked for again by resume.
 */
#include "vmm/dev/vblk.h"
#include "kernel/time.h"
#include "vmm/dev/vblk_device.h"
#include <stdlib.h>
#include <string.h>

static struct vblk *vblk_of(struct vvirtio *v) { return CONTAINER_OF(v, struct vblk, v); }
static struct vvirtq *ring(const struct vblk_queue *q) { return &q->k->v.q[q->n]; }

static void lock(struct vblk_queue *q) { vvirtio_queue_lock(&q->k->v, &q->lock, &q->k->excluded); }

/* May more be taken from it? Its lock is held. */
static bool is_live(const struct vblk_queue *q)
{
	return !__atomic_load_n(&q->k->quiesced, __ATOMIC_RELAXED) && vvirtio_queue_is_live(&q->k->v, q->n);
}

/* ---- what is done ---- */

static void add(uint64_t *n, uint64_t more) { __atomic_fetch_add(n, more, __ATOMIC_RELAXED); }

static void account(struct blockdev *d, const struct vblk_req *r, uint64_t bytes)
{
	struct blockdev_stats *s = &d->stats;
	uint64_t ns = time_ns() - r->begin_ns;
	if (r->status != VBLK_S_OK) {
		add(&s->errors, 1);
		return;
	}
	switch (r->r.op) {
	case BLOCKDEV_READ:
		add(&s->reads, 1);
		add(&s->read_bytes, bytes);
		break;
	case BLOCKDEV_WRITE:
		add(&s->writes, 1);
		add(&s->written_bytes, bytes);
		break;
	case BLOCKDEV_FLUSH: add(&s->flushes, 1); break;
	case BLOCKDEV_ZERO: add(&s->zeroes, 1); break;
	}
	add(&s->busy_ns, ns);
	if (ns > __atomic_load_n(&s->longest_ns, __ATOMIC_RELAXED))
		__atomic_store_n(&s->longest_ns, ns, __ATOMIC_RELAXED);
}

/* Back to the driver, unless it has taken its buffers back by a reset. The queue's lock is held. */
static void finish(struct vblk_queue *q, struct vblk_req *r)
{
	struct vvirtq_chain *c = &r->chain;
	uint32_t in = vblk_request_in(r), head = c->head;
	struct vvirtio *v = &q->k->v;

	bool ours = r->epoch == v->epoch;
	if (ours) {
		if (r->gets_id)
			(void)vvirtq_chain_write(c, r->id, MIN(in, VBLK_ID_LEN));
		else
			account(q->k->d, r, r->r.op == BLOCKDEV_WRITE ? c->out_len - VBLK_REQ_LEN : in);
		vvirtq_chain_skip(ring(q), c, in - (r->gets_id ? MIN(in, VBLK_ID_LEN) : r->read));
		(void)vvirtq_chain_write(c, &r->status, 1);
	}
	vvirtq_release(ring(q), c);
	list_append(&q->free, &r->node);
	if (!ours || !vvirtio_queue_is_live(v, q->n))
		return;
	int err = vvirtq_put(ring(q), 0, (uint16_t)head, in + 1);
	if (!err)
		err = vvirtq_publish(ring(q), 1);
	if (err)
		vvirtio_break(v, ring(q)->why);
}

/* blockdev_req.done. Whoever waits until nothing is under way may free the queue then: the worker is kicked before. */
static void done(struct blockdev_req *b)
{
	struct vblk_req *r = CONTAINER_OF(b, struct vblk_req, r);
	struct vblk_queue *q = r->q;

	spin_lock(&q->lock);
	list_append(&q->done, &r->node);
	if (!q->submitting) {
		spin_unlock(&q->lock);
		worker_kick(&q->worker);
		spin_lock(&q->lock);
	}
	if (!--q->inflight && q->awaited) {
		q->awaited = false;
		completion_done(&q->idle);
	}
	spin_unlock(&q->lock);
}

/* ---- what is to do ---- */

/* The lock is held, and dropped meanwhile. */
static void submit(struct vblk_queue *q, struct vblk_req *r)
{
	q->inflight++;
	q->submitting = true;
	spin_unlock(&q->lock);
	q->k->d->ops->submit(q->k->d, &r->r);
	lock(q);
	q->submitting = false;
}

/*
 * It stands still: of a long request that is the last one taken no more is done, and it is as if it had not been taken.
 * Whoever goes on with the queue does all of it.
 */
static bool take_back(struct vblk_queue *q, struct vblk_req *r)
{
	bool live = vvirtio_queue_is_live(&q->k->v, q->n); /* else nothing of it is told anyway */
	if (!__atomic_load_n(&q->k->quiesced, __ATOMIC_RELAXED) || (live && ring(q)->s->last_avail != r->next))
		return false;
	if (live)
		vvirtq_unpop(ring(q), 1);
	vvirtq_release(ring(q), &r->chain);
	list_append(&q->free, &r->node);
	return true;
}

/* A piece of it was done: on with the next, or it ends. The lock is held. */
static void go_on(struct vblk_queue *q, struct vblk_req *r)
{
	if (r->r.err == -EAGAIN) {
		list_append(&q->held, &r->node);
		return;
	}
	if (r->r.op == BLOCKDEV_READ) { /* whatever became of it; a piece at a time: the lock is held */
		vvirtq_chain_wrote(&r->chain, r->r.len);
		vvirtq_chain_mark(ring(q), &r->chain);
		r->read += r->r.len;
	}
	if (r->r.err)
		r->status = VBLK_S_IOERR;
	if (r->r.err || !r->left || r->epoch != q->k->v.epoch) {
		finish(q, r);
		return;
	}
	if (take_back(q, r))
		return;
	r->r.off += r->r.len;
	r->r.skip += r->r.len;
	r->r.len = MIN(r->left, (uint64_t)q->k->d->max_len);
	r->left -= r->r.len;
	submit(q, r);
}

/* The next chain: 1, 0 if there is none or no room for it, -EAGAIN as of vvirtq_pop. The lock is held. */
static int take(struct vblk_queue *q)
{
	const char *why = NULL;
	if (!is_live(q) || list_empty(&q->free))
		return 0;
	struct vblk_req *r = list_entry(q->free.next, struct vblk_req, node);
	int err = vvirtq_pop(ring(q), &r->chain);
	if (err == 0 || err == -EAGAIN)
		return err;
	if (err < 0) {
		vvirtio_break(&q->k->v, ring(q)->why);
		return 0;
	}
	list_remove(&r->node);
	r->begin_ns = time_ns();
	r->epoch = q->k->v.epoch;
	r->next = ring(q)->s->last_avail;
	err = vblk_request_parse(r, q->k->d, &why);
	if (err < 0) {
		vvirtq_release(ring(q), &r->chain);
		list_append(&q->free, &r->node);
		vvirtio_break(&q->k->v, why);
		return 0;
	}
	if (err)
		finish(q, r);
	else
		submit(q, r);
	return 1;
}

/* What is done goes on. True: there was such. The lock is held. */
static bool go_on_one(struct vblk_queue *q)
{
	if (list_empty(&q->done))
		return false;
	struct vblk_req *r = list_entry(q->done.next, struct vblk_req, node);
	list_remove(&r->node);
	go_on(q, r);
	return true;
}

/* worker.work. It has the queue's lock, but for the back end. */
static bool turn(void *arg)
{
	struct vblk_queue *q = arg;
	uint64_t end = time_ns() + VBLK_TURN_NS;
	bool more = false;
	int err = 1;

	lock(q);
	if (is_live(q))
		vvirtq_quiet(ring(q));
	while (err > 0 && !(more = time_ns() > end))
		if (!go_on_one(q))
			err = take(q);
	bool waits = err == -EAGAIN;
	if (is_live(q)) {
		vvirtio_signal(&q->k->v, q->n);
		/* With no room it is the next one that is done that brings us here. */
		more = more || (!waits && !list_empty(&q->free) && vvirtq_listen(ring(q), 0));
	}
	spin_unlock(&q->lock);
	return waits ? !vvirtq_wait(ring(q)) : more;
}

static void hurry(struct vblk *k, uint64_t deadline_ns)
{
	if (k->d->ops->hurry)
		k->d->ops->hurry(k->d, deadline_ns);
}

/* What was not done is asked for again, unless its driver has gone. The lock is held, and dropped meanwhile. */
static void resubmit(struct vblk_queue *q)
{
	struct vblk_req *r;
	while ((r = list_first(&q->held, struct vblk_req, node))) {
		list_remove(&r->node);
		r->r.err = 0;
		if (r->epoch == q->k->v.epoch)
			submit(q, r);
		else
			finish(q, r);
	}
}

bool vblk_holds(struct vblk *k)
{
	bool any = false;
	for (unsigned i = 0; i < k->nqueues; i++) {
		spin_lock(&k->q[i].lock);
		any = any || !list_empty(&k->q[i].held);
		spin_unlock(&k->q[i].lock);
	}
	return any;
}

static void kick_all(struct vblk *k)
{
	for (unsigned i = 0; i < k->nqueues; i++)
		worker_kick(&k->q[i].worker);
}

static void vblk_notify(struct vvirtio *v, unsigned q) { worker_kick(&vblk_of(v)->q[q].worker); }

/* v->lock is held. */
static void vblk_exclude(struct vvirtio *v, bool on)
{
	struct vblk *k = vblk_of(v);

	__atomic_store_n(&k->excluded, on, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < k->nqueues && on; i++) {
		spin_lock(&k->q[i].lock);
		spin_unlock(&k->q[i].lock);
	}
	if (!on)
		kick_all(k);
}

static bool vblk_busy(struct vvirtio *v)
{
	struct vblk *k = vblk_of(v);
	bool busy = false;
	for (unsigned i = 0; i < k->nqueues; i++) {
		spin_lock(&k->q[i].lock);
		busy = busy || k->q[i].inflight;
		spin_unlock(&k->q[i].lock);
	}
	return busy;
}

/* ---- life ---- */

/* It is quiescent. */
static void vblk_reset(struct dev *d)
{
	struct vblk *k = CONTAINER_OF(d, struct vblk, v.dev);
	__atomic_store_n(&k->s.capacity, __atomic_load_n(&k->d->size, __ATOMIC_RELAXED) >> SECTOR_BIT,
			 __ATOMIC_RELAXED);
	vvirtio_reset(&k->v);
}

/* All of a queue's requests come to their end, and to the used ring. It has the queue's lock, but while it waits. */
static void settle(struct vblk_queue *q)
{
	worker_settle(&q->worker);
	lock(q);
	for (;;) {
		while (go_on_one(q)) {}
		if (!q->inflight)
			break;
		completion_init(&q->idle);
		q->awaited = true;
		spin_unlock(&q->lock);
		(void)completion_wait(&q->idle, TIME_NEVER); /* the back end's bound is that of its requests */
		lock(q);
	}
	spin_unlock(&q->lock);
}

static void vblk_quiesce(struct dev *d)
{
	struct vblk *k = CONTAINER_OF(d, struct vblk, v.dev);

	spin_lock(&k->v.lock);
	__atomic_store_n(&k->quiesced, true, __ATOMIC_RELAXED);
	spin_unlock(&k->v.lock);
	hurry(k, time_ns() + VBLK_QUIESCE_NS);
	for (unsigned i = 0; i < k->nqueues; i++)
		settle(&k->q[i]);
}

static void vblk_resume(struct dev *d)
{
	struct vblk *k = CONTAINER_OF(d, struct vblk, v.dev);

	hurry(k, TIME_NEVER); /* first: what a worker takes from now on is not to come back undone */
	spin_lock(&k->v.lock);
	__atomic_store_n(&k->quiesced, false, __ATOMIC_RELAXED);
	spin_unlock(&k->v.lock);
	for (unsigned i = 0; i < k->nqueues; i++) {
		lock(&k->q[i]);
		resubmit(&k->q[i]);
		if (is_live(&k->q[i]))
			vvirtio_signal(&k->v, i);
		spin_unlock(&k->q[i].lock);
	}
	kick_all(k);
	vblk_resized(k); /* while it stood still */
}

/* Its workers do not run, nothing is under way, and nobody else knows it. */
static void vblk_free(struct vblk *k)
{
	for (unsigned i = 0; k->q && i < k->nqueues; i++) {
		BUG_ON(k->q[i].inflight);
		free(k->q[i].req);
	}
	free(k->q);
	free(k);
}

static void vblk_fini(struct dev *d)
{
	struct vblk *k = CONTAINER_OF(d, struct vblk, v.dev);

	for (unsigned i = 0; i < k->nqueues; i++)
		worker_stop(&k->q[i].worker);
	vvirtio_fini(&k->v);
	vblk_free(k);
}

static const struct dev_ops vblk_dev_ops = {
	.reset = vblk_reset,
	.quiesce = vblk_quiesce,
	.resume = vblk_resume,
	.fini = vblk_fini,
};
static const struct vvirtio_ops vblk_ops = {
	.notify = vblk_notify,
	.config_read = vblk_config_read,
	.exclude = vblk_exclude,
	.busy = vblk_busy,
};

static int make_queues(struct vblk *k)
{
	k->q = calloc(k->nqueues, sizeof(*k->q));
	if (!k->q)
		return -ENOMEM;
	for (unsigned i = 0; i < k->nqueues; i++) {
		struct vblk_queue *q = &k->q[i];
		q->k = k;
		q->n = i;
		spin_init(&q->lock, "virtio-blk queue");
		list_init(&q->free);
		list_init(&q->done);
		list_init(&q->held);
		q->req = calloc(k->d->depth, sizeof(*q->req));
		if (!q->req)
			return -ENOMEM;
		for (unsigned n = 0; n < k->d->depth; n++) {
			q->req[n].q = q;
			q->req[n].r.done = done;
			list_append(&q->free, &q->req[n].node);
		}
	}
	return 0;
}

static int start_workers(struct vblk *k)
{
	for (unsigned i = 0; i < k->nqueues; i++) {
		int err = worker_start(&k->q[i].worker, "virtio-blk", turn, &k->q[i], k->v.dev.m->share);
		if (!err)
			continue;
		while (i--)
			worker_stop(&k->q[i].worker);
		return err;
	}
	return 0;
}

int vblk_create(struct machine *m, struct vpci_bus *b, struct vblk **out, unsigned slot, unsigned queues,
		struct blockdev *d)
{
	struct vblk *k = calloc(1, sizeof(*k));
	int err = -ENOMEM;

	if (!k)
		return err_trace(err);
	k->d = d;
	k->nqueues = MIN(queues, VBLK_QUEUES_MAX);
	k->s.capacity = d->size >> SECTOR_BIT;
	k->ids = vblk_ids;
	k->ids.nqueues = k->ids.nvectors = k->nqueues;
	k->ids.features |= d->readonly ? VIRTIO_BLK_F_RO : VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
	k->ids.features |= k->nqueues > 1 ? VIRTIO_BLK_F_MQ : 0;
	err = make_queues(k);
	if (err)
		goto free_it;
	err = vvirtio_init(&k->v, m, b, slot, &k->ids, &vblk_ops, &vblk_dev_ops);
	if (err)
		goto free_it;
	err = start_workers(k);
	if (err)
		goto fini;
	dev_add_section(&k->v.dev, &vblk_desc, k);
	*out = k;
	return 0;
fini:
	vvirtio_fini(&k->v);
free_it:
	vblk_free(k);
	return err_trace(err);
}
