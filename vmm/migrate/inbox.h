/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the destination says to the source, read by a task of its own: the source's task is busy writing, and must still
 * learn at once that the other side has failed. One inbox a connection.
 */
#pragma once
#include "kernel/sync.h"
#include "vmm/migrate/absent.h"
#include "vmm/migrate/records.h"

#define INBOX_MAX         8
#define INBOX_DEMANDS_MAX 256 /* pull.h has no more of them out */

struct inbox_msg {
	uint32_t type;
	uint32_t num; /* PASS_ACK: the pass; CHECKED: the range; WANT: bits of files; REFUSE, ERROR: the code */
	char text[WIRE_TEXT_MAX];
	uint64_t done, total;  /* PREPARING */
	uint64_t verified[2];  /* ALL: pages, and how many came that differed */
	struct incarnation by; /* STARTED, NEVER */
};
struct inbox_told {               /* in ns, 0: it does not say (records.h) */
	uint64_t expects_load_ns; /* ACCEPT */
	uint64_t pages_ns, state_ns, load_ns;
	bool ready; /* it has said these three */
	uint64_t start_ns;
	bool heard; /* STARTED */
};
/* (c) before inbox_start  [l] lock  [r] reader task  [t] the source's task alone */
struct inbox {
	struct wire_rx rx;    /* [r], and the source's task before inbox_start */
	struct attempt_id id; /* (c) every message must be of this attempt */
	bool running;         /* (c) */
	struct spinlock lock;
	struct waitq q;
	struct inbox_msg msg[INBOX_MAX];         /* [l] oldest first */
	unsigned n;                              /* [l] */
	struct demand demand[INBOX_DEMANDS_MAX]; /* [l] oldest first */
	unsigned ndemands;                       /* [l] */
	int err;                                 /* [l] why the reader ended; 0 while it runs */
	struct why why;                          /* [l] */
	struct differs *differs;                 /* [r] until the message DIFFERS is there, then the source's task's */
	struct inbox_told told;   /* [r] until the message that says it is there, then the source's task's */
	const struct wire_tx *tx; /* [t] what is answered; NULL: nobody counts */
	uint64_t waited_seq;      /* [t] how much had been said when it last waited */
	uint32_t trips;           /* [t] how often the source had to wait for an answer to what it had said */
	struct completion ended;
};
int inbox_init(struct inbox *in, struct stream *s, const struct attempt_id *id) must_check;
int inbox_start(struct inbox *in)
	must_check; /* the reader takes rx over; records are keyed for the attempt from here */
/* Any task: whoever waits for a message, or polls, gets err from now on. The reader goes on. */
void inbox_stop(struct inbox *in, int err);
/* Let the destination read what was sent to it, and end the stream by itself, until the deadline. */
void inbox_drain(struct inbox *in, uint64_t deadline_ns);
/*
 * Who cannot write to the destination any more looks whether it has said why before it closed: w gets that, if it is
 * empty. Until the stream's end is read, or the deadline.
 */
void inbox_last_word(struct inbox *in, uint64_t deadline_ns, struct why *w);
/* Ends the reader by aborting the stream, waits for it. After a failed init as well. */
void inbox_fini(struct inbox *in);

/*
 * The next message of type a or b (0: none such). -ETIMEDOUT; -ECONNABORTED, -EACCES with the peer's words if it sent
 * ERROR or REFUSE; -EPROTO if it sent something else; the stream's error if it is gone and nothing is left to read.
 */
int inbox_wait(struct inbox *in, uint32_t a, uint32_t b, uint64_t deadline_ns, struct inbox_msg *msg,
	       struct why *w) must_check;
/* The next message, whatever it is: 0, -ETIMEDOUT, or the stream's error if it is gone and nothing is left to read. */
int inbox_next(struct inbox *in, uint64_t deadline_ns, struct inbox_msg *msg) must_check;
/*
 * The oldest DEMAND or AGAIN that somebody waits for, else, unless `urgent`, the oldest: 0. -EAGAIN: a message for
 * inbox_next is there, which goes first; else as that, with why.
 */
int inbox_demand(struct inbox *in, bool urgent, uint64_t deadline_ns, struct demand *d, struct why *w) must_check;
/* Has something gone wrong? 0 or the error as inbox_wait would give it. Does not sleep. */
int inbox_poll(struct inbox *in, struct why *w) must_check;
