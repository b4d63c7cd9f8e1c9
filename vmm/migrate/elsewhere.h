/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "Is it at your place?", which a host asks its peers before it starts a VM (migrate_elsewhere in migrate.h): one that has moved
 * away is still in its first host's tern.conf, and a second copy would share its MAC and its data. Records WHO and HAVE of
 * doc/wire.md; what it leaves open is in doc/handover.md.
 */
#pragma once
#include "vmm/migrate/records.h"

/* The other side of a connection whose first record is WHO. */
void elsewhere_answer(struct wire_tx *tx, struct wire_rx *rx);
