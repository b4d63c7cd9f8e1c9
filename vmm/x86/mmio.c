/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Emulates the instruction that touched a device's memory: decoded by Zydis, carried out on the bus. Hot paths avoid
 * this (notify registers are ports, the APIC is MSRs), so it is written for clearness. Anything it does not know stops
 * the VM with the bytes, rather than guess.
 */
#include "vmm/x86/vcpu.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/insn.h"
#include "arch/x86/hw/apic.h"
#include "arch/x86/hw/regs.h"
#include "vmm/dev/vxapic.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/mmio.h"
#include <Zydis/Zydis.h>
#include <string.h>

struct mmio {
	struct vcpu *v;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	gpa_t gpa;
	uint64_t fault; /* the other end of a string move is not mapped: this event instead; 0: none */
	int err;        /* or it did not come */
};

static uint64_t trunc_to(uint64_t v, unsigned size) { return size >= 8 ? v : v & ((1ULL << size * 8) - 1); }

/* Number in hv.h's order, and whether it is AH, CH, DH or BH. -1: not a general register. */
static int reg_number(ZydisRegister r, bool *high)
{
	*high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
	if (*high)
		return r - ZYDIS_REGISTER_AH;
	if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
		return r - ZYDIS_REGISTER_AL;
	if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
		return r - ZYDIS_REGISTER_SPL + 4;
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return r - ZYDIS_REGISTER_AX;
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return r - ZYDIS_REGISTER_EAX;
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return r - ZYDIS_REGISTER_RAX;
	return -1;
}

static bool reg_read(struct mmio *x, const ZydisDecodedOperand *o, uint64_t *val)
{
	bool high;
	if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		*val = trunc_to(o->imm.value.u, x->insn.operand_width / 8);
		return true;
	}
	int n = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? reg_number(o->reg.value, &high) : -1;
	if (n < 0)
		return false;
	*val = trunc_to(x->v->hv->gpr[n] >> (high ? 8 : 0), o->size / 8);
	return true;
}

static bool reg_write(struct mmio *x, const ZydisDecodedOperand *o, uint64_t val)
{
	bool high;
	int n = o->type == ZYDIS_OPERAND_TYPE_REGISTER ? reg_number(o->reg.value, &high) : -1;
	if (n < 0)
		return false;
	uint64_t *r = &x->v->hv->gpr[n];
	if (o->size >= 32) /* a 32-bit write clears the upper half */
		*r = trunc_to(val, o->size / 8);
	else if (high)
		*r = (*r & ~0xff00ULL) | (val & 0xff) << 8;
	else
		*r = (*r & ~((1ULL << o->size) - 1)) | trunc_to(val, o->size / 8);
	return true;
}

/* Its own local APIC, which lies at one address for all vCPUs; else what is on the bus. */
static bool is_lapic(const struct vcpu *v, gpa_t gpa)
{
	return (gpa & ~(PAGE_SIZE - 1)) == LAPIC_DEFAULT_BASE && vlapic_is_xapic(&v->lapic);
}
static uint64_t device_read(struct vcpu *v, gpa_t gpa, unsigned size)
{
	if (is_lapic(v, gpa))
		return vxapic_read(&v->lapic, gpa & (PAGE_SIZE - 1), size, guest_ns(v->vm));
	return bus_read(&v->vm->machine.bus, BUS_MMIO, gpa, size);
}
static void device_write(struct vcpu *v, gpa_t gpa, unsigned size, uint64_t val)
{
	if (!is_lapic(v, gpa)) {
		bus_write(&v->vm->machine.bus, BUS_MMIO, gpa, size, val);
		return;
	}
	v->events.timer_check = 1;
	vxapic_write(&v->lapic, gpa & (PAGE_SIZE - 1), size, guest_ns(v->vm), (uint32_t)val);
}

static uint64_t mem_read(struct mmio *x, unsigned size) { return device_read(x->v, x->gpa, size); }
static void mem_write(struct mmio *x, unsigned size, uint64_t val)
{
	device_write(x->v, x->gpa, size, trunc_to(val, size));
}

#define ARITHMETIC (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

/* The flags of a logical operation's result (SDM 2: CF = OF = 0); of a comparison a - b. */
static void set_flags(struct vcpu *v, uint64_t a, uint64_t b, unsigned size, bool compare)
{
	uint64_t r = trunc_to(compare ? a - b : a, size), sign = 1ULL << (size * 8 - 1),
		 f = v->hv->rflags & ~ARITHMETIC;
	if (!r)
		f |= RFLAGS_ZF;
	if (r & sign)
		f |= RFLAGS_SF;
	if (!(popcount64(r & 0xff) & 1))
		f |= RFLAGS_PF;
	if (compare) {
		f |= a < b ? RFLAGS_CF : 0;
		f |= (a ^ b) & (a ^ r) & sign ? RFLAGS_OF : 0;
		f |= (a ^ b ^ r) & 0x10 ? RFLAGS_AF : 0;
	}
	v->hv->rflags = f;
}

static bool is_mem(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_MEMORY; }

/* op0 = op0 OP op1, one of them in device memory. */
static bool do_logic(struct mmio *x)
{
	unsigned size = x->op[0].size / 8;
	uint64_t a, b, r;
	if (is_mem(&x->op[0]))
		a = mem_read(x, size);
	else if (!reg_read(x, &x->op[0], &a))
		return false;
	if (is_mem(&x->op[1]))
		b = mem_read(x, size);
	else if (!reg_read(x, &x->op[1], &b))
		return false;
	b = trunc_to(b, size);
	switch ((int)x->insn.mnemonic) {
	case ZYDIS_MNEMONIC_AND: r = a & b; break;
	case ZYDIS_MNEMONIC_OR: r = a | b; break;
	case ZYDIS_MNEMONIC_XOR: r = a ^ b; break;
	case ZYDIS_MNEMONIC_TEST: set_flags(x->v, a & b, 0, size, false); return true;
	case ZYDIS_MNEMONIC_CMP: set_flags(x->v, a, b, size, true); return true;
	default: return false;
	}
	set_flags(x->v, r, 0, size, false);
	if (!is_mem(&x->op[0]))
		return reg_write(x, &x->op[0], r);
	mem_write(x, size, r);
	return true;
}

static void string_device(struct mmio *x, gpa_t gpa, unsigned size, bool write, uint64_t *val)
{
	if (write)
		device_write(x->v, gpa, size, *val);
	else
		*val = device_read(x->v, gpa, size);
}

/* The other end of a string move, one element at a time: guest RAM, or a device again. */
static bool string_end(struct mmio *x, const struct hv_mode *m, unsigned reg, unsigned size, bool write, uint64_t *val)
{
	gpa_t gpa;
	int err = insn_walk(x->v, m, x->v->hv->gpr[reg], write, &gpa);
	if (!err && gmem_is_ram(&x->v->vm->mem, gpa)) {
		*val = write ? *val : 0;
		err = insn_copy(x->v, m, x->v->hv->gpr[reg], val, size, write);
	} else if (!err) {
		string_device(x, gpa, size, write, val);
	}
	if (err == -EFAULT)
		x->fault = insn_walk_fault(x->v, m, write);
	x->err = insn_did_not_come(err) ? err : 0;
	return !err;
}

/* MOVS and STOS, with or without REP; long mode. One element an exit: RIP moves on when the count has run out. */
static bool do_string(struct mmio *x, const struct hv_mode *m, bool *again)
{
	uint64_t *gpr = x->v->hv->gpr, val = gpr[REG_RAX];
	bool movs, rep = false;
	unsigned size = x->insn.operand_width / 8;
	for (unsigned i = 0; i < x->insn.raw.prefix_count; i++) /* REPNE repeats these as well */
		rep |= x->insn.raw.prefixes[i].value == 0xf3 || x->insn.raw.prefixes[i].value == 0xf2;
	int64_t step = x->v->hv->rflags & RFLAGS_DF ? -(int64_t)size : (int64_t)size;
	if (!m->long_mode || x->insn.address_width != 64 || x->insn.meta.category != ZYDIS_CATEGORY_STRINGOP ||
	    (x->insn.attributes & (ZYDIS_ATTRIB_HAS_SEGMENT_FS | ZYDIS_ATTRIB_HAS_SEGMENT_GS)))
		return false; /* MOVSD is also the name of an SSE move */
	switch ((int)x->insn.mnemonic) {
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ: movs = false; break;
	default: movs = true; break;
	}
	if (rep && !gpr[REG_RCX])
		return true;
	if (movs && !string_end(x, m, REG_RSI, size, false, &val))
		return false;
	val = trunc_to(val, size);
	if (!string_end(x, m, REG_RDI, size, true, &val))
		return false;
	gpr[REG_RDI] += (uint64_t)step;
	if (movs)
		gpr[REG_RSI] += (uint64_t)step;
	*again = rep && --gpr[REG_RCX];
	return true;
}

static bool emulate(struct mmio *x, const struct hv_mode *m, bool *again)
{
	unsigned size = x->op[0].size / 8;
	uint64_t val;
	*again = false;
	switch ((int)x->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (is_mem(&x->op[0])) {
			if (!reg_read(x, &x->op[1], &val))
				return false;
			mem_write(x, size, val);
			return true;
		}
		return is_mem(&x->op[1]) && reg_write(x, &x->op[0], mem_read(x, size));
	case ZYDIS_MNEMONIC_MOVZX: return is_mem(&x->op[1]) && reg_write(x, &x->op[0], mem_read(x, x->op[1].size / 8));
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD: {
		unsigned shift = 64 - x->op[1].size;
		if (!is_mem(&x->op[1]))
			return false;
		val = mem_read(x, x->op[1].size / 8);
		return reg_write(x, &x->op[0], (uint64_t)((int64_t)(val << shift) >> shift));
	}
	case ZYDIS_MNEMONIC_XCHG: {
		const ZydisDecodedOperand *r = is_mem(&x->op[0]) ? &x->op[1] : &x->op[0];
		uint64_t old = mem_read(x, size);
		if (!reg_read(x, r, &val))
			return false;
		mem_write(x, size, val);
		return reg_write(x, r, old);
	}
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_CMP: return do_logic(x);
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ: return do_string(x, m, again);
	default: return false;
	}
}

int mmio_emulate(struct vcpu *v, gpa_t gpa, bool write, struct why *w)
{
	struct mmio x = { .v = v, .gpa = gpa };
	struct hv_mode m;
	uint8_t b[INSN_MAX] = { 0 };
	ZydisDecoder d;
	bool again;
	vmm_hv()->get_mode(v->hv, &m);
	unsigned have = insn_fetch(v, &m, b);
	ZyanStatus st = insn_decoder(&m, &d) ? ZydisDecoderDecodeFull(&d, b, have, &x.insn, x.op) : ZYAN_STATUS_FAILED;
	bool done = ZYAN_SUCCESS(st) && emulate(&x, &m, &again);
	if (st == ZYDIS_STATUS_NO_MORE_DATA && have < INSN_MAX)
		insn_unreadable(v);
	else if (x.fault)
		exit_fault(v, x.fault);
	else if (x.err)
		return why_set(w, x.err, "its memory did not come: %s", err_name(x.err));
	else if (!done)
		return why_set(w, -ENOTSUP,
			       "%s of device memory at %lx by an instruction that tern does not emulate "
			       "(RIP %lx: %02x %02x %02x %02x %02x %02x %02x %02x)",
			       write ? "write" : "read", gpa, v->hv->rip, b[0], b[1], b[2], b[3], b[4], b[5], b[6],
			       b[7]);
	else if (again)
		exit_repeat(v);
	else
		exit_done(v, v->hv->rip + x.insn.length);
	return 0;
}
