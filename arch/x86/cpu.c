/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of CPUs, and what every CPU has to switch on before it runs C in earnest: control registers, EFER, PAT.
 * Also the shape of a task's first stack frame.
 */
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/ports.h"
#include "arch/x86/memory.h"
#include "arch/x86/x86.h"

struct cpu boot_cpu = { .self = &boot_cpu, .online = true, .arch = &boot_desc };
uint64_t arch_tsc_hz;
static struct cpu *cpus[CPU_MAX] = { &boot_cpu };
static unsigned ncpus = 1;

unsigned cpu_count(void) { return __atomic_load_n(&ncpus, __ATOMIC_ACQUIRE); }

struct cpu *cpu_get(unsigned id) { return id < cpu_count() ? cpus[id] : NULL; }

void cpu_add(struct cpu *c) /* only arch_smp_start() does, one after another */
{
	c->id = ncpus;
	cpus[ncpus] = c;
	__atomic_store_n(&ncpus, ncpus + 1, __ATOMIC_RELEASE);
}

void cpu_delay_us(uint64_t us)
{
	uint64_t hz = arch_tsc_hz ? arch_tsc_hz : 4000000000ULL; /* rather too long than too short */
	uint64_t start = rdtsc(), ticks = hz / 1000000 * us;
	while (rdtsc() - start < ticks)
		cpu_relax();
}

void cpu_ctrl_init(void)
{
	uint64_t efer = rdmsr(MSR_EFER);
	uint64_t cr4 = (read_cr4() & CR4_LA57) | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;

	efer &= ~(uint64_t)(EFER_SCE | EFER_SVME);
	if (cpuid(0x80000000, 0).eax >= 0x80000001 && (cpuid(0x80000001, 0).edx & CPUID80000001_EDX_NX))
		efer |= EFER_NXE;
	wrmsr(MSR_EFER, efer);
	write_cr0(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG);
	if (cpuid(1, 0).ecx & CPUID1_ECX_XSAVE)
		cr4 |= CR4_OSXSAVE;
	write_cr4(cr4);
	if (cr4 & CR4_OSXSAVE)
		__asm__ volatile("xsetbv" ::"c"(0), "a"(3), "d"(0)); /* x87 and SSE; hv widens it for guests */
	__asm__ volatile("fninit");
	wrmsr(MSR_PAT, PAT_POWER_ON);
}

void cpu_smep_on(void)
{
	if (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & CPUID7_EBX_SMEP))
		write_cr4(read_cr4() | CR4_SMEP);
}

void arch_init(uint32_t boot_apic_id)
{
	memory_init();
	boot_cpu.apic_id = boot_apic_id;
	for (unsigned i = 1; i < IST_COUNT; i++)
		boot_desc.tss.ist[i - 1] = (uintptr_t)boot_ist_stacks + i * IST_STACK_SIZE;
	idt_init();
	desc_load(&boot_cpu);
	cpu_ctrl_init();
	outb(PIC_MASTER_MASK, 0xff); /* the two 8259s, if there are any: all lines masked */
	outb(PIC_SLAVE_MASK, 0xff);
	apic_init_cpu();
}

void arch_stack_start(void); /* entry.S */

uint64_t arch_stack_prepare(void *stack_top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = (uint64_t *)ALIGN_DOWN((uintptr_t)stack_top, 16UL);

	/* Two zeros end a backtrace and align: arch_stack_start begins with RSP 16-byte aligned, as before any call. */
	*--sp = 0;
	*--sp = 0;
	*--sp = (uintptr_t)arch_stack_start; /* arch_switch() returns there */
	*--sp = 0;                           /* RBP */
	*--sp = (uintptr_t)fn;               /* RBX */
	*--sp = (uintptr_t)arg;              /* R12 */
	*--sp = 0;                           /* R13 */
	*--sp = 0;                           /* R14 */
	*--sp = 0;                           /* R15 */
	return (uintptr_t)sp;
}
