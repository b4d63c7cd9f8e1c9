/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sessions (net/iscsi/session.h) with a target in this process, for tests of what uses them: fake_session.c has the
 * sessions, each a task; fake_target.c what a unit does: blocks in memory, and persistent reservations (SPC-4 5.13) of
 * nexuses. A test's script says what goes wrong at which command. What was under way when a session ended is a ghost: a
 * write that may still be done, until its nexus logs in again.
 */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "net/iscsi/session.h"

#define FAKE_BLOCK   512U
#define FAKE_BLOCKS  2048U
#define FAKE_NEXUSES 64

enum fake_what {
	FAKE_DONE,       /* it does what it is told */
	FAKE_END_BEFORE, /* the connection is lost, and the command with it */
	FAKE_END_AFTER,  /* ... its answer */
	FAKE_GHOST,      /* ... its answer; it is done later, or never */
	FAKE_ANSWER,     /* it is not done: status, and key with asc of CHECK CONDITION */
	FAKE_SHORT,      /* all but the last block of data goes */
	FAKE_SILENT,     /* no answer: until somebody aborts it */
};
struct fake_fault {
	enum fake_what what;
	uint8_t status, key; /* enum scsi_status, enum scsi_key */
	uint16_t asc;
};
struct fake_command {
	unsigned n;         /* from 1 on, of all */
	unsigned nexus;     /* whose */
	uint8_t op, action; /* of the CDB: bytes 0 and 1 */
	uint64_t block;
	uint32_t blocks;
	bool writes; /* the medium */
};
enum fake_abort { FAKE_ABORTS, FAKE_REFUSES, FAKE_IGNORES };
struct fake_nexus {
	char initiator[ISCSI_NAME_MAX];
	uint8_t isid[6];
	bool gone;    /* forgotten at a later login: its registration stays */
	uint64_t key; /* 0: not registered */
	uint16_t ua[8];
	unsigned nua;
	struct iscsi_session *session;
	unsigned writes, asked; /* that were done; that were asked for */
};
struct fake_ghost {
	struct fake_ghost *next;
	unsigned nexus;
	uint64_t block;
	uint32_t len;
	uint8_t data[];
};
/*
 * [l] lock; all else is set by the test while nobody uses it, or from a script
 */
struct fake_target {
	struct spinlock lock;
	uint8_t data[FAKE_BLOCKS * FAKE_BLOCK];   /* [l] */
	struct fake_nexus nexus[FAKE_NEXUSES];    /* [l] */
	unsigned nnexus;                          /* [l] */
	int holder;                               /* [l] of the reservation, -1: nobody */
	uint32_t generation;                      /* [l] PRGENERATION: SPC-4 5.13.4 */
	struct fake_ghost *ghosts;                /* [l] */
	unsigned commands, logins, refused, over; /* [l] over: sessions that were closed */
	/* What was done, for who wants to know: commands by their operation code. */
	unsigned ops[256]; /* [l] */

	struct fake_fault (*script)(struct fake_target *t, const struct fake_command *c); /* NULL. The lock is held */
	uint64_t delay_ns;                                                                /* of each command */
	unsigned at_once;       /* commands that are done in any order; 0: one after the other */
	uint64_t (*draw)(void); /* for that, and for ghosts */
	uint64_t away_until;    /* no login before */
	uint64_t login_ns;      /* what a login takes */
	bool no_same, no_aptpl, no_abort, thin, no_attention; /* what it has not got; no_abort: PREEMPT AND ABORT */
	bool forgets;                                         /* a nexus that logs in is another one than before */
	enum fake_abort aborts;
	uint32_t block_len, transfer; /* 0: 512; of the limits' page */
};

extern struct fake_target fake_target; /* the only one */
void fake_target_init(void);
/* All sessions end, and no ghost is left. kept: it still knows its reservations. Not from a script */
void fake_target_restart(bool kept);
void fake_target_cut(unsigned nexus); /* its connection is lost; what it was at becomes ghosts. From a script, too */
void fake_target_ghosts_walk(void);   /* all that are left are done */
unsigned fake_target_held_by(void);   /* the nexus, ~0U: nobody */
void fake_target_reserve(unsigned nexus, uint64_t key);     /* the lock is held: it registers, and takes what is free */
void fake_target_drop_key(unsigned nexus, bool registered); /* the lock is held: RELEASE; registered: and it stays */

/* ---- between the two files: the lock is held ---- */
unsigned fake_nexus_login(struct fake_target *t, const struct iscsi_target *by);
void fake_ghost_make(struct fake_target *t, unsigned nexus, const struct iscsi_task *c);
struct fake_command fake_command_of(struct fake_target *t, unsigned nexus, const struct iscsi_task *c);
void fake_command_answer(struct iscsi_task *c, const struct fake_fault *f);
void fake_command_do(struct fake_target *t, unsigned nexus, struct iscsi_task *c, uint32_t cut);
void fake_session_end(struct iscsi_session *s, int err, bool ghosts);
