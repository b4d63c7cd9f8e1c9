/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which serial port is the console: what tern.conf may say, and the firmware's tables from the RSDP to SPCR, whole,
 * absent, and with bytes and lengths changed at random under good checksums. What is mapped is a copy of as many bytes
 * as were asked for, so that the sanitizer sees whoever reads past them.
 */
#include "boot/serial_port.h"
#include "arch/x86/hw/acpi.h"
#include "kernel/base/checksum.h"
#include "kernel/base/err.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { RSDP, XSDT, FACP, SPCR, TABLES };
#define AT(i) (0x1000ULL * ((i) + 1)) /* where table i lies */

static uint8_t *table[TABLES];
static const uint32_t size[TABLES] = { RSDP_LEN, ACPI_HEADER_LEN + 16, ACPI_HEADER_LEN, SPCR_LEN };

static uint8_t *mapped[64];
static unsigned nmapped;

static const uint8_t *map(hpa_t hpa, uint64_t n)
{
	for (unsigned i = 0; i < TABLES; i++)
		if (hpa >= AT(i) && hpa - AT(i) < size[i] && n <= size[i] - (hpa - AT(i))) {
			assert_true(nmapped < ARRAY_SIZE(mapped));
			return memcpy(mapped[nmapped++] = malloc(n), table[i] + (hpa - AT(i)), n);
		}
	return NULL;
}

static void unmap(void)
{
	while (nmapped)
		free(mapped[--nmapped]);
}

static void sign(unsigned i)
{
	if (i == RSDP) {
		table[i][RSDP_CHECKSUM] = 0;
		table[i][RSDP_CHECKSUM] = (uint8_t)-sum8(table[i], RSDP_LEN_1);
		return;
	}
	table[i][9] = 0;
	table[i][9] = (uint8_t)-sum8(table[i], MIN(size[i], get_le32(table[i] + ACPI_LENGTH)));
}

static int build(void **state unused)
{
	static const char *const names[] = { "RSD PTR ", "XSDT", "FACP", "SPCR" };
	for (unsigned i = 0; i < TABLES; i++) {
		table[i] = calloc(1, size[i]);
		memcpy(table[i], names[i], strlen(names[i]));
		if (i != RSDP)
			put_le32(table[i] + ACPI_LENGTH, size[i]);
	}
	table[RSDP][RSDP_REVISION] = 2;
	put_le64(table[RSDP] + RSDP_XSDT, AT(XSDT));
	put_le64(table[XSDT] + ACPI_HEADER_LEN, AT(FACP));
	put_le64(table[XSDT] + ACPI_HEADER_LEN + 8, AT(SPCR));
	table[SPCR][SPCR_ADDRESS + GAS_SPACE] = GAS_SPACE_IO;
	put_le64(table[SPCR] + SPCR_ADDRESS + GAS_ADDRESS, 0x2f8);
	table[SPCR][SPCR_IRQ_TYPE] = SPCR_IRQ_8259;
	table[SPCR][SPCR_IRQ] = 3;
	table[SPCR][SPCR_BAUD] = SPCR_19200;
	for (unsigned i = 0; i < TABLES; i++)
		sign(i);
	return 0;
}

static int drop(void **state unused)
{
	for (unsigned i = 0; i < TABLES; i++)
		free(table[i]);
	return 0;
}

static void expect(bool found, unsigned port, unsigned irq, unsigned divisor)
{
	struct handoff_console c = { 0x3f8, 4, 1 };
	assert_int_equal(serial_port_spcr(map, AT(RSDP), &c), found);
	unmap();
	assert_int_equal(c.port, port);
	assert_int_equal(c.irq, irq);
	assert_int_equal(c.divisor, divisor);
}

static void set(unsigned off, uint8_t v)
{
	table[SPCR][off] = v;
	sign(SPCR);
}

static void test_tables(void **state unused)
{
	expect(true, 0x2f8, 3, 6);
	set(SPCR_BAUD, SPCR_9600);
	expect(true, 0x2f8, 3, 12);
	set(SPCR_BAUD, 0); /* as the firmware left it */
	expect(true, 0x2f8, 3, 1);
	set(SPCR_IRQ, 16); /* no ISA line */
	expect(true, 0x2f8, 0, 1);
	set(SPCR_IRQ_TYPE, 2); /* an I/O APIC's input, of which tern knows no wiring */
	expect(true, 0x2f8, 0, 1);
	set(SPCR_INTERFACE, SPCR_16550_GAS);
	expect(true, 0x2f8, 0, 1);
	set(SPCR_INTERFACE, 3); /* an ARM PL011 */
	expect(false, 0x3f8, 4, 1);
	set(SPCR_INTERFACE, SPCR_16550);
	set(SPCR_ADDRESS + GAS_SPACE, 0); /* in memory */
	expect(false, 0x3f8, 4, 1);
	set(SPCR_ADDRESS + GAS_SPACE, GAS_SPACE_IO);
	put_le64(table[SPCR] + SPCR_ADDRESS + GAS_ADDRESS, 0); /* redirection is off */
	sign(SPCR);
	expect(false, 0x3f8, 4, 1);
}

static void test_none(void **state unused)
{
	struct handoff_console c = { 0 };
	assert_false(serial_port_spcr(map, 0, &c));
	table[SPCR][SPCR_BAUD]++; /* its checksum is wrong now */
	expect(false, 0x3f8, 4, 1);
	sign(SPCR);
	table[XSDT][9]++;
	expect(false, 0x3f8, 4, 1);
	sign(XSDT);
	table[RSDP][RSDP_CHECKSUM]++;
	expect(false, 0x3f8, 4, 1);
}

static void test_random_tables(void **state)
{
	unsigned found = 0;
	srandom(1);
	for (unsigned round = 0; round < 50000; round++) {
		for (unsigned n = (unsigned)random() % 4 + 1; n; n--) {
			unsigned i = (unsigned)random() % TABLES;
			if (i != RSDP && random() % 4 == 0)
				put_le32(table[i] + ACPI_LENGTH, (uint32_t)random() % (size[i] + 2));
			else
				table[i][(unsigned)random() % size[i]] ^= (uint8_t)(1 << random() % 8);
			sign(i);
		}
		struct handoff_console c = { 0 };
		if (serial_port_spcr(map, AT(RSDP), &c)) {
			found++;
			assert_true(c.port && c.port <= 0xfff8 && c.irq < 16);
			assert_true(c.divisor && 115200 % c.divisor == 0);
		}
		unmap();
		if (round % 8 == 7) {
			drop(state);
			build(state);
		}
	}
	assert_in_range(found, 1000, 49000);
}

static void test_conf(void **state unused)
{
	static const struct {
		const char *text;
		unsigned port, irq;
	} good[] = { { "com1", 0x3f8, 4 },  { "com2", 0x2f8, 3 },    { "COM2", 0x2f8, 3 },   { "com4", 0x2e8, 3 },
		     { "0x2f8", 0x2f8, 3 }, { "0x3220", 0x3220, 0 }, { "0xfff8", 0xfff8, 0 } };
	static const char *const bad[] = { "",       "com",     "com5", "COM0",  "0x",   "0x0",
					   "0xfff9", "0x12345", "760",  "0x2g8", "ttyS1" };
	struct handoff_console c;
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(serial_port_parse(good[i].text, &c), 0);
		assert_int_equal(c.port, good[i].port);
		assert_int_equal(c.irq, good[i].irq);
		assert_int_equal(c.divisor, 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_not_equal(serial_port_parse(bad[i], &c), 0);
}

/* A wrong word is none. */
static void test_find(void **state unused)
{
	static const struct {
		const char *text;
		int err;
		unsigned port, without;
	} t[] = { { NULL, 0, 0x2f8, 0x3f8 }, { "com4", 0, 0x2e8, 0x2e8 }, { "tty1", -EINVAL, 0x2f8, 0x3f8 } };
	struct handoff_console c;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(serial_port_find(t[i].text, map, AT(RSDP), &c), t[i].err);
		assert_int_equal(c.port, t[i].port);
		assert_int_equal(serial_port_find(t[i].text, map, 0, &c), t[i].err);
		assert_int_equal(c.port, t[i].without);
		unmap();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tables, build, drop),
		cmocka_unit_test_setup_teardown(test_none, build, drop),
		cmocka_unit_test_setup_teardown(test_random_tables, build, drop),
		cmocka_unit_test(test_conf),
		cmocka_unit_test_setup_teardown(test_find, build, drop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
