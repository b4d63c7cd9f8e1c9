/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "Is it at your place?", which a host asks its peers before it starts a VM (migrate_elsewhere in migrate.h): one that has moved
 * away is still in its first host's tern.conf, and a second copy would share its MAC and its data. Records WHO and HAVE of
 * doc/wire.md; what it leaves open is in doc/handover.md.
 *
 * Two hosts may be about to start the same VM. Each sets vm->claim to ASKING before its first question and to TAKEN after the last
 * answer, if it still is ASKING then. Of two that are ASKING, the first by name has the VM and the other is made to yield, by the
 * first one's question; whoever has TAKEN it has it, whatever its name. So at most one of two that hear each other gets there.
 */
#pragma once
#include "vmm/migrate/records.h"

/* The other side of a connection whose first record is WHO, from the host of that name. */
void elsewhere_answer(struct wire_tx *tx, struct wire_rx *rx, const char *asker);
