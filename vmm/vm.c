/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of VMs on this host and where they come from: tern.conf, or a peer. What a VM does is in vm_life.c. */
#include "vmm/vm.h"
#include "vmm/pc/machine.h"
#include "net/bridge.h"
#include "vmm/boot_file.h"
#include "vmm/vm_life.h"
#include "vmm/x86/halt_poll.h"
#include "vmm/vm_console.h"
#include "kernel/host.h"
#include <stdlib.h>
#include <string.h>

static struct list vms = LIST_INIT(vms);
static struct spinlock vms_lock = SPINLOCK_INIT("vms");
const struct hv_ops *vmm_hv_ops;

const char *vm_state_name(enum vm_state s)
{
	switch (s) {
	case VM_STOPPED: return "stopped";
	case VM_RUNNING: return "running";
	case VM_PAUSED: return "paused";
	case VM_INCOMING: return "incoming";
	case VM_UNDECIDED: return "undecided";
	case VM_FAILED: return "failed";
	case VM_MISCONFIGURED: return "misconfigured";
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
	if (!last)
		return;
	/* Nobody else knows it any more. */
	vm_console_free(vm);
	for (unsigned i = 0; i < VM_FILES; i++)
		boot_file_put(vm->file[i]);
	free(vm);
}

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg)
{
	spin_lock(&vms_lock);
	list_for_each(vm, &vms, struct vm, node)
		fn(vm, arg);
	spin_unlock(&vms_lock);
}

/*
 * A new VM in the table, with the table's reference. -EEXIST if the name, the UUID or the MAC is taken; one that is
 * misconfigured never runs, and so takes none but its name.
 */
int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w)
{
	static const uint8_t none[16];
	int err = 0;
	struct vm *vm = calloc(1, sizeof(*vm));
	if (!vm)
		return why_set(w, -ENOMEM, "no memory for another VM");
	vm->cfg = *cfg;
	vm->state = state;
	vm->refs = 1;
	mutex_init(&vm->lock, "vm");
	vm_text_init(&vm->fail);
	vm_text_init(&vm->waits_for);
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

/* Out of the table; freed when the last reference goes. */
void vm_forget(struct vm *vm)
{
	spin_lock(&vms_lock);
	list_remove(&vm->node);
	spin_unlock(&vms_lock);
	vm_put(vm);
}

int vmm_init(const struct hv_ops *ops, struct conf *c)
{
	const char *name;
	vmm_hv_ops = ops;
	halt_poll_init();
	for (unsigned i = 0; (name = conf_section(c, "vm", i)); i++) {
		struct vm_config cfg;
		struct vm *vm;
		struct why w = { "" };
		struct conf_reader r = { .c = c, .table = &vm_conf_table, .name = name };
		bool good = vm_config_read(c, name, host_info.name, host_info.inc.host, &cfg, r.wrong);
		for (unsigned k = 0; good && k < cfg.nnics && cfg.net[k][0]; k++)
			if (!bridge_find(cfg.net[k], &w)) {
				conf_wrong(&r, "net", "%s", w.text);
				good = false;
			}
		int err = vm_new(&cfg, good ? VM_STOPPED : VM_MISCONFIGURED, &vm, &w);
		if (err == -EEXIST) {
			conf_wrong(&r, "uuid", "%s; give it one of its own", w.text);
			err = vm_new(&cfg, VM_MISCONFIGURED, &vm, &w);
		}
		if (err)
			conf_problem(c, conf_line(c, "vm", name, ""), "[vm %s]: %s", name, w.text);
		else
			vm_text_set(&vm->fail, "%s", r.wrong);
	}
	return ops ? vm_autostart() : 0;
}
