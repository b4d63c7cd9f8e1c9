/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Questions to other hosts: connect, greet, send a record, read the one that comes back, close. Each on a connection of
 * its own and by one deadline, so that no caller waits longer for a host than it wants. Several are asked together.
 */
#pragma once
#include "kernel/sync.h"
#include "vmm/migrate/records.h"

struct migration;

#define ASK_ENOUGH 1 /* what put() returns when nothing need be asked of who has greeted */

struct ask {
	/* the asker's */
	struct ip ip;
	uint64_t end_ns;
	int (*put)(struct ask *q);   /* `peer` has greeted: send the question on tx. 0, ASK_ENOUGH or -errno */
	void (*take)(struct ask *q); /* rx has the answer; it may still say something on tx */
	/* ask.c's, for the two above */
	struct stream *s;
	struct wire_tx tx;
	struct wire_rx rx;
	/* what came of it */
	struct hello peer;
	bool greeted; /* and peer says who it is */
	bool alive;   /* something was heard of it, be it a reset, or it could not be asked: false is its silence */
	bool ended;   /* [a] of a group */
	int err;      /* 0: it has greeted, and answered what it was asked */
	struct why why;
	struct ask_group *group;
};
/*
 * Ask one host, in the caller's task: its err. m (or NULL): cancelling it, or deciding about its VM, aborts the
 * question. Sleeps.
 */
int ask_host(struct ask *q, struct migration *m);

/*
 * Several at once, each in a task of its own. The group is the first field of what the asker has from calloc(), which
 * holds the questions and all that their functions need: an asker may leave before they have ended, and the last one
 * out frees it.
 */
struct ask_group {
	uint32_t refs, left; /* [a] tasks and the asker; questions that have not ended, and one for the asker */
	struct completion end;
};
void ask_group_init(struct ask_group *g);
void ask_start(struct ask_group *g, struct ask *q);
/* Once: true when all have ended; false when leaves() says so, which is called several times a second (NULL: never). */
bool ask_wait(struct ask_group *g, bool (*leaves)(void *arg), void *arg);
void ask_group_put(struct ask_group *g);
