/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk on a unit with tasks that are threads: a guest's queues at once, sessions that end, hurries, and whoever
 * looks at it; and its end, right after its last request. Also under ThreadSanitizer.
 */
#include "tests/unit/lun_driver.h"
#include <pthread.h>

#define QUEUES   4
#define REQUESTS 60
#define PART     (FAKE_BLOCKS / QUEUES)

/* In whatever thread. */
#define CHECK(cond)                                                                \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

static struct host a, b;
static unsigned to_go;   /* queues; atomic */
static uint64_t hurries; /* atomic: even: there is none */

static unsigned rnd(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n;
}

/* Once, within 20 s or more. */
static void wait_done(struct rq *q)
{
	for (unsigned i = 0; !is_done(q); i++, fake_nap())
		CHECK(i < 20000);
	CHECK(is_done(q) == 1);
}

/* A disk that stands still holds its requests, and asks once more (vmm/dev/vblk.c). */
static void finish(struct rq *q)
{
	for (;;) {
		rq_submit(&a, q);
		wait_done(q);
		if (q->r.err != -EAGAIN)
			break;
		for (unsigned i = 0; __atomic_load_n(&hurries, __ATOMIC_SEQ_CST) & 1; i++, fake_nap())
			CHECK(i < 20000);
	}
	CHECK(!q->r.err);
	rq_settle(q, model);
	rq_free(q);
}

static void *queue(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, seed = me + 1;
	static struct rq q[QUEUES];
	for (unsigned i = 0; i < REQUESTS; i++) {
		enum blockdev_op op = rnd(&seed, 6);
		op = op > 3 ? BLOCKDEV_WRITE : op;
		uint32_t blocks = 1 + rnd(&seed, PART / 2), at = rnd(&seed, PART / 2);
		rq_make(&q[me], op, me * PART + at, op == BLOCKDEV_FLUSH ? 0 : blocks * FAKE_BLOCK, 4096, 0, i);
		finish(&q[me]);
	}
	__atomic_fetch_sub(&to_go, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static struct fake_fault sometimes(struct fake_target *t unused, const struct fake_command *c)
{
	static const struct fake_fault f[] = {
		{ FAKE_ANSWER, SCSI_BUSY, 0, 0 },
		{ FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_ABORTED_COMMAND, 0 },
		{ FAKE_ANSWER, SCSI_RESERVATION_CONFLICT, 0, 0 },
		{ FAKE_END_AFTER, 0, 0, 0 },
		{ FAKE_GHOST, 0, 0, 0 },
		{ FAKE_END_BEFORE, 0, 0, 0 },
	};
	bool data = c->op == 0x88 || c->op == 0x8a;
	return data && c->n % 11 == 0 ? f[c->n / 11 % ARRAY_SIZE(f)] : (struct fake_fault){ .what = FAKE_DONE };
}

/* Until the queues are through. */
static void disturb(unsigned n)
{
	struct lun_status s;
	switch (n % 4) {
	case 0: fake_target_restart(true); break;
	case 1:
		__atomic_fetch_add(&hurries, 1, __ATOMIC_SEQ_CST);
		hurry_host(&a, time_ns() + (n % 8 < 4 ? 0 : NS_PER_MS));
		fake_nap();
		fake_nap();
		hurry_host(&a, TIME_NEVER);
		__atomic_fetch_add(&hurries, 1, __ATOMIC_SEQ_CST);
		break;
	default:
		lun_get_status(a.l, &s);
		CHECK(s.state == LUN_OURS && s.waiting + s.busy <= QUEUES);
		break;
	}
	fake_nap();
}

static void threads_begin(void)
{
	world_begin(1);
	target->delay_ns = 20000;
	target->at_once = 4;
}

static void test_queues(void **state unused)
{
	pthread_t t[QUEUES];
	threads_begin();
	host_begin(&a, 1);
	uint64_t flags = spin_lock_irqsave(&target->lock);
	target->script = sometimes;
	spin_unlock_irqrestore(&target->lock, flags);
	to_go = QUEUES;
	for (uintptr_t i = 0; i < QUEUES; i++)
		assert_int_equal(pthread_create(&t[i], NULL, queue, (void *)i), 0);
	for (unsigned n = 0; __atomic_load_n(&to_go, __ATOMIC_SEQ_CST); n++)
		disturb(n);
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(lost_by(&a), 0);
	flags = spin_lock_irqsave(&target->lock);
	target->script = NULL;
	spin_unlock_irqrestore(&target->lock, flags);
	host_end(&a);
	world_end();
}

/* It ends when its last request has; it is another's when that has just begun. */
static void test_short_lives(void **state unused)
{
	static struct rq q[3];
	for (unsigned n = 0; n < 60; n++) {
		threads_begin();
		host_begin(&a, 1);
		assert_int_equal(host_open(&b, 2, 2), 0);
		for (unsigned i = 0; i < 3; i++) {
			rq_make(&q[i], BLOCKDEV_WRITE, 100 * i, 4096, 4096, 0, n);
			rq_submit(&a, &q[i]);
		}
		if (n & 1)
			assert_int_equal(host_claim(&b, true), 0);
		if (n & 2)
			fake_target_restart(true);
		for (unsigned i = 0; i < 3; i++) {
			WAIT_FOR(is_done(&q[i]));
			assert_true(!q[i].r.err || (n & 1 && q[i].r.err == -EIO));
			if (!q[i].r.err)
				rq_settle(&q[i], model);
			rq_free(&q[i]);
		}
		assert_true(lost_by(&a) <= (n & 1));
		if (n & 4)
			host_end(&a);
		else
			lun_close(a.l);
		host_end(&b);
		world_end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queues),
		cmocka_unit_test(test_short_lives),
	};
	cmocka_set_test_filter(getenv("TERN_TEST"));
	return cmocka_run_group_tests_name("disk on a unit, threads", tests, NULL, NULL);
}
