/* SPDX-License-Identifier: BSD-2-Clause */
/* AMD-V: events on their way into the guest, and what an exit means (APM2 15.6 to 15.20, appendix C). */
#include "arch/x86/cpu.h"
#include "arch/x86/svm_vcpu.h"

bool svm_has_nrip;

bool svm_ready(struct hv_vcpu *hv, bool nmi)
{
	struct svm_vcpu *v = svm_of(hv);
	if ((v->vmcb->eventinj & SVM_EVENT_VALID) || v->hv.event_next || (v->vmcb->int_state & 1))
		return false;
	/* The IRET that ends an NMI is intercepted before it runs: the next one comes after it. */
	return nmi ? !v->nmi_blocked && v->iret_rip != hv->rip : hv->rflags & RFLAGS_IF;
}

/*
 * The guest is asked for by a virtual interrupt that never arrives: VINTR exits as soon as it could be taken, which is
 * when V_INTR_PRIO is greater than V_TPR (APM2 15.21.4). QEMU exits if they are equal, too: then it is not asked again
 * at once.
 */
bool svm_window(struct hv_vcpu *hv, unsigned prio, bool nmi)
{
	struct vmcb *b = svm_of(hv)->vmcb;
	b->int_ctl &= ~(SVM_INT_V_IRQ | SVM_INT_V_PRIO | SVM_INT_V_IGN_TPR);
	if (prio && (prio > hv->cr8 || b->exitcode != SVM_EXIT_VINTR))
		b->int_ctl |= SVM_INT_V_IRQ | (uint64_t)prio << SVM_INT_V_PRIO_SHIFT;
	return !nmi;
}

void svm_inject(struct hv_vcpu *hv, uint64_t event)
{
	struct svm_vcpu *v = svm_of(hv);
	uint64_t cut = v->vmcb->eventinj;
	if (cut & SVM_EVENT_VALID)
		hv_event_cut(hv, cut);
	if (hv_is_nmi(event))
		svm_block_nmi(v, true);
	if (hv_is_page_fault(event))
		v->vmcb->cr2 = hv->fault_address;
	v->vmcb->eventinj = event; /* HV_EVENT has EVENTINJ's layout, APM2 15.20 */
}

void svm_entry_event(struct svm_vcpu *v)
{
	struct vmcb *b = v->vmcb;
	if ((b->eventinj & SVM_EVENT_VALID) || !hv_event_takes(&v->hv, b->int_state & 1)) {
		b->int_ctl |= SVM_INT_V_IRQ | SVM_INT_V_IGN_TPR; /* it is in service already */
		return;
	}
	b->eventinj = v->hv.event_next;
	v->hv.event_next = 0;
	if (hv_is_nmi(b->eventinj))
		svm_block_nmi(v, true);
}

/* What was being delivered when the exit came goes back in; INT n, INT3 and INTO are simply executed again. */
static void requeue_event(struct svm_vcpu *v)
{
	uint64_t e = v->vmcb->exitintinfo;
	v->vmcb->eventinj = 0;
	if (!(e & SVM_EVENT_VALID))
		return;
	unsigned type = hv_event_type(e), vector = hv_event_vector(e);
	/* IF is cleared last: else it would be delivered twice. VT-x looks at each entry, here the test image does. */
	BUG_ON(TERN_FAILPOINTS && type == HV_EVENT_INTR && !(v->hv.rflags & RFLAGS_IF));
	if (type != HV_EVENT_SOFT && (type != HV_EVENT_EXC || (vector != VEC_BP && vector != 4)))
		v->vmcb->eventinj = e;
}

static void decode_io(const struct vmcb *b, struct vmexit *x) /* EXITINFO1, APM2 15.10.2 */
{
	uint64_t i = b->exitinfo1;
	x->kind = EXIT_IO;
	x->u.io.next_rip = b->exitinfo2;
	x->u.io.port = i >> 16 & 0xffff;
	x->u.io.in = i & SVM_IO_IN;
	x->u.io.string = i & SVM_IO_STRING;
	x->u.io.rep = i & SVM_IO_REP;
	x->u.io.size = i >> 4 & 7;
	/* QEMU's TCG tells no address size: then it is the one that the mode has without a prefix. */
	const bool told = i & (SVM_IO_A16 | SVM_IO_A32 | SVM_IO_A64), l = b->efer & EFER_LMA && b->cs.attr & SVM_SEG_L,
		   d = b->cs.attr & SVM_SEG_D;
	x->u.io.addr_size = (told ? i & SVM_IO_A64 : l) ? 8 : (told ? i & SVM_IO_A32 : d) ? 4 : 2;
	x->u.io.seg = i >> 10 & 7;
}

static void decode_exception(const struct vmcb *b, uint64_t code, struct vmexit *x)
{
	x->kind = EXIT_EXCEPTION;
	x->u.exc.vector = code - SVM_EXIT_EXCP_BASE;
	x->u.exc.has_error = x->u.exc.vector == VEC_AC;
	x->u.exc.error = (uint32_t)b->exitinfo1;
}

void svm_decode(struct svm_vcpu *v, struct vmexit *x)
{
	struct vmcb *b = v->vmcb;
	uint64_t code = b->exitcode;
	requeue_event(v);
	x->len = svm_has_nrip && b->nrip > b->rip && b->nrip - b->rip <= 15 ? b->nrip - b->rip : 0;
	if ((uint32_t)code == 0xffffffff) { /* VMEXIT_INVALID; emulators give 32 bits of it */
		svm_explain_invalid(b, x);
		return;
	}
	if (code >= SVM_EXIT_EXCP_BASE && code <= SVM_EXIT_EXCP_LAST) {
		decode_exception(b, code, x);
		return;
	}
	switch (code) {
	case SVM_EXIT_INTR:
	case SVM_EXIT_NMI:
	case SVM_EXIT_SMI:
	case SVM_EXIT_INIT:
	case SVM_EXIT_FERR: x->kind = EXIT_HOST_IRQ; break;
	case SVM_EXIT_VINTR: x->kind = EXIT_IRQ_WINDOW; break;
	case SVM_EXIT_IRET:
		svm_block_nmi(v, false);
		v->iret_rip = b->rip;
		x->kind = EXIT_IRQ_WINDOW;
		break;
	case SVM_EXIT_CPUID: x->kind = EXIT_CPUID; break;
	case SVM_EXIT_MSR:
		x->kind = EXIT_MSR;
		x->u.msr.index = (uint32_t)v->hv.gpr[REG_RCX];
		x->u.msr.write = b->exitinfo1 & 1;
		break;
	case SVM_EXIT_IOIO: decode_io(b, x); break;
	case SVM_EXIT_NPF: /* EXITINFO1 is a page-fault error code, APM2 15.25.6 */
		x->kind = EXIT_NPF;
		x->u.npf.gpa = b->exitinfo2;
		x->u.npf.write = b->exitinfo1 & PF_W;
		x->u.npf.fetch = b->exitinfo1 & PF_I;
		break;
	case SVM_EXIT_HLT: x->kind = EXIT_HLT; break;
	case SVM_EXIT_VMMCALL: x->kind = EXIT_VMCALL; break;
	case SVM_EXIT_RDTSC:
	case SVM_EXIT_RDTSCP: x->kind = EXIT_RDTSC; break;
	case SVM_EXIT_XSETBV: x->kind = EXIT_XSETBV; break;
	case SVM_EXIT_INVD:
	case SVM_EXIT_WBINVD: x->kind = EXIT_CACHE; break;
	case SVM_EXIT_PAUSE: x->kind = EXIT_PAUSE; break;
	case SVM_EXIT_BUS_LOCK: /* before the instruction, which is let through next time */
		b->bus_locks = 1;
		v->hv.bus_locked = true;
		x->kind = EXIT_BUS_LOCK;
		break;
	case SVM_EXIT_SHUTDOWN: x->kind = EXIT_SHUTDOWN; break;
	case SVM_EXIT_RDPMC: x->kind = EXIT_PRIVILEGED; break;
	default: /* VMRUN..SKINIT, MONITOR, MWAIT, RDPRU, INVLPGA, ...: this guest's CPU does not have them */
		x->kind = EXIT_UNDEFINED;
		break;
	}
}

void svm_skip(struct hv_vcpu *hv, uint64_t next_rip)
{
	struct vmcb *b = svm_of(hv)->vmcb;
	hv->rip = next_rip;
	b->int_state &= ~1ULL;
	if (hv->rflags & RFLAGS_TF) { /* the trap that the instruction would have ended with (APM2 13.1.4) */
		b->dr6 = (b->dr6 & ~DR6_TRAPS) | DR6_BS;
		b->dr7 &= ~DR7_GD;
		svm_inject(hv, HV_EVENT(HV_EVENT_EXC, VEC_DB));
	}
}
