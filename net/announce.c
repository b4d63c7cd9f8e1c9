/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When guests are announced (announce.h). The first round leaves in the caller's context; all others are sent by one
 * task that lives while a guest runs here.
 */
#include "net/announce.h"
#include "kernel/log.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"

/* An address that was not in use for so long may be another's by now: announcing it would take it away from him. */
#define FRESH_S (15 * 60)

static const unsigned pause_ms[ANNOUNCE_ROUNDS - 1] = { 50, 150, 250, 350 }; /* behind each round but the last */

static struct spinlock lock = SPINLOCK_INIT("announce");
static struct list guests = LIST_INIT(guests);                            /* [l] those that run here */
static struct waitq changed = { { &changed.waiters, &changed.waiters } }; /* one of them, or `sending`, changed */
static struct announce *sending;                                          /* [l] the task is sending a round of it */
static bool task_runs;                                                    /* [l] */

/* ---- one round ---- */

static void to_all(const struct announce *a, uint8_t *buf, size_t len)
{
	struct frame f;
	if (!len)
		return;
	frame_init_flat(&f, buf, len);
	(void)bridge_speak_for(a->port, &f);
}

static void to_guest(const struct announce *a, uint8_t *buf, size_t len)
{
	struct frame f;
	frame_init_flat(&f, buf, len);
	(void)a->port->send(a->port->arg, &f);
}

static void send_round(const struct announce *a, unsigned round)
{
	const uint8_t *mac = a->port->mac;
	uint8_t buf[ANNOUNCE_FRAME_MAX];
	struct learn_state s;

	learn_get(a->learn, &s, time_ns());
	to_all(a, buf, announce_rarp(buf, mac));
	for (unsigned i = 0; i < LEARN_IP4 && !learn_is_free(s.ip4 + 4 * i, 4) && s.ip4_age[i] <= FRESH_S; i++)
		to_all(a, buf, announce_arp(buf, mac, s.ip4 + 4 * i));
	for (unsigned i = 0; i < LEARN_IP6 && !learn_is_free(s.ip6 + 16 * i, 16) && s.ip6_age[i] <= FRESH_S; i++)
		to_all(a, buf, announce_na(buf, mac, s.ip6 + 16 * i, s.router));
	to_all(a, buf, announce_igmp_report(buf, mac, &s));
	to_all(a, buf, announce_mld_report(buf, mac, &s));
	if (round && round != ANNOUNCE_ROUNDS - 1) /* the guest is bothered twice only */
		return;
	to_guest(a, buf, announce_igmp_query(buf));
	to_guest(a, buf, announce_mld_query(buf));
	if (!round && a->guest)
		a->guest(a->arg);
}

/* ---- all rounds; the lock is held ---- */

static void round_sent(struct announce *a)
{
	a->next_ns = a->round < ANNOUNCE_ROUNDS - 1 ? time_ns() + pause_ms[a->round] * NS_PER_MS : TIME_NEVER;
	a->round++;
}

static struct announce *next_due(void)
{
	struct announce *next = NULL;
	list_for_each(a, &guests, struct announce, node)
		if (!next || a->next_ns < next->next_ns)
			next = a;
	return next;
}

static void announce_task(void *arg unused)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	for (struct announce *a; (a = next_due());) {
		if (time_ns() < a->next_ns) {
			waitq_wait(&changed, &lock, &flags, a->next_ns);
			continue;
		}
		unsigned round = a->round;
		round_sent(a);
		sending = a;
		spin_unlock_irqrestore(&lock, flags);
		send_round(a, round);
		flags = spin_lock_irqsave(&lock);
		sending = NULL;
		waitq_wake_all(&changed);
	}
	task_runs = false;
	spin_unlock_irqrestore(&lock, flags);
}

/* ---- guests ---- */

void announce_init(struct announce *a, struct bridge_port *port, struct learn *learn, void (*guest)(void *arg),
		   void *arg)
{
	*a = (struct announce){ .port = port, .learn = learn, .guest = guest, .arg = arg };
	list_init(&a->node);
}

void announce_add(struct announce *a)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	if (list_empty(&a->node)) {
		a->next_ns = TIME_NEVER;
		list_append(&guests, &a->node);
	}
	bool start = !task_runs;
	task_runs = true;
	spin_unlock_irqrestore(&lock, flags);
	if (!start || task_create("announce", TASK_PRIO_IO, announce_task, NULL))
		return;
	log_warn("announce: no memory for its task: guests that come are announced once, until another comes");
	flags = spin_lock_irqsave(&lock);
	task_runs = false;
	spin_unlock_irqrestore(&lock, flags);
}

void announce_remove(struct announce *a)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	list_remove(&a->node);
	waitq_wake_all(&changed);
	while (sending == a)
		waitq_wait(&changed, &lock, &flags, TIME_NEVER);
	spin_unlock_irqrestore(&lock, flags);
}

void announce_start(struct announce *a)
{
	send_round(a, 0); /* in place: the network learns where the guest is before it says anything itself */
	uint64_t flags = spin_lock_irqsave(&lock);
	a->round = 0;
	round_sent(a);
	waitq_wake_all(&changed);
	spin_unlock_irqrestore(&lock, flags);
}

void announce_again(const struct bridge *b)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	list_for_each(a, &guests, struct announce, node)
		if (a->port->bridge == b) {
			a->round = 0;
			a->next_ns = time_ns();
		}
	waitq_wake_all(&changed);
	spin_unlock_irqrestore(&lock, flags);
}
