/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One question to one host, on a connection of its own: open, send a record, receive one, close. By one deadline, so
 * that nothing waits longer for a host than its caller wants.
 */
#pragma once
#include "vmm/migrate/records.h"

struct migration;

struct ask {
	struct stream *s;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello peer;
	uint64_t end_ns;
	bool alive; /* something was heard of it, be it a reset */
};
/*
 * Connects and greets: 0, or -errno with why. After an error too, ask_close. m (or NULL): cancelling it, or claiming
 * its VM, aborts the question. Sleeps.
 */
int ask_open(struct ask *q, uint32_t ip, uint64_t end_ns, struct migration *m, struct why *w) must_check;
/* The answer. */
int ask_recv(struct ask *q, struct why *w) must_check;
void ask_close(struct ask *q, struct migration *m);
