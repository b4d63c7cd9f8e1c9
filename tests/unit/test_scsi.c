/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SCSI in bytes: commands against the tables of SPC-4 and SBC-3, and what devices answer, good, cut short after every
 * byte, and with lengths that lie. Each answer lies in memory of its own length: the address sanitizer sees a byte too
 * many.
 */
#include "net/iscsi/scsi.h"
#include <stdlib.h>
#include <string.h>

/* ---- commands ---- */

#define CDB(...) ((const uint8_t[SCSI_CDB]){ __VA_ARGS__ })
/* fn(cdb, ...), into memory that was not zeros before. */
#define WANT_CDB(want, fn, ...)                                \
	do {                                                   \
		uint8_t cdb_[SCSI_CDB];                        \
		memset(cdb_, 0xa5, sizeof(cdb_));              \
		fn(cdb_, ##__VA_ARGS__);                       \
		assert_memory_equal(cdb_, want, sizeof(cdb_)); \
	} while (0)

static void commands(void **state)
{
	(void)state;
	WANT_CDB(CDB(0x00), scsi_test_unit_ready);
	WANT_CDB(CDB(0x12, 0, 0, 0x01, 0x24, 0), scsi_inquiry, -1, 0x124);
	WANT_CDB(CDB(0x12, 1, 0, 0, 0xff, 0), scsi_inquiry, 0, 0xff);
	WANT_CDB(CDB(0x12, 1, 0x83, 0, 0xff, 0), scsi_inquiry, 0x83, 0xff);
	WANT_CDB(CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), scsi_read_capacity, 32);
	WANT_CDB(CDB(0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), scsi_read, 0x0102030405060708, 0x090a0b0c);
	WANT_CDB(CDB(0x8a, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), scsi_write, 0x0102030405060708, 0x090a0b0c);
	WANT_CDB(CDB(0x91), scsi_synchronize_cache);
	WANT_CDB(CDB(0x93, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), scsi_write_same, 0x0102030405060708, 0x090a0b0c,
		 true);
	WANT_CDB(CDB(0x93, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), scsi_write_same, 0x0102030405060708, 0x090a0b0c,
		 false);
	WANT_CDB(CDB(0x5e, 0, 0, 0, 0, 0, 0, 0x02, 0x08), scsi_pr_in, SCSI_PR_READ_KEYS, 0x208);
	WANT_CDB(CDB(0x5e, 1, 0, 0, 0, 0, 0, 0, 24), scsi_pr_in, SCSI_PR_READ_RESERVATION, 24);
}

/* SPC-4 6.16: type WRITE EXCLUSIVE where there is one; APTPL belongs to registrations alone. */
static void reservations(void **state)
{
	(void)state;
	static const struct {
		enum scsi_pr_out what;
		uint8_t type, aptpl;
	} rows[] = {
		{ SCSI_PR_REGISTER, 0, 1 }, { SCSI_PR_RESERVE, 1, 0 }, { SCSI_PR_RELEASE, 1, 0 },
		{ SCSI_PR_CLEAR, 0, 0 },    { SCSI_PR_PREEMPT, 1, 0 }, { SCSI_PR_REGISTER_AND_IGNORE, 0, 1 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned aptpl = 0; aptpl < 2; aptpl++) {
			uint8_t *param = malloc(SCSI_PR_OUT_LEN);
			memset(param, 0xa5, SCSI_PR_OUT_LEN);
			WANT_CDB(CDB(0x5f, (uint8_t)rows[i].what, rows[i].type, 0, 0, 0, 0, 0, 24), scsi_pr_out, param,
				 rows[i].what, 0x0102030405060708, 0x1112131415161718, aptpl);
			const uint8_t want[24] = { 1,
						   2,
						   3,
						   4,
						   5,
						   6,
						   7,
						   8,
						   0x11,
						   0x12,
						   0x13,
						   0x14,
						   0x15,
						   0x16,
						   0x17,
						   0x18,
						   [20] = aptpl ? rows[i].aptpl : 0 };
			assert_memory_equal(param, want, sizeof(want));
			free(param);
		}
	}
}

/* ---- answers ---- */

/* n bytes in memory that has no more. To be freed. */
static uint8_t *exact(const uint8_t *p, size_t n)
{
	uint8_t *b = malloc(n + !n);
	memcpy(b, p, n);
	return b;
}

static bool sense(const uint8_t *p, size_t n, struct scsi_sense *s)
{
	uint8_t *b = exact(p, n);
	memset(s, 0xa5, sizeof(*s));
	bool known = scsi_sense_parse(b, n, s);
	free(b);
	return known;
}

static void sense_data(void **state)
{
	(void)state;
	struct scsi_sense s;
	uint8_t fixed[18] = { 0xf0, 0, 0xe6, [7] = 10, [12] = 0x29, [13] = 0x01 };
	assert_true(sense(fixed, 18, &s));
	assert_int_equal(s.key, SCSI_UNIT_ATTENTION);
	assert_int_equal(s.asc, SCSI_ASC(0x29, 0x01));
	for (size_t n = 0; n < 18; n++) {
		assert_int_equal(sense(fixed, n, &s), n >= 4);
		assert_int_equal(s.key, n >= 4 ? SCSI_UNIT_ATTENTION : 0);
		assert_int_equal(s.asc, n >= 14 ? SCSI_ASC(0x29, 0x01) : 0);
	}
	fixed[7] = 5; /* its additional length ends before the ASCQ */
	assert_true(sense(fixed, 18, &s));
	assert_int_equal(s.asc, 0);
	fixed[7] = 0xff; /* it has more than there is */
	assert_true(sense(fixed, 14, &s));
	assert_int_equal(s.asc, SCSI_ASC(0x29, 0x01));
	const uint8_t descriptor[8] = { 0x72, 0xf5, 0x27, 0x07 };
	for (size_t n = 0; n <= 8; n++)
		assert_int_equal(sense(descriptor, n, &s), n >= 4);
	assert_int_equal(s.key, SCSI_ILLEGAL_REQUEST);
	assert_int_equal(s.asc, SCSI_ASC_SPACE_ALLOCATION_FAILED);
	for (unsigned code = 0; code < 0x100; code++) {
		const uint8_t any[18] = { (uint8_t)code };
		assert_int_equal(sense(any, 18, &s), (code & 0x7f) >= 0x70 && (code & 0x7f) <= 0x73);
	}
}

static void sense_as_text(void **state)
{
	(void)state;
	char *text = malloc(64);
	scsi_sense_text(&(struct scsi_sense){ SCSI_UNIT_ATTENTION, SCSI_ASC(0x29, 0) }, text, 64);
	assert_string_equal(text, "unit attention, 29/00");
	scsi_sense_text(&(struct scsi_sense){ SCSI_DATA_PROTECT, SCSI_ASC_SPACE_ALLOCATION_FAILED }, text, 64);
	assert_non_null(strstr(text, "no space left"));
	scsi_sense_text(&(struct scsi_sense){ 0xff, 0xffff }, text, 64);
	assert_string_equal(text, "sense, ff/ff");
	free(text);
	text = malloc(5);
	scsi_sense_text(&(struct scsi_sense){ SCSI_DATA_PROTECT, 0 }, text, 5);
	assert_string_equal(text, "data");
	free(text);
}

static void capacity(void **state)
{
	(void)state;
	const uint8_t good[32] = { 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0x10, 0, 0, 0, 0xc0 };
	for (size_t n = 0; n <= 32; n++) {
		struct scsi_capacity c = { 0 };
		uint8_t *b = exact(good, n);
		assert_int_equal(scsi_capacity_parse(b, n, &c), n >= 12);
		free(b);
		assert_int_equal(c.blocks, n >= 12 ? 0x102030406 : 0);
		assert_int_equal(c.block_len, n >= 12 ? 4096 : 0);
		assert_int_equal(c.thin, n >= 15);
		assert_int_equal(c.unmaps_zeroes, n >= 15);
	}
	uint8_t all[32]; /* 2^64 blocks cannot be counted */
	struct scsi_capacity c;
	memset(all, 0xff, sizeof(all));
	assert_false(scsi_capacity_parse(all, sizeof(all), &c));
}

static void inquiry(void **state)
{
	(void)state;
	uint8_t p[36] = { 0 };
	struct scsi_inquiry i;
	memcpy(p + 8, "IET     VIRTUAL\x1b-DISK   0001", 28);
	for (size_t n = 0; n <= 36; n++) {
		uint8_t *b = exact(p, n);
		assert_int_equal(scsi_inquiry_parse(b, n, &i), n == 36);
		free(b);
	}
	assert_int_equal(i.type, 0);
	assert_string_equal(i.vendor, "IET");
	assert_string_equal(i.product, "VIRTUAL?-DISK"); /* nothing that a terminal would obey */
	assert_string_equal(i.revision, "0001");
	memset(p, 0xff, sizeof(p));
	assert_true(scsi_inquiry_parse(p, sizeof(p), &i));
	assert_int_equal(i.type, 0x1f);
	assert_string_equal(i.product, "????????????????");
	memset(p, 0, sizeof(p));
	p[0] = 0x25; /* nothing is connected there (qualifier 1), whatever type it would have */
	assert_true(scsi_inquiry_parse(p, sizeof(p), &i));
	assert_int_equal(i.type, 0x1f);
	assert_string_equal(i.vendor, "");
}

/* ---- the unit's name ---- */

static bool name_of(const uint8_t *p, size_t n, char *text, size_t size)
{
	uint8_t *b = exact(p, n);
	char *t = malloc(size);
	bool has = scsi_device_id(b, n, t, size);
	if (has)
		memcpy(text, t, strlen(t) + 1);
	free(t);
	free(b);
	return has;
}

#define T10    0x02, 0x01, 0, 6, 'I', 'E', 'T', ' ', 7, '1'
#define EUI    0x01, 0x02, 0, 8, 0, 1, 2, 3, 4, 5, 6, 0xff
#define NAA    0x01, 0x03, 0, 8, 0x60, 1, 2, 3, 4, 5, 6, 7
#define PORT   0x01, 0x13, 0, 4, 1, 2, 3, 4 /* association 1: the port's */
#define VENDOR 0x01, 0x00, 0, 2, 9, 9

static void device_id(void **state)
{
	(void)state;
	const uint8_t all[] = { 0, 0x83, 0, 48, PORT, T10, EUI, VENDOR, NAA };
	const uint8_t t10[] = { 0, 0x83, 0, 18, PORT, T10 }, eui[] = { 0, 0x83, 0, 22, EUI, T10 };
	const uint8_t none[] = { 0, 0x83, 0, 18, PORT, VENDOR, 0x01, 0x03, 0, 0 };
	char text[64];
	assert_int_equal(sizeof(all), 52);
	assert_true(name_of(all, sizeof(all), text, sizeof(text)));
	assert_string_equal(text, "naa.6001020304050607");
	assert_true(name_of(eui, sizeof(eui), text, sizeof(text)));
	assert_string_equal(text, "eui.00010203040506ff");
	assert_true(name_of(t10, sizeof(t10), text, sizeof(text)));
	assert_string_equal(text, "t10.IET1");
	assert_false(name_of(none, sizeof(none), text, sizeof(text)));
	for (size_t n = 0; n < sizeof(all); n++) { /* the best one of those that are there as a whole */
		bool has = name_of(all, n, text, sizeof(text));
		assert_int_equal(has, n >= 22);
		if (has)
			assert_string_equal(text, n >= 34 ? "eui.00010203040506ff" : "t10.IET1");
	}
	for (size_t size = 1; size < 24; size++) /* and no more text than there is room for */
		assert_true(name_of(all, sizeof(all), text, size) && strlen(text) < size);
}

static void device_id_lies(void **state)
{
	(void)state;
	char text[600];
	uint8_t p[4 + 4 + 255] = { 0, 0x83, 0xff, 0xff, 0x01, 0x03, 0, 255 };
	assert_false(name_of(p, 20, text, sizeof(text))); /* a designator that is longer than the page */
	assert_true(name_of(p, sizeof(p), text, sizeof(text)));
	assert_int_equal(strlen(text), 4 + 2 * 255);
	put_be16(p + 2, 4 + 254); /* and the page ends before it */
	assert_false(name_of(p, sizeof(p), text, sizeof(text)));
	memset(p + 4, 0, sizeof(p) - 4); /* empty ones, to the end */
	put_be16(p + 2, 0xffff);
	assert_false(name_of(p, sizeof(p), text, sizeof(text)));
}

static void limits(void **state)
{
	(void)state;
	uint8_t p[64] = { 0, 0xb0, 0, 60, [8] = 0, 1, 0, 0, [36] = 0, 0, 0, 2, 0, 0, 0, 3 };
	for (size_t n = 0; n <= 64; n++) {
		struct scsi_limits l = { 7 };
		uint8_t *b = exact(p, n);
		assert_int_equal(scsi_limits_parse(b, n, &l), n >= 12);
		free(b);
		assert_int_equal(l.transfer, n >= 12 ? 0x10000 : 0);
	}
	p[1] = 0xb1; /* that is another page */
	struct scsi_limits l;
	assert_false(scsi_limits_parse(p, sizeof(p), &l));
}

/* ---- who has it ---- */

static void reservation_holder(void **state)
{
	(void)state;
	uint8_t p[24] = { 0, 0, 0, 9, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, [21] = 0x01 };
	struct scsi_pr_holder h;
	for (size_t n = 0; n <= 24; n++) {
		uint8_t *b = exact(p, n);
		assert_int_equal(scsi_pr_holder_parse(b, n, &h), n == 24);
		free(b);
	}
	assert_true(h.held && h.key == 0x0102030405060708 && h.type == SCSI_PR_WRITE_EXCLUSIVE);
	put_be32(p + 4, 0);
	uint8_t *b = exact(p, 8);
	assert_true(scsi_pr_holder_parse(b, 8, &h) && !h.held && !h.key);
	free(b);
	put_be32(p + 4, 15); /* half a descriptor */
	assert_false(scsi_pr_holder_parse(p, sizeof(p), &h));
	put_be32(p + 4, 0xffffffff);
	assert_true(scsi_pr_holder_parse(p, sizeof(p), &h) && h.held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands),           cmocka_unit_test(reservations),   cmocka_unit_test(sense_data),
		cmocka_unit_test(sense_as_text),      cmocka_unit_test(capacity),       cmocka_unit_test(inquiry),
		cmocka_unit_test(device_id),          cmocka_unit_test(device_id_lies), cmocka_unit_test(limits),
		cmocka_unit_test(reservation_holder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
