/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The login phase (login.h):
 *
 *   security      who we are, which target; CHAP_A -> CHAP_I, CHAP_C -> CHAP_N, CHAP_R
 *   operational   digests and lengths, all in one go; the target's words are the answers
 *
 * A target may take several PDUs for an answer (C), and several steps for a stage: both are bounded.
 */
#include "net/iscsi/login.h"
#include "kernel/base/wipe.h"
#include "net/iscsi/chap.h"
#include "net/iscsi/text.h"
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX   16   /* exchanges of a login */
#define DATA_MAX    8192 /* of a PDU in this phase: RFC 7143 13.12 */
#define ANSWER_MAX  (2 * ISCSI_TEXT_MAX)
#define FOREVER     0xffffffU /* of lengths in 24 bits */
#define DEFAULT_LEN 8192      /* 13.12 */

enum stage { SECURITY = 0, OPERATIONAL = 1, FULL_FEATURE = 3 };
/* LOGIN RESPONSE's status class: 11.13.5 */
enum { CLASS_SUCCESS = 0, CLASS_REDIRECTION = 1, CLASS_INITIATOR = 2, CLASS_TARGET = 3 };
enum { DETAIL_AUTHENTICATION = 1, DETAIL_FORBIDDEN = 2, DETAIL_NOT_FOUND = 3, DETAIL_REMOVED = 4 };

struct login {
	struct iscsi_wire *w;
	const struct iscsi_target *t;
	struct iscsi_params *p;
	uint64_t deadline_ns;
	struct why *why;
	enum stage stage;
	unsigned steps;
	struct iscsi_text out, answer;
	char out_buf[ISCSI_TEXT_MAX], in_buf[ANSWER_MAX];
};

/* ---- an exchange ---- */

static int send_request(struct login *l, bool transit)
{
	uint8_t bhs[ISCSI_BHS] = { ISCSI_IMMEDIATE | ISCSI_LOGIN };
	enum stage next = l->stage == SECURITY ? OPERATIONAL : FULL_FEATURE;
	bhs[BHS_FLAGS] = (uint8_t)((unsigned)l->stage << ISCSI_CSG_BIT);
	if (transit)
		bhs[BHS_FLAGS] |= (uint8_t)(ISCSI_TRANSIT | next);
	memcpy(bhs + BHS_LUN, l->t->isid, sizeof(l->t->isid));
	put_be16(bhs + BHS_LUN + 6, l->p->tsih);
	put_be32(bhs + BHS_CMDSN, l->p->cmdsn);
	put_be32(bhs + BHS_EXPSTATSN, l->p->exp_statsn);
	struct iov data = { l->out.at, l->out.len };
	if (l->out.full)
		return why_set(l->why, -EINVAL, "names and secrets are too long for a login");
	return iscsi_pdu_send(l->w, bhs, &data, 1, l->out.len, l->deadline_ns);
}

static int redirected(struct login *l)
{
	const char *to = iscsi_text_get(&l->answer, "TargetAddress");
	if (!to || !iscsi_address_parse(to, &l->p->moved_ip, &l->p->moved_port))
		return why_set(l->why, -EPROTO, "%s has moved to \"%.64s\", which is no address", l->t->name,
			       to ? to : "");
	return why_set(l->why, -ESTALE, "%s has moved to %s", l->t->name,
		       ip_port_text(l->p->moved_ip, l->p->moved_port).s);
}

/* LOGIN RESPONSE's status. */
static int refused(struct login *l, uint8_t kind, uint8_t detail)
{
	const char *name = l->t->name;
	switch (kind) {
	case CLASS_SUCCESS: return 0;
	case CLASS_REDIRECTION: return redirected(l);
	case CLASS_TARGET:
		return why_set(l->why, -EAGAIN, "the target cannot take a login now (status %u/%u)", kind, detail);
	default: break;
	}
	switch (detail) {
	case DETAIL_AUTHENTICATION:
		return why_set(l->why, -EACCES, "%s does not take %s", name,
			       l->t->user[0] ? "this user with this secret" : "a login without user and secret");
	case DETAIL_FORBIDDEN: return why_set(l->why, -EACCES, "%s does not let %s in", name, l->t->initiator);
	case DETAIL_NOT_FOUND:
	case DETAIL_REMOVED: return why_set(l->why, -ENOENT, "the portal has no target %s", name);
	default: return why_set(l->why, -EPROTO, "the login was refused (status %u/%u)", kind, detail);
	}
}

static int receive_text(struct login *l, const uint8_t *bhs)
{
	size_t len = iscsi_pdu_data_len(bhs);
	struct iscsi_data d = { 0 };
	if (len > l->answer.max - l->answer.len)
		return why_set(l->why, -EPROTO, "the target's answer to a login has no end");
	int err = iscsi_pdu_get(l->w, bhs, &d, l->answer.at + l->answer.len, len, l->deadline_ns);
	l->answer.len += err ? 0 : len;
	return err;
}

/* One PDU of an answer: its flags in *flags. */
static int receive_response(struct login *l, uint8_t *flags)
{
	uint8_t bhs[ISCSI_BHS];
	int err = iscsi_pdu_recv(l->w, bhs, DATA_MAX, l->deadline_ns);
	if (!err)
		err = receive_text(l, bhs);
	if (err)
		return why_set(l->why, err, "no answer to a login: %s", err_name(err));
	if ((bhs[BHS_OPCODE] & ISCSI_OPCODE) != ISCSI_LOGIN_RESPONSE)
		return why_set(l->why, -EPROTO, "the target answers a login by 0x%02x", bhs[BHS_OPCODE]);
	bool whole = !(bhs[BHS_FLAGS] & ISCSI_CONTINUE) || bhs[BHS_LOGIN_STATUS]; /* a refusal is the last word */
	if (whole && !iscsi_text_is_sane(&l->answer))
		return why_set(l->why, -EPROTO, "the target's answer to a login is no text");
	err = refused(l, bhs[BHS_LOGIN_STATUS], bhs[BHS_LOGIN_STATUS + 1]);
	if (err)
		return err;
	*flags = bhs[BHS_FLAGS];
	if (((unsigned)*flags >> ISCSI_CSG_BIT & 3) != (unsigned)l->stage)
		return why_set(l->why, -EPROTO, "the target is in another stage of the login");
	l->p->exp_statsn = get_be32(bhs + BHS_STATSN) + 1;
	l->p->max_cmdsn = get_be32(bhs + BHS_MAXCMDSN);
	l->p->tsih = get_be16(bhs + BHS_LUN + 6);
	return 0;
}

/* What is in l->out goes, and the answer is in l->answer. *flags: the answer's. */
static int exchange(struct login *l, bool transit, uint8_t *flags)
{
	l->answer.len = 0;
	do {
		if (++l->steps > STEPS_MAX)
			return why_set(l->why, -EPROTO, "the target does not come to the end of a login");
		int err = send_request(l, transit);
		if (!err)
			err = receive_response(l, flags);
		if (err)
			return why_set(l->why, err, "the login failed: %s", err_name(err));
		l->out.len = 0;
	} while (*flags & ISCSI_CONTINUE);
	return 0;
}

/* Say no more until the target has said all, and is in the next stage. */
static int end_stage(struct login *l, uint8_t flags)
{
	int err = 0;
	while (!(flags & ISCSI_TRANSIT) && !(err = exchange(l, true, &flags))) {}
	if (err)
		return err;
	l->stage = (enum stage)(flags & 3);
	return 0;
}

/* ---- stages ---- */

static int chap(struct login *l)
{
	uint8_t challenge[CHAP_CHALLENGE_MAX], response[CHAP_RESPONSE], flags;
	uint32_t id;
	iscsi_text_add(&l->out, "CHAP_A", "%s", CHAP_MD5);
	int err = exchange(l, false, &flags), n;
	if (err)
		return err;
	const char *a = iscsi_text_get(&l->answer, "CHAP_A"), *i = iscsi_text_get(&l->answer, "CHAP_I"),
		   *c = iscsi_text_get(&l->answer, "CHAP_C");
	if (!a || strcmp(a, CHAP_MD5) || !i || iscsi_text_number(i, 0xff, &id) || !c ||
	    (n = iscsi_text_bytes(c, challenge, sizeof(challenge))) <= 0)
		return why_set(l->why, -EPROTO, "the target's CHAP is none that is known here");
	err = chap_respond((uint8_t)id, l->t->secret, challenge, (size_t)n, response);
	if (err)
		return err;
	iscsi_text_add(&l->out, "CHAP_N", "%s", l->t->user);
	iscsi_text_add_bytes(&l->out, "CHAP_R", response, sizeof(response));
	err = exchange(l, true, &flags);
	return err ? err : end_stage(l, flags);
}

static int security(struct login *l)
{
	bool wants_chap = l->t->user[0];
	uint8_t flags;
	iscsi_text_add(&l->out, "InitiatorName", "%s", l->t->initiator);
	iscsi_text_add(&l->out, "SessionType", "Normal");
	iscsi_text_add(&l->out, "TargetName", "%s", l->t->name);
	iscsi_text_add(&l->out, "AuthMethod", wants_chap ? "CHAP" : "None");
	int err = exchange(l, !wants_chap, &flags);
	if (err)
		return err;
	const char *method = iscsi_text_get(&l->answer, "AuthMethod");
	if (!wants_chap)
		return end_stage(l, flags);
	if (!method || strcmp(method, "CHAP")) /* a secret that nobody asks for was meant to be asked for */
		return why_set(l->why, -EACCES, "%s does not ask for the secret", l->t->name);
	return chap(l);
}

static void offer(struct login *l)
{
	static const char *const digests[][2] = {
		[ISCSI_DIGEST_BOTH] = { "CRC32C,None", "CRC32C,None" },
		[ISCSI_DIGEST_HEADER] = { "CRC32C,None", "None" },
		[ISCSI_DIGEST_NONE] = { "None", "None" },
	};
	iscsi_text_add(&l->out, "HeaderDigest", "%s", digests[l->t->digests][0]);
	iscsi_text_add(&l->out, "DataDigest", "%s", digests[l->t->digests][1]);
	iscsi_text_add(&l->out, "MaxRecvDataSegmentLength", "%u", ISCSI_RECV_MAX);
	iscsi_text_add(&l->out, "InitialR2T", "No");
	iscsi_text_add(&l->out, "ImmediateData", "Yes");
	iscsi_text_add(&l->out, "MaxBurstLength", "%u", FOREVER);
	iscsi_text_add(&l->out, "FirstBurstLength", "%u", ISCSI_BURST_MAX);
	iscsi_text_add(&l->out, "MaxConnections", "1");
	iscsi_text_add(&l->out, "MaxOutstandingR2T", "1");
	iscsi_text_add(&l->out, "DataPDUInOrder", "Yes");
	iscsi_text_add(&l->out, "DataSequenceInOrder", "Yes");
	iscsi_text_add(&l->out, "ErrorRecoveryLevel", "0");
	iscsi_text_add(&l->out, "DefaultTime2Wait", "0");
	iscsi_text_add(&l->out, "DefaultTime2Retain", "0");
}

/* A number of the answer, within [min, max]; where the target has none, what RFC 7143 13 has. */
static uint32_t number(const struct login *l, const char *key, uint32_t min, uint32_t max, uint32_t none)
{
	uint32_t v;
	const char *s = iscsi_text_get(&l->answer, key);
	return s && !iscsi_text_number(s, FOREVER, &v) && v >= min ? MIN(v, max) : none;
}

static bool is(const struct login *l, const char *key, const char *value, bool none)
{
	const char *s = iscsi_text_get(&l->answer, key);
	return s ? !strcmp(s, value) : none;
}

/* Answers come in any of the stage's exchanges: what was heard in one stays. */
static void hear(struct login *l)
{
	struct iscsi_params *p = l->p;
	p->send_max = number(l, "MaxRecvDataSegmentLength", 512, FOREVER, p->send_max);
	p->max_burst = number(l, "MaxBurstLength", 512, FOREVER, p->max_burst);
	p->first_burst = number(l, "FirstBurstLength", 512, ISCSI_BURST_MAX, p->first_burst);
	p->initial_r2t = is(l, "InitialR2T", "Yes", p->initial_r2t);
	p->immediate = is(l, "ImmediateData", "Yes", p->immediate);
	l->w->header_digest = is(l, "HeaderDigest", "CRC32C", l->w->header_digest);
	l->w->data_digest = is(l, "DataDigest", "CRC32C", l->w->data_digest);
}

static int operational(struct login *l)
{
	uint8_t flags = 0;
	int err;
	bool header = false, data = false;
	offer(l);
	do {
		if ((err = exchange(l, true, &flags)))
			return err;
		hear(l);
		header = header || l->w->header_digest, data = data || l->w->data_digest;
		l->w->header_digest = l->w->data_digest = false; /* from full-feature phase on */
	} while (!(flags & ISCSI_TRANSIT));
	l->w->header_digest = header;
	l->w->data_digest = data;
	l->p->first_burst = MIN(l->p->first_burst, l->p->max_burst);
	l->stage = (enum stage)(flags & 3);
	return 0;
}

static int all_stages(struct login *l)
{
	int err = security(l);
	if (err || (l->stage == OPERATIONAL && (err = operational(l))))
		return err;
	return l->stage == FULL_FEATURE
		       ? 0
		       : why_set(l->why, -EPROTO, "the target ends the login in stage %d", (int)l->stage);
}

int iscsi_login(struct iscsi_wire *w, const struct iscsi_target *t, struct iscsi_params *p, uint64_t deadline_ns,
		struct why *why)
{
	struct login *l = calloc(1, sizeof(*l));
	if (!l)
		return err_trace(-ENOMEM);
	*p = (struct iscsi_params){ .send_max = DEFAULT_LEN,
				    .first_burst = 64U << 10,
				    .max_burst = 256U << 10,
				    .initial_r2t = true,
				    .immediate = true,
				    .cmdsn = 1 };
	l->w = w, l->t = t, l->p = p, l->deadline_ns = deadline_ns, l->why = why;
	l->out = (struct iscsi_text){ .at = l->out_buf, .max = sizeof(l->out_buf) };
	l->answer = (struct iscsi_text){ .at = l->in_buf, .max = sizeof(l->in_buf) };
	w->header_digest = w->data_digest = false;
	int err = all_stages(l);
	wipe(l->out_buf, sizeof(l->out_buf));
	free(l);
	return err;
}
