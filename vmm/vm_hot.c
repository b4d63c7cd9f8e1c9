/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory that tern itself reads and writes while the guest runs (vm_for_each_hot, vm.h). */
#include "vmm/dev/vvirtio.h"
#include "vmm/vm.h"
#include "vmm/x86/cpu_state.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/pv.h"
#include "vmm/x86/vcpu.h"

struct hot {
	void (*fn)(void *arg, gpa_t gpa, size_t len);
	void *arg;
};

static void rings(const struct hot *h, const struct vvirtq_state *q)
{
	if (!q->enabled)
		return;
	h->fn(h->arg, q->desc,
	      16UL * q->size); /* virtio 1.2, 2.7: descriptors, and both rings with their event words */
	h->fn(h->arg, q->avail, 6 + 2UL * q->size);
	h->fn(h->arg, q->used, 6 + 8UL * q->size);
}

static void section(void *arg, const struct sdesc *d, uint32_t instance unused, void *obj)
{
	const struct hot *h = arg;
	if (d == &vvirtio_desc) {
		const struct vvirtio *v = obj;
		for (unsigned i = 0; i < v->ids->nqueues; i++)
			rings(h, v->q[i].s);
	} else if (d == &vcpu_msr_desc) {
		clock_hot(obj, h->fn, h->arg);
	} else if (d == &pv_desc) {
		pv_hot(obj, h->fn, h->arg);
	}
}

void vm_for_each_hot(struct vm *vm, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg)
{
	vm_for_each_section(vm, section, &(struct hot){ fn, arg });
}
