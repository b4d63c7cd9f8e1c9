/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/features.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/hw/xsave.h"

#define FEATURE(leaf, sub, reg, bit, name, policy, model, state) \
	{ leaf, sub, FEATURE_##reg, bit, FEATURE_##policy, FEATURE_##model, XCR0_##state, name },
const struct feature features[] = {
#include "arch/x86/features.def"
};
#undef FEATURE
const unsigned nfeatures = ARRAY_SIZE(features);

static bool is_at(const struct feature *f, uint32_t leaf, uint32_t sub, enum feature_reg reg)
{
	return f->leaf == leaf && f->sub == sub && f->reg == reg;
}

uint32_t feature_mask(uint32_t leaf, uint32_t sub, enum feature_reg reg, enum feature_policy policy)
{
	uint32_t mask = 0;
	for (unsigned i = 0; i < nfeatures; i++)
		if (is_at(&features[i], leaf, sub, reg) && features[i].policy == policy)
			mask |= 1U << features[i].bit;
	return mask;
}

uint32_t feature_mask_portable(uint32_t leaf, uint32_t sub, enum feature_reg reg)
{
	uint32_t mask = 0;
	for (unsigned i = 0; i < nfeatures; i++)
		if (is_at(&features[i], leaf, sub, reg) && features[i].policy == FEATURE_PASS &&
		    features[i].model == FEATURE_ANY)
			mask |= 1U << features[i].bit;
	return mask;
}

uint32_t feature_mask_state(uint32_t leaf, uint32_t sub, enum feature_reg reg, uint64_t xcr0)
{
	uint32_t mask = 0;
	for (unsigned i = 0; i < nfeatures; i++)
		if (is_at(&features[i], leaf, sub, reg) && features[i].policy == FEATURE_PASS &&
		    !(features[i].state & ~xcr0))
			mask |= 1U << features[i].bit;
	return mask;
}

const char *feature_name(uint32_t leaf, uint32_t sub, enum feature_reg reg, unsigned bit)
{
	for (unsigned i = 0; i < nfeatures; i++)
		if (is_at(&features[i], leaf, sub, reg) && features[i].bit == bit)
			return features[i].name;
	return "?";
}

static struct cpuid_regs read_this_cpu(const struct cpuid_source *src unused, uint32_t leaf, uint32_t sub)
{
	return cpuid(leaf, sub);
}
const struct cpuid_source cpuid_this_cpu = { read_this_cpu };

struct cpuid_regs cpuid_source_read(const struct cpuid_source *src, uint32_t leaf, uint32_t sub)
{
	uint32_t first = leaf & 0xffff0000, last = src->read(src, first, 0).eax;
	if (leaf > last || last - first > 0xffff)
		return (struct cpuid_regs){ 0 };
	return src->read(src, leaf, sub);
}

uint64_t feature_xcr0(const struct cpuid_source *src, uint32_t *size)
{
	*size = FXSAVE_SIZE;
	if (!(cpuid_source_read(src, 1, 0).ecx & CPUID1_ECX_XSAVE))
		return 0;
	struct cpuid_regs d = cpuid_source_read(src, 0xd, 0);
	uint64_t mask = ((uint64_t)d.edx << 32 | d.eax) & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU);
	for (unsigned i = 2; i < 63; i++) { /* EAX size, EBX offset in the standard format */
		struct cpuid_regs c = mask & BIT(i) ? cpuid_source_read(src, 0xd, i) : d;
		if ((mask & BIT(i)) && (!c.eax || c.eax > XSAVE_AREA_MAX || c.ebx > XSAVE_AREA_MAX - c.eax))
			mask &= ~BIT(i);
	}
	if ((mask & XCR0_AVX512) != XCR0_AVX512 || !(mask & XCR0_AVX)) /* all of them or none, SDM 1 13.3 */
		mask &= ~XCR0_AVX512;
	*size = XSAVE_HEADER_END;
	for (unsigned i = 2; i < 63; i++)
		if (mask & BIT(i)) {
			d = cpuid_source_read(src, 0xd, i);
			*size = MAX(*size, d.eax + d.ebx);
		}
	return mask;
}

const struct feature_identity *feature_identity(const struct cpuid_source *src)
{
	static const struct feature_identity ids[] = {
		{ { CPUID0_EBX_GENU, 0x6c65746e, 0x49656e69 }, 0x000306c3, false }, /* "GenuineIntel", Haswell */
		{ { CPUID0_EBX_AUTH, 0x444d4163, 0x69746e65 }, 0x00800f12, true },  /* "AuthenticAMD", Zen */
	};
	struct cpuid_regs r = cpuid_source_read(src, 0, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		if (r.ebx == ids[i].vendor[0] && r.ecx == ids[i].vendor[1] && r.edx == ids[i].vendor[2])
			return &ids[i];
	return NULL;
}
