/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The torture guest's way in and its gates: setup header (Linux boot protocol 2.12), 64-bit entry, one stub for each
 * vector, SYSCALL, and the way to ring 3 and back.
 */
	.section .setup, "a"
	.org 0x1f1
	.byte 1                 /* setup_sects: one after the first */
	.word 0
	.long image_paragraphs
	.word 0, 0, 0
	.word 0xaa55
	.byte 0xeb, 0x66        /* the header ends at 0x268 */
	.ascii "HdrS"
	.word 0x020c            /* version 2.12 */
	.org 0x211
	.byte 1                 /* loaded high */
	.org 0x22c
	.long 0x7fffffff        /* initrd_addr_max */
	.long 0x200000          /* kernel_alignment */
	.byte 0, 21
	.word 1                 /* xloadflags: a 64-bit entry point */
	.long 2047              /* cmdline_size */
	.org 0x258
	.quad BASE
	.long image_init_size
	.long 0

	.section .start, "ax"
	.org 0x200
	.globl start
start:
	cli
	cld
	mov %rsi, %r12
	lea bss_start(%rip), %rdi
	lea bss_end(%rip), %rcx
	sub %rdi, %rcx
	xor %eax, %eax
	rep stosb
	lea stack_top(%rip), %rsp
	mov %r12, %rdi
	call torture_main
1:	hlt
	jmp 1b

	.text
/* 256 stubs of 16 bytes: vector, with an error code or 0 before it. */
	.balign 16
	.globl stubs
stubs:
	.set v, 0
	.rept 256
	.balign 16
	.if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21 || v == 29 || v == 30)
	push $0
	.endif
	push $v
	jmp trap_common
	.set v, v + 1
	.endr

trap_common:
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	mov %rsp, %rbp
	and $-16, %rsp
	call trap
	mov %rbp, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq

/* Number in RAX, argument in RBX, answer in RAX. GS: {stack, user's RSP}. */
	.globl syscall_entry
syscall_entry:
	swapgs
	mov %rsp, %gs:8
	mov %gs:0, %rsp
	push %rcx
	push %r11
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	mov %rax, %rdi
	mov %rbx, %rsi
	sti
	call syscall
	cli
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %r11
	pop %rcx
	mov %gs:8, %rsp
	swapgs
	sysretq

/* uint64_t user_enter(const struct user *u): returns what the program leaves with, by user_leave. */
	.globl user_enter
user_enter:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	pushfq
	cli
	mov %rsp, user_return(%rip)
	push 0x20(%rdi)
	push 0x18(%rdi)
	push 0x10(%rdi)
	push 0x08(%rdi)
	push 0x00(%rdi)
	mov 0x30(%rdi), %rsi
	mov 0x28(%rdi), %rdi
	xor %eax, %eax
	xor %ebx, %ebx
	xor %ecx, %ecx
	xor %edx, %edx
	xor %ebp, %ebp
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d
	xor %r11d, %r11d
	xor %r12d, %r12d
	iretq
/* noreturn void user_leave(uint64_t value): from a system call or a trap. */
	.globl user_leave
user_leave:
	cli
	mov user_return(%rip), %rsp
	mov %rdi, %rax
	mov $0x10, %ecx
	mov %ecx, %ss
	popfq
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.bss
	.balign 4096
	.skip 32768
stack_top:
user_return:
	.skip 8
	.section .note.GNU-stack,"",@progbits
