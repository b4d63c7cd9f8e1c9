/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long a request of a disk on a unit may take (vmm/lun.h): a target that is away, a unit that nobody has claimed,
 * and a disk in a hurry. By turns.
 */
#include "tests/unit/lun_driver.h"

static void test_away_for_a_while(void **state unused)
{
	struct host h;
	struct lun_status s;
	world_begin(6);
	host_begin(&h, 1);
	fake_target_restart(true);
	target->away_until = time_ns() + LUN_PATIENCE_NS / 2;
	struct rq q;
	rq_make(&q, BLOCKDEV_WRITE, 5, 8192, 4096, 0, 1);
	rq_submit(&h, &q);
	UNTIL(time_ns() > target->away_until - NS_PER_SEC, LUN_PATIENCE_NS);
	lun_get_status(h.l, &s);
	assert_true(s.waiting == 1 && s.away_ns > LUN_PATIENCE_NS / 4 && s.why.text[0]);
	UNTIL(is_done(&q), 10 * NS_PER_SEC);
	assert_int_equal(q.r.err, 0);
	rq_settle(&q, model);
	rq_free(&q);
	lun_get_status(h.l, &s);
	assert_true(!s.away_ns && s.sessions == 2);
	host_end(&h);
	world_end();
}

static void test_away_for_too_long(void **state unused)
{
	struct host h;
	struct rq q[3];
	world_begin(7);
	host_begin(&h, 1);
	fake_target_restart(true);
	uint64_t begin = time_ns();
	target->away_until = begin + 4 * LUN_PATIENCE_NS;
	for (unsigned i = 0; i < 3; i++) {
		rq_make(&q[i], i ? BLOCKDEV_WRITE : BLOCKDEV_READ, 5, 4096, 4096, 0, 1);
		rq_submit(&h, &q[i]);
		task_sleep_until(time_ns() + 10 * NS_PER_SEC);
	}
	for (unsigned i = 0; i < 3; i++) {
		UNTIL(is_done(&q[i]), LUN_PATIENCE_NS);
		uint64_t took = time_ns() - q[i].r.begin_ns;
		assert_true(took >= LUN_PATIENCE_NS && took < LUN_PATIENCE_NS + NS_PER_SEC);
		assert_int_equal(q[i].r.err, -EIO);
		rq_free(&q[i]);
	}
	target->away_until = 0;
	assert_int_equal(write_one(&h, 9, 4096, 3, model), 0);
	host_end(&h);
	world_end();
}

/* The session stands, but the unit is busy, or nobody's: there is a bound as well. */
static void test_patience(void **state unused)
{
	struct host h;
	world_begin(8);
	assert_int_equal(host_open(&h, 1, 1), 0);
	task_sleep_until(time_ns() + NS_PER_SEC);
	uint64_t begin = time_ns();
	assert_int_equal(write_one(&h, 1, 4096, 1, NULL), -EIO); /* before it was claimed */
	assert_true(time_ns() - begin >= LUN_PATIENCE_NS);
	assert_int_equal(target->ops[0x8a], 0);
	assert_int_equal(host_claim(&h, false), 0);
	assert_int_equal(write_one(&h, 1, 4096, 1, model), 0);
	host_end(&h);
	world_end();
}

static struct fake_fault answer;

static struct fake_fault to_writes(struct fake_target *t unused, const struct fake_command *c)
{
	return c->writes ? answer : (struct fake_fault){ .what = FAKE_DONE };
}

/* A unit that refuses for a time, in whatever words, is not asked a thousand times a second. */
static void test_no_storm(void **state unused)
{
	static const struct fake_fault f[] = {
		{ FAKE_ANSWER, SCSI_BUSY, 0, 0 },
		{ FAKE_ANSWER, SCSI_TASK_SET_FULL, 0, 0 },
		{ FAKE_ANSWER, SCSI_TASK_ABORTED, 0, 0 },
		{ FAKE_ANSWER, SCSI_RESERVATION_CONFLICT, 0, 0 },
		{ FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_UNIT_ATTENTION, 0x2a09 },
		{ FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_ABORTED_COMMAND, 0 },
		{ FAKE_ANSWER, SCSI_CHECK_CONDITION, SCSI_NOT_READY, SCSI_ASC_BECOMING_READY },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(f); i++) {
		struct host h;
		struct rq q;
		world_begin(30 + i);
		host_begin(&h, 1);
		answer = f[i];
		target->script = to_writes;
		rq_make(&q, BLOCKDEV_WRITE, 1, 4096, 4096, 0, 1);
		unsigned before = target->commands;
		rq_submit(&h, &q);
		task_sleep_until(time_ns() + 10 * NS_PER_SEC);
		unsigned asked = writes_of(1, false), all = target->commands - before;
		target->script = NULL;
		if (asked < 10 || asked > 300 || all > 5 * asked + 10)
			fail_msg("answer %u: asked %u times, %u commands", i, asked, all);
		UNTIL(is_done(&q), NS_PER_SEC);
		assert_int_equal(q.r.err, 0);
		rq_settle(&q, model);
		rq_free(&q);
		host_end(&h);
		world_end();
	}
}

/* ---- hurry ---- */

/* Requests are under way, and the target does not answer: how it takes an abort. */
static void hurry_with(enum fake_abort aborts, unsigned away)
{
	struct host h;
	struct rq q[3];
	world_begin(9 + aborts);
	host_begin(&h, 1);
	script(1, 1, 0x8a, (struct fake_fault){ .what = FAKE_SILENT });
	target->aborts = aborts;
	for (unsigned i = 0; i < 3; i++) {
		rq_make(&q[i], BLOCKDEV_WRITE, 100 * i, 4096, 4096, 0, i);
		if (i < 2)
			rq_submit(&h, &q[i]);
	}
	task_sleep_until(time_ns() + 100 * NS_PER_MS);
	if (away) {
		fake_target_restart(true);
		if (away == 1)
			target->away_until = time_ns() + 5 * NS_PER_SEC;
		else
			target->login_ns = 3600 * NS_PER_SEC; /* it takes connections, and says nothing */
		task_sleep_until(time_ns() + 100 * NS_PER_MS);
	}
	uint64_t deadline = time_ns() + 2 * NS_PER_SEC;
	hurry_host(&h, deadline);
	rq_submit(&h, &q[2]); /* there is still time for that */
	UNTIL(is_done(&q[0]) && is_done(&q[1]) && is_done(&q[2]), 6 * NS_PER_SEC);
	assert_true(time_ns() >= deadline);
	assert_true(q[0].r.err == -EAGAIN && q[1].r.err == -EAGAIN);
	assert_int_equal(q[2].r.err, away ? -EAGAIN : 0);
	struct lun_status s;
	lun_get_status(h.l, &s);
	assert_true(!s.waiting && !s.busy);
	rq_submit(&h, &q[0]);
	assert_int_equal(is_done(&q[0]), 1);
	assert_int_equal(q[0].r.err, -EAGAIN);
	script(~0U, 0, 0, fault);
	target->login_ns = 0;
	hurry_host(&h, TIME_NEVER);
	for (unsigned i = 0; i < 3; i++) {
		if (q[i].r.err)
			rq_submit(&h, &q[i]);
		rq_end(&q[i], 10 * NS_PER_SEC, model);
	}
	target->aborts = FAKE_ABORTS;
	host_end(&h);
	world_end();
}

static void test_hurry(void **state unused)
{
	for (enum fake_abort a = FAKE_ABORTS; a <= FAKE_IGNORES; a++)
		for (unsigned away = 0; away < 3; away++)
			hurry_with(a, away);
}

/* The hurry is over while the target is still asked to abort: what is asked for then is done. */
static void test_hurry_is_over(void **state unused)
{
	struct host h;
	struct rq q[8];
	world_begin(20);
	target->delay_ns = 500 * NS_PER_MS;
	host_begin(&h, 1);
	task_sleep_until(time_ns() + 5 * NS_PER_SEC);
	target->aborts = FAKE_IGNORES;
	for (unsigned i = 0; i < ARRAY_SIZE(q); i++)
		rq_make(&q[i], BLOCKDEV_WRITE, 100 * i, 4096, 4096, 0, i);
	rq_submit(&h, &q[0]);
	hurry_host(&h, time_ns() + 10 * NS_PER_MS);
	UNTIL(is_done(&q[0]), NS_PER_SEC); /* by itself */
	assert_int_equal(q[0].r.err, 0);
	hurry_host(&h, TIME_NEVER);
	for (unsigned i = 1; i < ARRAY_SIZE(q); i++)
		rq_submit(&h, &q[i]);
	for (unsigned i = 0; i < ARRAY_SIZE(q); i++)
		rq_end(&q[i], 60 * NS_PER_SEC, model);
	target->aborts = FAKE_ABORTS;
	host_end(&h);
	world_end();
}

/* The unit was busy a moment ago, and there is nothing else that could bring a request on its way. */
static void test_hurry_while_busy(void **state unused)
{
	struct host h;
	struct rq q;
	world_begin(21);
	host_begin(&h, 1);
	task_sleep_until(time_ns() + NS_PER_SEC);
	script(1, 0, 0x8a, (struct fake_fault){ FAKE_ANSWER, SCSI_BUSY, 0, 0 });
	rq_make(&q, BLOCKDEV_WRITE, 1, 4096, 4096, 0, 1);
	rq_submit(&h, &q);
	task_sleep_until(time_ns() + 10 * NS_PER_MS);
	hurry_host(&h, time_ns());
	UNTIL(is_done(&q), NS_PER_SEC);
	assert_int_equal(q.r.err, -EAGAIN);
	hurry_host(&h, TIME_NEVER);
	task_sleep_until(time_ns() + NS_PER_MS);
	rq_submit(&h, &q);
	UNTIL(is_done(&q), NS_PER_SEC);
	assert_int_equal(q.r.err, 0);
	rq_settle(&q, model);
	rq_free(&q);
	host_end(&h);
	world_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_away_for_a_while), cmocka_unit_test(test_away_for_too_long),
		cmocka_unit_test(test_patience),         cmocka_unit_test(test_hurry),
		cmocka_unit_test(test_no_storm),         cmocka_unit_test(test_hurry_is_over),
		cmocka_unit_test(test_hurry_while_busy),
	};
	fake_turns_begin(1000 * NS_PER_SEC);
	cmocka_set_test_filter(getenv("TERN_TEST"));
	return cmocka_run_group_tests_name("time of a disk on a unit", tests, NULL, NULL);
}
