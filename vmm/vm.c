/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of VMs on this host. They come from tern.conf (vm_start.c), or a peer; what a VM does is in vm_life.c. */
#include "vmm/vm.h"
#include <stdlib.h>
#include <string.h>

static struct list vms = LIST_INIT(vms);
static struct spinlock vms_lock = SPINLOCK_INIT("vms");

const char *vm_state_name(enum vm_state s)
{
	switch (s) {
	case VM_STOPPED: return "stopped";
	case VM_RUNNING: return "running";
	case VM_PAUSED: return "paused";
	case VM_INCOMING: return "incoming";
	case VM_UNDECIDED: return "undecided";
	case VM_SERVING: return "serving";
	case VM_FAILED: return "failed";
	case VM_MISCONFIGURED: return "misconfigured";
	case VM_STOPPING: return "stopping";
	}
	return "?";
}

static struct vm *find(const char *name) /* vms_lock is held */
{
	list_for_each(vm, &vms, struct vm, node)
		if (!strcmp(vm->cfg.name, name))
			return vm;
	return NULL;
}

struct vm *vm_get(const char *name)
{
	spin_lock(&vms_lock);
	struct vm *vm = find(name);
	if (vm)
		vm->refs++;
	spin_unlock(&vms_lock);
	return vm;
}

void vm_ref(struct vm *vm)
{
	spin_lock(&vms_lock);
	vm->refs++;
	spin_unlock(&vms_lock);
}

void vm_put(struct vm *vm)
{
	if (!vm)
		return;
	spin_lock(&vms_lock);
	bool last = --vm->refs == 0;
	spin_unlock(&vms_lock);
	if (last)
		vm_free(vm);
}

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg)
{
	spin_lock(&vms_lock);
	list_for_each(vm, &vms, struct vm, node)
		fn(vm, arg);
	spin_unlock(&vms_lock);
}

/* In no table. */
static struct vm *vm_alloc(const struct vm_config *cfg, enum vm_state state, struct why *w)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	if (!vm) {
		why_set(w, -ENOMEM, "no memory for another VM");
		return NULL;
	}
	list_init(&vm->node);
	vm->cfg = *cfg;
	vm->state = state;
	vm->refs = 1;
	mutex_init(&vm->lock, "vm");
	vm_text_init(&vm->fail);
	vm_text_init(&vm->waits_for);
	return vm;
}

int vm_new_beside(struct vm *old, enum vm_state state, const struct vm_config *cfg, struct vm **out, struct why *w)
{
	*out = vm_alloc(cfg, state, w);
	if (!*out)
		return -ENOMEM;
	vm_ref(old);
	(*out)->beside = old;
	return 0;
}

void vm_take_place(struct vm *vm)
{
	struct vm *old = vm->beside;
	spin_lock(&vms_lock);
	list_insert(&old->node, &vm->node);
	list_remove(&old->node);
	spin_unlock(&vms_lock);
	vm->beside = NULL;
	vm_put(old);
}

int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w)
{
	static const uint8_t none[16];
	int err = 0;
	struct vm *vm = vm_alloc(cfg, state, w);
	if (!vm)
		return -ENOMEM;
	spin_lock(&vms_lock);
	struct vm *twin = find(cfg->name), *same = NULL;
	const char *what = NULL;
	list_for_each(o, &vms, struct vm, node) {
		if (state == VM_MISCONFIGURED || o->state == VM_MISCONFIGURED)
			continue;
		if (memcmp(cfg->uuid, none, 16) && !memcmp(o->cfg.uuid, cfg->uuid, 16))
			same = o, what = "UUID";
		for (unsigned i = 0; !same && i < cfg->nnics; i++)
			if (vm_config_has_mac(&o->cfg, cfg->mac[i]))
				same = o, what = "MAC";
	}
	if (twin)
		err = why_set(w, -EEXIST, "a VM named %s is there already", cfg->name);
	else if (same)
		err = why_set(w, -EEXIST, "the %s is that of VM %s", what, same->cfg.name);
	else
		list_append(&vms, &vm->node);
	spin_unlock(&vms_lock);
	if (err)
		free(vm);
	else
		*out = vm;
	return err;
}

void vm_forget(struct vm *vm)
{
	spin_lock(&vms_lock);
	list_remove(&vm->node);
	spin_unlock(&vms_lock);
	vm_put(vm);
}

int vm_remove(struct vm *vm, bool force, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	if (vm->migration)
		err = why_set(w, -EBUSY, "it is being migrated; `migrate cancel %s` first", vm->cfg.name);
	else if (vm->state == VM_STOPPING)
		err = why_set(w, -EBUSY, "it is stopping: its memory goes back");
	else if (vm->building)
		err = why_set(w, -EBUSY, "it is being started");
	else if ((vm->state != VM_STOPPED && vm->state != VM_MISCONFIGURED) || vm->gone)
		err = why_set(w, -EBUSY, "it is %s; `vm kill %s` first", vm_state_name(vm->state), vm->cfg.name);
	else if (vm->has_disks && !force)
		err = why_set(w, -EBUSY,
			      "what it wrote to its disks (`disk list`) is lost then; --force if that is meant");
	else if (vm->came_off && !force)
		err = why_set(
			w, -EBUSY,
			"it moved here switched off, and only this host may start it; --force if it is not to be");
	else
		vm->gone = true;
	mutex_unlock(&vm->lock);
	if (err)
		return err;
	vm_lease_drop(vm);
	vm_forget(vm);
	return 0;
}
