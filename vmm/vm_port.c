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
#include "vmm/pc/machine.h"
#include "vmm/x86/vcpu.h"
#include "vmm/dev/vnet.h"
#include "vmm/vm_port.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vm_port {
	struct bridge_port port;
	struct learn learn; /* own locking */
	struct announce announce;
	bool attached; /* vm->lock */
};

static void tell_guest(void *arg) { vnet_announce(((struct vm *)arg)->vnet); }

static int port_send(void *arg, const struct frame *f) { return vnet_rx(((struct vm *)arg)->vnet, f); }

int vm_port_create(struct vm *vm)
{
	struct vm_port *p = calloc(1, sizeof(*p));
	if (!p)
		return err_trace(-ENOMEM);
	snprintf(p->port.name, sizeof(p->port.name), "%.23s", vm->cfg.name);
	p->port.send = port_send;
	p->port.arg = vm;
	p->port.is_guest = true;
	memcpy(p->port.mac, vm->cfg.mac, ETH_ALEN);
	learn_init(&p->learn);
	announce_init(&p->announce, &p->port, &p->learn, tell_guest, vm);
	vm->port = p;
	return 0;
}

/* Not before the VM runs: one that comes from another host has its keys by then. */
static struct bridge_policy policy_of(const struct vm_config_state *s)
{
	struct bridge_policy p = {
		.any_mac = s->mac_change, .trunk = s->trunk, .dhcp_server = s->dhcp_server, .router = s->router
	};
	_Static_assert(sizeof(p.ip) == sizeof(s->ip), "as many addresses");
	memcpy(p.ip, s->ip, sizeof(p.ip));
	return p;
}

void vm_port_attach(struct vm *vm)
{
	struct vm_port *p = vm->port;
	struct bridge *b = bridge_find(vm->cfg.net, NULL);
	if (!p || !b)
		return; /* vm_start and offers have asked for it, and networks do not go */
	if (!p->attached) {
		p->port.offloads = vnet_offloads(vm->vnet);
		p->port.policy = policy_of(&vm->cfg.s);
		bridge_add(b, &p->port);
		p->attached = true;
	}
	if (!bridge_bind(&p->port))
		announce_add(&p->announce);
	else
		log_error("vm %s: no frame of it is forwarded: another port of the bridge has its MAC (see `bridge`)",
			  vm->cfg.name);
}

void vm_port_unbind(struct vm *vm)
{
	struct vm_port *p = vm->port;
	if (!p || !p->attached)
		return;
	announce_remove(&p->announce); /* its MAC may be elsewhere from now on */
	bridge_unbind(&p->port);
}

void vm_port_detach(struct vm *vm)
{
	struct vm_port *p = vm->port;
	if (!p || !p->attached)
		return;
	announce_remove(&p->announce);
	bridge_remove(&p->port);
	p->attached = false;
}

void vm_port_free(struct vm *vm)
{
	vm_port_detach(vm);
	free(vm->port);
	vm->port = NULL;
}

void vm_port_reset(struct vm *vm) { learn_reset(&vm->port->learn); }

struct learn *vm_port_learned(struct vm *vm) { return &vm->port->learn; }

void vm_port_tx(void *arg, struct frame *f)
{
	struct vm *vm = arg;
	struct vm_port *p = vm->port;
	if (!p || !p->attached)
		return;
	p->port.offloads =
		vnet_offloads(vm->vnet); /* who sends has a driver; vnet_rx refuses what a later one does not take */
	int err = bridge_input(&p->port, f);
	if (err != -EACCES && err != -EINVAL) /* what it may not say is nothing to be said for it */
		learn_sent(&p->learn, p->port.mac, f, time_ns());
}

bool vm_announce(struct vm *vm)
{
	mutex_lock(&vm->lock);
	bool runs = vm->state == VM_RUNNING && vm->port->attached;
	if (runs)
		announce_start(&vm->port->announce);
	mutex_unlock(&vm->lock);
	return runs;
}
