/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Live migration: what the rest of tern calls. The stream is specified in doc/wire.md, the hand-over in
 * doc/handover.md.
 *
 *   source.c: connect -> hello, offer -> passes (precopy.c, policy.c) -> pause .. READY (switchover.c)
 *             -> handover.c, undecided.c
 *   dest.c:   accept  -> check -> skeleton -> receive -> load -> READY -> COMMIT: run, announce -> STARTED (handover.c)
 */
#pragma once
#include "net/stream.h"
#include "vmm/migrate/downtime.h"
#include "vmm/migrate/waits.h"
#include "vmm/vm.h"

#define MIGRATE_PORT        7077
#define MIGRATE_DOWNTIME_MS 300
#define MIGRATE_MAX_PASSES  30

struct migrate_params {
	struct ip dest;
	uint16_t port;
	uint32_t max_downtime_ms;
	uint32_t max_passes;
	uint32_t timeout_ms;            /* for the passes, from when it has its turn; 0: none */
	enum migrate_strategy strategy; /* if own_strategy; else the VM's */
	bool own_strategy;
	bool at_once;     /* post-copy was asked for while it ran: the guest goes in the midst of a pass */
	uint64_t limit;   /* bytes per second; 0: none */
	bool to_self;     /* within this host (self.h); dest is none */
	bool any_network; /* do not ask whether the destination is on the VM's network */
	bool pull;        /* the destination asks for the pages of each pass (pulled.h) */
	bool verify;      /* both sides compare digests of all of it before the hand-over */
	bool copy_base;   /* base images of its disks go along where they are not there */
};
enum migrate_phase {
	MIG_QUEUED, /* for its turn (bandwidth.h) */
	MIG_CONNECT,
	MIG_SETUP,
	MIG_PASSES,
	MIG_STOPPED,
	MIG_COMMIT,
	MIG_REMOTE, /* it runs at the destination, and not all of its memory is there yet */
	MIG_UNDECIDED,
	MIG_DONE,
	MIG_FAILED,
	MIG_CANCELLED,
};
struct migrate_status { /* a snapshot; for progress, `migrate status` and the report */
	char vm[VM_NAME_MAX];
	char peer[48];      /* "10.77.0.11:59015", "[fd00::b]:59015" or one without a port */
	char peer_name[48]; /* of tern.conf, else the same without the port */
	char cipher[40];    /* "TLS 1.3, AES-128-GCM", "in clear"; "": not connected yet */
	bool incoming, to_self;
	enum vm_state vm_state; /* RUNNING, PAUSED or STOPPED: when it began, and where it ends */
	enum migrate_phase phase;
	uint32_t pass;       /* 1.. */
	uint64_t pages_left; /* in this pass */
	uint64_t pages_sent, zero_pages, bytes;
	uint64_t disk_pages; /* of both: blocks of disks; of a source */
	uint64_t dirty_last; /* pages dirtied during the last pass */
	uint64_t rate;       /* bytes/s on the wire, recent */
	uint64_t limit;      /* bytes/s, of its own or of all; 0: none */
	uint64_t dirty_rate; /* bytes/s dirtied, recent */
	uint64_t predicted_downtime_ns;
	struct downtime predicted;   /* outgoing: the same in parts, of the last pass; */
	struct downtime actual;      /* and what it was. 0: not known */
	uint32_t round_trips;        /* outgoing: how often it waited for an answer, from HELLO on; */
	uint32_t stopped_trips;      /* and while the guest stood still */
	uint32_t vcpus;              /* outgoing: */
	uint8_t speed[VM_MAX_VCPUS]; /* of each in percent of its full one; all 100: none is slowed */
	enum migrate_strategy strategy;
	bool pull;                  /* outgoing: as asked for */
	struct migrate_waits waits; /* incoming: for pages that were not there when it ran already (post-copy) */
	uint64_t verified_pages;    /* that have something; 0 and 0: not asked for, or not yet */
	uint32_t verified_sections;
	uint64_t differed_pages; /* that came in post-copy and were not what they should be: asked for again */
	uint64_t differed_at;    /* the first of them, guest-physical */
	/*
	 * downtime: from the pause to the guest's start there, as its source knows it: when STARTED comes, less half a
	 * round trip. Where it goes on here, to that; at a destination, as far as COMMIT says it.
	 */
	uint64_t start_ns, total_ns, downtime_ns;
	char error[256]; /* why it failed or was cancelled */
};

/* Start the service for incoming migrations and questions; migrate_host_init (this_host.h) came first. Once. */
int migrate_init(void);
/*
 * May this host be switched off? -EBUSY with the first reason: a VM is undecided or moves, or records that nobody would
 * take. Sleeps.
 */
int migrate_may_leave(struct why *w) must_check;
/*
 * Begin moving vm (RUNNING, PAUSED or STOPPED, as which it arrives) in a task of its own; -EBUSY if it is moving
 * already, or starts.
 */
int migrate_start(struct vm *vm, const struct migrate_params *p, struct why *w) must_check;
/* Ask a running migration to stop; -ENOENT none, -EBUSY: it is past the point of return (COMMIT sent). */
int migrate_cancel(const char *vm_name, struct why *w);
/*
 * `vm claim NAME --force`: take a VM back that is UNDECIDED and run it here. Without force: -EPERM, and w spells out
 * the risk. -ENOENT, -EINVAL, -EALREADY: it is not (or no longer) undecided.
 */
int migrate_claim(const char *vm_name, bool force, struct why *w);
/*
 * `vm forget NAME --force` of a VM that is UNDECIDED: its image here goes. Without force: -EPERM, and w spells out the
 * risk.
 */
int migrate_forget(const char *vm_name, bool force, struct why *w);
/* Wait until it has ended or the deadline passes: 0 ended (look at the status), -ETIMEDOUT. */
int migrate_wait(const char *vm_name, uint64_t deadline_ns);
/*
 * Bytes per second for the running one of this VM, from now on; NULL: for all that leave, together. 0: no limit.
 * -ENOENT none is running; -EINVAL: less than records need.
 */
int migrate_limit(const char *vm_name, uint64_t rate, struct why *w) must_check;
/*
 * What else may change while it runs, of p, by bits of enum migrate_change; from the end of the pass that it is in,
 * but for post-copy, which begins at once.
 * vm_name NULL: of all that leave. -ENOENT none is running; -EINVAL: a downtime that cannot be kept.
 */
enum migrate_change { MIGRATE_SET_DOWNTIME = 1, MIGRATE_SET_TIMEOUT = 2, MIGRATE_SET_STRATEGY = 4 };
int migrate_change(const char *vm_name, const struct migrate_params *p, unsigned what, struct why *w) must_check;
/* The i-th migration, running ones and the last 64 finished, newest first: false past the end. */
bool migrate_get(unsigned i, struct migrate_status *s);
/* Of s, which migrate_get has told, an incoming one: what vCPU i has waited for pages. False: it has none such. */
bool migrate_get_waits(const struct migrate_status *s, unsigned i, struct migrate_waits *w);
const char *migrate_phase_name(enum migrate_phase p);

/*
 * One attempt over a given stream, in the caller's task: what the tasks run, and what host-built tests call with a
 * pipe.
 */
struct migration;
int migrate_source_run(struct vm *vm, struct stream *s, const struct migrate_params *p, struct why *w);
void migrate_serve(void *of, struct stream *s); /* owns s; of: NULL, or the migration to self whose other end it is */
