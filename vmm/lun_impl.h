/* SPDX-License-Identifier: BSD-2-Clause */
/* What a unit's keeper (lun.c) and its requests (lun_io.c) share. */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "vmm/lun.h"
#include "vmm/lun_owner.h"

#define LUN_REQS    128               /* that the target has at once */
#define LUN_PIECES  288               /* of one request's data: as many as a chain of a guest's has (VIRTQ_SEGS_MAX) */
#define LUN_MAX     KIB(256)          /* bytes of one */
#define LUN_TASK_NS (20 * NS_PER_SEC) /* then it is aborted, and done once more */

struct lun_slot { /* a request that the session has */
	struct iscsi_task t;
	struct blockdev_req *r; /* NULL: it is free */
	struct lun *l;
	bool same; /* it is a WRITE SAME */
	struct iov iov[LUN_PIECES];
};
enum lun_wish {
	LUN_WISH_NONE,
	LUN_WISH_CLAIM,
	LUN_WISH_RELEASE,
	LUN_WISH_CLOSE,
	LUN_WISH_PASS, /* this and those below: lun_pass.c's */
	LUN_WISH_KEEP,
	LUN_WISH_TAKE_BACK,
	LUN_WISH_PREPARE,
	LUN_WISH_TAKE_OVER,
	LUN_WISH_FOLLOW,
};
struct lun_ask {              /* what goes with a wish */
	bool force;           /* CLAIM, TAKE_BACK */
	uint64_t deadline_ns; /* PASS */
	/* TAKE_OVER: the source's; PREPARE, FOLLOW: a host. The answer's: PASS ours, TAKE_BACK, TAKE_OVER who has it */
	uint64_t key;
};
/*
 * (c) const after open  [l] lock  [k] the keeper's task
 */
struct lun {
	struct blockdev b;
	struct lun_config cfg;      /* (c) */
	struct iscsi_target target; /* (c) */
	void (*lost)(void *arg);    /* (c) */
	void *arg;                  /* (c) */
	struct lun_owner owner;     /* [k] */

	struct spinlock lock;
	struct waitq news;             /* [l] for the keeper */
	enum lun_state state;          /* [l] */
	struct iscsi_session *session; /* [l] set by the keeper */
	unsigned users;                /* [l] tasks that are in the session: it stays */
	bool ended;                    /* [l] the session has */
	unsigned checks, checked;     /* [l] reasons to look whether it is still ours, and how many of them have been */
	struct list waiting;          /* [l] requests that no session has */
	unsigned nwaiting, nbusy;     /* [l] */
	uint64_t hurry_ns, away_ns;   /* [l]; away_ns: since when there has been no session, 0: there is one */
	uint64_t told_ns;             /* [l] no failed request is logged before */
	uint64_t pause_ns;            /* [l] nothing is sent before: the unit was busy */
	uint64_t reopen_ns;           /* [k] no session is opened before */
	uint64_t retry_ns;            /* [k] no session is tried, nor looked at, before */
	uint64_t sessions;            /* [l] */
	bool no_same;                 /* [l] it has no WRITE SAME: zeros are written */
	bool thin;                    /* (c) after open */
	struct why why;               /* [l] */
	char id[LUN_ID], product[32]; /* (c) after open */
	struct lun_slot *slot;        /* [l] LUN_REQS of them */

	struct mutex asking;   /* one at a time */
	enum lun_wish wish;    /* [l] */
	struct lun_ask ask;    /* [l] set while there is a wish */
	bool mark;             /* [l] its VM runs here, and others are to see that */
	int answer;            /* [l] */
	struct why answer_why; /* [l] */
	struct completion answered, keeper_ended;
};

/* The keeper does that, and answers; into *ask as well. Each of its commands has a bound. Sleeps. */
int lun_wish(struct lun *l, enum lun_wish what, struct lun_ask *ask, struct why *w) must_check;
bool lun_has_session(struct lun *l);                     /* as far as is known */
void lun_set_state(struct lun *l, enum lun_state state); /* by the keeper */
bool lun_is_settled(const struct lun *l); /* nothing of ours is under way, by the target's own word. The lock is held */
/* lun_pass.c: one of its wishes, by the keeper: 0 or -errno with why. */
int lun_pass_fulfil(struct lun *l, enum lun_wish wish, struct lun_ask *ask, struct why *w) must_check;
void lun_leave(struct lun *l); /* who was one of `users` is out of the session */
/* lun_unit.c, by the keeper's task, or before there is one: into b, id, product and thin. 0 or -errno with why. */
int lun_identify(struct lun *l, struct why *w) must_check;
/*
 * Still that unit, and no smaller? A target that is set up anew may have another one there, which must not get this
 * one's writes. Reads its size.
 */
int lun_is_same(struct lun *l, struct why *w) must_check;
/* lun_io.c */
extern const struct blockdev_ops lun_ops;
void lun_pump(struct lun *l); /* what waits goes to the session, if it may. Any task, without locks */
/* Those that wait longer than `before`, or all, end with err; with -EAGAIN none if there is no hurry any more. */
void lun_end_waiting(struct lun *l, int err, uint64_t before_ns);
/* When the first of those that wait has waited too long; TIME_NEVER. The lock is held. */
uint64_t lun_oldest_ns(const struct lun *l);
