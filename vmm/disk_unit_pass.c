/* SPDX-License-Identifier: BSD-2-Clause */
/* Units that pass with their VM (disk_unit_pass.h). */
#include "vmm/disk_unit_pass.h"
#include "vmm/disk.h"
#include "vmm/lun.h"
#include "vmm/lun_pass.h"
#include <stdio.h>
#include <string.h>

/* Its units, as it names them: how many. It is bound to a migration: nobody else gives it disks, or takes them. */
static unsigned units(const struct vm *vm, struct lun *l[VM_DISKS_MAX])
{
	unsigned n = 0;
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		if (vm->disk[i] && vm->disk[i]->unit)
			l[n++] = vm->disk[i]->unit;
	return n;
}

static int of_disk(struct lun *l, int err, const struct why *deeper, struct why *w)
{
	return err ? why_set(w, err, "disk %.16s: %s", lun_blockdev(l)->serial,
			     deeper->text[0] ? deeper->text : err_name(err))
		   : 0;
}

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

int disk_unit_pass_prepare(struct vm *vm, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	struct why deeper = { "" };
	for (unsigned i = 0; i < vm->cfg.ndisks; i++) {
		struct lun_status s;
		if (!vm->disk[i] || !vm->disk[i]->unit)
			continue;
		lun_get_status(vm->disk[i]->unit, &s);
		if (strcmp(s.id, vm->cfg.disk[i].file) != 0)
			return why_set(w, -ENODEV, "disk %s there is another unit: %s, not %s", vm->cfg.disk[i].name,
				       s.id[0] ? s.id : "one without a name", vm->cfg.disk[i].file);
	}
	return units(vm, l) ? of_disk(l[0], lun_pass_prepare(l[0], &deeper), &deeper, w) : 0;
}

int disk_unit_pass(struct vm *vm, uint64_t deadline_ns, uint64_t *key, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = units(vm, l);
	struct why deeper = { "" };
	*key = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t of_this;
		int err = of_disk(l[i], lun_pass(l[i], deadline_ns, &of_this, &deeper), &deeper, w);
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
	for (unsigned i = 0, n = units(vm, l); i < n; i++)
		lun_pass_keep(l[i]);
}

/* The first one is ours. One that another host is faster to have, for the VM has moved on, ends here by and by. */
static int follow(struct lun *const l[], unsigned n, struct why *w)
{
	struct why deeper = { "" };
	for (unsigned i = 1; i < n; i++) {
		int err = lun_pass_follow(l[i], &deeper);
		if (err)
			return of_disk(l[i], err == -EBUSY ? -EAGAIN : err, &deeper, w);
	}
	return 0;
}

int disk_unit_pass_take_back(struct vm *vm, bool force, uint64_t *other, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = units(vm, l);
	struct why deeper = { "" };
	int err = of_disk(l[0], lun_pass_take_back(l[0], force, other, &deeper), &deeper, w);
	return err ? err : follow(l, n, w);
}

int disk_unit_pass_take_over(struct vm *vm, uint64_t from, uint64_t *other, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	unsigned n = units(vm, l);
	struct why deeper = { "" };
	int err = of_disk(l[0], lun_pass_take_over(l[0], from, other, &deeper), &deeper, w);
	return err ? err : follow(l, n, w);
}

void disk_unit_pass_mark(struct vm *vm)
{
	struct lun *l[VM_DISKS_MAX];
	if (units(vm, l))
		lun_pass_mark(l[0]);
}
