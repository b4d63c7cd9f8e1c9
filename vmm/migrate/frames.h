/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames that came for the guest while it moved, record FRAMES: from its pause on the source keeps them (vm_port.h).
 * When it hears STARTED, it sends them after the VM, and with them what still comes until the network has been told
 * where the VM is now. The destination gives them to the VM's cards. All of it is a courtesy: what is lost of it costs
 * the guest's clients a retransmission, and decides nothing.
 *
 *   source: pause ... COMMIT | kept: FRAMES, FRAMES ... until the guest's MAC is heard from elsewhere | DONE
 */
#pragma once
#include "vmm/migrate/wire.h"

struct vm;
#define FRAMES_NS (1 * NS_PER_SEC) /* the source waits no longer for that word */

/* Source, after STARTED: DONE may follow. The VM is freed by nobody meanwhile. */
void frames_send(struct vm *vm, struct wire_tx *tx);
/* The same without waiting: true while more may come until end_ns. */
bool frames_send_some(struct vm *vm, struct wire_tx *tx, uint64_t end_ns);
/* Destination, after STARTED was sent: the current record is FRAMES. False: it is malformed. May sleep. */
bool frames_recv(struct wire_rx *rx, struct vm *vm) must_check;
