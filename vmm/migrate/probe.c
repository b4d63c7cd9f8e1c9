/* SPDX-License-Identifier: BSD-2-Clause */
/* Who has a VM: asking all peers, and judging what they say (probe.h). */
#include "vmm/migrate/probe.h"
#include "kernel/base/hash.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/ask.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/shout.h"
#include "vmm/migrate/this_host.h"
#include "kernel/ip.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TWIN_NS (20 * NS_PER_SEC) /* after its last greeting, a host of our name counts as gone */

void probe_greeted(const struct hello *h, const char *addr)
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
	struct ask ask;
	struct round *r;
	char name[HOST_NAME_MAX];
	bool self, answered;
	struct have_answer a;
};
struct round {
	struct ask_group group;
	struct who q;
	uint64_t end_ns;
	struct shout shout;
	const struct vm_waiter *waiter; /* the asker's alone, as the next one */
	const struct departure *own;    /* what this host itself remembers, NULL: nothing */
	unsigned n;
	struct question v[NET_PEERS_MAX + 2];
};
static struct question *question_of(struct ask *q) { return CONTAINER_OF(q, struct question, ask); }

static int question_put(struct ask *ask)
{
	struct question *k = question_of(ask);
	const struct who *q = &k->r->q;
	probe_greeted(&ask->peer, ip_text(ask->ip).s);
	k->self = incarnation_equal(ask->peer.inc, migrate_this_host()->inc) ||
		  incarnation_equal(ask->peer.inc, q->asker);
	return k->self ? ASK_ENOUGH : who_send(&ask->tx, q, ask->end_ns);
}

static void question_take(struct ask *ask)
{
	struct question *k = question_of(ask);
	k->answered = ask->rx.type == WIRE_HAVE && have_parse(&ask->rx, &k->a);
}

static void question_add(struct round *r, const char *name, struct ip ip)
{
	const struct migrate_host *me = migrate_this_host();
	for (unsigned i = 0; i < r->n; i++)
		if (ip_same(r->v[i].ask.ip, ip))
			return;
	if (me->is_own && me->is_own(ip))
		return; /* one list of peers in the files of all hosts */
	struct question *k = &r->v[r->n++];
	k->r = r;
	k->ask = (struct ask){ .end_ns = r->end_ns, .put = question_put, .take = question_take };
	sniprintf(k->name, sizeof(k->name), "%s", name);
	k->ask.ip = ip;
}

/* "b, c": another name in a list, unless it is there; false: no room. */
static bool list_add(char *list, size_t size, const char *name)
{
	size_t n = strlen(list), len = strlen(name);
	if (!len)
		return false;
	for (const char *p = list; (p = strstr(p, name)); p += len)
		if ((p == list || p[-1] == ' ') && (!p[len] || p[len] == ','))
			return true;
	if (n + len + 3 > size)
		return false;
	sniprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
	return true;
}

static bool round_left(void *arg)
{
	const struct round *r = arg;
	uint64_t now = time_ns();
	char silent[96] = "", text[128];
	for (unsigned i = 0; i < r->n; i++)
		if (!__atomic_load_n(&r->v[i].ask.ended, __ATOMIC_SEQ_CST) &&
		    !list_add(silent, sizeof(silent), r->v[i].name))
			break;
	sniprintf(text, sizeof(text), "asks %s, %lu s", silent,
		  r->end_ns > now ? (r->end_ns - now + NS_PER_SEC - 1) / NS_PER_SEC : 0);
	return r->waiter->leaves(r->waiter->arg, text);
}

/* All at once; false: who waits for it has left. */
static bool round_run(struct round *r)
{
	ask_group_init(&r->group);
	shout_begin(&r->shout, &r->q);
	for (unsigned i = 0; i < r->n; i++)
		ask_start(&r->group, &r->v[i].ask);
	bool all = ask_wait(&r->group, r->waiter ? round_left : NULL, r);
	shout_end(&r->shout);
	return all;
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
	f->unnamed += !list_add(f->names, sizeof(f->names), host);
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
		if (where.host == r->q.asker.host || where.host == migrate_this_host()->inc.host)
			return true;
		for (unsigned i = 0; i < r->n && !k; i++)
			if (r->v[i].answered && incarnation_equal(r->v[i].ask.peer.inc, where))
				k = &r->v[i];
		if (!k || k->a.have != HAVE_MOVED)
			return k && k->a.have == HAVE_NOTHING;
		where = k->a.where;
	}
	return false;
}

/* One host's answer, and what it has heard from its own peers. What is worse than all before becomes the finding. */
static void judge_answer(const struct round *r, const struct question *k, struct finding *f)
{
	const struct have_answer *a = &k->a;
	const char *vm = r->q.name, *host = a->host[0] ? a->host : k->name;
	bool other = strcmp(a->name, vm);
	char when[16];
	f->digest += mix(k->ask.peer.inc) + a->digest;
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

static const char *no_answer(const struct ask *q)
{
	switch (q->err) {
	case -ENOTSUP: return "runs a release of tern that does not fit this one";
	case -EACCES: return "has another key than this host, or none for it";
	case -EINVAL: return "could not be asked: this host has no key for it";
	case -EPERM: return "could not be asked: no network for migrations leads to it";
	case -ENETUNREACH: return "could not be asked: no way leads to it";
	case -ENETDOWN: return "could not be asked: this host's own network is not up";
	case -ENOMEM: return "could not be asked: this host lacks memory";
	default: return q->alive ? "is there, but gives no answer" : "does not answer";
	}
}

/* All of them, and what this host knows by other means. */
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
			finding_silent(f, k->ask.alive ? EVIDENCE_ALIVE : EVIDENCE_SILENT, k->name, no_answer(&k->ask),
				       NULL);
	}
	if (me->lost_peer && me->lost_peer[0])
		finding_silent(f, EVIDENCE_ALIVE, me->lost_peer,
			       "could not be asked: its section of tern.conf is wrong", NULL);
	if (r->own && !has_ended_at(r, r->own->where)) {
		if (f->evidence > EVIDENCE_MOVED)
			f->where = r->own->where;
		finding_set(f, EVIDENCE_MOVED, r->own->host,
			    "%s moved from here to %s, and %s does not say what became of it", r->q.name, r->own->host,
			    r->own->host);
	}
	if (r->shout.heard)
		finding_set(f, EVIDENCE_HERE, r->shout.host, "%s is at %s, heard on its network", r->q.name,
			    r->shout.host);
	if (f->evidence == EVIDENCE_SILENT && strchr(f->names, ','))
		sniprintf(f->text, sizeof(f->text), "%s%s do not answer", f->names, f->unnamed ? " and others" : "");
	char text[128];
	if (me->address_conflict && me->address_conflict(text, sizeof(text)))
		finding_set(f, EVIDENCE_CONFLICT, me->name, "%s", text);
	if (has_twin(me))
		finding_set(f, EVIDENCE_CONFLICT, me->name, "another host calls itself %s as well", me->name);
}

struct who probe_question(const struct vm_config *cfg, uint32_t flags)
{
	struct who q = { .flags = flags, .asker = migrate_this_host()->inc };
	memcpy(q.name, cfg->name, sizeof(q.name));
	memcpy(q.mac, cfg->mac[0], sizeof(q.mac));
	memcpy(q.uuid, cfg->uuid, sizeof(q.uuid));
	return q;
}

int probe_round(const struct who *q, struct ip extra, struct ip but, uint64_t end_ns, const struct vm_waiter *waiter,
		struct finding *f)
{
	const struct migrate_host *me = migrate_this_host();
	struct round *r = calloc(1, sizeof(*r));
	if (!r) {
		*f = (struct finding){ .evidence = EVIDENCES };
		finding_silent(f, EVIDENCE_ALIVE, me->name, "has no memory to ask its peers with", NULL);
		return 0;
	}
	r->q = *q;
	r->end_ns = end_ns;
	r->waiter = waiter;
	for (unsigned i = 0; i < me->npeers; i++)
		if (!ip_same(me->peers[i].ip, but))
			question_add(r, me->peers[i].name, me->peers[i].ip);
	struct departure d;
	if (incarnation_equal(q->asker, me->inc) && !q->id.number && departed_match(q, &d)) {
		r->own = &d;
		question_add(r, d.host, d.ip); /* who may be no peer */
	}
	if (!ip_is_none(extra))
		question_add(r, ip_text(extra).s, extra);
	bool all = round_run(r);
	if (all)
		judge(r, f);
	ask_group_put(&r->group);
	return all ? 0 : -EINTR;
}

bool probe_alike(const struct finding *first, const struct finding *second)
{
	return first->evidence == second->evidence && first->digest == second->digest &&
	       first->silent == second->silent && first->silent_digest == second->silent_digest;
}

bool probe_twice(const struct finding *first, const struct finding *second)
{
	return second->evidence == EVIDENCE_ONCE && probe_alike(first, second);
}
