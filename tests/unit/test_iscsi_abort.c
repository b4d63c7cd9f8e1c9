/* SPDX-License-Identifier: BSD-2-Clause */
/* Tasks that are late, and all tasks of a unit, are aborted; does the target confirm it? On a clock of the test's. */
#include "tests/unit/iscsi_hold.h"
#include "kernel/task.h"

/* ---- a task that is late ---- */

static void late_task_is_aborted(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(2, 0);
	go_by(500);
	assert_false(JOB_IS_DONE(&jobs[0]));
	go_by(500);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]));
	assert_int_equal(jobs[0].t.err, -ETIMEDOUT);
	assert_int_equal(PORTAL_COUNT_OF(p.aborts), 1);
	assert_false(JOB_IS_DONE(&jobs[1])); /* that one alone */
	does(0);
	struct job more;
	job_none(&more);
	assert_int_equal(iscsi_session_do(s, &more.t), 0);
	job_free(&more);
	does(ANSWER_FIRST);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(5000)), 0); /* which comes too late for the other */
	WAIT_FOR(JOB_IS_DONE(&jobs[1]));
	assert_int_equal(jobs[1].t.err, 0);
	assert_int_equal(finish(s, 2), 0);
}

static void late_task_answers_just_then(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(1, ANSWER_FIRST);
	go_by(1000);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]));
	assert_int_equal(jobs[0].t.err, 0);
	WAIT_FOR(PORTAL_COUNT_OF(p.aborts) == 1);
	assert_int_equal(finish(s, 1), 0);
}

static void abort_is_refused(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(2, REFUSE_ABORTS);
	go_by(1000);
	assert_int_equal(end_of(s), -ETIMEDOUT);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]) && JOB_IS_DONE(&jobs[1]));
	assert_unknown(&jobs[0]);
	assert_unknown(&jobs[1]);
	assert_int_equal(finish(s, 2), -ETIMEDOUT);
}

static void abort_has_no_answer(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(2, HOLD_ABORTS);
	go_by(1000);
	WAIT_FOR(PORTAL_COUNT_OF(held) == 3);
	go_by((unsigned)(ISCSI_ABORT_NS / NS_PER_MS) - 500);
	assert_true(client_is_alive(s));
	go_by(500);
	assert_int_equal(end_of(s), -ETIMEDOUT);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]) && JOB_IS_DONE(&jobs[1]));
	assert_unknown(&jobs[0]);
	assert_unknown(&jobs[1]);
	assert_int_equal(finish(s, 2), -ETIMEDOUT);
}

/* One that waits for the window is never sent. */
static void late_before_it_was_sent(void **state)
{
	(void)state;
	fake_time_freeze(1000 * NS_PER_SEC);
	struct iscsi_session *s = begin(0, 0);
	client_close(s, &p);
	iscsi_target_init(&p);
	p.window = 1;
	p.hears = hold;
	does(HOLD_COMMANDS);
	s = client_open();
	for (unsigned i = 0; i < 2; i++) {
		job_none(&jobs[i]);
		jobs[i].t.deadline_ns = time_in_ms(i ? 1000 : 100000);
		job_submit(s, &jobs[i]);
		WAIT_FOR(PORTAL_COUNT_OF(held) == 1);
	}
	go_by(1000);
	WAIT_FOR(JOB_IS_DONE(&jobs[1]));
	assert_int_equal(jobs[1].t.err, -ETIMEDOUT);
	assert_true(!p.aborts && PORTAL_COUNT_OF(held) == 1 && client_is_alive(s));
	iscsi_session_abort(s);
	assert_int_equal(end_of(s), -ECANCELED);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]));
	assert_unknown(&jobs[0]);
	assert_int_equal(finish(s, 2), -ETIMEDOUT);
}

/* ---- all tasks of a unit ---- */

static void all_are_aborted(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(3, 0);
	job_none(&jobs[3]);
	jobs[3].t.lun = 1;
	job_submit(s, &jobs[3]);
	WAIT_FOR(PORTAL_COUNT_OF(held) == 4);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(500)), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(JOB_IS_DONE(&jobs[i]) && jobs[i].t.err == -ECANCELED);
	assert_false(JOB_IS_DONE(&jobs[3])); /* another unit's */
	assert_int_equal(iscsi_session_abort_all(s, 1, time_in_ms(500)), 0);
	assert_true(JOB_IS_DONE(&jobs[3]) && jobs[3].t.err == -ECANCELED);
	assert_int_equal(finish(s, 4), 0);
}

/* The tasks go on, and so do their deadlines. */
static void abort_of_all_is_refused(void **state)
{
	(void)state;
	struct iscsi_session *s = begin(2, REFUSE_ABORTS);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(500)), -EIO);
	assert_true(client_is_alive(s) && !JOB_IS_DONE(&jobs[0]) && !JOB_IS_DONE(&jobs[1]));
	does(0);
	go_by(1500);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]));
	assert_int_equal(jobs[0].t.err, -ETIMEDOUT);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(500)), 0);
	assert_int_equal(jobs[1].t.err, -ECANCELED);
	assert_int_equal(finish(s, 2), 0);
}

static struct iscsi_session *aborter_s;
static int aborter_err; /* [a] 1: not yet */
static void abort_all(void *arg unused)
{
	__atomic_store_n(&aborter_err, iscsi_session_abort_all(aborter_s, 0, time_in_ms(2000)), __ATOMIC_SEQ_CST);
}

static void abort_of_all_has_no_answer(void **state)
{
	(void)state;
	first_ms = 100000;
	struct iscsi_session *s = begin(2, HOLD_ABORTS);
	aborter_s = s;
	aborter_err = 1;
	assert_non_null(task_create("abort", TASK_PRIO_NORMAL, abort_all, NULL));
	WAIT_FOR(PORTAL_COUNT_OF(held) == 3);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(500)), -EBUSY);
	go_by(2000);
	WAIT_FOR(PORTAL_COUNT_OF(aborter_err) != 1);
	assert_int_equal(PORTAL_COUNT_OF(aborter_err), -ETIMEDOUT);
	assert_true(client_is_alive(s));
	go_by(2000);
	assert_int_equal(end_of(s), -ETIMEDOUT);
	WAIT_FOR(JOB_IS_DONE(&jobs[0]) && JOB_IS_DONE(&jobs[1]));
	assert_unknown(&jobs[0]);
	assert_int_equal(iscsi_session_abort_all(s, 0, time_in_ms(500)), -ETIMEDOUT); /* of a session at its end */
	assert_int_equal(finish(s, 2), -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_task_is_aborted),    cmocka_unit_test(late_task_answers_just_then),
		cmocka_unit_test(abort_is_refused),        cmocka_unit_test(abort_has_no_answer),
		cmocka_unit_test(late_before_it_was_sent), cmocka_unit_test(all_are_aborted),
		cmocka_unit_test(abort_of_all_is_refused), cmocka_unit_test(abort_of_all_has_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
