/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt vectors: who has which, and what happens when one comes. All vectors mean the same on every CPU.
 *
 *   0..31      exceptions (traps.c)
 *   32..47     left empty: where an 8259 or firmware may still have something pending
 *   48..0xef   devices, given out by irq_alloc()
 *   0xf0..     tern's own: timer, reschedule, call; 0xff spurious
 */
#include "arch/x86/hw/apic.h"
#include "arch/x86/irq.h"
#include "arch/x86/x86.h"
#include "kernel/base/err.h"

#define VEC_FIRST 48
#define VEC_LAST  0xef

static struct handler {
	void (*fn)(void *arg); /* NULL: free. Written last, read first */
	void *arg;
} handlers[256];
static struct arch_lock lock; /* protects who owns which vector */

int irq_alloc(void (*fn)(void *arg), void *arg)
{
	uint64_t flags = arch_lock(&lock);
	int vector = -ENOSPC;

	for (int v = VEC_FIRST; v <= VEC_LAST; v++) {
		if (!handlers[v].fn) {
			handlers[v].arg = arg;
			__atomic_store_n(&handlers[v].fn, fn, __ATOMIC_RELEASE);
			vector = v;
			break;
		}
	}
	arch_unlock(&lock, flags);
	return vector;
}

static void nothing(void *arg unused) {}

void irq_free(int vector)
{
	BUG_ON(vector < VEC_FIRST || vector > VEC_LAST || !handlers[vector].fn);
	/*
	 * Handlers run with interrupts off, so a CPU that has answered the call is in none. A late one finds `nothing`.
	 */
	__atomic_store_n(&handlers[vector].fn, nothing, __ATOMIC_SEQ_CST);
	irq_call_others(nothing, NULL);
	__atomic_store_n(&handlers[vector].fn, NULL, __ATOMIC_RELEASE);
}

void irq_dispatch(unsigned vector)
{
	struct cpu *c = this_cpu();

	if (vector == IRQ_VEC_SPURIOUS) /* no EOI: SDM 3A 11.9 */
		return;
	c->irq_depth++;
	switch (vector) {
	case IRQ_VEC_TIMER:
		if (arch_hooks.timer)
			arch_hooks.timer();
		break;
	case IRQ_VEC_RESCHED: break;
	case IRQ_VEC_CALL: smp_call_run(); break;
	default: {
		void (*fn)(void *) = __atomic_load_n(&handlers[vector].fn, __ATOMIC_ACQUIRE);
		if (fn) /* else a stray one: nobody's any more, or not yet */
			fn(handlers[vector].arg);
	}
	}
	apic_eoi();
	if (--c->irq_depth == 0 && arch_hooks.irq_exit)
		arch_hooks.irq_exit();
}

void irq_msi_compose(unsigned cpu_id, int vector, uint64_t *addr, uint32_t *data)
{
	const struct cpu *c = cpu_get(cpu_id);

	if (!c || c->apic_id > 0xff) /* the address has 8 bits of APIC id; more needs an IOMMU */
		c = cpu_get(0);
	/* Physical destination, no redirection hint; edge, fixed delivery. */
	*addr = LAPIC_DEFAULT_BASE | (uint64_t)(c->apic_id & 0xff) << MSI_DEST_SHIFT;
	*data = (uint32_t)vector;
}

void irq_ipi(unsigned cpu_id, int vector)
{
	const struct cpu *c = cpu_get(cpu_id);

	if (c)
		apic_send(c->apic_id, ICR_ASSERT | (uint32_t)vector);
}
