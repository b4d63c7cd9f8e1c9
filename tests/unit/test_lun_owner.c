/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose a unit is (vmm/lun_owner.h): hosts that claim it in every order, lose it, and come back. Who has lost it writes
 * nothing any more, and what it had under way does not come after the other's. By turns.
 */
#include "tests/unit/lun_driver.h"
#include "vmm/lun_owner.h"

#define PR_IN  0x5e
#define PR_OUT 0x5f

static struct host a, b, c;

/* ---- two at once ---- */

struct claimer {
	struct host *h;
	bool force;
	int err;
	struct completion over;
};

static void claim_task(void *arg)
{
	struct claimer *k = arg;
	struct why w = { "" };
	k->err = lun_claim(k->h->l, k->force, &w);
	completion_done(&k->over);
}

static void claim_both(bool force, struct claimer *k)
{
	for (unsigned i = 0; i < 2; i++) {
		k[i] = (struct claimer){ .h = i ? &b : &a, .force = force };
		completion_init(&k[i].over);
		assert_non_null(task_create("claim", TASK_PRIO_NORMAL, claim_task, &k[i]));
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(completion_wait(&k[i].over, time_ns() + 60 * NS_PER_SEC), 0);
}

/* One has it, and writes; the other does not, or has lost it by then. */
static void one_writes(struct host *has, struct host *other)
{
	unsigned before = writes_of(other->id, true);
	struct rq q;
	rq_make(&q, BLOCKDEV_WRITE, 3, 4096, 4096, 0, 9);
	if (state_of(other) != LUN_FREE) {
		assert_int_equal(rq_do(other, &q, NULL), -EIO);
		assert_int_equal(lost_by(other), 1);
	} else {
		rq_free(&q);
	}
	assert_int_equal(writes_of(other->id, true), before);
	assert_int_equal(write_one(has, 3, 4096, 2, model), 0);
	assert_int_equal(lost_by(has), 0);
}

static void test_two_at_once(void **state unused)
{
	unsigned won[2] = { 0, 0 };
	for (unsigned seed = 1; seed <= 200; seed++) {
		struct claimer k[2];
		world_begin(seed);
		target->delay_ns = 1000;
		assert_int_equal(host_open(&a, 1, 1), 0);
		assert_int_equal(host_open(&b, 2, 2), 0);
		claim_both(false, k);
		assert_true((!k[0].err && k[1].err == -EBUSY) || (!k[1].err && k[0].err == -EBUSY));
		won[k[0].err != 0]++;
		if (k[0].err)
			one_writes(&b, &a);
		else
			one_writes(&a, &b);
		host_end(&a);
		host_end(&b);
		world_end();
	}
	assert_true(won[0] && won[1]);
}

/* By force from a third: one of them has it in the end, and the others say so when they write. */
static void test_two_by_force(void **state unused)
{
	for (unsigned seed = 1; seed <= 200; seed++) {
		struct claimer k[2];
		world_begin(seed);
		target->delay_ns = 1000;
		host_begin(&c, 3);
		assert_int_equal(host_open(&a, 1, 1), 0);
		assert_int_equal(host_open(&b, 2, 2), 0);
		claim_both(true, k);
		unsigned by = fake_target_held_by();
		assert_true(by != ~0U);
		struct host *has = strstr(target->nexus[by].initiator, "0001") ? &a : &b;
		assert_int_equal(k[has == &b].err, 0);
		one_writes(has, has == &a ? &b : &a);
		one_writes(has, &c);
		host_end(&a);
		host_end(&b);
		host_end(&c);
		world_end();
	}
}

/* ---- one after the other ---- */

static void test_one_after_the_other(void **state unused)
{
	world_begin(1);
	host_begin(&a, 1);
	assert_int_equal(host_open(&b, 2, 2), 0);
	assert_int_equal(host_claim(&b, false), -EBUSY);
	assert_int_equal(read_one(&a, 4, 4096, model), 0);
	assert_int_equal(write_one(&a, 4, 4096, 1, model), 0);
	host_end(&a);
	assert_int_equal(fake_target_held_by(), ~0U);
	for (unsigned i = 0; i < target->nnexus; i++)
		assert_true(i == 1 || !target->nexus[i].key); /* and is not registered */
	assert_int_equal(host_claim(&b, false), 0);
	assert_int_equal(write_one(&b, 4, 4096, 2, model), 0);
	host_end(&b);
	world_end();
}

/* This host has been here before, on the same nexus or another: it needs no force, whoever else does. */
static void test_own_crash(void **state unused)
{
	for (unsigned i = 0; i < 6; i++) {
		struct host old;
		world_begin(i);
		target->forgets = i & 1;
		target->no_abort = i > 3;
		target->no_aptpl = i > 1;
		host_begin(&old, 1);
		assert_int_equal(write_one(&old, 4, 4096, 1, model), 0);
		assert_int_equal(host_open(&b, 2, 2), 0);
		assert_int_equal(host_claim(&b, false), -EBUSY);
		lun_close(old.l); /* without a word on its reservation */
		assert_int_equal(host_open(&a, 1, i & 2 ? 1 : 77), 0);
		assert_int_equal(host_claim(&a, false), 0);
		assert_int_equal(host_claim(&b, false), -EBUSY);
		assert_int_equal(write_one(&a, 4, 4096, 2, model), 0);
		host_end(&b);
		host_end(&a);
		world_end();
	}
}

static void test_by_force(void **state unused)
{
	world_begin(1);
	host_begin(&a, 1);
	assert_int_equal(host_open(&b, 2, 2), 0);
	assert_int_equal(host_claim(&b, true), 0);
	one_writes(&b, &a);
	assert_int_equal(state_of(&a), LUN_LOST);
	host_end(&a); /* it has nothing to give up */
	assert_int_equal(state_of(&b), LUN_OURS);
	assert_int_equal(write_one(&b, 5, 4096, 2, model), 0);
	host_end(&b);
	world_end();
}

/* ---- lost in the middle of writing ---- */

static unsigned at, seen;

static struct fake_fault preempt_at(struct fake_target *t, const struct fake_command *k)
{
	if (k->nexus == 0 && ++seen == at) { /* the other one was faster: as if by its claim */
		fake_target_reserve(1, 0xd00d);
		t->holder = 1;
		t->nexus[0].key = 0;
		if (!t->no_attention) {
			t->nexus[0].ua[0] = 0x2a03;
			t->nexus[0].nua = 1;
		}
	}
	return (struct fake_fault){ FAKE_DONE };
}

/* At each command of a's. What it was told is done, is; nothing of it comes later; it is told once. */
static bool lose_at(unsigned n, bool silent)
{
	struct rq q[20];
	unsigned failed = 0;
	world_begin(n);
	host_begin(&a, 1);
	assert_int_equal(host_open(&b, 2, 2), 0);
	task_sleep_until(time_ns() + NS_PER_SEC); /* what their keepers look at first */
	target->no_attention = silent;
	at = n;
	seen = 0;
	target->script = preempt_at;
	for (unsigned i = 0; i < ARRAY_SIZE(q); i++) {
		rq_make(&q[i], BLOCKDEV_WRITE, 8 * i, 4096, 4096, 0, i);
		rq_submit(&a, &q[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(q); i++) {
		UNTIL(is_done(&q[i]), 10 * NS_PER_SEC);
		assert_int_equal(is_done(&q[i]), 1);
		assert_true(!q[i].r.err || q[i].r.err == -EIO);
		failed += q[i].r.err != 0;
		if (!q[i].r.err)
			rq_settle(&q[i], model);
		rq_free(&q[i]);
	}
	bool there = seen >= at;
	assert_int_equal(lost_by(&a), there);
	assert_int_equal(failed, there ? 21 - n : 0);
	if (there) {
		assert_int_equal(write_one(&a, 0, 4096, 77, NULL), -EIO);
		task_sleep_until(time_ns() + 10 * NS_PER_SEC);
		assert_int_equal(writes_of(1, false), a.asked); /* it has not even asked for more */
		assert_int_equal(writes_of(1, true), n - 1);
	}
	target->script = NULL;
	fake_target_drop_key(1, false);
	host_end(&a);
	host_end(&b);
	world_end();
	return there;
}

static void test_lost_while_it_writes(void **state unused)
{
	for (unsigned silent = 0; silent < 2; silent++)
		for (unsigned n = 1; lose_at(n, silent); n++)
			assert_true(n < 100);
}

/* A write of a's that the target has taken is not done after b has taken the unit. */
static void test_no_ghost_of_the_loser(void **state unused)
{
	struct rq q;
	world_begin(1);
	host_begin(&a, 1);
	assert_int_equal(host_open(&b, 2, 2), 0);
	rq_make(&q, BLOCKDEV_WRITE, 8, 4096, 4096, 0, 1);
	task_sleep_until(time_ns() + NS_PER_SEC);
	target->draw = NULL; /* what is aborted is not done */
	target->delay_ns = NS_PER_SEC;
	rq_submit(&a, &q);
	uint64_t flags = spin_lock_irqsave(&target->lock);
	fake_target_cut(0);
	target->away_until = time_ns() + 3600 * NS_PER_SEC;
	spin_unlock_irqrestore(&target->lock, flags);
	assert_non_null(target->ghosts);
	assert_int_equal(host_claim(&b, true), 0);
	assert_int_equal(write_one(&b, 8, 4096, 2, model), 0);
	fake_target_ghosts_walk();
	assert_memory_equal(target->data, model, BYTES);
	target->away_until = 0;
	UNTIL(is_done(&q), 10 * NS_PER_SEC);
	assert_int_equal(q.r.err, -EIO);
	rq_free(&q);
	assert_int_equal(lost_by(&a), 1);
	host_end(&a);
	host_end(&b);
	world_end();
}

/* ---- a holder that goes at the wrong moment ---- */

static bool stays_registered;
static unsigned third; /* who takes what is free then; ~0U: nobody */

static struct fake_fault release_at(struct fake_target *t unused, const struct fake_command *k)
{
	if (k->nexus == 1 && k->op == PR_OUT && ++seen == at) {
		fake_target_drop_key(0, stays_registered);
		if (third != ~0U)
			fake_target_reserve(third, 0xd00d);
	}
	return (struct fake_fault){ FAKE_DONE };
}

static void test_released_meanwhile(void **state unused)
{
	for (unsigned i = 0; i < 16; i++) {
		world_begin(i);
		target->no_abort = i & 8;
		host_begin(&a, 1);
		assert_int_equal(host_open(&b, 2, 2), 0);
		assert_int_equal(host_open(&c, 3, 3), 0);
		task_sleep_until(time_ns() + NS_PER_SEC);
		at = i & 1 ? 1 : 2;
		stays_registered = i & 2;
		third = i & 4 ? 2 : ~0U;
		seen = 0;
		target->script = release_at;
		int err = host_claim(&b, true);
		assert_true(seen >= at);
		assert_int_equal(!err, fake_target_held_by() == 1); /* it has it, or does not say so */
		if (third != ~0U || err)
			assert_int_equal(err, -EBUSY);
		target->script = NULL;
		fake_target_drop_key(2, false);
		host_end(&c);
		host_end(&b);
		host_end(&a);
		world_end();
	}
}

/*
 * b takes it from a, writes, and stops; only then does a write again, or come back: its writes must not go over b's.
 */
static void test_too_late(void **state unused)
{
	for (unsigned i = 0; i < 8; i++) {
		bool forced = i & 1, away = i & 2;
		world_begin(i);
		target->no_attention = i & 4;
		host_begin(&a, 1);
		assert_int_equal(write_one(&a, 1, 4096, 1, model), 0);
		if (away) {
			target->away_until = TIME_NEVER;
			fake_target_restart(forced);
			task_sleep_until(time_ns() + NS_PER_SEC);
			target->away_until = 0;
		}
		assert_int_equal(host_open(&b, 2, 2), 0);
		if (host_claim(&b, forced)) { /* a was faster to come back */
			assert_int_equal(lost_by(&a), 0);
			host_end(&a);
			host_end(&b);
			world_end();
			continue;
		}
		assert_int_equal(write_one(&b, 1, 4096, 2, model), 0);
		host_end(&b);
		assert_int_not_equal(write_one(&a, 1, 4096, 3, NULL), 0);
		assert_int_equal(lost_by(&a), 1);
		host_end(&a);
		if (forced)
			assert_int_equal(host_open(&c, 3, 3) || host_claim(&c, false), 1);
		host_end(&c);
		world_end();
	}
}

/* ---- what the target forgets ---- */

/* Who comes back first has it; who runs meanwhile and finds it free takes it. */
static void test_forgets_reservations(void **state unused)
{
	for (unsigned faster = 0; faster < 2; faster++) {
		world_begin(faster);
		host_begin(&a, 1);
		assert_int_equal(host_open(&b, 2, 2), 0);
		assert_int_equal(write_one(&a, 1, 4096, 1, model), 0);
		fake_target_restart(false);
		if (faster) {
			uint64_t flags = spin_lock_irqsave(&target->lock);
			fake_target_reserve(1, 0xd00d);
			spin_unlock_irqrestore(&target->lock, flags);
		}
		int err = write_one(&a, 1, 4096, 2, faster ? NULL : model);
		assert_int_equal(err, faster ? -EIO : 0);
		assert_int_equal(lost_by(&a), faster);
		assert_int_equal(fake_target_held_by(), faster);
		if (!faster)
			assert_int_equal(host_claim(&b, false), -EBUSY);
		fake_target_drop_key(1, false);
		host_end(&a);
		host_end(&b);
		world_end();
	}
}

/* An idle disk hears of it as well, when its session is there again. */
static void test_forgets_while_idle(void **state unused)
{
	for (unsigned forgets = 0; forgets < 4; forgets++) {
		world_begin(forgets);
		target->forgets = forgets & 1;
		host_begin(&a, 1);
		task_sleep_until(time_ns() + NS_PER_SEC);
		fake_target_restart(forgets & 2);
		task_sleep_until(time_ns() + 5 * NS_PER_SEC);
		assert_int_equal(lost_by(&a), 0);
		unsigned by = fake_target_held_by();
		assert_int_equal(by, forgets & 1);
		assert_int_equal(write_one(&a, 1, 4096, 2, model), 0);
		host_end(&a);
		world_end();
	}
}

/* ---- keys ---- */

static void test_keys(void **state unused)
{
	uint64_t one = lun_owner_key(1), two = lun_owner_key(1);
	assert_true(one != two && one >> 60 == 0xd);
	assert_true(lun_owner_key_is_of(one, 1) && lun_owner_key_is_of(two, 1));
	assert_false(lun_owner_key_is_of(one, 2));
	assert_false(lun_owner_key_is_of(one & ~(1UL << 63), 1));
	assert_false(lun_owner_key_is_of(0, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_at_once),
		cmocka_unit_test(test_two_by_force),
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_own_crash),
		cmocka_unit_test(test_by_force),
		cmocka_unit_test(test_lost_while_it_writes),
		cmocka_unit_test(test_no_ghost_of_the_loser),
		cmocka_unit_test(test_released_meanwhile),
		cmocka_unit_test(test_too_late),
		cmocka_unit_test(test_forgets_reservations),
		cmocka_unit_test(test_forgets_while_idle),
		cmocka_unit_test(test_keys),
	};
	fake_turns_begin(1000 * NS_PER_SEC);
	cmocka_set_test_filter(getenv("TERN_TEST"));
	return cmocka_run_group_tests_name("whose a unit is", tests, NULL, NULL);
}
