/* SPDX-License-Identifier: BSD-2-Clause */
/* Units that pass with their VM (disk_unit_pass.h). */
#include "vmm/disk_unit_pass.h"
#include "vmm/dev/vblk.h"
#include "vmm/disk.h"
#include "vmm/disk_unit.h"
#include "vmm/lun_pass.h"
#include <stdio.h>
#include <string.h>

int disk_unit_pass_name(const struct vm *vm, struct vm_config *cfg, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		if (!vm->disk[i] || !vm->disk[i]->unit)
			continue;
		struct lun_status s;
		lun_get_status(vm->disk[i]->unit, &s);
		if (!s.id[0])
			return why_set(w, -ENOTSUP,
				       "disk %s: its unit has no name by which its destination could know it again",
				       cfg->disk[i].name);
		sniprintf(cfg->disk[i].file, sizeof(cfg->disk[i].file), "%s", s.id);
	}
	return 0;
}

int disk_unit_pass_prepare(struct vm *vm, uint64_t source, struct why *w)
{
	for (unsigned i = 0; i < vm->cfg.ndisks; i++) {
		struct lun *l = vm->disk[i] ? vm->disk[i]->unit : NULL;
		struct why deeper = { "" };
		struct lun_status s;
		if (!l)
			continue;
		lun_get_status(l, &s);
		if (!s.id[0] || strcmp(s.id, vm->cfg.disk[i].file) != 0)
			return why_set(w, -ENODEV, "disk %s there is another unit: %s, not %s", vm->cfg.disk[i].name,
				       s.id[0] ? s.id : "one without a name", vm->cfg.disk[i].file);
		int err = disk_unit_why(l, lun_pass_prepare(l, source, &deeper), &deeper, w);
		if (err)
			return err;
	}
	return 0;
}

int disk_unit_pass(struct vm *vm, uint64_t deadline_ns, uint64_t *key, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = disk_unit_list(vm, l);
	struct why deeper = { "" };
	*key = 0;
	for (unsigned i = 0; i < VM_DISKS_MAX; i++) /* layers have answered all */
		if (vm->vblk[i] && vblk_holds(vm->vblk[i]))
			return why_set(w, -ETIMEDOUT, "its target has not answered what the guest asked for");
	for (unsigned i = 0; i < n; i++) {
		uint64_t of_this;
		int err = disk_unit_why(l[i], lun_pass(l[i], deadline_ns, &of_this, &deeper), &deeper, w);
		if (err) {
			disk_unit_pass_keep(vm);
			return err;
		}
		*key = i ? *key : of_this;
	}
	return 0;
}

void disk_unit_pass_keep(struct vm *vm)
{
	struct lun *l[VM_DISKS_MAX];
	for (unsigned i = 0, n = disk_unit_list(vm, l); i < n; i++)
		lun_pass_keep(l[i]);
}

int disk_unit_pass_take_back(struct vm *vm, uint64_t dest, bool force, uint64_t *other, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = disk_unit_list(vm, l);
	struct why deeper = { "" };
	int err = disk_unit_why(l[0], lun_pass_take_back(l[0], force, other, &deeper), &deeper, w);
	for (unsigned i = 1; i < n && !err; i++)
		if (lun_pass_follow(l[i], dest, &deeper))
			lun_pass_keep(l[i]);
	return err;
}

int disk_unit_pass_take_over(struct vm *vm, uint64_t source, uint64_t from, uint64_t *other, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = disk_unit_list(vm, l);
	struct why deeper = { "" };
	int err = disk_unit_why(l[0], lun_pass_take_over(l[0], from, other, &deeper), &deeper, w);
	for (unsigned i = 1; i < n && !err; i++) {
		err = disk_unit_why(l[i], lun_pass_follow(l[i], source, &deeper), &deeper, w);
		err = err == -EBUSY ? -EAGAIN : err == -EPERM ? 0 : err; /* EPERM: the guest gets to know */
	}
	if (!err && n > 1) /* that took its time */
		err = disk_unit_why(l[0], lun_pass_take_over(l[0], from, other, &deeper), &deeper, w);
	return err;
}

void disk_unit_pass_mark(struct vm *vm)
{
	struct lun *l[VM_DISKS_MAX];
	if (disk_unit_list(vm, l))
		lun_pass_mark(l[0]);
}
