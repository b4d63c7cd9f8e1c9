/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What migration keeps for the host that it runs on, in one struct, so that host-built tests can have three hosts in
 * one process. The product has one (this_host.c); a test's thread says on which host it is.
 */
#pragma once
#include "kernel/host.h"
#include "kernel/base/list.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "net/stream.h"
#include "vmm/migrate/downtime.h"

#define GREETINGS_MAX 16
#define SHOUT_ASKERS  64
#define SHOUT_HEARD   64

/* bandwidth.c's: how the migrations that leave share the line. */
struct bandwidth {
	struct spinlock lock;
	struct waitq q;          /* of lock */
	struct list queue;       /* [b] migrations that wait for their turn, in the order in which they came */
	unsigned running;        /* [b] those that have had it */
	uint64_t limit, minimum; /* [b] bytes per second: of all together, 0: none; for each */
	uint64_t due_ns;         /* [b] when all that was sent has gone at that limit */
	uint64_t looks;          /* [b] counts what those that wait for due_ns shall look at */
};

/*
 * (c) const once the first VM may start  [a] atomic  [t] table_lock  [r] records_lock  [d] departed_lock  [b]
 * band.lock
 */
struct migrate_host {
	char name[32];                /* (c) */
	struct incarnation inc;       /* (c) */
	const struct net_peer *peers; /* (c) to be asked before a VM starts */
	unsigned npeers;              /* (c) */
	const char *lost_peer;        /* (c) of the file, but it cannot be asked; NULL or "": none */
	/* (c) Does this host answer at that address, in network order? NULL: no. */
	bool (*is_own)(struct ip ip);
	/* (c) Has another host this one's address? With a text. NULL: no. */
	bool (*address_conflict)(char *text, size_t size);
	/* (c) Is it known whether the host has its address? Sleeps until it is, or the deadline. NULL: it is */
	bool (*address_settled)(uint64_t deadline_ns);
	/* (c) What the network that leads there carries, in bytes per second; 0: not known. NULL: as that. */
	uint64_t (*line)(struct ip dest);
	bool undecided_resume; /* (c) tern.conf: undecided = resume */
	uint64_t last_number;  /* [a] of this incarnation's attempts */
	unsigned relaying;     /* [a] questions that are asked on others' behalf */
	unsigned receiving;    /* [a] incoming attempts that are under way */
	uint64_t twin_ns;      /* [a] when another host of our name was last heard; 0: never */

	struct mutex greetings_lock; /* sleeps: guards greetings and ngreetings, service.c's */
	struct stream *greetings[GREETINGS_MAX];
	unsigned ngreetings;
	bool telling; /* [a] a peer that speaks in clear, and may not, is being told so; service.c's */

	struct { /* heard.c's, under its lock */
		struct incarnation inc;
		uint64_t nonces[SHOUT_HEARD]; /* the highest of its questions that were heard */
	} askers[SHOUT_ASKERS];
	unsigned naskers; /* so many there were */

	struct spinlock table_lock;
	struct list migrations; /* [t] migration.c's: reports, newest first */

	struct spinlock records_lock;
	struct list records, seen; /* [r] attempts.c's */
	unsigned nrecords, nseen;  /* [r] */

	struct bandwidth band;
	struct downtime_costs costs; /* [a] */

	struct spinlock departed_lock;
	struct list departed; /* [d] departed.c's */
};

/* The one of the caller's task. */
struct migrate_host *migrate_this_host(void);
/* What tern.conf calls who is at that address; `other` if it is no peer's. service.c */
const char *migrate_peer_name(struct ip ip, const char *other);
void migrate_host_init(struct migrate_host *h, const char *name, struct incarnation inc, const struct host_conf *conf);
