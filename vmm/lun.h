/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest's disk on a logical unit of an iSCSI target: a back end (vmm/blockdev.h) that keeps its session, and does not
 * write to a unit that is another host's.
 *
 * What the guest was told is done is at the target. What was under way when a session ended is done once more when
 * there is another one, after the target has said that the old one's commands have ended, and that the unit is still
 * ours.
 *
 * Whose it is says the unit itself, by a persistent reservation (Write Exclusive; vmm/lun_owner.h).
 */
#pragma once
#include "net/iscsi/session.h"
#include "vmm/blockdev.h"

#define LUN_DEPTH       64
#define LUN_BYTES_MAX   (1UL << 50)
#define LUN_ID          64
#define LUN_PATIENCE_NS (120 * NS_PER_SEC) /* that a request waits for a target that is away; then it fails */

struct lun_config { /* of [disk NAME] */
	struct ip ip;
	uint16_t port, lun;
	char target[ISCSI_NAME_MAX];
	char user[ISCSI_USER_MAX], secret[ISCSI_SECRET_MAX];
	uint32_t digests; /* enum iscsi_digests */
};

struct lun;
/* What commands show of one. */
enum lun_state {
	LUN_FREE,
	LUN_OURS,
	LUN_PASSED, /* a COMMIT has its key: whose it is the unit knows (lun_pass.h) */
	LUN_LOST,
};
struct lun_status {
	enum lun_state state;
	struct iscsi_stats session;
	uint64_t sessions;      /* opened so far */
	uint64_t waiting, busy; /* requests: that wait for a session; that the target has */
	uint64_t away_ns;       /* for how long there has been none, 0: there is one */
	char id[LUN_ID];        /* the unit's own name */
	uint64_t key;           /* by which this host holds it; 0: it does not */
	char product[32];       /* "IET VIRTUAL-DISK" */
	struct why why;         /* of the last thing that went wrong */
};
/*
 * Connects, and sees what unit that is. host: this machine's identity, which its initiator's name and its keys have;
 * nexus: names the VM and the disk, for the ISID. lost(arg): it is another host's
 * now: nothing is written any more, and what is under way ends with -EIO; once, from a task of its own. Errors with
 * why: what iscsi_session_open says, -ENODEV: no such unit; -ENOTSUP: none that can be used. Sleeps.
 */
int lun_open(struct lun **l, const struct lun_config *c, uint64_t host, uint64_t nexus, void (*lost)(void *arg),
	     void *arg, struct why *w) must_check;
/*
 * Makes it this host's. -EBUSY: it is another one's, by why; force: all the same, whoever that is. Sleeps.
 */
int lun_claim(struct lun *l, bool force, struct why *w) must_check;
/* Gives it up, if it is ours: others may claim it. Best effort: not while there is no session. Some seconds at most. */
void lun_release(struct lun *l);
void lun_close(struct lun *l); /* nothing is under way. NULL is fine */
struct blockdev *lun_blockdev(struct lun *l);
bool lun_is_lost(struct lun *l);
void lun_get_status(struct lun *l, struct lun_status *s);
