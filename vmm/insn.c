/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading guest code: the guest's own page tables walked in software, and lengths of the few instructions that exit. */
#include "arch/x86/cpu.h"
#include "vmm/vcpu.h"
#include <Zydis/Zydis.h>
#include <string.h>

#define PTE_P  BIT(0)
#define PTE_W  BIT(1)
#define PTE_PS BIT(7)
#define PTE_ADDR 0x000ffffffffff000ULL

/*
 * Long mode, or no paging at all. A 64-bit Linux is in one of these whenever it does what needs emulation; A and D bits
 * are left alone, since the CPU has set them already when it made the access that exits here.
 */
int walk_gva(struct vcpu *v, const struct hv_mode *m, uint64_t gva, bool write unused, gpa_t *gpa)
{
	if (!(m->cr0 & CR0_PG)) {
		*gpa = gva & 0xffffffff;
		return 0;
	}
	if (!(m->efer & EFER_LMA))
		return -ENOTSUP;
	uint64_t table = m->cr3 & PTE_ADDR;
	for (unsigned level = 4; level >= 1; level--) {
		unsigned shift = PAGE_SHIFT + 9 * (level - 1);
		const uint64_t *p = gmem_ptr(&v->vm->mem, table + (gva >> shift & 511) * 8, 8);
		uint64_t e = p ? __atomic_load_n(p, __ATOMIC_RELAXED) : 0;
		if (!(e & PTE_P))
			return -EFAULT;
		if (level == 1 || (level < 4 && (e & PTE_PS))) {
			uint64_t mask = (1ULL << shift) - 1;
			*gpa = (e & PTE_ADDR & ~mask) | (gva & mask);
			return 0;
		}
		table = e & PTE_ADDR;
	}
	return -EFAULT;
}

unsigned insn_fetch(struct vcpu *v, const struct hv_mode *m, uint8_t buf[INSN_MAX])
{
	uint64_t gva = m->long_mode ? v->hv->rip : (uint32_t)(m->cs_base + v->hv->rip);
	unsigned have = 0;
	while (have < INSN_MAX) {
		gpa_t gpa;
		unsigned n = (unsigned)MIN(INSN_MAX - have, PAGE_SIZE - ((gva + have) & PAGE_MASK));
		const void *p = walk_gva(v, m, gva + have, false, &gpa) ? NULL : gmem_ptr(&v->vm->mem, gpa, n);
		if (!p)
			break;
		memcpy(buf + have, p, n);
		have += n;
	}
	return have;
}

unsigned insn_length(struct vcpu *v, const uint8_t *op, unsigned n)
{
	struct hv_mode m;
	uint8_t buf[INSN_MAX];
	ZydisDecoder d;
	ZydisDecodedInstruction insn;
	vmm_hv()->get_mode(v->hv, &m);
	unsigned have = insn_fetch(v, &m, buf);
	if (have >= n && !memcmp(buf, op, n))
		return n;
	if (ZYAN_FAILED(ZydisDecoderInit(&d, m.long_mode ? ZYDIS_MACHINE_MODE_LONG_64 :
					   m.cs32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16,
					 m.long_mode ? ZYDIS_STACK_WIDTH_64 : m.cs32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16)) ||
	    ZYAN_FAILED(ZydisDecoderDecodeInstruction(&d, ZYAN_NULL, buf, have, &insn)))
		return 0;
	return insn.length;
}
