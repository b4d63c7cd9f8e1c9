/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state engine on a struct of its own, and every state table of tern: one list, below. A device that migrates and
 * is not in build_all()'s machine or in the list is not tested: add it there.
 */
#include "arch/x86/fpu.h"
#include "vmm/x86/cpuid.h"
#include "vmm/x86/vcpu.h"
#include "vmm/dev/vuart.h"
#include "vmm/dev/vpower.h"
#include "vmm/dev/vioapic.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vrng.h"
#include "vmm/dev/vrtc.h"
#include "vmm/dev/vpci.h"
#include "vmm/vm_port.h"
#include "net/learn.h"
#include "vmm/x86/guest_clock.h"
#include "vmm/x86/cpu_state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- the engine ---- */

struct toy_state {
	uint8_t a, b;
	uint16_t c;
	uint32_t d[3];
	uint64_t e; /* since version 2 */
};
struct toy {
	int outside;
	struct toy_state s;
	int saved, loaded;
};
/* clang-format off */
static const struct sfield toy_fields[] = {
	F(struct toy_state, a),     F(struct toy_state, b),      F(struct toy_state, c),
	F_ARR(struct toy_state, d), F_V(struct toy_state, e, 2),
};
/* clang-format on */
static int toy_check(const void *obj, const void *state, struct why *w)
{
	(void)obj;
	return ((const struct toy_state *)state)->a < 100 ? 0 : why_set(w, -EINVAL, "toy: a is too large");
}
static void toy_pre_save(void *obj) { ((struct toy *)obj)->saved++; }
static void toy_post_load(void *obj) { ((struct toy *)obj)->loaded++; }
static const struct sdesc toy_desc = { .name = "toy",
				       .version = 2,
				       SDESC(struct toy, s, struct toy_state, toy_fields),
				       .check = toy_check,
				       .pre_save = toy_pre_save,
				       .post_load = toy_post_load };
static const struct toy toy_full = { .s = { 1, 2, 0x1234, { 5, 6, 0x89abcdef }, 0x1122334455667788 } };

static void test_encoding(void **state)
{
	static const uint8_t want[] = { 1,    2,    0x34, 0x12, 5,    0,    0,    0,    6,    0,    0,    0,
					0xef, 0xcd, 0xab, 0x89, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 };
	struct toy t = toy_full, u = { .outside = 7 };
	uint8_t buf[sizeof(want)];
	(void)state;

	assert_int_equal(state_size(&toy_desc), sizeof(want));
	state_save(&toy_desc, &t, buf);
	assert_memory_equal(buf, want, sizeof(want));
	assert_int_equal(t.saved, 1);
	assert_int_equal(state_load(&toy_desc, &u, 2, buf, sizeof(buf), NULL), 0);
	assert_memory_equal(&u.s, &toy_full.s, sizeof(u.s));
	assert_true(u.loaded == 1 && u.outside == 7);
}

static void test_versions(void **state)
{
	struct toy t = toy_full, u = { .s.e = 42 };
	uint8_t buf[64];
	struct why w = { "" };
	(void)state;

	state_save(&toy_desc, &t, buf);
	assert_int_equal(state_load(&toy_desc, &u, 1, buf, 16, NULL), 0); /* an older sender: e keeps its reset value */
	assert_true(u.s.e == 42 && u.s.c == 0x1234);
	assert_int_equal(state_load(&toy_desc, &u, 3, buf, 24, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "toy"));
	assert_int_equal(state_load(&toy_desc, &u, 0, buf, 24, NULL), -ENOTSUP);
	assert_int_equal(state_load(&toy_desc, &u, 1, buf, 24, NULL), -EBADMSG);
	assert_int_equal(state_load(&toy_desc, &u, 2, buf, 16, NULL), -EBADMSG);
}

static void test_check_guards(void **state)
{
	struct toy t = toy_full, u = { .outside = 1 }, before = u;
	uint8_t buf[64];
	struct why w = { "" };
	(void)state;

	state_save(&toy_desc, &t, buf);
	buf[0] = 100;
	assert_int_equal(state_load(&toy_desc, &u, 2, buf, 24, &w), -EINVAL);
	assert_string_equal(w.text, "toy: a is too large");
	assert_memory_equal(&u, &before, sizeof(u));
}

static void collect(void *arg, const char *line)
{
	strcat(arg, line);
	strcat(arg, "\n");
}

static void test_print_diff(void **state)
{
	struct toy t = toy_full;
	uint8_t a[24], b[24];
	char text[512] = "";
	struct why w = { "" };
	(void)state;

	state_print(&toy_desc, &t, collect, text);
	assert_string_equal(text, "a=1\nb=2\nc=1234\nd[0]=5 6 89abcdef\ne=1122334455667788\n");
	state_save(&toy_desc, &t, a);
	t.s.d[1] = 9;
	state_save(&toy_desc, &t, b);
	assert_true(state_diff(&toy_desc, a, b, 24, &w));
	assert_string_equal(w.text, "toy.d[1]: 6 != 9");
	assert_false(state_diff(&toy_desc, a, a, 24, NULL));
	assert_false(state_diff(&toy_desc, a, b, 8, NULL)); /* no further than the buffers */
}

static void test_selftest(void **state)
{
	static const struct sfield forgotten[] = {
		F(struct toy_state, a),
		F(struct toy_state, c),
		F_ARR(struct toy_state, d),
		F(struct toy_state, e)
	};
	static const struct sfield twice[] = {
		F(struct toy_state, a),
		F(struct toy_state, b),
		F(struct toy_state, c),
		F_ARR(struct toy_state, d),
		F(struct toy_state, e),
		F(struct toy_state, a)
	};
	static const struct sfield disorder[] = {
		F(struct toy_state, a),
		F_V(struct toy_state, b, 2),
		F(struct toy_state, c),
		F_ARR(struct toy_state, d),
		F(struct toy_state, e)
	};
	static const struct sfield future[] = {
		F(struct toy_state, a),
		F(struct toy_state, b),
		F(struct toy_state, c),
		F_ARR(struct toy_state, d),
		F_V(struct toy_state, e, 3)
	};
	static const struct {
		const struct sfield *f;
		unsigned n;
	} bad[] = { { forgotten, 4 }, { twice, 6 }, { disorder, 5 }, { future, 5 }, { toy_fields, 4 } };
	(void)state;

	assert_int_equal(state_selftest(&toy_desc, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct sdesc d = toy_desc;
		struct why w = { "" };
		d.fields = bad[i].f;
		d.nfields = bad[i].n;
		assert_int_equal(state_selftest(&d, &w), -EINVAL);
		assert_true(w.text[0]);
	}
}

/* ---- every table ---- */

/* Only for cpuid.c to link. */
uint64_t fpu_xcr0_mask(void) { return 7; }
uint32_t fpu_area_size(void) { return 1024; }

struct section {
	struct sdesc d;
	void *obj;
};
static struct section all[64];
static unsigned nall;

static void add(const struct sdesc *d, void *obj)
{
	assert_true(nall < ARRAY_SIZE(all));
	all[nall++] = (struct section){ *d, obj };
}

static void no_msi(void *arg, uint64_t addr, uint32_t data) { (void)arg, (void)addr, (void)data; }
static void no_gsi(void *arg, unsigned gsi, bool level) { (void)arg, (void)gsi, (void)level; }
static void no_call(void *arg) { (void)arg; }
static void no_entropy(void *arg, void *buf, size_t n) { (void)arg, memset(buf, 1, n); }
static void no_out(void *arg, uint8_t c) { (void)arg, (void)c; }
static void no_tx(void *arg, struct frame *f) { (void)arg, (void)f; }
static void no_vcpu(void *arg, unsigned i) { (void)arg, (void)i; }

static struct gmem mem;
static struct machine machine;
static struct vm vm;
static struct vapic_bus apics = { .n = 1, .kick = no_vcpu, .nmi = no_vcpu };

static int build_all(void **state)
{
	struct vioapic *io;
	struct vuart *u;
	struct vpci_bus *pci;
	struct vnet *net;
	(void)state;

	assert_int_equal(gmem_init(&mem, MIB(2), &pt_format_npt, NULL), 0);
	machine = (struct machine){
		.mem = &mem, .msi = no_msi, .gsi = no_gsi, .power_off = no_call, .reset = no_call, .entropy = no_entropy
	};
	bus_init(&machine.bus);
	list_init(&machine.devs);
	assert_int_equal(vioapic_create(&machine, &io), 0);
	assert_int_equal(vuart_create(&machine, &u, 0x3f8, 4, no_out, NULL), 0);
	assert_int_equal(vpower_create(&machine), 0);
	assert_int_equal(vrtc_create(&machine), 0);
	assert_int_equal(vpci_bus_create(&machine, &pci), 0);
	const struct vnet_card card = { .mtu = 1500, .wire = { .tx = no_tx } };
	assert_int_equal(vnet_create(&machine, pci, &net, 1, 8, &card), 0);
	assert_int_equal(vrng_create(&machine, pci, 2), 0);
	list_for_each(d, &machine.devs, struct dev, node) {
		assert_true(d->nsections > 0 || !strcmp(d->name, "virtio-rng"));
		for (unsigned i = 0; i < d->nsections; i++)
			add(d->section[i].desc, d->section[i].obj);
	}

	static struct vcpu vcpu;
	static struct vlapic *lapics[1] = { &vcpu.lapic };
	static struct cpu_state cpu;
	apics.lapic = lapics;
	vlapic_init(&vcpu.lapic, &apics, 0);
	vcpu.vm = &vm;
	add(&vlapic_desc, &vcpu.lapic);
	add(&cpu_state_desc, &cpu);
	add(&vcpu_msr_desc, &vcpu);
	add(&cpuid_desc, &vm.cpuid);
	add(&machine_desc, &machine);
	static struct learn learn;
	learn_init(&learn);
	add(&vm_learned_desc, &learn);
	vm.clock.s.tsc_hz = time_tsc_hz();
	add(&clock_desc, &vm.clock);
	all[nall - 1].d.pre_save = all[nall - 1].d.post_load = NULL; /* these need a CPU's privileges */
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	while (!list_empty(&machine.devs)) {
		struct dev *d = list_entry(machine.devs.prev, struct dev, node);
		list_remove(&d->node);
		d->ops->fini(d);
	}
	gmem_fini(&mem);
	return 0;
}

static void test_tables_selftest(void **state)
{
	(void)state;
	assert_true(nall >= 10);
	for (unsigned i = 0; i < nall; i++) {
		struct why w = { "" };
		if (state_selftest(&all[i].d, &w))
			fail_msg("%s", w.text);
	}
}

static void must_load(struct section *s, const uint8_t *buf, size_t n)
{
	struct why w = { "" };
	if (state_load(&s->d, s->obj, s->d.version, buf, n, &w))
		fail_msg("%s: does not load what it saved: %s", s->d.name, w.text);
}

static void must_equal(struct section *s, const uint8_t *buf, uint8_t *scratch, const char *what)
{
	struct why w = { "" };
	state_save(&s->d, s->obj, scratch);
	if (state_diff(&s->d, buf, scratch, state_size(&s->d), &w))
		fail_msg("%s: %s: %s", s->d.name, what, w.text);
}

static void test_tables_round_trip(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nall; i++) {
		struct section *s = &all[i];
		size_t n = state_size(&s->d);
		uint8_t *buf = malloc(n + 1), *again = malloc(n + 1);
		struct why w = { "" };

		state_save(&s->d, s->obj, buf);
		must_load(s, buf, n);
		must_equal(s, buf, again, "after a round trip");
		buf[n] = 0;
		for (size_t k = 0; k <= n + 1; k++) /* truncated, and with a byte more */
			if (k != n)
				assert_int_not_equal(state_load(&s->d, s->obj, s->d.version, buf, MIN(k, n + 1), NULL),
						     0);
		assert_int_not_equal(state_load(&s->d, s->obj, s->d.version + 1, buf, n, &w), 0);
		assert_non_null(strstr(w.text, s->d.name)); /* refused by name */
		must_equal(s, buf, again, "after loads that were refused");
		free(buf);
		free(again);
	}
}

static void test_tables_bit_flips(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nall; i++) {
		struct section *s = &all[i];
		size_t n = state_size(&s->d), refused = 0;
		uint8_t *buf = malloc(n), *flip = malloc(n), *again = malloc(n);

		state_save(&s->d, s->obj, buf);
		for (size_t bit = 0; bit < 8 * n; bit++) {
			memcpy(flip, buf, n);
			flip[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (state_load(&s->d, s->obj, s->d.version, flip, n, NULL)) {
				refused++;
				must_equal(s, buf, again, "changed by a load that was refused");
			} else {
				state_save(&s->d, s->obj, again);
				must_load(s, buf, n);
			}
		}
		must_equal(s, buf, again, "after bit flips and back");
		if (getenv("TERN_TEST_LOG"))
			printf("%-12s %5lu bytes, %5lu of %lu flips refused\n", s->d.name, (unsigned long)n,
			       (unsigned long)refused, 8 * n);
		free(buf);
		free(flip);
		free(again);
	}
}

/* Which machine it is: said of all but a bzImage's, and no kind that is not known. */
static void test_machine_kind(void **state)
{
	struct machine m = { .s.kind = MACHINE_PVH };
	uint8_t buf[4];
	struct why w = { "" };
	(void)state;

	assert_false(machine_desc.absent(&m));
	state_save(&machine_desc, &m, buf);
	m.s.kind = MACHINE_PLAIN;
	assert_true(machine_desc.absent(&m));
	assert_int_equal(state_load(&machine_desc, &m, 1, buf, sizeof(buf), &w), 0);
	assert_int_equal(m.s.kind, MACHINE_PVH);
	buf[0] = MACHINE_KINDS;
	assert_int_equal(state_load(&machine_desc, &m, 1, buf, sizeof(buf), &w), -ENOTSUP);
	assert_string_equal(w.text, "machine: its kind 2 is not known here");
}

int main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine_kind),
		cmocka_unit_test(test_encoding),          cmocka_unit_test(test_versions),
		cmocka_unit_test(test_check_guards),      cmocka_unit_test(test_print_diff),
		cmocka_unit_test(test_selftest),          cmocka_unit_test(test_tables_selftest),
		cmocka_unit_test(test_tables_round_trip), cmocka_unit_test(test_tables_bit_flips),
	};
	/* clang-format on */
	return cmocka_run_group_tests_name("state", tests, build_all, free_all);
}
