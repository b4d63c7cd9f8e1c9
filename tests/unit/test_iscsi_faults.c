/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A target that breaks off after each thing it says, or says what it must not. However it does: each task ends once,
 * the session's end is told once, and why is known.
 */
#include "tests/unit/iscsi_client.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include <string.h>

static struct portal p;

#define JOBS 7
static struct job jobs[JOBS];

/* Reads, writes and one of neither, all at once. */
static void submit_all(struct iscsi_session *s)
{
	for (unsigned i = 0; i < JOBS; i++) {
		if (i == 3)
			job_none(&jobs[i]);
		else if (i % 2)
			job_read(&jobs[i], 64 * i, 3000, JOB_ODD);
		else
			job_write(&jobs[i], 64 * i, 3000 + i, JOB_ODD, i);
		job_submit(s, &jobs[i]);
	}
}

/* Each has ended once. How many well. */
static unsigned take_all(struct iscsi_session *s)
{
	unsigned good = 0;
	struct iscsi_stats st;
	for (unsigned i = 0; i < JOBS; i++) {
		WAIT_FOR(JOB_IS_DONE(&jobs[i]));
		good += !jobs[i].t.err;
	}
	iscsi_session_stats(s, &st);
	assert_true(good == JOBS || st.err);
	(void)iscsi_session_close(s, time_in_ms(2000));
	assert_true(fake_tasks_wait());
	assert_int_equal(PORTAL_COUNT_OF(client_ended), 1);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].done, 1);
		assert_true(!jobs[i].t.err || jobs[i].t.err == st.err); /* none of these is one of a deadline */
		if (!jobs[i].t.err && jobs[i].t.dir == ISCSI_IN)
			assert_true(job_has(&jobs[i], 3000, 77 + i));
		job_free(&jobs[i]);
	}
	return good;
}

static void begin(bool digests)
{
	iscsi_target_init(&p);
	p.initial_r2t = false;
	p.immediate = true;
	p.recv_max = p.in_max = 512;
	p.max_burst = p.first_burst = 1024;
	p.window = 4;
	p.header_digest = p.data_digest = digests;
	for (unsigned k = 1; k < JOBS; k += 2)
		for (uint32_t i = 0; i < 3000; i++)
			p.disk[64 * k * PORTAL_BLOCK + i] = job_byte(77 + k, i);
}

/* ---- the end of a connection ---- */

static enum portal_fault end_as;

static enum portal_fault end_after(struct portal *t, struct portal_pdu *o unused)
{
	return t->full_feature && !t->arg-- ? end_as : PORTAL_WELL;
}

static void ends_after_each(void **state)
{
	(void)state;
	static const enum portal_fault ends[] = { PORTAL_END, PORTAL_CUT, PORTAL_CUT_DATA };
	for (unsigned e = 0; e < ARRAY_SIZE(ends); e++) {
		unsigned good = 0, n;
		for (n = 0; good < JOBS && n < 200; n++) {
			begin(n % 2);
			p.sends = end_after;
			p.arg = (int)n;
			end_as = ends[e];
			struct iscsi_session *s = client_open();
			submit_all(s);
			good = take_all(s);
			assert_string_equal(p.complaint.text, "");
		}
		assert_true(n > 20 && good == JOBS);
	}
}

/* ... and the same of a login: there is no session. */
static enum portal_fault end_login(struct portal *t, struct portal_pdu *o unused)
{
	return !t->arg-- ? end_as : PORTAL_WELL;
}

static void ends_in_login(void **state)
{
	(void)state;
	static const enum portal_fault ends[] = { PORTAL_END, PORTAL_CUT, PORTAL_CUT_DATA };
	for (unsigned e = 0; e < ARRAY_SIZE(ends); e++) {
		for (int n = 0; n < 3 + (ends[e] == PORTAL_CUT); n++) { /* the fourth is the last, without data */
			struct iscsi_session *s = NULL;
			struct iscsi_target t = client_target();
			struct why w = { "" };
			begin(false);
			p.slow_login = true;
			p.sends = end_login;
			p.arg = n;
			end_as = ends[e];
			assert_true(iscsi_session_open(&s, &t, NULL, NULL, time_in_ms(10000), &w) < 0);
			assert_true(!s && w.text[0] && fake_tasks_wait());
		}
	}
}

/* ---- what it must not say ---- */

static const struct wrong {
	const char *what;
	uint8_t opcode; /* of this one, once */
	uint8_t at, bytes;
	uint32_t value; /* these bytes */
	int err;
} wrongs[] = {
	{ "a response's StatSN", ISCSI_SCSI_RESPONSE, BHS_STATSN, 4, 0xfffffff0, -EPROTO },
	{ "a response to another tag", ISCSI_SCSI_RESPONSE, BHS_ITT, 4, 0x12345600, -EPROTO },
	{ "a response to no task's tag", ISCSI_SCSI_RESPONSE, BHS_ITT, 4, 0xffffffff, -EPROTO },
	{ "a failure of the target", ISCSI_SCSI_RESPONSE, BHS_RESPONSE, 1, 1, -EPROTO },
	{ "data for no task", ISCSI_DATA_IN, BHS_ITT, 4, 0x12345603, -EPROTO },
	{ "data before its place", ISCSI_DATA_IN, BHS_OFFSET, 4, 4, -EPROTO },
	{ "data behind the end", ISCSI_DATA_IN, BHS_OFFSET, 4, 0x7fffffff, -EPROTO },
	{ "data far behind the end", ISCSI_DATA_IN, BHS_OFFSET, 4, 0xffffff00, -EPROTO },
	{ "an R2T of no task", ISCSI_R2T, BHS_ITT, 4, 0x12345605, -EPROTO },
	{ "an R2T behind the end", ISCSI_R2T, BHS_OFFSET, 4, 4000, -EPROTO },
	{ "an R2T across the end", ISCSI_R2T, BHS_OFFSET, 4, 2990, -EPROTO },
	{ "an R2T far behind the end", ISCSI_R2T, BHS_OFFSET, 4, 0xffffff00, -EPROTO },
	{ "an R2T of nothing", ISCSI_R2T, BHS_RESIDUAL, 4, 0, -EPROTO },
	{ "an R2T of more than there is", ISCSI_R2T, BHS_RESIDUAL, 4, 3001, -EPROTO },
	{ "an R2T of all the world", ISCSI_R2T, BHS_RESIDUAL, 4, 0xffffffff, -EPROTO },
	{ "an R2T of more than a burst", ISCSI_R2T, BHS_RESIDUAL, 4, 1025, -EPROTO },
	{ "a response that is a REJECT", ISCSI_SCSI_RESPONSE, BHS_OPCODE, 1, ISCSI_REJECT, -EPROTO },
	{ "an answer to no abort", ISCSI_SCSI_RESPONSE, BHS_OPCODE, 1, ISCSI_TASK_MGMT_RESPONSE, -EPROTO },
	{ "a login's answer", ISCSI_SCSI_RESPONSE, BHS_OPCODE, 1, ISCSI_LOGIN_RESPONSE, -EPROTO },
	{ "an initiator's opcode", ISCSI_SCSI_RESPONSE, BHS_OPCODE, 1, ISCSI_SCSI_COMMAND, -EPROTO },
	{ "a log-out that nobody asked for", ISCSI_SCSI_RESPONSE, BHS_OPCODE, 1, ISCSI_LOGOUT_RESPONSE, -EAGAIN },
	{ "too long a PDU", ISCSI_DATA_IN, BHS_DATA_LEN, 3, 0xffffff, -EMSGSIZE },
	{ "too much sense data", ISCSI_SCSI_RESPONSE, BHS_DATA_LEN, 3, 255, -EPROTO },
	{ "a read that is a write", ISCSI_R2T, BHS_OPCODE, 1, ISCSI_DATA_IN, -EPROTO },
	{ "a write that is a read", ISCSI_DATA_IN, BHS_OPCODE, 1, ISCSI_R2T, -EPROTO },
};
static const struct wrong *wrong;

static enum portal_fault say_wrong(struct portal *t, struct portal_pdu *o)
{
	if (!t->full_feature || o->bhs[BHS_OPCODE] != wrong->opcode || t->arg++)
		return PORTAL_WELL;
	for (unsigned i = 0; i < wrong->bytes; i++)
		o->bhs[wrong->at + i] = (uint8_t)(wrong->value >> 8 * (wrong->bytes - 1 - i));
	return PORTAL_WELL;
}

/* A session with all jobs, until the portal's fault has ended it: what it says of that. */
static struct iscsi_session *until_ended(struct iscsi_stats *st)
{
	struct iscsi_session *s = client_open();
	submit_all(s);
	WAIT_FOR(!client_is_alive(s));
	iscsi_session_stats(s, st);
	return s;
}

static void says_what_it_must_not(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(wrongs); i++) {
		begin(i % 2);
		wrong = &wrongs[i];
		p.sends = say_wrong;
		struct iscsi_stats st;
		struct iscsi_session *s = until_ended(&st);
		if (st.err != wrong->err || !st.why.text[0])
			fail_msg("%s: error %d, \"%s\"", wrong->what, st.err, st.why.text);
		assert_true(take_all(s) < JOBS);
	}
}

/* ---- digests, both ways ---- */

static enum portal_fault bad_digest(struct portal *t, struct portal_pdu *o)
{
	if (!t->full_feature || (end_as == PORTAL_BAD_DATA && !o->len))
		return PORTAL_WELL;
	return !t->arg-- ? end_as : PORTAL_WELL;
}

static void digests_of_the_target(void **state)
{
	(void)state;
	for (int n = 0; n < 10; n++) {
		for (unsigned data = 0; data < 2; data++) {
			begin(true);
			end_as = data ? PORTAL_BAD_DATA : PORTAL_BAD_HEADER;
			p.sends = bad_digest;
			p.arg = n;
			struct iscsi_stats st;
			struct iscsi_session *s = until_ended(&st);
			assert_int_equal(st.err, -EBADMSG);
			assert_non_null(strstr(st.why.text, "digest"));
			assert_true(take_all(s) < JOBS);
		}
	}
}

/* A bit of what the initiator sends is another one when it arrives: the target notices by the digest, and leaves. */
static void digests_of_the_initiator(void **state)
{
	(void)state;
	for (unsigned n = 0; n < ISCSI_BHS * 8; n += 7) {
		begin(true);
		struct iscsi_session *s = client_open();
		stream_pipe_fault(p.peer, PIPE_FLIP, n);
		submit_all(s);
		assert_true(take_all(s) < JOBS);
		assert_string_equal(p.complaint.text, "");
	}
}

/* ---- an answer while the data are still going out ---- */

static struct job early;
static bool too_early;

static bool answer_early(struct portal *t, const uint8_t *bhs)
{
	if (bhs[BHS_OPCODE] != ISCSI_SCSI_COMMAND || !(bhs[BHS_FLAGS] & ISCSI_WRITE))
		return false;
	iscsi_target_answer(t, iscsi_target_find(t, get_be32(bhs + BHS_ITT)), SCSI_BUSY, 0);
	iscsi_target_nop(t, 0x99); /* its answer would show that the reader has been here; but the writer is busy */
	for (unsigned i = 0; i < 30; i++, fake_nap())
		too_early |= JOB_IS_DONE(&early); /* its pieces are still being read */
	return true;
}

static void answered_early(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	p.hears = answer_early;
	p.recv_max = p.first_burst = 60000;
	p.pipe = 1024; /* the rest of the immediate data is in the writer's hands */
	p.lenient = true;
	too_early = false;
	struct iscsi_session *s = client_open();
	job_write(&early, 0, 50000, JOB_ODD, 1);
	job_submit(s, &early);
	WAIT_FOR(JOB_IS_DONE(&early));
	assert_false(too_early);
	assert_true(!early.t.err && early.t.status == SCSI_BUSY);
	WAIT_FOR(PORTAL_COUNT_OF(p.pongs) == 1);
	assert_int_equal(client_close(s, &p), 0);
	assert_int_equal(early.done, 1);
	job_free(&early);
}

/* The connection ends in the middle of its data. */
static bool answer_early_and_leave(struct portal *t, const uint8_t *bhs)
{
	return answer_early(t, bhs) && (t->stop = true);
}

static void answered_early_then_cut(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	p.hears = answer_early_and_leave;
	p.recv_max = p.first_burst = 60000;
	p.pipe = 1024;
	too_early = false;
	struct iscsi_session *s = client_open();
	job_write(&early, 0, 50000, JOB_ODD, 1);
	job_submit(s, &early);
	WAIT_FOR(JOB_IS_DONE(&early));
	assert_false(too_early);
	assert_true(!early.t.err && early.t.status == SCSI_BUSY); /* an answer is an answer */
	assert_int_equal(client_close(s, &p), -ETIMEDOUT);
	assert_int_equal(early.done, 1);
	job_free(&early);
}

/* It asks for the same data twice, before it can have had them once. */
static bool ask_twice(struct portal *t, const uint8_t *bhs)
{
	if (bhs[BHS_OPCODE] != ISCSI_SCSI_COMMAND)
		return false;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t r2t[ISCSI_BHS] = { ISCSI_R2T, ISCSI_FINAL };
		memcpy(r2t + BHS_ITT, bhs + BHS_ITT, 4);
		put_be32(r2t + BHS_TTT, i);
		put_be32(r2t + BHS_RESIDUAL, 1000);
		iscsi_target_send(t, r2t, NULL, 0, false);
	}
	return true;
}

static void asks_twice(void **state)
{
	(void)state;
	struct iscsi_stats st;
	iscsi_target_init(&p);
	p.hears = ask_twice;
	p.recv_max = p.first_burst = 60000;
	p.pipe = 1024;
	struct iscsi_session *s = client_open();
	job_write(&early, 0, 50000, JOB_ODD, 1);
	assert_int_equal(iscsi_session_do(s, &early.t), -EPROTO);
	iscsi_session_stats(s, &st);
	assert_non_null(strstr(st.why.text, "before the one before"));
	assert_int_equal(client_close(s, &p), -ETIMEDOUT);
	job_free(&early);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_after_each),
		cmocka_unit_test(ends_in_login),
		cmocka_unit_test(says_what_it_must_not),
		cmocka_unit_test(digests_of_the_target),
		cmocka_unit_test(digests_of_the_initiator),
		cmocka_unit_test(answered_early),
		cmocka_unit_test(asks_twice),
		cmocka_unit_test(answered_early_then_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
