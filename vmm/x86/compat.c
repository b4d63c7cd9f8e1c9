/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * May a VM come to this host? What its guest was told of its CPU must be true here as well. The source sends the
 * guest's CPUID words; the destination holds them against what it could give to a VM of its own with cpu = host, and
 * names the first thing that lacks. A subset is welcome. So the check is reflexive, and transitive.
 */
#include "vmm/x86/compat.h"
#include "vmm/vm.h"
#include <string.h>

void vm_compat_get(const struct vm *vm, struct vm_compat *c)
{
	const struct cpuid_table_state *s = &vm->cpuid.s;
	_Static_assert(VM_COMPAT_WORDS >= CPUID_MAX, "the compatibility words are the guest's CPUID");
	c->n = s->n;
	memcpy(c->leaf, s->leaf, sizeof(s->leaf));
	memcpy(c->sub, s->sub, sizeof(s->sub));
	memcpy(c->regs, s->regs, sizeof(s->regs));
}

/* Features first: of all differences, these tell an operator most. */
static int check_features(uint32_t leaf, uint32_t sub, const uint32_t want[4], const uint32_t have[4], struct why *w)
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
	if (leaf == 0x40000001 && (want[0] & ~have[0]))
		return why_set(w, -ENOTSUP,
			       "destination does not offer a service that the guest may use (CPUID 0x40000001:EAX[%u])",
			       __builtin_ctz(want[0] & ~have[0]));
	return 0;
}

/* The layout of the XSAVE area, which travels as it lies in memory; the width of addresses. */
static int check_layout(uint32_t leaf, uint32_t sub, const uint32_t want[4], const uint32_t have[4], struct why *w)
{
	if (leaf == 0xd && sub == 0 && ((want[0] & ~have[0]) || (want[3] & ~have[3])))
		return why_set(w, -ENOTSUP, "destination lacks XSAVE components (CPUID 0xD.0:EAX: %x, needs %x)",
			       have[0], want[0]);
	if (leaf == 0xd && sub > 1 && memcmp(want, have, 8))
		return why_set(w, -ENOTSUP, "destination keeps XSAVE component %u elsewhere (CPUID 0xD.%u)", sub, sub);
	if (leaf == 0x80000008 && (want[0] & 0xff) > (have[0] & 0xff))
		return why_set(w, -ENOTSUP,
			       "destination has %u bits of physical address, the guest was told %u (CPUID "
			       "0x80000008.0:EAX[7:0])",
			       have[0] & 0xff, want[0] & 0xff);
	return 0;
}

int vm_compat_check_on(const struct cpuid_source *src, const char *model, const struct vm_compat *c, struct why *w)
{
	struct cpuid_table host;
	int err = cpuid_table_init(&host, "host", src, w);
	if (err)
		return err;
	if (c->n > VM_COMPAT_WORDS)
		return why_set(w, -EINVAL, "%u CPUID entries", c->n);
	if (!cpuid_model_known(model))
		return why_set(w, -ENOTSUP, "destination does not know the CPU model %s", model);
	for (unsigned i = 0; i < c->n; i++)
		if ((err = check_features(c->leaf[i], c->sub[i], c->regs[i],
					  cpuid_table_row(&host, c->leaf[i], c->sub[i]), w)))
			return err;
	for (unsigned i = 0; i < c->n; i++)
		if ((err = check_layout(c->leaf[i], c->sub[i], c->regs[i],
					cpuid_table_row(&host, c->leaf[i], c->sub[i]), w)))
			return err;
	for (unsigned i = 0; i < c->n; i++)
		if (c->leaf[i] == 0 && !strcmp(model, "host") &&
		    memcmp(&c->regs[i][1], &cpuid_table_row(&host, 0, 0)[1], 12))
			return why_set(w, -ENOTSUP,
				       "destination's CPU is from another vendor (CPUID 0x0); a VM with cpu = portable "
				       "can go there");
	return 0;
}

int vm_compat_check(const char *model, const struct vm_compat *c, struct why *w)
{
	return vm_compat_check_on(&cpuid_this_cpu, model, c, w);
}
