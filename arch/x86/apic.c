/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (SDM 3A ch. 11, APM2 ch. 16): x2APIC through MSRs where the CPU has it, else xAPIC through memory. Its
 * timer is the kernel's: TSC-deadline where there is one, else the count-down timer, measured once against the TSC.
 */
#include "arch/x86/irq.h"
#include "arch/x86/paging.h"
#include "arch/x86/x86.h"
#include "kernel/err.h"

enum { /* register offsets, SDM 3A table 11-1; x2APIC: MSR 0x800 + offset / 16 */
       APIC_VERSION = 0x30,
       APIC_TPR = 0x80,
       APIC_EOI = 0xb0,
       APIC_SVR = 0xf0,
       APIC_ISR = 0x100, /* 8 registers */
       APIC_ESR = 0x280,
       APIC_ICR_LOW = 0x300,
       APIC_ICR_HIGH = 0x310,
       APIC_LVT_TIMER = 0x320,
       APIC_LVT_PERF = 0x340,
       APIC_LVT_LINT0 = 0x350,
       APIC_LVT_LINT1 = 0x360,
       APIC_LVT_ERROR = 0x370,
       APIC_TIMER_INITIAL = 0x380,
       APIC_TIMER_CURRENT = 0x390,
       APIC_TIMER_DIVIDE = 0x3e0,
};
#define LVT_MASKED          BIT(16)
#define LVT_NMI             0x400U
#define LVT_TSC_DEADLINE    BIT(18)
#define TIMER_DIVIDE_BY_1   0xbU
#define SVR_ENABLE          BIT(8)
#define ICR_PENDING         BIT(12)
#define APIC_BASE_EXTD      BIT(10)
#define APIC_BASE_ENABLE    BIT(11)
#define CPUID1_ECX_X2APIC   BIT(21)
#define CPUID1_ECX_DEADLINE BIT(24)

static bool x2apic;
static volatile char *regs; /* xAPIC */
static bool deadline_mode;
static uint64_t ticks_per_tsc; /* count-down ticks a TSC tick, 32.32 fixed point; 0: not measured yet */

static uint32_t apic_read(unsigned reg)
{
	return x2apic ? (uint32_t)rdmsr(MSR_X2APIC + reg / 16) : mmio_read32(regs + reg);
}

static void apic_write(unsigned reg, uint32_t v)
{
	if (x2apic)
		wrmsr(MSR_X2APIC + reg / 16, v);
	else
		mmio_write32(regs + reg, v);
}

static hpa_t apic_base(void) { return rdmsr(MSR_APIC_BASE) & 0x000ffffffffff000ULL; }

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
		regs = hva(apic_base()); /* in the loader's tables; apic_remap() follows */
	}
	if (!(base & APIC_BASE_ENABLE))
		wrmsr(MSR_APIC_BASE, base |= APIC_BASE_ENABLE);
	if (x2apic && !(base & APIC_BASE_EXTD)) /* two steps: SDM 3A 11.12.5 */
		wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);

	apic_write(APIC_SVR, SVR_ENABLE | IRQ_VEC_SPURIOUS);
	apic_write(APIC_TPR, 0);
	max_lvt = apic_read(APIC_VERSION) >> 16 & 0xff;
	apic_write(APIC_LVT_TIMER, LVT_MASKED | IRQ_VEC_TIMER);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	apic_write(APIC_LVT_LINT1, LVT_NMI);
	if (max_lvt >= 3)
		apic_write(APIC_LVT_ERROR, LVT_MASKED | IRQ_VEC_SPURIOUS);
	if (max_lvt >= 4)
		apic_write(APIC_LVT_PERF, LVT_MASKED | IRQ_VEC_SPURIOUS);
	/* The thermal entry stays: firmware may have it deliver an SMI. */
	apic_write(APIC_ESR, 0);

	/* Firmware may have left interrupts in service; they would block all of lower priority for ever. */
	for (unsigned i = 0; i < 256; i++) {
		uint32_t in_service = 0;
		for (unsigned w = 0; w < 8; w++)
			in_service |= apic_read(APIC_ISR + w * 0x10);
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
		wrmsr(MSR_X2APIC + APIC_ICR_LOW / 16, (uint64_t)apic_id << 32 | icr);
		return;
	}
	if (apic_id > 0xff) /* cannot be reached in xAPIC mode */
		return;
	flags = cpu_irq_save(); /* the two halves belong together */
	for (unsigned i = 0; i < 1000000 && (apic_read(APIC_ICR_LOW) & ICR_PENDING); i++)
		cpu_relax();
	apic_write(APIC_ICR_HIGH, apic_id << 24);
	apic_write(APIC_ICR_LOW, icr);
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

	apic_write(APIC_TIMER_INITIAL, UINT32_MAX);
	start = rdtsc();
	while (rdtsc() - start < tsc_hz / 500)
		cpu_relax();
	for (unsigned tries = 0;; tries++) {
		before = rdtsc();
		count = apic_read(APIC_TIMER_CURRENT);
		after = rdtsc();
		if (after - before < tsc_hz / 50000 || tries == 10)
			break;
	}
	apic_write(APIC_TIMER_INITIAL, 0);
	if (count == UINT32_MAX || after == start)
		panic("the local APIC's timer does not count: tern cannot run here");
	return ((uint64_t)(UINT32_MAX - count) << 32) / ((before - start) + (after - before) / 2);
}

void irq_timer_init(uint64_t tsc_hz)
{
	if (this_cpu() == &boot_cpu) {
		arch_tsc_hz = tsc_hz;
		deadline_mode = cpuid(1, 0).ecx & CPUID1_ECX_DEADLINE;
	}
	if (deadline_mode) {
		apic_write(APIC_LVT_TIMER, LVT_TSC_DEADLINE | IRQ_VEC_TIMER);
		__asm__ volatile("mfence" ::: "memory"); /* mode before the first deadline: SDM 3A 11.5.4.1 */
		return;
	}
	apic_write(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
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
	apic_write(APIC_TIMER_INITIAL, (uint32_t)ticks);
}
