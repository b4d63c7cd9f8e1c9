/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's NIC as a port of the bridge: the one place where vmm/dev/vnet.c and net/ meet. The port is there
 * from the VM's first run on, and its MAC is bound to it only while the VM runs: one that stands still may run at a
 * migration's destination already, and is then heard of at the uplink. What comes for it here meanwhile is kept in its
 * card, for wherever it goes on.
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
	bool attached;  /* vm->lock */
	bool keeps;     /* [a] the VM stands still, and its frames are kept */
	bool elsewhere; /* [a] since then a frame from its MAC came: switches deliver to where that was sent */
	struct spinlock lock;
	struct waitq wake; /* [l] of the first card, for all */
	bool news;         /* [l] same */
};

/* To who waits for what the VM's cards keep. Any context. */
static void tell_keeper(struct vm_port *first)
{
	uint64_t flags = spin_lock_irqsave(&first->lock);
	first->news = true;
	waitq_wake_all(&first->wake);
	spin_unlock_irqrestore(&first->lock, flags);
}

static void tell_guest(void *arg)
{
	const struct vm_port *p = arg;
	vnet_announce(p->vm->vnet[p->nic]);
}

static int port_send(void *arg, const struct frame *f)
{
	struct vm_port *p = arg;
	uint8_t head[2 * ETH_ALEN] = { 0 };
	if (!__atomic_load_n(&p->keeps, __ATOMIC_RELAXED))
		return vnet_rx(p->vm->vnet[p->nic], f);
	bool own = frame_copy_out(f, 0, head, sizeof(head)) == sizeof(head) &&
		   !memcmp(head + ETH_SRC, p->port.mac, ETH_ALEN);
	/* What is for a group reaches it there by itself, once it has a place there. */
	bool twice = head[0] & 1 && __atomic_load_n(&p->elsewhere, __ATOMIC_ACQUIRE);
	int err = own || twice ? 0 : vnet_rx(p->vm->vnet[p->nic], f);
	if (own)
		__atomic_store_n(&p->elsewhere, true, __ATOMIC_RELEASE);
	if (!err)
		tell_keeper(p->vm->port[0]);
	return err;
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
			snprintf(p->port.name, sizeof(p->port.name), "%.21s/%c", vm->cfg.name, (char)('1' + i));
		else
			snprintf(p->port.name, sizeof(p->port.name), "%.23s", vm->cfg.name);
		p->port.send = port_send;
		p->port.room = port_room;
		p->port.arg = p;
		p->port.is_guest = true;
		memcpy(p->port.mac, vm->cfg.mac[i], ETH_ALEN);
		spin_init(&p->lock, "vm port");
		waitq_init(&p->wake);
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
	__atomic_store_n(&p->keeps, false, __ATOMIC_RELAXED);
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

/* ---- frames that come while it moves ---- */

static void keep(struct vm_port *p)
{
	__atomic_store_n(&p->elsewhere, false, __ATOMIC_RELAXED);
	__atomic_store_n(&p->keeps, true, __ATOMIC_RELEASE);
	vnet_keep(p->vm->vnet[p->nic]);
}

void vm_port_keep_all(struct vm *vm) { for_each(vm, keep); }

struct take {
	vm_port_put *put;
	void *arg;
	unsigned nic;
	int err;
};

static void take_one(void *arg, const struct frame *f)
{
	struct take *t = arg;
	if (!t->err)
		t->err = t->put(t->arg, t->nic, f);
}

int vm_port_take_kept(struct vm *vm, vm_port_put *put, void *arg)
{
	struct take t = { .put = put, .arg = arg };
	struct frame f;
	unsigned pair;
	for (t.nic = 0; t.nic < vm->cfg.nnics && !t.err; t.nic++) {
		struct vnet *card = vm->vnet[t.nic];
		while (!t.err && vnet_kept(card, &pair, &f)) {
			/* One that a guest of this host sent may lack its checksum, or stand for many. */
			if (!(f.flags & FRAME_NEEDS_CSUM) && f.gso == FRAME_GSO_NONE)
				take_one(&t, &f);
			else if (!frame_finish(&f, vm->cfg.mtu[t.nic], take_one, &t))
				vm_port_lost(vm->port[t.nic]);
			vnet_kept_drop(card, pair);
		}
	}
	return t.err;
}

bool vm_port_is_elsewhere(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg.nnics; i++)
		if (!__atomic_load_n(&vm->port[i]->elsewhere, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

void vm_port_wait_kept(struct vm *vm, uint64_t deadline_ns)
{
	struct vm_port *first = vm->port[0];
	if (!first)
		return;
	uint64_t flags = spin_lock_irqsave(&first->lock);
	while (!first->news && !waitq_wait(&first->wake, &first->lock, &flags, deadline_ns))
		;
	first->news = false;
	spin_unlock_irqrestore(&first->lock, flags);
}

void vm_port_bring(struct vm *vm, unsigned nic, const struct frame *f)
{
	mutex_lock(&vm->lock); /* it may be on its way to another host, or off */
	struct vm_port *p = vm->port[nic];
	if (p && p->attached)
		(void)bridge_bring(&p->port, f); /* which counts those that go no further */
	mutex_unlock(&vm->lock);
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
