/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rules by which at most one host runs a VM: four pure tables, events in, actions out. No clock, no I/O, no memory
 * of their own. The product decides by them and by nothing else; tests/model/ generates its Promela model from them, so
 * that the two cannot drift apart. doc/handover.md tells the same in prose. Whoever changes a cell runs `make model`.
 *
 * Words: an incarnation is one boot of one host. An attempt is one try of one incarnation to move one VM. A record is
 * what a destination remembers of an attempt; while it says STARTED and the source may still hold the image, it is a
 * debt.
 */
#pragma once
#include "kernel/base/bits.h"

/* ---- 1. The destination's record of one attempt ---- */

enum record_state {
	RECORD_NONE,      /* "I do not remember", which is no answer */
	RECORD_RECEIVING, /* accepted, its image is coming */
	RECORD_READY,     /* complete: it may start, and waits for COMMIT */
	RECORD_STARTED,   /* it was started, here or (a debt that travelled) elsewhere */
	RECORD_NEVER,     /* nobody has started it, and nobody will */
	RECORD_CLAIMING,  /* COMMIT has come, and its disks' reservation decides: not given up before that is known */
	RECORD_STATES,
};
enum record_event {
	RECORD_EV_OFFER,        /* an OFFER that has passed every check */
	RECORD_EV_READY,        /* the image is complete, checked and loaded */
	RECORD_EV_COMMIT,       /* COMMIT, and nobody here has cancelled */
	RECORD_EV_GIVE_UP,      /* an error, a limit, a cancel, a newer OFFER of the same source */
	RECORD_EV_QUERY,        /* the source asks */
	RECORD_EV_TOLD_STARTED, /* a debt comes with the VM, or from a host that is switched off */
	RECORD_EV_TOLD_NEVER,   /* the same for a NEVER */
	RECORD_EV_DONE,         /* the source no longer holds the attempt: it says so, or it has restarted */
	RECORD_EV_DROP,         /* the operator's word: forget it */
	RECORD_EV_COMMIT_UNIT,  /* as COMMIT, of a VM with disks on shared storage, which are to be claimed */
	RECORD_EV_CLAIMED,      /* they are this host's */
	RECORD_EV_CLAIM_LOST,   /* they are another's: its source has taken them back */
	RECORD_EVENTS,
};

/* ---- 2. The source of one attempt ---- */

enum source_state {
	SOURCE_RUNS,      /* the VM runs here; passes */
	SOURCE_PAUSED,    /* it stands still, COMMIT is not out */
	SOURCE_UNDECIDED, /* COMMIT may be out: neither run nor freed */
	SOURCE_FREED,     /* it runs elsewhere; the image is gone */
	SOURCE_STATES,
};
enum source_event {
	SOURCE_EV_PAUSE,         /* the last pass begins */
	SOURCE_EV_FAIL,          /* an error, a limit, a cancel, the link */
	SOURCE_EV_COMMIT,        /* before the first byte of COMMIT can be out */
	SOURCE_EV_STARTED,       /* somebody holds a record that says STARTED */
	SOURCE_EV_NEVER,         /* NEVER, decided by the incarnation that was the destination */
	SOURCE_EV_NEVER_FOREIGN, /* NEVER, decided by somebody else: of no meaning */
	SOURCE_EV_NOBODY,        /* all answered, and nobody has, had or receives it */
	SOURCE_EV_NOBODY_RESUME, /* the same, and tern.conf says undecided = resume */
	SOURCE_EV_CLAIM,         /* the operator's word: it goes on here, the risk spelled out */
	SOURCE_EV_FORGET,        /* the operator's word: the image here is of no use */
	SOURCE_EV_TAKEN_BACK,    /* its disks' reservation is this host's again: no COMMIT can be obeyed any more */
	SOURCE_EV_RUNS_THERE,    /* the reservation is the destination's, with the mark of one that runs */
	SOURCE_EVENTS,
};

/* ---- 3. What a round of questions to all peers revealed, worst first ---- */

enum evidence {
	EVIDENCE_STARTED,  /* somebody holds a record that says STARTED of the attempt asked about */
	EVIDENCE_HERE,     /* somebody runs, holds, receives or is about to start it */
	EVIDENCE_CONFLICT, /* somebody else has this host's name or address */
	EVIDENCE_MOVED,    /* somebody sent it away, to a host that does not say it has ended there */
	EVIDENCE_ALIVE,    /* somebody is there, but gave no answer */
	EVIDENCE_SILENT,   /* somebody is silent: dead, or cut off */
	EVIDENCE_ONCE,     /* all answered "nothing", and this is the first such round */
	EVIDENCE_NOTHING,  /* all answered "nothing" in two rounds, the same incarnations in both */
	EVIDENCES,
};
/* Who wants to start a VM that is off here. */
enum start_policy {
	START_OPERATOR,  /* `vm start` */
	START_FORCE,     /* `vm start --force` */
	START_AUTO,      /* autostart = yes */
	START_ALONE,     /* autostart = alone, its 30 s not over */
	START_ALONE_DUE, /* autostart = alone, 30 s of silence are over */
	START_POLICIES,
};
enum undecided_policy {
	UNDECIDED_ASK,
	UNDECIDED_RESUME,
	UNDECIDED_POLICIES
}; /* undecided = ask | resume in tern.conf */

/* ---- 4. Actions ---- */

enum rule_action {
	ACT_NONE,
	ACT_ACCEPT,      /* the destination makes the skeleton */
	ACT_SAY_READY,   /* READY goes out */
	ACT_START,       /* the VM starts here: once for an attempt */
	ACT_DISCARD,     /* the skeleton goes; for a QUERY: and then NEVER goes out */
	ACT_SAY_STARTED, /* the answer */
	ACT_SAY_NEVER,
	ACT_SAY_UNKNOWN,
	ACT_REFUSE, /* what was asked for is not possible now */
	ACT_HALT,   /* the source pauses its VM */
	ACT_RESUME, /* the VM goes on here */
	ACT_SEND_COMMIT,
	ACT_ASK,   /* ask the destination, then everybody */
	ACT_FREE,  /* the image here is freed, then DONE */
	ACT_TELL,  /* the operator is told, and decides */
	ACT_WAIT,  /* ask again later */
	ACT_AGAIN, /* one more round, at once */
	ACT_GO,    /* start it */
	ACT_CLAIM, /* its disks, by the key that COMMIT has */
};

struct rule {
	uint8_t next;   /* state */
	uint8_t action; /* enum rule_action */
};

extern const struct rule record_rules[RECORD_STATES][RECORD_EVENTS];
extern const struct rule source_rules[SOURCE_STATES][SOURCE_EVENTS];
/* ACT_GO, ACT_REFUSE, ACT_TELL, ACT_WAIT or ACT_AGAIN. */
extern const uint8_t start_rules[EVIDENCES][START_POLICIES];
/* ACT_FREE, ACT_WAIT, ACT_TELL, ACT_RESUME or ACT_AGAIN. */
extern const uint8_t undecided_rules[EVIDENCES][UNDECIDED_POLICIES];
/*
 * Of two hosts that are about to start one VM, each asks the other. What the asked one answers for its own lease on the
 * VM: ACT_REFUSE "it is here", ACT_AGAIN "not here", and its own lease is given up.
 */
enum lease_state { LEASE_NONE, LEASE_ASKING, LEASE_YIELDED, LEASE_TAKEN, LEASE_STATES };
enum lease_order { ASKER_FIRST, ASKER_LATER, LEASE_ORDERS }; /* by host identity: a number that no two hosts share */
extern const struct rule lease_rules[LEASE_STATES][LEASE_ORDERS];
