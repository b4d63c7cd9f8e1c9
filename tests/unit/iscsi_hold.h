/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A target that holds what it is told to, and a clock of the test's: for tests of what a session does when it has no
 * answer. Of one test program: what is here is its own.
 */
#pragma once
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/iscsi_client.h"
#include <string.h>

static struct portal p;
static struct job jobs[4];

/* What the target holds: commands for good; TMFs, NOPs and log-outs if it is told so. */
enum { HOLD_COMMANDS = 1, HOLD_ABORTS = 2, HOLD_PINGS = 4, HOLD_LOGOUTS = 8, REFUSE_ABORTS = 16, ANSWER_FIRST = 32 };
static unsigned held; /* [a] commands and others that it has */

static inline bool hold(struct portal *t, const uint8_t *bhs)
{
	int what = PORTAL_COUNT_OF(t->arg);
	uint8_t answer[ISCSI_BHS] = { ISCSI_TASK_MGMT_RESPONSE, ISCSI_FINAL, 5 };
	bool hold = false;
	switch (bhs[BHS_OPCODE]) {
	case ISCSI_SCSI_COMMAND: hold = what & HOLD_COMMANDS; break;
	case ISCSI_IMMEDIATE | ISCSI_NOP_OUT: hold = what & HOLD_PINGS; break;
	case ISCSI_IMMEDIATE | ISCSI_LOGOUT: hold = what & HOLD_LOGOUTS; break;
	case ISCSI_IMMEDIATE | ISCSI_TASK_MGMT:
		hold = what & (HOLD_ABORTS | REFUSE_ABORTS);
		memcpy(answer + BHS_ITT, bhs + BHS_ITT, 4);
		if (what & REFUSE_ABORTS)
			iscsi_target_send(t, answer, NULL, 0, true);
		for (unsigned i = 0; what & ANSWER_FIRST && i < PORTAL_TASKS; i++)
			if (t->task[i].used)
				iscsi_target_answer(t, &t->task[i], SCSI_GOOD, 0);
		break;
	default: break;
	}
	if (hold)
		PORTAL_COUNT(held);
	return hold;
}

static inline void does(int what) { __atomic_store_n(&p.arg, what, __ATOMIC_SEQ_CST); }

static unsigned first_ms = 1000;

/* A session, with n jobs at the target that it holds. The first one has first_ms, the others more. */
static inline struct iscsi_session *begin(unsigned n, int what)
{
	fake_time_freeze(1000 * NS_PER_SEC);
	iscsi_target_init(&p);
	held = 0;
	p.hears = hold;
	does(what | HOLD_COMMANDS);
	struct iscsi_session *s = client_open();
	for (unsigned i = 0; i < n; i++) {
		if (i % 2)
			job_write(&jobs[i], 0, 100, JOB_WHOLE, i);
		else
			job_read(&jobs[i], 0, 100, JOB_WHOLE);
		jobs[i].t.deadline_ns = time_in_ms(i ? 100000 : first_ms);
		job_submit(s, &jobs[i]);
	}
	WAIT_FOR(PORTAL_COUNT_OF(held) == n);
	return s;
}

static inline int finish(struct iscsi_session *s, unsigned n)
{
	int err = client_close(s, &p);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(jobs[i].done, 1);
		job_free(&jobs[i]);
	}
	fake_time_thaw();
	first_ms = 1000;
	return err;
}

/* ms go by in small steps, so that what is asked is answered in time. */
static inline void go_by(unsigned ms)
{
	for (unsigned i = 0; i < ms; i += 500) {
		fake_time_advance(500 * NS_PER_MS);
		for (unsigned k = 0; k < 8; k++)
			fake_nap();
	}
}

static inline int end_of(struct iscsi_session *s)
{
	struct iscsi_stats st;
	WAIT_FOR(!client_is_alive(s));
	iscsi_session_stats(s, &st);
	assert_true(st.why.text[0]);
	return st.err;
}

/* That one may still be done: no error may be taken for one that says that it is not. */
static inline void assert_unknown(const struct job *j)
{
	assert_true(j->t.err && j->t.err != -ETIMEDOUT && j->t.err != -ECANCELED);
}
