/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/x86/bus_lock.h"
#include "kernel/time.h"
#include "vmm/vm.h"
#include "vmm/x86/vcpu.h"

#define LOCK_NS (100 * NS_PER_US)
#define FREE    32 /* at once, after a rest */

void bus_lock_rest(struct vcpu *v)
{
	uint64_t *full = &v->vm->bus_locks_full_ns, now = time_ns(), due, was = __atomic_load_n(full, __ATOMIC_RELAXED);
	do { /* each is charged, and so those of all vCPUs get in line */
		due = MAX(was, now) + LOCK_NS;
	} while (!__atomic_compare_exchange_n(full, &was, due, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	v->hv->bus_locked = false;
	if (due > now + FREE * LOCK_NS)
		vcpu_rest(v, due - FREE * LOCK_NS);
}
