/* SPDX-License-Identifier: BSD-2-Clause */
/* What a session does when the target says nothing, or something unasked, and how it ends: on a clock of the test's. */
#include "tests/unit/iscsi_hold.h"

/* ---- silence, and what is said unasked ---- */

static void silence(void **state)
{
	(void)state;
	first_ms = 100000;
	struct iscsi_session *s = begin(2, HOLD_PINGS | HOLD_ABORTS);
	go_by((unsigned)(ISCSI_PING_NS / NS_PER_MS));
	WAIT_FOR(PORTAL_COUNT_OF(held) == 3);
	assert_true(client_is_alive(s));
	go_by((unsigned)(ISCSI_PING_NS / NS_PER_MS));
	assert_int_equal(end_of(s), -ETIMEDOUT);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]) && JOB_IS_DONE(&jobs[1]));
	assert_unknown(&jobs[0]);
	assert_unknown(&jobs[1]);
	struct job late;
	job_none(&late);
	job_submit(s, &late); /* to a dead session: it is told at once */
	assert_true(late.done == 1 && late.t.err);
	job_free(&late);
	assert_int_equal(finish(s, 2), -ETIMEDOUT);
}

static void pings_keep_it_alive(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(0, 0);
	go_by(21000);
	assert_true(client_is_alive(s));
	assert_in_range(PORTAL_COUNT_OF(p.pings), 4, 6);
	assert_int_equal(finish(s, 0), 0);
}

/* With the command that comes: a NOP that asks, and what arg says. */
static bool say_unasked(struct portal *t, const uint8_t *bhs)
{
	if (bhs[BHS_OPCODE] != ISCSI_SCSI_COMMAND)
		return false;
	iscsi_target_nop(t, 0x1234);
	if (t->arg >= 0)
		iscsi_target_async(t, (uint8_t)t->arg);
	return false;
}

static void nop_is_answered(void **state)
{
	(void)state;
	struct job j;
	iscsi_target_init(&p);
	p.hears = say_unasked;
	p.arg = -1;
	struct iscsi_session *s = client_open();
	for (unsigned i = 0; i < 20; i++) {
		job_read(&j, 0, 1000, JOB_ODD);
		assert_int_equal(iscsi_session_do(s, &j.t), 0);
		WAIT_FOR(PORTAL_COUNT_OF(p.pongs) == i + 1);
		job_free(&j);
	}
	assert_int_equal(client_close(s, &p), 0);
}

static void async_messages(void **state)
{
	(void)state;
	for (int event = 0; event < 6; event++) {
		iscsi_target_init(&p);
		p.hears = say_unasked;
		p.arg = event;
		struct iscsi_session *s = client_open();
		bool leaves = event == 1 || event == 4; /* a log-out is asked for: what is under way may end */
		job_write(&jobs[0], 0, 10000, JOB_ODD, 1);
		int err = iscsi_session_do(s, &jobs[0].t);
		if (leaves || event == 0)
			assert_int_equal(err, 0);
		if (event)
			assert_int_equal(end_of(s), -EAGAIN);
		assert_int_equal(PORTAL_COUNT_OF(p.logouts), leaves);
		job_free(&jobs[0]);
		job_none(&jobs[0]);
		assert_int_equal(iscsi_session_do(s, &jobs[0].t), event ? -EAGAIN : 0);
		job_free(&jobs[0]);
		p.arg = -1;
		assert_int_equal(client_close(s, &p), leaves || event == 0 ? 0 : -ETIMEDOUT);
	}
}

/* A log-out that the target itself has asked for, and does not answer: NOPs alone keep no session. */
static bool ask_for_logout(struct portal *t, const uint8_t *bhs)
{
	if (bhs[BHS_OPCODE] == ISCSI_SCSI_COMMAND)
		iscsi_target_async(t, 1);
	return bhs[BHS_OPCODE] == (ISCSI_IMMEDIATE | ISCSI_LOGOUT);
}

static void asks_for_logout_and_ignores_it(void **state)
{
	(void)state;
	fake_time_freeze(1000 * NS_PER_SEC);
	iscsi_target_init(&p);
	p.hears = ask_for_logout;
	struct iscsi_session *s = client_open();
	job_none(&jobs[0]);
	assert_int_equal(iscsi_session_do(s, &jobs[0].t), 0);
	jobs[0].t.deadline_ns = time_in_ms(1000000);
	job_submit(s, &jobs[0]);
	go_by(3000);
	assert_true(client_is_alive(s));
	go_by(2000);
	assert_int_equal(end_of(s), -ETIMEDOUT);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]));
	assert_true(jobs[0].t.err);
	assert_int_equal(finish(s, 1), -ETIMEDOUT);
}

/* ---- its end ---- */

static void close_without_time(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(3, 0);
	assert_int_equal(iscsi_session_close(s, time_ns()), -ETIMEDOUT);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(jobs[i].done, 1); /* when it returns */
		assert_unknown(&jobs[i]);
		job_free(&jobs[i]);
	}
	assert_true(fake_tasks_wait());
	assert_int_equal(PORTAL_COUNT_OF(client_ended), 1);
	assert_int_equal(iscsi_session_close(NULL, 0), 0);
	fake_time_thaw();
}

/* A log-out that is not answered within the time. */
static void logout_has_no_answer(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	held = 0;
	p.hears = hold;
	does(HOLD_LOGOUTS);
	struct iscsi_session *s = client_open();
	assert_int_equal(iscsi_session_close(s, time_in_ms(30)), -ETIMEDOUT);
	assert_int_equal(PORTAL_COUNT_OF(held), 1);
	assert_true(fake_tasks_wait());
	assert_int_equal(PORTAL_COUNT_OF(client_ended), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence),
		cmocka_unit_test(pings_keep_it_alive),
		cmocka_unit_test(nop_is_answered),
		cmocka_unit_test(async_messages),
		cmocka_unit_test(asks_for_logout_and_ignores_it),
		cmocka_unit_test(close_without_time),
		cmocka_unit_test(logout_has_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
