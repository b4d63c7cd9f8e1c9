/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of a disk on a unit (lun.h):
 *
 *   submit -> waiting -> a slot, while the unit is ours -> the session -> answered -> done
 *                ^                                             |
 *                +-- the session ended, a unit attention, busy, aborted --+
 *
 * A request that goes back is done as a whole once more. Two that a guest has under way at once may come in any order.
 */
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/lun_impl.h"
#include <string.h>

#define BUSY_NS       (50 * NS_PER_MS)
#define TELL_AGAIN_NS (60 * NS_PER_SEC) /* of requests that a guest may make fail as often as it likes */

static struct lun *of(struct blockdev *b) { return CONTAINER_OF(b, struct lun, b); }
static const uint8_t zeros[PAGE_SIZE];

uint64_t lun_oldest_ns(const struct lun *l)
{
	uint64_t first = TIME_NEVER;
	list_for_each(r, &l->waiting, struct blockdev_req, node)
		first = MIN(first, r->begin_ns);
	return first;
}

static void end_request(struct blockdev_req *r, int err)
{
	r->err = err;
	r->done(r);
}

void lun_end_waiting(struct lun *l, int err, uint64_t before_ns)
{
	for (;;) {
		struct blockdev_req *late = NULL;
		uint64_t flags = spin_lock_irqsave(&l->lock);
		bool over = err == -EAGAIN && time_ns() < l->hurry_ns;
		list_for_each(r, &l->waiting, struct blockdev_req, node)
			if (!late && !over && r->begin_ns <= before_ns)
				late = r;
		if (late) {
			list_remove(&late->node);
			l->nwaiting--;
		}
		spin_unlock_irqrestore(&l->lock, flags);
		if (!late)
			return;
		end_request(late, err);
	}
}

/* ---- to the session ---- */

/* The pieces of r, or a page of zeros as often as that takes: how many, 0: more than there is room for. */
static unsigned pieces(struct lun_slot *s, const struct blockdev_req *r, size_t len)
{
	unsigned n = 0;
	size_t have = 0;
	if (r->op == BLOCKDEV_ZERO) {
		for (; have < len && n < LUN_PIECES; have += s->iov[n++].len)
			s->iov[n] = (struct iov){ (void *)(uintptr_t)zeros, MIN(len - have, sizeof(zeros)) };
		return have < len ? 0 : n;
	}
	const struct gmem_pin *p = r->seg;
	size_t skip = r->skip;
	for (; skip >= p->len; p++)
		skip -= p->len;
	for (; have < len && n < LUN_PIECES; p++, skip = 0) {
		s->iov[n] = (struct iov){ (uint8_t *)p->p + skip, MIN(p->len - skip, len - have) };
		have += s->iov[n++].len;
	}
	return have < len ? 0 : n;
}

static void task_done(struct iscsi_task *t);

/* r as a command. False: it has too many pieces. */
static bool translate(struct lun_slot *s, const struct blockdev_req *r)
{
	struct lun *l = s->l;
	uint64_t block = r->off >> SECTOR_BIT;
	uint32_t blocks = (uint32_t)(r->len >> SECTOR_BIT);
	s->t = (struct iscsi_task){ .lun = l->cfg.lun, .seg = s->iov, .done = task_done };
	s->t.deadline_ns = time_ns() + LUN_TASK_NS;
	s->same = r->op == BLOCKDEV_ZERO && !l->no_same;
	switch (r->op) {
	case BLOCKDEV_READ:
		scsi_read(s->t.cdb, block, blocks);
		s->t.dir = ISCSI_IN;
		break;
	case BLOCKDEV_WRITE:
		scsi_write(s->t.cdb, block, blocks);
		s->t.dir = ISCSI_OUT;
		break;
	case BLOCKDEV_FLUSH: scsi_synchronize_cache(s->t.cdb); return true;
	case BLOCKDEV_ZERO:
		s->t.dir = ISCSI_OUT;
		s->t.len = s->same ? SECTOR : (uint32_t)r->len;
		if (s->same)
			scsi_write_same(s->t.cdb, block, blocks, l->thin);
		else
			scsi_write(s->t.cdb, block, blocks);
		return pieces(s, r, s->t.len);
	}
	s->t.len = (uint32_t)r->len;
	return pieces(s, r, r->len);
}

/* May one that waits go to the session now? The lock is held. */
static bool may_go(const struct lun *l)
{
	return l->session && !l->ended && l->checks == l->checked && l->state == LUN_OURS && l->nbusy < LUN_REQS &&
	       time_ns() >= l->pause_ns && time_ns() < l->hurry_ns;
}

/* The next one that may go, in a slot; *bad: one that cannot be sent. The lock is held. */
static struct lun_slot *next(struct lun *l, struct blockdev_req **bad)
{
	if (!may_go(l) || list_empty(&l->waiting))
		return NULL;
	struct lun_slot *s = l->slot;
	while (s->r)
		s++;
	struct blockdev_req *r = list_first(&l->waiting, struct blockdev_req, node);
	list_remove(&r->node);
	l->nwaiting--;
	if (!translate(s, r)) {
		*bad = r;
		return NULL;
	}
	s->r = r;
	l->nbusy++;
	l->users++;
	return s;
}

void lun_pump(struct lun *l)
{
	for (;;) {
		struct blockdev_req *bad = NULL;
		uint64_t flags = spin_lock_irqsave(&l->lock);
		struct lun_slot *s = next(l, &bad);
		struct iscsi_session *session = l->session;
		spin_unlock_irqrestore(&l->lock, flags);
		if (bad)
			end_request(bad, -EIO);
		else if (!s)
			return;
		if (!s)
			continue;
		iscsi_session_submit(session, &s->t);
		lun_leave(l);
	}
}

/* ---- back from it ---- */

enum verdict { DONE, AGAIN, LATER, CHECK, FAIL };

/* The unit has done it: all of it? */
static enum verdict judge_length(const struct iscsi_task *t, int *err)
{
	*err = t->dir != ISCSI_NONE && t->got != t->len ? -EIO : 0;
	return *err ? FAIL : DONE;
}

/* What a unit's complaint means: SPC-4 4.5.6. */
static enum verdict judge_sense(struct lun *l, const struct lun_slot *s, int *err)
{
	const struct iscsi_task *t = &s->t;
	struct scsi_sense sense;
	char text[80];
	*err = -EIO;
	if (!scsi_sense_parse(t->sense, t->sense_len, &sense))
		return FAIL;
	switch (sense.key) {
	case SCSI_RECOVERED_ERROR: return judge_length(t, err); /* it was done */
	case SCSI_UNIT_ATTENTION: return CHECK;
	case SCSI_ABORTED_COMMAND: return LATER;
	case SCSI_NOT_READY:
		return sense.asc == SCSI_ASC_BECOMING_READY || sense.asc == SCSI_ASC_TEMPORARY_SPACE ? LATER : FAIL;
	case SCSI_ILLEGAL_REQUEST:
		if (!s->same)
			break;
		l->no_same = true; /* others may be under way that are told the same */
		return AGAIN;
	default: break;
	}
	if (sense.asc == SCSI_ASC_SPACE_ALLOCATION_FAILED)
		*err = -ENOSPC;
	if (time_ns() < l->told_ns)
		return FAIL;
	l->told_ns = time_ns() + TELL_AGAIN_NS;
	scsi_sense_text(&sense, text, sizeof(text));
	log_warn("disk %s: %s fails, at byte %lu, and maybe others: %s", l->b.serial,
		 s->r->op == BLOCKDEV_READ ? "a read" : "a write", s->r->off, text);
	return FAIL;
}

/* The lock is held. */
static enum verdict judge(struct lun *l, const struct lun_slot *s, int *err)
{
	const struct iscsi_task *t = &s->t;
	if (t->err) {
		l->ended = l->ended || !t->aborted; /* when there is another session, then */
		return AGAIN;
	}
	switch (t->status) {
	case SCSI_GOOD: return judge_length(t, err);
	case SCSI_CHECK_CONDITION: return judge_sense(l, s, err);
	case SCSI_RESERVATION_CONFLICT: return CHECK;
	case SCSI_BUSY:
	case SCSI_TASK_SET_FULL:
	case SCSI_TASK_ABORTED: return LATER;
	default: *err = -EIO; return FAIL;
	}
}

static void task_done(struct iscsi_task *t)
{
	struct lun_slot *s = CONTAINER_OF(t, struct lun_slot, t);
	struct lun *l = s->l;
	int err = 0;
	uint64_t flags = spin_lock_irqsave(&l->lock);
	struct blockdev_req *r = s->r;
	enum verdict v = judge(l, s, &err);
	s->r = NULL;
	l->nbusy--;
	if (v == LATER || v == CHECK) /* one that says so for ever is not asked without a pause */
		l->pause_ns = time_ns() + BUSY_NS;
	if (v == CHECK)
		l->checks++;
	if (v != DONE && v != FAIL && !l->ended && time_ns() >= r->begin_ns + LUN_PATIENCE_NS) {
		v = FAIL; /* of a target that answers, but not this */
		err = -EIO;
	}
	if (v != DONE && v != FAIL) {
		list_insert(&l->waiting, &r->node); /* it came before those that wait */
		l->nwaiting++;
		r = NULL;
		waitq_wake_all(&l->news);
	}
	if (l->wish == LUN_WISH_PASS)
		waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
	if (r)
		end_request(r, err);
	lun_pump(l);
}

/* ---- from the disk ---- */

static void lun_submit(struct blockdev *b, struct blockdev_req *r)
{
	struct lun *l = of(b);
	int err = 0;
	r->begin_ns = time_ns();
	uint64_t flags = spin_lock_irqsave(&l->lock);
	if (l->state == LUN_LOST)
		err = -EIO;
	else if (time_ns() >= l->hurry_ns)
		err = -EAGAIN;
	if (!err) {
		list_append(&l->waiting, &r->node);
		l->nwaiting++;
		if (l->hurry_ns != TIME_NEVER || !may_go(l))
			waitq_wake_all(&l->news); /* the keeper sees to it that it ends */
	}
	spin_unlock_irqrestore(&l->lock, flags);
	if (err)
		end_request(r, err);
	else
		lun_pump(l);
}

static void lun_hurry(struct blockdev *b, uint64_t deadline_ns)
{
	struct lun *l = of(b);
	uint64_t flags = spin_lock_irqsave(&l->lock);
	l->hurry_ns = deadline_ns == TIME_NEVER ? TIME_NEVER : MIN(l->hurry_ns, deadline_ns);
	waitq_wake_all(&l->news);
	spin_unlock_irqrestore(&l->lock, flags);
	lun_pump(l);
}

const struct blockdev_ops lun_ops = { .submit = lun_submit, .hurry = lun_hurry };
