/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The units of a VM pass with it (lun_pass.h, doc/handover.md). The first one that the VM names decides whose the VM
 * is, for nobody can claim two at one moment; the others follow it. The VM is bound to a migration, so that nobody else
 * gives it disks, or takes them. All of these sleep.
 */
#pragma once
#include "vmm/vm.h"

/* For an OFFER: what the units are called wherever they are seen, as cfg->disk[].file. -ENOTSUP: one has no name. */
int disk_unit_pass_name(const struct vm *vm, struct vm_config *cfg, struct why *w) must_check;
/*
 * Destination, before ACCEPT: they are open; are they those that cfg names, and held by that host? Then this one is
 * registered there. -ENODEV, -EBUSY, or what the target says, with why.
 */
int disk_unit_pass_prepare(struct vm *vm, uint64_t source, struct why *w) must_check;
/*
 * Source, the guest stands still: nothing of it is under way, and nothing more is written from here. *key: what COMMIT
 * is to say; 0: it has no unit. An error has undone it.
 */
int disk_unit_pass(struct vm *vm, uint64_t deadline_ns, uint64_t *key, struct why *w) must_check;
void disk_unit_pass_keep(struct vm *vm); /* no COMMIT was sent */
/*
 * Source, UNDECIDED: the first one is this host's again, and so are the others, as far as can be known (else their
 * keepers find out). -EBUSY: *other has the first one; force: all the same. Else it is not known: ask again. dest: the
 * other host.
 */
int disk_unit_pass_take_back(struct vm *vm, uint64_t dest, bool force, uint64_t *other, struct why *w) must_check;
/*
 * Destination, COMMIT has come with key `from`: they are this host's. -EBUSY: they will not be, *other has the first
 * one. Else it is not known, or not all of them are: ask again.
 */
int disk_unit_pass_take_over(struct vm *vm, uint64_t source, uint64_t from, uint64_t *other, struct why *w) must_check;
void disk_unit_pass_mark(struct vm *vm); /* it runs here: others shall see that */
