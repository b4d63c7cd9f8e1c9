/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One attempt to move one VM, as the files of vmm/migrate share it; and the table of them. The task that
 * runs the attempt owns it; the console reads its status, cancels it, claims its VM.
 *
 *   migration_new -> bind (to the VM) -> attach (a stream) ... detach -> finish -> put
 */
#pragma once
#include "kernel/spinlock.h"
#include "net/stream.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/records.h"

/*
 * Limits of what a peer that lives may take: a dead one, and a link that does not come back, are STREAM_SILENCE_NS's to
 * find. No limit ends what a link that was cut for 5 s can still go on with, so each of them is MIG_CUT_NS at least;
 * but MIG_TELL_NS, for words of an attempt that is over.
 */
#define MIG_CUT_NS         (8 * NS_PER_SEC)  /* 5 s, at most 2 s to TCP's next try, and what is to be said */
#define MIG_CONNECT_NS     (2 * MIG_CUT_NS)  /* TCP, in half of it, and the TLS handshake */
#define MIG_SETUP_NS       (10 * NS_PER_SEC) /* for one answer before the passes */
#define MIG_GREETING_NS    (10 * NS_PER_SEC) /* to prove the key; from there to the first record after the greeting */
#define MIG_IDLE_NS        (15 * NS_PER_SEC) /* no record from (to) the peer during passes */
#define MIG_STOPPED_NS     (10 * NS_PER_SEC) /* same, while the guest stands still; READY without COMMIT */
#define MIG_BLACKOUT_NS    MIG_CUT_NS        /* from the pause to READY or COMMIT; at least ten times the budget */
#define MIG_ANSWER_NS      MIG_CUT_NS        /* STARTED after COMMIT */
/*
 * To tell the other host why an attempt has ended, and for it to read that: before the words lies up to 1 MiB
 * (TCP_SND_BUF), for which a link of 3 Mbit/s takes that long, and TCP sends what was lost again after a second.
 */
#define MIG_TELL_NS        (3 * NS_PER_SEC)
#define MIG_QUERY_NS       (10 * NS_PER_SEC) /* a QUERY, from connecting to its answer */
#define MIG_ASK_NS         (1 * NS_PER_SEC)  /* between two QUERYs */
#define MIG_KEEPALIVE_NS   NS_PER_SEC        /* the source is silent for no longer than this */
#define MIG_PROGRESS_NS    (60 * NS_PER_SEC) /* signs of life alone keep an attempt no longer than this */
#define MIG_ROUND_EVERY    5                 /* of so many QUERYs without an answer, one goes to all peers */
#define MIG_UNDECIDED_TELL 10                /* after so many QUERYs the operator is told what he can do */
#define MIG_RECEIVE_MAX    8                 /* incoming attempts at once; questions are served apart from them */

/* What only the operator may say of a VM that is UNDECIDED. */
enum operators_word {
	WORD_NONE,
	WORD_CLAIM,  /* it goes on here */
	WORD_FORGET, /* its image here is of no use */
};

/* Its place in the host's table; and all that stays of it when it is over, of the last 64 of the host. */
struct migration_report {
	struct list node;         /* [r] */
	struct migration *m;      /* [r] NULL: it is over */
	struct migrate_status st; /* [r] from then on */
	struct vcpu_waits *waits; /* [r], its m's lock as well while there is one; NULL: no post-copy came in */
};
/*
 * (c) const  [r] migrate_host.table_lock  [l] lock; what its own task alone writes, that task reads without
 * [s] stream_lock  [t] its own task alone  [b] the host's band.lock
 * Order: vm->lock, then stream_lock, then table_lock, then lock. band.lock is a leaf.
 */
struct migration {
	unsigned refs;                   /* [r] */
	struct migration_report *report; /* (c) its place; it is the table's when this is over */
	struct vm *vm;                   /* [t] with a reference of its own, between bind and unbind */
	struct migrate_params p;         /* (c) outgoing; what migrate_change changes: [l] */
	struct attempt_id id;            /* [l] until set */
	struct spinlock lock;
	struct migrate_status st; /* [l]; vm, peer, incoming, to_self, vm_state: (c) */
	bool cancel;              /* [l] asked for by the operator */
	uint64_t cancel_ns;       /* [l] when */
	bool committed;           /* [l] past the point of return: cancel no longer works */
	enum operators_word word; /* [l] UNDECIDED: on the VM's image here */
	bool sure;                /* [l] --force came with it */
	bool decided;             /* [l] another word comes too late */
	bool nobody;              /* [l] UNDECIDED: all hosts have answered, and none has it */
	enum record_state told;   /* [l] UNDECIDED: what a host that holds a record has told us; RECORD_NONE: nothing */
	struct incarnation dest;  /* [l] outgoing: of the destination, from its greeting on this attempt's connection */
	char dest_name[32];       /* [l] it is its own task's to write */
	bool finished;            /* [l] */
	bool remote;              /* [l]; outgoing: post-copy: the image here stays when it runs there */
	struct pull *pull;        /* [l] incoming: who a connection that was made anew is for (pull.h) */
	struct vm *beside;        /* (c) to self: the VM, with a reference, until the other end has ended */
	struct stream *there;     /* (c) to self: the other end */
	struct completion served; /* to self: it has ended */
	uint64_t unit_key;        /* [t] UNDECIDED: COMMIT's (disk_unit_pass.h); 0: it has no unit */
	bool made_disks;          /* [t] of a VM that never ran here (resting.h) */
	struct list turn;         /* [b] in the queue */
	bool has_turn;            /* [b] */
	uint64_t limit, due_ns;   /* [b] bytes per second, 0: none; when what was sent has gone at that */
	struct stream_canceller canceller; /* (c) for connecting: as migration_attach and migration_detach */
	struct mutex stream_lock;
	struct stream *stream;        /* [s] what cancelling aborts */
	struct inbox *inbox;          /* [s] a source's: what cancelling stops first, for the destination to be told */
	struct completion done, news; /* news: something to look at while UNDECIDED */
};

/* In the table, with a reference for the caller. NULL: no memory. */
struct migration *migration_new(const char *vm_name, const char *peer, struct ip ip, bool incoming) must_check;
void migration_put(struct migration *m);
/* One that never began: out of the table, both references given back. */
void migration_drop(struct migration *m);
/* The newest that is not over and matches, with a reference; NULL. match is called with its lock held. */
struct migration *migration_find(bool (*match)(struct migration *m, const void *arg), const void *arg);
/* vm->migration = m, with a reference on vm: -EBUSY if it is moving, -EINVAL if it is not in `state`. */
int migration_bind(struct migration *m, struct vm *vm, enum vm_state state, struct why *w) must_check;
/* The same for a source, in whatever state it may leave: that is st.vm_state from then on. */
int migration_bind_leaver(struct migration *m, struct vm *vm, struct why *w) must_check;
/* Does it stand still all the time? */
static inline bool migration_rests(const struct migration *m) { return m->st.vm_state != VM_RUNNING; }
/* Lets go of the VM; gone: it has been destroyed. */
void migration_unbind(struct migration *m, bool gone);

/* Why it does not get on, while it runs, in `migrate status`; "": it does. */
void migration_say(struct migration *m, const char *text);
/*
 * Incoming, post-copy (migration_waits.c): the report will tell of the waits of so many vCPUs, -ENOMEM; one of these,
 * by ns of vCPU i, or (any other number) of the hypervisor for it.
 */
int migration_count_waits(struct migration *m, unsigned nvcpus) must_check;
void migration_waited(struct migration *m, unsigned vcpu, uint64_t ns);
void migration_cancel_init(struct migration *m); /* for migration_new */
/*
 * From now on cancelling stops in (NULL: there is none) or aborts s; -ECANCELED if that has been asked for already. The
 * caller still owns both.
 */
int migration_attach(struct migration *m, struct stream *s, struct inbox *in) must_check;
void migration_detach(struct migration *m);
void migration_abort(struct migration *m); /* the stream that is attached */
/*
 * Its inbox; without one, as migration_abort; but not of one that comes, whose task looks after each record, and can
 * still tell the source: who waits for it aborts it when it has had its time (migrate_wait).
 */
void migration_stop(struct migration *m);
bool migration_cancelled(struct migration *m);
/* One decision between the operator's cancel and COMMIT: 0, from now on cancelling is refused; or -ECANCELED. */
int migration_commit_point(struct migration *m) must_check;

void migration_phase(struct migration *m, enum migrate_phase phase);
/*
 * A guest that powers off, resets or fails waits with it until we let go of it (vm_migration_ended): at once.
 * -ECANCELED with the reason, also for one that should still be as it was (not paused) and is not.
 */
int migration_guest_gone(const struct migration *m, bool paused, struct why *w) must_check;
/* Of one that leaves and is not paused yet: the same, or the operator has cancelled it. */
int migration_given_up(struct migration *m, struct why *w) must_check;
/* Is there a report of one that is over, of that VM? */
bool migration_is_over(const char *vm_name);
/* The end, once: its report alone stays. CANCELLED instead of FAILED if the operator asked for it. Logs it. */
void migration_finish(struct migration *m, enum migrate_phase phase, const char *error);

/*
 * A host that holds a record of one of our attempts says what was decided: true if this host still holds the attempt
 * (and will now act on it), false if it does not (any more).
 */
bool migration_told(const struct decision *d);
/* The source of an incoming one holds nothing of it any more: if memory is still missing here, the operator is told. */
void migration_source_gone(const struct attempt_id *id);

/* Abort the undecided incoming attempt `id` and wait until its skeleton is gone (or the deadline passes). */
void migration_evict(const struct attempt_id *id, uint64_t deadline_ns);

/* source.c: the body of an outgoing migration's task; has the caller's reference on m. */
void source_task(void *m);
