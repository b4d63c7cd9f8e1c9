/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GDT, TSS and IDT. Each CPU has a GDT and TSS of its own (struct cpu.arch); the IDT is one for all. There is no user
 * mode: ring 0 code and data, and a TSS only for the interrupt stack table.
 */
#include "arch/x86/hw/segment.h"
#include "arch/x86/x86.h"

#define DATA_SELECTOR 0x10
#define TSS_SELECTOR  0x18

static struct gate {
	uint16_t offset0, selector;
	uint16_t ist_type;
	uint16_t offset1;
	uint32_t offset2, reserved;
} idt[256] __attribute__((aligned(16)));

struct table_register {
	uint16_t limit;
	uint64_t base;
} PACKED;

struct desc boot_desc;
char boot_ist_stacks[(IST_COUNT - 1) * IST_STACK_SIZE] __attribute__((aligned(16)));

void idt_init(void)
{
	static const uint8_t ist[32] = { [VEC_DF] = IST_DF, [VEC_NMI] = IST_NMI, [VEC_MC] = IST_MC };

	for (unsigned i = 0; i < 256; i++) {
		uintptr_t stub = (uintptr_t)trap_stubs + i * 16;
		idt[i] = (struct gate){
			.offset0 = (uint16_t)stub,
			.selector = CODE_SELECTOR,
			.ist_type = (uint16_t)(GATE_INTERRUPT | (i < 32 ? ist[i] : IST_NONE)),
			.offset1 = (uint16_t)(stub >> 16),
			.offset2 = (uint32_t)(stub >> 32),
		};
	}
}

void desc_load(struct cpu *c)
{
	struct desc *d = c->arch;
	uint64_t tss = (uintptr_t)&d->tss;
	struct table_register gdtr = { sizeof(d->gdt) - 1, (uintptr_t)d->gdt };
	struct table_register idtr = { sizeof(idt) - 1, (uintptr_t)idt };

	d->tss.iomap = sizeof(d->tss);
	d->gdt[0] = 0;
	d->gdt[CODE_SELECTOR / 8] = DESC_CODE64;
	d->gdt[DATA_SELECTOR / 8] = DESC_DATA;
	d->gdt[TSS_SELECTOR / 8] =
		DESC_TSS64 | (sizeof(d->tss) - 1) | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56;
	d->gdt[TSS_SELECTOR / 8 + 1] = tss >> 32;

	__asm__ volatile("lgdt %0" ::"m"(gdtr));
	__asm__ volatile("pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq; 1:" ::"i"(CODE_SELECTOR)
			 : "rax", "memory");
	__asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss; mov %1, %%fs; mov %1, %%gs" ::"r"(DATA_SELECTOR),
			 "r"(0));
	wrmsr(MSR_GS_BASE, (uintptr_t)c); /* after the selector, which clears it */
	wrmsr(MSR_KERNEL_GS_BASE, 0);
	wrmsr(MSR_FS_BASE, 0);
	__asm__ volatile("lldt %w0" ::"r"(0));
	__asm__ volatile("ltr %w0" ::"r"(TSS_SELECTOR));
	__asm__ volatile("lidt %0" ::"m"(idtr));
}
