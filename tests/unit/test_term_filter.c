/* SPDX-License-Identifier: BSD-2-Clause */
/* What of a guest's console an operator's terminal sees: what it draws with, and nothing that makes it answer. */
#include "vmm/term_filter.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define SAME NULL
#define E    "\033"
static const struct {
	const char *said, *shown;
} t[] = {
	{ "login: \r\n\tPassword:\b\a", SAME },
	{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7 \xc2\xa0", SAME },
	/* Drawing: colours, the cursor, erasing, scrolling, modes. */
	{ E "[m" E "[1;31mred" E "[38;2;11;12;13m" E "[1;48;5;12;4m" E "[10m" E "[0m", SAME },
	{ E "[H" E "[2J" E "[12;40f" E "[K" E "[3A" E "[s" E "[u" E "[2S" E "[T" E "[1;24r" E "[5X" E "[4L", SAME },
	{ E "[?25l" E "[?1;7h" E "[4h" E "7" E "8" E "M" E "[1;2;3;4;5;6;7;30m" E "=" E ">" E "(0qqq" E "(B", SAME },
	/* Questions that a terminal answers by typing. */
	{ "a\x05z", "az" },
	{ "a" E "[6nz", "az" },
	{ "a" E "[c" E "[>c" E "[=0c" E "Z" E "[0xz", "az" },
	{ "a" E "[?1049$p" E "P$qm" E "\\z", "az" },
	{ "a" E "[21t" E "[>q" E "[?u" E "[18tz", "az" },
	/* Titles, the clipboard, keys, the printer: strings to their ends, by BEL, ST, CAN or the next sequence. */
	{ "a" E "]0;\nvm kill demo\n\az", "az" },
	{ "a" E "]52;c;cm0gLXJm\az", "az" },
	{ "a" E "]0;x" E "\\b" E "P1;2|17/0a" E "\\c" E "_x" E "\\d" E "^x" E "\\e" E "Xx" E "\\z", "abcdez" },
	{ "a" E "]0;x\x18z", "az" },
	{ "a" E "]0;x" E "[31mz", "a" E "[31mz" },
	{ "a" E "[5i" E "[?4iz", "az" },
	/* Mice, other screens, widths, paste marks, deafness, resets. */
	{ "a" E "[?1000h" E "[?1006;25h" E "[?1049h" E "[?3h" E "[?2004h" E "[2h" E "[12l" E "[1;2;3;4;5Tz", "az" },
	{ "a" E "c" E "[!p" E "#8" E "%G" E "n" E "|" E "N" E " Fz", "az" },
	{ "a" E "[38:5:9m" E "H" E "[3g" E "[3J" E "[9999bz", "az" },
	/* What makes the Linux console take UTF-8's bytes for C1; what runs over arrays, or for hours. */
	{ "a" E "[11m" E "[0;12m" E "[4294967307m" E "[38;11m" E "[38;5;1;11mz", "az" },
	{ "a" E "[;;;;;;;;1m" E "[99999L" E "[2147483647Sz", "az" },
	/* The Linux console's palette, which has no end of its own. */
	{ "a" E "]Rb" E "]P0123456z", "abz" },
	/* C1 in eight bits, in UTF-8, and what is no UTF-8. */
	{ "a\x9b"
	  "6nz",
	  "a?6nz" },
	{ "a\xc2\x9b"
	  "6nz",
	  "a?6nz" },
	{ "a\xc0\x80z\xff\xf5", "a??z??" },
	{ "a\xe0\x82\x9bz\xed\xa0\x80\xf0\x80\x82\x9b\xf4\x90\x80\x80", "a??z????????" },
	{ "a\xe2\x82z\xe2" E "[1mz", "a?z?" E "[1mz" },
	/* What is cut, or has other bytes within. */
	{ "a" E E "[1mz", "a" E "[1mz" },
	{ "a" E "[3" E "[1mz", "a" E "[1mz" },
	{ "a" E "[3\x18"
	  "1mz",
	  "a1mz" },
	{ "a" E "[3\n1mz", "a\n" E "[31mz" },
	{ "a" E "[3\x7f"
	  "1mz",
	  "a1mz" },
	{ "a" E "[1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1;1mz", "az" },
	{ "a" E "(\xc3z", "az" },
	{ "a\x7f\x0e\x0f\x01z", "az" },
};

/* In pieces of every length the same comes of it. */
static void test_table(void **state unused)
{
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		const char *want = t[i].shown ? t[i].shown : t[i].said;
		size_t n = strlen(t[i].said);
		for (size_t piece = 1; piece <= n; piece++) {
			struct term_filter f = { 0 };
			char out[TERM_FILTER_OUT(300)];
			size_t k = 0;
			for (size_t at = 0; at < n; at += piece)
				k += term_filter(&f, (const uint8_t *)t[i].said + at, MIN(piece, n - at), out + k);
			out[k] = '\0';
			if (strcmp(out, want))
				fail_msg("line %u, in pieces of %zu: %s", i, piece, out);
		}
	}
}

/* A NUL is nothing anywhere. */
static void test_nul(void **state unused)
{
	static const uint8_t said[] = "a\0" E "\0[\0003\0001\0m\0" E "\0]\0x\0\az";
	struct term_filter f = { 0 };
	char out[TERM_FILTER_OUT(sizeof(said))];
	assert_int_equal(term_filter(&f, said, sizeof(said) - 1, out), 7);
	assert_memory_equal(out, "a" E "[31mz", 7);
}

/* A string that does not end is text at last. */
static void test_no_end(void **state unused)
{
	static uint8_t said[5000] = E "]0;";
	static char out[TERM_FILTER_OUT(sizeof(said))];
	struct term_filter f = { 0 };
	memset(said + 4, 'x', sizeof(said) - 4);
	size_t n = term_filter(&f, said, sizeof(said), out);
	assert_true(n > 800 && n < 1000 && out[0] == 'x');
}

static void test_gap(void **state unused)
{
	struct term_filter f = { 0 };
	char out[TERM_FILTER_OUT(8)];
	assert_int_equal(term_filter(&f, (const uint8_t *)"a" E "]0;", 5, out), 1);
	term_filter_gap(&f);
	assert_int_equal(term_filter(&f, (const uint8_t *)"tail", 4, out), 4);
}

/* What is sent when the operator leaves passes the filter itself. */
static void test_reset(void **state unused)
{
	struct term_filter f = { 0 };
	char out[TERM_FILTER_OUT(64)];
	size_t n = strlen(term_filter_reset);
	assert_int_equal(term_filter(&f, (const uint8_t *)term_filter_reset, n, out), n);
	assert_memory_equal(out, term_filter_reset, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table), cmocka_unit_test(test_nul),   cmocka_unit_test(test_no_end),
		cmocka_unit_test(test_gap),   cmocka_unit_test(test_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
