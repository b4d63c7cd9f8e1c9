/* SPDX-License-Identifier: BSD-2-Clause */
/* The sessions of fake_session.h: net/iscsi/session.h with a task each, which is the target's and the session's. */
#include "tests/unit/fake_session.h"
#include "kernel/base/err.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct iscsi_session { /* by the target's lock */
	unsigned nexus;
	struct waitq news;
	struct list queue, silent; /* tasks; those that get no answer */
	int err;
	bool leaving, dead; /* dead: what is left is not done any more */
	bool asked_abort, answered_abort;
	int abort_result;
	uint64_t next_ns; /* not before that is another command done */
	void (*on_end)(void *arg);
	void *arg;
	struct iscsi_stats stats;
	struct completion ended;
};
static struct fake_target *const T = &fake_target;

/* ---- the end ---- */

void fake_session_end(struct iscsi_session *s, int err, bool ghosts)
{
	if (s->err)
		return;
	s->err = err;
	s->dead = true;
	list_for_each(c, &s->queue, struct iscsi_task, node)
		if (ghosts)
			fake_ghost_make(T, s->nexus, c);
	list_for_each(c, &s->silent, struct iscsi_task, node)
		if (ghosts)
			fake_ghost_make(T, s->nexus, c);
	if (T->nexus[s->nexus].session == s)
		T->nexus[s->nexus].session = NULL;
	snprintf(s->stats.why.text, sizeof(s->stats.why.text), "error %d", err);
	waitq_wake_all(&s->news);
}

/* Ends one of a list, as long as there is one. The lock is held, and dropped meanwhile. */
static void end_list(struct list *l, int err, bool aborted, uint64_t *flags)
{
	struct iscsi_task *c;
	while ((c = list_first(l, struct iscsi_task, node))) {
		list_remove(&c->node);
		c->err = err;
		c->aborted = aborted;
		spin_unlock_irqrestore(&T->lock, *flags);
		task_yield();
		c->done(c);
		*flags = spin_lock_irqsave(&T->lock);
	}
}

/* ---- what it does ---- */

static void answer_abort(struct iscsi_session *s, uint64_t *flags)
{
	s->asked_abort = false;
	if (T->aborts == FAKE_IGNORES)
		return;
	if (T->aborts == FAKE_ABORTS) {
		end_list(&s->queue, -ECANCELED, true, flags);
		end_list(&s->silent, -ECANCELED, true, flags);
	}
	s->abort_result = s->err ? s->err : T->aborts == FAKE_ABORTS ? 0 : -EIO;
	s->answered_abort = true;
	waitq_wake_all(&s->news);
}

/* Those that got no answer in time: aborted, or the session ends with them. When the next one is due. */
static uint64_t overdue(struct iscsi_session *s, uint64_t *flags)
{
	uint64_t next = TIME_NEVER, now = time_ns();
	struct list over;
	list_init(&over);
	list_for_each(c, &s->silent, struct iscsi_task, node) {
		if (c->deadline_ns > now) {
			next = MIN(next, c->deadline_ns);
			continue;
		}
		if (T->aborts != FAKE_ABORTS) {
			fake_session_end(s, -ETIMEDOUT, true);
			return now;
		}
		list_remove(&c->node);
		list_append(&over, &c->node);
	}
	end_list(&over, -ETIMEDOUT, true, flags);
	return next;
}

static struct iscsi_task *choose(const struct iscsi_session *s)
{
	struct iscsi_task *first = list_first(&s->queue, struct iscsi_task, node);
	uint64_t skip = T->at_once && T->draw ? T->draw() % T->at_once : 0;
	list_for_each(c, &s->queue, struct iscsi_task, node)
		if (skip-- == 0)
			return c;
	return first;
}

/* One command. The lock is held, and dropped for its answer. */
static void do_one(struct iscsi_session *s, struct iscsi_task *c, uint64_t *flags)
{
	struct fake_command what = fake_command_of(T, s->nexus, c);
	struct fake_fault f = T->script ? T->script(T, &what) : (struct fake_fault){ FAKE_DONE };
	if (s->dead) /* by the script: it is in the queue still */
		return;
	if (f.what == FAKE_END_BEFORE) {
		list_remove(&c->node);
		fake_session_end(s, -ECONNRESET, true); /* what comes behind it may have been on its way */
		list_append(&s->queue, &c->node);
		return;
	}
	if (f.what == FAKE_SILENT) {
		list_remove(&c->node);
		list_append(&s->silent, &c->node);
		return;
	}
	if (f.what == FAKE_GHOST) {
		fake_session_end(s, -ECONNRESET, true);
		return;
	}
	if (f.what == FAKE_ANSWER)
		fake_command_answer(c, &f);
	else
		fake_command_do(T, s->nexus, c, f.what == FAKE_SHORT ? FAKE_BLOCK : 0);
	if (f.what == FAKE_END_AFTER) {
		list_remove(&c->node);
		fake_session_end(s, -ECONNRESET, true);
		list_append(&s->queue, &c->node);
		return;
	}
	list_remove(&c->node);
	s->stats.commands++;
	s->next_ns = time_ns() + T->delay_ns;
	spin_unlock_irqrestore(&T->lock, *flags);
	task_yield();
	c->done(c);
	*flags = spin_lock_irqsave(&T->lock);
}

static void session_task(void *arg)
{
	struct iscsi_session *s = arg;
	uint64_t flags = spin_lock_irqsave(&T->lock);
	while (!s->err) {
		if (s->asked_abort)
			answer_abort(s, &flags);
		uint64_t next = overdue(s, &flags), now = time_ns();
		if (s->err)
			break;
		if (list_empty(&s->queue) && s->leaving) {
			fake_session_end(s, -EAGAIN, false);
			break;
		}
		if (!list_empty(&s->queue) && now >= s->next_ns) {
			do_one(s, choose(s), &flags);
			continue;
		}
		if (!s->asked_abort)
			(void)waitq_wait(&s->news, &T->lock, &flags,
					 list_empty(&s->queue) ? next : MIN(next, s->next_ns));
	}
	end_list(&s->queue, s->err, false, &flags);
	end_list(&s->silent, s->err, false, &flags);
	waitq_wake_all(&s->news);
	spin_unlock_irqrestore(&T->lock, flags);
	task_yield();
	s->on_end(s->arg);
	completion_done(&s->ended);
}

/* ---- net/iscsi/session.h ---- */

int iscsi_session_open(struct iscsi_session **out, const struct iscsi_target *t, void (*on_end)(void *arg), void *arg,
		       uint64_t deadline_ns, struct why *w)
{
	uint64_t until = T->away_until, takes = T->login_ns;
	if (takes)
		task_sleep_until(MIN(time_ns() + takes, deadline_ns));
	if (time_ns() < until || time_ns() >= deadline_ns)
		return why_set(w, time_ns() < until ? -ECONNREFUSED : -ETIMEDOUT, "no target");
	struct iscsi_session *s = calloc(1, sizeof(*s));
	s->on_end = on_end;
	s->arg = arg;
	waitq_init(&s->news);
	list_init(&s->queue);
	list_init(&s->silent);
	completion_init(&s->ended);
	uint64_t flags = spin_lock_irqsave(&T->lock);
	s->nexus = fake_nexus_login(T, t);
	T->nexus[s->nexus].session = s;
	spin_unlock_irqrestore(&T->lock, flags);
	BUG_ON(!task_create("session", TASK_PRIO_IO, session_task, s));
	*out = s;
	return 0;
}

void iscsi_session_submit(struct iscsi_session *s, struct iscsi_task *t)
{
	t->err = 0;
	t->aborted = false;
	t->status = SCSI_GOOD;
	t->got = 0;
	t->sense_len = 0;
	task_yield(); /* by turns: all else may come in between */
	uint64_t flags = spin_lock_irqsave(&T->lock);
	int err = s->err;
	if (!err) {
		list_append(&s->queue, &t->node);
		if (list_empty(&s->queue) || s->queue.next == &t->node)
			s->next_ns = MAX(s->next_ns, time_ns() + T->delay_ns);
		waitq_wake_all(&s->news);
	}
	spin_unlock_irqrestore(&T->lock, flags);
	if (!err)
		return;
	t->err = err;
	task_yield();
	t->done(t);
}

int iscsi_session_abort_all(struct iscsi_session *s, uint16_t lun unused, uint64_t deadline_ns)
{
	uint64_t flags = spin_lock_irqsave(&T->lock);
	s->asked_abort = true;
	s->answered_abort = false;
	waitq_wake_all(&s->news);
	while (!s->err && !s->answered_abort && time_ns() < deadline_ns)
		(void)waitq_wait(&s->news, &T->lock, &flags, deadline_ns);
	int err = s->answered_abort ? s->abort_result : s->err ? s->err : -ETIMEDOUT;
	spin_unlock_irqrestore(&T->lock, flags);
	return err;
}

int iscsi_session_close(struct iscsi_session *s, uint64_t deadline_ns)
{
	if (!s)
		return 0;
	uint64_t flags = spin_lock_irqsave(&T->lock);
	s->leaving = true;
	waitq_wake_all(&s->news);
	spin_unlock_irqrestore(&T->lock, flags);
	int err = completion_wait(&s->ended, deadline_ns);
	iscsi_session_abort(s);
	(void)completion_wait(&s->ended, TIME_NEVER);
	flags = spin_lock_irqsave(&T->lock);
	T->over++;
	spin_unlock_irqrestore(&T->lock, flags);
	free(s);
	return err;
}

void iscsi_session_abort(struct iscsi_session *s)
{
	uint64_t flags = spin_lock_irqsave(&T->lock);
	fake_session_end(s, -ECANCELED, true);
	spin_unlock_irqrestore(&T->lock, flags);
}

void iscsi_session_stats(struct iscsi_session *s, struct iscsi_stats *st)
{
	uint64_t flags = spin_lock_irqsave(&T->lock);
	*st = s->stats;
	st->err = s->err;
	spin_unlock_irqrestore(&T->lock, flags);
}
