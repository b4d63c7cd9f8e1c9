/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A session with an iSCSI target, of one connection (RFC 7143), from its login to its end. It lives once: after an
 * error each task that had no answer ends with one, and whoever wants to go on opens another session. With the same
 * name and ISID that is a reinstatement (6.3.5): the target has ended the tasks of the old one before it answers the
 * login. The session sends nothing again by itself: what may be repeated, and whether the unit is still ours, others
 * know.
 *
 * Who does not answer is found: by a NOP after ISCSI_PING_NS of silence; by a task's own deadline, after which it is
 * aborted (ABORT TASK), and the connection with it if the target does not confirm that within ISCSI_ABORT_NS;
 * by a log-out that has no answer for as long.
 */
#pragma once
#include "kernel/base/list.h"
#include "net/iscsi/login.h"
#include "net/iscsi/scsi.h"

#define ISCSI_TASKS_MAX 128 /* that the target has at once */
#define ISCSI_PING_NS   (4 * NS_PER_SEC)
#define ISCSI_ABORT_NS  (4 * NS_PER_SEC)

struct iscsi_session;
enum iscsi_dir { ISCSI_NONE, ISCSI_IN, ISCSI_OUT };
/* The submitter's; the session's from submit to done. */
struct iscsi_task {
	uint8_t cdb[SCSI_CDB];
	uint16_t lun;
	enum iscsi_dir dir;
	const struct iov *seg; /* the data: from byte `skip` of these pieces on, len bytes */
	size_t skip;
	uint32_t len;
	uint64_t deadline_ns;
	void (*done)(struct iscsi_task *t); /* once, from a task of the session's, without locks; must not sleep */
	void *arg;
	/*
	 * How it ended. 0: the unit has answered by `status`. With `aborted`, -ETIMEDOUT or -ECANCELED: by its deadline
	 * or an abort, which the target has confirmed, or it was never sent: nothing of it is done any more. Else the
	 * session's error (-EIO where that is one of these two): nobody knows what became of it, and it may still be
	 * done until the session is reinstated.
	 */
	int err;
	bool aborted;   /* such an end of its own: the session goes on */
	uint8_t status; /* enum scsi_status */
	uint32_t got;   /* bytes of data that came, or were taken */
	uint8_t sense_len, sense[SCSI_SENSE];

	/* the session's */
	struct list node;
	uint32_t itt, cmdsn, next_in;
	uint32_t ttt, want_off, want_len, datasn; /* of the data that the target wants, or that goes unasked */
	bool sent, wanted, writing, ended, aborting;
};

/*
 * Connects and logs in. on_end(arg): once, when it is of no more use, from its own task, without locks; may be told
 * before this returns. A target that has moved is followed. Errors as of stream_tcp_connect_storage and iscsi_login.
 */
int iscsi_session_open(struct iscsi_session **s, const struct iscsi_target *t, void (*on_end)(void *arg), void *arg,
		       uint64_t deadline_ns, struct why *w) must_check;
/* Any task; t->done may be called before it returns. */
void iscsi_session_submit(struct iscsi_session *s, struct iscsi_task *t);
/* Submit, and wait until it is done: t->err. `done` and `arg` are set here. Sleeps. */
int iscsi_session_do(struct iscsi_session *s, struct iscsi_task *t);
/*
 * ABORT TASK SET (11.5): 0: the target has confirmed that nothing of this session's is under way at the unit any
 * more, and those tasks have ended with -ECANCELED. -ETIMEDOUT, -EIO (it refuses), -EBUSY (another one is under way)
 * or the session's error: not confirmed. Sleeps.
 */
int iscsi_session_abort_all(struct iscsi_session *s, uint16_t lun, uint64_t deadline_ns) must_check;
/*
 * Logs out, if there is time, and ends all. 0: the target has confirmed the log-out, and with it that nothing is under
 * way. Nobody else uses s any more, and each task has ended when it returns. s may be NULL. Sleeps.
 */
int iscsi_session_close(struct iscsi_session *s, uint64_t deadline_ns);
void iscsi_session_abort(struct iscsi_session *s); /* any task: it ends with -ECANCELED; close is still to be called */

struct iscsi_stats {
	uint64_t commands, in_bytes, out_bytes;
	int err; /* 0: it is alive */
	bool header_digest, data_digest;
	struct why why; /* why it ended */
};
void iscsi_session_stats(struct iscsi_session *s, struct iscsi_stats *st);
