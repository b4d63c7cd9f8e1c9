/* SPDX-License-Identifier: BSD-2-Clause */
/* Run queues: who is next, by weight, and what sleeping and moving are worth. The CPU's clock is the test's own. */
#include "kernel/sched.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define MS    2000000ULL /* ticks: at 2 GHz */
#define SLICE (10 * MS)
#define TASKS 12

void spin_acquire(struct spinlock *l unused) {}
void spin_release(struct spinlock *l unused) {}
uint64_t time_ns_to_tsc(uint64_t ns) { return ns * 2; }

static struct cpu cpu[2] = { { .id = 3 }, { .id = 70 } };
static struct runq rq[2];
static struct task task[TASKS];
static struct task_share a, b;
static uint64_t ran[TASKS];

static int setup(void **state unused)
{
	for (unsigned i = 0; i < 2; i++) {
		rq[i] = (struct runq){ .cpu = &cpu[i] };
		for (unsigned p = 0; p < TASK_NPRIO; p++)
			list_init(&rq[i].ready[p]);
	}
	for (unsigned i = 0; i < TASKS; i++) {
		task[i] = (struct task){ .prio = TASK_PRIO_NORMAL };
		list_init(&task[i].run);
		ran[i] = 0;
	}
	a = b = (struct task_share){ .weight = TASK_WEIGHT };
	return 0;
}

static void wake(struct runq *q, unsigned i, struct task_share *s)
{
	task[i].share = s;
	if (s)
		s->runnable++;
	runq_enqueue(q, &task[i], false);
}

static struct task *next(struct runq *q)
{
	struct task *t = runq_pick(q);
	assert_non_null(t);
	runq_run(q, t);
	return t;
}

/* What runs has had `ticks` of q's CPU, and the clock has not moved for the test. */
static void run_for(struct runq *q, uint64_t ticks)
{
	q->charged_tsc = rdtsc() - ticks;
	runq_charge(q);
	ran[q->cur - task] += ticks / MS;
}

/* n slices of those that are there. */
static void slices(struct runq *q, unsigned n)
{
	while (n--) {
		struct task *t = next(q);
		run_for(q, SLICE);
		runq_enqueue(q, t, false);
	}
	runq_run(q, NULL);
}

static void test_in_turn(void **state unused)
{
	for (unsigned i = 0; i < 4; i++)
		wake(rq, i, NULL);
	slices(rq, 400);
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(ran[i], 980, 1020);
}

/* Weights 1 to 1000; a VM of eight tasks beside one of two has what its weight says. */
static void test_by_weight(void **state unused)
{
	a.weight = 300;
	for (unsigned i = 0; i < 10; i++)
		wake(rq, i, i < 2 ? &a : &b);
	slices(rq, 2000);
	uint64_t of_a = ran[0] + ran[1], all = 20000;
	assert_in_range(of_a, all * 73 / 100, all * 77 / 100);
	for (unsigned i = 2; i < 10; i++) /* none of it is left out */
		assert_in_range(ran[i], (all - of_a) / 10, (all - of_a) / 6);
}

static void test_extremes(void **state unused)
{
	a.weight = 1000;
	b.weight = 1;
	wake(rq, 0, &a);
	wake(rq, 1, &b);
	slices(rq, 3000);
	assert_in_range(ran[1], 10, 60); /* 30 s of them: it is never left out for more than some 10 s */
}

/* Who runs alone owes nothing for that once another comes. */
static void test_alone(void **state unused)
{
	wake(rq, 0, &a);
	struct task *t = next(rq);
	rq->charged_tsc -= 3600 * 1000 * MS; /* nothing has come or gone for an hour */
	ran[0] += 3600 * 1000;
	wake(rq, 1, &b);
	runq_charge(rq);
	assert_false(runq_due(rq, NULL) || runq_due(rq, &task[1]));
	runq_enqueue(rq, t, false);
	slices(rq, 100);
	assert_in_range(ran[0] - 3600 * 1000, 480, 520);
}

/* A sleeper comes first, once; it has saved nothing up. */
static void test_sleeper(void **state unused)
{
	wake(rq, 0, &a);
	wake(rq, 1, &b);
	slices(rq, 10);
	struct task *sleeps = next(rq);
	sleeps->share->runnable--;
	wake(rq, 2, NULL);
	slices(rq, 1000);
	unsigned i = (unsigned)(sleeps - task);
	uint64_t before = ran[i];
	wake(rq, i, sleeps->share);
	assert_ptr_equal(next(rq), sleeps);
	run_for(rq, SLICE);
	runq_enqueue(rq, sleeps, false);
	slices(rq, 300);
	assert_in_range(ran[i] - before, 980, 1040);
}

/* `other` sleeps for 4 ms between its turns, beside one that never sleeps. How often it comes at once, of 1000. */
static unsigned wakes(uint64_t turn)
{
	unsigned at_once = 0;
	wake(rq, 0, &a);
	struct task *busy, *other = next(rq);
	run_for(rq, turn);
	wake(rq, 1, &b);
	for (unsigned i = 0; i < 1000; i++) {
		a.runnable--;
		busy = next(rq);
		run_for(rq, 4 * MS);
		wake(rq, 0, &a);
		at_once += runq_due(rq, NULL);
		while (!runq_due(rq, NULL)) /* as at the ends of slices, but never too late */
			run_for(rq, MS);
		runq_enqueue(rq, busy, false);
		assert_ptr_equal(next(rq), other);
		run_for(rq, turn);
	}
	return at_once;
}

/* Who has had less does not wait for the end of a slice. */
static void test_wakes_at_once(void **state unused) { assert_int_equal(wakes(3 * MS), 1000); }

/* Who wants more than its part has no more for waking up often. */
static void test_wakes_too_often(void **state unused)
{
	assert_in_range(wakes(8 * MS), 0, 500);
	assert_in_range(ran[0] * 100 / (ran[0] + ran[1]), 48, 52);
}

/* Clocks of CPUs differ by hours; what moves keeps its place. */
static void test_moves(void **state unused)
{
	rq[0].vtime = 5;
	rq[1].vtime = 1ULL << 50;
	wake(&rq[0], 0, NULL);
	wake(&rq[0], 1, NULL);
	slices(&rq[0], 11);
	wake(&rq[1], 2, NULL);
	wake(&rq[1], 3, NULL);
	struct task *t = runq_take_ready(&rq[0], TASK_PRIO_NORMAL, ~0U);
	assert_non_null(t);
	runq_set_clock(&rq[1], t);
	runq_enqueue(&rq[1], t, false);
	ran[t - task] = 0;
	slices(&rq[1], 300);
	assert_in_range(ran[t - task], 970, 1030);
}

/* However short its turns are, they count; and who yields lets another run, also one that had more. */
static void test_yields(void **state unused)
{
	a.weight = 1000;
	wake(rq, 0, &a);
	wake(rq, 1, &b);
	wake(rq, 2, &b);
	struct task *other = next(rq);
	run_for(rq, SLICE);
	runq_enqueue(rq, other, false);
	for (unsigned i = 0; i < 3; i++) {
		struct task *t = next(rq);
		uint64_t before = t->vtime;
		run_for(rq, 50);
		assert_true(t->vtime > before);
		runq_yield(rq, t);
		runq_enqueue(rq, t, false);
		assert_ptr_not_equal(list_first(&rq->ready[TASK_PRIO_NORMAL], struct task, run), t);
	}
}

/* One that keeps its turn is before others, and nobody's time jumps to where it is. */
static void test_kept_turn(void **state unused)
{
	b.weight = 1;
	wake(rq, 0, &a);
	wake(rq, 1, &b);
	slices(rq, 1);
	struct task *t = next(rq);
	run_for(rq, SLICE / 2);
	runq_enqueue(rq, t, true);
	uint64_t now = rq->vtime;
	assert_ptr_equal(next(rq), t);
	assert_true(rq->vtime - now < 2 * SLICE);
}

static void test_bookkeeping(void **state unused)
{
	assert_int_equal(runq_load(rq), 0);
	wake(rq, 0, &a);
	wake(rq, 1, &a);
	task[2].prio = TASK_PRIO_IO;
	wake(rq, 2, NULL);
	assert_true(runq_ready[0] & BIT(3));
	wake(&rq[1], 3, NULL);
	assert_true(runq_ready[1] & BIT(6));
	task[0].on_cpu = true;
	unsigned light = task[1].weight; /* half its share's */
	assert_ptr_equal(runq_take_ready(rq, TASK_PRIO_NORMAL, light - 1), NULL);
	assert_ptr_equal(runq_take_ready(rq, TASK_PRIO_NORMAL, light), &task[1]);
	assert_ptr_equal(runq_take_ready(rq, TASK_PRIO_NORMAL, ~0U), NULL); /* that is still on its CPU */
	assert_ptr_equal(runq_pick(rq), &task[2]);
	assert_ptr_equal(runq_pick(rq), &task[0]);
	assert_ptr_equal(runq_pick(rq), NULL);
	assert_int_equal(runq_load(rq), 0);
	assert_false(runq_ready[0] & BIT(3));
	assert_true(runq_ready[1] & BIT(6));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_in_turn, setup),         cmocka_unit_test_setup(test_by_weight, setup),
		cmocka_unit_test_setup(test_extremes, setup),        cmocka_unit_test_setup(test_alone, setup),
		cmocka_unit_test_setup(test_sleeper, setup),         cmocka_unit_test_setup(test_moves, setup),
		cmocka_unit_test_setup(test_bookkeeping, setup),     cmocka_unit_test_setup(test_yields, setup),
		cmocka_unit_test_setup(test_kept_turn, setup),       cmocka_unit_test_setup(test_wakes_at_once, setup),
		cmocka_unit_test_setup(test_wakes_too_often, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
