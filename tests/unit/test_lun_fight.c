/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two hosts that want one unit (vmm/lun.h), while sessions end and the target restarts: whatever they do in whatever
 * order, who thinks that it has the unit is who has it, and each request ends once. By turns.
 */
#include "tests/unit/lun_driver.h"

#define STEPS 40
#define LIVES 300

static struct host h[2];
static unsigned claims[2];
static struct rq q[STEPS + 2];
static unsigned nq;

static void put_write(unsigned i)
{
	if (!claims[i])
		return; /* it would wait for a claim */
	rq_make(&q[nq], BLOCKDEV_WRITE, 1024 * i + 8 * (fake_turns_draw() % 100), 4096, 4096, 0, nq);
	rq_submit(&h[i], &q[nq++]);
}

static void put_claim(unsigned i, bool force)
{
	bool others = holds(&h[!i]);
	int err = host_claim(&h[i], force);
	assert_true(err || force || !others);
	for (unsigned n = 0; n < 100 && err && err != -EBUSY; n++) { /* an answer was lost: nobody knows */
		task_sleep_until(time_ns() + 100 * NS_PER_MS);
		err = host_claim(&h[i], force);
	}
	assert_true(!err || err == -EBUSY);
	claims[i] += !err;
}

static bool forced; /* a claim of this life */

static void step(void)
{
	uint64_t what = fake_turns_draw() % 16;
	unsigned i = fake_turns_draw() & 1;
	switch (what) {
	case 0:
	case 1:
		put_claim(i, true);
		forced = true;
		break;
	case 2:
	case 3: put_claim(i, false); break;
	case 4: fake_target_restart(true); break;
	case 5:
	case 6: {
		uint64_t flags = spin_lock_irqsave(&target->lock);
		fake_target_cut(target->nnexus ? (unsigned)(fake_turns_draw() % target->nnexus) : 0);
		spin_unlock_irqrestore(&target->lock, flags);
		break;
	}
	case 7: task_sleep_until(time_ns() + NS_PER_SEC); break;
	default: put_write(i); break;
	}
	task_sleep_until(time_ns() + fake_turns_draw() % (3 * NS_PER_MS));
}

/* Now and then the connection goes with a command, or its answer. */
static struct fake_fault loses(struct fake_target *t unused, const struct fake_command *c unused)
{
	static const enum fake_what what[] = { FAKE_END_BEFORE, FAKE_END_AFTER, FAKE_GHOST };
	uint64_t n = fake_turns_draw() % 60;
	return (struct fake_fault){ .what = n < ARRAY_SIZE(what) ? what[n] : FAKE_DONE };
}

static void fight(uint64_t seed)
{
	world_begin(seed);
	target->at_once = 3;
	target->forgets = seed & 1;
	target->no_aptpl = seed & 2;
	nq = claims[0] = claims[1] = 0;
	forced = false;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(host_open(&h[i], i + 1, i + 1), 0);
	target->script = loses;
	for (unsigned n = 0; n < STEPS; n++)
		step();
	target->script = NULL;
	task_sleep_until(time_ns() + 5 * NS_PER_SEC);
	put_write(0); /* who does not write, may not have heard of it */
	put_write(1);
	for (unsigned i = 0; i < nq; i++) {
		UNTIL(is_done(&q[i]), 20 * NS_PER_SEC);
		assert_int_equal(is_done(&q[i]), 1);
		assert_true(!q[i].r.err || q[i].r.err == -EIO);
		rq_free(&q[i]);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(state_of(&h[i]) == LUN_OURS, holds(&h[i]));
		assert_true(lost_by(&h[i]) <= claims[i]);
		host_end(&h[i]);
	}
	if (!forced) /* what was taken by force is not given back */
		assert_int_equal(fake_target_held_by(), ~0U);
	memcpy(model, target->data, BYTES); /* what was written when two did, others have looked at */
	world_end();
}

static void test_fights(void **state unused)
{
	for (uint64_t seed = 1; seed <= LIVES; seed++)
		fight(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_fights) };
	fake_turns_begin(1000 * NS_PER_SEC);
	return cmocka_run_group_tests_name("two hosts, one unit", tests, NULL, NULL);
}
