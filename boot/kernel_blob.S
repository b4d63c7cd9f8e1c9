/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel inside the loader: the stripped ELF file. In .data, for GNU-EFI's linker script knows few sections. */
	.section .data.kernel_blob, "aw", @progbits
	.balign 4096
	.globl kernel_blob, kernel_blob_end
kernel_blob:
	.incbin KERNEL_ELF
kernel_blob_end:
	.section .note.GNU-stack, "", @progbits
