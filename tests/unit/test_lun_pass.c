/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit that passes from host to host with its VM (vmm/lun_pass.h): of the source, which takes it back, and the
 * destination, which takes it over, one has it, whatever is lost on the way; and nothing that the source had under way
 * comes after what the destination writes. By turns.
 */
#include "tests/unit/lun_driver.h"
#include "vmm/lun_owner.h"
#include "vmm/lun_pass.h"

#define LIVES 400

static struct host a, b, c;

static uint64_t begin(uint64_t seed)
{
	struct why w = { "" };
	uint64_t key = 0;
	world_begin(seed);
	host_begin(&a, 1);
	assert_int_equal(write_one(&a, 4, 4096, 1, model), 0);
	assert_int_equal(host_open(&b, 2, 2), 0);
	assert_int_equal(lun_pass_prepare(b.l, 1, &w), 0);
	assert_int_equal(lun_pass(a.l, time_ns() + NS_PER_SEC, &key, &w), 0);
	assert_int_equal(state_of(&a), LUN_PASSED);
	assert_true(lun_owner_key_is_of(key, 1) && lun_owner_key_runs(key));
	return key;
}

static void end(void)
{
	host_end(&a);
	host_end(&b);
	world_end();
}

static int take_over(struct host *h, uint64_t from, uint64_t *other)
{
	struct why w = { "" };
	return lun_pass_take_over(h->l, from, other, &w);
}

static int take_back(bool force, uint64_t *other)
{
	struct why w = { "" };
	return lun_pass_take_back(a.l, force, other, &w);
}

/* It goes there, says that it runs, and comes back. */
static void test_there_and_back(void **state unused)
{
	uint64_t key = begin(1), other = 0;
	struct why w = { "" };
	assert_int_equal(take_over(&b, key, &other), 0);
	assert_int_equal(write_one(&b, 4, 4096, 2, model), 0);
	assert_int_equal(take_back(false, &other), -EBUSY);
	assert_true(lun_owner_key_is_of(other, 2) && !lun_owner_key_runs(other));
	lun_pass_mark(b.l);
	task_sleep_until(time_ns() + NS_PER_SEC);
	assert_int_equal(take_back(false, &other), -EBUSY);
	assert_true(lun_owner_key_is_of(other, 2) && lun_owner_key_runs(other));
	lun_release(a.l); /* which is nothing that concerns b */
	assert_int_equal(lost_by(&a), 0);
	assert_int_equal(write_one(&b, 4, 4096, 3, model), 0);
	assert_int_equal(lun_pass_prepare(a.l, 2, &w), 0);
	assert_int_equal(lun_pass(b.l, time_ns() + NS_PER_SEC, &key, &w), 0);
	assert_int_equal(take_over(&a, key, &other), 0);
	assert_int_equal(write_one(&a, 4, 4096, 4, model), 0);
	assert_int_equal(lost_by(&b), 0);
	end();
}

/* Before the destination has claimed it; a claim that comes late fails. And one that was not passed at all. */
static void test_taken_back(void **state unused)
{
	uint64_t key = begin(2), other = 0;
	assert_int_equal(take_back(false, &other), 0);
	assert_int_equal(take_back(false, &other), 0); /* it is */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(take_over(&b, key, &other), -EBUSY);
	assert_true(lun_owner_key_is_of(other, 1) && other != key);
	assert_int_equal(write_one(&a, 4, 4096, 5, model), 0);
	struct why w = { "" };
	assert_int_equal(lun_pass(a.l, time_ns() + NS_PER_SEC, &key, &w), 0);
	lun_pass_keep(a.l);
	assert_int_equal(write_one(&a, 4, 4096, 6, model), 0);
	end();
}

/* A third host, by its operator's word, and then the source by its own. */
static void test_by_force(void **state unused)
{
	uint64_t key = begin(3), other = 0;
	assert_int_equal(host_open(&c, 3, 3), 0);
	assert_int_equal(host_claim(&c, false), -EBUSY);
	assert_int_equal(host_claim(&c, true), 0);
	assert_int_equal(take_over(&b, key, &other), -EBUSY);
	assert_int_equal(take_back(false, &other), -EBUSY);
	assert_true(lun_owner_key_is_of(other, 3));
	assert_int_equal(take_back(true, &other), 0);
	assert_int_equal(take_over(&b, key, &other), -EBUSY);
	assert_int_equal(write_one(&a, 4, 4096, 7, model), 0);
	host_end(&c);
	end();
}

/* What the target forgets stays undecided, until somebody says whose it is. */
static void test_forgotten(void **state unused)
{
	uint64_t key, other = 0;
	begin(4);
	end();
	key = begin(5);
	fake_target_restart(false);
	for (unsigned i = 0; i < 5; i++) {
		task_sleep_until(time_ns() + NS_PER_SEC);
		assert_int_equal(take_over(&b, key, &other), -EAGAIN);
		assert_int_equal(take_back(false, &other), -EAGAIN);
	}
	assert_int_equal(take_back(true, &other), 0);
	assert_int_equal(take_over(&b, key, &other), -EBUSY);
	assert_int_equal(write_one(&a, 4, 4096, 8, model), 0);
	end();
}

/* A destination whose unit is not held by its source registers nothing: the source may have to ask for it again. */
static void test_prepared_of_whom(void **state unused)
{
	struct why w = { "" };
	world_begin(6);
	host_begin(&a, 1);
	assert_int_equal(host_open(&b, 2, 2), 0);
	assert_int_equal(lun_pass_prepare(b.l, 3, &w), -EBUSY);
	fake_target_restart(false);
	task_sleep_until(time_ns() + 3 * NS_PER_SEC);
	for (unsigned n = 0; n < 20 && lun_pass_prepare(b.l, 1, &w) == -EAGAIN; n++)
		task_sleep_until(time_ns() + NS_PER_SEC / 2);
	assert_int_equal(write_one(&a, 4, 4096, 1, model), 0);
	assert_int_equal(lost_by(&a), 0);
	end();
}

/* It is the destination's, and then an operator's word has it displaced, before it has started. */
static void test_taken_and_lost(void **state unused)
{
	uint64_t key = begin(7), other = 0;
	assert_int_equal(take_over(&b, key, &other), 0);
	assert_int_equal(take_over(&b, key, &other), 0);
	assert_int_equal(take_back(true, &other), 0);
	assert_int_equal(take_over(&b, key, &other), -EBUSY);
	assert_int_equal(state_of(&b), LUN_FREE);
	assert_int_equal(write_one(&a, 4, 4096, 2, model), 0);
	end();
}

/* Sessions that end, and what the target forgets, do not make a unit look as if its VM ran. */
static void test_came_stays(void **state unused)
{
	uint64_t key = begin(8), other = 0;
	assert_int_equal(take_over(&b, key, &other), 0);
	target->forgets = true;
	fake_target_restart(true);
	task_sleep_until(time_ns() + 5 * NS_PER_SEC);
	for (unsigned n = 0; n < 20 && take_back(false, &other) == -EAGAIN; n++)
		task_sleep_until(time_ns() + NS_PER_SEC / 2);
	assert_true(lun_owner_key_is_of(other, 2) && !lun_owner_key_runs(other));
	assert_int_equal(write_one(&b, 4, 4096, 2, model), 0);
	end();
}

/* One that was to be passed and was not is looked at first, if its session is another one. */
static void test_kept(void **state unused)
{
	begin(9);
	assert_int_equal(host_open(&c, 3, 3), 0);
	fake_target_restart(false);
	task_sleep_until(time_ns() + 5 * NS_PER_SEC);
	struct rq q;
	unsigned before = writes_of(1, true);
	int err = -EAGAIN;
	for (unsigned n = 0; n < 20 && err == -EAGAIN; n++) {
		err = host_claim(&c, false);
		task_sleep_until(time_ns() + NS_PER_SEC / 2);
	}
	assert_int_equal(err, 0);
	lun_pass_keep(a.l);
	rq_make(&q, BLOCKDEV_WRITE, 3, 4096, 4096, 0, 9);
	assert_int_equal(rq_do(&a, &q, NULL), -EIO);
	assert_int_equal(lost_by(&a), 1);
	assert_int_equal(writes_of(1, true), before);
	host_end(&c);
	end();
}

/* Another unit follows from the other host of the hand-over, and from nobody else. */
static void test_follows(void **state unused)
{
	struct why w = { "" };
	begin(10);
	assert_int_equal(lun_pass_follow(b.l, 3, &w), -EPERM);
	assert_int_equal(state_of(&b), LUN_LOST);
	host_end(&b);
	assert_int_equal(host_open(&b, 2, 2), 0);
	assert_int_equal(lun_pass_follow(b.l, 1, &w), 0);
	assert_int_equal(write_one(&b, 4, 4096, 2, model), 0);
	end();
}

/* ---- what is under way ---- */

/* It is waited for; and what a lost session has left at the target is at its end before COMMIT can be said. */
static void test_under_way(void **state unused)
{
	static const enum fake_what what[] = { FAKE_DONE, FAKE_GHOST, FAKE_END_BEFORE, FAKE_SILENT };
	for (unsigned i = 0; i < 4 * ARRAY_SIZE(what); i++) {
		struct why w = { "" };
		struct rq q[3];
		uint64_t key, other;
		world_begin(10 + i);
		target->forgets = i & 4;
		target->aborts = i & 8 ? FAKE_REFUSES : FAKE_ABORTS;
		host_begin(&a, 1);
		assert_int_equal(host_open(&b, 2, 2), 0);
		assert_int_equal(lun_pass_prepare(b.l, 1, &w), 0);
		script(2, 0, 0x8a, (struct fake_fault){ .what = what[i % ARRAY_SIZE(what)] });
		for (unsigned k = 0; k < 3; k++) {
			rq_make(&q[k], BLOCKDEV_WRITE, 64 * k, 4096, 4096, 0, k);
			rq_submit(&a, &q[k]);
		}
		hurry_host(&a, time_ns() + 100 * NS_PER_MS);
		for (unsigned k = 0; k < 3; k++)
			UNTIL(is_done(&q[k]), 20 * NS_PER_SEC);
		hurry_host(&a, TIME_NEVER);
		assert_int_equal(lun_pass(a.l, time_ns() + 10 * NS_PER_SEC, &key, &w), 0);
		for (unsigned n = 0; n < 20 && take_over(&b, key, &other); n++)
			task_sleep_until(time_ns() + NS_PER_SEC / 2);
		for (unsigned k = 0; k < 3; k++) { /* what was held goes along */
			rq_settle(&q[k], model);
			rq_submit(&b, &q[k]);
			UNTIL(is_done(&q[k]), 20 * NS_PER_SEC);
			assert_int_equal(q[k].r.err, 0);
			rq_free(&q[k]);
		}
		assert_int_equal(write_one(&b, 0, 3 * 64 * FAKE_BLOCK, 9, model), 0);
		end();
	}
}

/* A target that is away: not in time, and the guest goes on. */
static void test_not_in_time(void **state unused)
{
	struct why w = { "" };
	uint64_t key;
	world_begin(40);
	host_begin(&a, 1);
	target->away_until = time_ns() + 5 * NS_PER_SEC;
	fake_target_restart(true);
	uint64_t begun = time_ns();
	assert_int_equal(lun_pass(a.l, begun + NS_PER_SEC, &key, &w), -ETIMEDOUT);
	assert_true(time_ns() < begun + 2 * NS_PER_SEC);
	assert_int_equal(write_one(&a, 4, 4096, 1, model), 0);
	host_end(&a);
	world_end();
}

/* ---- both at once, and answers that are lost ---- */

struct taker {
	struct host *h;
	uint64_t from; /* 0: it takes back */
	int err;
	struct completion over;
};

static void taker_task(void *arg)
{
	struct taker *k = arg;
	uint64_t other = 0;
	for (unsigned n = 0; n < 200; n++) {
		k->err = k->from ? take_over(k->h, k->from, &other) : take_back(false, &other);
		if (!k->err || k->err == -EBUSY)
			break;
		task_sleep_until(time_ns() + NS_PER_SEC / 10);
	}
	completion_done(&k->over);
}

static struct fake_fault loses(struct fake_target *t, const struct fake_command *cmd unused)
{
	static const enum fake_what what[] = { FAKE_END_BEFORE, FAKE_END_AFTER, FAKE_GHOST };
	uint64_t n = t->commands > 100 ? ~0UL : fake_turns_draw() % 12; /* it has room for so many nexuses alone */
	return (struct fake_fault){ .what = n < ARRAY_SIZE(what) ? what[n] : FAKE_DONE };
}

static void test_both_at_once(void **state unused)
{
	unsigned won[2] = { 0, 0 };
	for (unsigned seed = 100; seed < 100 + LIVES; seed++) {
		uint64_t key = begin(seed);
		struct taker k[2] = { { .h = &a }, { .h = &b, .from = key } };
		target->forgets = seed & 1;
		target->delay_ns = 1000;
		target->script = seed & 2 ? loses : NULL;
		for (unsigned i = 0; i < 2; i++) {
			completion_init(&k[i].over);
			assert_non_null(task_create("taker", TASK_PRIO_NORMAL, taker_task, &k[i]));
			if (seed & 4)
				task_sleep_until(time_ns() + fake_turns_draw() % (4 * NS_PER_MS));
		}
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(completion_wait(&k[i].over, time_ns() + 100 * NS_PER_SEC), 0);
		target->script = NULL;
		assert_true((!k[0].err && k[1].err == -EBUSY) || (!k[1].err && k[0].err == -EBUSY));
		struct host *has = k[0].err ? &b : &a, *other = k[0].err ? &a : &b;
		won[has == &b]++;
		unsigned before = writes_of(other->id, true);
		assert_int_equal(write_one(has, 8, 4096, seed, model), 0);
		assert_true(holds(has) && !lost_by(has) && writes_of(other->id, true) == before);
		end();
	}
	assert_true(won[0] > LIVES / 10 && won[1] > LIVES / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_by_force),       cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_under_way),      cmocka_unit_test(test_not_in_time),
		cmocka_unit_test(test_both_at_once),   cmocka_unit_test(test_prepared_of_whom),
		cmocka_unit_test(test_taken_and_lost), cmocka_unit_test(test_came_stays),
		cmocka_unit_test(test_kept),           cmocka_unit_test(test_follows),
	};
	fake_turns_begin(1000 * NS_PER_SEC);
	return cmocka_run_group_tests_name("units that pass", tests, NULL, NULL);
}
