/* SPDX-License-Identifier: BSD-2-Clause */
/* Resetting the machine when ACPI did not do it: the ways a PC has, from the politest to the surest. */
#include "arch/x86/x86.h"

#define KBC_STATUS     0x64
#define KBC_INPUT_FULL 0x02
#define KBC_RESET      0xfe
#define RESET_CONTROL  0xcf9 /* PIIX, ICH, PCH and AMD FCH alike */

noreturn void arch_reset(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} PACKED no_idt;

	cpu_irq_off();
	for (unsigned i = 0; i < 1000 && (inb(KBC_STATUS) & KBC_INPUT_FULL); i++)
		cpu_delay_us(10);
	outb(KBC_STATUS, KBC_RESET);
	cpu_delay_us(10000);
	outb(RESET_CONTROL, 0x02); /* hard reset, then go */
	outb(RESET_CONTROL, 0x06);
	cpu_delay_us(10000);
	for (;;)
		__asm__ volatile("lidt %0; int3" ::"m"(no_idt)); /* triple fault */
}
