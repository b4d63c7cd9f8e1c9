/* SPDX-License-Identifier: BSD-2-Clause */
/* A connection that came in on the migration service's port, after both sides have greeted each other. */
#pragma once
#include "vmm/migrate/records.h"

struct connection { /* of its own task alone */
	struct stream *s;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello peer;
	bool greeted;           /* that is there */
	enum vm_state as;       /* as what the VM arrives that is offered */
	struct migration *self; /* to self: whose other end this is; NULL: of another host */
	struct why why;         /* what went wrong, for the log */
};

/* dest.c: the current record is an OFFER. */
void dest_attempt(struct connection *k);
/* pull.c: it is a REJOIN. The attempt's task has the connection until it breaks, or all is done. */
void pull_rejoin(struct connection *k);
