/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests whose disks are on layers: no disk is on a unit of shared storage. */
#include "vmm/disk.h"
#include "vmm/disk_unit.h"

struct blockdev *lun_blockdev(struct lun *l unused) { return NULL; }

int disk_unit_open_all(struct vm *vm, struct why *w) { return disk_make_all(vm, w); }

void disk_unit_close_all(struct vm *vm unused) {}

int disk_unit_claim_all(struct vm *vm unused, struct why *w unused) { return 0; }

int disk_unit_check(const struct vm *vm unused, struct why *w unused) { return 0; }
