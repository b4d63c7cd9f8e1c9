/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A session's reader (session.h): what the target says, which is held against what it was asked. All that was sent ends
 * here, at the latest when the connection does.
 */
#include "net/iscsi/session_impl.h"
#include "kernel/time.h"
#include <string.h>

#define DATA_MAX  ISCSI_RECV_MAX
#define SENSE_MAX (2 + 252) /* of a SCSI RESPONSE: its length, and sense data (SPC-4 4.5.1) */

/* 11.9.1 */
enum { ASYNC_SCSI = 0, ASYNC_LOGOUT = 1, ASYNC_DROP = 2, ASYNC_DROP_ALL = 3, ASYNC_NEGOTIATE = 4 };

struct received {
	uint8_t bhs[ISCSI_BHS];
	size_t len; /* of its data, nothing of which has been taken */
	struct iscsi_data data;
};

static int wrong(struct iscsi_session *s, const struct received *r, const char *what)
{
	iscsi_session_fail(s, -EPROTO, "the target sent %s (PDU 0x%02x)", what, r->bhs[BHS_OPCODE] & ISCSI_OPCODE);
	return -EPROTO;
}

/* Take len bytes more of the PDU's data. */
static int take(struct iscsi_session *s, struct received *r, void *to, size_t len)
{
	return iscsi_pdu_get(&s->wire, r->bhs, &r->data, to, len, TIME_NEVER); /* the writer's pings bound it */
}

/* Take what is left of it, for nobody. */
static int skip(struct iscsi_session *s, struct received *r)
{
	uint8_t rest[256];
	int err = 0;
	while (!err && r->data.taken < r->len)
		err = take(s, r, rest, MIN(sizeof(rest), r->len - r->data.taken));
	return err;
}

struct iscsi_task *iscsi_session_find(struct iscsi_session *s, uint32_t itt)
{
	unsigned slot = itt & ISCSI_OTHER_TAG;
	struct iscsi_task *t = slot < ISCSI_TASKS_MAX ? s->task[slot] : NULL;
	return t && t->itt == itt ? t : NULL;
}

static struct iscsi_task *task_of(struct iscsi_session *s, const struct received *r)
{
	uint64_t flags = spin_lock_irqsave(&s->lock);
	struct iscsi_task *t = iscsi_session_find(s, get_be32(r->bhs + BHS_ITT));
	spin_unlock_irqrestore(&s->lock, flags);
	return t; /* it ends in this task alone */
}

static void end(struct iscsi_session *s, struct iscsi_task *t, int err)
{
	uint64_t flags = spin_lock_irqsave(&s->lock);
	bool tell = iscsi_session_finish(s, t, err);
	spin_unlock_irqrestore(&s->lock, flags);
	if (tell)
		t->done(t);
}

/* ---- numbers: RFC 7143 4.2.2 ---- */

/*
 * The sequence numbers that each PDU brings. numbered: it has a StatSN of its own, which is the one that follows, as
 * nothing is lost on a connection that stands.
 */
static int note(struct iscsi_session *s, const struct received *r, bool numbered)
{
	uint32_t max = get_be32(r->bhs + BHS_MAXCMDSN), stat = get_be32(r->bhs + BHS_STATSN);
	bool skipped = false;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	if ((int32_t)(max - s->max_cmdsn) > 0) {
		s->max_cmdsn = max;
		waitq_wake_all(&s->news);
	}
	if (numbered) {
		skipped = stat != s->exp_statsn;
		s->exp_statsn = stat + 1;
	}
	spin_unlock_irqrestore(&s->lock, flags);
	return skipped ? wrong(s, r, "an answer that is not the next one") : 0;
}

/* ---- what comes ---- */

/* Into t's pieces, from offset `off` on. */
static int take_data(struct iscsi_session *s, struct received *r, struct iscsi_task *t, size_t off)
{
	const struct iov *v = t->seg;
	size_t at = t->skip + off;
	for (; r->len && at >= v->len; v++)
		at -= v->len;
	for (size_t left = r->len, n; left; left -= n, v++, at = 0) {
		n = MIN(v->len - at, left);
		int err = take(s, r, (uint8_t *)v->base + at, n);
		if (err)
			return err;
	}
	return 0;
}

static void residual(struct iscsi_task *t, const uint8_t *bhs)
{
	uint32_t left = bhs[BHS_FLAGS] & ISCSI_UNDERFLOW ? get_be32(bhs + BHS_RESIDUAL) : 0;
	t->got = t->len - MIN(left, t->len);
}

static int data_in(struct iscsi_session *s, struct received *r)
{
	struct iscsi_task *t = task_of(s, r);
	uint32_t off = get_be32(r->bhs + BHS_OFFSET);
	bool last = r->bhs[BHS_FLAGS] & ISCSI_DATA_STATUS;
	if (!t || t->dir != ISCSI_IN)
		return wrong(s, r, "data that nobody has asked for");
	if (off != t->next_in || r->len > t->len - off)
		return wrong(s, r, "data that lies elsewhere than it was asked for");
	int err = take_data(s, r, t, off);
	if (err || (err = note(s, r, last)))
		return err;
	t->next_in += (uint32_t)r->len;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	s->stats.in_bytes += r->len;
	spin_unlock_irqrestore(&s->lock, flags);
	if (!last)
		return 0;
	t->status = r->bhs[BHS_STATUS];
	residual(t, r->bhs);
	t->got = MIN(t->got, t->next_in);
	end(s, t, 0);
	return 0;
}

static int response(struct iscsi_session *s, struct received *r)
{
	struct iscsi_task *t = task_of(s, r);
	uint8_t len[2];
	if (!t)
		return wrong(s, r, "an answer to nothing that was asked");
	if (r->bhs[BHS_RESPONSE])
		return wrong(s, r, "that it failed to do a command");
	if (r->len > SENSE_MAX)
		return wrong(s, r, "too much sense data");
	if (r->len >= sizeof(len)) {
		int err = take(s, r, len, sizeof(len));
		if (err)
			return err;
		size_t n = MIN(MIN((size_t)get_be16(len), r->len - sizeof(len)), (size_t)SCSI_SENSE);
		if ((err = take(s, r, t->sense, n)))
			return err;
		t->sense_len = (uint8_t)n;
	}
	int err = skip(s, r);
	if (err || (err = note(s, r, true)))
		return err;
	t->status = r->bhs[BHS_STATUS];
	residual(t, r->bhs);
	if (t->dir == ISCSI_IN)
		t->got = MIN(t->got, t->next_in);
	end(s, t, 0);
	return 0;
}

static int r2t(struct iscsi_session *s, struct received *r)
{
	struct iscsi_task *t = task_of(s, r);
	uint32_t off = get_be32(r->bhs + BHS_OFFSET), len = get_be32(r->bhs + BHS_RESIDUAL);
	if (!t || t->dir != ISCSI_OUT)
		return wrong(s, r, "a wish for data of no write");
	if (!len || off > t->len || len > t->len - off || len > s->p.max_burst)
		return wrong(s, r, "a wish for data that a write has not got");
	int err = note(s, r, false);
	if (err)
		return err;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	bool two = t->wanted;
	if (!two) {
		t->ttt = get_be32(r->bhs + BHS_TTT);
		t->want_off = off;
		t->want_len = len;
		t->datasn = 0;
		t->wanted = true;
		list_append(&s->wanted, &t->node);
		waitq_wake_all(&s->news);
	}
	spin_unlock_irqrestore(&s->lock, flags);
	return two ? wrong(s, r, "a wish for data before the one before it was met") : 0;
}

/* The target has ended what an ABORT TASK or an ABORT TASK SET was for. */
static int aborted(struct iscsi_session *s, struct received *r)
{
	struct iscsi_task *over[ISCSI_TASKS_MAX];
	unsigned n = 0;
	uint8_t result = r->bhs[BHS_RESPONSE];
	int err = note(s, r, true);
	if (err)
		return err;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	bool ours = s->tmf.on && s->tmf.sent && s->tmf.itt == get_be32(r->bhs + BHS_ITT);
	bool one = s->tmf.function == TMF_ABORT_TASK;
	/* "No such task" comes behind the task's answer, if there was one: then it had none, and does nothing. */
	bool confirmed = result == TMF_COMPLETE || (one && result == TMF_NO_SUCH_TASK);
	for (unsigned i = 0; ours && confirmed && i < ISCSI_TASKS_MAX; i++) {
		struct iscsi_task *t = s->task[i];
		if (t && t->aborting && (one ? t == s->tmf.task : t->lun == s->tmf.lun) &&
		    iscsi_session_finish(s, t, one ? -ETIMEDOUT : -ECANCELED))
			over[n++] = t;
	}
	for (unsigned i = 0; ours && !confirmed && i < ISCSI_TASKS_MAX; i++)
		if (s->task[i])
			s->task[i]->aborting = false; /* it goes on, and its deadline counts again */
	bool overdue = one && s->tmf.task;
	if (ours)
		iscsi_session_tmf_over(s, confirmed ? 0 : -EIO);
	spin_unlock_irqrestore(&s->lock, flags);
	while (n--)
		over[n]->done(over[n]);
	if (!ours)
		return wrong(s, r, "an answer to no abort");
	if (confirmed || !overdue)
		return 0;
	iscsi_session_fail(s, -ETIMEDOUT, "the target does not answer a command, and refuses to abort it (%u)", result);
	return -ETIMEDOUT;
}

static int nop_in(struct iscsi_session *s, struct received *r)
{
	bool asks = get_be32(r->bhs + BHS_TTT) != ISCSI_NO_TAG;
	int err = note(s, r, get_be32(r->bhs + BHS_ITT) != ISCSI_NO_TAG);
	if (err)
		return err;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	if (asks) { /* one that comes before the last was answered takes its place: there are no numbers to miss */
		s->answer_nop = true;
		s->nop_ttt = get_be32(r->bhs + BHS_TTT);
		memcpy(s->nop_lun, r->bhs + BHS_LUN, sizeof(s->nop_lun));
		waitq_wake_all(&s->news);
	}
	spin_unlock_irqrestore(&s->lock, flags);
	return 0;
}

static int async(struct iscsi_session *s, struct received *r)
{
	uint8_t event = r->bhs[BHS_ASYNC_EVENT];
	int err = note(s, r, true);
	if (err || event == ASYNC_SCSI) /* a unit attention tells the same */
		return err;
	if (event == ASYNC_LOGOUT || event == ASYNC_NEGOTIATE) {
		uint64_t flags = spin_lock_irqsave(&s->lock);
		s->leaving = true; /* what is under way may end */
		waitq_wake_all(&s->news);
		spin_unlock_irqrestore(&s->lock, flags);
		return 0;
	}
	iscsi_session_fail(s, -EAGAIN, "the target ends the session");
	return -EAGAIN;
}

static int logged_out(struct iscsi_session *s, struct received *r)
{
	int err = note(s, r, true);
	if (err)
		return err;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	bool asked = s->logout_sent;
	s->logged_out = asked && !r->bhs[BHS_RESPONSE];
	spin_unlock_irqrestore(&s->lock, flags);
	iscsi_session_fail(s, -EAGAIN, asked ? "logged out" : "the target logs us out");
	return -EAGAIN;
}

/* ---- the reader ---- */

static int take_pdu(struct iscsi_session *s, struct received *r)
{
	switch (r->bhs[BHS_OPCODE] & ISCSI_OPCODE) {
	case ISCSI_DATA_IN: return data_in(s, r);
	case ISCSI_SCSI_RESPONSE: return response(s, r);
	default: break;
	}
	int err = skip(s, r); /* what these have to say is in their headers */
	if (err)
		return err;
	switch (r->bhs[BHS_OPCODE] & ISCSI_OPCODE) {
	case ISCSI_R2T: return r2t(s, r);
	case ISCSI_NOP_IN: return nop_in(s, r);
	case ISCSI_TASK_MGMT_RESPONSE: return aborted(s, r);
	case ISCSI_ASYNC: return async(s, r);
	case ISCSI_LOGOUT_RESPONSE: return logged_out(s, r);
	case ISCSI_REJECT: return wrong(s, r, "that it does not understand us");
	default: return wrong(s, r, "what no target sends");
	}
}

static int read_one(struct iscsi_session *s)
{
	struct received r = { .len = 0 };
	int err = iscsi_pdu_recv(&s->wire, r.bhs, DATA_MAX, TIME_NEVER);
	if (!err) {
		r.len = iscsi_pdu_data_len(r.bhs);
		uint64_t flags = spin_lock_irqsave(&s->lock);
		s->heard_ns = time_ns();
		s->ping_sent = false;
		spin_unlock_irqrestore(&s->lock, flags);
		err = take_pdu(s, &r);
	}
	return err;
}

/* One task that has not ended, taken out; NULL: none. */
static struct iscsi_task *orphan(struct iscsi_session *s)
{
	uint64_t flags = spin_lock_irqsave(&s->lock);
	struct iscsi_task *t = list_first(&s->queue, struct iscsi_task, node);
	for (unsigned i = 0; !t && i < ISCSI_TASKS_MAX; i++)
		t = s->task[i];
	/* Of what was sent nobody knows: it must not end as what was aborted does. */
	bool unknown = t && t->sent && (s->err == -ETIMEDOUT || s->err == -ECANCELED);
	if (t)
		(void)iscsi_session_finish(s, t, unknown ? -EIO : s->err); /* the writer has ended */
	spin_unlock_irqrestore(&s->lock, flags);
	return t;
}

void iscsi_session_read(void *session)
{
	struct iscsi_session *s = session;
	struct iscsi_task *t;
	int err;
	while (!(err = read_one(s))) {}
	iscsi_session_fail(s, err, "the connection to the target: %s",
			   err == -EBADMSG ? "a digest is wrong" : err_name(err));
	(void)completion_wait(&s->writer_ended, TIME_NEVER); /* its stream is aborted */
	while ((t = orphan(s)))
		t->done(t);
	uint64_t flags = spin_lock_irqsave(&s->lock);
	if (s->tmf.on)
		iscsi_session_tmf_over(s, s->err);
	spin_unlock_irqrestore(&s->lock, flags);
	completion_done(&s->out);
	if (s->on_end)
		s->on_end(s->arg);
	completion_done(&s->reader_ended);
}
