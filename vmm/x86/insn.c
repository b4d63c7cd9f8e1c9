/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading guest code: the guest's own page tables walked in software, and lengths of the few instructions that exit. */
#include "arch/x86/cpu.h"
#include "arch/x86/hw/pte.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/insn.h"
#include <Zydis/Zydis.h>
#include <string.h>

struct leaf {
	uint64_t entry; /* the leaf entry */
	gpa_t at;       /* where it is */
	gpa_t gpa;      /* what it maps gva to */
};
/*
 * The leaf that maps gva, every entry on the way having the bits `need`; here: gmem_all_here(g). 0, -EFAULT, or the
 * error with which one of the tables did not come.
 */
static inline __attribute__((always_inline)) int walk(const struct gmem *g, bool here, uint64_t cr3, uint64_t gva,
						      uint64_t need, struct leaf *l)
{
	uint64_t e = cr3;
#pragma GCC unroll 4
	for (unsigned level = 4, shift = PAGE_SHIFT + 27; level >= 1; level--, shift -= 9) {
		l->at = (e & PTE_ADDR) + (gva >> shift & 511) * 8;
		int err = gmem_load64(g, here, l->at, &e);
		if (err)
			return err;
		if ((e & need) != need)
			return -EFAULT;
		if (level == 1 || (level < 4 && (e & PTE_PS))) {
			uint64_t mask = (1ULL << shift) - 1;
			l->entry = e;
			l->gpa = (e & PTE_ADDR & ~mask) | (gva & mask);
			return 0;
		}
	}
	return -EFAULT;
}

/*
 * Long mode, or no paging at all. A 64-bit Linux is in one of these whenever it does what needs emulation. The access
 * that exits here has been checked by the CPU, but not the other end of a string move, nor that of INS: so rights are
 * checked and D is set. SMAP and protection keys are not looked at.
 */
int insn_walk(struct vcpu *v, const struct hv_mode *m, uint64_t gva, bool write, gpa_t *gpa)
{
	uint64_t need = PTE_P | (m->cpl == 3 ? PTE_U : 0) | (write && (m->cpl == 3 || (m->cr0 & CR0_WP)) ? PTE_W : 0);
	struct leaf l;
	if (!(m->cr0 & CR0_PG)) {
		*gpa = gva & 0xffffffff;
		return 0;
	}
	if (!(m->efer & EFER_LMA))
		return -ENOTSUP;
	int err = is_canonical(gva) ? walk(&v->vm->mem, gmem_all_here(&v->vm->mem), m->cr3, gva, need, &l) : -EFAULT;
	if (err) {
		v->hv->fault_address = gva;
		return err;
	}
	*gpa = l.gpa;
	if (write && !(l.entry & PTE_D)) {
		struct gmem_pin pin;
		err = gmem_pin_wait(&v->vm->mem, l.at, 8, GMEM_WRITE, &pin);
		if (err)
			return err;
		__atomic_fetch_or((uint64_t *)pin.p, PTE_A | PTE_D, __ATOMIC_RELAXED);
		gmem_unpin(&v->vm->mem, &pin);
	}
	return 0;
}

uint64_t insn_walk_fault(struct vcpu *v, const struct hv_mode *m, bool write)
{
	uint64_t gva = v->hv->fault_address;
	struct leaf l;
	if (!is_canonical(gva))
		return HV_EVENT_ERR(VEC_GP, 0);
	return HV_EVENT_ERR(VEC_PF, (walk(&v->vm->mem, gmem_all_here(&v->vm->mem), m->cr3, gva, PTE_P, &l) ? 0 : PF_P) |
					    (write ? PF_W : 0) | (m->cpl == 3 ? PF_U : 0));
}

int insn_copy(struct vcpu *v, const struct hv_mode *m, uint64_t gva, void *buf, size_t len, bool write)
{
	size_t n = MIN(len, PAGE_SIZE - (gva & PAGE_MASK)); /* in the first page; the rest is in the second */
	gpa_t gpa[2];
	for (unsigned i = 0; i < (len > n ? 2U : 1U); i++) {
		int err = insn_walk(v, m, gva + i * n, write, &gpa[i]);
		if (err || !gmem_is_ram(&v->vm->mem, gpa[i]))
			return err ? err : -ENXIO;
	}
	int err = write ? gmem_write(&v->vm->mem, gpa[0], buf, n) : gmem_read(&v->vm->mem, gpa[0], buf, n);
	if (!err && len > n)
		err = write ? gmem_write(&v->vm->mem, gpa[1], (char *)buf + n, len - n)
			    : gmem_read(&v->vm->mem, gpa[1], (char *)buf + n, len - n);
	return err;
}

bool insn_decoder(const struct hv_mode *m, ZydisDecoder *d)
{
	return m->long_mode ? ZYAN_SUCCESS(ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))
	       : m->cs32    ? ZYAN_SUCCESS(ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32))
			    : ZYAN_SUCCESS(ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16));
}

unsigned insn_fetch(struct vcpu *v, const struct hv_mode *m, uint8_t buf[INSN_MAX])
{
	uint64_t gva = m->long_mode ? v->hv->rip : (uint32_t)(m->cs_base + v->hv->rip);
	unsigned have = 0;
	while (have < INSN_MAX) {
		gpa_t gpa;
		unsigned n = (unsigned)MIN(INSN_MAX - have, PAGE_SIZE - ((gva + have) & PAGE_MASK));
		if (insn_walk(v, m, gva + have, false, &gpa) || gmem_read(&v->vm->mem, gpa, buf + have, n))
			break;
		have += n;
	}
	return have;
}

/*
 * Nearly always the instruction has no prefix and lies in one page: one walk, and no decoder. It has just been
 * executed, so no rights are looked at. This runs at every CPUID and MSR exit of a CPU that does not tell the next RIP.
 */
static bool opcode_at_rip(struct vcpu *v, const struct hv_mode *m, const uint8_t *op, unsigned n)
{
	const struct gmem *g = &v->vm->mem;
	const uint8_t *code;
	struct leaf l;
	if (!m->long_mode || (v->hv->rip & PAGE_MASK) + n > PAGE_SIZE ||
	    !gmem_all_here(g) || /* else the other way waits */
	    walk(g, true, m->cr3, v->hv->rip, PTE_P, &l) || !(code = gmem_ptr(g, l.gpa, n)))
		return false;
	for (; n && *code == *op; n--)
		code++, op++;
	return !n;
}

static __attribute__((noinline)) unsigned decode_length(struct vcpu *v, const struct hv_mode *m)
{
	uint8_t buf[INSN_MAX];
	ZydisDecoder d;
	ZydisDecodedInstruction insn;
	unsigned have = insn_fetch(v, m, buf);
	if (!insn_decoder(m, &d) || ZYAN_FAILED(ZydisDecoderDecodeInstruction(&d, ZYAN_NULL, buf, have, &insn)))
		return 0;
	return insn.length;
}

static bool is_prefix(uint8_t b) /* legacy ones, SDM 2A 2.1.1 */
{
	return b == 0x66 || b == 0x67 || (b & 0xfe) == 0xf2 || b == 0xf0 || (b & 0xe7) == 0x26 || (b & 0xfe) == 0x64;
}

bool insn_opcode(struct vcpu *v, const struct hv_mode *m, struct insn_op *op)
{
	uint8_t b[INSN_MAX + 3] = { 0 };
	unsigned n = insn_fetch(v, m, b), i = 0;
	*op = (struct insn_op){ 0 };
	for (; i < n && is_prefix(b[i]); i++)
		op->lock |= b[i] == 0xf0;
	if (m->long_mode && (b[i] & 0xf0) == 0x40)
		op->rex_w = b[i++] & BIT(3);
	op->opcode = (uint32_t)b[i] << 8 | b[i + 1];
	op->len = (uint8_t)(i + 2);
	if (op->opcode == 0x0f01) {
		op->opcode = op->opcode << 8 | b[i + 2];
		op->len++;
	}
	return b[i] == 0x0f && op->len <= n;
}

void insn_unreadable(struct vcpu *v)
{
	struct hv_mode m;
	vmm_hv()->get_mode(v->hv, &m);
	if ((m.cr0 & CR0_PG) && !(m.efer & EFER_LMA))
		vm_fail(v->vm, "the guest pages in 32-bit mode, whose tables tern does not read (RIP %lx)", v->hv->rip);
}

unsigned insn_length(struct vcpu *v, unsigned len, const uint8_t *op, unsigned n)
{
	struct hv_mode m;
	if (len)
		return len;
	vmm_hv()->get_mode(v->hv, &m);
	len = opcode_at_rip(v, &m, op, n) ? n : decode_length(v, &m);
	if (!len)
		insn_unreadable(v);
	return len;
}
