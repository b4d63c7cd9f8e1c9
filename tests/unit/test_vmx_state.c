/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * struct cpu_state into a VMCS and back is the identity for any state that a guest can have, also by way of an AMD
 * host; what VM entry would refuse is made regular or refused with words; a refusal by the CPU is explained by its
 * rule.
 */
#include "arch/x86/svm_vcpu.h"
#include "tests/unit/cpuid_dumps.h"
#include "tests/unit/fake_vmcs.h"
#include "tests/unit/random_state.h"
#include "vmm/x86/cpu_check.h"
#include "vmm/x86/vcpu.h"
#include "vmm/x86/cpu_state.h"

static struct vmx_vcpu intel;
static struct svm_vcpu amd;
static struct vmcb vmcb;

static int to_intel(const struct cpu_state *s, struct why *w)
{
	memset(vmcs, 0xee, sizeof(vmcs)); /* nothing of an earlier state shines through */
	memset(&intel, 0x5a, sizeof(intel));
	return vmx_set_state(&intel.hv, s, w);
}
static int to_amd(const struct cpu_state *s, struct why *w)
{
	memset(&vmcb, 0, sizeof(vmcb));
	memset(&amd, 0x5a, sizeof(amd));
	amd.vmcb = &vmcb;
	return svm_set_state(&amd.hv, s, w);
}

/* A random state as a 64-bit guest can have it on either vendor. */
static void guest_state(struct cpu_state *s)
{
	random_state(s);
	s->cr0 |= CR0_PE | CR0_PG | CR0_ET;
	s->cr4 = (s->cr4 & vmx_cr4_allowed()) | CR4_PAE;
	if (s->cr0 & CR0_NW)
		s->cr0 |= CR0_CD;
	s->efer |= EFER_LME | EFER_LMA;
	s->gdt_base = (uint64_t)((int64_t)s->gdt_base >> 17), s->idt_base = (uint64_t)((int64_t)s->idt_base >> 17);
	s->cr3 &= 0x7ffffffff000ULL;
	s->rip = (uint64_t)((int64_t)s->rip >> 17);
	s->rflags = (s->rflags & 0x254dd5) | RFLAGS_ALWAYS; /* all that is defined but VM, VIF, VIP */
	for (unsigned i = 0; i < SEG_COUNT; i++) {
		struct seg_state *g = &s->seg[i];
		g->base = (uint64_t)((int64_t)g->base >> 17);
		g->attr = (g->attr & ~0x18010U) | (i < SEG_LDTR ? 0x11 : 0) | 0x80;
		g->limit &= 0xfffff;
		if (rnd() & 1)
			g->limit = g->limit << 12 | 0xfff;
		if (g->limit >> 20)
			g->attr |= 0x8000; /* G */
	}
	s->seg[SEG_CS].attr = (s->seg[SEG_CS].attr & ~0x6000U) | 0x2000;
	uint32_t dpl = s->seg[SEG_SS].attr & 0x60; /* is CPL, and CS goes with it */
	s->seg[SEG_CS].attr = (s->seg[SEG_CS].attr & ~0x64U) | 8 | dpl;
	s->seg[SEG_TR].attr = (s->seg[SEG_TR].attr & ~0x1fU) | 11;
	s->seg[SEG_LDTR].attr = (s->seg[SEG_LDTR].attr & ~0x1fU) | 2;
	for (unsigned i = SEG_SS; i <= SEG_LDTR; i++)
		if (rnd() & 1) /* a null selector */
			s->seg[i].attr = (s->seg[i].attr & (i == SEG_SS ? 0x60 : 0)) | AR_UNUSABLE;
	if (s->int_shadow)
		s->int_shadow = s->rflags & RFLAGS_IF ? HV_SHADOW_STI : HV_SHADOW_MOV_SS;
	if (s->int_shadow && (s->rflags & RFLAGS_TF))
		s->pending_debug = PENDING_DEBUG_BS;
}

static void same(struct cpu_state *s, struct cpu_state *t, const char *where)
{
	static uint8_t a[sizeof(*s)], b[sizeof(*t)];
	struct why w = { "" };
	state_save(&cpu_state_desc, s, a);
	state_save(&cpu_state_desc, t, b);
	if (state_diff(&cpu_state_desc, a, b, state_size(&cpu_state_desc), &w))
		fail_msg("%s: %s", where, w.text);
}

static void test_identity(void **state)
{
	static struct cpu_state s, t;
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct why w = { "" };
		guest_state(&s);
		s.nmi_blocked = rnd() & 1;
		if (to_intel(&s, &w))
			fail_msg("refused: %s", w.text);
		memset(&t, 0xa5, sizeof(t));
		vmx_get_state(&intel.hv, &t);
		same(&s, &t, "VT-x");
		assert_true(vmcs[GUEST_CR4] & CR4_VMXE); /* which the guest does not see */
		assert_true((vmcs[GUEST_CR0] & (CR0_NE | CR0_CD | CR0_NW)) == CR0_NE);
		assert_true(vmcs[ENTRY_CONTROLS] & ENTRYC_IA32E);
		assert_true(intel.flush);
	}
}

/* A -> neutral -> B -> neutral -> A, from both ends. AMD has no blocking by NMI and no pending debug traps to keep. */
static void test_across_vendors(void **state)
{
	static struct cpu_state s, t, u;
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct why w = { "" };
		guest_state(&s);
		s.pending_debug = 0;
		if (s.int_shadow)
			s.rflags &= ~RFLAGS_TF;
		assert_int_equal(to_intel(&s, &w), 0);
		vmx_get_state(&intel.hv, &t);
		assert_int_equal(to_amd(&t, &w), 0);
		svm_get_state(&amd.hv, &u);
		same(&t, &u, "Intel to AMD");
		assert_int_equal(to_intel(&u, &w), 0);
		vmx_get_state(&intel.hv, &t);
		same(&s, &t, "Intel, AMD, Intel");
		assert_int_equal(to_amd(&t, &w), 0);
		svm_get_state(&amd.hv, &u);
		same(&s, &u, "AMD, Intel, AMD");
	}
}

/* The loose ends that AMD leaves: VM entry accepts what comes of them. */
static void test_made_regular(void **state)
{
	static struct cpu_state s;
	char why[96];
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		guest_state(&s);
		s.int_shadow = 0;
		s.pending_debug = 0;
		s.seg[SEG_TR].attr &= ~2U;                                     /* not busy, as QEMU has it */
		s.seg[SEG_DS].attr = 0x40f2;                                   /* writable data, not marked accessed */
		s.seg[SEG_ES].attr = 0;                                        /* null */
		s.seg[SEG_CS].limit = 0xffffffff, s.seg[SEG_CS].attr = 0x209b; /* G clear */
		s.seg[SEG_SS].attr &= ~0x60U;
		s.seg[SEG_LDTR].limit = 0x67, s.seg[SEG_LDTR].attr = 0x8082; /* G set for a limit in bytes */
		assert_int_equal(to_intel(&s, NULL), 0);
		vmcs[ENTRY_INTR_INFO] = vmcs[GUEST_ACTIVITY] = 0;
		vmcs[GUEST_RIP] = s.rip, vmcs[GUEST_RFLAGS] = s.rflags;
		vmx_explain_refusal(why, sizeof(why));
		if (strncmp(why, "a check of SDM 3C 27.3;", 23)) /* it finds nothing */
			fail_msg("%s", why);
	}
	for (unsigned v86 = 0; v86 < 2;
	     v86++) { /* real mode as QEMU has it, with the attributes of virtual-8086 mode */
		guest_state(&s);
		s.int_shadow = 0, s.pending_debug = 0, s.event = 0, s.rip &= 0xffff;
		s.efer &= ~(EFER_LME | EFER_LMA), s.cr4 &= ~(CR4_PCIDE | CR4_PAE), s.cr0 &= ~CR0_PG;
		for (unsigned k = SEG_ES; k <= SEG_GS; k++)
			s.seg[k] = (struct seg_state){ 0x12340, 0xfffff, k == SEG_CS ? 0xf3 : 0x73 | 0x80, 0x1234 };
		if (v86)
			s.rflags |= RFLAGS_VM;
		else
			s.cr0 &= ~CR0_PE, s.seg[SEG_CS].limit = 0xffff;
		assert_int_equal(to_intel(&s, NULL), 0);
		vmcs[ENTRY_INTR_INFO] = vmcs[GUEST_ACTIVITY] = 0;
		vmcs[GUEST_RIP] = s.rip, vmcs[GUEST_RFLAGS] = s.rflags;
		vmx_explain_refusal(why, sizeof(why));
		if (strncmp(why, "a check of SDM 3C 27.3;", 23))
			fail_msg("%s", why);
	}
	guest_state(&s);
	s.int_shadow = 0;
	s.rflags |= RFLAGS_TF | RFLAGS_IF; /* a single step behind a shadow, which AMD does not tell of */
	s.int_shadow = HV_SHADOW_STI;
	assert_int_equal(to_intel(&s, NULL), 0);
	assert_true(vmcs[GUEST_PENDING_DEBUG] == PENDING_DEBUG_BS);
	s.rflags &= ~RFLAGS_TF;
	s.pending_debug = PENDING_DEBUG_BS;
	assert_int_equal(to_intel(&s, NULL), 0);
	assert_true(vmcs[GUEST_PENDING_DEBUG] == 0);
}

static void test_refused(void **state)
{
	static struct cpu_state good, s;
	struct why w;
	(void)state;
	guest_state(&good);
#define REFUSED(change, words)                                                 \
	do {                                                                   \
		s = good;                                                      \
		w.text[0] = 0;                                                 \
		change;                                                        \
		assert_int_equal(to_intel(&s, &w), -EINVAL);                   \
		if (!strstr(w.text, words))                                    \
			fail_msg("\"%s\" does not say \"%s\"", w.text, words); \
	} while (0)
	assert_int_equal(to_intel(&good, &w), 0);
	REFUSED(s.cr4 |= BIT(23), "CR4");
	REFUSED(s.efer &= ~EFER_LMA, "PAE");
	REFUSED(s.xcr0 = 5, "XCR0");
#undef REFUSED
}

/* What cpu_state_check and the load let in, VM entry takes: nothing is left for vmx_check.c to find. */
static void test_checked_before(void **state)
{
	static struct cpuid_table t;
	static struct cpu_state s;
	struct dump d = dump_of(machine("Haswell"));
	unsigned entered = 0;
	char why[96];
	(void)state;
	assert_int_equal(cpuid_table_init(&t, "host", &d.src, NULL), 0);
	for (unsigned i = 0; i < 50000; i++) {
		guest_state(&s);
		s.cr0 &= CR0_DEFINED, s.cr3 &= 0x7ffffff000;
		s.cr4 &= ~CR4_SMAP; /* which this Haswell has not */
		s.pat = PAT_POWER_ON;
		s.xcr0 &= 7;
		put_le64(s.xsave + 512, get_le64(s.xsave + 512) & 7);
		s.event &= ~(0xffffULL << 48);
		for (unsigned k = 0; k < SEG_COUNT; k++) {
			s.seg[k].base &= k <= SEG_DS ? 0xffffffff : ~0ULL;
			s.seg[k].selector &= ~4ULL;
			s.seg[k].attr |= k == SEG_CS ? 8 : k < SEG_LDTR && !(s.seg[k].attr & AR_UNUSABLE) ? 2 : 0;
			s.seg[k].attr &= k == SEG_SS ? ~8U : ~0U;
		}
		for (unsigned n = rnd() % 4; n > 0; n--) /* up to GPRs and back from the area of XSAVE */
			((uint64_t *)&s)[REG_COUNT + rnd() % (offsetof(struct cpu_state, xsave) / 8 - REG_COUNT)] ^=
				BIT(rnd() % 64);
		if (cpu_state_check(&s, &t, NULL) || to_intel(&s, NULL))
			continue;
		entered++;
		vmcs[ENTRY_INTR_INFO] = s.event, vmcs[GUEST_ACTIVITY] = 0;
		vmcs[GUEST_RIP] = s.rip, vmcs[GUEST_RFLAGS] = s.rflags;
		vmx_explain_refusal(why, sizeof(why));
		if (strncmp(why, "a check of SDM 3C 27.3;", 23))
			fail_msg("%s", why);
	}
	assert_true(entered > 10000);
}

/* CR0.NE, CD and NW as the guest wrote them, whatever hardware has. */
static void test_cr0_shadow(void **state)
{
	struct hv_mode m;
	(void)state;
	vmx_set_cr0(CR0_PE | CR0_CD | CR0_NW | CR0_ET);
	assert_true(vmx_cr0() == (CR0_PE | CR0_CD | CR0_NW | CR0_ET));
	assert_true(vmcs[GUEST_CR0] == (CR0_PE | CR0_NE | CR0_ET));
	vmcs[GUEST_CR0] |= CR0_TS | CR0_PG; /* the guest's own bits change without an exit */
	vmx_set_cr4(CR4_PAE);
	assert_true(vmcs[GUEST_CR4] ==
		    (CR4_VMXE | CR4_PAE | CR4_MCE)); /* a machine check is the host's, not a shutdown */
	vmcs[GUEST_EFER] = EFER_LMA | EFER_LME;
	vmcs[GUEST_ES_ATTR + 2 * SEG_CS] = 0xa09b;
	vmcs[GUEST_ES_ATTR + 2 * SEG_SS] = 0x60 | AR_UNUSABLE;
	vmx_get_mode(&intel.hv, &m);
	assert_true(m.cr0 == (CR0_PE | CR0_CD | CR0_NW | CR0_ET | CR0_TS | CR0_PG));
	assert_true(m.cr4 == CR4_PAE && m.long_mode && m.cpl == 3 && !m.cs32);
}

/*
 * An NMI on its way blocks no other by itself: to Intel, which refuses it then, and to AMD, which must look for its
 * IRET.
 */
static void test_nmi_on_its_way(void **state)
{
	static struct cpu_state s, t;
	uint64_t nmi = HV_EVENT(HV_EVENT_NMI, VEC_NMI);
	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		guest_state(&s);
		s.event = i & 1 ? nmi : 0;
		s.event_next = i & 2 ? nmi : 0;
		s.nmi_blocked = i >> 2;
		bool way = i & 3;
		assert_int_equal(to_amd(&s, NULL), 0);
		assert_int_equal(amd.nmi_blocked, way || s.nmi_blocked);
		svm_get_state(&amd.hv, &t);
		assert_int_equal(t.nmi_blocked, !way && s.nmi_blocked);
		assert_int_equal(to_intel(&s, NULL), 0);
		assert_int_equal(!!(vmcs[GUEST_INTERRUPTIBILITY] & INTERRUPTIBILITY_NMI), !way && s.nmi_blocked);
	}
}

static void test_explain(void **state)
{
	static struct cpu_state s;
	static uint64_t good[ARRAY_SIZE(vmcs)];
	char why[96];
	static const struct {
		enum vmcs_field field;
		uint64_t set, clear;
		const char *words;
	} cases[] = {
		{ GUEST_CR0, 0, CR0_NE, "CR0" },
		{ GUEST_CR0, 0, CR0_PE, "PG without" },
		{ GUEST_CR4, 0, CR4_VMXE, "CR4" },
		{ GUEST_CR4, BIT(23), 0, "CR4" },
		{ GUEST_CR4, 0, CR4_PAE, "PAE" },
		{ GUEST_EFER, 0, EFER_LMA, "LMA" },
		{ GUEST_CR3, BIT(63), 0, "CR3" },
		{ GUEST_DR7, BIT(32), 0, "DR7" },
		{ GUEST_SYSENTER_EIP, BIT(62), 0, "SYSENTER" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, AR_UNUSABLE, 0, "CS is unusable" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, BIT(14), 0, "CS has both L and D" },
		{ GUEST_ES_ATTR + 2 * SEG_TR, 0, 2, "TR is no busy TSS" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, 0, 1, "CS is not marked accessed" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, 0, 0x80, "CS is not present" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, 0, 0x10, "CS is of the wrong kind" },
		{ GUEST_ES_LIMIT + 2 * SEG_CS, 0, 1, "CS has a limit" },
		{ GUEST_ES_ATTR + 2 * SEG_CS, 0x60, 0, "CS does not go with the level of SS" },
		{ GUEST_RFLAGS, RFLAGS_VM, 0, "virtual-8086" },
		{ GUEST_RIP, BIT(62), 0, "RIP" },
		{ GUEST_RFLAGS, 0, 2, "RFLAGS" },
		{ GUEST_ACTIVITY, 1, 0, "activity" },
		{ GUEST_INTERRUPTIBILITY, 3, 0, "STI" },
		{ ENTRY_INTR_INFO, VMX_EVENT_VALID | 0x30, 0, "interrupt where none may come" },
	};
	(void)state;
	do
		guest_state(&s);
	while (s.int_shadow || s.pending_debug);
	s.rflags &= ~(RFLAGS_IF | RFLAGS_TF);
	s.rip = s.sysenter_eip = 0x1000;
	s.seg[SEG_CS] = (struct seg_state){ 0, 0xffffffff, 0xa09b, 8 };
	s.seg[SEG_SS] = (struct seg_state){ 0, 0xffffffff, 0xc093, 0x10 };
	assert_int_equal(to_intel(&s, NULL), 0);
	vmcs[ENTRY_INTR_INFO] = vmcs[GUEST_ACTIVITY] = 0;
	vmcs[GUEST_RIP] = s.rip, vmcs[GUEST_RFLAGS] = s.rflags;
	memcpy(good, vmcs, sizeof(good));
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(vmcs, good, sizeof(vmcs));
		vmcs[cases[i].field] = (vmcs[cases[i].field] | cases[i].set) & ~cases[i].clear;
		vmx_explain_refusal(why, sizeof(why));
		if (!strstr(why, cases[i].words))
			fail_msg("case %u: \"%s\" does not say \"%s\"", i, why, cases[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),     cmocka_unit_test(test_across_vendors),
		cmocka_unit_test(test_made_regular), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cr0_shadow),   cmocka_unit_test(test_nmi_on_its_way),
		cmocka_unit_test(test_explain),      cmocka_unit_test(test_checked_before),
	};

	return cmocka_run_group_tests_name("vmx_state", tests, NULL, NULL);
}
