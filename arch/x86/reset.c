/* SPDX-License-Identifier: BSD-2-Clause */
/* Resetting the machine when ACPI did not do it: the ways a PC has, from the politest to the surest. */
#include "arch/x86/hw/ports.h"
#include "arch/x86/x86.h"

noreturn void arch_reset(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} PACKED no_idt;

	cpu_irq_off();
	for (unsigned i = 0; i < 1000 && (inb(KBC_STATUS) & KBC_INPUT_FULL); i++)
		cpu_delay_us(10);
	outb(KBC_COMMAND, KBC_RESET);
	cpu_delay_us(10000);
	outb(RST_CNT, RST_CNT_SYS_RST);
	outb(RST_CNT, RST_CNT_SYS_RST | RST_CNT_RST_CPU);
	cpu_delay_us(10000);
	for (;;)
		__asm__ volatile("lidt %0; int3" ::"m"(no_idt)); /* triple fault */
}
