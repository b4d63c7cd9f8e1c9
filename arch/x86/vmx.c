/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VT-x back end of struct hv_ops (hv.h; SDM volume 3C chapters 24 to 31). This file knows the VMCS and nothing of
 * policy: it turns an exit into a neutral struct vmexit. All MSRs and ports exit unless listed; #DB, #AC and #MC always
 * do, and #UD, which may be the other vendor's way to say something.
 *
 * Capabilities are in vmx_caps.c, events and the decoding of exits in vmx_exit.c, state conversion in vmx_state.c.
 */
#include "arch/x86/cpu.h"
#include "arch/x86/fpu.h"
#include "arch/x86/hw/xsave.h"
#include "arch/x86/vmx_vcpu.h"
#include "kernel/base/hva.h"
#include <stdio.h>
#include <string.h>

struct vmx_cpu { /* per-CPU, struct cpu.hv */
	struct vmx_host {
		uint64_t cr0, cr3, cr4, efer, pat, fs_base, gs_base, tr_base;
		struct {
			uint16_t limit;
			uint64_t base;
		} PACKED gdt, idt;
		uint16_t cs, ss, tr;
	} host; /* what an exit brings back: constant while the CPU runs */
};

static void host_read(struct vmx_host *h)
{
	h->cr0 = read_cr0(), h->cr3 = read_cr3(), h->cr4 = read_cr4();
	h->efer = rdmsr(MSR_EFER), h->pat = rdmsr(MSR_PAT);
	h->fs_base = rdmsr(MSR_FS_BASE), h->gs_base = rdmsr(MSR_GS_BASE);
	__asm__("sgdt %0; sidt %1" : "=m"(h->gdt), "=m"(h->idt));
	__asm__("mov %%cs, %0; mov %%ss, %1; str %2" : "=r"(h->cs), "=r"(h->ss), "=r"(h->tr));
	const uint64_t *d =
		(const uint64_t *)(uintptr_t)(h->gdt.base + (h->tr & ~7U)); /* a 16-byte descriptor, SDM 3A 8.2.3 */
	h->tr_base = (d[0] >> 16 & 0xffffff) | (d[0] >> 56) << 24 | d[1] << 32;
}

static int vmx_cpu_on(void)
{
	hpa_t hpa = hv_env->alloc(0), region = hv_env->alloc(0);
	uint64_t feature;
	if (hpa == HPA_NONE || region == HPA_NONE)
		return -ENOMEM; /* at boot: tern then runs no guests */
	struct vmx_cpu *c = hva_of(hpa);
	*(uint32_t *)hva_of(region) = vmx_caps.revision;
	fpu_cpu_on();
	if (!rdmsr_safe(MSR_FEATURE_CONTROL, &feature))
		feature = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON; /* no such MSR: nothing locks */
	if (!(feature & FEATURE_CONTROL_LOCK) &&
	    !wrmsr_safe(MSR_FEATURE_CONTROL, feature | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON))
		return -EPERM;
	if ((feature & FEATURE_CONTROL_LOCK) && !(feature & FEATURE_CONTROL_VMXON))
		return -EPERM; /* the firmware forgot this CPU */
	write_cr0((read_cr0() | vmx_caps.cr0_fixed0) & vmx_caps.cr0_fixed1);
	write_cr4((read_cr4() | vmx_caps.cr4_fixed0) & vmx_caps.cr4_fixed1);
	if (vmx_on(region))
		return -EIO;
	host_read(&c->host);
	this_cpu()->hv = c;
	return 0;
}

/* One bit an MSR: reads at 0, writes at 2048; the MSRs from 0xc0000000 on are 1024 bytes further (25.6.9). */
static void msr_allow(uint8_t *map, uint32_t msr)
{
	uint32_t at = (msr & 0x1fff) / 8 + (msr >= 0xc0000000 ? 1024 : 0);
	map[at] &= (uint8_t) ~(1 << msr % 8);
	map[at + 2048] &= (uint8_t) ~(1 << msr % 8);
}

static void vmx_destroy(struct hv_vcpu *hv)
{
	struct vmx_vcpu *v = vmx_of(hv);
	if (v->msr_bitmap != HPA_NONE)
		hv_env->free(v->msr_bitmap, 0);
	if (v->vmcs != HPA_NONE)
		hv_env->free(v->vmcs, 0);
	hv_env->free(hpa_of(v), VMX_VCPU_ORDER);
}

/* Bring a vCPU's VMCS to this CPU for a moment, from outside load..put. */
static uint64_t borrow(struct vmx_vcpu *v)
{
	uint64_t flags = cpu_irq_save();
	vmcs_load(v->vmcs);
	return flags;
}
static void give_back(struct vmx_vcpu *v, uint64_t flags)
{
	vmcs_clear(v->vmcs);
	cpu_irq_restore(flags);
}

/*
 * Fields that stay as they are for the vCPU's life; all that is not written here is 0, as an alloc'd VMCS is made of
 * zeros.
 */
static void vmcs_init(struct vmx_vcpu *v)
{
	static uint32_t last_vpid; /* distinct within a VM, whose vCPUs come one after another; EPTP tells VMs apart */
	static const enum vmcs_field zero[] = { ENTRY_INTR_INFO,      ENTRY_ERROR_CODE,    ENTRY_INSN_LEN,
						EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, ENTRY_MSR_LOAD_COUNT,
						PF_ERROR_MASK,        PF_ERROR_MATCH,      CR3_TARGET_COUNT,
						GUEST_DEBUGCTL,       GUEST_ACTIVITY,      HOST_SYSENTER_CS,
						HOST_SYSENTER_ESP,    HOST_SYSENTER_EIP,   HOST_FS_SEL,
						HOST_GS_SEL,          HOST_DS_SEL,         HOST_ES_SEL };
	for (unsigned i = 0; i < ARRAY_SIZE(zero); i++)
		vmcs_write(zero[i], 0);
	v->proc = vmx_caps.proc;
	vmcs_write(PIN_CONTROLS, vmx_caps.pin);
	vmcs_write(PROC_CONTROLS, v->proc);
	vmcs_write(PROC2_CONTROLS, vmx_caps.proc2);
	vmcs_write(EXIT_CONTROLS, vmx_caps.exit);
	vmcs_write(ENTRY_CONTROLS, vmx_caps.entry);
	vmcs_write(EXCEPTION_BITMAP, BIT(VEC_DB) | BIT(VEC_AC) | BIT(VEC_MC) | BIT(VEC_UD));
	vmcs_write(MSR_BITMAP, v->msr_bitmap);
	vmcs_write(EPT_POINTER, v->eptp);
	vmcs_write(VMCS_LINK, ~0ULL);
	if (vmx_caps.proc2 & PROC2_PAUSE_LOOP) {
		vmcs_write(PLE_GAP, HV_SPIN_GAP);
		vmcs_write(PLE_WINDOW, HV_SPIN_WINDOW);
	}
	if (vmx_caps.proc2 & PROC2_VPID)
		vmcs_write(VPID, 1 + __atomic_fetch_add(&last_vpid, 1, __ATOMIC_RELAXED) % 0xffff);
	vmcs_write(CR0_MASK, vmx_cr0_owned());
	vmcs_write(CR4_MASK, ~vmx_cr4_allowed() | CR4_HOST_OWNED);
	vmx_set_cr0(CR0_ET);
	vmx_set_cr4(0);
	vmcs_write(GUEST_PAT, PAT_POWER_ON);
	vmcs_write(HOST_RIP, (uintptr_t)vmx_exit_point);
}

static struct hv_vcpu *vmx_create(const struct hv_vcpu_params *p)
{
	hpa_t hpa = hv_env->alloc(VMX_VCPU_ORDER);
	if (hpa == HPA_NONE)
		return NULL;
	struct vmx_vcpu *v = hva_of(hpa);
	_Static_assert(sizeof(*v) <= PAGE_SIZE << VMX_VCPU_ORDER, "struct vmx_vcpu outgrew its block");
	v->msr_bitmap = hv_env->alloc(0);
	v->vmcs = hv_env->alloc(0);
	if (v->msr_bitmap == HPA_NONE || v->vmcs == HPA_NONE) {
		vmx_destroy(&v->hv);
		return NULL;
	}
	memset(hva_of(v->msr_bitmap), 0xff, PAGE_SIZE);
	for (unsigned i = 0; i < p->nmsr_pass; i++)
		msr_allow(hva_of(v->msr_bitmap), p->msr_pass[i]);
	v->eptp = p->npt_root | EPTP_WALK4 | EPTP_WB | (vmx_caps.ept & EPT_CAP_AD ? EPTP_AD : 0);
	v->cpu = ~0U;
	v->xcr0 = XCR0_X87;
	v->dr6 = DR6_RESET;
	v->tsc_ratio = HV_TSC_SAME;
	*(uint32_t *)hva_of(v->vmcs) = vmx_caps.revision;
	uint64_t flags = cpu_irq_save();
	vmcs_clear(v->vmcs); /* makes a VMCS of the page (25.11.3) */
	vmcs_load(v->vmcs);
	vmcs_init(v);
	give_back(v, flags);
	return &v->hv;
}

static void write_host_state(const struct vmx_host *h)
{
	vmcs_write(HOST_CR0, h->cr0);
	vmcs_write(HOST_CR3, h->cr3);
	vmcs_write(HOST_CR4, h->cr4);
	vmcs_write(HOST_EFER, h->efer);
	vmcs_write(HOST_PAT, h->pat);
	vmcs_write(HOST_CS_SEL, h->cs);
	vmcs_write(HOST_SS_SEL, h->ss);
	vmcs_write(HOST_TR_SEL, h->tr);
	vmcs_write(HOST_FS_BASE, h->fs_base);
	vmcs_write(HOST_GS_BASE, h->gs_base);
	vmcs_write(HOST_TR_BASE, h->tr_base);
	vmcs_write(HOST_GDTR_BASE, h->gdt.base);
	vmcs_write(HOST_IDTR_BASE, h->idt.base);
}

/* Registers that the VMCS does not hold and tern does not use: the guest's stay in the CPU between exits. */
/* clang-format off */
#define LIVE_MSRS(X)                                                                                                   \
	X(MSR_STAR, star) X(MSR_LSTAR, lstar) X(MSR_CSTAR, cstar) X(MSR_SFMASK, sfmask)                                \
	X(MSR_KERNEL_GS_BASE, kernel_gs_base)
/* clang-format on */

static void vmx_load(struct hv_vcpu *hv)
{
	struct vmx_vcpu *v = vmx_of(hv);
	struct vmx_cpu *c = this_cpu()->hv;
	vmcs_load(v->vmcs);
	if (v->cpu != this_cpu()->id) {
		v->cpu = this_cpu()->id;
		write_host_state(&c->host);
		v->flush = true; /* it may have been here before, and things have changed meanwhile */
	}
	vmcs_write(TSC_OFFSET, v->tsc_offset);
	if (vmx_caps.proc2 & PROC2_TSC_SCALING)
		vmcs_write(TSC_MULTIPLIER, v->tsc_ratio << 16); /* 48 bits of fraction, 25.6.5 */
	else
		vmx_set_proc(v, PROC_RDTSC, v->tsc_ratio != HV_TSC_SAME);
	fpu_load(v->xsave, v->xcr0);
#define X(msr, f) wrmsr(msr, v->f);
	LIVE_MSRS(X)
#undef X
	if (vmx_caps.tsc_aux)
		wrmsr(MSR_TSC_AUX, v->tsc_aux);
	write_cr2(v->cr2);
	__asm__ volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3; mov %4, %%dr6" ::"r"(v->dr[0]),
			 "r"(v->dr[1]), "r"(v->dr[2]), "r"(v->dr[3]), "r"(v->dr6));
}

static void vmx_put(struct hv_vcpu *hv)
{
	struct vmx_vcpu *v = vmx_of(hv);
	struct vmx_cpu *c = this_cpu()->hv;
	v->xcr0 = fpu_save(v->xsave);
#define X(msr, f) v->f = rdmsr(msr);
	LIVE_MSRS(X)
#undef X
	v->cr2 = read_cr2();
	__asm__ volatile("mov %%dr0, %0; mov %%dr1, %1; mov %%dr2, %2; mov %%dr3, %3; mov %%dr6, %4"
			 : "=r"(v->dr[0]), "=r"(v->dr[1]), "=r"(v->dr[2]), "=r"(v->dr[3]), "=r"(v->dr6));
	vmcs_clear(v->vmcs);
	v->launched = false;
	__asm__ volatile("lgdt %0; lidt %1" ::"m"(c->host.gdt),
			 "m"(c->host.idt)); /* exits set their limits to 0xffff */
}

static void vmx_flush_tlb(struct hv_vcpu *hv) { vmx_of(hv)->flush = true; }

/* ---- entry and exit ---- */

/* An exit must leave the CPU as the entry found it. Checked in the test image. */
static void verify_host(const struct vmx_host *h)
{
	if (!TERN_FAILPOINTS)
		return;
	BUG_ON(read_cr0() != h->cr0 || read_cr3() != h->cr3 || read_cr4() != h->cr4);
	BUG_ON(rdmsr(MSR_EFER) != h->efer || rdmsr(MSR_PAT) != h->pat || rdmsr(MSR_GS_BASE) != h->gs_base);
	uint16_t tr;
	__asm__("str %0" : "=r"(tr));
	BUG_ON(tr != h->tr);
}

static void refused(unsigned flags, struct vmexit *x)
{
	uint64_t err = flags & 0xff ? 0 : vmcs_read(INSTRUCTION_ERROR);
	x->kind = EXIT_INVALID;
	snprintf(x->u.why, sizeof(x->u.why), "VM entry failed with VM-instruction error %lu (SDM 3C 31.4)", err);
}

static void vmx_enter(struct hv_vcpu *hv, struct vmexit *x)
{
	struct vmx_vcpu *v = vmx_of(hv);
	struct vmx_cpu *c = this_cpu()->hv;
	if (v->flush) {
		v->flush = false;
		vmx_invept(vmx_caps.ept & EPT_CAP_INVEPT_SINGLE, v->eptp);
	}
	if (v->event | v->hv.event_next)
		vmx_entry_event(v);
	vmcs_write(GUEST_RIP, v->hv.rip);
	vmcs_write(GUEST_RFLAGS, v->hv.rflags);
	vmcs_write(GUEST_RSP, v->hv.gpr[REG_RSP]);
	unsigned flags = vmx_world_switch(v->hv.gpr, v->launched);
	verify_host(&c->host);
	if (flags) {
		refused(flags, x);
		return;
	}
	uint32_t reason = (uint32_t)vmcs_read(EXIT_REASON);
	if (reason & VMX_ENTRY_FAILED) { /* the event was not delivered, nothing has run */
		vmcs_write(ENTRY_INTR_INFO, 0);
		if ((reason & 0xffff) == VMX_MCE_AT_ENTRY) {
			x->kind = EXIT_EXCEPTION;
			x->u.exc.vector = VEC_MC;
			return;
		}
		x->kind = EXIT_INVALID;
		vmx_explain_refusal(x->u.why, sizeof(x->u.why));
		return;
	}
	v->launched = true;
	v->hv.rip = vmcs_read(GUEST_RIP);
	v->hv.rflags = vmcs_read(GUEST_RFLAGS);
	v->hv.gpr[REG_RSP] = vmcs_read(GUEST_RSP);
	vmx_decode(v, x, reason);
}

/* ---- registers that generic code asks for ---- */

static int vmx_get_msr(struct hv_vcpu *hv, uint32_t msr, uint64_t *val)
{
	switch (msr) {
	case MSR_EFER: *val = vmcs_read(GUEST_EFER); return 0;
	case MSR_PAT: *val = vmcs_read(GUEST_PAT); return 0;
	case MSR_SYSENTER_CS: *val = vmcs_read(GUEST_SYSENTER_CS); return 0;
	case MSR_SYSENTER_ESP: *val = vmcs_read(GUEST_SYSENTER_ESP); return 0;
	case MSR_SYSENTER_EIP: *val = vmcs_read(GUEST_SYSENTER_EIP); return 0;
	case MSR_TSC_AUX: *val = vmx_of(hv)->tsc_aux; return vmx_caps.tsc_aux ? 0 : -EINVAL;
	default: return -EINVAL;
	}
}

static int vmx_set_msr(struct hv_vcpu *hv, uint32_t msr, uint64_t val)
{
	uint64_t efer = vmcs_read(GUEST_EFER);
	switch (msr) {
	case MSR_EFER:
		if (!hv_efer_valid(val, efer, vmx_cr0()))
			return -EINVAL;
		vmcs_write(GUEST_EFER, (val & ~EFER_LMA) | (efer & EFER_LMA));
		return 0;
	case MSR_PAT: vmcs_write(GUEST_PAT, val); return 0;
	case MSR_SYSENTER_CS: vmcs_write(GUEST_SYSENTER_CS, (uint32_t)val); return 0;
	case MSR_SYSENTER_ESP: vmcs_write(GUEST_SYSENTER_ESP, val); return 0;
	case MSR_SYSENTER_EIP: vmcs_write(GUEST_SYSENTER_EIP, val); return 0;
	case MSR_TSC_AUX:
		if (!vmx_caps.tsc_aux)
			return -EINVAL;
		vmx_of(hv)->tsc_aux = val;
		wrmsr(MSR_TSC_AUX, val); /* loaded: exits are handled with the vCPU's task on its CPU */
		return 0;
	default: return -EINVAL;
	}
}

static int vmx_set_xcr0(struct hv_vcpu *hv unused, uint64_t xcr0)
{
	if (!fpu_xcr0_valid(xcr0))
		return -EINVAL;
	fpu_set_xcr0(xcr0);
	return 0;
}

/* Takes effect when the vCPU is loaded next. */
static void vmx_set_tsc(struct hv_vcpu *hv, uint64_t offset, uint64_t ratio)
{
	struct vmx_vcpu *v = vmx_of(hv);
	v->tsc_offset = offset;
	v->tsc_ratio = ratio;
}

static void get_state(struct hv_vcpu *hv, struct cpu_state *s)
{
	struct vmx_vcpu *v = vmx_of(hv);
	uint64_t flags = borrow(v);
	vmx_get_state(hv, s);
	give_back(v, flags);
}

static int set_state(struct hv_vcpu *hv, const struct cpu_state *s, struct why *w)
{
	struct vmx_vcpu *v = vmx_of(hv);
	uint64_t flags = borrow(v);
	int err = vmx_set_state(hv, s, w);
	give_back(v, flags);
	return err;
}

/* clang-format off */
const struct hv_ops vmx_ops = {
	.name = "VT-x", .pt_format = &vmx_pt_format, .features = vmx_features, .nfeatures = VMX_NFEATURES,
	.probe = vmx_probe, .cpu_on = vmx_cpu_on, .create = vmx_create, .destroy = vmx_destroy,
	.load = vmx_load, .put = vmx_put, .enter = vmx_enter, .get_state = get_state, .set_state = set_state,
	.get_mode = vmx_get_mode, .inject = vmx_inject, .ready = vmx_ready, .window = vmx_window,
	.skip = vmx_skip, .get_msr = vmx_get_msr, .set_msr = vmx_set_msr, .set_xcr0 = vmx_set_xcr0,
	.set_tsc = vmx_set_tsc, .flush_tlb = vmx_flush_tlb,
};
/* clang-format on */
