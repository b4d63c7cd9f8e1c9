/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CPUID (cpuid.h). KVM's leaves at 0x40000000 give Linux kvmclock and x2APIC without interrupt remapping.
 */
#include "vmm/x86/cpuid.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/xsave.h"
#include <string.h>

#define LEAF_MAX      0xd
#define LEAF_EXT_MAX  0x80000008
#define CACHES_MAX    8 /* of leaf 4; Intel's CPUs list 4 or 5 */
#define PORTABLE_XCR0 ((uint32_t)(XCR0_X87 | XCR0_SSE | XCR0_AVX))
#define AVX_OFFSET    XSAVE_HEADER_END /* in the standard format, on every CPU so far */
#define AVX_SIZE      256

static void add(struct cpuid_table *t, uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	BUG_ON(t->s.n == CPUID_MAX);
	t->s.leaf[t->s.n] = leaf;
	t->s.sub[t->s.n] = sub;
	memcpy(&t->s.regs[4 * t->s.n++], (uint32_t[4]){ a, b, c, d }, 16);
}

static void index_rows(void *obj)
{
	struct cpuid_table *t = obj;
	memset(t->first, 0, sizeof(t->first));
	for (unsigned i = t->s.n; i-- > 0;)
		if ((t->s.leaf[i] & 0x7fffffff) < CPUID_INDEXED)
			t->first[t->s.leaf[i] >> 31][t->s.leaf[i] & 0x7fffffff] = (uint8_t)(i + 1);
}

/* The rows that tern alone decides: one thread a core, one core a package; KVM's leaves. */
static void add_topology(struct cpuid_table *t)
{
	add(t, 0xb, 0, 0, 1, 0x100, 0);
	add(t, 0xb, 1, 8, 1, 0x201, 0);
}
static void add_kvm(struct cpuid_table *t)
{
	add(t, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d); /* "KVMKVMKVM" */
	add(t, 0x40000001, 0,
	    KVM_FEATURE_NOP_IO_DELAY | KVM_FEATURE_CLOCKSOURCE2 | PV_SMP | KVM_FEATURE_CLOCKSOURCE_STABLE, 0, 0, 0);
}

/* ---- host ---- */

static void host_init(struct cpuid_table *t, const struct cpuid_source *src)
{
	uint32_t size;
	uint64_t xmask = feature_xcr0(src, &size);
	struct cpuid_regs r = cpuid_source_read(src, 0, 0);
#define GIVE(leaf, sub, reg)                                                                    \
	((cpuid_reg(&r, FEATURE_##reg) & feature_mask_state(leaf, sub, FEATURE_##reg, xmask)) | \
	 feature_mask(leaf, sub, FEATURE_##reg, FEATURE_SET))
	add(t, 0, 0, LEAF_MAX, r.ebx, r.ecx, r.edx);
	r = cpuid_source_read(src, 1, 0);
	uint32_t edx1 = GIVE(1, 0, EDX);
	add(t, 1, 0, r.eax, (r.ebx & 0xff00) | 1 << 16, GIVE(1, 0, ECX), edx1);
	r = cpuid_source_read(src, 2, 0);
	add(t, 2, 0, r.eax, r.ebx, r.ecx, r.edx);
	for (uint32_t i = 0; i < CACHES_MAX; i++) { /* caches, shared with nobody */
		r = cpuid_source_read(src, 4, i);
		if (!(r.eax & 0x1f))
			break;
		add(t, 4, i, r.eax & 0x3fff, r.ebx, r.ecx, r.edx);
	}
	r = cpuid_source_read(src, 7, 0);
	add(t, 7, 0, 0, GIVE(7, 0, EBX), GIVE(7, 0, ECX), GIVE(7, 0, EDX));
	add_topology(t);
	if (xmask) {
		add(t, 0xd, 0, (uint32_t)xmask, 0, size, (uint32_t)(xmask >> 32));
		r = cpuid_source_read(src, 0xd, 1);
		add(t, 0xd, 1, GIVE(0xd, 1, EAX), 0, 0, 0);
		for (unsigned i = 2; i < 63; i++)
			if (xmask & BIT(i)) {
				r = cpuid_source_read(src, 0xd, i);
				add(t, 0xd, i, r.eax, r.ebx, r.ecx & ~1U, 0);
			}
	}
	add_kvm(t);
	r = cpuid_source_read(src, 0x80000000, 0);
	add(t, 0x80000000, 0, LEAF_EXT_MAX, r.ebx, r.ecx, r.edx);
	r = cpuid_source_read(src, 0x80000001, 0);
	uint32_t repeated = edx1 & r.edx & CPUID80000001_EDX_REPEATS;
	add(t, 0x80000001, 0, r.eax, 0, GIVE(0x80000001, 0, ECX), GIVE(0x80000001, 0, EDX) | repeated);
	for (uint32_t leaf = 0x80000002; leaf <= 0x80000006; leaf++) { /* brand, L1 and L2 */
		r = cpuid_source_read(src, leaf, 0);
		add(t, leaf, 0, r.eax, r.ebx, r.ecx, r.edx);
	}
	r = cpuid_source_read(src, 0x80000008, 0);
	add(t, 0x80000008, 0, r.eax & 0xffff, GIVE(0x80000008, 0, EBX), 0, 0);
#undef GIVE
}

/* ---- portable ---- */

static int portable_check(const struct cpuid_source *src, struct why *w)
{
	static const char *const reg[] = { "EAX", "EBX", "ECX", "EDX" };
	uint32_t size;
	if (!feature_identity(src))
		return why_set(w, -ENOTSUP,
			       "cpu = portable knows no family and model for this CPU's vendor; use cpu = host");
	for (unsigned i = 0; i < nfeatures; i++) {
		const struct feature *f = &features[i];
		struct cpuid_regs r = cpuid_source_read(src, f->leaf, f->sub);
		if (f->policy == FEATURE_PASS && f->model == FEATURE_ANY && !(cpuid_reg(&r, f->reg) >> f->bit & 1))
			return why_set(
				w, -ENOTSUP,
				"this host lacks %s (CPUID 0x%X.%u:%s[%u]), which cpu = portable needs; use cpu = host",
				f->name, f->leaf, f->sub, reg[f->reg], f->bit);
	}
	struct cpuid_regs avx = cpuid_source_read(src, 0xd, 2), addr = cpuid_source_read(src, 0x80000008, 0);
	if ((feature_xcr0(src, &size) & PORTABLE_XCR0) != PORTABLE_XCR0 || avx.eax != AVX_SIZE || avx.ebx != AVX_OFFSET)
		return why_set(
			w, -ENOTSUP,
			"this host keeps AVX state elsewhere (CPUID 0xD.2) than cpu = portable does; use cpu = host");
	if ((addr.eax & 0xff) < CPUID_PORTABLE_PHYS)
		return why_set(w, -ENOTSUP,
			       "this host has %u bits of physical address (CPUID 0x80000008.0:EAX[7:0]), cpu = "
			       "portable needs %u; "
			       "use cpu = host",
			       addr.eax & 0xff, CPUID_PORTABLE_PHYS);
	return 0;
}

/*
 * No word may come from the host but the identity's. Caches are made up: 32 KiB each of L1, 512 KiB of L2, 8 MiB of L3.
 */
static void portable_init(struct cpuid_table *t, const struct cpuid_source *src)
{
	static const char brand[48] = "tern portable CPU";
	const struct feature_identity *id = feature_identity(src);
	const uint32_t *v = id->vendor;
	uint32_t b[12];
#define GIVE(leaf, sub, reg) \
	(feature_mask_portable(leaf, sub, FEATURE_##reg) | feature_mask(leaf, sub, FEATURE_##reg, FEATURE_SET))
	add(t, 0, 0, LEAF_MAX, v[0], v[1], v[2]);
	add(t, 1, 0, id->signature, 1 << 16 | 64 / 8 << 8, GIVE(1, 0, ECX), GIVE(1, 0, EDX)); /* CLFLUSH: 64 bytes */
	add(t, 2, 0, 0x00feff01, 0xf0, 0, 0);     /* "leaf 4 tells caches", 64-byte prefetching, SDM 2A table 3-12 */
	add(t, 4, 0, 0x121, 7 << 22 | 63, 63, 0); /* type, level; ways - 1, line - 1; sets - 1 */
	add(t, 4, 1, 0x122, 7 << 22 | 63, 63, 0);
	add(t, 4, 2, 0x143, 7 << 22 | 63, 1023, 0);
	add(t, 4, 3, 0x163, 15 << 22 | 63, 8191, 0);
	add(t, 7, 0, 0, GIVE(7, 0, EBX), GIVE(7, 0, ECX), GIVE(7, 0, EDX));
	add_topology(t);
	add(t, 0xd, 0, PORTABLE_XCR0, 0, AVX_OFFSET + AVX_SIZE, 0);
	add(t, 0xd, 1, GIVE(0xd, 1, EAX), 0, 0, 0);
	add(t, 0xd, 2, AVX_SIZE, AVX_OFFSET, 0, 0);
	add_kvm(t);
	if (id->repeats) {
		add(t, 0x80000000, 0, LEAF_EXT_MAX, v[0], v[1], v[2]);
		add(t, 0x80000001, 0, id->signature, 0, GIVE(0x80000001, 0, ECX),
		    GIVE(0x80000001, 0, EDX) | (GIVE(1, 0, EDX) & CPUID80000001_EDX_REPEATS));
	} else {
		add(t, 0x80000000, 0, LEAF_EXT_MAX, 0, 0, 0);
		add(t, 0x80000001, 0, 0, 0, GIVE(0x80000001, 0, ECX), GIVE(0x80000001, 0, EDX));
	}
	memcpy(b, brand, sizeof(b));
	for (unsigned i = 0; i < 3; i++)
		add(t, 0x80000002 + i, 0, b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]);
	add(t, 0x80000005, 0, 0, 0, 0x20080140, 0x20080140); /* the same caches in AMD's words, APM3 E.4.3, E.4.4 */
	add(t, 0x80000006, 0, 0, 0, 0x02006140, 0x00408140);
	add(t, 0x80000008, 0, 48 << 8 | CPUID_PORTABLE_PHYS, GIVE(0x80000008, 0, EBX), 0, 0);
#undef GIVE
}

/* ---- topology: one socket, a core for each vCPU, one thread a core; APIC ids count from 0 ---- */

enum cpu_vendor cpuid_table_vendor(const struct cpuid_table *t)
{
	const uint32_t *r = cpuid_table_row(t, 0, 0);
	const uint32_t name[3] = { r[1], r[3], r[2] };
	if (!memcmp(name, "GenuineIntel", 12))
		return VENDOR_INTEL;
	return memcmp(name, "AuthenticAMD", 12) && memcmp(name, "HygonGenuine", 12) ? VENDOR_OTHER : VENDOR_AMD;
}

#define CACHE_LEVEL(eax)    ((eax) >> 5 & 7)
#define CACHE_SHARED_BY(n)  ((((n)-1) & 0xfff) << 14)
#define CORES_IN_PACKAGE(n) (MIN((n)-1, 63U) << 26)

/* For a VM of one vCPU (pv.h). */
static void without_smp_services(struct cpuid_table *t)
{
	for (unsigned i = 0; i < t->s.n; i++)
		if (t->s.leaf[i] == 0x40000001)
			t->s.regs[4 * i] &= (uint32_t)~PV_SMP;
}

void cpuid_table_topology(struct cpuid_table *t, unsigned vcpus)
{
	if (vcpus < 2) { /* it is what the models say */
		without_smp_services(t);
		return;
	}
	bool amd = cpuid_table_vendor(t) == VENDOR_AMD;
	unsigned width = 32 - (unsigned)__builtin_clz(vcpus - 1); /* of APIC ids within the package */
	uint32_t ids = 1U << width;
	for (unsigned i = 0; i < t->s.n; i++) {
		uint32_t *r = &t->s.regs[4 * i];
		switch (t->s.leaf[i]) {
		case 1:
			r[1] = (r[1] & ~0xff0000U) | MIN(amd ? vcpus : ids, 0xffU) << 16;
			r[3] |= CPUID1_EDX_HTT;
			break;
		case 4: /* the third level is the package's, the others are their core's */
			r[0] |= CORES_IN_PACKAGE(ids) | (CACHE_LEVEL(r[0]) == 3 ? CACHE_SHARED_BY(ids) : 0);
			break;
		case 0xb:
			if (t->s.sub[i] == 1)
				r[0] = width, r[1] = vcpus;
			break;
		/* No TOPOEXT, nor what comes with it (8000_001D, 8000_001E): Linux reads these then. */
		case 0x80000001: r[2] |= amd ? CPUID80000001_ECX_CMP_LEGACY : 0; break;
		case 0x80000008: r[2] |= amd ? width << 12 | MIN(vcpus - 1, 0xffU) : 0; break;
		default: break;
		}
	}
}

bool cpuid_model_known(const char *model) { return !strcmp(model, "host") || !strcmp(model, "portable"); }

int cpuid_table_init(struct cpuid_table *t, const char *model, const struct cpuid_source *src, struct why *w)
{
	memset(t, 0, sizeof(*t));
	if (!strcmp(model, "host")) {
		host_init(t, src);
	} else if (!strcmp(model, "portable")) {
		int err = portable_check(src, w);
		if (err)
			return err;
		portable_init(t, src);
	} else {
		return why_set(w, -EINVAL, "there is no CPU model %s", model);
	}
	index_rows(t);
	return 0;
}

/* ---- what the guest sees ---- */

/*
 * Size of the XSAVE area for what is enabled now: CPUID 0xD.0:EBX, or 0xD.1:EBX for the compacted format (SDM 1 13.2).
 */
static uint32_t xsave_size(const struct cpuid_table *t, uint64_t xcr0, bool compacted)
{
	uint32_t size = XSAVE_HEADER_END;
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

void cpuid_table_trim(const struct cpuid_table *t, struct cpu_state *s)
{
	uint64_t xcr0 = cpuid_table_xcr0(t);
	uint32_t size = xcr0 ? MIN(cpuid_table_row(t, 0xd, 0)[2], XSAVE_AREA_MAX) : FXSAVE_SIZE;
	if (s->xsave_size > size)
		s->xsave_size = size;
	if (s->xsave_size >= XSTATE_BV + 8)
		put_le64(s->xsave + XSTATE_BV, get_le64(s->xsave + XSTATE_BV) & xcr0);
	memset(s->xsave + s->xsave_size, 0, sizeof(s->xsave) - s->xsave_size);
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
				  .check = cpuid_check,
				  .post_load = index_rows };
