/* SPDX-License-Identifier: BSD-2-Clause */
/* The table of VMs on this host and where they come from: tern.conf, or a peer. What a VM does is in vm_life.c. */
#include "vmm/vm.h"
#include "kernel/base/hash.h"
#include "kernel/log.h"
#include "vmm/pc/machine.h"
#include "vmm/vm_life.h"
#include "vmm/vm_console.h"
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

/* A new VM in the table, with the table's reference. -EEXIST if the name, the UUID or the MAC is taken. */
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

/* ---- [vm NAME] of tern.conf ---- */

static void string_key(struct conf *c, const char *vm, const char *key, char *buf, size_t size)
{
	const char *v = conf_get(c, "vm", vm, key);
	if (v && strlen(v) >= size)
		conf_problem(c, conf_line(c, "vm", vm, key), "[vm %s] %s: longer than %u characters", vm, key,
			     (unsigned)size - 1);
	else if (v)
		strcpy(buf, v);
}

#define BAD(key, ...)                                   \
	(conf_problem(c, conf_line(c, "vm", name, key), \
		      "[vm "                            \
		      "%s] " key __VA_ARGS__),          \
	 false)

/* False if the section is wrong; every problem is in conf's list by then. */
static bool config_read(struct conf *c, const char *name, struct vm_config *cfg)
{
	bool ok = true;
	uint64_t n;
	struct why w = { "" };
	const char *v, *host = conf_get(c, "host", "", "name");
	*cfg = (struct vm_config){ .mem = MIB(256), .vcpus = 1, .cpu = "host" };
	if (strlen(name) >= sizeof(cfg->name))
		return BAD("", ": the name is longer than %u characters", name, VM_NAME_MAX - 1);
	strcpy(cfg->name, name);
	host = host ? host : "tern"; /* of names come MACs and UUIDs that stay the same from boot to boot */
	uint64_t h = fnv1a(fnv1a(FNV1A_START, host, strlen(host)), name, strlen(name));
	memcpy(cfg->uuid, &h, 8);
	h = fnv1a(h, "uuid", 4);
	memcpy(cfg->uuid + 8, &h, 8);
	cfg->mac[0] = 0x52, cfg->mac[1] = 0x54, cfg->mac[2] = 0x00; /* locally administered, as QEMU's */
	memcpy(cfg->mac + 3, &h, 3);
	string_key(c, name, "kernel", cfg->kernel, sizeof(cfg->kernel));
	string_key(c, name, "initrd", cfg->initrd, sizeof(cfg->initrd));
	string_key(c, name, "cmdline", cfg->cmdline, sizeof(cfg->cmdline));
	string_key(c, name, "cpu", cfg->cpu, sizeof(cfg->cpu));
	if (!cfg->kernel[0])
		ok = BAD("kernel", ": no kernel is named; write kernel = FILE", name);
	if ((v = conf_get(c, "vm", name, "mem"))) {
		if (conf_parse_size(v, &cfg->mem) || cfg->mem < MIB(16) || cfg->mem > GIB(24 * 1024ULL) ||
		    cfg->mem % GMEM_BLOCK)
			ok = BAD("mem", " = %s: not a size of at least 16M in steps of 2M", name, v);
	}
	if ((v = conf_get(c, "vm", name, "vcpus"))) {
		if (conf_parse_uint(v, VM_MAX_VCPUS, &n) || !n)
			ok = BAD("vcpus", " = %s: this release runs VMs with 1 vCPU", name, v);
		else
			cfg->vcpus = (uint32_t)n;
	}
	if ((v = conf_get(c, "vm", name, "mac")) && conf_parse_mac(v, cfg->mac))
		ok = BAD("mac", " = %s: not a unicast MAC address like 52:54:00:77:00:01", name, v);
	else if (vm_mac_check(name, cfg->mac, &w))
		ok = BAD("mac", ": %s; give it one of its own", name, w.text);
	if (!cpuid_model_known(cfg->cpu))
		ok = BAD("cpu", " = %s: no such CPU model; write host or portable", name, cfg->cpu);
	else if (!strcmp(cfg->cpu, "portable") && cfg->mem > BIT(CPUID_PORTABLE_PHYS) - GIB(1))
		ok = BAD("mem", ": more than the 511G that cpu = portable can address", name);
	bool yes = false;
	v = conf_get(c, "vm", name, "autostart");
	if (v && !strcmp(v, "alone"))
		cfg->autostart = VM_AUTOSTART_ALONE;
	else if (v && conf_parse_bool(v, &yes))
		ok = BAD("autostart", " = %s: write yes, no or alone", name, v);
	else
		cfg->autostart = yes ? VM_AUTOSTART_YES : VM_AUTOSTART_NO;
	return ok;
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
		if (!config_read(c, name, &cfg))
			continue;
		if (vm_new(&cfg, VM_STOPPED, &vm, &w))
			conf_problem(c, conf_line(c, "vm", name, ""), "[vm %s]: %s", name, w.text);
	}
	return ops ? vm_autostart() : 0;
}
