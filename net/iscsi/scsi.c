/* SPDX-License-Identifier: BSD-2-Clause */
/* SCSI in bytes (scsi.h). */
#include "net/iscsi/scsi.h"
#include <stdio.h>
#include <string.h>

/* Operation codes: SPC-4 annex E.3, SBC-3 5. */
enum {
	TEST_UNIT_READY = 0x00,
	INQUIRY = 0x12,
	PERSISTENT_RESERVE_IN = 0x5e,
	PERSISTENT_RESERVE_OUT = 0x5f,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	SYNCHRONIZE_CACHE_16 = 0x91,
	WRITE_SAME_16 = 0x93,
	SERVICE_ACTION_IN_16 = 0x9e,
};
#define READ_CAPACITY_16 0x10 /* a service action */
#define VITAL_PRODUCT    0x01
#define WRITE_SAME_UNMAP 0x08

/* ---- sense ---- */

bool scsi_sense_parse(const uint8_t *p, size_t n, struct scsi_sense *s)
{
	*s = (struct scsi_sense){ 0 };
	if (n < 4)
		return false;
	switch (p[0] & 0x7f) {
	case 0x70: /* fixed, of this command; 0x71: of one before */
	case 0x71:
		s->key = p[2] & 0xf;
		if (n >= 14 && p[7] >= 6)
			s->asc = get_be16(p + 12);
		return true;
	case 0x72: /* descriptor */
	case 0x73:
		s->key = p[1] & 0xf;
		s->asc = get_be16(p + 2);
		return true;
	default: return false;
	}
}

void scsi_sense_text(const struct scsi_sense *s, char *text, size_t size)
{
	static const char *const keys[16] = {
		[SCSI_NO_SENSE] = "no sense",
		[SCSI_RECOVERED_ERROR] = "recovered error",
		[SCSI_NOT_READY] = "not ready",
		[SCSI_MEDIUM_ERROR] = "medium error",
		[SCSI_HARDWARE_ERROR] = "hardware error",
		[SCSI_ILLEGAL_REQUEST] = "illegal request",
		[SCSI_UNIT_ATTENTION] = "unit attention",
		[SCSI_DATA_PROTECT] = "data protect",
		[SCSI_ABORTED_COMMAND] = "aborted command",
	};
	const char *key = keys[s->key & 0xf];
	snprintf(text, size, "%s, %02x/%02x%s", key ? key : "sense", s->asc >> 8, s->asc & 0xff,
		 s->asc == SCSI_ASC_SPACE_ALLOCATION_FAILED ? ": it has no space left" : "");
}

/* ---- commands ---- */

static void begin(uint8_t *cdb, uint8_t code)
{
	memset(cdb, 0, SCSI_CDB);
	cdb[0] = code;
}

void scsi_test_unit_ready(uint8_t *cdb) { begin(cdb, TEST_UNIT_READY); }

void scsi_inquiry(uint8_t *cdb, int page, uint16_t len)
{
	begin(cdb, INQUIRY);
	cdb[1] = page < 0 ? 0 : VITAL_PRODUCT;
	cdb[2] = page < 0 ? 0 : (uint8_t)page;
	put_be16(cdb + 3, len);
}

void scsi_read_capacity(uint8_t *cdb, uint8_t len)
{
	begin(cdb, SERVICE_ACTION_IN_16);
	cdb[1] = READ_CAPACITY_16;
	put_be32(cdb + 10, len);
}

static void blocks_of(uint8_t *cdb, uint8_t code, uint64_t block, uint32_t blocks)
{
	begin(cdb, code);
	put_be64(cdb + 2, block);
	put_be32(cdb + 10, blocks);
}

void scsi_read(uint8_t *cdb, uint64_t block, uint32_t blocks) { blocks_of(cdb, READ_16, block, blocks); }
void scsi_write(uint8_t *cdb, uint64_t block, uint32_t blocks) { blocks_of(cdb, WRITE_16, block, blocks); }
void scsi_synchronize_cache(uint8_t *cdb) { begin(cdb, SYNCHRONIZE_CACHE_16); }

void scsi_write_same(uint8_t *cdb, uint64_t block, uint32_t blocks, bool unmap)
{
	blocks_of(cdb, WRITE_SAME_16, block, blocks);
	cdb[1] = unmap ? WRITE_SAME_UNMAP : 0;
}

/* ---- what a device is ---- */

bool scsi_capacity_parse(const uint8_t *p, size_t n, struct scsi_capacity *c)
{
	if (n < 12)
		return false;
	uint64_t last = get_be64(p);
	*c = (struct scsi_capacity){ .blocks = last + 1, .block_len = get_be32(p + 8) };
	if (n >= 15) {
		c->thin = p[14] & 0x80;
		c->unmaps_zeroes = p[14] & 0x40;
	}
	return last != ~0ULL;
}

/* Text of a field, without what pads it, and without what a terminal would obey. */
static void field(char *to, const uint8_t *p, size_t n)
{
	while (n && (p[n - 1] == ' ' || !p[n - 1]))
		n--;
	for (size_t i = 0; i < n; i++)
		to[i] = p[i] < ' ' || p[i] > '~' ? '?' : (char)p[i];
	to[n] = 0;
}

bool scsi_inquiry_parse(const uint8_t *p, size_t n, struct scsi_inquiry *i)
{
	if (n < 36)
		return false;
	i->type = p[0] & 0x1f;
	if (p[0] >> 5) /* the peripheral qualifier: nothing is connected there */
		i->type = 0x1f;
	field(i->vendor, p + 8, 8);
	field(i->product, p + 16, 16);
	field(i->revision, p + 32, 4);
	return true;
}

/* SPC-4 7.8.6: of the designators of the unit itself (association 0) the best one. */
bool scsi_device_id(const uint8_t *p, size_t n, char *text, size_t size)
{
	static const uint8_t rank[16] = { [1] = 1, [2] = 2, [3] = 3 }; /* T10, EUI-64, NAA */
	static const char *const what[16] = { [1] = "t10.", [2] = "eui.", [3] = "naa." };
	const uint8_t *best = NULL;
	if (n < 4)
		return false;
	size_t end = MIN(n, 4 + (size_t)get_be16(p + 2));
	for (size_t at = 4; at + 4 <= end && at + 4 + p[at + 3] <= end; at += 4U + p[at + 3]) {
		uint8_t type = p[at + 1] & 0xf;
		if (p[at + 1] >> 4 & 3 || !p[at + 3] || !rank[type])
			continue;
		if (!best || rank[type] > rank[best[1] & 0xf])
			best = p + at;
	}
	if (!best)
		return false;
	size_t len = best[3], used = (size_t)snprintf(text, size, "%s", what[best[1] & 0xf]);
	for (size_t i = 0; i < len && used + 3 <= size; i++) {
		uint8_t b = best[4 + i];
		if ((best[1] & 0xf) != 1)
			used += (size_t)snprintf(text + used, size - used, "%02x", b);
		else if (b > ' ' && b <= '~')
			used += (size_t)snprintf(text + used, size - used, "%c", b);
	}
	return true;
}

bool scsi_limits_parse(const uint8_t *p, size_t n, struct scsi_limits *l)
{
	*l = (struct scsi_limits){ 0 };
	if (n < 12 || p[1] != 0xb0)
		return false;
	l->transfer = get_be32(p + 8);
	return true;
}

/* ---- persistent reservations ---- */

void scsi_pr_out(uint8_t *cdb, uint8_t *param, enum scsi_pr_out what, uint64_t key, uint64_t new_key, bool aptpl)
{
	bool registers = what == SCSI_PR_REGISTER || what == SCSI_PR_REGISTER_AND_IGNORE;
	begin(cdb, PERSISTENT_RESERVE_OUT);
	cdb[1] = (uint8_t)what;
	cdb[2] = registers || what == SCSI_PR_CLEAR ? 0 : SCSI_PR_WRITE_EXCLUSIVE;
	put_be32(cdb + 5, SCSI_PR_OUT_LEN);
	memset(param, 0, SCSI_PR_OUT_LEN);
	put_be64(param, key);
	put_be64(param + 8, new_key);
	param[20] = registers && aptpl ? SCSI_PR_APTPL : 0;
}

void scsi_pr_in(uint8_t *cdb, enum scsi_pr_in what, uint16_t len)
{
	begin(cdb, PERSISTENT_RESERVE_IN);
	cdb[1] = (uint8_t)what;
	put_be16(cdb + 7, len);
}

bool scsi_pr_holder_parse(const uint8_t *p, size_t n, struct scsi_pr_holder *h)
{
	if (n < 8)
		return false;
	*h = (struct scsi_pr_holder){ .generation = get_be32(p), .held = get_be32(p + 4) };
	if (!h->held)
		return true;
	if (n < 24 || get_be32(p + 4) < 16)
		return false;
	h->key = get_be64(p + 8);
	h->type = p[21] & 0xf;
	return true;
}
