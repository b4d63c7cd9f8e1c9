/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C by the CPU's instruction and by the table: both are in the file, which is compiled into this test. */
#include "crypto/crc32c.c"
#include <stdio.h>
#include <stdlib.h>

typedef uint32_t crc_fn(uint32_t crc, const uint8_t *p, size_t n);
static const struct way {
	const char *name;
	crc_fn *fn;
} ways[] = { { "instruction", by_instruction }, { "table", by_table } };

static bool can(const struct way *w)
{
	if (w->fn == by_table || cpuid(1, 0).ecx & CPUID1_ECX_SSE4_2)
		return true;
	print_message("this CPU has no CRC32 instruction: only the table is looked at\n");
	return false;
}

/* RFC 3720 B.4: what is sent of the digest, as a little-endian number. */
static const struct {
	uint32_t digest;
	const char *what;
} examples[] = {
	{ 0x8a9136aa, "zeros" }, { 0x62a8ab43, "ones" },     { 0x46dd794e, "up" },
	{ 0x113fdb5c, "down" },  { 0xd9963a56, "READ(10)" },
};
static const uint8_t read10[48] = {
	[0] = 0x01, [1] = 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02
};

static size_t example(unsigned i, uint8_t *to)
{
	for (unsigned b = 0; b < 32; b++)
		to[b] = (uint8_t)(i == 0 ? 0 : i == 1 ? 0xff : i == 2 ? b : 31 - b);
	if (i == 4)
		memcpy(to, read10, sizeof(read10));
	return i == 4 ? sizeof(read10) : 32;
}

static void rfc3720(void **state)
{
	(void)state;
	for (unsigned w = 0; w < ARRAY_SIZE(ways); w++) {
		for (unsigned i = 0; i < ARRAY_SIZE(examples) && can(&ways[w]); i++) {
			uint8_t b[48];
			size_t n = example(i, b);
			if ((uint32_t)~ways[w].fn(CRC32C_START, b, n) != examples[i].digest)
				fail_msg("%s of %s", ways[w].name, examples[i].what);
			assert_int_equal((uint32_t)~crc32c(CRC32C_START, b, n), examples[i].digest);
		}
	}
}

/* A bit at a time, as the polynomial is defined. */
static uint32_t by_bits(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n; n--, p++) {
		crc ^= *p;
		for (unsigned i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

/* Any length from any address on, and no byte beyond it: the address sanitizer looks. */
static void lengths_and_places(void **state)
{
	(void)state;
	for (size_t n = 0; n < 70; n++) {
		for (size_t off = 0; off < 9; off++) {
			uint8_t *b = malloc(off + n + !(off + n));
			for (size_t i = 0; i < off + n; i++)
				b[i] = (uint8_t)(i * 37 + n);
			uint32_t want = by_bits(0x12345678, b + off, n);
			for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
				if (can(&ways[w]))
					assert_int_equal(ways[w].fn(0x12345678, b + off, n), want);
			free(b);
		}
	}
}

/* In pieces it is the same as in one. */
static void pieces(void **state)
{
	(void)state;
	uint8_t b[48];
	size_t n = example(4, b);
	for (size_t cut = 0; cut <= n; cut++)
		for (unsigned w = 0; w < ARRAY_SIZE(ways); w++)
			if (can(&ways[w]))
				assert_int_equal(ways[w].fn(ways[w].fn(CRC32C_START, b, cut), b + cut, n - cut),
						 (uint32_t)~0xd9963a56);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rfc3720),
		cmocka_unit_test(lengths_and_places),
		cmocka_unit_test(pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
