/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More than one CPU: starting the others, calling a function on all of them, and stopping them when all is lost.
 *
 * A CPU comes up through trampoline.S, sets itself up, says "arrived" and waits for leave. Until then it can be sent
 * back with INIT, so one that comes too late meets neither a reused stack nor another CPU's data.
 */
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "arch/x86/trampoline.h"
#include "arch/x86/tsc_sync.h"
#include "arch/x86/x86.h"
#include "kernel/base/hva.h"
#include "kernel/base/err.h"
#include <string.h>

#define BOOT_STACK_SIZE 16384UL
#define TSC_PATIENCE_US 2000000UL /* for one answer; it takes longer than 1 us only where a hypervisor is below */

struct cpu_page { /* what a CPU other than the first has, one allocation */
	struct cpu cpu;
	struct desc desc;
};
_Static_assert(sizeof(struct trampoline_args) <= TRAMPOLINE_SIZE - TRAMPOLINE_ARGS, "fits");

static enum { AP_COMING, AP_ARRIVED, AP_GO } ap_state; /* [a] of the one CPU being started */
static void (*ap_entry)(void);
static struct tsc_sync ap_sync; /* with the one CPU being started */

static void tsc_step(int64_t ticks)
{
	if (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_TSC_ADJUST))
		wrmsr(MSR_TSC_ADJUST, rdmsr(MSR_TSC_ADJUST) + (uint64_t)ticks); /* exact (SDM 3B 18.17.3) */
	else
		wrmsr(MSR_TSC, rdtsc() + (uint64_t)ticks);
}
static const struct tsc_clock tsc_clock = { rdtsc_ordered, tsc_step };

noreturn void smp_cpu_main(struct cpu *c);
void smp_cpu_main(struct cpu *c) /* entry.S */
{
	desc_load(c);
	cpu_ctrl_init();
	cpu_smep_on();
	apic_init_cpu();
	__atomic_store_n(&ap_state, AP_ARRIVED, __ATOMIC_RELEASE);
	while (__atomic_load_n(&ap_state, __ATOMIC_ACQUIRE) != AP_GO) {
		tsc_sync_answer(&ap_sync, &tsc_clock);
		cpu_relax();
	}
	__atomic_store_n(&c->online, true, __ATOMIC_RELEASE);
	ap_entry();
	panic("CPU %u: its entry function returned", c->id);
}

static uint64_t ticks_of(uint64_t us) { return (arch_tsc_hz ? arch_tsc_hz : 4000000000ULL) / 1000000 * us; }

static bool ap_wait(uint64_t us)
{
	uint64_t start = rdtsc(), ticks = ticks_of(us);

	do {
		if (__atomic_load_n(&ap_state, __ATOMIC_ACQUIRE) == AP_ARRIVED)
			return true;
		cpu_relax();
	} while (rdtsc() - start < ticks);
	return false;
}

/* Should it still come, or be here: to wait for a SIPI again. */
static void ap_send_back(uint32_t apic_id)
{
	apic_send(apic_id, DELIVERY(DELIVERY_INIT) | ICR_ASSERT | ICR_LEVEL);
	cpu_delay_us(1000);
}

/*
 * INIT, SIPI, SIPI. Processors of this century need no 10 ms after INIT and mostly no second SIPI, which would cost
 * seconds on a big machine: so once in a hurry, and if that fails once more by the book.
 */
static bool ap_start(uint32_t apic_id, const struct trampoline_args *args, hpa_t trampoline, char *page)
{
	static const struct {
		uint64_t after_init, after_sipi, after_second;
	} us[] = { { 20, 5000, 10000 }, { 10000, 200, 2000000 } };
	uint32_t sipi = DELIVERY(DELIVERY_SIPI) | (uint32_t)(trampoline >> PAGE_SHIFT);

	for (unsigned i = 0; i < ARRAY_SIZE(us); i++) {
		apic_send(apic_id, DELIVERY(DELIVERY_INIT) | ICR_ASSERT | ICR_LEVEL);
		cpu_delay_us(us[i].after_init);
		/* In INIT it does not touch the page; an earlier attempt may have changed it. */
		memcpy(page, trampoline_start, TRAMPOLINE_SIZE);
		memcpy(page + TRAMPOLINE_SIZE, (char *)hva_of(paging_root()) + TRAMPOLINE_SIZE,
		       PAGE_SIZE - TRAMPOLINE_SIZE);
		memcpy(page + TRAMPOLINE_ARGS, args, sizeof(*args));
		__atomic_store_n(&ap_state, AP_COMING, __ATOMIC_SEQ_CST);
		apic_send(apic_id, sipi);
		if (ap_wait(us[i].after_sipi))
			return true;
		apic_send(apic_id, sipi);
		if (ap_wait(us[i].after_second))
			return true;
	}
	ap_send_back(apic_id);
	return false;
}

/* Memory of a CPU's struct cpu, descriptors, and stacks. NULL: none. */
static struct cpu *ap_alloc(uint32_t apic_id, char **stack)
{
	struct cpu_page *p = stack_alloc(ALIGN_UP(sizeof(*p), PAGE_SIZE));
	unsigned i = 1;

	if (!p)
		return NULL;
	p->cpu.self = &p->cpu;
	p->cpu.apic_id = apic_id;
	p->cpu.arch = &p->desc;
	for (; i < IST_COUNT; i++) {
		char *ist = stack_alloc(IST_STACK_SIZE);
		if (!ist)
			goto fail;
		p->desc.tss.ist[i - 1] = (uintptr_t)ist + IST_STACK_SIZE;
	}
	*stack = stack_alloc(BOOT_STACK_SIZE);
	if (*stack)
		return &p->cpu;
fail:
	while (--i)
		stack_free((char *)(uintptr_t)p->desc.tss.ist[i - 1] - IST_STACK_SIZE, IST_STACK_SIZE);
	stack_free(p, ALIGN_UP(sizeof(*p), PAGE_SIZE));
	return NULL;
}

static void ap_free(struct cpu *c, char *stack)
{
	struct cpu_page *p = CONTAINER_OF(c, struct cpu_page, cpu);

	stack_free(stack, BOOT_STACK_SIZE);
	for (unsigned i = 1; i < IST_COUNT; i++)
		stack_free((char *)(uintptr_t)p->desc.tss.ist[i - 1] - IST_STACK_SIZE, IST_STACK_SIZE);
	stack_free(p, ALIGN_UP(sizeof(*p), PAGE_SIZE));
}

unsigned arch_smp_start(const uint32_t *apic_ids, unsigned n, hpa_t trampoline, void (*entry)(void),
			void (*stepped)(unsigned cpu, int64_t off), void (*missing)(uint32_t apic_id, const char *why))
{
	char *page = hva_of(trampoline); /* RAM, hence in the direct map */

	BUG_ON(trampoline >= 0xa0000 || (trampoline & PAGE_MASK) || !trampoline);
	ap_entry = entry;
	for (unsigned i = 0; i < n; i++) {
		char *stack;
		struct cpu *c;
		struct trampoline_args args;
		int64_t off;

		if (apic_ids[i] == boot_cpu.apic_id)
			continue;
		c = cpu_count() < CPU_MAX ? ap_alloc(apic_ids[i], &stack) : NULL;
		if (!c) {
			missing(apic_ids[i], "there is no memory for it");
			continue;
		}
		args = (struct trampoline_args){
			.cr3 = paging_root(),
			.stack = (uintptr_t)stack + BOOT_STACK_SIZE,
			.cpu = (uintptr_t)c,
			.entry = (uintptr_t)smp_entry,
			.efer = rdmsr(MSR_EFER) & (EFER_LME | EFER_NXE),
		};
		ap_sync = (struct tsc_sync){ 0 }; /* nobody looks at it now */
		if (!ap_start(apic_ids[i], &args, trampoline, page)) {
			ap_free(c, stack);
			missing(apic_ids[i], "it did not start");
			continue;
		}
		uint64_t flags = cpu_irq_save();
		int err = tsc_sync_ask(&ap_sync, &tsc_clock, ticks_of(TSC_PATIENCE_US), &off);
		cpu_irq_restore(flags);
		if (err) {
			ap_send_back(apic_ids[i]);
			ap_free(c, stack);
			missing(apic_ids[i], "its time-stamp counter cannot be made to agree with the first CPU's");
			continue;
		}
		cpu_add(c);
		if (off)
			stepped(c->id, off);
		__atomic_store_n(&ap_state, AP_GO, __ATOMIC_RELEASE);
		while (!__atomic_load_n(&c->online, __ATOMIC_ACQUIRE)) /* it has arrived: this ends at once */
			cpu_relax();
	}
	return cpu_count();
}

/* ---- Calling a function on the other CPUs: one call at a time, all wait for all. ---- */

static struct {
	uint32_t busy;    /* [a] a caller is at work */
	uint32_t pending; /* [a] CPUs that have not done it yet */
	void (*fn)(void *arg);
	void *arg;
} call;
static bool call_wanted[CPU_MAX]; /* [a] by CPU id */
static bool stopping;             /* [a] arch_stop_others() */
static uint32_t stopped;          /* [a] */

bool smp_may_call_others(void)
{
	uint64_t flags = cpu_irq_save();
	bool may = (flags & RFLAGS_IF) && !this_cpu()->preempt_off && !this_cpu()->irq_depth;
	cpu_irq_restore(flags);
	return may;
}

void smp_call_run(void)
{
	if (!__atomic_exchange_n(&call_wanted[this_cpu()->id], false, __ATOMIC_ACQUIRE))
		return;
	call.fn(call.arg);
	__atomic_fetch_sub(&call.pending, 1, __ATOMIC_RELEASE);
}

/* Interrupts stay on throughout: a CPU that waits for its turn, or for answers, answers the calls of others. */
void irq_call_others(void (*fn)(void *arg), void *arg)
{
	uint64_t flags = cpu_irq_save();
	struct cpu *c = this_cpu();
	unsigned n = cpu_count();
	uint32_t pending = 0;

	BUG_ON(!(flags & RFLAGS_IF));
	c->preempt_off++;
	cpu_irq_on();
	while (__atomic_exchange_n(&call.busy, 1, __ATOMIC_ACQUIRE))
		cpu_relax();
	call.fn = fn;
	call.arg = arg;
	for (unsigned i = 0; i < n; i++)
		pending += i != c->id && cpu_get(i)->online;
	__atomic_store_n(&call.pending, pending, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < n && pending; i++) {
		if (i == c->id || !cpu_get(i)->online)
			continue;
		__atomic_store_n(&call_wanted[i], true, __ATOMIC_RELEASE);
		irq_ipi(i, IRQ_VEC_CALL);
		pending--; /* one that came online meanwhile is not asked: it holds nothing old */
	}
	while (__atomic_load_n(&call.pending, __ATOMIC_ACQUIRE) && !__atomic_load_n(&stopping, __ATOMIC_RELAXED))
		cpu_relax();
	__atomic_store_n(&call.busy, 0, __ATOMIC_RELEASE);

	cpu_irq_off();
	if (--c->preempt_off == 0 && c->need_resched && arch_hooks.irq_exit)
		arch_hooks.irq_exit();
	cpu_irq_on();
}

bool smp_stop_here(void)
{
	if (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE))
		return false;
	__atomic_fetch_add(&stopped, 1, __ATOMIC_RELEASE);
	return true;
}

void arch_stop_others(void)
{
	const struct cpu *me = this_cpu();
	uint32_t asked = 0;

	if (__atomic_exchange_n(&stopping, true, __ATOMIC_SEQ_CST)) { /* another CPU panics too: leave it the stage */
		cpu_delay_us(10000);                                  /* its NMI ends us here */
		return;
	}
	for (unsigned i = 0; i < cpu_count(); i++) {
		if (cpu_get(i) != me && cpu_get(i)->online) {
			apic_send(cpu_get(i)->apic_id, DELIVERY(DELIVERY_NMI) | ICR_ASSERT);
			asked++;
		}
	}
	for (unsigned ms = 0; ms < 100 && __atomic_load_n(&stopped, __ATOMIC_ACQUIRE) < asked; ms++)
		cpu_delay_us(1000);
}
