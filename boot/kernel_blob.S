/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's ELF file inside the loader. The build gives its path: -DKERNEL_ELF='"..."'. */
	.section .rodata
	.balign 4096
	.globl kernel_blob_start, kernel_blob_end
kernel_blob_start:
	.incbin KERNEL_ELF
kernel_blob_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
