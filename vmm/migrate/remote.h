/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy, the source's side: the guest goes before all of its memory has. What tern needs of it at once goes in the
 * last pass (vm_for_each_hot), of the rest a map (absent.h). The hand-over is as ever; when it says STARTED the image
 * here is kept as it was, and the destination asks for what it lacks (pull.h), until it has all:
 *
 *   pause: PASS(final), hot pages, PASS_END, ABSENT .. , sections, END | hand-over |
 *   DEMAND -> PAGES, SERVED .. until ALL -> DONE
 *
 * A connection that is lost is made anew from here, for as long as it takes: REJOIN; the destination's map, ABSENT ..;
 * and on. From STARTED on the VM can live only with both hosts: who asks for post-copy has chosen that.
 */
#pragma once
#include "vmm/migrate/source.h"

/* In place of the last pass. The guest stands still; the set is what is left of it. */
int remote_send(struct source *c) must_check;
/*
 * After STARTED, with the connection that it came by (it may be gone): until the destination has all of the VM (true),
 * or the operator forgets what is here (false, c->w says so). The VM's state is SERVING.
 */
bool remote_serve(struct source *c);
