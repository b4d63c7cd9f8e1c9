/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's PC. The table below is the whole of it, in the order in which devices are reset, saved and loaded;
 * addresses, ports and pins are pc.h's, and what the guest reads of them is in dsdt.asl and acpi_tables.c.
 */
#include "vmm/pc/machine.h"
#include "kernel/log.h"
#include "kernel/random.h"
#include "vmm/dev/vblk.h"
#include "vmm/dev/vioapic.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vpmtimer.h"
#include "vmm/dev/vpower.h"
#include "vmm/dev/vrng.h"
#include "vmm/dev/vrtc.h"
#include "vmm/dev/vuart.h"
#include "vmm/pc/interrupts.h"
#include "vmm/pc/pc.h"
#include "vmm/disk.h"
#include "vmm/vm_console.h"
#include "vmm/vm_port.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/dev/vpci.h"
#include <string.h>

/* Where a device sits: what of it its kind needs. */
struct place {
	uint16_t port;
	uint8_t gsi, slot, n;
};

static int ioapic(struct vm *vm, const struct place *p unused) { return vioapic_create(&vm->machine, &vm->ioapic); }
static int power(struct vm *vm, const struct place *p unused) { return vpower_create(&vm->machine); }
static int pm_timer(struct vm *vm, const struct place *p unused) { return vpmtimer_create(&vm->machine); }
static int rtc(struct vm *vm, const struct place *p unused) { return vrtc_create(&vm->machine); }
static int pci(struct vm *vm, const struct place *p unused) { return vpci_bus_create(&vm->machine, &vm->pci); }
static int rng(struct vm *vm, const struct place *p) { return vrng_create(&vm->machine, vm->pci, p->slot); }

static int uart(struct vm *vm, const struct place *p)
{
	return vuart_create(&vm->machine, &vm->uart, p->port, p->gsi, vm_console_out, vm);
}

/* As many as the VM has. */
static int net(struct vm *vm, const struct place *p)
{
	const struct vm_config *c = &vm->cfg;
	unsigned i = p->n;
	if (i >= c->nnics)
		return 0;
	struct vnet_card card = { .mtu = c->mtu[i], .wire = { vm_port_tx, vm_port_lost, vm->port[i] } };
	memcpy(card.mac, c->mac[i], ETH_ALEN);
	return vnet_create(&vm->machine, vm->pci, &vm->vnet[i], p->slot, c->vcpus, &card);
}

/* vm->lock is held by who builds it. */
static int disk(struct vm *vm, const struct place *p)
{
	if (p->n >= vm->cfg.ndisks)
		return 0;
	return vblk_create(&vm->machine, vm->pci, &vm->vblk[p->n], p->slot, vm->cfg.vcpus,
			   disk_blockdev(vm->disk[p->n]));
}

static const struct {
	const char *name;
	int (*create)(struct vm *vm, const struct place *p);
	struct place at;
} devices[] = {
	{ "I/O APIC", ioapic, { 0 } },
	{ "serial port", uart, { .port = PC_COM1, .gsi = PC_COM1_GSI } },
	{ "power registers", power, { 0 } },
	{ "power management timer", pm_timer, { 0 } },
	{ "clock of the day", rtc, { 0 } },
	{ "PCI bus", pci, { 0 } },
	{ "network card", net, { .slot = PC_SLOT_NET } },
	{ "entropy source", rng, { .slot = PC_SLOT_RNG } },
	{ "second network card", net, { .slot = PC_SLOT_NET2, .n = 1 } },
	{ "third network card", net, { .slot = PC_SLOT_NET2 + 1, .n = 2 } },
	{ "fourth network card", net, { .slot = PC_SLOT_NET2 + 2, .n = 3 } },
	{ "disk", disk, { .slot = PC_SLOT_DISK } },
	{ "second disk", disk, { .slot = PC_SLOT_DISK + 1, .n = 1 } },
	{ "third disk", disk, { .slot = PC_SLOT_DISK + 2, .n = 2 } },
	{ "fourth disk", disk, { .slot = PC_SLOT_DISK + 3, .n = 3 } },
	{ "fifth disk", disk, { .slot = PC_SLOT_DISK + 4, .n = 4 } },
};

static void entropy(void *arg unused, void *buf, size_t n) { random_bytes(buf, n); }
static uint64_t now_ns(void *arg) { return guest_ns(arg); }
static uint64_t wall_ns(void *arg)
{
	const struct vm *vm = arg;
	return vm->clock.s.wall_ns + guest_ns(vm);
}

int machine_build(struct vm *vm)
{
	struct machine *m = &vm->machine;
	*m = (struct machine){
		.mem = &vm->mem,
		.share = &vm->share,
		.power_off = vm_request_power_off,
		.reset = vm_request_reset,
		.now_ns = now_ns,
		.wall_ns = wall_ns,
		.entropy = entropy,
		.arg = vm,
	};
	interrupts_wire(vm);
	bus_init(&m->bus);
	list_init(&m->devs);
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		int err = devices[i].create(vm, &devices[i].at);
		if (!err)
			continue;
		log_error("vm %s: its %s cannot be made: %s", vm->cfg.name, devices[i].name, err_name(err));
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
	memset(vm->vnet, 0, sizeof(vm->vnet));
	memset(vm->vblk, 0, sizeof(vm->vblk));
	vm->pci = NULL;
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

bool machine_press_power(struct vm *vm)
{
	if (vioapic_is_masked(vm->ioapic, PC_BUTTON_GSI))
		return false;
	vioapic_set_pin(vm->ioapic, PC_BUTTON_GSI, true);
	vioapic_set_pin(vm->ioapic, PC_BUTTON_GSI, false);
	return true;
}
