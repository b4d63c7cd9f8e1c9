/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks on units of shared storage: what [disk NAME] says of them, which stays on this host, and their sessions, which
 * a VM has from its start to its stop.
 */
#pragma once
#include "vmm/lun.h"
#include "vmm/vm.h"

/* "iqn.2026-01.net.example:t at 10.77.2.5[:3260] lun 1" into c: 0, -EINVAL. */
int disk_unit_parse(const char *s, struct lun_config *c) must_check;
/*
 * From now on disk `name` is on that. -EEXIST: another disk is, whose name why has: one unit, one disk. -ENOMEM. While
 * tern.conf is read.
 */
int disk_unit_add(const char *name, const struct lun_config *c, struct why *w) must_check;
const struct lun_config *disk_unit_find(const char *name); /* NULL: it is on none */
/*
 * All disks that vm has not got yet: disk_make_all's, and sessions for those on units. 0, or -errno with why, and it
 * has those that it had; vm->units_away: a later try may be better. vm->lock is held, and dropped meanwhile;
 * vm->building keeps others away.
 */
int disk_unit_open_all(struct vm *vm, struct why *w) must_check;
/*
 * Its units are this host's from now on, with vm->force_units whoever has one: the last step of a start. -EBUSY:
 * another host has one; -EPERM: one was lost again. Locks as above.
 */
int disk_unit_claim_all(struct vm *vm, struct why *w) must_check;
/* Its units, as it names them: how many. vm->lock is held, or it is bound to a migration. */
unsigned disk_unit_list(const struct vm *vm, struct lun *l[VM_DISKS_MAX]);
/* err, and w says of which disk that is; 0: 0. */
int disk_unit_why(struct lun *l, int err, const struct why *deeper, struct why *w);
/* -EPERM with why: one of its units is another host's by now. vm->lock is held. */
int disk_unit_check(const struct vm *vm, struct why *w) must_check;
/* Its units are anybody's from now on; no device uses them. vm->lock is held, and dropped meanwhile, as above. */
void disk_unit_close_all(struct vm *vm);
