/* SPDX-License-Identifier: BSD-2-Clause */
/* The source of a VM that is stopped or paused (resting.h). */
#include "vmm/migrate/resting.h"
#include "arch/x86/hw/virtio.h"
#include "vmm/disk.h"
#include "vmm/x86/compat.h"

int resting_begin(struct migration *m, struct why *w)
{
	struct vm *vm = m->vm;
	if (m->st.vm_state != VM_STOPPED)
		return 0;
	mutex_lock(&vm->lock);
	(void)!vm_boot_files(vm, NULL); /* what this host has not got, its destination may have */
	bool fresh = true;
	for (unsigned i = 0; i < VM_DISKS_MAX; i++)
		fresh = fresh && !vm->disk[i];
	int err = disk_make_all(vm, w);
	m->made_disks = !err && fresh;
	mutex_unlock(&vm->lock);
	return err;
}

void resting_end(struct migration *m)
{
	if (!m->made_disks)
		return;
	mutex_lock(&m->vm->lock);
	disk_free_all(m->vm);
	mutex_unlock(&m->vm->lock);
}

/* ---- STATE, before OFFER ---- */

#define STATE_STOPPED 1
#define STATE_PAUSED  2

static int state_send(struct wire_tx *tx, enum vm_state state, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_STATE);
	wire_put_u32(tx, state == VM_STOPPED ? STATE_STOPPED : STATE_PAUSED);
	return wire_end(tx, deadline_ns);
}

int resting_state_get(struct wire_rx *rx, enum vm_state *state, struct why *w)
{
	uint32_t v = wire_get_u32(rx);
	*state = v == STATE_STOPPED ? VM_STOPPED : VM_PAUSED;
	return wire_get_end(rx) && (v == STATE_STOPPED || v == STATE_PAUSED)
		       ? 0
		       : why_set(w, -EPROTO, "the source sent a malformed STATE record");
}

int resting_offer(struct migration *m, struct wire_tx *tx, struct offer *o, uint64_t deadline_ns)
{
	bool stopped = m->st.vm_state == VM_STOPPED;
	if (!stopped)
		vm_compat_get(m->vm, &o->compat);
	for (unsigned i = 0; i < o->cfg.nnics && stopped; i++)
		o->cfg.mtu[i] = VNET_MTU_MIN; /* any network will do */
	return migration_rests(m) ? state_send(tx, m->st.vm_state, deadline_ns) : 0;
}
