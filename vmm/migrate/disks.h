/* SPDX-License-Identifier: BSD-2-Clause */
/* The layers of a VM's disks, as a migration has them: in each pass behind its memory (pages.h). */
#pragma once
#include "vmm/migrate/pages.h"
#include "vmm/vm.h"

/* Those of vm, which it has for as long as it is bound to a migration (migration.h). */
struct page_layers disks_layers(const struct vm *vm);
/* What all of them have, and what was written since the last look, into the set that is to be sent. How many blocks. */
uint64_t disks_fill(const struct page_layers *s);
uint64_t disks_harvest(const struct page_layers *s);

/*
 * The end of OFFER's body (records.h): a name of no network says that no card follows, but disks. _get: behind that
 * name; false if it is malformed.
 */
void disks_offer(struct wire_tx *tx, const struct vm_config *c);
bool disks_offer_get(struct wire_rx *rx, struct vm_config *c);
