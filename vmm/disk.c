/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM's disks (disk.h). */
#include "vmm/disk.h"
#include "vmm/boot_file.h"
#include "vmm/disk_unit_pass.h"
#include "vmm/lun.h"
#include "vmm/seed.h"
#include <stdlib.h>
#include <string.h>

/* ---- base images ---- */

static bool has_base(const struct vm_disk_config *d)
{
	return !(d->flags & DISK_UNIT) && (d->file[0] || d->flags & DISK_OWN);
}
static bool base_comes(const struct vm_disk_config *d) { return d->flags & (DISK_OWN | DISK_COPY); }

/* The one that d names, with a reference; for one that comes from elsewhere it is the same. */
static struct boot_file *base_of(const struct vm_disk_config *d)
{
	if (d->flags & DISK_OWN)
		return NULL;
	return d->base_digest ? boot_file_same(d->file, d->base_size, d->base_digest) : boot_file_named(d->file);
}

static int no_base(const struct vm_disk_config *d, struct why *w)
{
	return why_set(w, -ENOENT,
		       "disk %s: no such base image there (%.48s, %lu bytes): --copy-base sends it along, or put the "
		       "same on its boot volume and name it in a [disk]",
		       d->name, d->file, d->base_size);
}

int disk_bases_check(const struct vm_config *cfg, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		const struct vm_disk_config *d = &cfg->disk[i];
		if (!has_base(d) || base_comes(d))
			continue;
		struct boot_file *f = base_of(d);
		if (!f)
			return no_base(d, w);
		boot_file_put(f);
	}
	return 0;
}

struct boot_file *disk_get_base(struct vm *vm, unsigned i)
{
	mutex_lock(&vm->lock);
	struct boot_file *f = vm->disk[i] && !vm->disk[i]->unit ? vm->disk[i]->layer.base : NULL;
	if (f)
		boot_file_ref(f);
	mutex_unlock(&vm->lock);
	return f;
}

void disk_set_base(struct vm *vm, unsigned i, struct boot_file *f)
{
	mutex_lock(&vm->lock);
	layer_set_base(&vm->disk[i]->layer, f);
	mutex_unlock(&vm->lock);
}

/* INCOMING: nobody else has its disks. */
bool disk_bases_pending(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		if (has_base(&vm->cfg.disk[i]) && !vm->disk[i]->layer.base)
			return true;
	return false;
}

int disk_bases_digest(struct vm *vm, struct vm_config *cfg, bool copy, struct why *w)
{
	for (unsigned i = 0; i < cfg->ndisks; i++) {
		struct vm_disk_config *d = &cfg->disk[i];
		struct boot_file *f = disk_get_base(vm, i);
		mutex_lock(&vm->lock);
		*d = disk_config_now(vm, i);
		mutex_unlock(&vm->lock);
		if (has_base(d) && !f)
			return why_set(w, -ENOENT, "its disk %s has no base image", d->name);
		d->base_digest = f ? boot_file_digest(f) : 0;
		d->flags = (d->flags & ~DISK_COPY) | (copy && has_base(d) ? DISK_COPY : 0);
		boot_file_put(f);
	}
	return disk_unit_pass_name(vm, cfg, w);
}

/* ---- disks ---- */

/*
 * The base image of a disk that is made; NULL: it has none, or it comes (a migration that misses it does not end well).
 */
static int find_base(struct vm *vm, struct vm_disk_config *d, struct boot_file **base, struct why *w)
{
	*base = has_base(d) ? base_of(d) : NULL;
	if (*base || !has_base(d) || (vm->state == VM_INCOMING && base_comes(d)))
		return 0;
	if (d->flags & DISK_OWN && d->base_digest)
		return why_set(w, -ENOENT,
			       "what cloud-init reads came with it, and went with it: start it where its [vm] is");
	if (!(d->flags & DISK_OWN))
		return d->base_digest
			       ? no_base(d, w)
			       : why_set(w, -ENOENT,
					 "disk %s needs its base image %s, which is not on this host's boot volume",
					 d->name, d->file);
	int err = seed_make(&vm->cfg, base, w);
	if (!err)
		d->size = d->base_size = (*base)->size;
	return err;
}

static int make_one(struct vm *vm, struct vm_disk_config *d, struct disk **out, struct why *w)
{
	struct vm_reservation r = { 0 };
	struct boot_file *base;
	int err = find_base(vm, d, &base, w);
	if (err)
		return err;
	err = vm_memory_reserve_for("the layer of its disk may take", d->layer >> PAGE_SHIFT, &r, w);
	struct disk *k = err ? NULL : calloc(1, sizeof(*k));
	if (!k) {
		vm_memory_release(&r);
		boot_file_put(base);
		return err ? err : err_trace(-ENOMEM);
	}
	memcpy(k->name, d->name, sizeof(k->name));
	layer_init(&k->layer, k->name, d->size, base, &r.pages);
	k->layer.b.readonly = d->flags & DISK_READONLY;
	memcpy(k->layer.b.serial, k->name, sizeof(k->name));
	*out = k;
	return 0;
}

static void free_one(struct disk **d)
{
	if (!*d)
		return;
	BUG_ON((*d)->unit); /* disk_unit_close_all */
	layer_fini(&(*d)->layer);
	free(*d);
	*d = NULL;
}

int disk_make_all(struct vm *vm, struct why *w)
{
	bool fresh[VM_DISKS_MAX] = { false };
	int err = 0;
	for (unsigned i = 0; i < vm->cfg.ndisks && !err; i++) {
		if (vm->cfg.disk[i].flags & DISK_UNIT)
			continue; /* disk_unit_open_all */
		fresh[i] = !vm->disk[i];
		err = fresh[i] ? make_one(vm, &vm->cfg.disk[i], &vm->disk[i], w) : 0;
	}
	for (unsigned i = 0; i < vm->cfg.ndisks && err; i++)
		if (fresh[i])
			free_one(&vm->disk[i]);
	bool layers = false; /* units are not lost with the host */
	for (unsigned i = 0; i < vm->cfg.ndisks; i++)
		layers = layers || (vm->disk[i] && !vm->disk[i]->unit);
	__atomic_store_n(&vm->has_disks, layers, __ATOMIC_RELAXED);
	return err;
}

struct blockdev *disk_blockdev(struct disk *d) { return d->unit ? lun_blockdev(d->unit) : &d->layer.b; }

bool disk_has_units(const struct vm_config *cfg)
{
	bool any = false;
	for (unsigned i = 0; i < cfg->ndisks; i++)
		any = any || cfg->disk[i].flags & DISK_UNIT;
	return any;
}

struct vm_disk_config disk_config_now(const struct vm *vm, unsigned i)
{
	struct vm_disk_config d = vm->cfg.disk[i];
	if (vm->disk[i] && vm->disk[i]->unit) {
		d.size = __atomic_load_n(&disk_blockdev(vm->disk[i])->size, __ATOMIC_RELAXED);
	} else if (vm->disk[i]) {
		const struct layer *l = &vm->disk[i]->layer;
		d.size = __atomic_load_n(&l->b.size, __ATOMIC_RELAXED);
		d.layer = __atomic_load_n(&l->max, __ATOMIC_RELAXED) << PAGE_SHIFT;
	}
	return d;
}

struct disks disk_take_all(struct vm *vm)
{
	struct disks d;
	memcpy(d.of, vm->disk, sizeof(d.of));
	memset(vm->disk, 0, sizeof(vm->disk));
	__atomic_store_n(&vm->has_disks, false, __ATOMIC_RELAXED);
	return d;
}

void disk_free_taken(struct disks *d)
{
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		free_one(&d->of[i]);
}

void disk_free_all(struct vm *vm)
{
	struct disks d = disk_take_all(vm);
	disk_free_taken(&d);
}
