/* SPDX-License-Identifier: BSD-2-Clause */
/* Tasks that work when they are kicked (kernel/worker.c), and the queue of frames that one of them empties. */
#include "kernel/worker.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vnet_queue.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static _Thread_local enum task_prio prio = TASK_PRIO_IO; /* of each worker's task */
static _Thread_local struct task_share *works_for;
static struct task_share share;
void task_set_prio(enum task_prio p) { prio = p; }
void task_set_share(struct task_share *s) { works_for = s; }

/* ---- kicks ---- */

#define KICKERS 4
#define KICKS   2000

static struct worker w;
static unsigned asked, seen, turns, more; /* atomic */
static bool inside;                       /* the same */
static uint64_t turn_ns, urgent_ns;       /* atomic: of each turn; of those that were urgent */
static unsigned urgent_turns;             /* the same */

static bool work(void *arg)
{
	(void)arg;
	assert_ptr_equal(works_for, &share);
	assert_false(__atomic_exchange_n(&inside, true, __ATOMIC_SEQ_CST));
	__atomic_fetch_add(&turns, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&seen, __atomic_load_n(&asked, __ATOMIC_SEQ_CST), __ATOMIC_SEQ_CST);
	uint64_t ns = __atomic_load_n(&turn_ns, __ATOMIC_SEQ_CST);
	if (prio == TASK_PRIO_IO) {
		__atomic_fetch_add(&urgent_ns, ns, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&urgent_turns, 1, __ATOMIC_SEQ_CST);
	}
	if (ns)
		fake_time_advance(ns);
	unsigned left = __atomic_load_n(&more, __ATOMIC_SEQ_CST);
	if (left)
		__atomic_store_n(&more, left - 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&inside, false, __ATOMIC_SEQ_CST);
	return left;
}

static void kicker(void *arg)
{
	for (unsigned i = 0; i < KICKS; i++) {
		__atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
		worker_kick(&w);
	}
	completion_done(arg);
}

static bool until(const unsigned *v, unsigned n)
{
	for (unsigned i = 0; i < 10000000 && __atomic_load_n(v, __ATOMIC_SEQ_CST) != n; i++)
		task_yield();
	return __atomic_load_n(v, __ATOMIC_SEQ_CST) == n;
}

/* Whoever kicks: a turn begins after it, and never two at once. */
static void no_kick_is_lost(void **state unused)
{
	struct completion done[KICKERS];
	asked = seen = turns = 0;
	assert_int_equal(worker_start(&w, "worker", work, &w, &share), 0);
	for (unsigned i = 0; i < KICKERS; i++) {
		completion_init(&done[i]);
		assert_non_null(task_create("kicker", TASK_PRIO_NORMAL, kicker, &done[i]));
	}
	for (unsigned i = 0; i < KICKERS; i++)
		assert_int_equal(completion_wait(&done[i], time_in_ms(60000)), 0);
	assert_true(until(&seen, KICKERS * KICKS));
	worker_settle(&w);
	assert_false(inside);
	turns = 0;
	__atomic_store_n(&more, 5, __ATOMIC_SEQ_CST); /* it says itself that there is more */
	worker_kick(&w);
	assert_true(until(&turns, 6));
	worker_stop(&w);
	worker_kick(&w); /* harmless */
	assert_int_equal(turns, 6);
	assert_true(fake_tasks_wait());
}

static void turn_of_one(struct worker *one, uint64_t ns)
{
	turns = 0;
	__atomic_store_n(&turn_ns, ns, __ATOMIC_SEQ_CST);
	worker_kick(one);
	assert_true(until(&turns, 1));
	worker_settle(one);
}

static void turn_of(uint64_t ns) { turn_of_one(&w, ns); }

/* Who works all the time is not urgent for long, however its turns are cut, and is again after a rest. */
static void urgent_for_a_share(void **state unused)
{
	static const uint64_t us[][2] = { { 500, 500 }, { 160, 630 }, { 10, 10 }, { 1, 3000 } };
	fake_time_freeze(NS_PER_SEC);
	fake_cpu = 3; /* of each test its own: this one's time goes back */
	assert_int_equal(worker_start(&w, "worker", work, &w, &share), 0);
	for (unsigned c = 0; c < ARRAY_SIZE(us); c++) {
		uint64_t begin = time_ns();
		urgent_ns = 0;
		for (unsigned i = 0; time_ns() < begin + 100 * NS_PER_MS; i++)
			turn_of(us[c][i % 2] * NS_PER_US);
		assert_in_range(urgent_ns, 12 * NS_PER_MS, 26 * NS_PER_MS);
		fake_time_advance(NS_PER_SEC);
		urgent_ns = 0;
		turn_of(500 * NS_PER_US); /* this one already */
		assert_int_equal(urgent_ns, 500 * NS_PER_US);
	}
	/* To be woken is not free, either. */
	fake_time_advance(NS_PER_SEC);
	urgent_turns = 0;
	for (unsigned i = 0; i < 4000; i++) {
		turn_of(0);
		fake_time_advance(NS_PER_US);
	}
	assert_in_range(urgent_turns, 400, 600);
	worker_stop(&w);
	fake_time_thaw();
	assert_true(fake_tasks_wait());
}

/* Many that work all the time leave a CPU half of its time; those on another one do not lose by it. */
static void urgent_for_a_share_of_a_cpu(void **state unused)
{
	static struct worker many[8];
	fake_time_freeze(100 * NS_PER_SEC);
	fake_cpu = 1;
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		assert_int_equal(worker_start(&many[i], "worker", work, &many[i], &share), 0);
	assert_int_equal(worker_start(&w, "worker", work, &w, &share), 0);
	for (unsigned c = 0; c < 2; c++) {
		uint64_t begin = time_ns();
		urgent_ns = 0;
		while (time_ns() < begin + 100 * NS_PER_MS)
			for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
				turn_of_one(&many[i], 100 * NS_PER_US);
		assert_in_range(urgent_ns, 45 * NS_PER_MS, 53 * NS_PER_MS);
		urgent_ns = 0;
		fake_cpu = 2;
		turn_of(NS_PER_US);
		assert_int_equal(urgent_ns, NS_PER_US);
		fake_cpu = 1;
		fake_time_advance(NS_PER_SEC);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		worker_stop(&many[i]);
	worker_stop(&w);
	fake_time_thaw();
	assert_true(fake_tasks_wait());
}

/* ---- the queue ---- */

static void frame_of(struct frame *f, uint8_t *buf, unsigned n, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 7 + n);
	*f = (struct frame){ .len = (uint32_t)len,
			     .niov = 2,
			     .iov = { { buf, len / 2 }, { buf + len / 2, len - len / 2 } },
			     .flags = (uint8_t)(n & 3),
			     .gso = (uint8_t)(n & 5),
			     .hdr_len = (uint16_t)n,
			     .gso_size = (uint16_t)(n + 1),
			     .csum_start = (uint16_t)(n + 2),
			     .csum_offset = (uint16_t)(n + 3) };
}

static void expect_frame(struct vnet_queue *q, unsigned n, size_t len)
{
	static uint8_t buf[FRAME_MAX];
	struct frame f, was;
	frame_of(&was, buf, n, len);
	assert_true(vnet_queue_first(q, &f));
	assert_int_equal(f.len, len);
	assert_int_equal(f.niov, 1);
	assert_memory_equal(f.iov[0].base, buf, len);
	assert_memory_equal(&f.len, &was.len, offsetof(struct frame, csum_offset) + 2 - offsetof(struct frame, len));
	vnet_queue_drop(q);
}

/* Any lengths, as many as fit: what comes out is what went in, in order. */
static void frames_in_order(void **state unused)
{
	static uint8_t buf[FRAME_MAX];
	static size_t len[100000];
	struct vnet_queue q;
	struct frame f;
	unsigned in = 0, out = 0, full = 0;
	assert_int_equal(vnet_queue_init(&q), 0);
	assert_false(vnet_queue_first(&q, &f));
	srand(1);
	while (in < 3000) {
		len[in] = rand() % 8 ? 14 + (size_t)rand() % 1501 : 1 + (size_t)rand() % FRAME_MAX;
		frame_of(&f, buf, in, len[in]);
		int err = vnet_queue_put(&q, &f);
		assert_true(!err || err == -ENOBUFS);
		in += !err;
		full += !!err;
		for (unsigned n = err ? 1 + (unsigned)rand() % 8 : 0; n && out < in; n--, out++)
			expect_frame(&q, out, len[out]);
	}
	for (; out < in; out++)
		expect_frame(&q, out, len[out]);
	assert_false(vnet_queue_first(&q, &f));
	assert_in_range(full, 100, 3000);
	frame_of(&f, buf, 1, FRAME_MAX); /* the largest finds room wherever it is */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(vnet_queue_put(&q, &f), 0);
		expect_frame(&q, 1, FRAME_MAX);
	}
	/* What expires is gone, what comes after is not; one that is being brought meanwhile ends as any. */
	frame_of(&f, buf, 2, 100);
	assert_int_equal(vnet_queue_put(&q, &f), 0);
	assert_int_equal(vnet_queue_put(&q, &f), 0);
	assert_true(vnet_queue_first(&q, &f));
	vnet_queue_expire(&q);
	vnet_queue_drop(&q);
	frame_of(&f, buf, 3, 70);
	assert_int_equal(vnet_queue_put(&q, &f), 0);
	expect_frame(&q, 3, 70);
	assert_false(vnet_queue_first(&q, &f));
	vnet_queue_fini(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_kick_is_lost),
		cmocka_unit_test(urgent_for_a_share),
		cmocka_unit_test(urgent_for_a_share_of_a_cpu),
		cmocka_unit_test(frames_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
