/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nobody is forgotten: the scheduler's own code in small scenarios, in all their interleavings (sched_model.h).
 */
#include "tests/unit/sched_model.h"

static void up0_down1(void)
{
	sem_up(&w.sem[0]);
	sem_down(&w.sem[1], TIME_NEVER);
}

static void down0_up1(void)
{
	sem_down(&w.sem[0], TIME_NEVER);
	sem_up(&w.sem[1]);
}

static void down0(void) { sem_down(&w.sem[0], TIME_NEVER); }

/* Works for a while, whatever interrupts it. */
static void works(void)
{
	bool *rested = &w.rested[task_self() - w.task];
	while (!*rested)
		rest();
	*rested = false;
}

static void works_up0_works(void)
{
	works();
	sem_up(&w.sem[0]);
	works();
}

static void holds(void)
{
	mutex_lock(&w.mutex);
	assert_int_equal(w.inside++, 0);
	step(__LINE__);
	w.inside--;
	mutex_unlock(&w.mutex);
}

static void down0_in_time(void)
{
	int err = sem_down(&w.sem[0], w.now_ns + NS_PER_MS);
	assert_true(err == 0 || err == -ETIMEDOUT);
}

static void up0(void) { sem_up(&w.sem[0]); }

static void becomes_urgent(void)
{
	task_set_prio(TASK_PRIO_SWITCH);
	sem_up(&w.sem[0]);
	works();
	task_set_prio(TASK_PRIO_NORMAL);
}

static void urgent_down0(void)
{
	task_set_prio(TASK_PRIO_SWITCH);
	down0();
	works();
}

static void urgent_ups0(void)
{
	task_set_prio(TASK_PRIO_SWITCH);
	up0();
	works();
}

static void yields(void)
{
	w.cpu[now].current->slice_end_ns = 0;
	uint64_t flags = model_irq_save();
	sched_switch();
	model_irq_restore(flags);
}

/* As under a spinlock that interrupts do not care for. */
static void holds_off(void)
{
	sched_preempt_inc();
	works();
	preempt_enable();
}

/* One, the other, and the one again: who wakes the other one goes to sleep before it lets go of the lock. */
static void turns_of(unsigned mine)
{
	uint64_t flags = spin_lock_irqsave(&w.lock);
	for (unsigned i = mine; i < 2; i++) {
		while (w.turn != mine)
			waitq_wait(&w.q, &w.lock, &flags, TIME_NEVER);
		w.turn = !mine;
		waitq_wake_all(&w.q);
	}
	spin_unlock_irqrestore(&w.lock, flags);
}
static void turn0(void) { turns_of(0); }
static void turn1(void) { turns_of(1); }

static void ups0_twice(void)
{
	sem_up(&w.sem[0]);
	sem_up(&w.sem[0]);
}

static void down0_works(void)
{
	down0();
	works();
}

static void leaves_share(void)
{
	task_set_share(NULL);
	works();
}

static void reaps(void) { sem_down(&w.dead, TIME_NEVER); }

#define SCENARIO(name, time, device, ...)                                               \
	static void name(void **state unused)                                           \
	{                                                                               \
		explore_all(time, device, (void (*const[TASKS])(void)){ __VA_ARGS__ }); \
	}
SCENARIO(two_wake_each_other, 0, 0, up0_down1, down0_up1)
SCENARIO(who_works_wakes, 0, 0, works_up0_works, down0, works)
SCENARIO(mutex_of_two, 0, 0, holds, holds)
SCENARIO(in_time_or_not, 1, 1, down0_in_time)
SCENARIO(becomes, 0, 0, becomes_urgent, down0, works)
SCENARIO(who_yields, 0, 0, yields, works, yields)
SCENARIO(device_wakes, 0, 1, down0, works)
SCENARIO(device_wakes_beside_a_lock, 0, 1, down0, holds_off)
SCENARIO(turns, 0, 0, turn0, turn1, works)
SCENARIO(two_woken_at_once, 0, 0, down0_works, down0_works, works, ups0_twice)
SCENARIO(urgent_wakes_urgent, 0, 0, urgent_down0, urgent_ups0, works)
static void urgent_beside_busy(void **state)
{
	spreads = true;
	urgent_wakes_urgent(state);
	spreads = false;
}
SCENARIO(share_is_left, 0, 0, leaves_share, up0, down0)
SCENARIO(reaped, 0, 0, reaps, works)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_wake_each_other),
		cmocka_unit_test(who_works_wakes),
		cmocka_unit_test(mutex_of_two),
		cmocka_unit_test(in_time_or_not),
		cmocka_unit_test(becomes),
		cmocka_unit_test(device_wakes),
		cmocka_unit_test(device_wakes_beside_a_lock),
		cmocka_unit_test(turns),
		cmocka_unit_test(two_woken_at_once),
		cmocka_unit_test(urgent_beside_busy),
		cmocka_unit_test(share_is_left),
		cmocka_unit_test(reaped),
		cmocka_unit_test(who_yields),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
