/* SPDX-License-Identifier: BSD-2-Clause */
/* A source that has sent COMMIT and does not know what became of it (undecided.h). */
#include "vmm/migrate/undecided.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/disk_unit_pass.h"
#include "vmm/lun_owner.h"
#include "vmm/migrate/ask.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/self.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>

enum rule_action undecided_event(enum source_state *s, enum source_event ev)
{
	const struct rule *r = &source_rules[*s][ev];
	*s = (enum source_state)r->next;
	return (enum rule_action)r->action;
}

/* What is known of an undecided attempt. */
struct undecided {
	struct migration *m;
	bool dest_heard;       /* the destination's machine has answered last time, in whatever boot */
	struct finding before; /* of the round before */
	bool shown;            /* the operator has been told that nobody has it */
	char asked[64];        /* what came of asking the destination */
	char text[160];        /* for `migrate status` */
	char unit[160];        /* the same, of its disks' unit, which comes before that */
};

struct query { /* to the destination */
	struct ask ask;
	struct migration *m;
	enum source_event ev;
	bool known; /* ev is decisive */
};

static int query_put(struct ask *q)
{
	return id_send(&q->tx, WIRE_QUERY, &CONTAINER_OF(q, struct query, ask)->m->id, q->end_ns);
}

static void query_take(struct ask *ask)
{
	struct query *q = CONTAINER_OF(ask, struct query, ask);
	struct attempt_id id;
	struct incarnation by;
	if (ask->rx.type != WIRE_STARTED && ask->rx.type != WIRE_NEVER)
		return;
	decision_get(&ask->rx, &id, &by);
	if (!wire_get_end(&ask->rx) || !attempt_id_equal(&id, &q->m->id))
		return;
	if (ask->rx.type == WIRE_NEVER) {
		q->ev = SOURCE_EV_NEVER;
		q->known = incarnation_equal(by, q->m->dest); /* another's NEVER is of no meaning */
		return;
	}
	q->ev = SOURCE_EV_STARTED;
	q->known = true;
	if (!q->m->remote && id_send(&ask->tx, WIRE_DONE, &q->m->id, ask->end_ns))
		log_debug("%s: the destination may not know that we know", q->m->st.vm);
}

/* Ask the destination's address once: an event if it is decisive. DONE goes back at once. */
static bool ask_destination(struct undecided *u, enum source_event *ev)
{
	struct migration *m = u->m;
	struct query q = { .ask = { .end_ns = time_ns() + MIG_QUERY_NS, .put = query_put, .take = query_take },
			   .m = m };
	q.ask.ip = m->p.dest;
	int err = ask_host(&q.ask, m);
	u->dest_heard = q.ask.greeted && q.ask.peer.inc.host == m->dest.host;
	if (q.known)
		*ev = q.ev;
	else if (err)
		sniprintf(u->asked, sizeof(u->asked), "%s does not answer", m->dest_name);
	else
		sniprintf(u->asked, sizeof(u->asked), "%s %s", m->dest_name,
			  u->dest_heard ? "does not remember it" : "is another host now");
	return q.known;
}

/* Within this host there is nobody else to ask, and always an answer. */
static bool ask_self(struct migration *m, enum source_event *ev)
{
	if (m->p.to_self)
		*ev = self_ask(m);
	return m->p.to_self;
}

/*
 * What the unit says, of a VM that has some: only who holds that may run it, whatever anybody else says; so whatever
 * would have it go on here is to take it back first. True: ev is decided.
 */
static bool ask_unit(struct undecided *u, bool known, enum source_event *ev)
{
	struct migration *m = u->m;
	struct why w = { "" };
	uint64_t other = 0, dest = m->dest.host;
	if (!m->unit_key || (known && (*ev == SOURCE_EV_STARTED || *ev == SOURCE_EV_FORGET)))
		return known;
	int err = disk_unit_pass_take_back(m->vm, dest, false, &other, &w);
	bool there = err == -EBUSY && lun_owner_key_runs(other) && lun_owner_key_is_of(other, dest);
	if (err && !there && known && *ev == SOURCE_EV_CLAIM && m->sure)
		err = disk_unit_pass_take_back(m->vm, dest, true, &other, &w);
	if (there)
		*ev = SOURCE_EV_RUNS_THERE;
	else if (!err && !known)
		*ev = SOURCE_EV_TAKEN_BACK;
	if (err == -EBUSY && !there)
		sniprintf(u->unit, sizeof(u->unit), "%s",
			  lun_owner_key_is_of(other, dest)
				  ? "its destination has claimed its disks, and does not say that it runs"
				  : "another host has claimed its disks");
	else if (err && !there)
		sniprintf(u->unit, sizeof(u->unit), "%.150s", w.text);
	bool decided = !err || there;
	spin_lock(&m->lock);
	if (decided && m->word == WORD_FORGET && !there) /* said, and taken, meanwhile */
		*ev = SOURCE_EV_FORGET;
	bool vain = !decided && m->word == WORD_CLAIM; /* it was of what there was then */
	if (vain)
		m->word = WORD_NONE;
	m->decided = decided;
	spin_unlock(&m->lock);
	if (vain)
		log_warn("%s cannot be claimed now: %s", m->st.vm, u->unit);
	return decided;
}

/* Ask everybody, twice if that may prove something. */
static bool ask_everybody(struct undecided *u, enum source_event *ev)
{
	struct migration *m = u->m;
	const struct migrate_host *me = migrate_this_host();
	struct who q = probe_question(&m->vm->cfg, WHO_RELAY);
	enum rule_action act = ACT_AGAIN;
	bool proven = false;
	q.id = m->id;
	for (unsigned i = 0; i < 2 && act == ACT_AGAIN; i++) {
		struct finding f;
		(void)!probe_round(&q, m->p.dest, (struct ip){ { 0 } }, time_ns() + ROUND_NS, NULL,
				   &f); /* nobody leaves */
		enum evidence e = probe_twice(&u->before, &f) ? EVIDENCE_NOTHING : f.evidence;
		proven = e == EVIDENCE_NOTHING && u->dest_heard;
		if (e >= EVIDENCE_ONCE && !u->dest_heard)
			e = EVIDENCE_SILENT; /* everybody but the one that matters */
		sniprintf(u->text, sizeof(u->text), "%s", e == f.evidence && f.text[0] ? f.text : u->asked);
		act = (enum rule_action)undecided_rules[e][me->undecided_resume ? UNDECIDED_RESUME : UNDECIDED_ASK];
		u->before = f;
	}
	bool nobody = act == ACT_TELL && proven; /* else an old trace leads to somebody who does not say */
	if (nobody)
		sniprintf(u->text, sizeof(u->text), "all hosts have answered, and none has it: vm claim %s", m->st.vm);
	if (act == ACT_TELL && !u->shown)
		log_warn("%s is undecided: %s. The operator decides", m->st.vm, u->text);
	u->shown = act == ACT_TELL;
	spin_lock(&m->lock);
	m->nobody = nobody;
	spin_unlock(&m->lock);
	*ev = act == ACT_FREE ? SOURCE_EV_STARTED : act == ACT_RESUME ? SOURCE_EV_NOBODY_RESUME : SOURCE_EV_NOBODY;
	return act == ACT_FREE || act == ACT_RESUME;
}

/*
 * What is known, with what a host that holds a record has told us and the operator's word, all at one moment: a later
 * word is refused. STARTED comes first; to forget the image comes before all that would have it run.
 */
static bool take_decision(struct migration *m, bool known, enum source_event *ev)
{
	spin_lock(&m->lock);
	if ((known && *ev == SOURCE_EV_STARTED) || m->told == RECORD_STARTED)
		*ev = SOURCE_EV_STARTED;
	else if (m->word == WORD_FORGET)
		*ev = SOURCE_EV_FORGET;
	else if (m->unit_key && m->word == WORD_CLAIM) /* it may have the unit displaced, which NEVER does not */
		*ev = SOURCE_EV_CLAIM;
	else if (!known && m->told == RECORD_NEVER)
		*ev = SOURCE_EV_NEVER;
	else if (!known && m->word == WORD_CLAIM)
		*ev = SOURCE_EV_CLAIM;
	m->decided = known || m->told != RECORD_NONE || m->word != WORD_NONE;
	known = m->decided;
	spin_unlock(&m->lock);
	return known;
}

enum source_event undecided_ask(struct migration *m, enum source_state *state)
{
	struct undecided u = { .m = m, .before.evidence = EVIDENCES };
	enum source_event ev = SOURCE_EV_FAIL;
	log_warn("%s is undecided: no answer to COMMIT from %s; asking it. The image is kept and does not run",
		 m->st.vm, m->st.peer_name);
	migration_phase(m, MIG_UNDECIDED);
	for (unsigned n = 1;; n++) {
		bool known = ask_self(m, &ev); /* before a word is taken, which may be of before it arrived */
		known = take_decision(m, known, &ev);
		known = ask_unit(&u, known, &ev);
		if (!known) {
			known = ask_destination(&u, &ev) || (n % MIG_ROUND_EVERY == 1 && ask_everybody(&u, &ev));
			known = take_decision(m, known, &ev);
			known = known && ask_unit(&u, known, &ev);
		}
		spin_lock(&m->lock);
		const char *why = u.unit[0] ? u.unit : u.text;
		sniprintf(m->st.error, sizeof(m->st.error), "%s", why);
		spin_unlock(&m->lock);
		if (n == MIG_UNDECIDED_TELL && !u.shown)
			log_warn("%s is still undecided: %s. If that host is gone for good: vm claim %s --force",
				 m->st.vm, why, m->st.vm);
		if (known)
			undecided_event(state, ev);
		if (*state != SOURCE_UNDECIDED)
			return ev;
		if (!completion_wait(&m->news, time_ns() + MIG_ASK_NS))
			completion_reset(&m->news); /* of a unit that cannot be asked news is not the end */
	}
}

bool undecided_unit(struct migration *m, enum source_event *ev)
{
	return ask_unit(&(struct undecided){ .m = m }, true, ev);
}
