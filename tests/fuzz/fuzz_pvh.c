/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as an ELF file for PVH: loaded within the guest's memory, or refused with a reason. */
#include "tests/fuzz/kernel_file.h"
#include "vmm/pc/pvh_loader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_state s;
	struct why w = { "" };

	if (!kernel_file(data, size))
		return 0;
	size = img.kernel->size;
	if (size >= 0x200) { /* what a fuzzer would take long to guess */
		static const uint8_t head[] = { 0x7f, 'E', 'L', 'F', 2, 1 };
		memcpy(kernel, head, sizeof(head));
		put_le16(kernel + 18, 62);
		put_le64(kernel + 32, 64);
		put_le16(kernel + 54, 56);
		put_le16(kernel + 56, kernel[56] & 3);
		kernel[64] &= 5;
		kernel[120] &= 5;
		memcpy(kernel + 0x1fc, "Xen", 4);
	}
	if (!pvh_load(&g, &img, &s, &w)) {
		if (s.rip < MIB(1) || s.rip >= g.low || !gmem_ptr(&g, s.gpr[REG_RBX], 56))
			abort();
	} else if (!w.text[0]) {
		abort();
	}
	return 0;
}
