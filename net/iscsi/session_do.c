/* SPDX-License-Identifier: BSD-2-Clause */
/* A task that is waited for (session.h): of whatever makes a session. */
#include "kernel/sync.h"
#include "net/iscsi/session.h"

static void wake(struct iscsi_task *t) { completion_done(t->arg); }

int iscsi_session_do(struct iscsi_session *s, struct iscsi_task *t)
{
	struct completion over;
	completion_init(&over);
	t->done = wake;
	t->arg = &over;
	iscsi_session_submit(s, t);
	(void)completion_wait(&over, TIME_NEVER); /* the task has its deadline, and the session its own bounds */
	return t->err;
}
