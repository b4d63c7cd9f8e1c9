/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The migration service: one call for each connection, in a task of its own. Greets, reads the first record, and gives
 * the connection to whoever answers that. Questions (QUERY, WHO, SETTLE, DEBT, DONE) are always served: what is limited
 * is the number of VMs that are received at once, and of connections that have not said yet what they want.
 */
#include "kernel/log.h"
#include "kernel/time.h"
#include "net/trust.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/resting.h"
#include "vmm/migrate/service.h"
#include "vmm/migrate/settle.h"
#include "vmm/migrate/shout.h"
#include "vmm/migrate/this_host.h"
#include <stdlib.h>
#include <string.h>

void migrate_host_init(struct migrate_host *h, const char *name, struct incarnation inc, const struct host_conf *conf)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->name, name, strnlen(name, sizeof(h->name) - 1));
	h->inc = inc;
	h->undecided_resume = conf->undecided == HOST_UNDECIDED_RESUME;
	h->band.limit = conf->migrate_limit;
	h->band.minimum = conf->migrate_minimum;
	spin_init(&h->table_lock, "migrations");
	spin_init(&h->records_lock, "attempts");
	spin_init(&h->departed_lock, "departed");
	mutex_init(&h->greetings_lock, "greetings");
	spin_init(&h->band.lock, "bandwidth");
	waitq_init(&h->band.q);
	list_init(&h->band.queue);
	list_init(&h->migrations);
	list_init(&h->records);
	list_init(&h->seen);
	list_init(&h->departed);
}

/* ---- connections that have not proved a key, or not said yet what they are for ---- */

static void greeting_remove(struct migrate_host *h, const struct stream *s)
{
	for (unsigned i = 0; i < h->ngreetings; i++) {
		if (h->greetings[i] != s)
			continue;
		h->ngreetings--;
		memmove(&h->greetings[i], &h->greetings[i + 1], (h->ngreetings - i) * sizeof(h->greetings[0]));
		return;
	}
}

const char *migrate_peer_name(struct ip ip, const char *other)
{
	const struct migrate_host *h = migrate_this_host();
	for (unsigned i = 0; i < h->npeers; i++)
		if (ip_same(h->peers[i].ip, ip))
			return h->peers[i].name;
	return other;
}

static bool is_peer(struct ip ip) { return migrate_peer_name(ip, NULL); }

static unsigned greetings_of(const struct migrate_host *h, struct ip ip)
{
	unsigned n = 0;
	for (unsigned i = 0; i < h->ngreetings; i++)
		n += ip_same(h->greetings[i]->ip, ip);
	return n;
}

/* Who gives place when all are taken: a stranger before a peer, of two such who has more of them, then the older. */
static struct stream *greeting_victim(const struct migrate_host *h)
{
	unsigned worst = 0;
	struct stream *victim = NULL;
	for (unsigned i = 0; i < h->ngreetings; i++) {
		struct ip ip = h->greetings[i]->ip;
		unsigned rank = greetings_of(h, ip) + (is_peer(ip) ? 0 : GREETINGS_MAX);
		if (rank <= worst)
			continue;
		worst = rank;
		victim = h->greetings[i];
	}
	return victim;
}

static void greeting_begin(struct stream *s)
{
	struct migrate_host *h = migrate_this_host();
	mutex_lock(&h->greetings_lock);
	if (h->ngreetings == GREETINGS_MAX) {
		struct stream *victim = greeting_victim(h);
		greeting_remove(h, victim);
		stream_abort(victim); /* its task cannot close it before it has had this lock */
	}
	h->greetings[h->ngreetings++] = s;
	mutex_unlock(&h->greetings_lock);
}

static void greeting_end(struct stream *s)
{
	struct migrate_host *h = migrate_this_host();
	mutex_lock(&h->greetings_lock);
	greeting_remove(h, s);
	mutex_unlock(&h->greetings_lock);
}

/*
 * A peer that speaks in clear is told so in words, which takes buffers of a migration's size: one at a time. Others
 * are told nothing.
 */
static bool may_be_told(const struct connection *k)
{
	struct migrate_host *h = migrate_this_host();
	return is_peer(k->s->ip) && !__atomic_exchange_n(&h->telling, true, __ATOMIC_SEQ_CST);
}

/*
 * trusted: 0, or -EPERM: he speaks in clear, which is not allowed, and is told so in clear.
 */
static int greet(struct connection *k, int trusted, uint64_t end_ns)
{
	int err = wire_tx_init(&k->tx, k->s);
	if (err || (err = wire_rx_init(&k->rx, k->s)))
		return err;
	err = hello_exchange(&k->tx, &k->rx, &k->peer, end_ns, trusted ? NULL : &k->why);
	if (trusted)
		err = -ENOTSUP;
	if (err == -ENOTSUP && text_send(&k->tx, WIRE_REFUSE, REFUSE_VERSION, k->why.text, time_ns() + NS_PER_SEC))
		log_debug("REFUSE could not be sent to %s", k->s->peer);
	if (err)
		return err;
	probe_greeted(&k->peer, k->s->peer);
	k->greeted = true;
	return wire_recv(&k->rx, end_ns, MIG_GREETING_NS, &k->why);
}

/* ---- what it is for ---- */

static int receive_vm(struct connection *k)
{
	struct migrate_host *h = migrate_this_host();
	struct attempt_id id;
	bool room = __atomic_add_fetch(&h->receiving, 1, __ATOMIC_SEQ_CST) <= MIG_RECEIVE_MAX;
	if (room)
		dest_attempt(k);
	__atomic_sub_fetch(&h->receiving, 1, __ATOMIC_SEQ_CST);
	if (room)
		return 0;
	id_get(&k->rx, &id);
	k->tx.key = attempt_key(&id);
	why_set(&k->why, -EBUSY, "%d VMs arrive there already: try again later", MIG_RECEIVE_MAX);
	if (text_send(&k->tx, WIRE_REFUSE, REFUSE_BUSY, k->why.text, time_ns() + NS_PER_SEC))
		log_debug("REFUSE could not be sent to %s", k->s->peer);
	return -EBUSY;
}

/* STATE: of one that does not run, OFFER follows. */
static int receive_resting_vm(struct connection *k)
{
	int err = resting_state_get(&k->rx, &k->as, &k->why);
	if (err || (err = wire_recv(&k->rx, time_ns() + MIG_SETUP_NS, MIG_GREETING_NS, &k->why)))
		return err;
	return k->rx.type == WIRE_OFFER
		       ? receive_vm(k)
		       : why_set(&k->why, -EPROTO, "it sent %s after STATE", wire_type_name(k->rx.type));
}

static int serve(struct connection *k)
{
	k->as = VM_RUNNING;
	switch (k->rx.type) {
	case WIRE_OFFER: return receive_vm(k);
	case WIRE_STATE: return receive_resting_vm(k);
	case WIRE_QUERY: handover_answer(&k->tx, &k->rx); return 0;
	case WIRE_REJOIN: pull_rejoin(k); return 0;
	case WIRE_WHO: probe_answer(&k->tx, &k->rx); return 0;
	case WIRE_DONE:
	case WIRE_SETTLE:
	case WIRE_DEBT: settle_answer(&k->tx, &k->rx); return 0;
	case WIRE_ERROR: return handover_source_gave_up(&k->rx, &k->why); /* before it offered a VM */
	default:
		return why_set(&k->why, -EPROTO, "it began with %s, which asks for nothing",
			       wire_type_name(k->rx.type));
	}
}

static int serve_connection(struct connection *k)
{
	struct stream *below = k->s; /* TLS is put over it, and ends with it */
	uint64_t end = time_ns() + MIG_GREETING_NS;
	int err;
	if (k->self)
		return (err = greet(k, 0, end)) ? err : serve(k);
	greeting_begin(below); /* until he has proved a key, or said what he wants */
	err = trust_accept(&k->s, end, &k->why);
	if (!err && trust_is_proved(k->s)) {
		greeting_end(below);
		end = time_ns() + MIG_GREETING_NS;
	}
	if (!err) {
		err = greet(k, 0, end);
	} else if (err == -EPERM && may_be_told(k)) {
		err = greet(k, err, end);
		__atomic_store_n(&migrate_this_host()->telling, false, __ATOMIC_SEQ_CST);
	}
	greeting_end(below);
	return err ? err : serve(k);
}

void migrate_serve(void *of, struct stream *s)
{
	struct connection *k = calloc(1, sizeof(*k));
	int err = -ENOMEM;
	if (k) {
		k->s = s;
		k->self = of;
		err = serve_connection(k);
	}
	if (k)
		s = k->s;
	if (err == -EPIPE && k->greeted)
		log_debug("%s greeted, and wanted nothing", s->peer); /* it sees whether this host is there */
	else if (err)
		log_info("a connection to the migration service from %s: %s", migrate_peer_name(s->ip, s->peer),
			 k && k->why.text[0] ? k->why.text : err_name(err));
	if (k) {
		wire_rx_fini(&k->rx);
		wire_tx_fini(&k->tx);
	}
	free(k);
	stream_close(s);
}

/*
 * Migrations, questions, and those that have not said yet: lwIP has 48 connections in all, and outgoing ones need some
 * too.
 */
#define CONNECTIONS_MAX (MIG_RECEIVE_MAX + GREETINGS_MAX + 8)

int migrate_init(void)
{
	shout_init();
	int err = stream_tcp_listen(MIGRATE_PORT, CONNECTIONS_MAX, migrate_serve, NULL);
	if (err)
		log_error("cannot listen for migrations on port %d: %s", MIGRATE_PORT, err_name(err));
	return err ? err : settle_start();
}
