/* SPDX-License-Identifier: BSD-2-Clause */
/* Records of attempts (attempts.h). What each event does is in rules.c. */
#include "vmm/migrate/attempts.h"
#include "kernel/page.h"
#include "vmm/migrate/this_host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARE       1024  /* of the host's memory, which records may take */
#define RECORDS_MAX 16384 /* and no more than this: each is looked for one by one */
#define SEEN_MAX \
	4096 /* the oldest is forgotten: it guards against a repeated OFFER alone, which finds its record as a rule */

struct record {
	struct list node;
	struct decision d;
};
/* The newest attempt of a source to move a VM here: a repeated, older OFFER is none. */
struct seen {
	struct list node;
	struct attempt_id newest;
};

static struct migrate_host *lock_records(void)
{
	struct migrate_host *h = migrate_this_host();
	spin_lock(&h->records_lock);
	return h;
}
static void unlock_records(struct migrate_host *h) { spin_unlock(&h->records_lock); }

/* ---- all of these hold the lock ---- */

static struct record *find(struct migrate_host *h, const struct attempt_id *id)
{
	list_for_each(r, &h->records, struct record, node)
		if (attempt_id_equal(&r->d.id, id))
			return r;
	return NULL;
}

static uint64_t most(void)
{
	return MIN(page_total_count() * PAGE_SIZE / SHARE / sizeof(struct record), (uint64_t)RECORDS_MAX);
}

/* Half of it is kept for attempts to move a VM to this host: what others tell it cannot keep VMs from coming. */
static bool is_room(const struct migrate_host *h, bool told) { return h->nrecords < (told ? most() / 2 : most()); }

/* One broken source cannot keep the VMs of all others from coming. */
static bool has_share(const struct migrate_host *h, struct ip source)
{
	uint64_t n = 0;
	list_for_each(r, &h->records, struct record, node)
		n += ip_same(r->d.source, source);
	return n < most() / 2;
}

/*
 * Apply the rule. `fresh` becomes the record if there was none and now is one; it is freed by the caller if not taken.
 */
static enum rule_action apply(struct migrate_host *h, const struct attempt_id *id, enum record_event ev,
			      struct record **fresh, struct record **gone)
{
	struct record *r = find(h, id);
	const struct rule *rule = &record_rules[r ? r->d.state : RECORD_NONE][ev];
	if (!r && rule->next != RECORD_NONE) {
		BUG_ON(!fresh || !*fresh);
		r = *fresh;
		*fresh = NULL;
		list_insert(&h->records, &r->node);
		h->nrecords++;
	}
	if (!r)
		return (enum rule_action)rule->action;
	r->d.state = (enum record_state)rule->next;
	if (rule->next == RECORD_NONE) {
		list_remove(&r->node);
		h->nrecords--;
		*gone = r;
	}
	return (enum rule_action)rule->action;
}

/* Remember that id is the newest of its source and VM: false if it is not. `fresh` as above. The lock is held. */
static bool see(struct migrate_host *h, const struct attempt_id *id, struct seen **fresh)
{
	list_for_each(s, &h->seen, struct seen, node) {
		if (s->newest.source.host != id->source.host || memcmp(s->newest.uuid, id->uuid, sizeof(id->uuid)))
			continue;
		if (s->newest.source.boot == id->source.boot && id->number <= s->newest.number)
			return false;
		s->newest = *id; /* an older boot of that host can offer nothing any more */
		return true;
	}
	struct seen *s = *fresh;
	if (h->nseen == SEEN_MAX) { /* reuse the oldest */
		s = list_entry(h->seen.prev, struct seen, node);
		list_remove(&s->node);
	} else {
		h->nseen++;
		*fresh = NULL;
	}
	s->newest = *id;
	list_insert(&h->seen, &s->node);
	return true;
}

/* ---- events ---- */

enum rule_action attempt_event(const struct attempt_id *id, enum record_event ev)
{
	struct record *gone = NULL;
	BUG_ON(ev == RECORD_EV_OFFER || ev == RECORD_EV_TOLD_STARTED || ev == RECORD_EV_TOLD_NEVER);
	struct migrate_host *h = lock_records();
	enum rule_action act = apply(h, id, ev, NULL, &gone);
	unlock_records(h);
	free(gone);
	return act;
}

static struct record *record_new(const struct attempt_id *id, const char *vm, struct ip source)
{
	struct record *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	list_init(&r->node);
	r->d.id = *id;
	r->d.by = migrate_this_host()->inc;
	sniprintf(r->d.vm, sizeof(r->d.vm), "%s", vm);
	r->d.source = source;
	return r;
}

int attempt_offer(const struct attempt_id *id, const char *vm, struct ip source)
{
	struct record *r = record_new(id, vm, source), *gone = NULL;
	struct seen *s = calloc(1, sizeof(*s));
	int err = -ENOSPC;
	if (!r || !s)
		goto out;
	list_init(&s->node);
	struct migrate_host *h = lock_records();
	if (is_room(h, false) && has_share(h, source)) {
		bool taken = !find(h, id) && see(h, id, &s) && apply(h, id, RECORD_EV_OFFER, &r, &gone) == ACT_ACCEPT;
		err = taken ? 0 : -EALREADY;
	}
	unlock_records(h);
out: /* what the tables did not take */
	free(s);
	free(r);
	return err;
}

int attempt_ready(const struct attempt_id *id)
{
	return attempt_event(id, RECORD_EV_READY) == ACT_SAY_READY ? 0 : -ECANCELED;
}

int attempt_commit(const struct attempt_id *id)
{
	return attempt_event(id, RECORD_EV_COMMIT) == ACT_START ? 0 : -ECANCELED;
}

int attempt_claim(const struct attempt_id *id)
{
	return attempt_event(id, RECORD_EV_COMMIT_UNIT) == ACT_CLAIM ? 0 : -ECANCELED;
}

enum record_state attempt_give_up(const struct attempt_id *id)
{
	attempt_event(id, RECORD_EV_GIVE_UP);
	return attempt_find(id, NULL);
}

int attempt_told(const struct decision *d)
{
	enum record_event ev = d->state == RECORD_STARTED ? RECORD_EV_TOLD_STARTED : RECORD_EV_TOLD_NEVER;
	struct record *r = record_new(&d->id, d->vm, d->source), *gone = NULL;
	if (!r)
		return -ENOSPC;
	r->d.by = d->by;
	struct migrate_host *h = lock_records();
	int err = !find(h, &d->id) && !is_room(h, true) ? -ENOSPC : 0;
	if (!err && apply(h, &d->id, ev, &r, &gone) == ACT_REFUSE)
		err = -EPROTO;
	unlock_records(h);
	free(r);
	return err;
}

/* ---- looking ---- */

enum record_state attempt_find(const struct attempt_id *id, struct decision *d)
{
	struct migrate_host *h = lock_records();
	const struct record *r = find(h, id);
	enum record_state s = r ? r->d.state : RECORD_NONE;
	if (r && d)
		*d = r->d;
	unlock_records(h);
	return s;
}

bool attempt_find_open(const uint8_t uuid[16], struct attempt_id *id)
{
	bool found = false;
	struct migrate_host *h = lock_records();
	list_for_each(r, &h->records, struct record, node) {
		if ((r->d.state == RECORD_RECEIVING || r->d.state == RECORD_READY) && !memcmp(r->d.id.uuid, uuid, 16)) {
			*id = r->d.id;
			found = true;
		}
	}
	unlock_records(h);
	return found;
}

static bool is_decided(const struct record *r) { return r->d.state == RECORD_STARTED || r->d.state == RECORD_NEVER; }

bool attempt_get(unsigned i, struct decision *d)
{
	bool found = false;
	struct migrate_host *h = lock_records();
	list_for_each(r, &h->records, struct record, node) {
		if (!is_decided(r) || i--)
			continue;
		*d = r->d;
		found = true;
		break;
	}
	unlock_records(h);
	return found;
}

int attempt_list(struct decision **list, unsigned *n)
{
	unsigned room;
	*list = NULL;
	do { /* again if more came than there is room for: their number is limited */
		free(*list);
		room = __atomic_load_n(&migrate_this_host()->nrecords, __ATOMIC_RELAXED) + 8;
		*list = calloc(room, sizeof(**list));
		if (!*list)
			return err_trace(-ENOMEM);
		*n = 0;
		struct migrate_host *h = lock_records();
		list_for_each(r, &h->records, struct record, node)
			if (is_decided(r) && (*n)++ < room)
				(*list)[*n - 1] = r->d;
		unlock_records(h);
	} while (*n > room);
	return 0;
}

struct attempt_id attempt_new_id(const uint8_t uuid[16])
{
	struct migrate_host *h = migrate_this_host();
	struct attempt_id id = { .source = h->inc, .number = __atomic_add_fetch(&h->last_number, 1, __ATOMIC_SEQ_CST) };
	memcpy(id.uuid, uuid, sizeof(id.uuid));
	return id;
}
