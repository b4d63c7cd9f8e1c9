/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A task that works whenever it is kicked: kicks that come while it is at it make one more time of it. It is urgent, as
 * the tasks of NICs are, for a fifth of the time, and all on one CPU for half of it; one that works more takes its turn
 * with vCPUs, and as a part of the share that it works for.
 */
#pragma once
#include "kernel/spinlock.h"
#include "kernel/sync.h"

struct task_share; /* kernel/task.h */

struct worker { /* (c) const after start  [l] lock  [w] its task */
	struct spinlock lock;
	struct waitq wake, idle;    /* [l] */
	bool kicked, working, ends; /* [l] */
	unsigned turns;             /* [l] begun so far */
	bool (*work)(void *arg);    /* (c) */
	void *arg;                  /* (c) */
	struct task_share *share;   /* (c) */
	bool urgent;                /* [w] */
	uint64_t full_ns;           /* [w] when it will have paid for being urgent; as in kernel/base/gcra.h */
	struct completion ended;
};
/*
 * Until worker_stop each kick is followed by work(arg), without locks: a turn of some hundred microseconds, and true if
 * there is more to do. share: whose CPU time that takes; NULL: its own. -ENOMEM.
 */
int worker_start(struct worker *w, const char *name, bool (*work)(void *arg), void *arg,
		 struct task_share *share) must_check;
void worker_kick(struct worker *w); /* any context */
/* The turn that is going on has ended; whether another one follows is up to work(). Sleeps. */
void worker_settle(struct worker *w);
void worker_stop(struct worker *w); /* on return work() is not running and will not. Sleeps */
