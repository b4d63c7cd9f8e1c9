/* SPDX-License-Identifier: BSD-2-Clause */
/* The destination finds sections (vmm/migrate/sections.c) in as many steps as there are, of any number of vCPUs. */
#include "tests/unit/fake_kernel.h"
#include "vmm/migrate/sections.h"
#include <errno.h>

#define KINDS 5 /* of a vCPU's; the last one is not sent, as a local APIC's memory-mapped state in x2APIC mode */
#define VM    3 /* of the machine's, at the end */

static const struct sdesc kind[KINDS] = {
	{ .name = "cpu" }, { .name = "clock-cpu" }, { .name = "lapic" }, { .name = "pv" }, { .name = "xapic" }
};
static const struct sdesc machine[VM] = { { .name = "ioapic" }, { .name = "msix" }, { .name = "msix" } };
static unsigned vcpus;

void vm_for_each_section(struct vm *vm unused,
			 void (*fn)(void *arg, const struct sdesc *d, uint32_t instance, void *obj), void *arg)
{
	for (uint32_t v = 0; v < vcpus; v++)
		for (unsigned k = 0; k < KINDS; k++)
			fn(arg, &kind[k], v, NULL);
	for (uint32_t k = 0; k < VM; k++)
		fn(arg, &machine[k], k, NULL);
}

/* How many entries it looked at: it goes round from where it stood. */
static unsigned looks(struct sections *s, const char *name, uint32_t instance, struct section **found)
{
	unsigned from = s->next;
	*found = section_find(s, name, instance);
	return from < s->next ? s->next - from : s->next + s->n - from;
}

static void test_looks(void **state)
{
	static const unsigned counts[] = { 1, 2, 64, 896, 2048 };
	(void)state;
	for (unsigned c = 0; c < ARRAY_SIZE(counts); c++) {
		struct sections s;
		struct section *f;
		unsigned sum = 0;
		vcpus = counts[c];
		assert_int_equal(sections_init(&s, NULL), 0);
		assert_int_equal(s.n, vcpus * KINDS + VM);
		for (uint32_t v = 0; v < vcpus; v++)
			for (unsigned k = 0; k < KINDS - 1; k++) {
				sum += looks(&s, kind[k].name, v, &f);
				assert_true(f && f->desc == &kind[k] && f->instance == v);
			}
		for (uint32_t k = 0; k < VM; k++) {
			sum += looks(&s, machine[k].name, k, &f);
			assert_ptr_equal(f->desc, &machine[k]);
		}
		assert_int_equal(sum, s.n);
		/* In any other order it is found too, and what is not there is looked for once. */
		assert_int_equal(section_find(&s, "xapic", vcpus - 1)->instance, vcpus - 1);
		assert_int_equal(section_find(&s, "cpu", 0)->instance, 0);
		assert_int_equal(looks(&s, "cpu", vcpus, &f), s.n);
		assert_null(f);
		sections_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_looks) };
	return cmocka_run_group_tests_name("sections", tests, NULL, NULL);
}
