/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD-V back end of struct hv_ops (hv.h; APM volume 2 chapter 15). This file knows the VMCB and nothing of policy: it
 * turns an exit into a neutral struct vmexit and neutral state into the VMCB. Intercepts are on by default: MSRs and
 * ports exit unless listed, #DB and #AC always do (a guest could else hold the CPU for ever in their delivery).
 *
 * Events and the decoding of exits are in svm_exit.c, state conversion in svm_state.c. The VMCB of a vCPU is used by
 * the CPU that has it loaded, and by nobody else meanwhile.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/xsave.h"
#include "arch/x86/svm_vcpu.h"
#include "kernel/base/hva.h"
#include <string.h>

struct svm_cpu { /* per-CPU, struct cpu.hv */
	hpa_t host_vmcb;
	uint32_t asid_next;
	uint64_t asid_generation; /* a vCPU whose generation differs takes a new ASID */
};

static struct svm_caps {
	uint32_t nasid;
	bool rdtscp, pause_filter, bus_lock;
} caps;
static struct pt_format format; /* NPT, with 1G leaves if the CPU has them */
static hpa_t iopm;              /* all ones: every port exits */

#define IOPM_ORDER  2 /* 12 KiB, in a 16 KiB block */
#define MSRPM_ORDER 1

/* Bits of CPUID 0x8000000A:EDX (APM3 E.4.9), and whether this file uses them where they are. */
/* clang-format off */
#define SVM_FEATURES(X)                                                                                            \
	X(0, "NPT", true) X(1, "LBR-virtualisation", false) X(3, "NRIPS", true) X(4, "TSC-scaling", false)          \
	X(5, "VMCB-clean", false) X(6, "FlushByAsid", false) X(7, "decode-assists", false)                           \
	X(10, "pause-filter", true)                                                                                  \
	X(13, "AVIC", false) X(15, "virtual-VMLOAD", false) X(16, "VGIF", false) X(17, "GMET", false)                \
	X(18, "x2AVIC", false) X(25, "VNMI", false) X(29, "bus-lock-threshold", true)
/* clang-format on */
#define X(bit, name, used) { name, false, used },
static struct hv_feature svm_features[] = { SVM_FEATURES(X) };
#undef X

static void list_features(uint32_t edx)
{
#define X(bit, name, used) bit,
	static const uint8_t bits[] = { SVM_FEATURES(X) };
#undef X
	for (unsigned i = 0; i < ARRAY_SIZE(svm_features); i++) {
		svm_features[i].present = edx >> bits[i] & 1;
		svm_features[i].used &= svm_features[i].present;
		if (BIT(bits[i]) == CPUID8000000A_EDX_PAUSE_FILTER)
			svm_features[i].used &= caps.pause_filter;
	}
}

static int svm_probe(struct why *w)
{
	uint64_t vm_cr;
	if (cpuid(0x80000000, 0).eax < 0x8000000a || !(cpuid(0x80000001, 0).ecx & CPUID80000001_ECX_SVM))
		return -ENODEV;
	if (rdmsr_safe(MSR_VM_CR, &vm_cr) && (vm_cr & VM_CR_SVMDIS))
		return why_set(w, -ENOTSUP,
			       "AMD-V is switched off by the firmware; enable SVM (virtualization) in its set-up");
	struct cpuid_regs f = cpuid(0x8000000a, 0);
	if (!(f.edx & CPUID8000000A_EDX_NP))
		return why_set(w, -ENOTSUP, "this CPU has AMD-V but no nested paging, which tern needs to run VMs");
	caps.nasid = f.ebx;
	svm_has_nrip = f.edx & CPUID8000000A_EDX_NRIPS;
	caps.rdtscp = cpuid(0x80000001, 0).edx & CPUID80000001_EDX_RDTSCP;
	caps.pause_filter = !(~f.edx & (CPUID8000000A_EDX_PAUSE_FILTER | CPUID8000000A_EDX_PAUSE_THRESHOLD));
	caps.bus_lock = f.edx & CPUID8000000A_EDX_BUS_LOCK;
	list_features(f.edx);
	format = pt_format_npt;
	if (!(cpuid(0x80000001, 0).edx & CPUID80000001_EDX_PAGE1GB))
		format.max_level = 2;
	/* One map for all vCPUs: no port is passed through. */
	iopm = hv_env->alloc(IOPM_ORDER);
	if (iopm == HPA_NONE)
		return why_set(w, -ENOMEM, "no memory for AMD-V's I/O permission map");
	memset(hva_of(iopm), 0xff, PAGE_SIZE << IOPM_ORDER);
	return 0;
}

static int svm_cpu_on(void)
{
	struct svm_cpu *c = hva_of(hv_env->alloc(0));
	hpa_t hsave = hv_env->alloc(0), host = hv_env->alloc(0);
	if (hsave == HPA_NONE || host == HPA_NONE || hpa_of(c) == HPA_NONE)
		return -ENOMEM; /* at boot: the CPU then just runs no guests */
	*c = (struct svm_cpu){ .host_vmcb = host, .asid_next = 1, .asid_generation = 1 };
	fpu_cpu_on();
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, hsave);
	__asm__ volatile("vmsave %0" ::"a"(host)
			 : "memory"); /* GS base, TR and the rest never change on a CPU of tern's */
	this_cpu()->hv = c;
	return 0;
}

/* Two bits an MSR, read then write; three ranges of 8192 MSRs (APM2 15.11). */
static void msrpm_allow(uint8_t *map, uint32_t msr)
{
	uint32_t base = msr < 0x2000 ? 0 : msr - 0xc0000000 < 0x2000 ? 0x800 : 0x1000, n = msr & 0x1fff;
	map[base + n / 4] &= (uint8_t) ~(3 << n % 4 * 2);
}

static void svm_destroy(struct hv_vcpu *hv)
{
	struct svm_vcpu *v = svm_of(hv);
	if (v->msrpm != HPA_NONE)
		hv_env->free(v->msrpm, MSRPM_ORDER);
	if (v->vmcb_hpa != HPA_NONE)
		hv_env->free(v->vmcb_hpa, 0);
	hv_env->free(hpa_of(v), SVM_VCPU_ORDER);
}

static struct hv_vcpu *svm_create(const struct hv_vcpu_params *p)
{
	hpa_t hpa = hv_env->alloc(SVM_VCPU_ORDER);
	if (hpa == HPA_NONE)
		return NULL;
	struct svm_vcpu *v = hva_of(hpa);
	_Static_assert(sizeof(*v) <= PAGE_SIZE << SVM_VCPU_ORDER, "struct svm_vcpu outgrew its block");
	v->msrpm = hv_env->alloc(MSRPM_ORDER);
	v->vmcb_hpa = hv_env->alloc(0);
	if (v->msrpm == HPA_NONE || v->vmcb_hpa == HPA_NONE) {
		svm_destroy(&v->hv);
		return NULL;
	}
	memset(hva_of(v->msrpm), 0xff, PAGE_SIZE << MSRPM_ORDER);
	for (unsigned i = 0; i < p->nmsr_pass; i++)
		msrpm_allow(hva_of(v->msrpm), p->msr_pass[i]);
	struct vmcb *b = v->vmcb = hva_of(v->vmcb_hpa);
	/* #UD may be an instruction of the other vendor's (vmm/x86/foreign.c). */
	b->exception_intercepts = BIT(VEC_DB) | BIT(VEC_UD) | BIT(VEC_AC) | BIT(VEC_MC);
	b->intercept1 = (uint32_t)(SVM_I1_INTR | SVM_I1_NMI | SVM_I1_INIT | SVM_I1_VINTR | SVM_I1_RDPMC | SVM_I1_CPUID |
				   SVM_I1_INVD | SVM_I1_HLT | SVM_I1_INVLPGA | SVM_I1_IOIO | SVM_I1_MSR | SVM_I1_TASK |
				   SVM_I1_FERR | SVM_I1_SHUTDOWN);
	b->intercept2 = SVM_I2_VMRUN | SVM_I2_VMMCALL | SVM_I2_VMLOAD | SVM_I2_VMSAVE | SVM_I2_STGI | SVM_I2_CLGI |
			SVM_I2_SKINIT | SVM_I2_WBINVD | SVM_I2_MONITOR | SVM_I2_MWAIT | SVM_I2_MWAIT_ARMED |
			SVM_I2_XSETBV | SVM_I2_RDPRU;
	b->intercept3 = SVM_I3_INVLPGB | SVM_I3_INVLPGB_ILLEGAL | SVM_I3_MCOMMIT | SVM_I3_TLBSYNC;
	if (caps.pause_filter) { /* counts down PAUSEs less than the threshold apart (APM2 15.14.4) */
		b->intercept1 |= (uint32_t)SVM_I1_PAUSE;
		b->pause_threshold = HV_SPIN_GAP;
		b->pause_count = HV_SPIN_WINDOW;
	}
	if (caps.bus_lock)
		b->intercept3 |= SVM_I3_BUS_LOCK; /* at the first one: the count is 0 */
	b->iopm_pa = iopm;
	b->msrpm_pa = v->msrpm;
	b->np_enable = 1;
	b->ncr3 = p->npt_root;
	b->int_ctl = SVM_INT_V_INTR_MASKING;
	b->efer = EFER_SVME;
	b->pat = PAT_POWER_ON;
	v->xcr0 = XCR0_X87;
	svm_block_nmi(v, false);
	return &v->hv;
}

static void svm_load(struct hv_vcpu *hv)
{
	struct svm_vcpu *v = svm_of(hv);
	fpu_load(v->xsave, v->xcr0);
	if (caps.rdtscp)
		wrmsr(MSR_TSC_AUX, v->tsc_aux);
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3" ::"r"(v->dr[0]), "r"(v->dr[1]),
			 "r"(v->dr[2]), "r"(v->dr[3]));
	if (v->cpu != this_cpu()->id) { /* its ASID belongs to another CPU */
		v->cpu = this_cpu()->id;
		v->asid_generation = 0;
	}
}

static void svm_put(struct hv_vcpu *hv)
{
	struct svm_vcpu *v = svm_of(hv);
	v->xcr0 = fpu_save(v->xsave);
	__asm__ volatile("mov %%dr0, %0; mov %%dr1, %1; mov %%dr2, %2; mov %%dr3, %3"
			 : "=r"(v->dr[0]), "=r"(v->dr[1]), "=r"(v->dr[2]), "=r"(v->dr[3]));
}

static void svm_flush_tlb(struct hv_vcpu *hv) { svm_of(hv)->asid_generation = 0; }

/* A fresh ASID is a flushed TLB (APM2 15.16.1); out of ASIDs, flush all and start over. */
static void asid_take(struct svm_vcpu *v, struct svm_cpu *c)
{
	v->vmcb->tlb_control = 0;
	if (v->asid_generation == c->asid_generation)
		return;
	if (c->asid_next >= caps.nasid) {
		c->asid_next = 1;
		c->asid_generation++;
		v->vmcb->tlb_control = SVM_TLB_FLUSH_ALL;
	}
	v->vmcb->asid = c->asid_next++;
	v->asid_generation = c->asid_generation;
}

static void svm_enter(struct hv_vcpu *hv, struct vmexit *x)
{
	struct svm_vcpu *v = svm_of(hv);
	struct svm_cpu *c = this_cpu()->hv;
	struct vmcb *b = v->vmcb;
	if (v->hv.event_next)
		svm_entry_event(v);
	asid_take(v, c);
	b->clean = 0;
	b->rip = v->hv.rip;
	b->rflags = v->hv.rflags;
	b->int_ctl = (b->int_ctl & ~SVM_INT_V_TPR) | v->hv.cr8;
	b->rax = v->hv.gpr[REG_RAX];
	b->rsp = v->hv.gpr[REG_RSP];
	svm_world_switch(v->hv.gpr, v->vmcb_hpa, c->host_vmcb);
	v->hv.rip = b->rip;
	v->hv.rflags = b->rflags;
	v->hv.cr8 = b->int_ctl & SVM_INT_V_TPR;
	v->hv.gpr[REG_RAX] = b->rax;
	v->hv.gpr[REG_RSP] = b->rsp;
	/*
	 * QEMU executes a SYSENTER in compatibility mode, which AMD's CPUs refuse, and leaves CS with both L and D set.
	 * No VMRUN takes that.
	 */
	if ((b->efer & EFER_LMA) && (b->cs.attr & SVM_SEG_L))
		b->cs.attr &= (uint16_t)~SVM_SEG_D;
	if (v->iret_rip != b->rip)
		v->iret_rip = SVM_NO_RIP;
	svm_decode(v, x);
}

static int svm_get_msr(struct hv_vcpu *hv, uint32_t msr, uint64_t *val)
{
	struct svm_vcpu *v = svm_of(hv);
	switch (msr) {
	case MSR_EFER: *val = v->vmcb->efer & ~EFER_SVME; return 0;
	case MSR_PAT: *val = v->vmcb->pat; return 0;
	case MSR_SYSENTER_CS: *val = v->sysenter_cs; return 0;
	case MSR_SYSENTER_ESP: *val = v->sysenter_esp; return 0;
	case MSR_SYSENTER_EIP: *val = v->sysenter_eip; return 0;
	case MSR_TSC_AUX: *val = v->tsc_aux; return 0;
	default: return -EINVAL;
	}
}

static int svm_set_msr(struct hv_vcpu *hv, uint32_t msr, uint64_t val)
{
	struct svm_vcpu *v = svm_of(hv);
	switch (msr) {
	case MSR_EFER:
		if (!hv_efer_valid(val, v->vmcb->efer, v->vmcb->cr0))
			return -EINVAL;
		v->vmcb->efer = (val & ~EFER_LMA) | (v->vmcb->efer & EFER_LMA) | EFER_SVME;
		return 0;
	case MSR_PAT: v->vmcb->pat = val; return 0;
	case MSR_SYSENTER_CS: v->vmcb->sysenter_cs = v->sysenter_cs = (uint32_t)val; return 0;
	case MSR_SYSENTER_ESP: v->vmcb->sysenter_esp = v->sysenter_esp = val; return 0;
	case MSR_SYSENTER_EIP: v->vmcb->sysenter_eip = v->sysenter_eip = val; return 0;
	case MSR_TSC_AUX:
		if (!caps.rdtscp)
			return -EINVAL;
		v->tsc_aux = val;
		wrmsr(MSR_TSC_AUX, val); /* loaded: exits are handled with the vCPU's task on its CPU */
		return 0;
	default: return -EINVAL;
	}
}

static int svm_set_xcr0(struct hv_vcpu *hv unused, uint64_t xcr0)
{
	if (!fpu_xcr0_valid(xcr0))
		return -EINVAL;
	fpu_set_xcr0(xcr0);
	return 0;
}

static void svm_set_tsc(struct hv_vcpu *hv, uint64_t offset, uint64_t ratio)
{
	struct vmcb *b = svm_of(hv)->vmcb;
	b->tsc_offset = offset;
	b->intercept1 &= (uint32_t)~SVM_I1_RDTSC;
	b->intercept2 &= (uint32_t)~SVM_I2_RDTSCP;
	if (ratio != HV_TSC_SAME) {
		b->intercept1 |= SVM_I1_RDTSC;
		b->intercept2 |= SVM_I2_RDTSCP;
	}
}

/* clang-format off */
const struct hv_ops svm_ops = {
	.name = "AMD-V", .pt_format = &format, .features = svm_features, .nfeatures = ARRAY_SIZE(svm_features),
	.probe = svm_probe, .cpu_on = svm_cpu_on, .create = svm_create, .destroy = svm_destroy,
	.load = svm_load, .put = svm_put, .enter = svm_enter, .get_state = svm_get_state, .set_state = svm_set_state,
	.get_mode = svm_get_mode, .inject = svm_inject, .ready = svm_ready, .window = svm_window,
	.skip = svm_skip, .get_msr = svm_get_msr, .set_msr = svm_set_msr, .set_xcr0 = svm_set_xcr0,
	.set_tsc = svm_set_tsc, .flush_tlb = svm_flush_tlb,
};
/* clang-format on */
