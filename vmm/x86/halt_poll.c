/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/x86/halt_poll.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "kernel/sched.h"
#include "kernel/time.h"
#include "vmm/vm.h"
#include "vmm/x86/vcpu.h"

bool halt_poll_on;

void halt_poll_init(void) { halt_poll_on = !(cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR); }

uint32_t halt_poll_next(uint32_t limit_ns, uint64_t waited_ns)
{
	if (waited_ns > HALT_POLL_MAX_NS)
		return 0;
	if (waited_ns <= limit_ns)
		return limit_ns; /* it was enough */
	return (uint32_t)MIN(MAX(2UL * limit_ns, HALT_POLL_MIN_NS), HALT_POLL_MAX_NS);
}

static bool is_over(const struct vcpu *v)
{
	return __atomic_load_n(&v->kicked, __ATOMIC_SEQ_CST) ||
	       __atomic_load_n(&v->want, __ATOMIC_RELAXED) != VCPU_WANT_RUN;
}

bool halt_poll(struct vcpu *v)
{
	struct vm *vm = v->vm;
	if (!halt_poll_on || !v->halt_poll_ns || v->pv.s.no_poll)
		return false;
	uint64_t end = time_ns() + v->halt_poll_ns;
	unsigned others = __atomic_fetch_add(&vm->halt.polling, 1, __ATOMIC_RELAXED);
	bool over = false;
	while (others < MAX(cpu_count() / 2, 1U) && !(over = is_over(v)) && !sched_is_short() && time_ns() < end)
		cpu_relax();
	__atomic_fetch_sub(&vm->halt.polling, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&vm->halt.polls, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&vm->halt.woken, over, __ATOMIC_RELAXED);
	return over;
}
