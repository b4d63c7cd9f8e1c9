/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM that rests: it is stopped or paused when its migration begins, and is so at its destination, where the operator
 * has it go on. Of one that is stopped its configuration, boot files and disks' layers go; of one that is paused all of
 * it, in one pass, for nothing changes meanwhile. Who may run it is decided as for any other (handover.h).
 */
#pragma once
#include "vmm/migrate/migration.h"

/*
 * The source, before anything else of the attempt: what is only made, or found, when a VM starts, its disks and boot
 * files, is there from now on. -ENOENT, -ENOMEM with why. Nothing to do unless it is stopped.
 */
int resting_begin(struct migration *m, struct why *w) must_check;
/* It stays here: what resting_begin has made goes. */
void resting_end(struct migration *m);
/* What OFFER says of the CPU and networks that it needs: nothing, if stopped. If it rests, STATE goes before it. */
int resting_offer(struct migration *m, struct wire_tx *tx, struct offer *o, uint64_t deadline_ns) must_check;
/* The destination: the current record is STATE. VM_STOPPED or VM_PAUSED, or -EPROTO. */
int resting_state_get(struct wire_rx *rx, enum vm_state *state, struct why *w) must_check;
