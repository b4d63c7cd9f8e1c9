/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an iSCSI target sends: in a login, and to a session's reader that has tasks of each kind with the target. The
 * input is a program that makes PDUs, most of them nearly right. Whatever comes, each task ends once, the end is told
 * once, and nothing is taken or wanted beyond a task's data.
 */
#include "crypto/crc32c.h"
#include "kernel/time.h"
#include "net/iscsi/session_impl.h"
#include "net/iscsi/text.h"
#include "tests/fuzz/input.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WANT(good)                                                                         \
	do {                                                                               \
		if (!(good)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #good); \
			abort();                                                           \
		}                                                                          \
	} while (0)

int stream_tcp_connect_storage(struct stream **s unused, struct ip ip unused, uint16_t port unused, uint64_t end unused,
			       struct why *w)
{
	return why_set(w, -EHOSTUNREACH, "no network");
}
void stream_tcp_trust(struct stream *s unused, bool proved unused) {}

/* ---- a target that the input makes ---- */

#define TASKS    6
#define DATA_MAX 2048
static struct target {
	struct stream s;
	struct input in;
	struct iscsi_wire *w;
	struct iscsi_session *session; /* NULL: a login */
	uint8_t out[ISCSI_BHS + 256 * 4 + DATA_MAX + 16];
	size_t len, at;
	bool aborted, slow; /* slow: its wishes are not met */
} target;
static struct iscsi_task tasks[TASKS];
static unsigned told[TASKS], ends;

static size_t put_crc(uint8_t *to, const uint8_t *p, size_t n)
{
	uint32_t crc = ~crc32c(CRC32C_START, p, n);
	memcpy(to, &crc, 4);
	return 4;
}

/* Text of a login, from words that it knows, or any. */
static size_t make_text(uint8_t *p)
{
	static const char *const words[] = {
		"AuthMethod=CHAP",
		"AuthMethod=None",
		"CHAP_A=5",
		"CHAP_I=",
		"CHAP_C=0x",
		"CHAP_C=0b",
		"TargetAddress=",
		"TargetAddress=10.0.0.1:3260,1",
		"TargetAddress=[2001:db8::1]:",
		"HeaderDigest=CRC32C",
		"DataDigest=CRC32C",
		"MaxRecvDataSegmentLength=",
		"MaxBurstLength=",
		"FirstBurstLength=",
		"InitialR2T=No",
		"ImmediateData=No",
	};
	size_t len = 0;
	for (unsigned n = (unsigned)take(&target.in, 1) % 12; n && len < DATA_MAX - 200; n--) {
		unsigned k = (unsigned)take(&target.in, 1);
		const char *word = words[k % ARRAY_SIZE(words)];
		if (k / 16 % 4 < 3) {
			memcpy(p + len, word, strlen(word));
			len += strlen(word);
		}
		for (unsigned more = k / 64 ? (unsigned)take(&target.in, 1) % 100 : 0; more; more--)
			p[len++] = (uint8_t)take(&target.in, 1);
		if (k != 0xff)
			p[len++] = 0;
	}
	return len;
}

static size_t make_login(uint8_t *bhs)
{
	static const uint8_t flags[] = { 0, 0x81, 0x87, 0x04, 0x40, 0x44, 0x83, 0x80 };
	uint8_t how = (uint8_t)take(&target.in, 1);
	bhs[BHS_OPCODE] = ISCSI_LOGIN_RESPONSE;
	bhs[BHS_FLAGS] = how & 0x80 ? (uint8_t)take(&target.in, 1) : flags[how & 7];
	if (how & 0x40)
		put_be16(bhs + BHS_LOGIN_STATUS, (unsigned)take(&target.in, 2));
	put_be32(bhs + BHS_MAXCMDSN, 10);
	return make_text(bhs + ISCSI_BHS);
}

static size_t make_pdu(uint8_t *bhs)
{
	static const uint8_t ops[] = { ISCSI_DATA_IN, ISCSI_SCSI_RESPONSE,      ISCSI_R2T,   ISCSI_DATA_IN,
				       ISCSI_NOP_IN,  ISCSI_TASK_MGMT_RESPONSE, ISCSI_ASYNC, ISCSI_LOGOUT_RESPONSE };
	struct input *in = &target.in;
	uint8_t how = (uint8_t)take(in, 1), who = (uint8_t)take(in, 1);
	const struct iscsi_task *t = &tasks[who % TASKS];
	bhs[BHS_OPCODE] = ops[how & 7];
	bhs[BHS_FLAGS] = (uint8_t)take(in, 1);
	put_be32(bhs + BHS_ITT, who & 0x80 ? ISCSI_NO_TAG : who & 0x40 ? target.session->tmf.itt : t->itt);
	put_be32(bhs + BHS_TTT, who & 0x80 ? (uint32_t)take(in, 1) : ISCSI_NO_TAG);
	put_be32(bhs + BHS_STATSN, target.session->exp_statsn);
	put_be32(bhs + BHS_MAXCMDSN, 10);
	put_be32(bhs + BHS_OFFSET, t->dir == ISCSI_IN ? t->next_in : (uint32_t)take(in, 2));
	put_be32(bhs + BHS_RESIDUAL, (uint32_t)take(in, 2));
	size_t len = take(in, 1) * (how & 0x08 ? 8 : 1);
	for (unsigned n = how & 0x10 ? (unsigned)take(in, 1) % 8 : 0; n; n--) {
		unsigned at = (unsigned)take(in, 1) % ISCSI_BHS;
		if (at < BHS_AHS_LEN || at > BHS_DATA_LEN + 2)
			bhs[at] = (uint8_t)take(in, 1);
	}
	for (size_t i = 0; i < len; i++)
		bhs[ISCSI_BHS + i] = i < 40 ? (uint8_t)take(in, 1) : (uint8_t)i;
	return len;
}

/* The next PDU. False: the input is at its end. */
static bool make(void)
{
	static uint8_t p[ISCSI_BHS + DATA_MAX];
	uint8_t *o = target.out;
	memset(p, 0, sizeof(p));
	target.at = target.len = 0;
	if (!target.in.n)
		return false;
	uint8_t how = (uint8_t)take(&target.in, 1);
	size_t len = target.session ? make_pdu(p) : make_login(p), ahs = how & 1 ? 4 * take(&target.in, 1) : 0;
	p[BHS_AHS_LEN] = (uint8_t)(ahs / 4);
	put_be24(p + BHS_DATA_LEN, how == 0xfe ? take(&target.in, 3) : len);
	memcpy(o, p, ISCSI_BHS);
	memset(o + ISCSI_BHS, 7, ahs);
	size_t n = ISCSI_BHS + ahs;
	if (target.w->header_digest)
		n += put_crc(o + n, o, n);
	memcpy(o + n, p + ISCSI_BHS, len);
	memset(o + n + len, 0, 4);
	if (target.w->data_digest && len)
		put_crc(o + n + len + (-len & 3), o + n, len + (-len & 3));
	n += len + (-len & 3) + (target.w->data_digest && len ? 4 : 0);
	if (how == 0xff)
		o[take(&target.in, 2) % n] ^= (uint8_t)take(&target.in, 1);
	target.len = n;
	return true;
}

/* What the writer would do with what is wanted. */
static void serve_wishes(struct iscsi_session *s)
{
	struct iscsi_task *t;
	while (s && !target.slow && (t = list_first(&s->wanted, struct iscsi_task, node))) {
		WANT(t->dir == ISCSI_OUT && t->want_len && t->want_len <= s->p.max_burst);
		WANT(t->want_off <= t->len && t->want_len <= t->len - t->want_off);
		list_remove(&t->node);
		t->wanted = false;
	}
}

static int target_read(struct stream *s unused, void *buf, size_t max, uint64_t end unused)
{
	if (target.aborted)
		return -ECANCELED;
	if (target.at == target.len)
		serve_wishes(target.session);
	if (target.at == target.len && !make())
		return 0;
	size_t n = MIN(max, target.len - target.at);
	memcpy(buf, target.out + target.at, n);
	target.at += n;
	return (int)n;
}
static int target_writev(struct stream *s unused, const struct iov *iov, unsigned n, uint64_t end unused)
{
	for (unsigned i = 0; i < n; i++)
		(void)crc32c(0, iov[i].base, iov[i].len); /* it is there */
	return target.aborted ? -ECANCELED : 0;
}
static int target_shutdown(struct stream *s unused) { return 0; }
static void target_abort(struct stream *s unused) { target.aborted = true; }
static const struct stream_ops ops = {
	.read = target_read, .writev = target_writev, .shutdown = target_shutdown, .abort = target_abort
};

/* ---- login ---- */

static void login(uint8_t how)
{
	struct iscsi_wire w = { .s = &target.s };
	struct iscsi_params p;
	struct iscsi_target t = { .name = "iqn.t", .initiator = "iqn.i", .digests = how >> 2 & 1 };
	struct why why = { "" };
	if (how & 2)
		strcpy(t.user, "u"), strcpy(t.secret, "s");
	target.w = &w;
	int err = iscsi_login(&w, &t, &p, TIME_NEVER, &why);
	WANT(err <= 0 && (!err || why.text[0]));
	WANT(err != -ESTALE || (!ip_is_none(p.moved_ip) && p.moved_port));
	WANT(err || (p.send_max >= 512 && p.first_burst <= p.max_burst && p.max_burst >= 512));
}

/* ---- a session ---- */

static void done(struct iscsi_task *t)
{
	WANT(t->got <= t->len && t->sense_len <= SCSI_SENSE && t->err <= 0);
	told[t - tasks]++;
}
static void ended(void *arg unused) { ends++; }

static void give(struct iscsi_session *s, unsigned i, struct iov *seg)
{
	static const uint16_t len[TASKS] = { 1000, 3000, 2000, 1, 0, 512 };
	struct iscsi_task *t = &tasks[i];
	*t = (struct iscsi_task){ .dir = (enum iscsi_dir)(i == 4  ? ISCSI_NONE
							  : i % 2 ? ISCSI_OUT
								  : ISCSI_IN),
				  .seg = seg,
				  .len = len[i],
				  .skip = i,
				  .done = done,
				  .itt = (i + 1) << 8 | i * 9,
				  .sent = i != 5,
				  .lun = i == 3,
				  .deadline_ns = TIME_NEVER };
	for (unsigned k = 0; k < 3; k++) { /* an odd piece, none, and the rest */
		size_t n = k == 0 ? t->skip + t->len / 3 : k == 1 ? 0 : t->len - t->len / 3;
		seg[k] = (struct iov){ malloc(n + !n), n };
		memset(seg[k].base, 0, n);
	}
	list_init(&t->node);
	if (t->sent)
		s->task[t->itt & ISCSI_OTHER_TAG] = t, s->ntasks++;
	else
		list_append(&s->queue, &t->node);
}

static void session(uint8_t how)
{
	struct iov *seg[TASKS];
	struct iscsi_session *s = calloc(1, sizeof(*s));
	spin_init(&s->lock, "iscsi session");
	waitq_init(&s->news);
	list_init(&s->queue);
	list_init(&s->wanted);
	struct completion *all[] = { &s->writer_ended, &s->reader_ended, &s->out, &s->tmf.over };
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		completion_init(all[i]);
	completion_done(&s->writer_ended);
	s->on_end = ended;
	s->wire = (struct iscsi_wire){ &target.s, how & 2, how & 4 };
	s->p.max_burst = 2048;
	s->exp_statsn = 0xfffffffe;
	target.w = &s->wire;
	target.session = s;
	memset(told, 0, sizeof(told));
	ends = 0;
	for (unsigned i = 0; i < TASKS; i++)
		give(s, i, seg[i] = calloc(3, sizeof(*seg[i])));
	if (how & 0x08) {
		iscsi_session_tmf_begin(s, how & 0x10 ? TMF_ABORT_TASK : TMF_ABORT_TASK_SET, 0, TIME_NEVER);
		s->tmf.sent = true;
		s->tmf.itt = 99U << 8 | ISCSI_OTHER_TAG;
		s->tmf.task = how & 0x10 ? &tasks[0] : NULL;
		for (unsigned i = 0; i < (how & 0x10 ? 1 : 3); i++)
			tasks[i].aborting = true;
	}
	s->logout_sent = how & 0x20;
	target.slow = how & 0x40;
	iscsi_session_read(s);
	WANT(s->err < 0 && s->why.text[0] && ends == 1 && !s->ntasks && !s->tmf.on && list_empty(&s->queue));
	for (unsigned i = 0; i < TASKS; i++) {
		WANT(told[i] == 1);
		for (unsigned k = 0; k < 3; k++) {
			for (size_t b = 0; b < seg[i][k].len;
			     b++) /* a write's data are not touched, nor what is skipped */
				WANT(!((const uint8_t *)seg[i][k].base)[b] ||
				     (i % 2 == 0 && (k || b >= tasks[i].skip)));
			free(seg[i][k].base);
		}
		free(seg[i]);
	}
	free(s);
}

/* Its first byte: a login or a session, and what is special about it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > 4096)
		return 0;
	target = (struct target){ .s.ops = &ops, .in = { data + 1, size - 1 } };
	if (data[0] & 1)
		session(data[0]);
	else
		login(data[0]);
	return 0;
}
