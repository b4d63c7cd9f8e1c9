/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nonces of questions by frame (shout.h): an anti-replay window for each asker, as IPsec has one (RFC 4303 3.4.3). They
 * are of the asker's clock, and rise; but several VMs' questions may overtake each other, on one network or by another.
 */
#pragma once
#include "kernel/host.h"

enum heard {              /* of a proved question */
	     HEARD_OLD,   /* recorded, and let go later: nobody asks that now */
	     HEARD_AGAIN, /* it came by another network, or somebody repeats it: it may be answered, and that is all */
	     HEARD_NEW,   /* and from now on it is known */
};
enum heard heard_before(struct incarnation asker, uint64_t nonce);
/* For a question of this host's. */
uint64_t heard_nonce_new(void);
