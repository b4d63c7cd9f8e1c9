/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "Have you got it?": rounds of questions to all peers, and through them to theirs (records WHO and HAVE of
 * doc/wire.md; also a frame on the VM's own network, where two copies would meet). A host asks before it starts a VM
 * (lease.h), and a source whose VM is undecided asks who has it. What the answers mean is in
 * rules.c; why two rounds prove what one does not, in doc/handover.md.
 */
#pragma once
#include "vmm/migrate/records.h"

#define ROUND_NS (10 * NS_PER_SEC) /* for one round; those that are asked give their own peers 4 s of it */

struct finding {
	enum evidence evidence;    /* EVIDENCE_ONCE at best: two rounds make a NOTHING (probe_twice) */
	char text[160];            /* about it, for the operator: "demo is at b", "b does not answer" */
	char at[HOST_NAME_MAX];    /* HERE, MOVED: which host has it, or should */
	struct incarnation where;  /* MOVED: same */
	char first[HOST_NAME_MAX]; /* the first host that is silent, "" if none */
	char names[96];            /* all that are silent, as many as it holds: "b, c" */
	unsigned silent, unnamed;
	uint64_t silent_digest; /* of those that gave no answer */
	uint64_t digest;        /* of the incarnations that answered: equal digests, the same hosts without a restart */
};
/* About a VM of this configuration, by this host. */
struct who probe_question(const struct vm_config *cfg, uint32_t flags);
/*
 * One round, until end_ns at most. `extra`: an address that is asked as well; `but`: the asker's own, which is not; 0:
 * none. -EINTR, without a finding: who waits for it (NULL: nobody) leaves. Sleeps.
 */
int probe_round(const struct who *q, struct ip extra, struct ip but, uint64_t end_ns, const struct vm_waiter *waiter,
		struct finding *f) must_check;
/*
 * Did the same incarnations answer in both, and the same hosts not? So nothing restarted, or went to who was asked
 * before, in between.
 */
bool probe_alike(const struct finding *first, const struct finding *second);
/* Is the second of two rounds in a row the proof? */
bool probe_twice(const struct finding *first, const struct finding *second);

/* The other side: the current record of rx is WHO. */
void probe_answer(struct wire_tx *tx, struct wire_rx *rx);
/* What this host itself says, without asking anybody. Any task context; leases are compared and may be given up. */
void probe_local(const struct who *q, struct have_answer *a);

/*
 * A greeting from a host of our name that is not us: told on the console once, and nothing starts by itself for a
 * while.
 */
void probe_greeted(const struct hello *h, const char *addr);
