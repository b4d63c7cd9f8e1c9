/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's PC. machine_build() is the whole of it, from top to bottom in the order in which devices are reset, saved
 * and loaded; ports and addresses are in vmm/dev.h, what the guest reads about them in vmm/pc/dsdt.asl and acpi_tables.c.
 */
#include "vmm/pc/machine.h"
#include "arch/x86/hw/uart16550.h"
#include "kernel/log.h"
#include "kernel/random.h"
#include "vmm/x86/vcpu.h"

#define UART_GSI 4
enum { SLOT_NET = 1, SLOT_RNG = 2 }; /* of PCI bus 0; the host bridge is 0 */

/* ---- what devices may ask of the machine ---- */

static void machine_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct vm *vm = arg;
	vapic_bus_msi(&vm->apics, addr, data);
}

static void machine_gsi(void *arg, unsigned gsi, bool level)
{
	struct vm *vm = arg;
	vioapic_set_pin(vm->ioapic, gsi, level);
}

static void machine_entropy(void *arg, void *buf, size_t n)
{
	(void)arg;
	random_bytes(buf, n);
}

/* ---- life ---- */

int machine_build(struct vm *vm)
{
	struct machine *m = &vm->machine;
	struct vpci_bus *pci;
	int err;

	*m = (struct machine){
		.mem = &vm->mem,
		.msi = machine_msi,
		.gsi = machine_gsi,
		.power_off = vm_request_power_off,
		.reset = vm_request_reset,
		.entropy = machine_entropy,
		.arg = vm,
	};
	bus_init(&m->bus);
	list_init(&m->devs);

	err = vioapic_create(m, &vm->ioapic);
	if (!err)
		err = vuart_create(m, &vm->uart, COM1_PORT, UART_GSI, vm_console_out, vm);
	if (!err)
		err = vpower_create(m);
	if (!err)
		err = vpci_bus_create(m, &pci);
	if (!err)
		err = vnet_create(m, pci, &vm->vnet, SLOT_NET, vm->cfg.mac, vm_port_tx, vm);
	if (!err)
		err = vrng_create(m, pci, SLOT_RNG);
	if (err) {
		log_error("vm %s: its devices cannot be made: %s", vm->cfg.name, err_name(err));
		machine_free(vm);
		return err;
	}
	vm_console_plug(vm, vm->uart);
	return 0;
}

void machine_free(struct vm *vm)
{
	struct machine *m = &vm->machine;

	vm_console_plug(vm, NULL);
	while (m->devs.next && !list_empty(&m->devs)) { /* in reverse: a function leaves its bus first */
		struct dev *d = list_entry(m->devs.prev, struct dev, node);
		list_remove(&d->node);
		d->ops->fini(d);
	}
	vm->ioapic = NULL;
	vm->uart = NULL;
	vm->vnet = NULL;
}

void machine_reset(struct vm *vm)
{
	list_for_each(d, &vm->machine.devs, struct dev, node)
		d->ops->reset(d);
}

void machine_quiesce(struct vm *vm)
{
	list_for_each(d, &vm->machine.devs, struct dev, node)
		if (d->ops->quiesce)
			d->ops->quiesce(d);
}

void machine_resume(struct vm *vm)
{
	list_for_each(d, &vm->machine.devs, struct dev, node)
		if (d->ops->resume)
			d->ops->resume(d);
}
