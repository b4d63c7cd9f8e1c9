/* SPDX-License-Identifier: BSD-2-Clause */
/* What a session's two tasks share: the writer (session_tx.c) and the reader (session_rx.c). */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "net/iscsi/session.h"

/* 11.5.1, 11.6.1 */
enum { TMF_ABORT_TASK = 1, TMF_ABORT_TASK_SET = 2 };
enum { TMF_COMPLETE = 0, TMF_NO_SUCH_TASK = 1 };

#define ISCSI_OTHER_TAG 0xff /* low bits of tags that are no task's, and their mask */

struct tmf {                   /* a task management function, one at a time */
	bool on, sent, waited; /* waited: by iscsi_session_abort_all, for `over` */
	uint8_t function;
	uint16_t lun;
	uint32_t itt, ref, ref_cmdsn;
	struct iscsi_task *task; /* of ABORT TASK */
	uint64_t end_ns;
	int result;
	struct completion over;
};
/*
 * (c) const after open  [l] lock  [w] the writer  [r] the reader
 */
struct iscsi_session {
	struct iscsi_wire wire; /* (c) */
	struct iscsi_params p;  /* (c), but for the sequence numbers */
	void (*on_end)(void *arg);
	void *arg;

	struct spinlock lock;
	struct waitq news;                        /* [l] for the writer */
	struct list queue;                        /* [l] tasks that have not been sent */
	struct list wanted;                       /* [l] those of which the target wants data */
	struct iscsi_task *task[ISCSI_TASKS_MAX]; /* [l] those sent, by their tags' low bits */
	unsigned ntasks;                          /* [l] */
	uint32_t tags;                            /* [l] given out so far */
	uint32_t cmdsn, max_cmdsn, exp_statsn;    /* [l] */
	struct tmf tmf;                           /* [l] */
	bool answer_nop, ping_asked, ping_sent;   /* [l] */
	uint8_t nop_lun[8];                       /* [l] of the NOP that is to be answered */
	uint32_t nop_ttt;                         /* [l] */
	bool leaving, logout_sent, logged_out;    /* [l] */
	uint64_t logout_ns;                       /* [l] when its answer is overdue */
	uint64_t look_ns;                         /* [l] when the writer has to look at the clock, however busy */
	uint64_t heard_ns;                        /* [l] */
	int err;                                  /* [l] its end */
	struct why why;                           /* [l] */
	struct iscsi_stats stats;                 /* [l] */
	struct completion writer_ended, reader_ended, out; /* out: logged out, or at its end */
};

/* The first reason counts. Any task. */
void iscsi_session_fail(struct iscsi_session *s, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/*
 * The lock is held. t has is_over, however: it leaves the session. True: done is to be called, when the lock is free;
 * else the writer, which has it in its hands, will.
 */
bool iscsi_session_finish(struct iscsi_session *s, struct iscsi_task *t, int err);
/* The lock is held. The TMF under way has is_over. */
void iscsi_session_tmf_over(struct iscsi_session *s, int result);
struct iscsi_task *iscsi_session_find(struct iscsi_session *s, uint32_t itt); /* the lock is held */
/* The lock is held, and none is under way. By end_ns it is over. */
void iscsi_session_tmf_begin(struct iscsi_session *s, uint8_t function, uint16_t lun, uint64_t end_ns);
/* The two tasks of a session. */
void iscsi_session_read(void *session);
void iscsi_session_write(void *session);
