/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's ACPI tables: found from the RSDP as an OS does, checksums, what Linux relies on; iasl reads all of them.
 */
#include "tests/unit/fake_kernel.h"
#include "vmm/pc/acpi_tables.h"
#include "vmm/dev.h"
#include "vmm/pc/pc.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static struct gmem g;

static int setup(void **state)
{
	(void)state;
	return gmem_init(&g, MIB(2), &pt_format_npt, NULL);
}
static int teardown(void **state)
{
	(void)state;
	gmem_fini(&g);
	return 0;
}

static const uint8_t *at(gpa_t gpa, size_t len)
{
	assert_true(gpa >= PC_ACPI_TABLES && gpa + len <= PC_SMBIOS);
	const uint8_t *p = gmem_ptr(&g, gpa, len);
	assert_non_null(p);
	return p;
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;
	while (n--)
		s += *p++;
	return s;
}

static const uint8_t *table(gpa_t gpa, const char *sig)
{
	const uint8_t *t = at(gpa, 36);
	assert_memory_equal(t, sig, 4);
	t = at(gpa, get_le32(t + 4));
	assert_int_equal(sum(t, get_le32(t + 4)), 0);
	return t;
}

static const uint8_t *xsdt(gpa_t rsdp)
{
	const uint8_t *r = at(rsdp, 36);
	assert_int_equal(rsdp % 16, 0);
	assert_memory_equal(r, "RSD PTR ", 8);
	assert_true(sum(r, 20) == 0 && sum(r, 36) == 0 && r[15] == 2);
	return table(get_le64(r + 24), "XSDT");
}

static const uint8_t *find(gpa_t rsdp, const char *sig)
{
	const uint8_t *x = xsdt(rsdp);
	for (unsigned i = 36; i < get_le32(x + 4); i += 8)
		if (!memcmp(at(get_le64(x + i), 4), sig, 4))
			return table(get_le64(x + i), sig);
	fail_msg("no %s", sig);
	return NULL;
}

static bool contains(const uint8_t *t, const void *what, size_t n)
{
	for (unsigned i = 36; i + n <= get_le32(t + 4); i++)
		if (!memcmp(t + i, what, n))
			return true;
	return false;
}

static bool contains32(const uint8_t *t, uint32_t v)
{
	uint8_t le[4];
	put_le32(le, v);
	return contains(t, le, 4);
}

static void test_tables(void **state)
{
	gpa_t rsdp;
	(void)state;

	assert_int_equal(acpi_tables_build(&g, 1, &rsdp), 0);
	const uint8_t *f = find(rsdp, "FACP");
	assert_int_equal(get_le32(f + 4), 276);
	uint32_t flags = get_le32(f + 112);
	assert_true((flags & BIT(20)) && (flags & BIT(10)));
	assert_int_equal(get_le16(f + 109), BIT(2) | BIT(5)); /* no VGA, no RTC; no legacy devices, no 8042 */
	assert_int_equal(get_le64(f + 120), PC_POWER + 2);
	assert_int_equal(f[128], 1);
	assert_int_equal(get_le64(f + 248), PC_POWER);
	assert_int_equal(get_le64(f + 260), PC_POWER + 1);
	assert_int_equal(get_le32(f + 40), get_le64(f + 140));

	/* The windows of the DSDT are those of dev.h. */
	const uint8_t *d = table(get_le64(f + 140), "DSDT");
	assert_true(contains32(d, PC_PCI_ECAM) && contains32(d, PC_PCI_ECAM_SIZE) && contains32(d, PC_PCI_MMIO) &&
		    contains32(d, PC_PCI_MMIO_LAST));
	assert_true(contains32(d, PC_PCI_IO | (uint32_t)PC_PCI_IO_LAST << 16));
	assert_true(contains32(d, 0x03f803f8) && contains32(d, PC_POWER | PC_POWER << 16));
	static const uint8_t s5[] = { '_', 'S', '5', '_', 0x12, 0x07, 0x04, 0x0a, PC_POWER_SLP_TYP_5 };
	static const uint8_t gsi4[] = {
		0x89, 0x06, 0x00, 0x03, 0x01, 4, 0, 0, 0
	}; /* consumer, edge, high, exclusive */
	assert_true(contains(d, s5, sizeof(s5)) && contains(d, gsi4, sizeof(gsi4)));

	const uint8_t *m = find(rsdp, "MCFG");
	assert_true(get_le64(m + 44) == PC_PCI_ECAM && m[54] == 0 && m[55] == 0);
}

static void check_madt(unsigned n)
{
	unsigned lapics = 0, x2apics = 0, ioapics = 0;
	gpa_t rsdp;

	assert_int_equal(acpi_tables_build(&g, n, &rsdp), 0);
	const uint8_t *m = find(rsdp, "APIC");
	assert_int_equal(get_le32(m + 40), 0); /* no 8259 */
	for (unsigned i = 44; i < get_le32(m + 4); i += m[i + 1]) {
		switch (m[i]) {
		case 0: assert_true(m[i + 3] == lapics++ && get_le32(m + i + 4) == 1); break;
		case 1: assert_true(!ioapics++ && get_le32(m + i + 4) == PC_IOAPIC && get_le32(m + i + 8) == 0); break;
		case 9: assert_true(get_le32(m + i + 4) == 255 + x2apics++ && get_le32(m + i + 8) == 1); break;
		default: fail_msg("entry type %u", m[i]);
		}
	}
	assert_true(ioapics == 1 && lapics == MIN(n, 255U) && lapics + x2apics == n);
}

static void test_madt(void **state)
{
	gpa_t rsdp;
	(void)state;

	check_madt(1);
	check_madt(255);
	check_madt(256);
	check_madt(896);
	check_madt(2048);
	assert_int_equal(acpi_tables_build(&g, 10000, &rsdp), -ENOSPC);
}

/* iasl disassembles each table and says nothing that sounds like an error. Skipped where there is no iasl. */
static void test_iasl(void **state)
{
	static const char *const sigs[] = { "FACP", "APIC", "MCFG", "XSDT", "DSDT" };
	char dir[] = "/tmp/tern-acpi-XXXXXX", cmd[256], path[64];
	gpa_t rsdp;
	(void)state;

	if (system("command -v iasl >/dev/null"))
		skip();
	assert_non_null(mkdtemp(dir));
	assert_int_equal(acpi_tables_build(&g, 2048, &rsdp), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(sigs); i++) {
		const uint8_t *t = !strcmp(sigs[i], "XSDT")   ? xsdt(rsdp)
				   : !strcmp(sigs[i], "DSDT") ? table(get_le64(find(rsdp, "FACP") + 140), "DSDT")
							      : find(rsdp, sigs[i]);
		snprintf(path, sizeof(path), "%s/t.aml", dir);
		FILE *f = fopen(path, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(t, 1, get_le32(t + 4), f), get_le32(t + 4));
		fclose(f);
		snprintf(cmd, sizeof(cmd),
			 "cd %s && iasl -d t.aml >log 2>&1 && ! grep -Eiq 'error|warning|invalid|incorrect|unknown' "
			 "log t.dsl",
			 dir);
		if (system(cmd)) {
			snprintf(cmd, sizeof(cmd), "cd %s && cat log t.dsl", dir);
			fail_msg("iasl does not like %s (%d)", sigs[i], system(cmd));
		}
	}
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tables), cmocka_unit_test(test_madt),
					    cmocka_unit_test(test_iasl) };
	return cmocka_run_group_tests_name("acpi", tests, setup, teardown);
}
