/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest that dirties faster than the line carries: what each of its vCPUs may do in the next pass (source.h). */
#include "vmm/migrate/source.h"
#include "vmm/vm_port.h"
#include "vmm/x86/stun.h"

#define SHORT_NS   (100 * NS_PER_MS)
#define FRAME_ROOM 1024 /* bytes of frames that dirty a page, about */
#define SAMPLES    1024 /* of a pass: a vCPU with a hundredth of the dirt is seen some ten times */

static void show_speeds(struct source *c)
{
	struct migrate_status *st = &c->m->st;
	spin_lock(&c->m->lock);
	st->vcpus = MIN(c->vm->nvcpus, (unsigned)VM_MAX_VCPUS);
	for (unsigned i = 0; i < st->vcpus; i++)
		st->speed[i] = (uint8_t)(c->share[i] * 100 / STUN_FULL);
	spin_unlock(&c->m->lock);
}

/*
 * What comes for it from others dirties memory, too, and is not the vCPUs' to slow: it comes out of what all may
 * dirty. They keep a tenth of that in any case, or a guest that is sent a flood would stand still. What else devices
 * write, and what is written to disks, they have asked for, nobody knows which of them: it is each one's alike.
 *
 * The few pages that everybody writes all the time are no rate: a short pass, which finds them as a long one does,
 * counts as one of SHORT_NS, but for a budget that is shorter still.
 */
void slow_vcpus(struct source *c, const struct policy_pass *r, uint64_t blocks)
{
	struct vm *vm = c->vm;
	uint64_t ms = MAX(MAX(r->ns, MIN(c->policy.max_downtime_ns, SHORT_NS)) / NS_PER_MS, 1UL);
	uint64_t may = c->policy.may_dirty, soft = MIN(__atomic_load_n(&vm->mem.soft_dirt, __ATOMIC_RELAXED), r->left);
	uint64_t sent, received, seen = 0;
	vm_port_bytes(vm, &sent, &received);
	uint64_t came = MIN(soft, (received - c->received) / FRAME_ROOM),
		 asked = MIN(soft - came + blocks, r->left - came);
	uint64_t written = r->left - came - asked;
	c->received = received;
	stun_take_samples(vm, c->sample);
	for (unsigned i = 0; i < vm->nvcpus; i++)
		seen += c->sample[i];
	for (unsigned i = 0; i < vm->nvcpus && seen && asked; i++)
		c->sample[i] += (uint32_t)MIN(seen * asked / MAX(written, 1UL) / vm->nvcpus, SAMPLES * 64UL);
	uint64_t pages = policy_spare(c->sample, vm->nvcpus, r->left - came, c->share);
	gmem_track_sample(&vm->mem, c->policy.watch ? MAX(r->left / SAMPLES, 1UL) : 0);
	uint64_t others = came * PAGE_SIZE / ms * 1000, all = pages * PAGE_SIZE / ms * 1000;
	if (may)
		(void)policy_shares(c->sample, vm->nvcpus, all, MAX(may - MIN(may, others), may / 10),
				    policy_least(&c->policy), c->share);
	for (unsigned i = 0; i < vm->nvcpus && !may; i++)
		c->share[i] = STUN_FULL;
	stun_set(vm, c->share);
	show_speeds(c);
}
