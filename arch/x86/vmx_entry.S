/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VT-x world switch (vmx.h). An exit restores RSP, RIP, segments, control registers and EFER from the VMCS and leaves
 * RFLAGS with interrupts off, so only general registers are moved here. They belong to whoever made the last switch.
 */
#include "arch/x86/hv_regs.inc"
#include "arch/x86/vmx.h"

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
	mov $VMCS_HOST_RSP, %eax
	vmwrite %rsp, %rax
	test %sil, %sil         /* launched? kept in ZF: moves leave flags alone */
	mov 8*0(%rdi), %rax
	GUEST_REGS_LOAD
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
	GUEST_REGS_SAVE
	mov %rax, 8*0(%rdi)
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
