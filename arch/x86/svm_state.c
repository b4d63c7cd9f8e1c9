/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMCB's state save area to and from struct cpu_state (APM2 appendix B, table B-2). The vCPU is not loaded. */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/svm_vcpu.h"
#include <stdio.h>
#include <string.h>

static struct svm_seg *seg_of(struct vmcb *b, unsigned i)
{
	struct svm_seg *const seg[SEG_COUNT] = { &b->es, &b->cs, &b->ss, &b->ds, &b->fs, &b->gs, &b->ldtr, &b->tr };
	return seg[i];
}

/* VMCB attributes pack bits 7:0 and 15:12 of the access-rights word; P = 0 stands for unusable. */
static struct seg_state seg_out(const struct svm_seg *s)
{
	uint32_t attr = (s->attr & 0xff) | (uint32_t)(s->attr & 0xf00) << 4;
	return (struct seg_state){ s->base, s->limit, s->attr & AR_P ? attr : attr | AR_UNUSABLE, s->selector };
}
static struct svm_seg seg_in(const struct seg_state *s)
{
	uint16_t attr = (s->attr & 0xff) | (s->attr >> 4 & 0xf00);
	return (struct svm_seg){ s->selector, s->attr & AR_UNUSABLE ? attr & (uint16_t)~AR_P : attr, s->limit,
				 s->base };
}

/* The fields that move one to one: cpu_state's name, VMCB's name. */
/* clang-format off */
#define SVM_PLAIN_FIELDS(X)                                                                        \
	X(cr0) X(cr2) X(cr3) X(cr4) X(dr6) X(dr7) X(star) X(lstar) X(cstar) X(sfmask) X(kernel_gs_base) X(pat)
/* clang-format on */

void svm_block_nmi(struct svm_vcpu *v, bool on)
{
	v->nmi_blocked = on;
	v->iret_rip = SVM_NO_RIP;
	v->vmcb->intercept1 = (v->vmcb->intercept1 & (uint32_t)~SVM_I1_IRET) | (uint32_t)(on ? SVM_I1_IRET : 0);
}

void svm_get_state(struct hv_vcpu *hv, struct cpu_state *s)
{
	struct svm_vcpu *v = svm_of(hv);
	struct vmcb *b = v->vmcb;
	memset(s, 0, sizeof(*s));
	memcpy(s->gpr, hv->gpr, sizeof(s->gpr));
	s->rip = hv->rip;
	s->rflags = hv->rflags;
#define X(f) s->f = b->f;
	SVM_PLAIN_FIELDS(X)
#undef X
	s->efer = b->efer & ~EFER_SVME;
	s->dr0 = v->dr[0], s->dr1 = v->dr[1], s->dr2 = v->dr[2], s->dr3 = v->dr[3];
	for (unsigned i = 0; i < SEG_COUNT; i++)
		s->seg[i] = seg_out(seg_of(b, i));
	/* A TSS in use is busy. QEMU neither shows that nor wants it there: it then ignores the I/O bitmap. */
	s->seg[SEG_TR].attr |= (uint32_t)AR_BUSY;
	s->seg[SEG_SS].attr = (s->seg[SEG_SS].attr & ~(uint32_t)AR_DPL) | (uint32_t)b->cpl
										  << 5; /* of a null SS it may be old */
	s->gdt_base = b->gdtr.base, s->gdt_limit = b->gdtr.limit;
	s->idt_base = b->idtr.base, s->idt_limit = b->idtr.limit;
	s->tsc_aux = v->tsc_aux;
	s->sysenter_cs = v->sysenter_cs, s->sysenter_esp = v->sysenter_esp, s->sysenter_eip = v->sysenter_eip;
	s->event = b->eventinj & SVM_EVENT_VALID ? b->eventinj : 0;
	s->event_next = v->hv.event_next;
	if (b->int_state & 1) /* STI's has IF set; without it must be MOV SS (VT-x looks, SDM 3C 27.3.1.5) */
		s->int_shadow = s->rflags & RFLAGS_IF ? HV_SHADOW_STI : HV_SHADOW_MOV_SS;
	s->cr8 = hv->cr8;
	s->nmi_blocked =
		(v->nmi_blocked || v->iret_rip == hv->rip) && !hv_is_nmi(s->event) && !hv_is_nmi(s->event_next);
	s->xcr0 = v->xcr0;
	s->xsave_size = fpu_used_size(v->xsave);
	memcpy(s->xsave, v->xsave, s->xsave_size);
}

int svm_set_state(struct hv_vcpu *hv, const struct cpu_state *s, struct why *w)
{
	struct svm_vcpu *v = svm_of(hv);
	struct vmcb *b = v->vmcb;
	int err = hv_check_state(s, w);
	if (err)
		return err;
	memcpy(hv->gpr, s->gpr, sizeof(s->gpr));
	hv->rip = s->rip;
	hv->rflags = s->rflags;
#define X(f) b->f = s->f;
	SVM_PLAIN_FIELDS(X)
#undef X
	b->efer = s->efer | EFER_SVME;
	v->dr[0] = s->dr0, v->dr[1] = s->dr1, v->dr[2] = s->dr2, v->dr[3] = s->dr3;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		*seg_of(b, i) = seg_in(&s->seg[i]);
	b->tr.attr &= (uint16_t)~AR_BUSY;
	/* APM2 15.5.1: CPL is its own field; it equals SS.DPL, or what real and virtual-8086 mode imply. */
	b->cpl = s->rflags & RFLAGS_VM ? 3 : !(s->cr0 & CR0_PE) ? 0 : (uint8_t)segment_dpl(s->seg[SEG_SS].attr);
	b->gdtr.base = s->gdt_base, b->gdtr.limit = s->gdt_limit;
	b->idtr.base = s->idt_base, b->idtr.limit = s->idt_limit;
	v->tsc_aux = s->tsc_aux;
	b->sysenter_cs = v->sysenter_cs = s->sysenter_cs;
	b->sysenter_esp = v->sysenter_esp = s->sysenter_esp;
	b->sysenter_eip = v->sysenter_eip = s->sysenter_eip;
	b->eventinj = s->event;
	v->hv.event_next = s->event_next;
	b->int_state = s->int_shadow ? 1 : 0;
	hv->cr8 = s->cr8;
	svm_block_nmi(v, s->nmi_blocked || hv_is_nmi(s->event) || hv_is_nmi(s->event_next));
	v->xcr0 = s->xcr0;
	hv_xsave_in(v->xsave, s);
	v->asid_generation = 0;
	return 0;
}

void svm_get_mode(struct hv_vcpu *hv, struct hv_mode *m)
{
	const struct vmcb *b = svm_of(hv)->vmcb;
	*m = (struct hv_mode){
		.cr0 = b->cr0,
		.cr3 = b->cr3,
		.cr4 = b->cr4,
		.efer = b->efer,
		.cs_base = b->cs.base,
		.cpl = b->cpl,
		.long_mode = (b->efer & EFER_LMA) && (b->cs.attr & SVM_SEG_L),
		.cs32 = b->cs.attr & SVM_SEG_D,
	};
}

/* The rules of APM2 15.5.1 that a mistake of ours could break; the CPU says only that one was. */
void svm_explain_invalid(const struct vmcb *b, struct vmexit *x)
{
	const char *what;
	if (!(b->efer & EFER_SVME))
		what = "EFER.SVME is clear";
	else if ((b->cr0 & CR0_NW) && !(b->cr0 & CR0_CD))
		what = "CR0.NW without CR0.CD";
	else if (b->cr0 >> 32)
		what = "CR0 has bits above 31";
	else if ((b->efer & EFER_LME) && (b->cr0 & CR0_PG) && !(b->cr4 & CR4_PAE))
		what = "long mode without CR4.PAE";
	else if ((b->efer & EFER_LME) && (b->cr0 & CR0_PG) && !(b->cr0 & CR0_PE))
		what = "paging without protected mode";
	else if ((b->dr6 | b->dr7) >> 32)
		what = "DR6 or DR7 has bits above 31";
	else if (!b->asid)
		what = "ASID 0";
	else
		what = "reserved bits, or an illegal event";
	x->kind = EXIT_INVALID;
	snprintf(x->u.why, sizeof(x->u.why), "%s (cr0 %lx cr3 %lx cr4 %lx efer %lx)", what, b->cr0, b->cr3, b->cr4,
		 b->efer);
}
