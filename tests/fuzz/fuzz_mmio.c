/* SPDX-License-Identifier: BSD-2-Clause */
/* Any instruction bytes, registers and page tables at an exit: the guest may fail, the host never does. */
#include "arch/x86/cpu.h"
#include "tests/unit/fake_vm.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An address where something is, mostly. */
static uint64_t place(uint8_t b)
{
	/* clang-format off */
	static const uint64_t at[] = {
		FV_DEV, FV_DEV + PAGE_SIZE - 3, FV_DATA,   FV_DATA + PAGE_SIZE - 3, MIB(2) - 3, 0, ~0ULL - 2,
		FV_PT,  FV_DEV + MIB(2),        GIB(4) - 1
	};
	/* clang-format on */
	return at[b % ARRAY_SIZE(at)] + (b >> 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fv *f;
	uint64_t *r;

	if (!f)
		f = fv_new();
	if (size < 20)
		return 0;
	fv_reset(f);
	r = f->hw.hv.gpr;
	for (unsigned i = 0; i < 16; i++)
		r[i] = place(data[i]);
	r[REG_RCX] = data[1] & 31;
	f->hw.hv.rflags = 2 | (data[16] & 1 ? BIT(10) : 0);
	f->vmcb.cpl = data[16] & 2 ? 3 : 0;
	if (data[16] & 4) /* compatibility, 32 and 16 bits, no paging */
		f->vmcb.cs.attr = data[16] & 8 ? 0x400 : 0;
	if (data[16] & 16)
		f->vmcb.cr0 &= ~CR0_PG;
	if (data[16] & 32)
		*fv_pte(f, FV_DATA) = FV_DEV_GPA | (data[16] & 7);
	if (data[16] & 64)
		f->vmcb.cr3 = place(data[17]);
	size_t n = size - 18 < 15 ? size - 18 : 15;
	fv_code(f, data + 18, n);
	if (data[16] & 128) /* the page ends inside the instruction */
		f->hw.hv.rip = FV_CODE + PAGE_SIZE - data[17] % 15, *fv_pte(f, FV_CODE + PAGE_SIZE) = 0;
	static const uint64_t code[] = { SVM_EXIT_NPF, SVM_EXIT_NPF,  SVM_EXIT_NPF,    SVM_EXIT_CPUID,
					 SVM_EXIT_MSR, SVM_EXIT_IOIO, SVM_EXIT_XSETBV, SVM_EXIT_EXCP_BASE + VEC_AC };
	for (unsigned i = 0; i < 8 && !f->fail[0]; i++) {
		uint64_t c = code[data[17] % ARRAY_SIZE(code)];
		uint64_t info1 = c == SVM_EXIT_IOIO ? (uint64_t)(FV_PORT + data[18] % 20) << 16 |
							      1U << (4 + data[18] % 3) | 0x200 | (data[19] & 0x1c0d)
						    : data[19] & 7;
		f->intinfo = data[16] & 1 ? f->vmcb.eventinj : 0;
		fv_exit(f, c, info1, c == SVM_EXIT_IOIO ? f->hw.hv.rip + 1 : FV_DEV_GPA + data[18] * 16);
	}
	return 0;
}
