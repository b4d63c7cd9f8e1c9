/* SPDX-License-Identifier: BSD-2-Clause */
/* `disk resize`: a disk that grows, and its layer (disk.h). */
#include "vmm/dev/vblk.h"
#include "vmm/disk.h"

/* What must be so before a disk can grow to that. */
static int may_resize(const struct vm *vm, unsigned i, uint64_t size, uint64_t layer, struct why *w)
{
	if (vm->cfg.disk[i].flags & DISK_UNIT)
		return why_set(w, -EINVAL, "it is on shared storage: it has the size that its unit has there");
	const struct vm_disk_config now = disk_config_now(vm, i);
	if (vm->migration || vm->building || vm->gone)
		return why_set(w, -EBUSY, "%s", vm->migration ? "its VM is being migrated" : "its VM comes or goes");
	if (vm->state != VM_RUNNING && vm->state != VM_PAUSED && !vm_state_is_off(vm->state))
		return why_set(w, -EBUSY, "its VM is %s", vm_state_name(vm->state));
	if (now.flags & (DISK_READONLY | DISK_OWN))
		return why_set(w, -EINVAL, "nobody can write to it");
	if (!vm->disk[i])
		return why_set(w, -ENOENT, "its VM has not been started here: tern.conf says how large it will be");
	if (size < now.size)
		return why_set(w, -EINVAL, "it has %lu bytes, and what a guest has may not be cut off", now.size);
	if (size > LAYER_SIZE_MAX || size % SECTOR)
		return why_set(w, -EINVAL, "give a multiple of %u bytes up to %lu", SECTOR, LAYER_SIZE_MAX);
	if (layer < now.layer || layer > LAYER_SIZE_MAX || layer % PAGE_SIZE)
		return why_set(w, -EINVAL, "give its layer a multiple of %lu bytes from the %lu that it has up to %lu",
			       PAGE_SIZE, now.layer, LAYER_SIZE_MAX);
	return 0;
}

/* vm->lock is held. What it does not use of r is left there. */
static int resize(struct vm *vm, unsigned i, uint64_t size, uint64_t layer, struct vm_reservation *r, struct why *w)
{
	const struct vm_disk_config now = disk_config_now(vm, i);
	bool whole = now.layer >= layer_pages_whole(now.size) << PAGE_SHIFT;
	if (!layer)
		layer = whole && size > now.size ? layer_pages_whole(size) << PAGE_SHIFT : now.layer;
	int err = may_resize(vm, i, size, layer, w);
	if (err)
		return err;
	if (layer > now.layer &&
	    (err = vm_memory_reserve_for("the layer of its disk may take", (layer - now.layer) >> PAGE_SHIFT, r, w)))
		return err;
	if ((err = layer_grow(&vm->disk[i]->layer, size, &r->pages)))
		return why_set(w, err, "its layer is full: give it more with --layer");
	if (!vm_state_is_off(vm->state))
		vblk_resized(vm->vblk[i]);
	return 0;
}

int disk_resize(struct vm *vm, unsigned i, uint64_t size, uint64_t layer, struct why *w)
{
	struct vm_reservation r = { 0 };
	mutex_lock(&vm->lock);
	int err = resize(vm, i, size, layer, &r, w);
	mutex_unlock(&vm->lock);
	vm_memory_release(&r);
	return err;
}
