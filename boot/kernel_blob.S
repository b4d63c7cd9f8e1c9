/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's ELF file inside the loader, compressed (RFC 8878). The build gives its path: -DKERNEL_ZST='"..."'. */
	.section .rodata
	.balign 16
	.globl kernel_blob_start, kernel_blob_end
kernel_blob_start:
	.incbin KERNEL_ZST
kernel_blob_end:
	.byte 0
	.section .note.GNU-stack, "", %progbits
