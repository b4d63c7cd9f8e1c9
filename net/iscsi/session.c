/* SPDX-License-Identifier: BSD-2-Clause */
/* A session's life, and what others ask of it (session.h). Its writer is session_tx.c, its reader session_rx.c. */
#include "net/iscsi/session_impl.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOVES_MAX 3

void iscsi_session_fail(struct iscsi_session *s, int err, const char *fmt, ...)
{
	va_list ap;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	if (!s->err) {
		s->err = err;
		va_start(ap, fmt);
		vsnprintf(s->why.text, sizeof(s->why.text), fmt, ap);
		va_end(ap);
	}
	waitq_wake_all(&s->news);
	spin_unlock_irqrestore(&s->lock, flags);
	stream_abort(s->wire.s);
}

void iscsi_session_abort(struct iscsi_session *s) { iscsi_session_fail(s, -ECANCELED, "it was ended here"); }

bool iscsi_session_finish(struct iscsi_session *s, struct iscsi_task *t, int err)
{
	list_remove(&t->node);
	if (t->sent) {
		s->task[t->itt & ISCSI_OTHER_TAG] = NULL;
		s->ntasks--;
	}
	t->err = err;
	t->aborted = err && !s->err;
	t->ended = true;
	if (s->tmf.task == t)
		s->tmf.task = NULL;
	waitq_wake_all(&s->news);
	return !t->writing;
}

void iscsi_session_tmf_begin(struct iscsi_session *s, uint8_t function, uint16_t lun, uint64_t end_ns)
{
	s->tmf.on = true;
	s->tmf.sent = s->tmf.waited = false;
	s->tmf.function = function;
	s->tmf.lun = lun;
	s->tmf.task = NULL;
	s->tmf.end_ns = end_ns;
	waitq_wake_all(&s->news);
}

/* ---- for others ---- */

void iscsi_session_submit(struct iscsi_session *s, struct iscsi_task *t)
{
	t->sent = t->wanted = t->writing = t->ended = t->aborting = false;
	t->err = 0;
	t->aborted = false;
	t->status = SCSI_GOOD;
	t->got = t->next_in = t->datasn = 0;
	t->sense_len = 0;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	int err = s->err;
	if (!err) {
		list_append(&s->queue, &t->node);
		s->look_ns = MIN(s->look_ns, t->deadline_ns);
		waitq_wake_all(&s->news);
	}
	spin_unlock_irqrestore(&s->lock, flags);
	if (!err)
		return;
	t->err = err;
	t->done(t);
}

/* Those of the unit that were never sent: one after the other, until there is none. */
static struct iscsi_task *unsent(struct iscsi_session *s, uint16_t lun)
{
	struct iscsi_task *found = NULL;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	list_for_each(t, &s->queue, struct iscsi_task, node)
		if (!found && t->lun == lun && iscsi_session_finish(s, t, -ECANCELED))
			found = t;
	spin_unlock_irqrestore(&s->lock, flags);
	return found;
}

int iscsi_session_abort_all(struct iscsi_session *s, uint16_t lun, uint64_t deadline_ns)
{
	struct iscsi_task *t;
	while ((t = unsent(s, lun)))
		t->done(t);
	uint64_t flags = spin_lock_irqsave(&s->lock);
	int err = s->err ? s->err : s->tmf.on ? -EBUSY : 0;
	if (!err) {
		iscsi_session_tmf_begin(s, TMF_ABORT_TASK_SET, lun, MAX(deadline_ns, time_ns() + ISCSI_ABORT_NS));
		completion_reset(&s->tmf.over);
		s->tmf.waited = true;
	}
	spin_unlock_irqrestore(&s->lock, flags);
	if (err)
		return err;
	if (completion_wait(&s->tmf.over, deadline_ns))
		return -ETIMEDOUT; /* its answer may still come, and ends them then */
	flags = spin_lock_irqsave(&s->lock);
	err = s->tmf.result;
	spin_unlock_irqrestore(&s->lock, flags);
	return err;
}

void iscsi_session_tmf_over(struct iscsi_session *s, int result)
{
	s->tmf.on = false;
	s->tmf.task = NULL;
	s->tmf.result = result;
	waitq_wake_all(&s->news); /* deadlines that it has kept from counting */
	if (s->tmf.waited)
		completion_done(&s->tmf.over);
}

void iscsi_session_stats(struct iscsi_session *s, struct iscsi_stats *st)
{
	uint64_t flags = spin_lock_irqsave(&s->lock);
	*st = s->stats;
	st->err = s->err;
	st->why = s->why;
	spin_unlock_irqrestore(&s->lock, flags);
	st->header_digest = s->wire.header_digest;
	st->data_digest = s->wire.data_digest;
}

/* ---- its life ---- */

static int connect_to(struct iscsi_session *s, const struct iscsi_target *to, uint64_t deadline_ns, struct why *w)
{
	struct iscsi_target t = *to;
	for (unsigned moves = 0;; moves++) {
		struct why deeper = { "" };
		int err = stream_tcp_connect_storage(&s->wire.s, t.ip, t.port, deadline_ns, &deeper);
		if (err)
			return why_set(w, err, "%s", deeper.text[0] ? deeper.text : err_name(err));
		stream_tcp_trust(s->wire.s, false);
		err = iscsi_login(&s->wire, &t, &s->p, deadline_ns, &deeper);
		if (!err)
			return 0;
		stream_close(s->wire.s);
		s->wire.s = NULL;
		if (err != -ESTALE || moves == MOVES_MAX)
			return why_set(w, err, "%s", deeper.text[0] ? deeper.text : err_name(err));
		t.ip = s->p.moved_ip;
		t.port = s->p.moved_port;
	}
}

static void free_it(struct iscsi_session *s)
{
	stream_close(s->wire.s);
	free(s);
}

/* Both tasks, or none. */
static int start(struct iscsi_session *s)
{
	if (!task_create("iscsi-writer", TASK_PRIO_IO, iscsi_session_write, s))
		return err_trace(-ENOMEM);
	if (task_create("iscsi-reader", TASK_PRIO_IO, iscsi_session_read, s))
		return 0;
	iscsi_session_abort(s);
	(void)completion_wait(&s->writer_ended, TIME_NEVER);
	return err_trace(-ENOMEM);
}

int iscsi_session_open(struct iscsi_session **out, const struct iscsi_target *t, void (*on_end)(void *arg), void *arg,
		       uint64_t deadline_ns, struct why *w)
{
	struct iscsi_session *s = calloc(1, sizeof(*s));
	if (!s)
		return err_trace(-ENOMEM);
	spin_init(&s->lock, "iscsi session");
	waitq_init(&s->news);
	list_init(&s->queue);
	list_init(&s->wanted);
	completion_init(&s->writer_ended);
	completion_init(&s->reader_ended);
	completion_init(&s->out);
	completion_init(&s->tmf.over);
	s->on_end = on_end;
	s->arg = arg;
	int err = connect_to(s, t, deadline_ns, w);
	s->cmdsn = s->p.cmdsn;
	s->max_cmdsn = s->p.max_cmdsn;
	s->exp_statsn = s->p.exp_statsn;
	s->heard_ns = time_ns();
	if (!err)
		err = start(s);
	if (err) {
		free_it(s);
		return err;
	}
	*out = s;
	return 0;
}

int iscsi_session_close(struct iscsi_session *s, uint64_t deadline_ns)
{
	if (!s)
		return 0;
	uint64_t flags = spin_lock_irqsave(&s->lock);
	s->leaving = true;
	waitq_wake_all(&s->news);
	spin_unlock_irqrestore(&s->lock, flags);
	(void)completion_wait(&s->out, deadline_ns);
	iscsi_session_abort(s);
	(void)completion_wait(&s->reader_ended, TIME_NEVER); /* its stream is aborted */
	bool confirmed = s->logged_out;
	free_it(s);
	return confirmed ? 0 : -ETIMEDOUT;
}
