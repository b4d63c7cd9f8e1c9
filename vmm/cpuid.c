/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's CPUID (cpuid.h). KVM's leaves at 0x40000000 give Linux kvmclock and x2APIC without interrupt remapping. */
#include "vmm/cpuid.h"
#include "arch/x86/cpu.h"
#include "arch/x86/features.h"
#include "arch/x86/fpu.h"
#include "vmm/vm.h"
#include <string.h>

#define KVM_FEATURE_NOP_IO_DELAY       BIT(1)
#define KVM_FEATURE_CLOCKSOURCE2       BIT(3)
#define KVM_FEATURE_CLOCKSOURCE_STABLE BIT(24)
#define LEAF_MAX                       0xd
#define LEAF_EXT_MAX                   0x80000008

static void add(struct cpuid_table *t, uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	BUG_ON(t->s.n == CPUID_MAX);
	t->s.leaf[t->s.n] = leaf;
	t->s.sub[t->s.n] = sub;
	memcpy(&t->s.regs[4 * t->s.n++], (uint32_t[4]){ a, b, c, d }, 16);
}

static uint32_t masked(uint32_t leaf, uint32_t sub, enum feature_reg reg, uint32_t host)
{
	return (host & feature_mask(leaf, sub, reg, FEATURE_PASS)) | feature_mask(leaf, sub, reg, FEATURE_SET);
}

void cpuid_table_init(struct cpuid_table *t)
{
	uint64_t xmask = fpu_xcr0_mask();
	struct cpuid_regs r = cpuid(0, 0);
	memset(t, 0, sizeof(*t));
	add(t, 0, 0, LEAF_MAX, r.ebx, r.ecx, r.edx);
	r = cpuid(1, 0);
	uint32_t edx1 = masked(1, 0, FEATURE_EDX, r.edx);
	add(t, 1, 0, r.eax, (r.ebx & 0xff00) | 1 << 16, masked(1, 0, FEATURE_ECX, r.ecx), edx1);
	r = cpuid(7, 0);
	add(t, 7, 0, 0, masked(7, 0, FEATURE_EBX, r.ebx), masked(7, 0, FEATURE_ECX, r.ecx),
	    masked(7, 0, FEATURE_EDX, r.edx));
	add(t, 0xb, 0, 0, 1, 0x100, 0); /* one thread a core, */
	add(t, 0xb, 1, 8, 1, 0x201, 0); /* one package */
	if (xmask) {
		add(t, 0xd, 0, (uint32_t)xmask, 0, fpu_area_size(), (uint32_t)(xmask >> 32));
		add(t, 0xd, 1, masked(0xd, 1, FEATURE_EAX, cpuid(0xd, 1).eax), 0, 0, 0);
		for (unsigned i = 2; i < 63; i++)
			if (xmask & BIT(i)) {
				r = cpuid(0xd, i);
				add(t, 0xd, i, r.eax, r.ebx, r.ecx & ~1U, 0);
			}
	}
	add(t, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d); /* "KVMKVMKVM" */
	add(t, 0x40000001, 0, KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 | KVM_FEATURE_CLOCKSOURCE_STABLE, 0,
	    0, 0);
	r = cpuid(0x80000000, 0);
	add(t, 0x80000000, 0, LEAF_EXT_MAX, r.ebx, r.ecx, r.edx);
	r = cpuid(0x80000001, 0);
	/* AMD repeats leaf 1's EDX here, but for bits that Intel and AMD use apart (APM3 appendix E). */
	uint32_t shared = r.ebx | r.ecx ? r.edx & edx1 & 0x0183f3ff : 0;
	add(t, 0x80000001, 0, r.eax, 0, masked(0x80000001, 0, FEATURE_ECX, r.ecx),
	    masked(0x80000001, 0, FEATURE_EDX, r.edx) | shared);
	for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++) { /* brand, L1 and L2 */
		r = cpuid(leaf, 0);
		add(t, leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
	}
	r = cpuid(0x80000008, 0);
	add(t, 0x80000008, 0, r.eax & 0xffff, masked(0x80000008, 0, FEATURE_EBX, r.ebx), 0, 0);
}

/* Size of the XSAVE area for what is enabled now: CPUID 0xD.0:EBX, or 0xD.1:EBX for the compacted format (SDM 1 13.2). */
static uint32_t xsave_size(const struct cpuid_table *t, uint64_t xcr0, bool compacted)
{
	uint32_t size = 576;
	for (unsigned i = 0; i < t->s.n; i++) { /* in order of components */
		const uint32_t *r = &t->s.regs[4 * i];
		if (t->s.leaf[i] != 0xd || t->s.sub[i] < 2 || !(xcr0 & BIT(t->s.sub[i])))
			continue;
		if (compacted)
			size = (r[2] & BIT(1) ? ALIGN_UP(size, 64U) : size) + r[0];
		else
			size = MAX(size, r[0] + r[1]);
	}
	return size;
}

void cpuid_table_read(const struct cpuid_table *t, uint32_t leaf, uint32_t sub, const struct hv_mode *m, uint64_t xcr0,
		      uint32_t apic_id, uint32_t regs[4])
{
	memcpy(regs, cpuid_table_row(t, leaf, sub), 16);
	if (leaf == 1) {
		regs[1] |= apic_id << 24;
		if (m->cr4 & CR4_OSXSAVE)
			regs[2] |= BIT(27);
	} else if (leaf == 7 && sub == 0 && (m->cr4 & CR4_PKE)) {
		regs[2] |= BIT(4);
	} else if (leaf == 0xb) {
		regs[2] = (regs[2] & ~0xffU) | (sub & 0xff);
		regs[3] = apic_id;
	} else if (leaf == 0xd && sub == 0 && regs[0]) {
		regs[1] = xsave_size(t, xcr0, false);
	} else if (leaf == 0xd && sub == 1 && (regs[0] & BIT(1))) { /* XSAVEC */
		regs[1] = xsave_size(t, xcr0, true);
	}
}

static int cpuid_check(const void *obj unused, const void *state, struct why *w)
{
	const struct cpuid_table_state *s = state;
	if (s->n > CPUID_MAX)
		return why_set(w, -EINVAL, "cpuid: %u entries", s->n);
	for (unsigned i = 0; i < s->n; i++)
		if (s->leaf[i] == 0xd && s->sub[i] > 62)
			return why_set(w, -EINVAL, "cpuid: XSAVE component %u", s->sub[i]);
	return 0;
}

/* clang-format off */
static const struct sfield cpuid_fields[] = {
	F(struct cpuid_table_state, n), F_ARR(struct cpuid_table_state, leaf), F_ARR(struct cpuid_table_state, sub),
	F_ARR(struct cpuid_table_state, regs), F(struct cpuid_table_state, pad),
};
/* clang-format on */
const struct sdesc cpuid_desc = { .name = "cpuid",
				  .version = 1,
				  SDESC(struct cpuid_table, s, struct cpuid_table_state, cpuid_fields),
				  .check = cpuid_check };

/* ---- compatibility: what the guest was given must be there at the destination ---- */

void vm_compat_get(const struct vm *vm, struct vm_compat *c)
{
	const struct cpuid_table_state *s = &vm->cpuid.s;
	_Static_assert(VM_COMPAT_WORDS >= CPUID_MAX, "the compatibility words are the guest's CPUID");
	c->n = s->n;
	memcpy(c->leaf, s->leaf, sizeof(s->leaf));
	memcpy(c->sub, s->sub, sizeof(s->sub));
	memcpy(c->regs, s->regs, sizeof(s->regs));
}

static int compat_bits(uint32_t leaf, uint32_t sub, const uint32_t want[4], const uint32_t have[4], struct why *w)
{
	static const char *const reg[] = { "EAX", "EBX", "ECX", "EDX" };
	for (unsigned r = 0; r < 4; r++) {
		uint32_t relevant = feature_mask(leaf, sub, r, FEATURE_PASS) | feature_mask(leaf, sub, r, FEATURE_SET);
		uint32_t lacking = want[r] & ~have[r] & relevant;
		if (lacking) {
			unsigned bit = (unsigned)__builtin_ctz(lacking);
			return why_set(w, -ENOTSUP, "destination lacks %s (CPUID 0x%X.%u:%s[%u])",
				       feature_name(leaf, sub, r, bit), leaf, sub, reg[r], bit);
		}
	}
	return 0;
}

int vm_compat_check(const struct vm_compat *c, struct why *w)
{
	struct cpuid_table host;
	cpuid_table_init(&host);
	if (c->n > VM_COMPAT_WORDS)
		return why_set(w, -EINVAL, "%u CPUID entries", c->n);
	for (unsigned i = 0; i < c->n; i++) {
		const uint32_t *want = c->regs[i], *have = (const uint32_t[4]){ 0 };
		for (unsigned k = 0; k < host.s.n; k++)
			if (host.s.leaf[k] == c->leaf[i] && host.s.sub[k] == c->sub[i])
				have = &host.s.regs[4 * k];
		if (c->leaf[i] == 0 && memcmp(&want[1], &have[1], 12))
			return why_set(w, -ENOTSUP, "destination's CPU is from another vendor (CPUID 0x0)");
		if (c->leaf[i] == 0xd && c->sub[i] == 0 && ((want[0] & ~have[0]) || (want[3] & ~have[3])))
			return why_set(w, -ENOTSUP,
				       "destination lacks XSAVE components (CPUID 0xD.0:EAX: %x, needs %x)", have[0],
				       want[0]);
		if (c->leaf[i] == 0xd && c->sub[i] > 1 && memcmp(want, have, 8))
			return why_set(w, -ENOTSUP, "destination keeps XSAVE component %u elsewhere (CPUID 0xD.%u)",
				       c->sub[i], c->sub[i]);
		int err = compat_bits(c->leaf[i], c->sub[i], want, have, w);
		if (err)
			return err;
	}
	return 0;
}
