/* SPDX-License-Identifier: BSD-2-Clause */
/* The hand-over of a unit (lun_pass.h): what its keeper does of it, and how it is asked to. */
#include "vmm/lun_pass.h"
#include "vmm/lun_impl.h"

static int pass(struct lun *l, struct lun_ask *ask, struct why *w)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	bool ours = l->state == LUN_OURS, settled = lun_is_settled(l);
	if (ours && settled)
		l->state = LUN_PASSED;
	spin_unlock_irqrestore(&l->lock, flags);
	ask->key = l->owner.key;
	if (!ours)
		return why_set(w, -EPERM, "its unit is another host's now");
	return settled ? 0 : why_set(w, -ETIMEDOUT, "what was under way has not ended in time");
}

static int take_back(struct lun *l, struct lun_ask *ask, struct why *w)
{
	if (l->state == LUN_OURS)
		return 0;
	return lun_owner_take_back(l->session, l->cfg.lun, &l->owner, ask->force, &ask->key, w);
}

static int take_over(struct lun *l, struct lun_ask *ask, struct why *w)
{
	uint64_t from = ask->key;
	int err = lun_owner_take_over(l->session, l->cfg.lun, &l->owner, from, &ask->key, w);
	if (err != -EBUSY)
		return err;
	l->owner.key = 0; /* it may have been ours between two tries */
	lun_set_state(l, LUN_FREE);
	return err;
}

/* Whatever its session has said meanwhile was not looked at. */
static void keep(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	if (l->state == LUN_PASSED) {
		l->state = LUN_OURS;
		l->checks++;
	}
	spin_unlock_irqrestore(&l->lock, flags);
}

int lun_pass_fulfil(struct lun *l, enum lun_wish wish, struct lun_ask *ask, struct why *w)
{
	int err = 0;
	if (wish == LUN_WISH_PASS)
		return pass(l, ask, w);
	if (wish == LUN_WISH_KEEP) {
		keep(l);
		return 0;
	}
	if (!lun_has_session(l))
		return why_set(w, -EAGAIN, "there is no session with %s", l->target.name);
	if (wish == LUN_WISH_PREPARE)
		return lun_owner_prepare(l->session, l->cfg.lun, &l->owner, ask->key, w);
	if (wish == LUN_WISH_TAKE_BACK)
		err = take_back(l, ask, w);
	else if (wish == LUN_WISH_TAKE_OVER)
		err = take_over(l, ask, w);
	else
		err = lun_owner_follow(l->session, l->cfg.lun, &l->owner, ask->key, w);
	if (!err)
		lun_set_state(l, LUN_OURS);
	else if (wish == LUN_WISH_FOLLOW && err == -EPERM)
		lun_set_state(l, LUN_LOST);
	return err;
}

int lun_pass(struct lun *l, uint64_t deadline_ns, uint64_t *key, struct why *w)
{
	struct lun_ask ask = { .deadline_ns = deadline_ns };
	int err = lun_wish(l, LUN_WISH_PASS, &ask, w);
	*key = ask.key;
	return err;
}

void lun_pass_keep(struct lun *l) { (void)!lun_wish(l, LUN_WISH_KEEP, &(struct lun_ask){ .key = 0 }, NULL); }

int lun_pass_take_back(struct lun *l, bool force, uint64_t *other, struct why *w)
{
	struct lun_ask ask = { .force = force };
	int err = lun_wish(l, LUN_WISH_TAKE_BACK, &ask, w);
	*other = ask.key;
	return err;
}

int lun_pass_prepare(struct lun *l, uint64_t source, struct why *w)
{
	return lun_wish(l, LUN_WISH_PREPARE, &(struct lun_ask){ .key = source }, w);
}

int lun_pass_take_over(struct lun *l, uint64_t from, uint64_t *other, struct why *w)
{
	struct lun_ask ask = { .key = from };
	int err = lun_wish(l, LUN_WISH_TAKE_OVER, &ask, w);
	*other = ask.key;
	return err;
}

void lun_pass_mark(struct lun *l)
{
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->mark = true;
	waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
}

int lun_pass_follow(struct lun *l, uint64_t peer, struct why *w)
{
	return lun_wish(l, LUN_WISH_FOLLOW, &(struct lun_ask){ .key = peer }, w);
}
