/* SPDX-License-Identifier: BSD-2-Clause */
/* PDUs and login of the target in memory (iscsi_target.h). It has its own hand at PDUs, not pdu.c's. */
#include "tests/unit/iscsi_target.h"
#include "crypto/crc32c.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/iscsi/chap.h"
#include "net/iscsi/login.h"
#include "tests/unit/pipe.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void iscsi_target_complain(struct portal *p, const char *fmt, ...)
{
	va_list ap;
	if (p->complaint.text[0])
		return;
	va_start(ap, fmt);
	vsnprintf(p->complaint.text, sizeof(p->complaint.text), fmt, ap);
	va_end(ap);
}

/* ---- PDUs ---- */

static size_t put_crc(uint8_t *to, const uint8_t *p, size_t n, bool bad)
{
	uint32_t crc = ~crc32c(CRC32C_START, p, n) ^ bad;
	memcpy(to, &crc, 4); /* little-endian, as this machine */
	return 4;
}

static void stamp(struct portal *p, uint8_t *bhs, bool numbered)
{
	put_be32(bhs + BHS_STATSN, p->statsn);
	p->statsn += numbered;
	put_be32(bhs + BHS_EXPCMDSN, p->exp_cmdsn);
	put_be32(bhs + BHS_MAXCMDSN, p->exp_cmdsn - p->pending + p->window - 1);
}

void iscsi_target_send(struct portal *p, uint8_t *bhs, const void *data, size_t len, bool numbered)
{
	stamp(p, bhs, numbered);
	struct portal_pdu o = { bhs, data, len };
	put_be24(bhs + BHS_DATA_LEN, len);
	enum portal_fault fault = p->sends ? p->sends(p, &o) : PORTAL_WELL;
	if (p->stop || fault == PORTAL_NOT)
		return;
	size_t n = ISCSI_BHS, ahs = bhs[BHS_AHS_LEN] * 4UL, pad = -o.len % 4;
	uint8_t *b = calloc(1, ISCSI_BHS + ahs + o.len + 16);
	memcpy(b, bhs, ISCSI_BHS);
	memset(b + n, 0xee, ahs);
	n += ahs;
	if (p->send_digests[0])
		n += put_crc(b + n, b, n, fault == PORTAL_BAD_HEADER);
	size_t head = n;
	memcpy(b + n, o.data ? o.data : "", o.len);
	n += o.len + pad;
	if (p->send_digests[1] && o.len)
		n += put_crc(b + n, b + head, o.len + pad, fault == PORTAL_BAD_DATA);
	if (fault == PORTAL_CUT)
		n = ISCSI_BHS / 2;
	if (fault == PORTAL_CUT_DATA)
		n = head + o.len / 2;
	p->stop = stream_write(p->s, b, n, TIME_NEVER) || fault >= PORTAL_END;
	free(b);
	PORTAL_COUNT(p->sent);
}

static bool right_crc(struct portal *p, const uint8_t *at, size_t n)
{
	uint8_t got[4], want[4];
	if (stream_read(p->s, got, 4, TIME_NEVER))
		return false;
	put_crc(want, at, n, false);
	return !memcmp(got, want, 4);
}

bool iscsi_target_recv(struct portal *p, uint8_t *bhs)
{
	if (p->stop || stream_read(p->s, bhs, ISCSI_BHS, TIME_NEVER))
		return false;
	if (p->send_digests[0] && !right_crc(p, bhs, ISCSI_BHS))
		return false;
	if (bhs[BHS_AHS_LEN])
		iscsi_target_complain(p, "additional header segments");
	return true;
}

bool iscsi_target_recv_data(struct portal *p, const uint8_t *bhs, uint8_t *to, size_t max)
{
	size_t len = iscsi_pdu_data_len(bhs), all = len + -len % 4;
	if (!len)
		return true;
	uint8_t *b = malloc(all);
	bool good = !stream_read(p->s, b, all, TIME_NEVER) && (!p->send_digests[1] || right_crc(p, b, all));
	for (size_t i = len; good && i < all; i++)
		if (b[i])
			iscsi_target_complain(p, "padding that is not zeros");
	if (len > max)
		iscsi_target_complain(p, "%zu bytes of data, where %zu may be", len, max);
	if (to && good)
		memcpy(to, b, MIN(len, max));
	free(b);
	return good;
}

/* ---- login ---- */

struct answer {
	struct iscsi_text in, out;
	char in_buf[ISCSI_TEXT_MAX], out_buf[ISCSI_TEXT_MAX];
	uint8_t bhs[ISCSI_BHS];
	bool refused;
};
#define CHALLENGE "\x10\x32\x54\x76\x98\xba\xdc\xfe"

static bool hear(struct portal *p, struct answer *a)
{
	if (!iscsi_target_recv(p, a->bhs) || !iscsi_target_recv_data(p, a->bhs, (uint8_t *)a->in_buf, ISCSI_TEXT_MAX))
		return false;
	if (a->bhs[BHS_OPCODE] != (ISCSI_IMMEDIATE | ISCSI_LOGIN))
		iscsi_target_complain(p, "0x%02x in a login", a->bhs[BHS_OPCODE]);
	a->in = (struct iscsi_text){ .at = a->in_buf, .len = iscsi_pdu_data_len(a->bhs) };
	a->out = (struct iscsi_text){ .at = a->out_buf, .max = ISCSI_TEXT_MAX };
	if (!iscsi_text_is_sane(&a->in))
		iscsi_target_complain(p, "text that is none");
	return true;
}

/* flags: T or C; with T the next stage. */
static void say(struct portal *p, struct answer *a, unsigned flags, unsigned kind, unsigned detail)
{
	uint8_t bhs[ISCSI_BHS] = { ISCSI_LOGIN_RESPONSE };
	bhs[BHS_FLAGS] = (uint8_t)((a->bhs[BHS_FLAGS] & 0xc) | flags);
	memcpy(bhs + BHS_LUN, a->bhs + BHS_LUN, 6);
	put_be16(bhs + BHS_LUN + 6, 0x77);
	bhs[BHS_LOGIN_STATUS] = (uint8_t)kind;
	bhs[BHS_LOGIN_STATUS + 1] = (uint8_t)detail;
	a->refused = kind;
	iscsi_target_send(p, bhs, a->out.at, a->out.len, true);
}

static bool has(const struct answer *a, const char *key, const char *value)
{
	const char *v = iscsi_text_get(&a->in, key);
	return v && !strcmp(v, value);
}

static void chap(struct portal *p, struct answer *a)
{
	uint8_t want[CHAP_RESPONSE], got[CHAP_RESPONSE];
	const char *r = iscsi_text_get(&a->in, "CHAP_R");
	if (!r) {
		if (!has(a, "CHAP_A", CHAP_MD5) && !p->lenient)
			iscsi_target_complain(p, "no CHAP_A");
		iscsi_text_add(&a->out, "CHAP_A", "%s", CHAP_MD5);
		iscsi_text_add(&a->out, "CHAP_I", "%u", 0xe1);
		iscsi_text_add_bytes(&a->out, "CHAP_C", (const uint8_t *)CHALLENGE, 8);
		say(p, a, 0, 0, 0);
		return;
	}
	bool right = !chap_respond(0xe1, p->secret, (const uint8_t *)CHALLENGE, 8, want) &&
		     iscsi_text_bytes(r, got, sizeof(got)) == sizeof(got) && !memcmp(got, want, sizeof(want));
	if (right && has(a, "CHAP_N", p->user))
		say(p, a, ISCSI_TRANSIT | 1, 0, 0);
	else
		say(p, a, 0, 2, 1);
}

static void security(struct portal *p, struct answer *a)
{
	if (!iscsi_text_get(&a->in, "AuthMethod")) {
		chap(p, a);
		return;
	}
	if (!has(a, "TargetName", PORTAL_NAME) || !iscsi_text_get(&a->in, "InitiatorName"))
		iscsi_target_complain(p, "a login without names");
	bool move = !p->moves || PORTAL_COUNT_OF(p->connects) <= p->moves;
	if (p->moved && move)
		iscsi_text_add(&a->out, "TargetAddress", "%s", p->moved);
	if (p->login_class && move) {
		say(p, a, 0, p->login_class, p->login_detail);
		return;
	}
	if (!has(a, "AuthMethod", p->user ? "CHAP" : "None")) {
		say(p, a, 0, 2, 1);
		return;
	}
	iscsi_text_add(&a->out, "AuthMethod", "%s", p->user ? "CHAP" : "None");
	say(p, a, p->user ? 0 : ISCSI_TRANSIT | 1, 0, 0);
}

static uint32_t number(struct portal *p, const struct answer *a, const char *key)
{
	uint32_t n = 0;
	const char *v = iscsi_text_get(&a->in, key);
	if (!v || iscsi_text_number(v, 0xffffff, &n))
		iscsi_target_complain(p, "no %s", key);
	return n;
}

static void operational(struct portal *p, struct answer *a)
{
	const char *yes[] = { "No", "Yes" }, *crc[] = { "None", "CRC32C" };
	p->peer_max = MIN(number(p, a, "MaxRecvDataSegmentLength"), p->in_max);
	p->max_burst = MIN(number(p, a, "MaxBurstLength"), p->max_burst);
	p->first_burst = MIN(MIN(number(p, a, "FirstBurstLength"), p->first_burst), p->max_burst);
	if (has(a, "HeaderDigest", "None"))
		p->header_digest = false;
	if (has(a, "DataDigest", "None"))
		p->data_digest = false;
	iscsi_text_add(&a->out, "HeaderDigest", "%s", crc[p->header_digest]);
	iscsi_text_add(&a->out, "DataDigest", "%s", crc[p->data_digest]);
	iscsi_text_add(&a->out, "MaxRecvDataSegmentLength", "%u", p->recv_max);
	size_t half = a->out.len - 7; /* within a pair */
	iscsi_text_add(&a->out, "InitialR2T", "%s", yes[p->initial_r2t]);
	iscsi_text_add(&a->out, "ImmediateData", "%s", yes[p->immediate]);
	iscsi_text_add(&a->out, "MaxBurstLength", "%u", p->max_burst);
	iscsi_text_add(&a->out, "FirstBurstLength", "%u", p->first_burst);
	iscsi_text_add(&a->out, "ErrorRecoveryLevel", "0");
	if (p->slow_login) {
		struct iscsi_text all = a->out;
		a->out.len = half;
		say(p, a, ISCSI_CONTINUE, 0, 0);
		all.at += half, all.len -= half;
		char rest[ISCSI_TEXT_MAX];
		memcpy(rest, all.at, all.len);
		if (!hear(p, a))
			return;
		a->out.at = rest, a->out.len = all.len;
		say(p, a, 0, 0, 0);
		if (!hear(p, a))
			return;
	}
	say(p, a, ISCSI_TRANSIT | 3, 0, 0);
}

bool iscsi_target_login(struct portal *p)
{
	struct answer *a = calloc(1, sizeof(*a));
	bool in = false;
	while (!in && !a->refused && !p->stop && hear(p, a)) {
		unsigned stage = a->bhs[BHS_FLAGS] >> ISCSI_CSG_BIT & 3;
		p->exp_cmdsn = get_be32(a->bhs + BHS_CMDSN);
		if (stage == 0)
			security(p, a);
		else
			operational(p, a);
		in = stage == 1;
	}
	free(a);
	if (in)
		PORTAL_COUNT(p->logins);
	return in;
}
