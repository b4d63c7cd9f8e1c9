/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The AMD-V world switch (svm.h). VMRUN saves little of the host (RIP, RSP, RAX, CRs, RFLAGS, CS/SS/DS/ES), so the callee-
 * saved registers go to the stack; FS, GS, TR, LDTR and the SYSCALL MSRs come back from the host's own VMCB by VMLOAD, where
 * svm_cpu_on has saved them once.
 *
 * GIF is off from CLGI to STGI: with RFLAGS.IF = 1 at VMRUN and V_INTR_MASKING, a physical interrupt ends the guest but is
 * only taken when the caller turns interrupts on again.
 */
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
	mov 8*1(%rdi), %rcx
	mov 8*2(%rdi), %rdx
	mov 8*3(%rdi), %rbx
	mov 8*5(%rdi), %rbp
	mov 8*6(%rdi), %rsi
	mov 8*8(%rdi), %r8
	mov 8*9(%rdi), %r9
	mov 8*10(%rdi), %r10
	mov 8*11(%rdi), %r11
	mov 8*12(%rdi), %r12
	mov 8*13(%rdi), %r13
	mov 8*14(%rdi), %r14
	mov 8*15(%rdi), %r15
	mov 8*7(%rdi), %rdi
	vmload %rax
	vmrun %rax
	vmsave %rax
	push %rdi
	mov 8(%rsp), %rdi
	mov %rcx, 8*1(%rdi)
	mov %rdx, 8*2(%rdi)
	mov %rbx, 8*3(%rdi)
	mov %rbp, 8*5(%rdi)
	mov %rsi, 8*6(%rdi)
	mov %r8, 8*8(%rdi)
	mov %r9, 8*9(%rdi)
	mov %r10, 8*10(%rdi)
	mov %r11, 8*11(%rdi)
	mov %r12, 8*12(%rdi)
	mov %r13, 8*13(%rdi)
	mov %r14, 8*14(%rdi)
	mov %r15, 8*15(%rdi)
	pop %rcx
	mov %rcx, 8*7(%rdi)
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
