/* SPDX-License-Identifier: BSD-2-Clause */
/* May a VM that is offered come here (offer_check.h)? */
#include "vmm/migrate/offer_check.h"
#include "kernel/page.h"
#include "net/bridge.h"
#include "vmm/disk.h"
#include <string.h>

struct uuid_arg {
	const struct vm_config *cfg;
	const char *but;        /* the VM of this name does not count */
	char name[VM_NAME_MAX]; /* of the VM that has it, "" if none */
};

static void uuid_match(struct vm *vm, void *arg)
{
	struct uuid_arg *a = arg;
	if (!memcmp(vm->cfg.uuid, a->cfg->uuid, sizeof(vm->cfg.uuid)) && strcmp(vm->cfg.name, a->but) &&
	    vm_state_now(vm) != VM_MISCONFIGURED)
		memcpy(a->name, vm->cfg.name, sizeof(a->name));
}

/* Is its i-th card's network here, and carries what the guest sends there? Else its long frames would be dropped. */
static bool nic_fits(const struct vm_config *cfg, unsigned i, struct why *w)
{
	const struct bridge *net = bridge_find(cfg->net[i], w);
	if (!net || vm_mac_check(cfg->name, cfg->mac[i], w))
		return false;
	if (cfg->mtu[i] <= bridge_mtu(net))
		return true;
	why_set(w, -EINVAL, "its network %s has an MTU of %u there, and its guest uses %u ([net] mtu)",
		bridge_name(net), bridge_mtu(net), cfg->mtu[i]);
	return false;
}

enum refuse_code offer_check(const struct offer *o, enum vm_state as, const struct vm *itself, bool replaces,
			     struct why *w)
{
	const struct vm_config *cfg = &o->cfg;
	uint64_t ram = page_total_count() * PAGE_SIZE;
	struct uuid_arg u = { .cfg = cfg, .but = replaces || itself ? cfg->name : "" };
	struct vm *same = vm_get(cfg->name);

	enum vm_state state = same ? vm_state_now(same) : VM_STOPPED;
	vm_put(same);
	if (same && same != itself && !(replaces && state == VM_INCOMING)) {
		why_set(w, -EEXIST, "there is a VM %s already, it is %s%s", cfg->name, vm_state_name(state),
			state == VM_STOPPED ? " (`vm forget` it there, if this one is to take its place)" : "");
		return REFUSE_IN_USE;
	}
	vm_for_each(uuid_match, &u);
	if (u.name[0]) {
		why_set(w, -EEXIST, "VM %s there has the same UUID: give it one of its own ([vm] uuid)", u.name);
		return REFUSE_IN_USE;
	}
	if (!cfg->vcpus || cfg->vcpus > VM_MAX_VCPUS) {
		why_set(w, -EINVAL, "it has %u vCPUs, this version runs up to %d", cfg->vcpus, VM_MAX_VCPUS);
		return REFUSE_CONFIG;
	}
	for (unsigned i = 0; i < cfg->nnics; i++)
		if (!nic_fits(cfg, i, w))
			return REFUSE_CONFIG;
	if (as != VM_STOPPED && vm_compat_check(cfg->cpu, &o->compat, w)) /* else it boots on the CPU that is here */
		return REFUSE_CPU;
	if (disk_bases_check(cfg, w))
		return REFUSE_CONFIG;
	if (as == VM_STOPPED && cfg->mem > ram) { /* else that is reserved; what comes with it is bounded by its size */
		why_set(w, -ENOMEM, "not enough memory: the VM has %lu MiB, more than the %lu MiB of this host",
			cfg->mem >> 20, ram >> 20);
		return REFUSE_MEMORY;
	}
	return 0;
}
