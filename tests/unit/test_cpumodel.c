/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPU models on recorded machines of both vendors (cpuid_dumps.h): cpu = portable is the same everywhere and names what
 * a machine lacks for it; a VM with cpu = host is let in or refused with the right first word; the check is reflexive,
 * and transitive on random subsets; what travels of the XSAVE area is the guest's.
 */
#include "tests/unit/cpuid_dumps.h"
#include "vmm/vm.h"
#include "vmm/x86/compat.h"
#include "vmm/x86/pv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N ARRAY_SIZE(machines)

static int make(unsigned i, const char *model, struct vm *vm, struct why *w)
{
	struct dump d = dump_of(i);
	return cpuid_table_init(&vm->cpuid, model, &d.src, w);
}
static int check(unsigned dest, const char *model, const struct vm_compat *c, struct why *w)
{
	struct dump d = dump_of(dest);
	w->text[0] = 0;
	return vm_compat_check_on(&d.src, model, c, w);
}
/* What a VM of that model, started on machine i, wants. */
static struct vm_compat wants(unsigned i, const char *model)
{
	static struct vm vm;
	struct vm_compat c;
	struct why w = { "" };
	memset(&vm, 0, sizeof(vm));
	if (make(i, model, &vm, &w))
		fail_msg("%s: %s", machines[i].name, w.text);
	vm_compat_get(&vm, &c);
	return c;
}

static void test_portable_is_available(void **state)
{
	static struct vm vm;
	(void)state;
	for (unsigned i = 0; i < N; i++) {
		struct why w = { "" };
		char want[160];
		int err = make(i, "portable", &vm, &w);
		if (!machines[i].portable_lacks) {
			if (err)
				fail_msg("%s: %s", machines[i].name, w.text);
			continue;
		}
		assert_int_equal(err, -ENOTSUP);
		snprintf(want, sizeof(want), "this host lacks %s, which cpu = portable needs; use cpu = host",
			 machines[i].portable_lacks);
		assert_string_equal(w.text, want);
	}
}

/* The list, spelled out: a change of it breaks VMs that run. x86-64-v3 is in it whole. */
static void test_portable_list(void **state)
{
	static const struct {
		uint32_t leaf, sub, mask[4];
	} list[] = {
		{ 1, 0, { 0, 0, 0x76d83203, 0x078ba97d } }, /* without the SET bits */
		{ 7, 0, { 0, 0x000001a9, 0, 0 } },
		{ 0xd, 1, { 0, 0, 0, 0 } },
		{ 0x80000001, 0, { 0, 0, 0x21, 0x2c100800 } },
		{ 0x80000008, 0, { 0, 0, 0, 0 } },
	};
	(void)state;
	unsigned n = 0, bits = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		for (unsigned r = 0; r < 4; r++) {
			assert_int_equal(feature_mask_portable(list[i].leaf, list[i].sub, r), list[i].mask[r]);
			bits += popcount64(list[i].mask[r]);
		}
	for (unsigned i = 0; i < nfeatures; i++) {
		n += features[i].policy == FEATURE_PASS && features[i].model == FEATURE_ANY;
		if (features[i].model == FEATURE_ANY) /* all that it needs is in the model's XCR0 */
			assert_int_equal(features[i].state & ~7U, 0);
	}
	assert_int_equal(n, bits); /* no leaf forgotten above */
}

static void test_portable_is_identical(void **state)
{
	static struct cpuid_table of[2]; /* by vendor */
	static struct vm vm;
	bool seen[2] = { false };
	(void)state;
	for (unsigned i = 0; i < N; i++) {
		struct why w = { "" };
		if (machines[i].portable_lacks)
			continue;
		memset(&vm, 0xa5, sizeof(vm));
		assert_int_equal(make(i, "portable", &vm, &w), 0);
		if (seen[machines[i].amd])
			assert_memory_equal(&of[machines[i].amd], &vm.cpuid, sizeof(vm.cpuid));
		of[machines[i].amd] = vm.cpuid;
		seen[machines[i].amd] = true;
	}
	assert_true(seen[0] && seen[1]);
	/* Between vendors: the vendor's name, family and model, and what AMD repeats of them. */
	const struct cpuid_table_state *a = &of[0].s, *b = &of[1].s;
	assert_int_equal(a->n, b->n);
	for (unsigned i = 0; i < a->n; i++) {
		assert_true(a->leaf[i] == b->leaf[i] && a->sub[i] == b->sub[i]);
		for (unsigned r = 0; r < 4; r++) {
			uint32_t diff = a->regs[4 * i + r] ^ b->regs[4 * i + r];
			bool name = (a->leaf[i] & 0x7fffffff) == 0 && r > 0;
			bool family = (a->leaf[i] & 0x7fffffff) == 1 && r == 0;
			bool repeated = a->leaf[i] == 0x80000001 && r == 3 && !(diff & ~0x0183f3ffU);
			if (diff && !name && !family && !repeated)
				fail_msg("leaf %x.%x register %u: %x", a->leaf[i], a->sub[i], r, diff);
		}
	}
	for (unsigned v = 0; v < 2; v++) { /* the standard format, no more state than a guest of any host has */
		const uint32_t *r = cpuid_table_row(&of[v], 0xd, 0);
		assert_true(r[0] == 7 && r[2] == 832 && r[3] == 0);
		assert_int_equal(cpuid_table_xcr0(&of[v]), 7);
		assert_int_equal(cpuid_table_row(&of[v], 0xd, 1)[0], 0);
		r = cpuid_table_row(&of[v], 0xd, 2);
		assert_true(r[0] == 256 && r[1] == 576);
		assert_int_equal(cpuid_table_row(&of[v], 0x80000008, 0)[0], 48 << 8 | 39);
		assert_int_equal(cpuid_table_row(&of[v], 0, 0)[0], 0xd);
		assert_int_equal(cpuid_table_row(&of[v], 0x80000000, 0)[0], 0x80000008);
	}
}

static void test_portable_goes_anywhere(void **state)
{
	struct why w;
	(void)state;
	for (unsigned i = 0; i < N; i++) {
		if (machines[i].portable_lacks)
			continue;
		struct vm_compat c = wants(i, "portable");
		for (unsigned k = 0; k < N; k++) {
			int err = check(k, "portable", &c, &w);
			if (!machines[k].portable_lacks && err)
				fail_msg("%s -> %s: %s", machines[i].name, machines[k].name, w.text);
			if (!machines[k].portable_lacks)
				continue;
			char want[160];
			snprintf(want, sizeof(want), "destination lacks %s", machines[k].portable_lacks);
			assert_int_equal(err, -ENOTSUP);
			assert_string_equal(w.text, want);
		}
	}
}

static void test_portable_refusals(void **state)
{
	static struct cpu_dump m;
	static struct cpuid_table t;
	struct dump d = { { dump_read }, &m };
	struct why w = { "" };
	(void)state;
	for (unsigned what = 0; what < 4; what++) {
		m = machines[machine("Haswell")];
		for (unsigned i = 0; i < ARRAY_SIZE(m.row); i++) {
			if (what == 0 && m.row[i].leaf == 0x80000008)
				m.row[i].r.eax = 0x3024;
			if (what == 1 && m.row[i].leaf == 0xd && m.row[i].sub == 2)
				m.row[i].r.ebx = 640;
			if (what == 2 && m.row[i].leaf == 0xd && m.row[i].sub == 0)
				m.row[i].r.eax = 3;
			if (what == 3 && m.row[i].leaf == 0 && m.row[i].sub == 0 && i == 0)
				m.row[i].r.ebx ^= 1;
		}
		static const char *const word[] = { "36 bits of physical address", "CPUID 0xD.2", "CPUID 0xD.2",
						    "vendor" };
		w.text[0] = 0; /* what is there first stays */
		assert_int_equal(cpuid_table_init(&t, "portable", &d.src, &w), -ENOTSUP);
		if (!strstr(w.text, word[what]))
			fail_msg("%u: %s", what, w.text);
	}
	w.text[0] = 0;
	assert_int_equal(cpuid_table_init(&t, "Skylake", &d.src, &w), -EINVAL);
	assert_non_null(strstr(w.text, "Skylake"));
	assert_false(cpuid_model_known("") || cpuid_model_known("Portable") || cpuid_model_known("hos"));
}

/*
 * One socket, a core for each vCPU, on every machine and model, in the words of each vendor; laid over the model, it
 * changes nothing that a destination asks for, and a VM with one vCPU has none of KVM's services for several.
 */
static void test_topology(void **state)
{
	static struct vm vm, plain;
	static const struct {
		unsigned vcpus, width;
	} of[] = { { 2, 1 }, { 3, 2 }, { 4, 2 }, { 5, 3 }, { 8, 3 }, { 64, 6 }, { 255, 8 }, { 256, 8 }, { 2048, 11 } };
	(void)state;
	for (unsigned i = 0; i < 2 * N * ARRAY_SIZE(of); i++) {
		struct why w = { "" };
		unsigned m = i / ARRAY_SIZE(of) % N, n = of[i % ARRAY_SIZE(of)].vcpus,
			 width = of[i % ARRAY_SIZE(of)].width;
		const char *model = i < N * ARRAY_SIZE(of) ? "host" : "portable";
		if (!strcmp(model, "portable") && machines[m].portable_lacks)
			continue;
		assert_int_equal(make(m, model, &vm, &w), 0);
		plain = vm;
		cpuid_table_topology(&vm.cpuid, 1); /* the model's, without those */
		uint32_t *kvm = (uint32_t *)(uintptr_t)cpuid_table_row(&vm.cpuid, 0x40000001, 0);
		assert_int_equal(kvm[0], BIT(1) | BIT(3) | BIT(24));
		kvm[0] |= PV_SMP;
		assert_memory_equal(&vm.cpuid, &plain.cpuid, sizeof(vm.cpuid));
		cpuid_table_topology(&vm.cpuid, n);
		bool amd = cpuid_table_vendor(&vm.cpuid) == VENDOR_AMD;
		assert_int_equal(amd, machines[m].amd);
		const uint32_t *r = cpuid_table_row(&vm.cpuid, 1, 0);
		assert_true(r[3] >> 28 & 1);
		assert_int_equal(r[1] >> 16 & 0xff, MIN(amd ? n : 1U << width, 255U));
		r = cpuid_table_row(&vm.cpuid, 0xb, 1);
		assert_true(r[0] == width && r[1] == n && r[2] == 0x201);
		r = cpuid_table_row(&vm.cpuid, 0xb, 0);
		assert_true(r[0] == 0 && r[1] == 1); /* one thread a core */
		for (unsigned c = 0; c < 8; c++) {
			r = cpuid_table_row(&vm.cpuid, 4, c);
			if (!(r[0] & 31))
				continue;
			assert_int_equal((r[0] >> 26) + 1, MIN(1U << width, 64U));
			assert_int_equal((r[0] >> 14 & 0xfff) + 1, (r[0] >> 5 & 7) == 3 ? 1U << width : 1);
		}
		assert_int_equal(cpuid_table_row(&vm.cpuid, 0x80000001, 0)[2] >> 1 & 1, amd);
		assert_int_equal(cpuid_table_row(&vm.cpuid, 0x80000001, 0)[2] >> 22 & 1, 0); /* no TOPOEXT */
		r = cpuid_table_row(&vm.cpuid, 0x80000008, 0);
		assert_int_equal(r[2], amd ? width << 12 | MIN(n - 1, 255U) : 0);
		struct vm_compat c;
		vm_compat_get(&vm, &c);
		if (check(m, model, &c, &w))
			fail_msg("%s, %u vCPUs: %s", machines[m].name, n, w.text);
	}
}

/* Every feature bit a guest is shown is its host's, or tern's own, and its registers are carried. */
static void test_host_is_true(void **state)
{
	static struct vm vm;
	(void)state;
	for (unsigned i = 0; i < N; i++) {
		struct dump d = dump_of(i);
		struct why w = { "" };
		uint32_t size;
		uint64_t xcr0 = feature_xcr0(&d.src, &size);
		assert_int_equal(make(i, "host", &vm, &w), 0);
		assert_int_equal(cpuid_table_xcr0(&vm.cpuid), xcr0);
		if (xcr0)
			assert_int_equal(cpuid_table_row(&vm.cpuid, 0xd, 0)[2], size);
		for (unsigned k = 0; k < nfeatures; k++) {
			const struct feature *f = &features[k];
			struct cpuid_regs h = cpuid_source_read(&d.src, f->leaf, f->sub);
			bool has = cpuid_reg(&h, f->reg) >> f->bit & 1, carried = !(f->state & ~xcr0);
			bool shown = cpuid_table_row(&vm.cpuid, f->leaf, f->sub)[f->reg] >> f->bit & 1;
			if (shown != ((has && carried) || f->policy == FEATURE_SET))
				fail_msg("%s: %s", machines[i].name, f->name);
		}
	}
	/* As recorded, the 5950X has PKU but no place for PKRU: such a guest must not see PKU. */
	assert_int_equal(make(machine("5950X"), "host", &vm, &(struct why){ "" }), 0);
	assert_int_equal(cpuid_table_row(&vm.cpuid, 7, 0)[2] >> 3 & 1, 0);
	assert_int_equal(make(machine("7700X"), "host", &vm, &(struct why){ "" }), 0);
	assert_int_equal(cpuid_table_row(&vm.cpuid, 7, 0)[2] >> 3 & 1, 1);
	assert_int_equal(cpuid_table_xcr0(&vm.cpuid), 0x2e7);
	/* Opterons' LWP is no state that tern carries. */
	assert_int_equal(make(machine("6380"), "host", &vm, &(struct why){ "" }), 0);
	assert_int_equal(cpuid_table_xcr0(&vm.cpuid), 7);
	/* Haswell's caches, shared with nobody. */
	assert_int_equal(make(machine("Haswell"), "host", &vm, &(struct why){ "" }), 0);
	const uint32_t *r = cpuid_table_row(&vm.cpuid, 4, 3);
	assert_true(r[0] == 0x163 && r[1] == 0x02c0003f && r[2] == 0x1fff && r[3] == 6);
	assert_int_equal(cpuid_table_row(&vm.cpuid, 4, 4)[0], 0);
}

static void test_host_pairs(void **state)
{
	static const struct {
		const char *from, *to, *word; /* NULL: it may go */
	} pairs[] = {
		{ "Sandy Bridge", "Cascade", NULL },
		{ "Sandy Bridge", "Haswell",
		  "destination has 39 bits of physical address, the guest was told 46 (CPUID 0x80000008.0:EAX[7:0])" },
		{ "Haswell", "Cascade", NULL },
		{ "Haswell", "Sandy Bridge", "destination lacks fma (CPUID 0x1.0:ECX[12])" },
		{ "Cascade", "Haswell", "destination lacks avx512f (CPUID 0x7.0:EBX[16])" },
		{ "Cascade", "Ice Lake", "destination lacks pku (CPUID 0x7.0:ECX[3])" },
		{ "Ice Lake", "Cascade", "destination lacks avx512ifma (CPUID 0x7.0:EBX[21])" },
		{ "Zen, EPYC 7551P", "Zen 3", NULL },
		{ "Zen 3", "Zen 4", NULL },
		{ "Zen 4", "Zen 3", "destination lacks avx512f (CPUID 0x7.0:EBX[16])" },
		{ "Zen 3", "Zen, EPYC 7551P", "destination lacks erms (CPUID 0x7.0:EBX[9])" },
		{ "Opteron 6380", "Zen, EPYC 7551P", "destination lacks xop (CPUID 0x80000001.0:ECX[11])" },
		{ "QEMU", "Zen 3", NULL },
		{ "Zen, EPYC 7551P", "QEMU", "destination lacks rdseed (CPUID 0x7.0:EBX[18])" },
		{ "Zen, EPYC 7551P", "Haswell", "destination lacks rdseed (CPUID 0x7.0:EBX[18])" },
		{ "Haswell", "Zen, EPYC 7551P", "destination lacks pcid (CPUID 0x1.0:ECX[17])" },
		{ "Zen 4", "Cascade", "destination lacks avx512ifma (CPUID 0x7.0:EBX[21])" },
		{ "Sandy Bridge", "Zen 4", "destination lacks pcid (CPUID 0x1.0:ECX[17])" },
	};
	struct why w;
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct vm_compat c = wants(machine(pairs[i].from), "host");
		int err = check(machine(pairs[i].to), "host", &c, &w);
		if (err != (pairs[i].word ? -ENOTSUP : 0) || (err && strcmp(w.text, pairs[i].word)))
			fail_msg("%s -> %s: %s", pairs[i].from, pairs[i].to, w.text);
	}
	struct vm_compat c = wants(machine("Haswell"), "portable"); /* lacks nothing: only then is the vendor named */
	assert_int_equal(check(machine("Zen 3"), "host", &c, &w), -ENOTSUP);
	assert_string_equal(
		w.text, "destination's CPU is from another vendor (CPUID 0x0); a VM with cpu = portable can go there");
	assert_int_equal(check(machine("Cascade"), "host", &c, &w), 0);
	c = wants(machine("Haswell"), "host");
	assert_int_equal(check(machine("Haswell"), "EPYC", &c, &w), -ENOTSUP); /* a model of a later release */
	assert_non_null(strstr(w.text, "EPYC"));
}

static uint32_t *words(struct vm_compat *c, uint32_t leaf, uint32_t sub)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->leaf[i] == leaf && c->sub[i] == sub)
			return c->regs[i];
	fail_msg("no leaf %x.%x", leaf, sub);
	return NULL;
}

/* What no feature bit stands for: layout of the XSAVE area, width of addresses, services of tern's own. */
static void test_layout(void **state)
{
	struct why w;
	unsigned ice = machine("Ice Lake"), zen4 = machine("7700X");
	(void)state;
	struct vm_compat c = wants(zen4, "host"), d = wants(ice, "host");
	/* A guest that was given only what both have, with AVX-512: Intel and AMD keep it in different places. */
	for (unsigned i = 0; i < nfeatures; i++) {
		const struct feature *f = &features[i];
		words(&c, f->leaf, f->sub)[f->reg] &= words(&d, f->leaf, f->sub)[f->reg] | ~(1U << f->bit);
	}
	words(&c, 0xd, 0)[0] &= 0xe7;
	assert_int_equal(check(ice, "portable", &c, &w), -ENOTSUP);
	assert_string_equal(w.text, "destination keeps XSAVE component 5 elsewhere (CPUID 0xD.5)");
	c = wants(ice, "host");
	words(&c, 0x80000008, 0)[0] = 0x302f;
	assert_int_equal(check(ice, "host", &c, &w), -ENOTSUP);
	assert_string_equal(
		w.text,
		"destination has 46 bits of physical address, the guest was told 47 (CPUID 0x80000008.0:EAX[7:0])");
	c = wants(ice, "host");
	words(&c, 0x40000001, 0)[0] |= 1 << 30;
	assert_int_equal(check(ice, "host", &c, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "CPUID 0x40000001:EAX[30]"));
	c = wants(ice, "host");
	words(&c, 0xd, 0)[0] |= 1 << 9;
	assert_int_equal(check(ice, "host", &c, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "destination lacks XSAVE components (CPUID 0xD.0:EAX: e7, needs 2e7)"));
}

static void test_reflexive(void **state)
{
	struct why w;
	(void)state;
	for (unsigned i = 0; i < N; i++) {
		struct vm_compat c = wants(i, "host");
		if (check(i, "host", &c, &w))
			fail_msg("%s: %s", machines[i].name, w.text);
	}
}

/* A machine with less: random feature bits and the state of some, fewer address bits. */
static void lessen(struct cpu_dump *m, unsigned *seed)
{
	for (unsigned i = 0; i < ARRAY_SIZE(m->row) && (i == 0 || m->row[i].leaf); i++) {
		struct cpuid_regs *r = &m->row[i].r;
		uint32_t leaf = m->row[i].leaf;
		for (unsigned n = 0; n < 2; n++) {
			uint32_t keep = ~(1U << rand_r(seed) % 32);
			if (leaf == 1 || leaf == 0x80000001)
				r->ecx &= keep;
			if (leaf == 7 && m->row[i].sub == 0)
				r->ebx &= keep, r->ecx &= ~(1U << rand_r(seed) % 32);
			if (leaf == 0xd && m->row[i].sub == 0 && rand_r(seed) % 4 == 0)
				r->eax &= ~(1U << (5 + rand_r(seed) % 5));
			if (leaf == 0xd && m->row[i].sub == 1)
				r->eax &= keep;
		}
		if (leaf == 0x80000008)
			r->eax -= rand_r(seed) % 2;
	}
}

static void test_transitive(void **state)
{
	static struct cpu_dump m[3];
	unsigned seed = 2, chains = 0, refused = 0;
	(void)state;
	for (unsigned round = 0; round < 4000; round++) {
		unsigned base = (unsigned)rand_r(&seed) % N;
		struct vm_compat c[3];
		struct dump d[3];
		int may[3][3];
		for (unsigned i = 0; i < 3; i++) { /* c ever less than the one before it, or each on its own */
			m[i] = i && rand_r(&seed) % 4
				       ? m[i - 1]
				       : machines[rand_r(&seed) % 4 ? base : (unsigned)rand_r(&seed) % N];
			lessen(&m[i], &seed);
			d[i] = (struct dump){ { dump_read }, &m[i] };
			static struct vm vm;
			assert_int_equal(cpuid_table_init(&vm.cpuid, "host", &d[i].src, NULL), 0);
			vm_compat_get(&vm, &c[i]);
		}
		for (unsigned i = 0; i < 3; i++)
			for (unsigned k = 0; k < 3; k++)
				may[i][k] = !vm_compat_check_on(&d[k].src, "host", &c[i], NULL);
		for (unsigned i = 0; i < 27; i++) {
			unsigned x = i / 9, y = i / 3 % 3, z = i % 3;
			assert_true(may[x][x]);
			if (may[x][y] && may[y][z])
				assert_true(may[x][z]);
			chains += x != y && y != z && x != z && may[x][y] && may[y][z];
			refused += !may[x][z];
		}
	}
	assert_true(chains > 100 && refused > 100); /* both happened often */
}

/* A guest's extended state is cut to its own components, on whatever host it was saved. */
static void test_trim(void **state)
{
	static struct vm vm;
	static struct cpu_state s;
	(void)state;
	assert_int_equal(make(machine("Cascade"), "portable", &vm, &(struct why){ "" }), 0);
	memset(s.xsave, 0x5a, sizeof(s.xsave));
	s.xsave_size = 2696;
	put_le64(s.xsave + 512, 0x2e7);
	cpuid_table_trim(&vm.cpuid, &s);
	assert_int_equal(s.xsave_size, 832);
	assert_int_equal(get_le64(s.xsave + 512), 7);
	assert_true(s.xsave[511] == 0x5a && s.xsave[520] == 0x5a && s.xsave[831] == 0x5a);
	for (unsigned i = 832; i < sizeof(s.xsave); i++)
		assert_int_equal(s.xsave[i], 0);
	s.xsave_size = 576; /* never grows */
	cpuid_table_trim(&vm.cpuid, &s);
	assert_int_equal(s.xsave_size, 576);
	memset(&vm.cpuid, 0, sizeof(vm.cpuid)); /* a guest without XSAVE */
	s.xsave_size = 832;
	cpuid_table_trim(&vm.cpuid, &s);
	assert_int_equal(s.xsave_size, 512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_portable_is_available),
		cmocka_unit_test(test_portable_list),
		cmocka_unit_test(test_portable_is_identical),
		cmocka_unit_test(test_portable_goes_anywhere),
		cmocka_unit_test(test_portable_refusals),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_host_is_true),
		cmocka_unit_test(test_host_pairs),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_reflexive),
		cmocka_unit_test(test_transitive),
		cmocka_unit_test(test_trim),
	};
	return cmocka_run_group_tests_name("cpumodel", tests, NULL, NULL);
}
