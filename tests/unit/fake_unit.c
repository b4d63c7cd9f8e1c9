/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests whose disks are on layers: no disk is on a unit of shared storage. */
#include "vmm/disk.h"
#include "vmm/disk_unit.h"
#include "vmm/disk_unit_pass.h"
#include "vmm/lun_owner.h"

struct blockdev *lun_blockdev(struct lun *l unused) { return NULL; }

int disk_unit_open_all(struct vm *vm, struct why *w) { return disk_make_all(vm, w); }

void disk_unit_close_all(struct vm *vm unused) {}

int disk_unit_claim_all(struct vm *vm unused, struct why *w unused) { return 0; }

int disk_unit_check(const struct vm *vm unused, struct why *w unused) { return 0; }

/* ---- none has a unit that passes ---- */

int disk_unit_pass_name(const struct vm *vm unused, struct vm_config *cfg unused, struct why *w unused) { return 0; }

int disk_unit_pass_prepare(struct vm *vm unused, uint64_t source unused, struct why *w unused) { return 0; }

int disk_unit_pass(struct vm *vm unused, uint64_t deadline_ns unused, uint64_t *key, struct why *w unused)
{
	*key = 0;
	return 0;
}

void disk_unit_pass_keep(struct vm *vm unused) {}

int disk_unit_pass_take_back(struct vm *vm unused, uint64_t dest unused, bool force unused, uint64_t *other unused,
			     struct why *w unused)
{
	return -EAGAIN;
}

int disk_unit_pass_take_over(struct vm *vm unused, uint64_t source unused, uint64_t from unused, uint64_t *other unused,
			     struct why *w unused)
{
	return -EAGAIN;
}

void disk_unit_pass_mark(struct vm *vm unused) {}

bool lun_owner_key_runs(uint64_t key unused) { return false; }

bool lun_owner_key_is_of(uint64_t key unused, uint64_t host unused) { return false; }
