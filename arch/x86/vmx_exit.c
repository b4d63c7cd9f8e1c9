/* SPDX-License-Identifier: BSD-2-Clause */
/* VT-x: events on their way into the guest, and what an exit means (SDM 3C chapters 27 and 28, appendix C). */
#include "arch/x86/cpu.h"
#include "arch/x86/vmx_vcpu.h"
#include <stdio.h>

static void write_proc(struct vmx_vcpu *v, uint32_t proc)
{
	if (proc != v->proc)
		vmcs_write(PROC_CONTROLS, v->proc = proc);
}

void vmx_set_proc(struct vmx_vcpu *v, uint32_t bit, bool on) { write_proc(v, on ? v->proc | bit : v->proc & ~bit); }

/* ---- events ---- */

bool vmx_ready(struct hv_vcpu *hv, bool nmi)
{
	struct vmx_vcpu *v = vmx_of(hv);
	if (v->event || v->hv.event_next || !(nmi || (hv->rflags & RFLAGS_IF)))
		return false;
	return !(vmcs_read(GUEST_INTERRUPTIBILITY) & (INTERRUPTIBILITY_SHADOW | (nmi ? INTERRUPTIBILITY_NMI : 0)));
}

/* The NMI window may open behind STI before the NMI can be taken; IF is set there, and the other window does not. */
static uint32_t nmi_window(void)
{
	bool sti = vmcs_read(GUEST_INTERRUPTIBILITY) & HV_SHADOW_STI;
	return (vmx_caps.pin & PIN_VIRTUAL_NMI) && !sti ? PROC_NMI_WINDOW : PROC_IRQ_WINDOW;
}

/* MOV CR8 exits anyway. */
bool vmx_window(struct hv_vcpu *hv, unsigned prio, bool nmi)
{
	struct vmx_vcpu *v = vmx_of(hv);
	uint32_t proc = v->proc & ~(uint32_t)(PROC_IRQ_WINDOW | PROC_NMI_WINDOW);
	proc |= (prio > hv->cr8 ? PROC_IRQ_WINDOW : 0) | (nmi ? nmi_window() : 0);
	write_proc(v, proc);
	return !nmi || (vmx_caps.pin & PIN_VIRTUAL_NMI);
}

void vmx_inject(struct hv_vcpu *hv, uint64_t event)
{
	struct vmx_vcpu *v = vmx_of(hv);
	if (v->event)
		hv_event_cut(hv, v->event);
	if (hv_is_page_fault(event))
		write_cr2(hv->fault_address);
	v->event = event;
}

void vmx_entry_event(struct vmx_vcpu *v)
{
	if (v->hv.event_next && !v->event &&
	    hv_event_takes(&v->hv, vmcs_read(GUEST_INTERRUPTIBILITY) & INTERRUPTIBILITY_SHADOW)) {
		v->event = v->hv.event_next;
		v->hv.event_next = 0;
	}
	if (v->hv.event_next)
		vmx_set_proc(v, hv_is_nmi(v->hv.event_next) ? nmi_window() : PROC_IRQ_WINDOW, true);
	if (!v->event)
		return;
	uint64_t info = (uint32_t)v->event;
	if (info & VMX_EVENT_ERROR) {
		vmcs_write(ENTRY_ERROR_CODE, v->event >> 32);
		if (!(vmx_cr0() & CR0_PE)) /* real mode has no error codes (27.2.1.3) */
			info &= ~VMX_EVENT_ERROR;
	}
	vmcs_write(ENTRY_INTR_INFO, info);
}

/* What was being delivered when the exit came goes back in; INT n, INT3, INTO and INT1 are simply executed again. */
static void requeue_event(struct vmx_vcpu *v)
{
	uint64_t info = vmcs_read(IDT_VECTORING_INFO), type = hv_event_type(info);
	v->event = 0;
	if (!(info & VMX_EVENT_VALID) || type >= HV_EVENT_SOFT)
		return;
	v->event = (info & (VMX_EVENT_VALID | VMX_EVENT_ERROR | 0x7ff)) |
		   (info & VMX_EVENT_ERROR ? vmcs_read(IDT_VECTORING_ERROR) << 32 : 0);
	if (type == HV_EVENT_NMI) /* its delivery, to be repeated, had blocked the next one */
		vmcs_write(GUEST_INTERRUPTIBILITY, vmcs_read(GUEST_INTERRUPTIBILITY) & ~INTERRUPTIBILITY_NMI);
}

/* ---- exits ---- */

void vmx_skip(struct hv_vcpu *hv, uint64_t next_rip)
{
	uint64_t shadow = vmcs_read(GUEST_INTERRUPTIBILITY);
	hv->rip = next_rip;
	if (shadow & INTERRUPTIBILITY_SHADOW)
		vmcs_write(GUEST_INTERRUPTIBILITY, shadow & ~INTERRUPTIBILITY_SHADOW);
	if (!(hv->rflags & RFLAGS_TF))
		return;
	/*
	 * The trap that the instruction would have ended with. As a pending one it would be lost to an event at
	 * entry (27.7.3).
	 */
	vmx_set_dr6((vmx_dr6() & ~DR6_TRAPS) | DR6_BS);
	vmcs_write(GUEST_DR7, vmcs_read(GUEST_DR7) & ~DR7_GD);
	vmx_inject(hv, HV_EVENT(HV_EVENT_EXC, VEC_DB));
}

static void decode_exception(struct vmx_vcpu *v, struct vmexit *x)
{
	uint64_t info = vmcs_read(EXIT_INTR_INFO);
	if (hv_event_type(info) == HV_EVENT_NMI) { /* the host's own: taken as if it came now; IRET unblocks the next */
		x->kind = EXIT_HOST_IRQ;
		__asm__ volatile("int $2" ::: "memory");
		return;
	}
	x->kind = EXIT_EXCEPTION;
	x->u.exc.vector = hv_event_vector(info);
	x->u.exc.has_error = info & VMX_EVENT_ERROR;
	x->u.exc.error = x->u.exc.has_error ? (uint32_t)vmcs_read(EXIT_INTR_ERROR) : 0;
	if (x->u.exc.vector != VEC_DB)
		return;
	/* An intercepted #DB has changed neither DR6 nor DR7 (28.2.1): so that it can be given back, do it here. */
	vmx_set_dr6((vmx_dr6() & ~0xfULL) | DR6_RESET | (vmcs_read(EXIT_QUALIFICATION) & 0x600f));
	vmcs_write(GUEST_DR7, vmcs_read(GUEST_DR7) & ~DR7_GD);
	uint64_t blocked = vmcs_read(GUEST_INTERRUPTIBILITY);
	/*
	 * INT1 is a trap: it returns behind the instruction, and so behind the shadow. For others, entry insists on a
	 * pending BS behind a shadow under TF (27.3.1.5), and then drops it.
	 */
	if (hv_event_type(info) == VMX_TYPE_ICEBP) {
		v->hv.rip += vmcs_read(EXIT_INSN_LEN);
		vmcs_write(GUEST_INTERRUPTIBILITY, blocked & ~INTERRUPTIBILITY_SHADOW);
	} else if ((blocked & INTERRUPTIBILITY_SHADOW) && (v->hv.rflags & RFLAGS_TF)) {
		vmcs_write(GUEST_PENDING_DEBUG, vmcs_read(GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
	}
}

static void decode_io(struct vmx_vcpu *v, struct vmexit *x)
{
	uint64_t q = vmcs_read(EXIT_QUALIFICATION), info; /* table 28-5 */
	x->kind = EXIT_IO;
	x->u.io.next_rip = v->hv.rip + x->len;
	x->u.io.port = (uint16_t)(q >> 16);
	x->u.io.size = (q & 7) + 1;
	x->u.io.in = q & VMX_IO_IN;
	x->u.io.string = q & VMX_IO_STRING;
	x->u.io.rep = q & VMX_IO_REP;
	x->u.io.addr_size = 8;
	x->u.io.seg = SEG_DS;
	if (x->u.io.string && vmx_caps.ins_outs) { /* table 28-8 */
		info = vmcs_read(EXIT_INSN_INFO);
		x->u.io.addr_size = 2 << (info >> 7 & 3);
		x->u.io.seg = info >> 15 & 7;
	}
}

enum cr_exit { CR_FAULT, CR_DONE, CR_AGAIN };

/* Let the guest's instruction run again: of the bits that the host owns it finds those that it writes. No exit then. */
static enum cr_exit cr_again(enum vmcs_field shadow, uint64_t owned, uint64_t val)
{
	vmcs_write(shadow, (vmcs_read(shadow) & ~owned) | (val & owned));
	return CR_AGAIN;
}

/* MOV to CR0 and CR4, CLTS and LMSW exit when they would change a bit that the host owns; MOV CR8 always. */
static enum cr_exit do_cr(struct vmx_vcpu *v)
{
	uint64_t q = vmcs_read(EXIT_QUALIFICATION), *gpr = &v->hv.gpr[q >> 8 & 15], val = *gpr; /* table 28-3 */
	unsigned cr = q & 15, access = q >> 4 & 3;
	if (cr == 8) {
		if (access == 1)
			*gpr = v->hv.cr8;
		else if (val > 15)
			return CR_FAULT;
		else
			v->hv.cr8 = val;
		return CR_DONE;
	}
	if (cr == 4) /* what it may have is the CPU's to judge */
		return val & ~vmx_cr4_allowed() ? CR_FAULT : cr_again(CR4_SHADOW, CR4_HOST_OWNED, val);
	uint64_t old = vmx_cr0();
	if (access == 2)
		val = old & ~CR0_TS;
	else if (access == 3)
		val = (old & ~0xeULL) | (q >> 16 & 0xf) | (old & CR0_PE);
	val |= CR0_ET;
	if (!cr0_is_valid(val))
		return CR_FAULT;
	/* Linux before 5.19 changes PG together with NE. Modes and PDPTEs change with PG: the CPU's work. */
	if ((val ^ old) & CR0_PG)
		return cr_again(CR0_SHADOW, vmx_cr0_owned(), val);
	vmx_set_cr0(val & CR0_DEFINED);
	return CR_DONE;
}

void vmx_decode(struct vmx_vcpu *v, struct vmexit *x, uint32_t reason)
{
	uint64_t q;
	requeue_event(v);
	v->hv.bus_locked |= reason & VMX_BUS_LOCKED || (reason & 0xffff) == VMX_BUS_LOCK;
	x->len = 0;
	switch (reason & 0xffff) {
	case VMX_EXCEPTION: decode_exception(v, x); return;
	case VMX_EXT_INT:
	case VMX_INIT:
	case VMX_SIPI: x->kind = EXIT_HOST_IRQ; return;
	case VMX_BUS_LOCK: x->kind = EXIT_BUS_LOCK; return; /* behind the instruction */
	case VMX_TRIPLE_FAULT: x->kind = EXIT_SHUTDOWN; return;
	case VMX_IRQ_WINDOW:
	case VMX_NMI_WINDOW: x->kind = EXIT_IRQ_WINDOW; return;
	case VMX_EPT_VIOLATION: /* table 28-7 */
		q = vmcs_read(EXIT_QUALIFICATION);
		if ((q & VMX_NMI_UNBLOCK) && !v->event)
			vmcs_write(GUEST_INTERRUPTIBILITY, vmcs_read(GUEST_INTERRUPTIBILITY) | INTERRUPTIBILITY_NMI);
		x->kind = EXIT_NPF;
		x->u.npf.gpa = vmcs_read(GUEST_PHYSICAL);
		x->u.npf.write = q & EPTV_WRITE;
		x->u.npf.fetch = q & EPTV_FETCH;
		return;
	case VMX_EPT_MISCONFIG:
		x->kind = EXIT_INVALID;
		snprintf(x->u.why, sizeof(x->u.why), "an EPT entry for %lx is malformed", vmcs_read(GUEST_PHYSICAL));
		return;
	default: break;
	}
	x->len = (uint8_t)vmcs_read(EXIT_INSN_LEN); /* the rest is caused by an instruction */
	switch (reason & 0xffff) {
	case VMX_CPUID: x->kind = EXIT_CPUID; break;
	case VMX_HLT: x->kind = EXIT_HLT; break;
	case VMX_INVD:
	case VMX_WBINVD: x->kind = EXIT_CACHE; break;
	case VMX_RDPMC: x->kind = EXIT_PRIVILEGED; break;
	case VMX_RDTSC:
	case VMX_RDTSCP: x->kind = EXIT_RDTSC; break;
	case VMX_VMCALL: x->kind = EXIT_VMCALL; break;
	case VMX_XSETBV: x->kind = EXIT_XSETBV; break;
	case VMX_PAUSE: x->kind = EXIT_PAUSE; break;
	case VMX_IO: decode_io(v, x); break;
	case VMX_RDMSR:
	case VMX_WRMSR:
		x->kind = EXIT_MSR;
		x->u.msr.index = (uint32_t)v->hv.gpr[REG_RCX];
		x->u.msr.write = (reason & 0xffff) == VMX_WRMSR;
		break;
	case VMX_CR:
		switch (do_cr(v)) {
		case CR_FAULT: x->kind = EXIT_PRIVILEGED; break;
		case CR_DONE: vmx_skip(&v->hv, v->hv.rip + x->len); /* fall through */
		case CR_AGAIN: x->kind = EXIT_HANDLED; break;
		}
		break;
	default: /* VMX instructions, MONITOR, MWAIT, GETSEC, task switches, ...: this guest's CPU does not have them */
		x->kind = EXIT_UNDEFINED;
		break;
	}
}
