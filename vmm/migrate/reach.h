/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * REACH, a question by frame (datagram.h) on the network of a VM that is about to move: is the destination on it, too?
 */
#pragma once
#include "vmm/migrate/datagram.h"

/*
 * Do frames on the network `net` (as a VM's configuration has it) get to a host there, and come back? 0, -ENETDOWN: it
 * has no link here, so there is nothing to lose; -EHOSTUNREACH and w says what came of them; -ETIMEDOUT, with w too:
 * nothing did, in the time that there was; -ECANCELED. Sleeps up to 7 s, and no longer than to->end_ns.
 */
struct reach_to {
	struct incarnation inc;
	const char *name;
	unsigned mtu; /* what the guest sends at most: frames of that size must come through */
	uint64_t end_ns;
	bool in_clear;             /* all with it is: an answer needs no proof */
	bool (*leaves)(void *arg); /* does the asker not want to know any more? NULL: he does */
	void *arg;
};
int reach_ask(const char *net, const struct reach_to *to, struct why *w) must_check;
/* A card's task: a question, an answer has come. limited: somebody who has proved nothing, or repeats himself. */
void reach_answer(struct datagram_in *in, bool limited);
void reach_hear(struct datagram_in *in);
