/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's life on this host: built from memory, vCPUs and devices, started, paused, reset, stopped, taken apart. All
 * state changes hold vm->lock. A vCPU or a device never takes its VM apart: it leaves a request (vm_request.c), and a
 * task of the VM's own, "NAME/ctl", carries it out.
 */
#include "kernel/task.h"
#include "vmm/vm.h"
#include "arch/x86/cpu.h"
#include "kernel/log.h"
#include "vmm/disk.h"
#include "vmm/disk_unit.h"
#include "vmm/pc/loader.h"
#include "vmm/pc/machine.h"
#include "vmm/x86/compat.h"
#include "vmm/x86/vcpu.h"
#include "vmm/vm_console.h"
#include "vmm/vm_port.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/startup.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Take apart whatever of it exists. The lock is held, no vCPU runs, and its state is STOPPING, or that of one that is
 * built: the lock is dropped while its memory goes back, and vm->building keeps others away.
 */
static void teardown(struct vm *vm)
{
	vm_port_detach_all(vm);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_destroy(vm->vcpus[i]);
	machine_free(vm); /* the console stays: it holds the guest's last words */
	vm_port_free_all(vm);
	free(vm->vcpus);
	free(vm->apics.lapic);
	free(vm->boot);
	vm->vcpus = NULL;
	vm->apics.lapic = NULL;
	vm->boot = NULL;
	vm->nvcpus = vm->apics.n = 0;
	disk_unit_close_all(vm);
	vm->building = true;
	mutex_unlock(&vm->lock);
	gmem_fini(&vm->mem);
	mutex_lock(&vm->lock);
	vm->building = false;
}

/* Returns when no CPU can hold an older translation of this VM's memory. */
static void flush_tlb(void *arg)
{
	struct vm *vm = arg;
	for (unsigned i = 0; i < vm->nvcpus; i++) /* all at once: one round, however many they are */
		vcpu_flush_begin(vm->vcpus[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_flush_wait(vm->vcpus[i]);
}

/* Guest memory. It takes seconds, so the lock is dropped meanwhile, and vm->building keeps others away. */
static int build_memory(struct vm *vm, struct vm_reservation *r, const struct gmem_progress *p, struct why *w)
{
	struct vm_reservation own = { 0 };
	vm->building = true;
	mutex_unlock(&vm->lock);
	int err = r ? 0 : vm_memory_reserve(&vm->cfg, &own, w);
	r = r ? r : &own;
	if (!err && !(err = gmem_init_from(&vm->mem, vm->cfg.mem, vmm_hv()->pt_format, &r->pages, p, w)))
		gmem_on_flush(&vm->mem, flush_tlb, vm);
	vm_memory_release(r); /* the rest of it is for vCPUs and devices */
	mutex_lock(&vm->lock);
	vm->building = false;
	if (err)
		disk_unit_close_all(vm);
	return err;
}

static void requested(struct vm *vm);

static void set_weight(struct vm *vm)
{
	__atomic_store_n(&vm->share.weight, vm_config_weight(&vm->cfg), __ATOMIC_RELAXED);
}

/* Memory, vCPUs (parked), devices at power-on. The lock is held, and dropped for a time. */
static int build(struct vm *vm, struct vm_reservation *r, const struct gmem_progress *p, struct why *w)
{
	int err = disk_unit_open_all(vm, w); /* first: what a guest's memory costs is for nothing without them */
	if (err || (err = build_memory(vm, r, p, w)))
		return err;
	vm->apics.lapic = calloc(vm->cfg.vcpus, sizeof(*vm->apics.lapic));
	vm->vcpus = calloc(vm->cfg.vcpus, sizeof(*vm->vcpus));
	vm->boot = calloc(1, sizeof(*vm->boot));
	set_weight(vm);
	err = -ENOMEM;
	if (!vm->apics.lapic || !vm->vcpus || !vm->boot)
		goto fail;
	for (; vm->nvcpus < vm->cfg.vcpus; vm->nvcpus++) {
		err = vcpu_create(vm, vm->nvcpus, &vm->vcpus[vm->nvcpus]);
		if (err)
			goto fail;
		vm->apics.lapic[vm->nvcpus] = &vm->vcpus[vm->nvcpus]->lapic;
	}
	if ((err = vm_console_create(vm)) || (err = vm_port_create_all(vm)) || (err = machine_build(vm)))
		goto fail;
	vm->requested = requested;
	__atomic_store_n(&vm->power_request, VM_POWER_NONE, __ATOMIC_SEQ_CST);
	return 0;
fail:
	teardown(vm);
	return why_set(w, err, "cannot build the VM: %s", err_name(err));
}

/* Kernel, tables and the CPUs' states, as after a power-on: all but the boot CPU wait for SIPI. vm->lock is held. */
static int load_boot_image(struct vm *vm, struct why *w)
{
	int err;
	if ((err = disk_unit_check(vm, w)) || (err = vm_boot_files(vm, w)) || (err = loader_load(vm, w)))
		return err;
	for (unsigned i = 1; i < vm->nvcpus && !err; i++) {
		startup_power_on(vm->vcpus[i]->state);
		err = vcpu_load(vm->vcpus[i], w);
	}
	*vm->vcpus[0]->state = *vm->boot;
	return err ? err : vcpu_load(vm->vcpus[0], w);
}

static void run_vcpus(struct vm *vm)
{
	vm_port_attach_all(vm); /* first: resuming sends what the guest had queued */
	machine_resume(vm);
	set_weight(vm); /* its configuration may have come with it */
	vm->state = VM_RUNNING;
	for (unsigned i = 0; i < vm->nvcpus; i++) /* before any runs: each may read the pages of others */
		clock_resume(vm->vcpus[i], rdtsc());
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_unpark(vm->vcpus[i]);
	for (unsigned i = 0; i < vm->nvcpus && vm_has_request(vm); i++) /* the first asked before the last was let go */
		vcpu_hold(vm->vcpus[i]);
}

static void halt_vcpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) /* all of them leave at once */
		vcpu_hold(vm->vcpus[i]);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_park(vm->vcpus[i]);
	machine_quiesce(vm);
	vm_port_unbind_all(vm); /* last: nothing leaves by it any more */
}

static void clock_start(struct vm *vm)
{
	vm->clock.s.wall_ns = time_wall_ns();
	vm->clock.s.tsc_hz = time_tsc_hz();
	vm->clock.s.guest_tsc = vm->clock.s.guest_ns = 0;
	clock_begin(vm, rdtsc()); /* guest time 0 is now */
}

int vm_start(struct vm *vm, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	if (!vmm_hv())
		err = why_set(w, -ENODEV, "this host cannot run VMs (see `host`)");
	else if (vm->gone)
		err = why_set(w, -ENOENT, "it has just moved, or was forgotten: `vm list`");
	else if (!vm_state_is_off(vm->state))
		err = why_set(w, -EBUSY, "it is %s", vm_state_name(vm->state));
	else if (vm->building)
		err = why_set(w, -EBUSY, "it is being started");
	else if (vm->state == VM_MISCONFIGURED)
		err = why_set(w, -EINVAL, "it is misconfigured: %s", vm_text_get(&vm->fail).s);
	else if (vm->migration)
		err = why_set(w, -EBUSY, "it is being migrated");
	else
		err = vm_take_mtus(vm, w);
	if (err)
		goto out;
	if (vm->state == VM_FAILED) { /* it was kept for a look */
		vm->state = VM_STOPPING;
		teardown(vm);
	}
	vm->state = VM_STOPPED;
	bool fresh = !vm->has_disks;
	err = cpuid_table_init(&vm->cpuid, vm->cfg.cpu, &cpuid_this_cpu, w);
	if (!err) {
		cpuid_table_topology(&vm->cpuid, vm->cfg.vcpus);
		err = build(vm, NULL, NULL, w);
	}
	if (!err && ((err = load_boot_image(vm, w)) || (err = disk_unit_claim_all(vm, w))))
		teardown(vm);
	if (err && fresh) /* nothing has been written to them */
		disk_free_all(vm);
	vm_text_set(&vm->fail, "%s", err ? w->text : "");
	if (err)
		goto out;
	clock_start(vm);
	vm->start_ns = time_ns();
	__atomic_store_n(&vm->came_off, false, __ATOMIC_RELAXED);
	run_vcpus(vm);
	log_info("vm %s: started, %lu MiB, %u vCPU%s", vm->cfg.name, vm->cfg.mem >> 20, vm->nvcpus,
		 vm->nvcpus == 1 ? "" : "s");
out:
	mutex_unlock(&vm->lock);
	return err;
}

/* The lock is held; nobody migrates it. */
static void power_cut(struct vm *vm, const char *why)
{
	halt_vcpus(vm);
	vm->state = VM_STOPPING;
	teardown(vm);
	vm->state = VM_STOPPED;
	log_info("vm %s: stopped (%s)", vm->cfg.name, why);
}

/* Whatever it has asked for, and whoever is migrating it: as if its guest had switched itself off. The lock is held. */
static void request_cut(struct vm *vm)
{
	if (__atomic_exchange_n(&vm->power_request, VM_POWER_OFF, __ATOMIC_SEQ_CST) == VM_POWER_NONE)
		requested(vm);
	gmem_end_waits(&vm->mem);
}

int vm_stop(struct vm *vm, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	bool runs = vm->state == VM_RUNNING || vm->state == VM_PAUSED;
	if (vm->migration && runs && !gmem_all_here(&vm->mem)) /* here alone: what is elsewhere is of no use then */
		request_cut(vm);
	else if (vm->migration)
		err = why_set(w, -EBUSY, "it is being migrated; `migrate cancel %s` first", vm->cfg.name);
	else if (vm->building && vm->state != VM_STOPPING)
		err = why_set(w, -EBUSY, "it is being started; stop it then");
	else if (vm->state != VM_RUNNING && vm->state != VM_FAILED && vm->state != VM_PAUSED)
		err = why_set(w, -EINVAL, "it is %s", vm_state_name(vm->state));
	else
		power_cut(vm, "by the operator");
	mutex_unlock(&vm->lock);
	return err;
}

int vm_press_power(struct vm *vm, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	if (vm->state != VM_RUNNING)
		err = why_set(w, -EINVAL, "it is %s", vm_state_name(vm->state));
	else if (!machine_press_power(vm))
		err = why_set(w, -ENOTSUP, "its guest takes no notice of the power button (yet)");
	mutex_unlock(&vm->lock);
	return err;
}

/* ---- requests of the guest ---- */

static int reset(struct vm *vm, struct why *w)
{
	halt_vcpus(vm);
	machine_reset(vm);
	vm_port_reset_all(vm);
	vm->apics.any_xapic = false;
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = vm->vcpus[i];
		vlapic_init(&v->lapic, &vm->apics, i);
		v->msr = (struct vcpu_msr_state){ .mtrr_def_type = VCPU_MTRR_RESET };
		pv_reset(v);
	}
	int err = load_boot_image(vm, w);
	if (err)
		return err;
	run_vcpus(vm);
	return 0;
}

static void ctl_task(void *arg)
{
	struct vm *vm = arg;
	struct why w = { "" };
	gmem_end_waits(&vm->mem); /* nobody of it waits for memory any more: vm->power_request is set */
	mutex_lock(&vm->lock);
	uint8_t request = __atomic_load_n(&vm->power_request, __ATOMIC_SEQ_CST);
	if (vm->migration) {
		/* Stop at once; the migration finds that it is not running, ends, and calls vm_migration_ended. */
		if (vm->state == VM_RUNNING) {
			halt_vcpus(vm);
			vm->state = VM_PAUSED;
		}
	} else if (request && (vm->state == VM_RUNNING || vm->state == VM_PAUSED)) { /* else another has done it */
		halt_vcpus(vm); /* first: what another vCPU still asks for is of the same life, and goes with it */
		__atomic_store_n(&vm->power_request, VM_POWER_NONE, __ATOMIC_SEQ_CST);
		if (request == VM_POWER_OFF) {
			power_cut(vm, "the guest switched itself off");
		} else if (request == VM_POWER_RESET) {
			log_info("vm %s: reset by the guest", vm->cfg.name);
			if (reset(vm, &w)) {
				vm_text_set(&vm->fail, "reset: %s", w.text);
				request = VM_POWER_FAILED;
			}
		}
		if (request == VM_POWER_FAILED) {
			vm_port_detach_all(vm);
			vm->state = VM_FAILED;
			log_error("vm %s: FAILED: %s", vm->cfg.name, vm_text_get(&vm->fail).s);
		}
	}
	mutex_unlock(&vm->lock);
	vm_put(vm);
}

static void start_ctl(struct vm *vm)
{
	char name[24];
	snprintf(name, sizeof(name), "%.16s/ctl", vm->cfg.name);
	vm_ref(vm);
	if (!task_create(name, TASK_PRIO_NORMAL, ctl_task, vm)) {
		log_error("vm %s: no memory for the task that would stop it; stop it by hand", vm->cfg.name);
		vm_put(vm);
	}
}

/* vm->requested. The vCPU that asked goes no further: it is parked until the request is carried out. */
static void requested(struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		vcpu_hold(vm->vcpus[i]);
	start_ctl(vm);
}

void vm_migration_ended(struct vm *vm)
{
	if (__atomic_load_n(&vm->power_request, __ATOMIC_SEQ_CST))
		start_ctl(vm);
}

/* ---- pausing, and what migration needs ---- */

/* The lock is held. */
static int pause(struct vm *vm)
{
	if (vm->state != VM_RUNNING || vm_has_request(vm) || !gmem_all_here(&vm->mem))
		return -EINVAL;
	vm_port_keep_all(vm);
	halt_vcpus(vm);
	vm->state = VM_PAUSED;
	return 0;
}

int vm_pause(struct vm *vm)
{
	mutex_lock(&vm->lock);
	int err = pause(vm);
	mutex_unlock(&vm->lock);
	return err;
}

int vm_suspend(struct vm *vm, struct why *w)
{
	mutex_lock(&vm->lock);
	int err = vm->migration ? why_set(w, -EBUSY, "it is being migrated") : pause(vm);
	if (err == -EINVAL)
		why_set(w, err, "it is %s", vm->state == VM_RUNNING ? "about to stop" : vm_state_name(vm->state));
	mutex_unlock(&vm->lock);
	return err;
}

int vm_go_on(struct vm *vm, struct why *w)
{
	int err = 0;
	mutex_lock(&vm->lock);
	if (vm->migration)
		err = why_set(w, -EBUSY, "it is being migrated");
	else if (vm->state != VM_PAUSED || vm_has_request(vm))
		err = why_set(w, -EINVAL, "it is %s", vm_state_name(vm->state));
	else
		run_vcpus(vm);
	mutex_unlock(&vm->lock);
	return err;
}

void vm_resume(struct vm *vm)
{
	mutex_lock(&vm->lock);
	BUG_ON(vm->state != VM_PAUSED && vm->state != VM_INCOMING && vm->state != VM_UNDECIDED);
	if (vm->state == VM_INCOMING)
		vm->start_ns = time_ns();
	if (!__atomic_load_n(&vm->power_request, __ATOMIC_SEQ_CST)) /* else it waits for vm_migration_ended */
		run_vcpus(vm);
	mutex_unlock(&vm->lock);
}

void vm_arrive(struct vm *vm, enum vm_state as)
{
	bool off = vm->beside ? vm->beside->came_off : as == VM_STOPPED;
	__atomic_store_n(&vm->came_off, off, __ATOMIC_RELAXED);
	if (vm->beside)
		vm_take_place(vm);
	if (as == VM_RUNNING) {
		vm_resume(vm);
		return;
	}
	mutex_lock(&vm->lock);
	BUG_ON(vm->state != VM_INCOMING);
	vm->state = as;
	vm->start_ns = time_ns();
	mutex_unlock(&vm->lock);
}

static int new_incoming(const struct vm_config *cfg, struct vm *beside, struct vm **vm, struct why *w)
{
	return beside ? vm_new_beside(beside, VM_INCOMING, cfg, vm, w) : vm_new(cfg, VM_INCOMING, vm, w);
}

int vm_create_stopped(const struct vm_config *cfg, struct vm *beside, struct vm **out, struct why *w)
{
	struct vm *vm;
	int err = new_incoming(cfg, beside, &vm, w);
	if (err)
		return err;
	mutex_lock(&vm->lock);
	err = disk_make_all(vm, w);
	mutex_unlock(&vm->lock);
	if (err)
		vm_forget(vm);
	else
		*out = vm;
	return err;
}

int vm_create_incoming(const struct vm_config *cfg, struct vm *beside, struct vm_reservation *r,
		       const struct gmem_progress *p, struct vm **out, struct why *w)
{
	if (!vmm_hv())
		return why_set(w, -ENODEV, "that host cannot run VMs");
	if (!cfg->vcpus || cfg->vcpus > VM_MAX_VCPUS)
		return why_set(w, -EINVAL, "that host runs VMs of up to %u vCPUs, %s has %u", VM_MAX_VCPUS, cfg->name,
			       cfg->vcpus);
	struct vm *vm;
	int err = new_incoming(cfg, beside, &vm, w);
	if (err)
		return err;
	mutex_lock(&vm->lock);
	err = build(vm, r, p, w);
	mutex_unlock(&vm->lock);
	if (err)
		vm_forget(vm);
	else
		*out = vm; /* else it is gone, and the caller must not see it */
	return err;
}

void vm_destroy(struct vm *vm)
{
	mutex_lock(&vm->lock);
	vm->gone = true;
	if (vm->vcpus) {
		halt_vcpus(vm);
		vm->state = VM_STOPPING;
		teardown(vm);
	}
	vm->state = VM_STOPPED;
	struct disks disks = disk_take_all(vm);
	mutex_unlock(&vm->lock);
	disk_free_taken(&disks); /* which of TiBs takes seconds */
	vm_forget(vm);
}
