/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VT-x world switch (vmx.h). An exit restores RSP, RIP, segments, control registers and EFER from the VMCS and leaves
 * RFLAGS with interrupts off, so only general registers are moved here. They belong to whoever made the last switch.
 */
	.text
	.globl vmx_world_switch, vmx_exit_point
	.type vmx_world_switch, @function
vmx_world_switch:
	push %rbp
	mov %rsp, %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	push %rdi               /* registers */
	mov $0x6c14, %eax       /* HOST_RSP */
	vmwrite %rsp, %rax
	test %sil, %sil         /* launched? kept in ZF: moves leave flags alone */
	mov 8*0(%rdi), %rax
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
	jnz 1f
	vmlaunch
	jmp 2f
1:	vmresume
2:	/* refused: CF, no current VMCS, or ZF, INSTRUCTION_ERROR says; registers are still the guest's */
	pop %rdi
	setc %al
	setz %ah
	movzwl %ax, %eax
	jmp 3f
vmx_exit_point:
	push %rdi
	mov 8(%rsp), %rdi
	mov %rax, 8*0(%rdi)
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
	xor %eax, %eax
3:	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	cld
	ret
	.size vmx_world_switch, . - vmx_world_switch
	.section .note.GNU-stack,"",@progbits
