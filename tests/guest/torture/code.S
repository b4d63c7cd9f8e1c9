/* SPDX-License-Identifier: BSD-2-Clause */
/* What the torture guest runs in assembly: code to be stepped through, the FPU, and the programs in ring 3. */
	.text

/* An instruction that a single step stops behind; their number is steps_count. */
	.set nsteps, 0
	.macro S insn:vararg
	\insn
	.set nsteps, nsteps + 1
	.endm

/*
 * uint64_t steps_run(uint64_t x): one instruction after the other with RFLAGS.TF, those that leave the guest among them.
 * Each that is followed by a #DB is marked S; the stop behind INT3 and INT n is that of the instruction after it.
 */
	.globl steps_run, steps_begin, steps_end
steps_run:
	push %rbx
	push %r12
	mov %rdi, %r12
	pushfq
	orq $0x100, (%rsp)
	popfq
steps_begin:
	S nop
	S add $0x11, %r12
	S mov $0x40000000, %eax
	S cpuid
	S xor %rbx, %r12
	S push %r12
	S pop %rax
	S mov $0x3ff, %edx
	S mov $0x5a, %al
	S out %al, %dx
	S xor %eax, %eax
	S in %dx, %al
	S add %rax, %r12
	S mov $0xc0000080, %ecx
	S rdmsr
	S wrmsr
	S add %rax, %r12
	S mov $0xc0000102, %ecx
	S rdmsr
	S call 1f
	S jmp 2f
1:	S lea 7(%r12), %r12
	S ret
2:	S xor %ecx, %ecx
	S inc %ecx
	S loop 2b
	S cld
	S cli
	S nop
	S swapgs
	S swapgs
	S mov %cr3, %rax
	S mov %rax, %cr3
	S invlpg (%r12)
	S mov step_hole, %rax
	S mov (%rax), %rbx      /* a page fault first */
	S add %rbx, %r12
	int3
	S nop
	int $0x40
	S nop
	S rdtscp
	S add %rcx, %r12        /* TSC_AUX */
	S pushfq
	S popfq
	S mov %dr3, %rax
	S add %rax, %r12
	S mov $0x3ff, %edx
	S lea steps_bytes, %rsi
	S mov $3, %ecx
	S lodsb
	S rol $5, %r12
	S mov %r12, %rax
	S pushfq
	S andq $~0x100, (%rsp)
	S popfq
steps_end:
	sti
	pop %r12
	pop %rbx
	ret

/*
 * The same for what CPUs of this world do not agree on (and emulators less): the number of stops, not where they are. Each
 * is what its own CPU always does.
 */
	.globl odd_steps_run
odd_steps_run:
	push %rbx
	mov %ss, %ebx
	pushfq
	orq $0x100, (%rsp)
	popfq
	nop
	mov %ebx, %ss
	nop
	nop
	mov %ebx, %ss
	cld
	cli
	sti
	nop
	pause
	nop
	lea steps_bytes, %rsi
	lea steps_copy, %rdi
	mov $5, %ecx
	rep movsb
	mov $0x3ff, %edx
	lea steps_bytes, %rsi
	mov $4, %ecx
	rep outsb
	lea steps_copy, %rdi
	mov $2, %ecx
	rep insb
	pushfq
	andq $~0x100, (%rsp)
	popfq
	pop %rbx
	ret

/* Instructions with breakpoints on them: a fault before a CPUID, and before what follows it. RDI: where to write, RSI: read. */
	.globl break_run, break_cpuid, break_next
break_run:
	push %rbx
	mov $0x40000000, %eax
break_cpuid:
	cpuid
break_next:
	nop
	movl %ebx, (%rdi)
	mov (%rsi), %rax
	nop
	pop %rbx
	ret

/* uint64_t shadow_run(uint64_t n): n times STI right before CLI, where no interrupt can come. */
	.globl shadow_run
shadow_run:
	cli
1:	sti
	cli
	dec %rdi
	jnz 1b
	ret

/* ---- the FPU: nothing in this guest's C code uses it, so what is loaded stays ---- */

/* void fpu_load(const struct fpu_in *f, bool avx): {st[4] of 16 bytes, ymm[16] of 32, mxcsr, fcw} */
	.globl fpu_load
fpu_load:
	fninit
	fldcw 0x244(%rdi)
	fldt 0x00(%rdi)
	fldt 0x10(%rdi)
	fldt 0x20(%rdi)
	fldt 0x30(%rdi)
	ldmxcsr 0x240(%rdi)
	test %esi, %esi
	jnz 1f
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups 0x40 + 32 * \n(%rdi), %xmm\n
	.endr
	ret
1:	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups 0x40 + 32 * \n(%rdi), %ymm\n
	.endr
	ret

/* void fpu_store(struct fpu_out *f, bool avx): {fxsave, 512 bytes; ymm[16] of 32} */
	.globl fpu_store
fpu_store:
	fxsave64 (%rdi)
	test %esi, %esi
	jz 1f
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups %ymm\n, 0x200 + 32 * \n(%rdi)
	.endr
1:	ret

/* void fpu_work(uint64_t turns): XMM0..7 and the top of the x87 stack, with exits in the middle. */
	.globl fpu_work
fpu_work:
	push %rbx
	fld %st(0)
1:	mulps %xmm1, %xmm0
	addps %xmm2, %xmm0
	sqrtps %xmm3, %xmm4
	subps %xmm4, %xmm1
	divps %xmm5, %xmm0
	addpd %xmm6, %xmm7
	mulpd %xmm7, %xmm6
	paddq %xmm0, %xmm2
	pxor %xmm4, %xmm5
	fadd %st(1), %st
	fsqrt
	fmul %st(2), %st
	fabs
	test $31, %edi
	jnz 2f
	xor %eax, %eax
	cpuid
2:	dec %rdi
	jnz 1b
	movq %xmm0, %rax
	movq %xmm7, %rcx
	xor %rcx, %rax
	movq %xmm2, %rcx
	add %rcx, %rax
	sub $16, %rsp
	fstpt (%rsp)
	xor (%rsp), %rax
	add $16, %rsp
	pop %rbx
	ret

/* ---- ring 3; position-independent, mapped elsewhere too ---- */
	.section .user, "ax"
	.balign 4096
	.globl user_start, user32_start
/* RDI: seed, RSI: data. Offsets 0x1000 * 1..8 of data are not there at first. Leaves by system call 0xff. */
user_start:
	mov %rdi, %rbx
	mov %rsi, %r12
	mov $8, %ebp
1:	imul $0x5851f42d, %rbx, %rbx
	add $0x14057b7f, %rbx
	mov %rbp, %rax
	shl $12, %rax
	mov %rbx, (%r12, %rax)  /* page fault in ring 3 */
	xor 8(%r12, %rax), %rbx
	add %fs:0, %rbx
	xor %gs:0, %rbx
	mov $1, %eax
	syscall
	add %rax, %rbx
	int $0x80
	xor %rax, %rbx
	mov %rbx, %r13
	mov $4, %r14d
2:	mov $0x40000000, %eax
	cpuid
	xor %rbx, %r13
	rol $7, %r13
	dec %r14d
	jnz 2b
	rdtscp
	add %rcx, %r13
	mov %r13, %rbx
	dec %ebp
	jnz 1b
	cli                     /* #GP; the handler goes on behind each of these */
	hlt
	mov $0x80, %edx
	in %dx, %al
	out %al, %dx
	rdmsr
	ud2
	pushfq
	orq $0x100, (%rsp)
	popfq
	nop
	add $3, %rbx
	mov $0x40000000, %eax
	mov %rbx, %r13
	cpuid
	mov %r13, %rbx
	nop
	pushfq
	andq $~0x100, (%rsp)
	popfq
	nop
	mov $0xff, %eax
	syscall
	ud2

	.code32
/* EDI: seed. Leaves by INT 0x81 with a value in EBX. */
user32_start:
	mov %edi, %esi
	mov $4, %ebp
1:	imul $0x41c64e6d, %esi, %esi
	add $12345, %esi
	push %esi
	mov $0x40000000, %eax
	cpuid
	pop %eax
	xor %ebx, %eax
	add %eax, %esi
	int $0x80
	dec %ebp
	jnz 1b
	mov %esi, %ebx
	int $0x81
	ud2
	.code64

	.data
	.globl steps_count, step_hole, steps_bytes, steps_copy
steps_count:
	.quad nsteps
step_hole:
	.quad 0
steps_bytes:
	.ascii "torture!"
steps_copy:
	.quad 0
	.section .note.GNU-stack,"",@progbits
