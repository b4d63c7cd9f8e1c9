/* SPDX-License-Identifier: BSD-2-Clause */
/* Which MAC a VM may have: the rules of vmm/vm_mac.c, with a table of VMs of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/vm.h"
#include <string.h>

static struct vm here[] = {
	{ .cfg = { .name = "demo", .nnics = 1, .mac = { { 0x52, 0x54, 0, 0x77, 0, 1 } } }, .state = VM_STOPPED },
	{ .cfg = { .name = "twin", .nnics = 1, .mac = { { 0x52, 0x54, 0, 0x77, 0, 2 } } }, .state = VM_RUNNING },
};

void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(here); i++)
		fn(&here[i], arg);
}

static void check(const char *name, const char *bytes, int err, const char *text)
{
	struct why w = { "" };
	assert_int_equal(vm_mac_check(name, (const uint8_t *)bytes, &w), err);
	assert_string_equal(w.text, text);
}

static void one_of_its_own(void **state unused)
{
	check("new", "\x52\x54\x00\x77\x00\x03", 0, "");
	check("new", "\x00\x00\x00\x00\x00\x01", 0, "");
}

static void no_cards(void **state unused)
{
	check("new", "\x00\x00\x00\x00\x00\x00", -EINVAL, "the MAC 00:00:00:00:00:00 is nobody's");
	check("new", "\xff\xff\xff\xff\xff\xff", -EINVAL, "the MAC ff:ff:ff:ff:ff:ff is a group's, not one card's");
	check("new", "\x53\x54\x00\x77\x00\x03", -EINVAL, "the MAC 53:54:00:77:00:03 is a group's, not one card's");
}

static void the_hosts(void **state unused)
{
	static const char first[] = "\x52\x54\x00\x00\x00\x01", second[] = "\x52\x54\x00\x00\x00\x02";
	check("new", second, 0, "");
	vmm_own_mac((const uint8_t *)first);
	vmm_own_mac((const uint8_t *)second);
	check("new", first, -EEXIST, "the MAC 52:54:00:00:00:01 is that of a network card of the host");
	check("new", second, -EEXIST, "the MAC 52:54:00:00:00:02 is that of a network card of the host");
	for (unsigned i = 0; i < 100; i++) /* more than it remembers */
		vmm_own_mac((const uint8_t *)first);
	check("new", second, -EEXIST, "the MAC 52:54:00:00:00:02 is that of a network card of the host");
}

static void another_vms(void **state unused)
{
	check("new", "\x52\x54\x00\x77\x00\x01", -EEXIST, "the MAC 52:54:00:77:00:01 is that of VM demo");
	check("demo", "\x52\x54\x00\x77\x00\x02", -EEXIST, "the MAC 52:54:00:77:00:02 is that of VM twin");
	check("demo", "\x52\x54\x00\x77\x00\x01", 0, ""); /* a namesake is for others to find */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_its_own),
		cmocka_unit_test(no_cards),
		cmocka_unit_test(the_hosts),
		cmocka_unit_test(another_vms),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
