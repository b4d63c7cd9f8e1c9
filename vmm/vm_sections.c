/* SPDX-License-Identifier: BSD-2-Clause */
/* The state of a VM that migrates: the list of its sections, and its CPUs' part of them (vm.h). */
#include "vmm/dev/vxapic.h"
#include "vmm/vm.h"
#include "vmm/vm_port.h"
#include "vmm/x86/compat.h"
#include "vmm/x86/cpu_state.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/msr.h"
#include "vmm/x86/vcpu.h"

void vm_for_each_section(struct vm *vm, void (*fn)(void *arg, const struct sdesc *d, uint32_t instance, void *obj),
			 void *arg)
{
	fn(arg, &vm_config_desc, 0, &vm->cfg);
	if (!vm->vcpus)
		return; /* it is off, and has no other state */
	fn(arg, &cpuid_desc, 0, &vm->cpuid);
	fn(arg, &clock_desc, 0, &vm->clock);
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		fn(arg, &cpu_state_desc, i, vm->vcpus[i]->state);
		fn(arg, &vcpu_msr_desc, i, vm->vcpus[i]);
		if (vm->cfg.vcpus > 1) /* with one there is none (pv.h) */
			fn(arg, &pv_desc, i, vm->vcpus[i]);
		fn(arg, &vlapic_desc, i, &vm->vcpus[i]->lapic);
		fn(arg, &vxapic_desc, i, &vm->vcpus[i]->lapic);
	}
	fn(arg, &machine_desc, 0, &vm->machine);
	list_for_each(d, &vm->machine.devs, struct dev, node)
		for (unsigned i = 0; i < d->nsections; i++)
			fn(arg, d->section[i].desc, d->section[i].instance, d->section[i].obj);
	for (unsigned i = 0; i < vm->cfg.nnics; i++)
		fn(arg, &vm_learned_desc, i, vm_port_learned(vm, i));
}

/* Parking has saved them already (vcpu.c). */
int vm_save_cpus(struct vm *vm, struct why *w)
{
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = vm->vcpus[i];
		if (!v->parked)
			return why_set(w, -EINVAL, "vCPU %u is not paused", i);
		events_save(v); /* once more: an NMI that another sent before it was parked */
	}
	return 0;
}

int vm_load_cpus(struct vm *vm, struct why *w)
{
	struct vm_compat told; /* the section "cpuid" is believed from here on, and need not be what was offered */
	vm_compat_get(vm, &told);
	int bad = vm_compat_check(vm->cfg.cpu, &told, w);
	if (bad)
		return bad;
	if (vm->cfg.vcpus < 2 && cpuid_table_row(&vm->cpuid, 0x40000001, 0)[0] & PV_SMP)
		return why_set(w, -EINVAL, "its one vCPU was told of what is for several (CPUID 0x40000001)");
	for (unsigned i = 0; i < vm->nvcpus; i++) {
		struct vcpu *v = vm->vcpus[i];
		int err = vcpu_load(v, w);
		if (err)
			return err;
	}
	return 0;
}

void vm_advance_clock(struct vm *vm, uint64_t ns) { clock_advance(vm, ns); }
