/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/pc/interrupts.h"
#include "vmm/dev/vioapic.h"
#include "vmm/x86/vcpu.h"

_Static_assert(VM_MAX_VCPUS <= 255, "a pin of the I/O APIC reaches 8 bits of ids; its entry's bits 55:49 are for more");

static void msi(void *arg, uint64_t addr, uint32_t data)
{
	struct vm *vm = arg;
	vapic_bus_msi(&vm->apics, addr, data);
}

static void gsi(void *arg, unsigned pin, bool level)
{
	struct vm *vm = arg;
	vioapic_set_pin(vm->ioapic, pin, level);
}

static void eoi(void *arg, uint8_t vector)
{
	struct vm *vm = arg;
	vioapic_eoi(vm->ioapic, vector);
}

static void kick(void *arg, unsigned i)
{
	struct vm *vm = arg;
	if (i < vm->nvcpus && vm->vcpus[i])
		vcpu_kick(vm->vcpus[i]);
}

static void nmi(void *arg, unsigned i)
{
	struct vm *vm = arg;
	if (i < vm->nvcpus && vm->vcpus[i])
		events_nmi(vm->vcpus[i]);
}

void interrupts_wire(struct vm *vm)
{
	vm->apics.n = vm->cfg.vcpus;
	vm->apics.any_xapic = false;
	vm->apics.kick = kick;
	vm->apics.nmi = nmi;
	vm->apics.eoi = eoi;
	vm->apics.arg = vm;
	vm->machine.msi = msi;
	vm->machine.gsi = gsi;
}
