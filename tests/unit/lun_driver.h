/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests of disks on units (vmm/lun.h): hosts that have the unit of fake_session.h, requests of a guest, and a model
 * of what the unit has to hold. By turns (fake_turns.h), so that no second is waited for, or with threads.
 */
#pragma once
#include "kernel/base/err.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_session.h"
#include "tests/unit/fake_turns.h"
#include "vmm/lun.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PINS  300
#define BYTES ((size_t)FAKE_BLOCKS * FAKE_BLOCK)

void random_bytes(void *buf, size_t n)
{
	static uint64_t state = 88172645463325252ULL;
	for (size_t i = 0; i < n; i++) { /* xorshift64; two tasks that draw at once are no matter */
		uint64_t x = __atomic_load_n(&state, __ATOMIC_RELAXED);
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		__atomic_store_n(&state, x, __ATOMIC_RELAXED);
		((uint8_t *)buf)[i] = (uint8_t)(x >> 32);
	}
}

static struct fake_target *const target = &fake_target;

/* Until cond holds; ns of the test's time are too long. */
#define UNTIL(cond, ns)                                                                \
	do {                                                                           \
		uint64_t end_ns = time_ns() + (ns);                                    \
		while (!(cond) && time_ns() < end_ns)                                  \
			task_sleep_until(time_ns() + NS_PER_MS + (ns) / 10000);        \
		if (!(cond))                                                           \
			fail_msg("%s:%d: not in time: %s", __FILE__, __LINE__, #cond); \
	} while (0)

/* ---- hosts ---- */

struct host {
	uint64_t id;
	struct lun *l;
	unsigned lost;  /* atomic */
	unsigned asked; /* writes that it had asked for when it was told so */
	bool wrongly;   /* it was told so, and holds it */
};
static struct lun_config config = { .target = "iqn.2026-01.net.example:t" };

static inline bool is_nexus_of(const struct fake_nexus *n, uint64_t host)
{
	char name[64];
	snprintf(name, sizeof(name), "iqn.2026-11.invalid.tern:%016lx", host);
	return !strcmp(n->initiator, name);
}

/* Writes that the target was asked for by that host, on whatever nexus; or that it has done. */
static inline unsigned writes_of(uint64_t host, bool done)
{
	unsigned n = 0;
	uint64_t flags = spin_lock_irqsave(&target->lock);
	for (unsigned i = 0; i < target->nnexus; i++)
		if (is_nexus_of(&target->nexus[i], host))
			n += done ? target->nexus[i].writes : target->nexus[i].asked;
	spin_unlock_irqrestore(&target->lock, flags);
	return n;
}

/* Is the reservation that host's? */
static inline bool holds(const struct host *h)
{
	uint64_t flags = spin_lock_irqsave(&target->lock);
	bool it = target->holder >= 0 && is_nexus_of(&target->nexus[target->holder], h->id);
	spin_unlock_irqrestore(&target->lock, flags);
	return it;
}

static void host_lost(void *arg)
{
	struct host *h = arg;
	h->wrongly = h->wrongly || holds(h);
	h->asked = writes_of(h->id, false);
	__atomic_fetch_add(&h->lost, 1, __ATOMIC_SEQ_CST);
}

static inline unsigned lost_by(struct host *h) { return __atomic_load_n(&h->lost, __ATOMIC_SEQ_CST); }

static inline int host_open(struct host *h, uint64_t id, uint64_t nexus)
{
	struct why w = { "" };
	*h = (struct host){ .id = id };
	return lun_open(&h->l, &config, id, nexus, host_lost, h, &w);
}

static inline int host_claim(struct host *h, bool force)
{
	struct why w = { "" };
	int err = lun_claim(h->l, force, &w);
	assert_true(!err == !w.text[0]);
	return err;
}

static inline void host_begin(struct host *h, uint64_t id)
{
	assert_int_equal(host_open(h, id, id), 0);
	assert_int_equal(host_claim(h, false), 0);
}

static inline void host_end(struct host *h)
{
	assert_false(h->wrongly);
	lun_release(h->l);
	lun_close(h->l);
	h->l = NULL;
}

static inline enum lun_state state_of(struct host *h)
{
	struct lun_status s;
	lun_get_status(h->l, &s);
	return s.state;
}

/* ---- requests ---- */

struct rq {
	struct blockdev_req r;
	struct gmem_pin pin[PINS];
	uint8_t *data; /* r.len bytes, in one piece */
	unsigned done; /* atomic: how often */
};

static void rq_done(struct blockdev_req *r)
{
	struct rq *q = CONTAINER_OF(r, struct rq, r);
	__atomic_fetch_add(&q->done, 1, __ATOMIC_SEQ_CST);
}

static inline unsigned is_done(struct rq *q) { return __atomic_load_n(&q->done, __ATOMIC_SEQ_CST); }

static inline void rq_free(struct rq *q)
{
	free(q->data);
	q->data = NULL;
}

/* `len` bytes of block `block` on, in pieces of `piece` bytes behind `skip` that are not meant. */
static inline void rq_make(struct rq *q, enum blockdev_op op, uint64_t block, uint32_t len, uint32_t piece,
			   uint32_t skip, unsigned salt)
{
	*q = (struct rq){ .r = { .op = op, .off = block * FAKE_BLOCK, .len = len, .done = rq_done } };
	if (op == BLOCKDEV_FLUSH)
		q->r.off = 0;
	q->data = malloc(len + skip + 1U);
	for (uint32_t i = 0; i < len + skip; i++)
		q->data[i] = (uint8_t)(op == BLOCKDEV_READ ? 0xee : i * 13 + i / 251 + salt * 7);
	for (uint32_t at = 0, i = 0; at < len + skip; at += piece, i++) {
		assert_true(i < PINS);
		q->pin[i] = (struct gmem_pin){ .p = q->data + at, .len = MIN(piece, len + skip - at) };
	}
	q->r.skip = skip;
	if (op == BLOCKDEV_READ || op == BLOCKDEV_WRITE)
		q->r.seg = q->pin;
}

static inline void rq_submit(struct host *h, struct rq *q)
{
	struct blockdev *b = lun_blockdev(h->l);
	__atomic_store_n(&q->done, 0, __ATOMIC_SEQ_CST);
	b->ops->submit(b, &q->r);
}

static inline void hurry_host(struct host *h, uint64_t deadline_ns)
{
	struct blockdev *b = lun_blockdev(h->l);
	b->ops->hurry(b, deadline_ns);
}

/* What a request that was done has made of the model; what it has read is what that holds. */
static inline void rq_settle(struct rq *q, uint8_t *model)
{
	if (q->r.op == BLOCKDEV_WRITE)
		memcpy(model + q->r.off, q->data + q->r.skip, q->r.len);
	if (q->r.op == BLOCKDEV_ZERO)
		memset(model + q->r.off, 0, q->r.len);
	if (q->r.op == BLOCKDEV_READ)
		assert_memory_equal(q->data + q->r.skip, model + q->r.off, q->r.len);
}

/* One that was submitted is done within ns, once and well. */
static inline void rq_end(struct rq *q, uint64_t ns, uint8_t *model)
{
	UNTIL(is_done(q), ns);
	assert_true(is_done(q) == 1 && !q->r.err);
	rq_settle(q, model);
	rq_free(q);
}

/* One by itself: how it ended. */
static inline int rq_do(struct host *h, struct rq *q, uint8_t *model)
{
	rq_submit(h, q);
	UNTIL(is_done(q), 200 * NS_PER_SEC);
	int err = q->r.err;
	if (!err && model)
		rq_settle(q, model);
	rq_free(q);
	return err;
}

static inline int write_one(struct host *h, uint64_t block, uint32_t len, unsigned salt, uint8_t *model)
{
	struct rq q;
	rq_make(&q, BLOCKDEV_WRITE, block, len, 4096, 0, salt);
	return rq_do(h, &q, model);
}

static inline int read_one(struct host *h, uint64_t block, uint32_t len, uint8_t *model)
{
	struct rq q;
	rq_make(&q, BLOCKDEV_READ, block, len, 4096, 0, 0);
	return rq_do(h, &q, model);
}

/* ---- what goes wrong ---- */

static unsigned fault_at, fault_after; /* commands; 0: none; then once more after so many */
static struct fake_fault fault;
static uint8_t fault_op; /* of those commands alone; 0: any */
static unsigned seen;

static inline struct fake_fault at_one(struct fake_target *t unused, const struct fake_command *c)
{
	if (fault_op && c->op != fault_op)
		return (struct fake_fault){ FAKE_DONE };
	seen++;
	bool now = seen == fault_at || (fault_after && seen == fault_at + fault_after);
	return now ? fault : (struct fake_fault){ FAKE_DONE };
}

static inline void script(unsigned at, unsigned after, uint8_t op, struct fake_fault f)
{
	uint64_t flags = spin_lock_irqsave(&target->lock);
	fault_at = at;
	fault_after = after;
	fault_op = op;
	fault = f;
	seen = 0;
	target->script = at_one;
	spin_unlock_irqrestore(&target->lock, flags);
}

/* ---- a test's beginning and end ---- */

static uint8_t model[BYTES];

static inline void world_begin(uint64_t seed)
{
	assert_int_equal(fake_tasks_at(0), 0); /* what a test left that failed would go on for ever */
	fake_turns_seed(seed);
	fake_target_init();
	target->draw = fake_turns_draw;
	target->delay_ns = NS_PER_MS;
	for (size_t i = 0; i < BYTES; i++)
		target->data[i] = model[i] = (uint8_t)(i / 512 + i);
}

/* No task is left, and the unit holds what the model does, whoever still walks. */
static inline void world_end(void)
{
	assert_true(fake_tasks_wait());
	assert_int_equal(target->over, target->logins);
	fake_target_ghosts_walk();
	assert_memory_equal(target->data, model, BYTES);
	fake_target_init();
}
