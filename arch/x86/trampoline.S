/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From real mode to the kernel (SDM 3A 10.8.5): smp.c copies this to the page below 1 MiB that SIPI names. The final page
 * tables have no identity map and may lie above 4 GiB, so this one page is also the temporary table, at all four levels:
 *
 *   0x000  entry 0 -> this page      the indices of an address below 1 MiB are 0, 0, 0, page number, so the walk
 *     :    entry (page number)         stays in this page three times and ends at the entry for this page:
 *     :      -> this page              identity, for this page alone
 *   0x500  code, data                (page number < 0xa0, so its entry lies below 0x500)
 *   0x800  entries 256..511          copied from the kernel's PML4: the kernel, as it will be
 *
 * Entry 0 overlays the first instruction, which has run by then. Data starts as offsets into the page; the code adds the
 * page's address, so each attempt to start a CPU needs a fresh copy.
 */
#include "arch/x86/hw/pte.h"
#include "arch/x86/hw/regs.h"
#include "arch/x86/hw/segment.h"
#include "arch/x86/trampoline.h"
#define OFF(sym) ((sym) - trampoline_start)

	.section .rodata.trampoline, "a"
	.balign	16
	.globl	trampoline_start
	.code16
trampoline_start:
	jmp	start16

	.org	trampoline_start + TRAMPOLINE_CODE
start16:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	xorl	%ebx, %ebx
	movw	%ax, %bx
	shll	$4, %ebx /* EBX: address of this page, to the end */
	addl	%ebx, OFF(gdtr) + 2
	addl	%ebx, OFF(jmp32)
	addl	%ebx, OFF(jmp64)
	lgdtl	OFF(gdtr)
	movl	$(CR0_PE | CR0_MP | CR0_ET | CR0_NE), %eax /* and caches on */
	movl	%eax, %cr0
	ljmpl	*OFF(jmp32)

	.code32
start32:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	leal	(PTE_P | PTE_W)(%ebx), %eax
	movl	%ebx, %ecx
	shrl	$12, %ecx
	movl	%eax, (%ebx)
	movl	$0, 4(%ebx)
	movl	%eax, (%ebx, %ecx, 8)
	movl	$0, 4(%ebx, %ecx, 8)
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	%ebx, %cr3
	movl	$MSR_EFER, %ecx
	movl	TRAMPOLINE_ARGS + 32(%ebx), %eax
	xorl	%edx, %edx
	wrmsr
	movl	$(CR0_PG | CR0_WP | CR0_PE | CR0_MP | CR0_ET | CR0_NE), %eax
	movl	%eax, %cr0
	ljmpl	*OFF(jmp64)(%ebx)

	.code64
start64:
	movl	%ebx, %ebx /* upper halves are undefined after the switch */
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movq	TRAMPOLINE_ARGS + 0(%rbx), %rcx
	movq	TRAMPOLINE_ARGS + 8(%rbx), %rsp
	movq	TRAMPOLINE_ARGS + 16(%rbx), %rdi
	jmp	*TRAMPOLINE_ARGS + 24(%rbx)

	.balign	8
gdt:	.quad	0
	.quad	DESC_CODE32 /* 0x08 */
	.quad	DESC_DATA   /* 0x10 */
	.quad	DESC_CODE64 /* 0x18 */
gdtr:	.word	. - gdt - 1
	.long	OFF(gdt)
	.balign	4
jmp32:	.long	OFF(start32)
	.word	0x08
	.balign	4
jmp64:	.long	OFF(start64)
	.word	0x18

	.org	trampoline_start + TRAMPOLINE_ARGS /* refuses to assemble if the code has grown into it */
	.skip	TRAMPOLINE_SIZE - TRAMPOLINE_ARGS

	.section .note.GNU-stack, "", @progbits
