/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit's keeper (lun.h): a task that has a session open while it can, looks whose the unit is after each login and
 * whenever the unit says that something changed, and ends requests that must not wait any longer. Requests themselves
 * go by lun_io.c.
 */
#include "vmm/lun.h"
#include "kernel/base/wipe.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/lun_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_NS (5 * NS_PER_SEC)
#define RETRY_NS   (500 * NS_PER_MS)
#define ABORT_NS   (2 * NS_PER_SEC)
#define LOGOUT_NS  NS_PER_SEC

/* ---- sessions ---- */

/* From the session's own task. */
static void session_ended(void *arg)
{
	struct lun *l = arg;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->ended = true;
	waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
}

bool lun_has_session(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	bool has = l->session && !l->ended;
	spin_unlock_irqrestore(&l->lock, flags);
	return has;
}

void lun_leave(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	if (!--l->users)
		waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
}

static int open_session(struct lun *l, struct why *w)
{
	struct iscsi_session *s;
	l->ended = false; /* nobody else has a session to tell of */
	int err = iscsi_session_open(&s, &l->target, session_ended, l, time_ns() + CONNECT_NS, w);
	if (err)
		return err;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->session = s;
	l->sessions++;
	l->checks++;
	spin_unlock_irqrestore(&l->lock, flags);
	return 0;
}

static void drop_session(struct lun *l, uint64_t logout_ns)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	struct iscsi_session *s = l->session;
	l->session = NULL;
	while (l->users)
		(void)waitq_wait(&l->news, &l->lock, &flags, TIME_NEVER); /* they only submit */
	if (!l->away_ns)
		l->away_ns = time_ns();
	spin_unlock_irqrestore(&l->lock, flags);
	struct iscsi_stats st = { .err = 0 };
	if (s)
		iscsi_session_stats(s, &st);
	flags = spin_lock_irqsave(&l->lock);
	if (st.err)
		l->why = st.why;
	spin_unlock_irqrestore(&l->lock, flags);
	if (st.err && st.err != -EAGAIN)
		log_warn("disk %s: the session with %s has ended: %s", l->b.serial, l->target.name, st.why.text);
	(void)iscsi_session_close(s, logout_ns); /* what was under way comes back meanwhile */
}

/* ---- whose it is ---- */

static void lose(struct lun *l, uint64_t other)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->state = LUN_LOST;
	l->owner.key = 0;
	l->checked = l->checks;
	spin_unlock_irqrestore(&l->lock, flags);
	log_error("disk %s: its unit is not this host's any more (reservation key %016lx); nothing is written to it",
		  l->b.serial, other);
	iscsi_session_abort(l->session); /* what it has not sent yet is not sent */
	l->lost(l->arg);
}

/* The session is there, and something was said that makes it doubtful whose the unit is; or it is a new session. */
static void check(struct lun *l)
{
	struct why w = { "" };
	uint64_t other = 0, flags = spin_lock_irqsave(&l->lock);
	unsigned seen = l->checks;
	bool back = false;
	spin_unlock_irqrestore(&l->lock, flags);
	bool ours = l->state == LUN_OURS;
	int err = lun_is_same(l, &w); /* before anything is done to it */
	if (!err && ours && (err = lun_owner_check(l->session, l->cfg.lun, &l->owner, &other, &w)) == -EPERM) {
		lose(l, other);
		return;
	}
	flags = spin_lock_irqsave(&l->lock);
	if (err) {
		l->why = w;
		l->retry_ns = time_ns() + RETRY_NS;
	} else {
		l->checked = seen;
		back = l->away_ns && l->sessions > 1;
		l->away_ns = 0;
	}
	spin_unlock_irqrestore(&l->lock, flags);
	if (back)
		log_info("disk %s: %s is back%s", l->b.serial, l->target.name,
			 l->state == LUN_OURS ? ", and the unit is still this host's" : "");
	if (err)
		iscsi_session_abort(l->session); /* another one begins from the start */
}

void lun_set_state(struct lun *l, enum lun_state state)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->state = state;
	spin_unlock_irqrestore(&l->lock, flags);
}

static int claim(struct lun *l, bool force, struct why *w)
{
	uint64_t other = 0;
	if (!lun_has_session(l))
		return why_set(w, -EAGAIN, "there is no session with %s", l->target.name);
	int err = lun_owner_claim(l->session, l->cfg.lun, &l->owner, force, &other, w);
	if (err == -EBUSY)
		return why_set(w, err,
			       "another host has it, by the reservation key %016lx; when that host is off for "
			       "good, `vm start NAME --force` takes it",
			       other);
	if (!err)
		lun_set_state(l, LUN_OURS);
	return err;
}

static void release(struct lun *l)
{
	if (l->state == LUN_PASSED)
		; /* by now it is its destination's, or it is to be found reserved by this host */
	else if (lun_has_session(l))
		lun_owner_release(l->session, l->cfg.lun, &l->owner);
	else if (l->owner.key)
		log_warn("disk %s: %s is away: the unit stays reserved for this host, and others can take it by force "
			 "alone",
			 l->b.serial, l->target.name);
	l->owner.key = l->owner.next = 0;
	lun_set_state(l, LUN_FREE);
}

/* ---- the keeper ---- */

static void reopen(struct lun *l)
{
	struct why w = { "" };
	drop_session(l, 0);
	int err = open_session(l, &w);
	uint64_t flags = spin_lock_irqsave(&l->lock);
	if (err)
		l->why = w;
	l->retry_ns = time_ns() + (err ? RETRY_NS : 0);
	l->reopen_ns = time_ns() + RETRY_NS; /* also where sessions end as soon as they have begun */
	spin_unlock_irqrestore(&l->lock, flags);
}

/* All that is under way comes back, and ends: it may be asked for again. */
static void hurry(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	bool busy = l->session && l->nbusy;
	spin_unlock_irqrestore(&l->lock, flags);
	if (busy && iscsi_session_abort_all(l->session, l->cfg.lun, time_ns() + ABORT_NS))
		drop_session(l, 0);
	lun_end_waiting(l, -EAGAIN, TIME_NEVER);
}

static void fulfil(struct lun *l, enum lun_wish wish)
{
	struct why w = { "" };
	int err = 0;
	if (wish == LUN_WISH_CLAIM)
		err = claim(l, l->ask.force, &w);
	else if (wish == LUN_WISH_RELEASE)
		release(l);
	else
		err = lun_pass_fulfil(l, wish, &l->ask, &w);
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->wish = LUN_WISH_NONE;
	l->answer = err;
	l->answer_why = w;
	spin_unlock_irqrestore(&l->lock, flags);
	completion_done(&l->answered);
}

bool lun_is_settled(const struct lun *l)
{
	return l->session && !l->ended && l->checks == l->checked && !l->nwaiting && !l->nbusy;
}

enum duty { NOTHING, FULFIL, LET_GO, HURRY, REOPEN, LOOK, MARK, END_LATE, END_ALL };

/* What is to be done now; else when to look again. The lock is held. */
static enum duty duty(struct lun *l, uint64_t now, uint64_t *next)
{
	uint64_t oldest = lun_oldest_ns(l);
	*next = MIN(l->hurry_ns, oldest == TIME_NEVER ? oldest : oldest + LUN_PATIENCE_NS);
	if (l->wish == LUN_WISH_CLOSE)
		return LET_GO;
	if (l->wish == LUN_WISH_PASS && l->state == LUN_OURS && !lun_is_settled(l) && now < l->ask.deadline_ns)
		*next = MIN(*next, l->ask.deadline_ns);
	else if (l->wish != LUN_WISH_NONE)
		return FULFIL;
	if (l->state == LUN_LOST && l->nwaiting)
		return END_ALL;
	if (now >= l->hurry_ns) {
		*next = TIME_NEVER;
		if (l->nwaiting || l->nbusy)
			return HURRY;
	}
	if (oldest != TIME_NEVER && now >= oldest + LUN_PATIENCE_NS)
		return END_LATE;
	bool look = l->session && !l->ended && l->checks != l->checked;
	if (!l->session || l->ended || look) {
		uint64_t at = look ? l->retry_ns : MAX(l->retry_ns, l->reopen_ns);
		if (now >= at)
			return look ? LOOK : REOPEN;
		*next = MIN(*next, at);
	}
	if (l->mark && l->state == LUN_OURS && l->session && !l->ended && !look) {
		l->mark = false;
		return MARK;
	}
	if (l->nwaiting && now < l->pause_ns)
		*next = MIN(*next, l->pause_ns);
	return NOTHING;
}

static enum duty wait_for_duty(struct lun *l)
{
	uint64_t next, flags = spin_lock_irqsave(&l->lock);
	enum duty d = duty(l, time_ns(), &next);
	if (d == NOTHING)
		(void)waitq_wait(&l->news, &l->lock, &flags, next);
	spin_unlock_irqrestore(&l->lock, flags);
	return d;
}

static void keeper(void *arg)
{
	struct lun *l = arg;
	for (;;) {
		enum duty d = wait_for_duty(l);
		switch (d) {
		case NOTHING: break;
		case LET_GO: goto out;
		case FULFIL: fulfil(l, l->wish); break;
		case HURRY: hurry(l); break;
		case REOPEN: reopen(l); break;
		case LOOK: check(l); break;
		case MARK: lun_owner_mark(l->session, l->cfg.lun, &l->owner); break;
		case END_LATE:
			log_warn("disk %s: %s has been away for too long: requests of the guest fail", l->b.serial,
				 l->target.name);
			lun_end_waiting(l, -EIO, time_ns() - LUN_PATIENCE_NS);
			break;
		case END_ALL: lun_end_waiting(l, -EIO, TIME_NEVER); break;
		}
		lun_pump(l);
	}
out:
	drop_session(l, time_ns() + LOGOUT_NS);
	completion_done(&l->keeper_ended);
}

/* ---- for others ---- */

int lun_wish(struct lun *l, enum lun_wish what, struct lun_ask *ask, struct why *w)
{
	mutex_lock(&l->asking);
	completion_init(&l->answered);
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->ask = *ask;
	l->wish = what;
	waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
	(void)completion_wait(&l->answered, TIME_NEVER);
	int err = l->answer;
	*ask = l->ask;
	if (err)
		why_set(w, err, "%s", l->answer_why.text[0] ? l->answer_why.text : err_name(err));
	mutex_unlock(&l->asking);
	return err;
}

int lun_claim(struct lun *l, bool force, struct why *w)
{
	return lun_wish(l, LUN_WISH_CLAIM, &(struct lun_ask){ .force = force }, w);
}

void lun_release(struct lun *l) { (void)!lun_wish(l, LUN_WISH_RELEASE, &(struct lun_ask){ .force = false }, NULL); }

static void set_target(struct lun *l, const struct lun_config *c, uint64_t host, uint64_t nexus)
{
	struct iscsi_target *t = &l->target;
	t->ip = c->ip;
	t->port = c->port;
	memcpy(t->name, c->target, sizeof(t->name));
	snprintf(t->initiator, sizeof(t->initiator), "iqn.2026-11.invalid.tern:%016lx", host);
	t->isid[0] = 0x80; /* a random one (RFC 7143 11.12.5), but the same each time */
	put_be32(t->isid + 2, nexus);
	t->isid[1] = (uint8_t)(nexus >> 32);
	memcpy(t->user, c->user, sizeof(t->user));
	memcpy(t->secret, c->secret, sizeof(t->secret));
	t->digests = c->digests;
}

static int begin(struct lun *l, struct why *w)
{
	int err = open_session(l, w);
	if (err)
		return err;
	if ((err = lun_identify(l, w)))
		goto drop;
	if (task_create("disk-unit", TASK_PRIO_NORMAL, keeper, l))
		return 0;
	err = err_trace(-ENOMEM);
drop:
	drop_session(l, 0);
	return err;
}

int lun_open(struct lun **out, const struct lun_config *c, uint64_t host, uint64_t nexus, void (*lost)(void *arg),
	     void *arg, struct why *w)
{
	struct lun *l = calloc(1, sizeof(*l));
	struct lun_slot *slot = calloc(LUN_REQS, sizeof(*slot));
	if (!l || !slot) {
		free(l);
		free(slot);
		return err_trace(-ENOMEM);
	}
	for (unsigned i = 0; i < LUN_REQS; i++)
		slot[i].l = l;
	l->slot = slot;
	l->b = (struct blockdev){ .ops = &lun_ops, .block = PAGE_SIZE, .max_len = LUN_MAX, .depth = LUN_DEPTH };
	l->cfg = *c;
	l->lost = lost;
	l->arg = arg;
	l->owner.host = host;
	l->hurry_ns = TIME_NEVER;
	spin_init(&l->lock, "disk unit");
	waitq_init(&l->news);
	list_init(&l->waiting);
	mutex_init(&l->asking, "disk unit's wishes");
	completion_init(&l->keeper_ended);
	set_target(l, c, host, nexus);
	int err = begin(l, w);
	if (err) {
		free(slot);
		free(l);
		return why_set(w, err, "%s", err_name(err));
	}
	*out = l;
	return 0;
}

void lun_close(struct lun *l)
{
	if (!l)
		return;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	BUG_ON(l->nwaiting || l->nbusy);
	l->wish = LUN_WISH_CLOSE;
	waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
	(void)completion_wait(&l->keeper_ended, TIME_NEVER); /* it has bounds */
	wipe(&l->cfg, sizeof(l->cfg));
	wipe(&l->target, sizeof(l->target));
	free(l->slot);
	free(l);
}

struct blockdev *lun_blockdev(struct lun *l) { return &l->b; }

bool lun_is_lost(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	bool lost = l->state == LUN_LOST;
	spin_unlock_irqrestore(&l->lock, flags);
	return lost;
}

void lun_get_status(struct lun *l, struct lun_status *s)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	*s = (struct lun_status){ .state = l->state,
				  .sessions = l->sessions,
				  .waiting = l->nwaiting,
				  .busy = l->nbusy,
				  .away_ns = l->away_ns ? time_ns() - l->away_ns : 0,
				  .why = l->why };
	struct iscsi_session *session = l->session;
	if (session)
		l->users++;
	spin_unlock_irqrestore(&l->lock, flags);
	memcpy(s->id, l->id, sizeof(s->id));
	memcpy(s->product, l->product, sizeof(s->product));
	if (!session)
		return;
	iscsi_session_stats(session, &s->session);
	lun_leave(l);
}
