/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where C begins: kernel entry, exception and interrupt stubs, task switch, and the few functions whose instructions may
 * fault. State at kernel_entry: kernel/handoff.h.
 */
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/regs.h"
#define BOOT_STACK_SIZE 32768

	.section .text.entry, "ax"
	.globl kernel_entry
kernel_entry: /* RDI = struct handoff * */
	cli
	cld
	movq	%rdi, %r12
	movq	$__bss_start, %rdi
	movq	$__bss_end, %rcx
	subq	%rdi, %rcx
	xorl	%eax, %eax
	rep stosb
	movq	$boot_stack_top, %rsp
	xorl	%ebp, %ebp /* ends a backtrace */

	/* GS base, so that this_cpu() works from the first line of C. */
	movq	$boot_cpu, %rax
	movq	%rax, %rdx
	shrq	$32, %rdx
	movl	$MSR_GS_BASE, %ecx
	wrmsr

	/* The stack protector's guard: RDRAND where there is one, TSC always; its low byte 0 stops string overruns. */
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	movabsq	$0x9e3779b97f4a7c15, %r13
	imulq	%rax, %r13
	movl	$1, %eax
	xorl	%ecx, %ecx
	cpuid
	testl	$CPUID1_ECX_RDRAND, %ecx
	jz	2f
	movl	$10, %ecx /* SDM 1, 7.3.17.1: ten tries */
1:	rdrand	%rax
	jc	3f
	decl	%ecx
	jnz	1b
2:	xorl	%eax, %eax
3:	xorq	%rax, %r13
	xorb	%r13b, %r13b
	movq	%r13, __stack_chk_guard

	movq	%r12, %rdi
	call	kernel_main
	ud2

/* The other CPUs, from the trampoline: RSP a stack of their own, RDI = struct cpu *, RCX = the final CR3. */
	.globl smp_entry
smp_entry:
	movq	%rcx, %cr3
	xorl	%ebp, %ebp
	call	smp_cpu_main
	ud2

	.text
/*
 * 256 stubs of 16 bytes: push an error code of 0 where the CPU pushes none, then the vector. Vectors with an error code:
 * SDM 3A table 6-1 (#DF #TS #NP #SS #GP #PF #AC #CP), APM2 table 8-1 adds #VC and #SX.
 */
	.balign	16
	.globl	trap_stubs
trap_stubs:
	.set	vec, 0
	.rept	256
	.balign	16
	.if	!(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)
	pushq	$0
	.endif
	.byte	0x68 /* push imm32 */
	.long	vec
	jmp	trap_common
	.set	vec, vec + 1
	.endr

	.balign	16
trap_common: /* the rest of struct trap_frame; RSP is 16-byte aligned after it */
	pushq	%rax
	pushq	%rbx
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%rbp
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	cld
	movq	%rsp, %rdi
	call	trap_dispatch
	.globl	trap_return
trap_return: /* what a backtrace finds where an interrupt came on top of something */
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rbp
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rbx
	popq	%rax
	addq	$16, %rsp
	iretq

/* void arch_switch(uint64_t *save, uint64_t load): arch_stack_prepare() in cpu.c builds the same frame. */
	.globl	arch_switch
arch_switch:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret

/* First code of a prepared stack: RBX = fn, R12 = arg, RBP = 0. */
	.globl	arch_stack_start
arch_stack_start:
	movq	%r12, %rdi
	call	*%rbx
	ud2 /* fn never returns */

/* bool rdmsr_safe(uint32_t msr, uint64_t *v) */
	.globl	rdmsr_safe
rdmsr_safe:
	movl	%edi, %ecx
.Lrdmsr:
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, (%rsi)
	movl	$1, %eax
	ret
/* bool wrmsr_safe(uint32_t msr, uint64_t v) */
	.globl	wrmsr_safe
wrmsr_safe:
	movl	%edi, %ecx
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
.Lwrmsr:
	wrmsr
	movl	$1, %eax
	ret
.Lfaulted:
	xorl	%eax, %eax
	ret

/* struct fixup: an instruction that may raise #GP, and where to go on if it did. */
	.section .rodata.fixups, "a"
	.balign	8
	.globl	fixups, fixups_end
fixups:
	.quad	.Lrdmsr, .Lfaulted
	.quad	.Lwrmsr, .Lfaulted
fixups_end:

/* The boot CPU's stack, later that of its idle task; the page below it is left unmapped (paging.c). */
	.section .bss.boot_stack, "aw", @nobits
	.balign	4096
	.globl	boot_stack_guard, boot_stack, boot_stack_top
boot_stack_guard:
	.skip	4096
boot_stack:
	.skip	BOOT_STACK_SIZE
boot_stack_top:

	.section .note.GNU-stack, "", @progbits
