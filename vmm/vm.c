/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of VMs on this host and where they come from: tern.conf, or a peer. What a VM does is in vm_life.c. */
#include "vmm/vm.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/pc/machine.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migrate.h"
#include "vmm/vm_life.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct list vms = LIST_INIT(vms);
static struct spinlock vms_lock = SPINLOCK_INIT("vms");
const struct hv_ops *vmm_hv_ops;
static const struct vm_file *files;
static unsigned nfiles;

const struct vm_file *vmm_file(const char *name)
{
	for (unsigned i = 0; i < nfiles; i++)
		if (!strcmp(files[i].name, name))
			return &files[i];
	return NULL;
}

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
	vm_console_free(vm);
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
	spin_lock(&vms_lock);
	struct vm *twin = find(cfg->name), *same_mac = NULL;
	list_for_each(o, &vms, struct vm, node) {
		if (state == VM_MISCONFIGURED || o->state == VM_MISCONFIGURED)
			continue;
		if (memcmp(cfg->uuid, none, 16) && !memcmp(o->cfg.uuid, cfg->uuid, 16))
			twin = o;
		if (!memcmp(o->cfg.mac, cfg->mac, ETH_ALEN))
			same_mac = o;
	}
	if (twin)
		err = why_set(w, -EEXIST, "a VM named %s is on that host already", cfg->name);
	else if (same_mac)
		err = why_set(w, -EEXIST, "VM %s on that host has its MAC", same_mac->cfg.name);
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

/* The lease is TAKEN, and ends here. */
static int start_leased(struct vm *vm, struct why *w)
{
	int err = vm_start(vm, w);
	if (!err)
		departed_remove(vm->cfg.name);
	vm->waits_for[0] = 0;
	__atomic_store_n(&vm->lease, VM_LEASE_NONE, __ATOMIC_SEQ_CST);
	return err;
}

static int start_unless_elsewhere(struct vm *vm, enum start_policy policy, uint64_t patience_ns, struct why *w)
{
	int err = migrate_elsewhere(vm, policy, patience_ns, w);
	if (!err)
		return start_leased(vm, w);
	vm_lease_drop(vm); /* TAKEN is that of `vm start --force` */
	return err;
}

int vm_start_here(struct vm *vm, bool force, struct why *w)
{
	enum vm_state state = __atomic_load_n(&vm->state, __ATOMIC_RELAXED);
	if (!vm_state_is_off(state) || state == VM_MISCONFIGURED)
		return vm_start(vm, w); /* which has its own answer */
	if (force) {                    /* whoever is still asking finds that his lease has gone */
		if (__atomic_exchange_n(&vm->lease, VM_LEASE_TAKEN, __ATOMIC_SEQ_CST) == VM_LEASE_TAKEN)
			return why_set(w, -EBUSY, "it is being started");
		return start_leased(vm, w);
	}
	if (!vm_lease(vm, VM_LEASE_NONE, VM_LEASE_ASKING))
		return why_set(w, -EBUSY, "it is being started%s%s", vm->waits_for[0] ? ", but: " : "", vm->waits_for);
	return start_unless_elsewhere(vm, START_OPERATOR, 0, w);
}

struct vm *vm_start_departed(const char *name)
{
	struct departure d;
	struct vm *vm;
	if (!departed_get(name, 0, &d) || vm_new(&d.cfg, VM_STOPPED, &vm, NULL))
		return NULL;
	return vm_get(name);
}

#define ALONE_NS \
	(30 *    \
	 NS_PER_SEC) /* of silence, from boot, for autostart = alone: a link comes up, and a peer that booted with us */

/*
 * One task for each: it may wait for a peer as long as that takes. What has moved to a peer, before this host was
 * restarted, stays there.
 */
static void autostart_one(void *arg)
{
	struct vm *vm = arg;
	struct why w = { "" };
	bool alone = vm->cfg.s.autostart == VM_AUTOSTART_ALONE;
	if (vm_lease(vm, VM_LEASE_NONE, VM_LEASE_ASKING)) {
		int err = start_unless_elsewhere(vm, alone ? START_ALONE : START_AUTO, time_ns() + ALONE_NS, &w);
		if (err == -EEXIST)
			log_warn("vm %s: not started: %s", vm->cfg.name, w.text);
		else if (err && err != -ECANCELED)
			log_error("vm %s: cannot start: %s", vm->cfg.name, w.text);
	}
	vm_put(vm);
}

/* In a task of its own: the prompt does not wait for guests' memory to be cleared. */
static void autostart(void *arg unused)
{
	struct vm *todo[CONF_MAX_ENTRIES / 2]; /* a section has at least two entries */
	unsigned n = 0;
	spin_lock(&vms_lock);
	list_for_each(vm, &vms, struct vm, node)
		if (vm->cfg.s.autostart != VM_AUTOSTART_NO && vm->state == VM_STOPPED && n < ARRAY_SIZE(todo)) {
			vm->refs++;
			todo[n++] = vm;
		}
	spin_unlock(&vms_lock);
	for (unsigned i = 0; i < n; i++) {
		if (task_create("autostart", TASK_PRIO_NORMAL, autostart_one, todo[i]))
			continue;
		log_error("vm %s: no memory for the task that would start it", todo[i]->cfg.name);
		vm_put(todo[i]);
	}
}

int vmm_init(const struct hv_ops *ops, struct conf *c, const struct vm_file *f, unsigned nf)
{
	const char *name;
	vmm_hv_ops = ops;
	files = f;
	nfiles = nf;
	for (unsigned i = 0; (name = conf_section(c, "vm", i)); i++) {
		struct vm_config cfg;
		struct vm *vm;
		struct why w = { "" };
		char wrong[CONF_WRONG_MAX];
		bool good = vm_config_read(c, name, host_info.name, &cfg, wrong);
		if (vm_new(&cfg, good ? VM_STOPPED : VM_MISCONFIGURED, &vm, &w))
			conf_problem(c, conf_line(c, "vm", name, ""), "[vm %s]: %s", name, w.text);
		else
			memcpy(vm->fail, wrong, sizeof(wrong));
	}
	if (ops && !task_create("autostart", TASK_PRIO_NORMAL, autostart, NULL))
		return err_trace(-ENOMEM);
	return 0;
}
