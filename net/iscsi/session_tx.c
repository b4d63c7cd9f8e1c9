/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A session's writer (session.h). What is sent is picked under the lock and sent without it:
 *
 *   submit -> queue -> command, with data that may go at once -> the target's slot
 *                                  R2T (session_rx.c) -> wanted -> DATA OUT, a PDU at a time
 *
 * While the writer has a task's data in its hands, the task does not end: if its answer comes meanwhile, the writer
 * tells it afterwards. All else ends in the reader. And it looks at the clock, for what is overdue.
 */
#include "net/iscsi/session_impl.h"
#include "kernel/time.h"
#include <string.h>

#define WRITE_NS (10 * NS_PER_SEC) /* for a PDU: a connection that takes nothing for so long is dead */

struct sending { /* what the writer has picked */
	uint8_t bhs[ISCSI_BHS];
	struct iscsi_task *t; /* NULL: no data */
	struct iov iov[ISCSI_PIECES];
	unsigned n;
	size_t len;
};

static void put_lun(uint8_t *p, uint16_t lun) /* SAM-5 4.7.4: flat space from 256 on */
{
	put_be16(p, lun < 256 ? lun : 0x4000 | lun);
}

/* ---- what is to be sent: the lock is held ---- */

static uint32_t new_tag(struct iscsi_session *s, unsigned slot)
{
	s->tags = (s->tags + 1) & 0x7fffff;
	return s->tags << 8 | slot;
}

/* An immediate request that is no task's. */
static void begin(struct iscsi_session *s, struct sending *o, enum iscsi_opcode op, uint8_t flags, uint32_t itt)
{
	memset(o->bhs, 0, sizeof(o->bhs));
	o->bhs[BHS_OPCODE] = (uint8_t)(ISCSI_IMMEDIATE | op);
	o->bhs[BHS_FLAGS] = ISCSI_FINAL | flags;
	put_be32(o->bhs + BHS_ITT, itt);
	put_be32(o->bhs + BHS_CMDSN, s->cmdsn);
	put_be32(o->bhs + BHS_EXPSTATSN, s->exp_statsn);
	o->t = NULL;
	o->n = 0;
	o->len = 0;
}

static void trim(struct sending *o, size_t bytes)
{
	while (bytes) {
		struct iov *last = &o->iov[o->n - 1];
		size_t n = MIN(bytes, last->len);
		last->len -= n;
		o->len -= n;
		bytes -= n;
		o->n -= !last->len;
	}
}

/* Up to max bytes of t's data, from off on. */
static void gather(struct sending *o, struct iscsi_task *t, size_t off, size_t max)
{
	const struct iov *v = t->seg;
	size_t at = t->skip + off, left = max;
	for (; left && at >= v->len; v++)
		at -= v->len;
	for (o->n = 0; left && o->n < ISCSI_PIECES; v++, at = 0) {
		size_t n = MIN(v->len - at, left);
		if (n)
			o->iov[o->n++] = (struct iov){ (uint8_t *)v->base + at, n };
		left -= n;
	}
	o->len = max - left;
	if (left) /* padding is for a sequence's last PDU alone */
		trim(o, o->len % 4);
	o->t = t;
	t->writing = true;
}

static void pick_nop(struct iscsi_session *s, struct sending *o)
{
	begin(s, o, ISCSI_NOP_OUT, 0, s->answer_nop ? ISCSI_NO_TAG : new_tag(s, ISCSI_OTHER_TAG));
	put_be32(o->bhs + BHS_TTT, s->answer_nop ? s->nop_ttt : ISCSI_NO_TAG);
	if (s->answer_nop)
		memcpy(o->bhs + BHS_LUN, s->nop_lun, sizeof(s->nop_lun));
	else
		s->ping_asked = false, s->ping_sent = true;
	s->answer_nop = false;
}

static void pick_tmf(struct iscsi_session *s, struct sending *o)
{
	struct tmf *m = &s->tmf;
	m->itt = new_tag(s, ISCSI_OTHER_TAG);
	m->sent = true;
	begin(s, o, ISCSI_TASK_MGMT, m->function, m->itt);
	put_lun(o->bhs + BHS_LUN, m->lun);
	put_be32(o->bhs + BHS_TMF_REF, m->function == TMF_ABORT_TASK ? m->ref : ISCSI_NO_TAG);
	put_be32(o->bhs + BHS_TMF_REFCMDSN, m->function == TMF_ABORT_TASK ? m->ref_cmdsn : 0);
	for (unsigned i = 0; i < ISCSI_TASKS_MAX; i++)
		if (s->task[i] && m->function == TMF_ABORT_TASK_SET && s->task[i]->lun == m->lun)
			s->task[i]->aborting = true;
}

static void pick_logout(struct iscsi_session *s, struct sending *o)
{
	begin(s, o, ISCSI_LOGOUT, 0, new_tag(s, ISCSI_OTHER_TAG)); /* reason 0: close the session */
	s->logout_sent = true;
	s->logout_ns = time_ns() + ISCSI_ABORT_NS;
}

/* A PDU of the data that is wanted of t. */
static void pick_data(struct iscsi_session *s, struct sending *o, struct iscsi_task *t)
{
	begin(s, o, ISCSI_DATA_OUT, 0, t->itt);
	o->bhs[BHS_OPCODE] = ISCSI_DATA_OUT;
	gather(o, t, t->want_off, MIN(t->want_len, s->p.send_max));
	put_be32(o->bhs + BHS_CMDSN, 0); /* it has none */
	put_lun(o->bhs + BHS_LUN, t->ttt == ISCSI_NO_TAG ? 0 : t->lun);
	put_be32(o->bhs + BHS_TTT, t->ttt);
	put_be32(o->bhs + BHS_DATASN, t->datasn++);
	put_be32(o->bhs + BHS_OFFSET, t->want_off);
	t->want_off += (uint32_t)o->len;
	t->want_len -= (uint32_t)o->len;
	s->stats.out_bytes += o->len;
	if (t->want_len) {
		o->bhs[BHS_FLAGS] = 0;
		return;
	}
	list_remove(&t->node);
	t->wanted = false;
}

static void pick_command(struct iscsi_session *s, struct sending *o, struct iscsi_task *t, unsigned slot)
{
	static const uint8_t dirs[] = { [ISCSI_NONE] = 0, [ISCSI_IN] = ISCSI_READ, [ISCSI_OUT] = ISCSI_WRITE };
	list_remove(&t->node);
	t->sent = true;
	t->itt = new_tag(s, slot);
	t->cmdsn = s->cmdsn;
	s->task[slot] = t;
	s->ntasks++;
	s->stats.commands++;
	begin(s, o, ISCSI_SCSI_COMMAND, (uint8_t)(dirs[t->dir] | ISCSI_ATTR_SIMPLE), t->itt);
	s->cmdsn++;
	o->bhs[BHS_OPCODE] = ISCSI_SCSI_COMMAND;
	put_lun(o->bhs + BHS_LUN, t->lun);
	put_be32(o->bhs + BHS_TTT, t->dir == ISCSI_NONE ? 0 : t->len);
	memcpy(o->bhs + BHS_CDB, t->cdb, SCSI_CDB);
	if (t->dir != ISCSI_OUT || !t->len)
		return;
	uint32_t burst = MIN(t->len, s->p.first_burst);
	if (s->p.immediate)
		gather(o, t, 0, MIN(burst, s->p.send_max));
	s->stats.out_bytes += o->len;
	t->want_off = (uint32_t)o->len;
	t->want_len = s->p.initial_r2t ? 0 : burst - (uint32_t)o->len;
	if (!t->want_len)
		return;
	o->bhs[BHS_FLAGS] &= (uint8_t)~ISCSI_FINAL; /* more follows without being asked for */
	t->ttt = ISCSI_NO_TAG;
	t->wanted = true;
	list_append(&s->wanted, &t->node);
}

static bool may_start(const struct iscsi_session *s, unsigned *slot)
{
	if (s->leaving || list_empty(&s->queue) || s->ntasks == ISCSI_TASKS_MAX ||
	    (int32_t)(s->max_cmdsn - s->cmdsn) < 0)
		return false;
	for (*slot = 0; s->task[*slot]; ++*slot) {}
	return true;
}

static bool pick(struct iscsi_session *s, struct sending *o)
{
	unsigned slot;
	if (s->answer_nop || s->ping_asked)
		pick_nop(s, o);
	else if (s->tmf.on && !s->tmf.sent)
		pick_tmf(s, o);
	else if (!list_empty(&s->wanted))
		pick_data(s, o, list_first(&s->wanted, struct iscsi_task, node));
	else if (may_start(s, &slot))
		pick_command(s, o, list_first(&s->queue, struct iscsi_task, node), slot);
	else if (s->leaving && !s->ntasks && !s->logout_sent)
		pick_logout(s, o);
	else
		return false;
	return true;
}

/* ---- time: the lock is held ---- */

static void abort_task(struct iscsi_session *s, struct iscsi_task *t, uint64_t now)
{
	iscsi_session_tmf_begin(s, TMF_ABORT_TASK, t->lun, now + ISCSI_ABORT_NS);
	s->tmf.task = t;
	s->tmf.ref = t->itt;
	s->tmf.ref_cmdsn = t->cmdsn;
	t->aborting = true;
}

/* What is overdue. Of the queue one at a time, in *over, which is to be told. When to look again. */
static uint64_t look_at_clock(struct iscsi_session *s, uint64_t now, struct iscsi_task **over, const char **dead)
{
	uint64_t next = s->heard_ns + (s->ping_sent ? 2 : 1) * ISCSI_PING_NS;
	if (now >= next && s->ping_sent)
		*dead = "the target has fallen silent";
	else if (now >= next)
		s->ping_asked = true;
	if (s->tmf.on && now >= s->tmf.end_ns)
		*dead = "the target does not confirm that it has aborted";
	if (s->logout_sent && now >= s->logout_ns)
		*dead = "the target does not answer a log-out";
	next = MIN(next, s->tmf.on ? s->tmf.end_ns : TIME_NEVER);
	next = MIN(next, s->logout_sent ? s->logout_ns : TIME_NEVER);
	for (unsigned i = 0; i < ISCSI_TASKS_MAX && s->ntasks; i++) {
		struct iscsi_task *t = s->task[i];
		if (!t || t->aborting)
			continue;
		if (now >= t->deadline_ns && !s->tmf.on)
			abort_task(s, t, now);
		next = MIN(next, MAX(t->deadline_ns, now + NS_PER_MS));
	}
	list_for_each(t, &s->queue, struct iscsi_task, node) {
		next = MIN(next, t->deadline_ns);
		if (now >= t->deadline_ns && !*over && iscsi_session_finish(s, t, -ETIMEDOUT))
			*over = t;
	}
	return next;
}

/* ---- the writer ---- */

/* One PDU, or a wait for a reason for one. False: the session has ended. */
static bool write_once(struct iscsi_session *s)
{
	struct sending o;
	struct iscsi_task *over = NULL;
	const char *dead = NULL;
	bool picked = false, tell = false;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	uint64_t now = time_ns();
	if (!s->err && (now >= s->look_ns || !(picked = pick(s, &o)))) {
		s->look_ns = look_at_clock(s, now, &over, &dead);
		if (!over && !dead && !(picked = pick(s, &o)))
			(void)waitq_wait(&s->news, &s->lock, &flags, s->look_ns);
	}
	bool dies = s->err;
	spin_unlock_irqrestore(&s->lock, flags);
	if (over)
		over->done(over);
	if (dead)
		iscsi_session_fail(s, -ETIMEDOUT, "%s", dead);
	if (picked) {
		int err = iscsi_pdu_send(&s->wire, o.bhs, o.iov, o.n, o.len, time_ns() + WRITE_NS);
		if (err)
			iscsi_session_fail(s, err, "the connection: %s", err_name(err));
		flags = spin_lock_irqsave(&s->lock);
		if (o.t) {
			o.t->writing = false;
			tell = o.t->ended;
		}
		spin_unlock_irqrestore(&s->lock, flags);
	}
	if (tell)
		o.t->done(o.t);
	return !dies;
}

void iscsi_session_write(void *arg)
{
	struct iscsi_session *s = arg;
	while (write_once(s)) {}
	completion_done(&s->writer_ended);
}
