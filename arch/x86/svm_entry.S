/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The AMD-V world switch (svm.h). VMRUN saves little of the host (RIP, RSP, RAX, CRs, RFLAGS, CS/SS/DS/ES), so the callee-
 * saved registers go to the stack; FS, GS, TR, LDTR and the SYSCALL MSRs come back from the host's own VMCB by VMLOAD, where
 * svm_cpu_on has saved them once.
 *
 * GIF is off from CLGI to STGI: with RFLAGS.IF = 1 at VMRUN and V_INTR_MASKING, a physical interrupt ends the guest but is
 * only taken when the caller turns interrupts on again.
 */
#include "arch/x86/hv_regs.inc"

	.text
	.globl svm_world_switch
	.type svm_world_switch, @function
svm_world_switch:
	push %rbp
	mov %rsp, %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	push %rdx               /* host VMCB */
	push %rdi               /* registers */
	mov %rsi, %rax
	clgi
	sti
	GUEST_REGS_LOAD
	vmload %rax
	vmrun %rax
	vmsave %rax
	GUEST_REGS_SAVE
	add $8, %rsp
	pop %rax                /* host VMCB */
	vmload %rax
	cli
	stgi
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	cld
	ret
	.size svm_world_switch, . - svm_world_switch
	.section .note.GNU-stack,"",@progbits
