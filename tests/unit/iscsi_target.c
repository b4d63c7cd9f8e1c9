/* SPDX-License-Identifier: BSD-2-Clause */
/* The full-feature phase of the target in memory (iscsi_target.h). Its login is iscsi_target_io.c. */
#include "tests/unit/iscsi_target.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include <stdlib.h>
#include <string.h>

static struct portal *portal; /* who answers */

struct portal_task *iscsi_target_find(struct portal *p, uint32_t itt)
{
	for (unsigned i = 0; i < PORTAL_TASKS; i++)
		if (p->task[i].used && p->task[i].itt == itt)
			return &p->task[i];
	return NULL;
}

static void forget(struct portal *p, struct portal_task *t)
{
	t->used = false;
	p->pending--;
}

/* ---- answers ---- */

static void begin(uint8_t *bhs, enum iscsi_opcode op, uint8_t flags, uint32_t itt)
{
	memset(bhs, 0, ISCSI_BHS);
	bhs[BHS_OPCODE] = (uint8_t)op;
	bhs[BHS_FLAGS] = flags;
	put_be32(bhs + BHS_ITT, itt);
	put_be32(bhs + BHS_TTT, ISCSI_NO_TAG);
}

void iscsi_target_answer(struct portal *p, struct portal_task *t, uint8_t status, uint32_t sense)
{
	uint8_t bhs[ISCSI_BHS], data[20] = { 0, 18, 0x70, 0, (uint8_t)(sense >> 16), [9] = 10 };
	begin(bhs, ISCSI_SCSI_RESPONSE, ISCSI_FINAL, t->itt);
	bhs[BHS_STATUS] = sense ? SCSI_CHECK_CONDITION : status;
	put_be16(data + 2 + 12, sense & 0xffff);
	if (sense && t->len) {
		bhs[BHS_FLAGS] |= ISCSI_UNDERFLOW;
		put_be32(bhs + BHS_RESIDUAL, t->len);
	}
	forget(p, t);
	iscsi_target_send(p, bhs, data, sense ? sizeof(data) : 0, true);
}

void iscsi_target_read(struct portal *p, struct portal_task *t)
{
	uint32_t in_burst = 0;
	struct portal_task now = *t;
	if (!p->separate_status)
		forget(p, t);
	for (uint32_t at = 0, n, sn = 0; at < now.len && !p->stop; at += n) {
		uint8_t bhs[ISCSI_BHS];
		n = MIN(MIN(p->peer_max, now.len - at), p->max_burst - in_burst);
		in_burst = in_burst + n == p->max_burst ? 0 : in_burst + n;
		bool last = at + n == now.len, status = last && !p->separate_status;
		begin(bhs, ISCSI_DATA_IN, (uint8_t)((last || !in_burst ? ISCSI_FINAL : 0) | status), now.itt);
		put_be32(bhs + BHS_DATASN, sn++);
		put_be32(bhs + BHS_OFFSET, at);
		iscsi_target_send(p, bhs, p->disk + now.off + at, n, status);
	}
	if (p->separate_status)
		iscsi_target_answer(p, t, SCSI_GOOD, 0);
}

void iscsi_target_nop(struct portal *p, uint32_t ttt)
{
	uint8_t bhs[ISCSI_BHS];
	begin(bhs, ISCSI_NOP_IN, ISCSI_FINAL, ISCSI_NO_TAG);
	put_be32(bhs + BHS_TTT, ttt);
	put_be64(bhs + BHS_LUN, ttt ^ 0x5555);
	iscsi_target_send(p, bhs, NULL, 0, false);
}

void iscsi_target_async(struct portal *p, uint8_t event)
{
	uint8_t bhs[ISCSI_BHS];
	begin(bhs, ISCSI_ASYNC, ISCSI_FINAL, ISCSI_NO_TAG);
	bhs[BHS_ASYNC_EVENT] = event;
	iscsi_target_send(p, bhs, NULL, 0, true);
}

static void ask(struct portal *p, struct portal_task *t)
{
	uint8_t bhs[ISCSI_BHS];
	uint32_t n = MIN(t->len - t->got, p->max_burst);
	t->end = t->got + n;
	t->ttt = ++p->ttts;
	t->datasn = 0;
	begin(bhs, ISCSI_R2T, ISCSI_FINAL, t->itt);
	put_be32(bhs + BHS_TTT, t->ttt);
	put_be32(bhs + BHS_OFFSET, t->got);
	put_be32(bhs + BHS_RESIDUAL, n);
	iscsi_target_send(p, bhs, NULL, 0, false);
}

/* ---- what comes ---- */

/* Data of a write have come, as far as was asked for. */
static void go_on(struct portal *p, struct portal_task *t)
{
	if (t->got == t->len)
		iscsi_target_answer(p, t, SCSI_GOOD, 0);
	else
		ask(p, t);
}

static void data_out(struct portal *p, const uint8_t *bhs)
{
	struct portal_task *t = iscsi_target_find(p, get_be32(bhs + BHS_ITT));
	uint32_t len = (uint32_t)iscsi_pdu_data_len(bhs), ttt = get_be32(bhs + BHS_TTT);
	if (!t || !t->write) {
		if (!p->lenient)
			iscsi_target_complain(p, "data for no write");
		p->stop |= !iscsi_target_recv_data(p, bhs, NULL, SIZE_MAX);
		return;
	}
	if (ttt != t->ttt || get_be32(bhs + BHS_OFFSET) != t->got || len > t->end - t->got || len > p->recv_max || !len)
		iscsi_target_complain(p, "data nobody asked for: %u at %u of %u to %u", len, get_be32(bhs + BHS_OFFSET),
				      t->got, t->end);
	if (get_be32(bhs + BHS_DATASN) != t->datasn++)
		iscsi_target_complain(p, "DataSN %u", get_be32(bhs + BHS_DATASN));
	if (!!(bhs[BHS_FLAGS] & ISCSI_FINAL) != (t->got + len == t->end))
		iscsi_target_complain(p, "the final bit does not stand at the end");
	if (len % 4 && !(bhs[BHS_FLAGS] & ISCSI_FINAL) && p->recv_max % 4 == 0)
		iscsi_target_complain(p, "padding in the middle");
	if (!iscsi_target_recv_data(p, bhs, p->disk + t->off + t->got, t->end - t->got))
		p->stop = true;
	t->got += len;
	if (!p->stop && t->got == t->end)
		go_on(p, t);
}

static void write_begins(struct portal *p, struct portal_task *t, const uint8_t *bhs)
{
	uint32_t len = (uint32_t)iscsi_pdu_data_len(bhs), first = MIN(t->len, p->first_burst);
	if (len && (!p->immediate || len > first || len > p->recv_max))
		iscsi_target_complain(p, "%u bytes of immediate data", len);
	if (!iscsi_target_recv_data(p, bhs, p->disk + t->off, t->len))
		p->stop = true;
	t->got = len;
	if (p->stop)
		return;
	if (bhs[BHS_FLAGS] & ISCSI_FINAL) {
		if (!p->initial_r2t && len < first)
			iscsi_target_complain(p, "less than may go unasked");
		go_on(p, t);
		return;
	}
	if (p->initial_r2t || len >= first)
		iscsi_target_complain(p, "more is to come, and must not");
	t->ttt = ISCSI_NO_TAG;
	t->end = first;
	t->datasn = 0;
}

static struct portal_task *enter(struct portal *p, const uint8_t *bhs)
{
	struct portal_task *t = p->task;
	uint32_t sn = get_be32(bhs + BHS_CMDSN);
	if (sn != p->exp_cmdsn)
		iscsi_target_complain(p, "CmdSN %u, not %u", sn, p->exp_cmdsn);
	if (p->pending >= p->window)
		iscsi_target_complain(p, "a command outside the window");
	if (iscsi_target_find(p, get_be32(bhs + BHS_ITT)))
		iscsi_target_complain(p, "a tag that is in use");
	while (t->used)
		t++;
	*t = (struct portal_task){ .used = true,
				   .write = bhs[BHS_FLAGS] & ISCSI_WRITE,
				   .itt = get_be32(bhs + BHS_ITT),
				   .len = get_be32(bhs + BHS_TTT),
				   .lun = get_be16(bhs + BHS_LUN),
				   .off = get_be64(bhs + BHS_CDB + 2) * PORTAL_BLOCK };
	p->exp_cmdsn = sn + 1;
	p->pending++;
	return t;
}

static void command(struct portal *p, struct portal_task *t, const uint8_t *bhs)
{
	uint8_t code = bhs[BHS_CDB];
	bool io = code == 0x88 || code == 0x8a;
	if (io && (t->off >= PORTAL_DISK || t->len > PORTAL_DISK - t->off)) {
		iscsi_target_answer(p, t, 0, SCSI_ILLEGAL_REQUEST << 16 | 0x2100);
		p->stop |= !iscsi_target_recv_data(p, bhs, NULL, SIZE_MAX);
	} else if (code == 0x8a && t->len) {
		write_begins(p, t, bhs);
	} else if (code == 0x88 && t->len) {
		iscsi_target_read(p, t);
	} else {
		iscsi_target_answer(p, t, SCSI_GOOD, io || !code ? 0 : SCSI_ILLEGAL_REQUEST << 16 | 0x2000);
	}
}

static void abort_tasks(struct portal *p, const uint8_t *bhs)
{
	uint8_t answer[ISCSI_BHS], function = bhs[BHS_FLAGS] & 0x7f;
	bool found = function == 2;
	for (unsigned i = 0; i < PORTAL_TASKS; i++) {
		struct portal_task *t = &p->task[i];
		if (!t->used || t->lun != get_be16(bhs + BHS_LUN) ||
		    (function == 1 && t->itt != get_be32(bhs + BHS_TMF_REF)))
			continue;
		forget(p, t);
		found = true;
	}
	PORTAL_COUNT(p->aborts);
	begin(answer, ISCSI_TASK_MGMT_RESPONSE, ISCSI_FINAL, get_be32(bhs + BHS_ITT));
	answer[BHS_RESPONSE] = !found;
	iscsi_target_send(p, answer, NULL, 0, true);
}

static void other(struct portal *p, const uint8_t *bhs)
{
	uint8_t answer[ISCSI_BHS];
	uint32_t itt = get_be32(bhs + BHS_ITT), ttt = get_be32(bhs + BHS_TTT);
	switch (bhs[BHS_OPCODE]) {
	case ISCSI_DATA_OUT: data_out(p, bhs); return;
	case ISCSI_IMMEDIATE | ISCSI_TASK_MGMT: abort_tasks(p, bhs); return;
	case ISCSI_IMMEDIATE | ISCSI_NOP_OUT:
		if (itt == ISCSI_NO_TAG) {
			if (get_be64(bhs + BHS_LUN) != (ttt ^ 0x5555))
				iscsi_target_complain(p, "an answer to no NOP");
			PORTAL_COUNT(p->pongs);
			return;
		}
		PORTAL_COUNT(p->pings);
		begin(answer, ISCSI_NOP_IN, ISCSI_FINAL, itt);
		iscsi_target_send(p, answer, NULL, 0, true);
		return;
	case ISCSI_IMMEDIATE | ISCSI_LOGOUT:
		PORTAL_COUNT(p->logouts);
		begin(answer, ISCSI_LOGOUT_RESPONSE, ISCSI_FINAL, itt);
		iscsi_target_send(p, answer, NULL, 0, true);
		p->stop = true;
		return;
	default: iscsi_target_complain(p, "0x%02x", bhs[BHS_OPCODE]);
	}
}

static void hear(struct portal *p, const uint8_t *bhs)
{
	bool is_command = bhs[BHS_OPCODE] == ISCSI_SCSI_COMMAND;
	struct portal_task *t = is_command ? enter(p, bhs) : NULL;
	if ((int32_t)(get_be32(bhs + BHS_EXPSTATSN) - p->statsn) > 0)
		iscsi_target_complain(p, "ExpStatSN is ahead");
	if (p->hears && p->hears(p, bhs))
		p->stop |= p->stop || !iscsi_target_recv_data(p, bhs, NULL, SIZE_MAX);
	else if (is_command)
		command(p, t, bhs);
	else
		other(p, bhs);
}

/* ---- its life ---- */

static void serve(void *arg)
{
	struct portal *p = arg;
	uint8_t bhs[ISCSI_BHS];
	p->full_feature = iscsi_target_login(p);
	p->send_digests[0] = p->header_digest && p->full_feature;
	p->send_digests[1] = p->data_digest && p->full_feature;
	while (p->full_feature && iscsi_target_recv(p, bhs))
		hear(p, bhs);
	stream_close(p->s);
	__atomic_store_n(&p->busy, false, __ATOMIC_SEQ_CST);
}

void iscsi_target_init(struct portal *p)
{
	*p = (struct portal){ .initial_r2t = true,
			      .immediate = true,
			      .recv_max = 8192,
			      .in_max = 8192,
			      .max_burst = 65536,
			      .first_burst = 16384,
			      .window = 32,
			      .pipe = 8192 };
	portal = p;
}

int stream_tcp_connect_storage(struct stream **s, struct ip ip, uint16_t port, uint64_t deadline_ns unused,
			       struct why *w unused)
{
	struct portal *p = portal;
	struct stream *end[2];
	int err = stream_pipe(end, p->pipe);
	for (unsigned i = 0; i < 10000 && __atomic_load_n(&p->busy, __ATOMIC_SEQ_CST); i++)
		fake_nap(); /* it has one connection at a time: the last one has been closed */
	if (err || p->busy)
		return -ENOMEM;
	p->busy = true;
	p->s = end[1];
	p->peer = end[0];
	p->stop = p->full_feature = p->send_digests[0] = p->send_digests[1] = false;
	p->statsn = 0xfffffff0; /* soon around */
	p->pending = 0;
	memset(p->task, 0, sizeof(p->task));
	p->last_ip = ip;
	p->last_port = port;
	PORTAL_COUNT(p->connects);
	*s = end[0];
	return task_create("target", TASK_PRIO_NORMAL, serve, p) ? 0 : -ENOMEM;
}

void stream_tcp_trust(struct stream *s unused, bool proved unused) {}
