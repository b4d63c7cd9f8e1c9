/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's NIC as a port of the bridge: the one place where vmm/dev/vnet.c and net/ meet. The port is there
 * from the VM's first run on, and its MAC is bound to it only while the VM runs: one that stands still may run at a
 * migration's destination already, and is then heard of at the uplink.
 */
#include "kernel/log.h"
#include "kernel/time.h"
#include "net/announce.h"
#include "net/bridge.h"
#include "net/learn.h"
#include "vmm/x86/vcpu.h"
#include "vmm/dev/vnet.h"
#include "vmm/vm_port.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vm_port {
	struct vm *vm; /* (c) */
	unsigned nic;  /* (c) which of its cards */
	struct bridge_port port;
	struct learn learn; /* own locking */
	struct announce announce;
	bool attached; /* vm->lock */
};

static void tell_guest(void *arg)
{
	const struct vm_port *p = arg;
	vnet_announce(p->vm->vnet[p->nic]);
}

static int port_send(void *arg, const struct frame *f)
{
	const struct vm_port *p = arg;
	return vnet_rx(p->vm->vnet[p->nic], f);
}

static unsigned port_room(void *arg, size_t len)
{
	const struct vm_port *p = arg;
	return vnet_room(p->vm->vnet[p->nic], len);
}

int vm_port_create_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg.nnics; i++) {
		struct vm_port *p = calloc(1, sizeof(*p));
		if (!p)
			return err_trace(-ENOMEM); /* the others are vm_port_free_all's */
		p->vm = vm;
		p->nic = i;
		if (i)
			snprintf(p->port.name, sizeof(p->port.name), "%.21s/%u", vm->cfg.name, i + 1);
		else
			snprintf(p->port.name, sizeof(p->port.name), "%.23s", vm->cfg.name);
		p->port.send = port_send;
		p->port.room = port_room;
		p->port.arg = p;
		p->port.is_guest = true;
		memcpy(p->port.mac, vm->cfg.mac[i], ETH_ALEN);
		learn_init(&p->learn);
		announce_init(&p->announce, &p->port, &p->learn, tell_guest, p);
		vm->port[i] = p;
	}
	return 0;
}

/* Not before the VM runs: one that comes from another host has its keys by then. */
static struct bridge_policy policy_of(const struct vm_config_state *s, unsigned nic)
{
	struct bridge_policy p = { .any_mac = CONF_NIC_CHOICE(s->mac_change, nic),
				   .trunk = CONF_NIC_CHOICE(s->trunk, nic),
				   .dhcp_server = CONF_NIC_CHOICE(s->dhcp_server, nic),
				   .router = CONF_NIC_CHOICE(s->router, nic) };
	_Static_assert(sizeof(p.ip) == sizeof(s->ip.of[0]), "as many addresses");
	memcpy(p.ip, conf_nic_ips(&s->ip, nic), sizeof(p.ip));
	return p;
}

static void attach(struct vm_port *p)
{
	struct vm *vm = p->vm;
	struct bridge *b = bridge_find(vm->cfg.net[p->nic], NULL);
	if (!b)
		return; /* vm_start and offers have asked for it, and networks do not go */
	if (!p->attached) {
		p->port.offloads = vnet_offloads(vm->vnet[p->nic]);
		p->port.policy = policy_of(&vm->cfg.s, p->nic);
		bridge_add(b, &p->port);
		p->attached = true;
	}
	if (!bridge_bind(&p->port))
		announce_add(&p->announce);
	else
		log_error("vm %s: no frame of it is forwarded: another port of the bridge has its MAC (see `bridge`)",
			  p->port.name);
}

static void unbind(struct vm_port *p)
{
	if (!p->attached)
		return;
	announce_remove(&p->announce); /* its MAC may be elsewhere from now on */
	bridge_unbind(&p->port);
}

static void detach(struct vm_port *p)
{
	if (!p->attached)
		return;
	announce_remove(&p->announce);
	bridge_remove(&p->port);
	p->attached = false;
}

static void for_each(struct vm *vm, void (*fn)(struct vm_port *p))
{
	for (unsigned i = 0; i < VM_NICS_MAX; i++)
		if (vm->port[i])
			fn(vm->port[i]);
}

void vm_port_attach_all(struct vm *vm) { for_each(vm, attach); }
void vm_port_unbind_all(struct vm *vm) { for_each(vm, unbind); }
void vm_port_detach_all(struct vm *vm) { for_each(vm, detach); }

void vm_port_free_all(struct vm *vm)
{
	for (unsigned i = 0; i < VM_NICS_MAX; i++) {
		free(vm->port[i]);
		vm->port[i] = NULL;
	}
}

static void forget_learned(struct vm_port *p) { learn_reset(&p->learn); }

void vm_port_reset_all(struct vm *vm) { for_each(vm, forget_learned); }

struct learn *vm_port_learned(struct vm *vm, unsigned nic) { return &vm->port[nic]->learn; }

void vm_port_tx(void *arg, struct frame *f)
{
	struct vm_port *p = arg;
	if (!p->attached)
		return;
	/* Who sends has a driver; vnet_rx refuses what a later one does not take. */
	p->port.offloads = vnet_offloads(p->vm->vnet[p->nic]);
	int err = bridge_input(&p->port, f);
	if (err != -EACCES && err != -EINVAL) /* what it may not say is nothing to be said for it */
		learn_sent(&p->learn, p->port.mac, f, time_ns());
}

void vm_port_lost(void *arg)
{
	struct vm_port *p = arg;
	bridge_lost(&p->port);
}

void vm_port_bytes(const struct vm *vm, uint64_t *sent, uint64_t *received)
{
	*sent = *received = 0;
	for (unsigned i = 0; i < vm->cfg.nnics && vm->port[i]; i++) { /* the bridge's in is the guest's out */
		*sent += __atomic_load_n(&vm->port[i]->port.stats.rx_bytes, __ATOMIC_RELAXED);
		*received += __atomic_load_n(&vm->port[i]->port.stats.tx_bytes, __ATOMIC_RELAXED);
	}
}

bool vm_announce(struct vm *vm)
{
	mutex_lock(&vm->lock);
	bool runs = vm->state == VM_RUNNING;
	for (unsigned i = 0; runs && i < vm->cfg.nnics; i++)
		if (vm->port[i]->attached)
			announce_start(&vm->port[i]->announce);
	mutex_unlock(&vm->lock);
	return runs;
}
