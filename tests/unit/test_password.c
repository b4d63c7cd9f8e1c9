/* SPDX-License-Identifier: BSD-2-Clause */
/* The console's password against what Python's hashlib.pbkdf2_hmac makes of it, and the command that makes one. */
#include "tests/unit/fake_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "crypto/password.c"

int mbedtls_psa_external_get_random(void *ctx unused, uint8_t *buf unused, size_t size unused, size_t *got unused)
{
	return -1;
}

void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)i;
}

static const struct conf_password known = {
	.iterations = 1000,
	.salt = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
	.hash = { 0xc9, 0x14, 0xcc, 0x4f, 0x06, 0xcc, 0x6e, 0x8f, 0x46, 0xd1, 0x57, 0xe3, 0xa1, 0xb5, 0xaa, 0x7a,
		  0xbc, 0xee, 0xbb, 0x17, 0xbb, 0x04, 0x44, 0xcd, 0x4c, 0x4a, 0xc1, 0x6c, 0xa2, 0xae, 0x98, 0x64 },
};

static void test_known(void **state unused)
{
	struct conf_password p = known;
	assert_true(password_is(&p, "correct horse"));
	assert_false(password_is(&p, "correct hors"));
	assert_false(password_is(&p, "correct horsf"));
	assert_false(password_is(&p, ""));
	p.hash[31] ^= 1;
	assert_false(password_is(&p, "correct horse"));
	p = known;
	p.iterations = 1001;
	assert_false(password_is(&p, "correct horse"));
	memset(&p, 0, sizeof(p)); /* what could not be read is nobody's */
	assert_false(password_is(&p, ""));
	assert_false(password_is(&p, "correct horse"));
}

/* ---- the command ---- */

static char said[600];
static size_t nsaid;
static const char *typed;

static void put(struct con *c unused, const char *s, size_t n)
{
	assert_true(nsaid + n < sizeof(said));
	memcpy(said + nsaid, s, n);
	said[nsaid += n] = '\0';
}
static int get(struct con *c, uint64_t deadline_ns unused)
{
	assert_true(c->raw);
	return *typed ? (unsigned char)*typed++ : -ETIMEDOUT;
}
static bool interrupted(struct con *c unused) { return false; }

static int run(const char *keys)
{
	static struct con c = { .write = put, .getc = get, .interrupted = interrupted };
	char name[] = "password", *argv[] = { name };
	nsaid = 0;
	typed = keys;
	return console_sub_password[0].fn(&c, 1, argv);
}

static void test_make(void **state unused)
{
	assert_int_equal(run("correct horse\rcorrect horse\r"), 0);
	assert_non_null(strstr(said, "console_password = pbkdf2-sha256:200000:000102030405060708090a0b0c0d0e0f:"));
	assert_null(strstr(said, "horse"));
	assert_int_equal(run("correctx\x7f horse\rcorrect horse\r"), 0); /* a key taken back */
	assert_int_equal(run("\ncorrectx\b horse\r\nwrong\x15"
			     "correct horse\r\n"),
			 0); /* terminals that send CR LF, and ^H */
	assert_int_equal(run("correct horse\ncorrect horse\n"), 0);
	assert_int_equal(run("correct horse\rcorrect hours\r"), -EINVAL);
	assert_int_equal(run("short\r"), -EINVAL);
	assert_non_null(strstr(said, "password: 8 to 64 characters\n"));
#define LONG "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	assert_int_equal(run(LONG "\r" LONG "\r"), 0);
	assert_int_equal(run(LONG "x\r" LONG "x\r"), -EINVAL);
	assert_int_equal(run(LONG "xyz\b\b\b\r" LONG "\r"), 0);
	assert_int_equal(run(LONG "\r" LONG "x\r"), -EINVAL);
	assert_int_equal(run("correct horse\r\x03"), -ECANCELED);
	assert_int_equal(run("correct horse"), -ECANCELED);
	assert_null(strstr(said, "horse"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_make),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
