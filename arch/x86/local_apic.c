/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (SDM 3A ch. 11, APM2 ch. 16): x2APIC through MSRs where the CPU has it, else xAPIC through memory. Its
 * timer is the kernel's: TSC-deadline where there is one, else the count-down timer, measured once against the TSC.
 */
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "arch/x86/x86.h"
#include "kernel/base/hva.h"
#include "kernel/base/err.h"

static bool x2apic;
static volatile char *regs; /* xAPIC */
static bool deadline_mode;
static uint64_t ticks_per_tsc; /* count-down ticks a TSC tick, 32.32 fixed point; 0: not measured yet */

static uint32_t apic_read(unsigned reg)
{
	return x2apic ? (uint32_t)rdmsr(MSR_X2APIC + reg) : mmio_read32(regs + reg * 16);
}

static void apic_write(unsigned reg, uint32_t v)
{
	if (x2apic)
		wrmsr(MSR_X2APIC + reg, v);
	else
		mmio_write32(regs + reg * 16, v);
}

static hpa_t apic_base(void) { return rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDR; }

void apic_remap(void)
{
	if (x2apic)
		return;
	regs = mmio_map(apic_base(), PAGE_SIZE);
	if (!regs)
		panic("no memory to map the local APIC");
}

void apic_init_cpu(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);
	unsigned max_lvt;

	if (this_cpu() == &boot_cpu) {
		x2apic = (base & APIC_BASE_EXTD) || (cpuid(1, 0).ecx & CPUID1_ECX_X2APIC);
		regs = hva_of(apic_base()); /* in the loader's tables; apic_remap() follows */
	}
	if (!(base & APIC_BASE_EN))
		wrmsr(MSR_APIC_BASE, base |= APIC_BASE_EN);
	if (x2apic && !(base & APIC_BASE_EXTD)) /* two steps: SDM 3A 11.12.5 */
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);

	apic_write(APIC_SVR, SVR_ENABLE | IRQ_VEC_SPURIOUS);
	apic_write(APIC_TPR, 0);
	max_lvt = apic_read(APIC_VERSION) >> 16 & 0xff;
	apic_write(APIC_LVT_TIMER, LVT_MASKED | IRQ_VEC_TIMER);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	apic_write(APIC_LVT_LINT1, DELIVERY(DELIVERY_NMI));
	if (max_lvt >= 3)
		apic_write(APIC_LVT_ERROR, LVT_MASKED | IRQ_VEC_SPURIOUS);
	if (max_lvt >= 4)
		apic_write(APIC_LVT_PMC, LVT_MASKED | IRQ_VEC_SPURIOUS);
	/* The thermal entry stays: firmware may have it deliver an SMI. */
	apic_write(APIC_ESR, 0);

	/* Firmware may have left interrupts in service; they would block all of lower priority for ever. */
	for (unsigned i = 0; i < 256; i++) {
		uint32_t in_service = 0;
		for (unsigned w = 0; w < 8; w++)
			in_service |= apic_read(APIC_ISR + w);
		if (!in_service)
			break;
		apic_eoi();
	}
}

void apic_eoi(void) { apic_write(APIC_EOI, 0); }

void apic_send(uint32_t apic_id, uint32_t icr)
{
	uint64_t flags;

	if (x2apic) {
		/* WRMSR to the APIC orders nothing: make earlier stores visible first (SDM 3A 11.12.3). */
		__asm__ volatile("mfence; lfence" ::: "memory");
		wrmsr(MSR_X2APIC + APIC_ICR, (uint64_t)apic_id << 32 | icr);
		return;
	}
	if (apic_id > 0xff) /* cannot be reached in xAPIC mode */
		return;
	flags = cpu_irq_save(); /* the two halves belong together */
	for (unsigned i = 0; i < 1000000 && (apic_read(APIC_ICR) & ICR_BUSY); i++)
		cpu_relax();
	apic_write(APIC_ICR_HIGH, apic_id << 24);
	apic_write(APIC_ICR, icr);
	cpu_irq_restore(flags);
}

/*
 * Ticks of the count-down timer a TSC tick, over 2 ms. The last pair of readings must lie close together: under an
 * emulator the host may take the CPU away between the two.
 */
static uint64_t measure(uint64_t tsc_hz)
{
	uint64_t start, before, after;
	uint32_t count;

	apic_write(APIC_INITIAL_COUNT, UINT32_MAX);
	start = rdtsc();
	while (rdtsc() - start < tsc_hz / 500)
		cpu_relax();
	for (unsigned tries = 0;; tries++) {
		before = rdtsc();
		count = apic_read(APIC_CURRENT_COUNT);
		after = rdtsc();
		if (after - before < tsc_hz / 50000 || tries == 10)
			break;
	}
	apic_write(APIC_INITIAL_COUNT, 0);
	if (count == UINT32_MAX || after == start)
		panic("the local APIC's timer does not count: tern cannot run here");
	return ((uint64_t)(UINT32_MAX - count) << 32) / ((before - start) + (after - before) / 2);
}

void irq_timer_init(uint64_t tsc_hz)
{
	if (this_cpu() == &boot_cpu) {
		arch_tsc_hz = tsc_hz;
		deadline_mode = cpuid(1, 0).ecx & CPUID1_ECX_TSC_DEADLINE;
	}
	if (deadline_mode) {
		apic_write(APIC_LVT_TIMER, LVT_TIMER_DEADLINE | IRQ_VEC_TIMER);
		__asm__ volatile("mfence" ::: "memory"); /* mode before the first deadline: SDM 3A 11.5.4.1 */
		return;
	}
	apic_write(APIC_DIVIDE, DIVIDE_BY_1);
	if (!ticks_per_tsc)
		ticks_per_tsc = measure(tsc_hz);
	apic_write(APIC_LVT_TIMER, IRQ_VEC_TIMER); /* one-shot */
}

void irq_timer_arm(uint64_t tsc)
{
	uint64_t now, ticks = 1;

	if (deadline_mode) {
		wrmsr(MSR_TSC_DEADLINE, tsc ? tsc : 1); /* 0 would disarm */
		return;
	}
	now = rdtsc();
	if (tsc > now) {
		unsigned __int128 t = ((unsigned __int128)(tsc - now) * ticks_per_tsc >> 32) + 1;
		ticks = t > UINT32_MAX ? UINT32_MAX
				       : (uint64_t)t; /* a far deadline: fires early, the kernel arms again */
	}
	apic_write(APIC_INITIAL_COUNT, (uint32_t)ticks);
}
