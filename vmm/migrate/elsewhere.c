/* SPDX-License-Identifier: BSD-2-Clause */
/* Who has a VM: asking all peers, judging what they say, answering (elsewhere.h). */
#include "vmm/migrate/elsewhere.h"
#include "kernel/base/ip4.h"
#include "kernel/base/hash.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/ask.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/shout.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RELAYS_MAX 4
#define AGAIN_MAX  5                 /* rounds in a row whose answers differ: who answers so proves nothing */
#define RELAY_NS   (2 * NS_PER_SEC)  /* what a host that is asked gives its own peers */
#define ANSWER_NS  (2 * NS_PER_SEC)  /* for the answer to get out */
#define TWIN_NS    (20 * NS_PER_SEC) /* after its last greeting, a host of our name counts as gone */

_Static_assert((int)VM_LEASE_NONE == LEASE_NONE && (int)VM_LEASE_ASKING == LEASE_ASKING &&
		       (int)VM_LEASE_YIELDED == LEASE_YIELDED && (int)VM_LEASE_TAKEN == LEASE_TAKEN,
	       "the leases of vmm/vm.h are those of the rules");

/* ---- what this host knows ---- */

struct search {
	const struct who *q;
	char *holder;
};

/* Is vm here for the asker? A lease of ours that comes second is given up. */
static bool is_here(struct vm *vm, const struct who *q)
{
	uint32_t lease = __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST); /* first: it ends when the VM runs */
	if (!vm_state_is_off(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)))
		return true;
	if (!(q->flags & WHO_STARTING))
		return lease == VM_LEASE_TAKEN;
	for (;;) {
		enum lease_order order = q->asker.host < migrate_this_host()->inc.host ? ASKER_FIRST : ASKER_LATER;
		const struct rule *r = &lease_rules[lease][order];
		if (vm_lease(vm, (enum vm_lease)lease, (enum vm_lease)r->next))
			return r->action == ACT_REFUSE;
		lease = __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST);
	}
}

static void match(struct vm *vm, void *arg)
{
	static const uint8_t none[16];
	struct search *s = arg;
	bool same = !strcmp(vm->cfg.name, s->q->name) || !memcmp(vm->cfg.mac, s->q->mac, sizeof(vm->cfg.mac)) ||
		    (memcmp(s->q->uuid, none, 16) && !memcmp(vm->cfg.uuid, s->q->uuid, 16));
	if (same && is_here(vm, s->q))
		memcpy(s->holder, vm->cfg.name, VM_NAME_MAX);
}

void elsewhere_local(const struct who *q, struct have_answer *a)
{
	struct departure d;
	memset(a, 0, sizeof(*a));
	if (incarnation_equal(q->asker, migrate_this_host()->inc))
		return; /* our own question, come round */
	if (q->id.number && attempt_find(&q->id, NULL) == RECORD_STARTED) {
		a->have = HAVE_STARTED;
		return;
	}
	vm_for_each(match, &(struct search){ q, a->name });
	if (a->name[0]) {
		a->have = HAVE_HERE;
	} else if (departed_match(q, &d)) { /* it left the table after it had got into this list */
		a->have = HAVE_MOVED;
		memcpy(a->host, d.host, sizeof(a->host));
		a->where = d.where;
		a->when_s = d.when_s;
	}
}

void elsewhere_greeted(const struct hello *h, const char *addr)
{
	struct migrate_host *me = migrate_this_host();
	if (h->inc.host == me->inc.host || strcmp(h->host, me->name))
		return;
	if (!__atomic_exchange_n(&me->twin_ns, time_ns(), __ATOMIC_SEQ_CST))
		log_error(
			"another host calls itself %s as well: %s. Give one of the two a name of its own in tern.conf; "
			"until then no VM starts by itself",
			me->name, addr);
}

static bool has_twin(const struct migrate_host *me)
{
	uint64_t seen = __atomic_load_n(&me->twin_ns, __ATOMIC_SEQ_CST);
	return seen && time_ns() - seen < TWIN_NS;
}

/* ---- a round ---- */

struct question { /* to one host */
	struct round *r;
	char name[HOST_NAME_MAX];
	uint32_t ip;
	bool self, answered, alive;
	bool other_release;
	struct incarnation inc;
	struct have_answer a;
};
struct round {
	const struct who *q;
	const struct departure *own; /* what this host itself remembers, NULL: nothing */
	uint64_t end_ns;
	uint32_t left;         /* [a] tasks that have not ended */
	struct completion end; /* they all have */
	struct shout shout;
	unsigned n;
	struct question v[NET_PEERS_MAX + 2];
};

static void question_ask(struct question *k)
{
	const struct who *q = k->r->q;
	struct why w = { "" };
	struct ask a;
	int err = ask_open(&a, k->ip, k->r->end_ns, NULL, &w);
	if (!err) {
		elsewhere_greeted(&a.peer, ip4_text(k->ip).s);
		k->inc = a.peer.inc;
		k->self = incarnation_equal(k->inc, migrate_this_host()->inc) || incarnation_equal(k->inc, q->asker);
	}
	if (!err && !k->self)
		err = who_send(&a.tx, q, k->r->end_ns);
	if (!err && !k->self)
		err = ask_recv(&a, &w);
	if (!err && !k->self)
		k->answered = a.rx.type == WIRE_HAVE && have_parse(&a.rx, &k->a);
	k->alive = a.alive;
	k->other_release = err == -ENOTSUP;
	if (err)
		log_debug("asking %s for %s: %s", k->name, q->name, w.text[0] ? w.text : err_name(err));
	ask_close(&a, NULL);
}

static void question_task(void *arg)
{
	struct question *k = arg;
	struct round *r = k->r;
	question_ask(k);
	if (!__atomic_sub_fetch(&r->left, 1, __ATOMIC_SEQ_CST))
		completion_done(&r->end);
}

static void question_add(struct round *r, const char *name, uint32_t ip)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->v[i].ip == ip)
			return;
	struct question *k = &r->v[r->n++];
	k->r = r;
	sniprintf(k->name, sizeof(k->name), "%s", name);
	k->ip = ip;
}

/* All at once, each in a task of its own; back when all have ended, by end_ns. */
static void round_run(struct round *r)
{
	completion_init(&r->end);
	r->left = r->n + 1;
	shout_begin(&r->shout, r->q);
	for (unsigned i = 0; i < r->n; i++)
		if (!task_create("ask", TASK_PRIO_NORMAL, question_task, &r->v[i]))
			question_task(&r->v[i]); /* no memory for a task: one after the other */
	if (__atomic_sub_fetch(&r->left, 1, __ATOMIC_SEQ_CST))
		completion_wait(&r->end, TIME_NEVER); /* each task ends by end_ns */
	shout_end(&r->shout);
}

/* ---- what it revealed ---- */

/* A bijection of one word and a mix of two: sums of it do not cancel. */
static uint64_t mix(struct incarnation i)
{
	uint64_t h = (i.host ^ i.boot << 17 ^ i.boot >> 47) * 0x9e3779b97f4a7c15ULL;
	return (h ^ h >> 31) * 0xd6e8feb86659fd93ULL + i.boot;
}

static void finding_set(struct finding *f, enum evidence e, const char *at, const char *fmt, ...) printf_like(4, 5);
/* at: the host that it is about. */
static void finding_set(struct finding *f, enum evidence e, const char *at, const char *fmt, ...)
{
	va_list ap;
	if (e >= f->evidence)
		return; /* what is worse has been found already */
	f->evidence = e;
	sniprintf(f->at, sizeof(f->at), "%s", at);
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

static void finding_silent(struct finding *f, enum evidence e, const char *host, const char *what, const char *via)
{
	f->silent_digest += fnv1a(FNV1A_START, host, strlen(host)); /* a sum, for answers come in any order */
	if (!f->silent++)
		sniprintf(f->first, sizeof(f->first), "%s", host);
	finding_set(f, e, host, "%s %s%s%s%s", host, what, via ? " (asked by " : "", via ? via : "", via ? ")" : "");
}

/*
 * It was sent to this incarnation: has it ended there? Who says so, or sent it on to one who does; or it came to the
 * asker, who has it no more or holds an image that does not run. A ring of "moved" proves nothing: the answers are of
 * different moments.
 */
static bool has_ended_at(const struct round *r, struct incarnation where)
{
	for (unsigned hops = 0; hops <= r->n; hops++) {
		const struct question *k = NULL;
		if (where.host == r->q->asker.host || where.host == migrate_this_host()->inc.host)
			return true;
		for (unsigned i = 0; i < r->n && !k; i++)
			if (r->v[i].answered && incarnation_equal(r->v[i].inc, where))
				k = &r->v[i];
		if (!k || k->a.have != HAVE_MOVED)
			return k && k->a.have == HAVE_NOTHING;
		where = k->a.where;
	}
	return false;
}

static void judge_answer(const struct round *r, const struct question *k, struct finding *f)
{
	const struct have_answer *a = &k->a;
	const char *vm = r->q->name, *host = a->host[0] ? a->host : k->name;
	bool other = strcmp(a->name, vm);
	char when[16];
	f->digest += mix(k->inc) + a->digest;
	switch (a->have) {
	case HAVE_STARTED: finding_set(f, EVIDENCE_STARTED, host, "%s was started, says %s", vm, host); break;
	case HAVE_HERE:
		finding_set(f, EVIDENCE_HERE, host, "%s is at %s%s%s%s", vm, host, other ? " (its MAC, with " : "",
			    other ? a->name : "", other ? ")" : "");
		break;
	case HAVE_MOVED:
		if (has_ended_at(r, a->where))
			break;
		departed_when(&(struct departure){ .when_s = a->when_s }, when);
		if (f->evidence > EVIDENCE_MOVED)
			f->where = a->where;
		finding_set(f, EVIDENCE_MOVED, host, "%s moved from %s to %s%s, and %s does not say what became of it",
			    vm, k->name, host, when, host);
		break;
	case HAVE_NOTHING:
	case HAVE_END: break;
	}
	if (a->silent)
		finding_silent(f, EVIDENCE_SILENT, a->silent_host, "does not answer", k->name);
}

static void judge(struct round *r, struct finding *f)
{
	const struct migrate_host *me = migrate_this_host();
	*f = (struct finding){ .evidence = EVIDENCE_ONCE };
	for (unsigned i = 0; i < r->n; i++) {
		const struct question *k = &r->v[i];
		if (k->self)
			continue;
		if (k->answered)
			judge_answer(r, k, f);
		else
			finding_silent(f, k->alive ? EVIDENCE_ALIVE : EVIDENCE_SILENT, k->name,
				       k->other_release ? "runs a release of tern that does not fit this one"
				       : k->alive       ? "is there, but gives no answer"
							: "does not answer",
				       NULL);
	}
	if (r->own && !has_ended_at(r, r->own->where)) {
		if (f->evidence > EVIDENCE_MOVED)
			f->where = r->own->where;
		finding_set(f, EVIDENCE_MOVED, r->own->host,
			    "%s moved from here to %s, and %s does not say what became of it", r->q->name, r->own->host,
			    r->own->host);
	}
	if (r->shout.heard)
		finding_set(f, EVIDENCE_HERE, r->shout.host, "%s is at %s, heard on its network", r->q->name,
			    r->shout.host);
	char text[128];
	if (me->address_conflict && me->address_conflict(text, sizeof(text)))
		finding_set(f, EVIDENCE_CONFLICT, me->name, "%s", text);
	if (has_twin(me))
		finding_set(f, EVIDENCE_CONFLICT, me->name, "another host calls itself %s as well", me->name);
}

struct who elsewhere_question(const struct vm_config *cfg, uint32_t flags)
{
	struct who q = { .flags = flags, .asker = migrate_this_host()->inc };
	memcpy(q.name, cfg->name, sizeof(q.name));
	memcpy(q.mac, cfg->mac, sizeof(q.mac));
	memcpy(q.uuid, cfg->uuid, sizeof(q.uuid));
	return q;
}

void elsewhere_round(const struct who *q, uint32_t extra, uint64_t end_ns, struct finding *f)
{
	const struct migrate_host *me = migrate_this_host();
	struct round *r = calloc(1, sizeof(*r));
	if (!r) {
		*f = (struct finding){ .evidence = EVIDENCES };
		finding_silent(f, EVIDENCE_ALIVE, me->name, "has no memory to ask its peers with", NULL);
		return;
	}
	r->q = q;
	r->end_ns = end_ns;
	for (unsigned i = 0; i < me->npeers; i++)
		question_add(r, me->peers[i].name, me->peers[i].ip);
	struct departure d;
	if (incarnation_equal(q->asker, me->inc) && !q->id.number && departed_match(q, &d)) {
		r->own = &d;
		question_add(r, d.host, d.ip); /* who may be no peer */
	}
	if (extra)
		question_add(r, ip4_text(extra).s, extra);
	round_run(r);
	judge(r, f);
	free(r);
}

bool elsewhere_alike(const struct finding *first, const struct finding *second)
{
	return first->evidence == second->evidence && first->digest == second->digest &&
	       first->silent == second->silent && first->silent_digest == second->silent_digest;
}

bool elsewhere_twice(const struct finding *first, const struct finding *second)
{
	return second->evidence == EVIDENCE_ONCE && elsewhere_alike(first, second);
}

/* ---- answering ---- */

/* Ask our own peers for who asked us, who may not know them. */
static void relay(const struct who *asked, struct have_answer *a)
{
	struct finding f;
	struct who q = *asked;
	q.flags &= ~(uint32_t)WHO_RELAY;
	elsewhere_round(&q, 0, time_ns() + RELAY_NS, &f);
	a->digest = f.digest;
	a->silent = f.silent;
	memcpy(a->silent_host, f.first, sizeof(a->silent_host));
	if (f.evidence == EVIDENCE_CONFLICT) { /* what is wrong with this host hides what its peers would say */
		a->silent++;
		memcpy(a->silent_host, migrate_this_host()->name, sizeof(a->silent_host));
	}
	if (f.evidence == EVIDENCE_STARTED) {
		a->have = HAVE_STARTED;
	} else if (f.evidence == EVIDENCE_HERE) {
		a->have = HAVE_HERE;
		memcpy(a->name, q.name, sizeof(a->name));
		sniprintf(a->host, sizeof(a->host), "%s", f.at);
	} else if (f.evidence == EVIDENCE_MOVED && a->have == HAVE_NOTHING) {
		a->have = HAVE_MOVED;
		sniprintf(a->host, sizeof(a->host), "%s", f.at);
		a->where = f.where;
	}
}

/* Each asks up to 32 hosts: a few at once, or they would take the connections that questions need. */
static void relay_if_free(const struct who *q, struct have_answer *a)
{
	struct migrate_host *me = migrate_this_host();
	if (__atomic_add_fetch(&me->relaying, 1, __ATOMIC_SEQ_CST) <= RELAYS_MAX) {
		relay(q, a);
	} else { /* it will ask again */
		a->silent = 1;
		memcpy(a->silent_host, me->name, sizeof(a->silent_host));
	}
	__atomic_sub_fetch(&me->relaying, 1, __ATOMIC_SEQ_CST);
}

void elsewhere_answer(struct wire_tx *tx, struct wire_rx *rx)
{
	static const char *const said[] = {
		[HAVE_NOTHING] = "not here",
		[HAVE_HERE] = "it is here",
		[HAVE_MOVED] = "it has moved",
		[HAVE_STARTED] = "its attempt was started",
	};
	struct have_answer a;
	struct who q;
	if (!who_parse(rx, &q))
		return;
	elsewhere_local(&q, &a);
	log_debug("%s asks for %s: %s", rx->s->peer, q.name, said[a.have]);
	if (q.flags & WHO_RELAY && a.have != HAVE_HERE && a.have != HAVE_STARTED)
		relay_if_free(&q, &a);
	if (have_send(tx, &a, time_ns() + ANSWER_NS))
		log_debug("the answer to %s is lost: it will ask again", rx->s->peer);
}

/* ---- before a VM starts ---- */

/* -ECANCELED: the operator has started it meanwhile (`vm start --force`); there is nothing to tell. */
static int decide(struct vm *vm, struct why *w)
{
	if (vm_lease(vm, VM_LEASE_ASKING, VM_LEASE_TAKEN))
		return 0;
	if (__atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST) != VM_LEASE_YIELDED)
		return -ECANCELED;
	return why_set(w, -EEXIST, "a host that comes before this one is about to start it");
}

/*
 * Silence counts as death only if nothing else has changed since the round before: a VM may have come to who was asked
 * first.
 */
static enum start_policy policy_now(enum start_policy p, uint64_t patience_ns, bool alike)
{
	return p == START_ALONE && alike && time_ns() >= patience_ns ? START_ALONE_DUE : p;
}

static void show_waiting(struct vm *vm, const struct finding *f)
{
	if (f && !vm->waits_for[0])
		log_warn("vm %s: not started yet: %s. This host goes on asking; `vm start %s --force` starts it "
			 "without an answer",
			 vm->cfg.name, f->text, vm->cfg.name);
	sniprintf(vm->waits_for, sizeof(vm->waits_for), "%s", f ? f->text : "");
}

int migrate_elsewhere(struct vm *vm, enum start_policy policy, uint64_t patience_ns, struct why *w)
{
	const struct vm_config *cfg = &vm->cfg;
	struct finding f, before = { .evidence = EVIDENCES };
	struct who q = elsewhere_question(cfg, WHO_STARTING | WHO_RELAY);
	int err = 0;
	unsigned again = 0;
	const struct migrate_host *me = migrate_this_host();
	/* Else there is nobody to ask. */
	if (me->settle_address && (me->npeers || departed_get(cfg->name, 0, NULL) || policy != START_OPERATOR))
		me->settle_address();
	for (bool over = false; !over; before = f) {
		elsewhere_round(&q, 0, time_ns() + ROUND_NS, &f);
		enum evidence e = elsewhere_twice(&before, &f) ? EVIDENCE_NOTHING : f.evidence;
		if (e == EVIDENCE_ONCE && again++ == AGAIN_MAX) {
			e = EVIDENCE_ALIVE;
			sniprintf(f.text, sizeof(f.text), "other hosts answer differently each time");
			again = 0;
		}
		enum rule_action act =
			(enum rule_action)start_rules[e][policy_now(policy, patience_ns, elsewhere_alike(&before, &f))];
		over = true;
		if (__atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST) != VM_LEASE_ASKING) {
			over = policy == START_OPERATOR || !vm_lease(vm, VM_LEASE_YIELDED, VM_LEASE_ASKING);
			err = over ? decide(vm, w) : 0;
			if (!over) /* the one that came first may fail: then it is our turn */
				task_sleep_until(time_ns() + MIGRATE_ASK_AGAIN_NS);
		} else if (act == ACT_GO) {
			if (e != EVIDENCE_NOTHING)
				log_warn("vm %s: starts, though %s", cfg->name, f.text);
			err = decide(vm, w);
		} else if (act == ACT_AGAIN) {
			over = false;
		} else if (act == ACT_WAIT) {
			show_waiting(vm, &f);
			task_sleep_until(time_ns() + MIGRATE_ASK_AGAIN_NS);
			over = false;
		} else {
			err = why_set(w, act == ACT_TELL ? -EAGAIN : -EEXIST,
				      "%s. Two running copies share one MAC and ruin each other's data", f.text);
		}
	}
	if (err == -EEXIST && policy != START_OPERATOR)
		sniprintf(vm->waits_for, sizeof(vm->waits_for), "%s",
			  f.text); /* `vm list` goes on saying where it is */
	else
		show_waiting(vm, NULL);
	return err;
}
