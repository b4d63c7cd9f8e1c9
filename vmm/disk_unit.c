/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks on units (disk_unit.h). */
#include "vmm/disk_unit.h"
#include "kernel/base/hash.h"
#include "kernel/conf.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "vmm/disk.h"
#include <stdlib.h>
#include <string.h>

#define LOST "a unit of its disks is another host's now"

/* In a task of its own: the keeper must not wait for vm->lock, whose holder may wait for the keeper. */
static void lost_task(void *arg)
{
	struct vm *vm = arg;
	mutex_lock(&vm->lock);
	if (vm->state == VM_RUNNING || vm->state == VM_PAUSED) /* else who starts it, or runs it again, asks */
		vm_fail(vm, "%s", LOST);
	mutex_unlock(&vm->lock);
	vm_put(vm);
}

/* lun_open's lost: another host has it. */
static void lost(void *arg)
{
	struct vm *vm = arg;
	vm_ref(vm);
	if (task_create("unit-lost", TASK_PRIO_NORMAL, lost_task, vm))
		return;
	log_error("vm %s: no memory for the task that would stop it: %s", vm->cfg.name, LOST);
	vm_put(vm);
}

struct user {
	const struct vm *but;
	const char *disk;
	char name[VM_NAME_MAX]; /* of the VM that has it; "": none */
};

/* One that came from elsewhere may name any disk. Names and flags of a VM's disks do not change. */
static void find_user(struct vm *vm, void *arg)
{
	struct user *u = arg;
	for (unsigned i = 0; i < vm->cfg.ndisks && vm != u->but; i++)
		if (vm->cfg.disk[i].flags & DISK_UNIT && !strcmp(vm->cfg.disk[i].name, u->disk))
			memcpy(u->name, vm->cfg.name, sizeof(u->name));
}

static int open_one(struct vm *vm, const char *name, struct lun **l, struct why *w)
{
	const struct lun_config *c = disk_unit_find(name);
	struct why deeper = { "" };
	struct user u = { .but = vm, .disk = name };
	if (!c)
		return why_set(w, -ENOENT, "disk %s: there is no such [disk] on this host", name);
	vm_for_each(find_user, &u);
	if (u.name[0])
		return why_set(w, -EBUSY, "disk %s is that of another VM of this host: %s", name, u.name);
	uint64_t nexus = fnv1a(fnv1a(FNV1A_START, vm->cfg.uuid, sizeof(vm->cfg.uuid)), name, strlen(name));
	int err = lun_open(l, c, host_info.inc.host, nexus, lost, vm, &deeper);
	if (!err)
		return 0;
	vm->units_away = err != -ENOTSUP && err != -ENOMEM;
	return why_set(w, err == -EAGAIN ? -EIO : err, "disk %s: %s", name, deeper.text);
}

static void close_one(struct lun *l)
{
	if (!l)
		return;
	lun_release(l);
	lun_close(l);
}

/* A disk that has its unit; NULL: no memory. */
static struct disk *make(const char *name, struct lun *l)
{
	struct disk *k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	memcpy(k->name, name, sizeof(k->name));
	k->unit = l;
	struct blockdev *b = lun_blockdev(l);
	memcpy(b->serial, k->name, MIN(sizeof(b->serial), sizeof(k->name)));
	return k;
}

int disk_unit_open_all(struct vm *vm, struct why *w)
{
	struct lun *l[VM_DISKS_MAX] = { NULL };
	int err = disk_make_all(vm, w);
	if (err || !disk_has_units(&vm->cfg))
		return err;
	vm->building = true;
	vm->units_away = false;
	mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < vm->cfg.ndisks && !err; i++)
		if (vm->cfg.disk[i].flags & DISK_UNIT && !vm->disk[i])
			err = open_one(vm, vm->cfg.disk[i].name, &l[i], w);
	struct disk *made[VM_DISKS_MAX] = { NULL };
	for (unsigned i = 0; i < vm->cfg.ndisks && !err; i++)
		if (l[i] && !(made[i] = make(vm->cfg.disk[i].name, l[i])))
			err = why_set(w, err_trace(-ENOMEM), "no memory for its disks");
	for (unsigned i = 0; i < vm->cfg.ndisks && err; i++) {
		free(made[i]);
		close_one(l[i]);
	}
	mutex_lock(&vm->lock);
	vm->building = false;
	for (unsigned i = 0; i < vm->cfg.ndisks && !err; i++)
		if (made[i])
			vm->disk[i] = made[i];
	return err;
}

/* The lock is held, or it is bound to a migration: nobody else gives it disks, or takes them. */
unsigned disk_unit_list(const struct vm *vm, struct lun *l[VM_DISKS_MAX])
{
	unsigned n = 0;
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		if (vm->disk[i] && vm->disk[i]->unit)
			l[n++] = vm->disk[i]->unit;
	return n;
}

int disk_unit_why(struct lun *l, int err, const struct why *deeper, struct why *w)
{
	return err ? why_set(w, err, "disk %.16s: %s", lun_blockdev(l)->serial,
			     deeper->text[0] ? deeper->text : err_name(err))
		   : 0;
}

int disk_unit_check(const struct vm *vm, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	for (unsigned i = 0, n = disk_unit_list(vm, l); i < n; i++)
		if (lun_is_lost(l[i]))
			return why_set(w, -EPERM, "%s", LOST);
	return 0;
}

int disk_unit_claim_all(struct vm *vm, struct why *w)
{
	struct lun *l[VM_DISKS_MAX];
	struct why deeper = { "" };
	bool force = vm->force_units;
	unsigned n = disk_unit_list(vm, l);
	int err = 0;
	if (!n)
		return 0;
	vm->building = true;
	mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < n && !err; i++)
		err = disk_unit_why(l[i], lun_claim(l[i], force, &deeper), &deeper, w);
	mutex_lock(&vm->lock);
	vm->building = false;
	return err ? err : disk_unit_check(vm, w);
}

void disk_unit_close_all(struct vm *vm)
{
	struct disk *old[VM_DISKS_MAX] = { NULL };
	bool any = false;
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		if (vm->disk[i] && vm->disk[i]->unit) {
			old[i] = vm->disk[i];
			vm->disk[i] = NULL;
			any = true;
		}
	if (!any)
		return;
	vm->building = true;
	mutex_unlock(&vm->lock);
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		if (old[i]) {
			close_one(old[i]->unit);
			free(old[i]);
		}
	mutex_lock(&vm->lock);
	vm->building = false;
}
