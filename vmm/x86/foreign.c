/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that crosses between Intel and AMD keeps the instructions of the vendor in its CPUID. Where the other
 * vendor's CPU raises #UD for one, it is done here, as that vendor's manual says (SDM 2B, APM 3):
 *
 *   VMCALL, VMMCALL       each vendor has one: either is a hypercall for any guest
 *   SYSENTER, SYSEXIT     Intel's guests in long mode; AMD has them in legacy mode only
 *   SYSCALL, SYSRET       AMD's guests in compatibility mode; Intel has them in 64-bit mode only
 *
 * What the other vendor's CPU does without being asked cannot be taken away: SYSCALL in compatibility mode on AMD,
 * SYSENTER in long mode on Intel. They go to where the guest's kernel has pointed them, as the MSRs are kept whole on
 * both.
 */
#include "arch/x86/cpu.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/exit.h"
#include "vmm/x86/foreign.h"
#include "vmm/x86/insn.h"
#include <string.h>

enum { /* opcodes, as insn_opcode gives them */
       OP_SYSCALL = 0x0f05,
       OP_SYSRET = 0x0f07,
       OP_SYSENTER = 0x0f34,
       OP_SYSEXIT = 0x0f35,
       OP_VMCALL = 0x0f01c1,
       OP_VMMCALL = 0x0f01d9,
};
#define REG_R11 (REG_R8 + 3)

/* CS from these attributes, SS the flat data segment that follows it. CPL becomes that of the selector. */
static void set_segments(struct cpu_state *s, uint64_t cs, uint64_t ss, uint32_t code)
{
	uint32_t dpl = (uint32_t)(cs & 3) << 5;
	s->seg[SEG_CS] = (struct seg_state){ .selector = cs & 0xffff, .limit = ~0U, .attr = code | dpl };
	s->seg[SEG_SS] = (struct seg_state){ .selector = ss & 0xffff, .limit = ~0U, .attr = AR_DATA | dpl };
}

static uint64_t sysenter(struct cpu_state *s)
{
	if (!(s->sysenter_cs & 0xfffc))
		return HV_EVENT_ERR(VEC_GP, 0);
	uint64_t cs = s->sysenter_cs & 0xfffc;
	set_segments(s, cs, cs + 8, AR_CODE64);
	s->rflags &= ~(RFLAGS_VM | RFLAGS_IF);
	s->gpr[REG_RSP] = s->sysenter_esp;
	s->rip = s->sysenter_eip;
	return 0;
}

static uint64_t sysexit(struct cpu_state *s, bool to64, unsigned cpl)
{
	uint64_t rip = s->gpr[REG_RDX], rsp = s->gpr[REG_RCX], cs = (s->sysenter_cs + (to64 ? 32 : 16)) | 3;
	if (!(s->sysenter_cs & 0xfffc) || cpl || (to64 && (!is_canonical(rip) || !is_canonical(rsp))))
		return HV_EVENT_ERR(VEC_GP, 0);
	set_segments(s, cs, cs + 8, to64 ? AR_CODE64 : AR_CODE32);
	s->gpr[REG_RSP] = to64 ? rsp : (uint32_t)rsp;
	s->rip = to64 ? rip : (uint32_t)rip;
	return 0;
}

/* From compatibility mode, as the next one. */
static uint64_t syscall_compat(struct cpu_state *s, unsigned len)
{
	uint64_t cs = s->star >> 32 & 0xfffc;
	s->gpr[REG_RCX] = (uint32_t)(s->rip + len);
	s->rflags &= ~RFLAGS_RF;
	s->gpr[REG_R11] = s->rflags;
	s->rflags = (s->rflags & ~s->sfmask) | RFLAGS_ALWAYS;
	set_segments(s, cs, cs + 8, AR_CODE64);
	s->rip = s->cstar;
	return 0;
}

/* SS's attributes become those of any user's stack, which AMD's CPU leaves as they were: no worse for anybody. */
static uint64_t sysret_compat(struct cpu_state *s, unsigned cpl)
{
	uint64_t base = s->star >> 48;
	if (cpl)
		return HV_EVENT_ERR(VEC_GP, 0);
	set_segments(s, base | 3, (base + 8) | 3, AR_CODE32);
	s->rflags |= RFLAGS_IF;
	s->rip = (uint32_t)s->gpr[REG_RCX];
	return 0;
}

bool foreign_emulate(struct vcpu *v)
{
	struct hv_mode m;
	struct insn_op op;
	vmm_hv()->get_mode(v->hv, &m);
	if (!insn_opcode(v, &m, &op) || op.lock)
		return false;
	if (op.opcode == OP_VMCALL || op.opcode == OP_VMMCALL) {
		if (op.len != 3) /* with a prefix it is, or may become, another instruction */
			return false;
		pv_hypercall(v);
		exit_done(v, v->hv->rip + op.len);
		return true;
	}
	bool enter = op.opcode == OP_SYSENTER || op.opcode == OP_SYSEXIT,
	     call = op.opcode == OP_SYSCALL || op.opcode == OP_SYSRET;
	enum cpu_vendor vendor = cpuid_table_vendor(&v->vm->cpuid);
	if (!(m.efer & EFER_LMA) || (!enter && !call) || (enter && vendor != VENDOR_INTEL) ||
	    (call && (vendor != VENDOR_AMD || m.long_mode || !(m.efer & EFER_SCE))))
		return false;
	struct cpu_state *s = vcpu_state_take(v);
	uint64_t fault = op.opcode == OP_SYSENTER  ? sysenter(s)
			 : op.opcode == OP_SYSEXIT ? sysexit(s, op.rex_w, m.cpl)
			 : op.opcode == OP_SYSCALL ? syscall_compat(s, op.len)
						   : sysret_compat(s, m.cpl);
	if (!fault)
		s->int_shadow = 0; /* the instruction has completed; SYSENTER clears IF, which STI's shadow needs */
	vcpu_state_give(v);
	if (fault)
		exit_fault(v, fault);
	else
		exit_done(v, v->hv->rip);
	return true;
}
