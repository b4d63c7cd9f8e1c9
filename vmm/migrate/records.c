/* SPDX-License-Identifier: BSD-2-Clause */
/* Bodies of the setup and hand-over records (records.h, doc/wire.md). */
#include "vmm/migrate/disks.h"
#include "vmm/migrate/records.h"
#include "vmm/migrate/this_host.h"
#include <stdlib.h>
#include <string.h>

bool attempt_id_equal(const struct attempt_id *a, const struct attempt_id *b)
{
	return a->number == b->number && incarnation_equal(a->source, b->source) &&
	       !memcmp(a->uuid, b->uuid, sizeof(a->uuid));
}

static void id_bytes(uint8_t p[WIRE_ID_LEN], const struct attempt_id *id)
{
	memcpy(p, id->uuid, 16);
	put_le64(p + 16, id->source.host);
	put_le64(p + 24, id->source.boot);
	put_le64(p + 32, id->number);
}

uint64_t attempt_key(const struct attempt_id *id)
{
	uint8_t p[WIRE_ID_LEN];
	id_bytes(p, id);
	return wire_key(p, sizeof(p));
}

static void inc_put(struct wire_tx *tx, struct incarnation i)
{
	wire_put_u64(tx, i.host);
	wire_put_u64(tx, i.boot);
}

static struct incarnation inc_get(struct wire_rx *rx)
{
	uint64_t host = wire_get_u64(rx);
	return (struct incarnation){ host, wire_get_u64(rx) };
}

static void id_put(struct wire_tx *tx, const struct attempt_id *id) { id_bytes(wire_put_space(tx, WIRE_ID_LEN), id); }

void id_get(struct wire_rx *rx, struct attempt_id *id)
{
	const uint8_t *uuid = wire_get_bytes(rx, sizeof(id->uuid));
	memset(id, 0, sizeof(*id));
	if (uuid)
		memcpy(id->uuid, uuid, sizeof(id->uuid));
	id->source = inc_get(rx);
	id->number = wire_get_u64(rx);
}

static int malformed(const struct wire_rx *rx, struct why *w)
{
	return why_set(w, -EPROTO, "the peer sent a malformed %s record", wire_type_name(rx->type));
}

/* ---- HELLO ---- */

int hello_send(struct wire_tx *tx, uint64_t deadline_ns)
{
	const struct migrate_host *me = migrate_this_host();
	wire_begin(tx, WIRE_HELLO);
	wire_put_u64(tx, WIRE_MAGIC);
	wire_put_u32(tx, WIRE_VERSION_MIN);
	wire_put_u32(tx, WIRE_VERSION);
	wire_put_u64(tx, HELLO_FEATURES);
	wire_put_u32(tx, WIRE_RECORD_MAX);
	wire_put_str(tx, me->name, HOST_NAME_MAX);
	int err = wire_end(tx, deadline_ns);
	if (err)
		return err;
	wire_begin(tx, WIRE_IDENT);
	inc_put(tx, me->inc);
	return wire_end(tx, deadline_ns);
}

static bool name_ok(const char *s) { return conf_is_word(s, strlen(s)); }

int hello_recv(struct wire_rx *rx, struct hello *h, uint64_t deadline_ns, struct why *w)
{
	int err = wire_recv(rx, deadline_ns, NS_PER_SEC, w);
	if (err)
		return err;
	if (rx->type != WIRE_HELLO || wire_get_u64(rx) != WIRE_MAGIC)
		return why_set(w, -EPROTO, "what answers there is not tern's migration service");
	h->version_min = wire_get_u32(rx);
	h->version_max = wire_get_u32(rx);
	h->features = wire_get_u64(rx);
	h->max_record = wire_get_u32(rx);
	wire_get_str(rx, h->host, sizeof(h->host));
	if (!wire_get_end(rx) || !name_ok(h->host))
		return malformed(rx, w);
	err = hello_check(h, w);
	if (!err)
		err = wire_recv(rx, deadline_ns, NS_PER_SEC, w);
	if (err)
		return err;
	if (rx->type != WIRE_IDENT)
		return why_set(w, -EPROTO, "%s does not say who it is", h->host);
	h->inc = inc_get(rx);
	return wire_get_end(rx) && h->inc.host && h->inc.boot ? 0 : malformed(rx, w);
}

int hello_check(const struct hello *h, struct why *w)
{
	if (h->version_min > WIRE_VERSION || h->version_max < WIRE_VERSION_MIN || h->version_min > h->version_max)
		return why_set(w, -ENOTSUP,
			       "no common protocol version: %s speaks %u to %u, this host %d to %d. Put the same "
			       "release on both "
			       "(CHANGELOG.md says which fit)",
			       h->host, h->version_min, h->version_max, WIRE_VERSION_MIN, WIRE_VERSION);
	if (h->features >> 32 & ~(HELLO_FEATURES >> 32))
		return why_set(w, -ENOTSUP, "%s needs protocol features (%lx) that this host does not have", h->host,
			       h->features >> 32 & ~(HELLO_FEATURES >> 32));
	if (!(h->features & HELLO_0_6))
		return why_set(w, -ENOTSUP,
			       "%s has a release before 0.6, this host speaks with at least 0.6 (CHANGELOG.md)",
			       h->host);
	if (h->max_record < WIRE_RECORD_MAX)
		return why_set(w, -ENOTSUP, "%s takes records of %u bytes at most, this host sends up to %d", h->host,
			       h->max_record, WIRE_RECORD_MAX);
	return 0;
}

int hello_exchange(struct wire_tx *tx, struct wire_rx *rx, struct hello *h, uint64_t deadline_ns, struct why *w)
{
	int sent = hello_send(tx, deadline_ns);
	if (sent && sent != -EPIPE)
		return sent;
	int err = hello_recv(rx, h, deadline_ns, w); /* who has closed already has said in it why, as a rule */
	return err ? err : sent;
}

/* ---- OFFER ---- */

int offer_send(struct wire_tx *tx, const struct offer *o, uint64_t deadline_ns)
{
	const struct vm_config *c = &o->cfg;
	const struct vm_compat *k = &o->compat;

	wire_begin(tx, WIRE_OFFER);
	id_put(tx, &o->id);
	wire_put_u64(tx, c->mem);
	wire_put_u32(tx, c->vcpus);
	wire_put_u32(tx, PAGE_SIZE);
	wire_put_u32(tx, k->n);
	wire_put_bytes(tx, c->mac[0], sizeof(c->mac[0]));
	wire_put_str(tx, c->name, sizeof(c->name));
	wire_put_str(tx, c->cpu, sizeof(c->cpu));
	for (uint32_t i = 0; i < k->n; i++) {
		wire_put_u32(tx, k->leaf[i]);
		wire_put_u32(tx, k->sub[i]);
		for (unsigned r = 0; r < 4; r++)
			wire_put_u32(tx, k->regs[i][r]);
	}
	bool plain = c->nnics == 1 && !c->net[0][0] && c->mtu[0] == ETH_DATA_MAX && !c->ndisks;
	for (uint32_t i = 0; i < c->nnics && !plain; i++) {
		wire_put_str(tx, c->net[i], sizeof(c->net[i]));
		wire_put_u32(tx, c->mtu[i]);
		wire_put_bytes(tx, c->mac[i], sizeof(c->mac[i]));
	}
	if (c->ndisks)
		disks_offer(tx, c);
	return wire_end(tx, deadline_ns);
}

/* What follows: each card, but for the only one of a VM that is on no network by name; and disks. */
static bool nics_get(struct wire_rx *rx, struct vm_config *c)
{
	c->nnics = 1;
	c->mtu[0] = ETH_DATA_MAX;
	for (uint32_t i = 0; rx->pos != rx->len && !rx->bad; i++) {
		char net[CONF_NAME_MAX];
		wire_get_str(rx, net, sizeof(net));
		if (i && !net[0])
			return disks_offer_get(rx, c);
		if (i == VM_NICS_MAX)
			return false;
		memcpy(c->net[i], net, sizeof(net));
		c->mtu[i] = wire_get_u32(rx);
		const uint8_t *mac = wire_get_bytes(rx, sizeof(c->mac[i]));
		if (!mac || (!i && memcmp(mac, c->mac[0], sizeof(c->mac[0]))))
			return false;
		memcpy(c->mac[i], mac, sizeof(c->mac[i]));
		c->nnics = i + 1;
		if (c->net[i][0] && !conf_is_word(c->net[i], strlen(c->net[i])))
			return false;
		if (i && !c->net[0][0]) /* which may be any of the others */
			return false;
		if (c->mtu[i] < VNET_MTU_MIN || c->mtu[i] > ETH_JUMBO_MAX)
			return false;
		for (uint32_t k = 0; k < i; k++)
			if (!memcmp(c->mac[k], mac, sizeof(c->mac[k])) || !strcmp(c->net[k], c->net[i]))
				return false;
	}
	return true;
}

int offer_parse(struct wire_rx *rx, struct offer *o, struct why *w)
{
	struct vm_config *c = &o->cfg;
	struct vm_compat *k = &o->compat;

	memset(o, 0, sizeof(*o));
	id_get(rx, &o->id);
	memcpy(c->uuid, o->id.uuid, sizeof(c->uuid));
	c->mem = wire_get_u64(rx);
	c->vcpus = wire_get_u32(rx);
	uint32_t page_size = wire_get_u32(rx);
	k->n = wire_get_u32(rx);
	const uint8_t *mac = wire_get_bytes(rx, sizeof(c->mac[0]));
	if (mac)
		memcpy(c->mac[0], mac, sizeof(c->mac[0]));
	wire_get_str(rx, c->name, sizeof(c->name));
	wire_get_str(rx, c->cpu, sizeof(c->cpu));
	if (k->n > VM_COMPAT_WORDS)
		return malformed(rx, w);
	for (uint32_t i = 0; i < k->n; i++) {
		k->leaf[i] = wire_get_u32(rx);
		k->sub[i] = wire_get_u32(rx);
		for (unsigned r = 0; r < 4; r++)
			k->regs[i][r] = wire_get_u32(rx);
	}
	if (!nics_get(rx, c) || !wire_get_end(rx) || page_size != PAGE_SIZE || !name_ok(c->name))
		return malformed(rx, w);
	if (!c->mem || c->mem % GMEM_BLOCK || c->mem >> 52)
		return why_set(w, -EINVAL, "memory of %lu bytes is not a multiple of 2 MiB", c->mem);
	return 0;
}

/* ---- short ones ---- */

int id_send(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, uint64_t deadline_ns)
{
	return id_send_more(tx, type, id, NULL, 0, deadline_ns);
}

int id_send_more(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, const uint64_t *v, unsigned n,
		 uint64_t deadline_ns)
{
	wire_begin(tx, type);
	id_put(tx, id);
	for (unsigned i = 0; i < n; i++)
		wire_put_u64(tx, v[i]);
	return wire_end(tx, deadline_ns);
}

int text_send(struct wire_tx *tx, uint32_t type, uint32_t code, const char *text, uint64_t deadline_ns)
{
	wire_begin(tx, type);
	wire_put_u32(tx, code);
	wire_put_str(tx, text, WIRE_TEXT_MAX);
	return wire_end(tx, deadline_ns);
}

int decision_send(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, struct incarnation by,
		  uint64_t deadline_ns)
{
	return id_send_more(tx, type, id, (const uint64_t[]){ by.host, by.boot }, 2, deadline_ns);
}

void decision_get(struct wire_rx *rx, struct attempt_id *id, struct incarnation *by)
{
	id_get(rx, id);
	*by = inc_get(rx);
}

int commit_send(struct wire_tx *tx, const struct attempt_id *id, uint64_t paused_ns, uint64_t key, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_COMMIT);
	id_put(tx, id);
	wire_put_u64(tx, paused_ns);
	if (key)
		wire_put_u64(tx, key);
	return wire_end(tx, deadline_ns);
}

int reach_send(struct wire_tx *tx, const struct reach *q, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_REACH);
	inc_put(tx, q->to);
	wire_put_str(tx, q->net, sizeof(q->net));
	return wire_end(tx, deadline_ns);
}

bool reach_parse(struct wire_rx *rx, struct reach *q)
{
	q->to = inc_get(rx);
	wire_get_str(rx, q->net, sizeof(q->net));
	return wire_get_end(rx) && (!q->net[0] || name_ok(q->net));
}

int reached_send(struct wire_tx *tx, const struct reached *a, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_REACHED);
	wire_put_u32(tx, a->came);
	wire_put_u32(tx, a->size);
	wire_put_u32(tx, a->mtu);
	wire_put_str(tx, a->net, sizeof(a->net));
	return wire_end(tx, deadline_ns);
}

bool reached_parse(struct wire_rx *rx, struct reached *a)
{
	a->came = wire_get_u32(rx);
	a->size = wire_get_u32(rx);
	a->mtu = wire_get_u32(rx);
	wire_get_str(rx, a->net, sizeof(a->net));
	return wire_get_end(rx) && a->came < REACHED_ENDS && name_ok(a->net);
}

int end_send(struct wire_tx *tx, const struct attempt_id *id, const struct end_counts *c, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_END);
	id_put(tx, id);
	wire_put_u32(tx, c->passes);
	wire_put_u32(tx, c->sections);
	wire_put_u32(tx, c->debts);
	wire_put_u64(tx, c->data_pages);
	wire_put_u64(tx, c->zero_pages);
	return wire_end(tx, deadline_ns);
}

int end_parse(struct wire_rx *rx, struct attempt_id *id, struct end_counts *c, struct why *w)
{
	id_get(rx, id);
	c->passes = wire_get_u32(rx);
	c->sections = wire_get_u32(rx);
	c->debts = wire_get_u32(rx);
	c->data_pages = wire_get_u64(rx);
	c->zero_pages = wire_get_u64(rx);
	return wire_get_end(rx) ? 0 : malformed(rx, w);
}

struct differs *differs_parse(struct wire_rx *rx, struct why *w)
{
	struct differs head;
	wire_get_str(rx, head.name, sizeof(head.name));
	head.instance = wire_get_u32(rx);
	head.first = wire_get_u64(rx);
	head.len = rx->bad ? 0 : rx->len - rx->pos;
	const uint8_t *bytes = wire_get_bytes(rx, head.len);
	bool good = head.name[0] ? !head.first && head.len : head.len == WIRE_CHUNK * 8 && !(head.first % WIRE_CHUNK);
	if (!wire_get_end(rx) || !good) {
		malformed(rx, w);
		return NULL;
	}
	struct differs *d = malloc(sizeof(*d) + head.len);
	if (!d) {
		why_set(w, 0, "out of memory");
		return NULL;
	}
	*d = head;
	memcpy(d->bytes, bytes, head.len);
	return d;
}

int pass_send(struct wire_tx *tx, uint32_t pass, uint32_t flags, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_PASS);
	wire_put_u32(tx, pass);
	wire_put_u32(tx, flags);
	return wire_end(tx, deadline_ns);
}

int pass_end_send(struct wire_tx *tx, uint32_t pass, uint64_t data, uint64_t zero, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_PASS_END);
	wire_put_u32(tx, pass);
	wire_put_u64(tx, data);
	wire_put_u64(tx, zero);
	return wire_end(tx, deadline_ns);
}

/* ---- what hosts tell and ask each other beside a migration ---- */

int debt_send(struct wire_tx *tx, uint32_t type, const struct decision *d, uint64_t deadline_ns)
{
	wire_begin(tx, type);
	id_put(tx, &d->id);
	wire_put_u32(tx, d->state == RECORD_STARTED);
	inc_put(tx, d->by);
	wire_put_str(tx, d->vm, sizeof(d->vm));
	uint32_t ip4 = ip_to4(d->source);
	wire_put_bytes(tx, &ip4, sizeof(ip4));
	if (ip_is6(d->source)) /* else the record ends here */
		wire_put_bytes(tx, d->source.b, sizeof(d->source.b));
	return wire_end(tx, deadline_ns);
}

int debt_parse(struct wire_rx *rx, struct decision *d, struct why *w)
{
	id_get(rx, &d->id);
	uint32_t started = wire_get_u32(rx);
	d->state = started ? RECORD_STARTED : RECORD_NEVER;
	d->by = inc_get(rx);
	wire_get_str(rx, d->vm, sizeof(d->vm));
	const uint8_t *source = wire_get_bytes(rx, 4);
	uint32_t ip4 = 0;
	if (source)
		memcpy(&ip4, source, sizeof(ip4));
	d->source = ip_of4(ip4);
	if (source && !ip4 && !wire_get_end(rx) && (source = wire_get_bytes(rx, sizeof(d->source.b))))
		memcpy(d->source.b, source, sizeof(d->source.b));
	bool good = wire_get_end(rx) && started <= 1 && (ip_is_none(d->source) || ip_is_hosts(d->source)) &&
		    name_ok(d->vm) && d->by.host && d->by.boot && d->id.source.host && d->id.source.boot &&
		    d->id.number;
	return good ? 0 : malformed(rx, w);
}

int who_send(struct wire_tx *tx, const struct who *q, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_WHO);
	wire_put_str(tx, q->name, sizeof(q->name));
	wire_put_bytes(tx, q->mac, sizeof(q->mac));
	wire_put_bytes(tx, q->uuid, sizeof(q->uuid));
	wire_put_u32(tx, q->flags);
	inc_put(tx, q->asker);
	id_put(tx, &q->id);
	return wire_end(tx, deadline_ns);
}

bool who_parse(struct wire_rx *rx, struct who *q)
{
	memset(q, 0, sizeof(*q));
	wire_get_str(rx, q->name, sizeof(q->name));
	const uint8_t *mac = wire_get_bytes(rx, sizeof(q->mac)), *uuid = wire_get_bytes(rx, sizeof(q->uuid));
	q->flags = wire_get_u32(rx);
	q->asker = inc_get(rx);
	id_get(rx, &q->id);
	if (!wire_get_end(rx) || !name_ok(q->name) || !q->asker.host || !q->asker.boot ||
	    q->flags & ~(uint32_t)(WHO_STARTING | WHO_RELAY))
		return false;
	memcpy(q->mac, mac, sizeof(q->mac));
	memcpy(q->uuid, uuid, sizeof(q->uuid));
	return true;
}

int have_send(struct wire_tx *tx, const struct have_answer *a, uint64_t deadline_ns)
{
	wire_begin(tx, WIRE_HAVE);
	wire_put_u32(tx, a->have);
	wire_put_str(tx, a->name, sizeof(a->name));
	wire_put_str(tx, a->host, sizeof(a->host));
	inc_put(tx, a->where);
	wire_put_u64(tx, a->when_s);
	wire_put_u32(tx, a->silent);
	wire_put_str(tx, a->silent_host, sizeof(a->silent_host));
	wire_put_u64(tx, a->digest);
	return wire_end(tx, deadline_ns);
}

bool have_parse(struct wire_rx *rx, struct have_answer *a)
{
	uint32_t have = wire_get_u32(rx);
	memset(a, 0, sizeof(*a));
	a->have = (enum have)have;
	wire_get_str(rx, a->name, sizeof(a->name));
	wire_get_str(rx, a->host, sizeof(a->host));
	a->where = inc_get(rx);
	a->when_s = wire_get_u64(rx);
	a->silent = wire_get_u32(rx);
	wire_get_str(rx, a->silent_host, sizeof(a->silent_host));
	a->digest = wire_get_u64(rx);
	return wire_get_end(rx) && have < HAVE_END && (!a->silent || name_ok(a->silent_host)) &&
	       (have != HAVE_MOVED || name_ok(a->host));
}
