/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Announcements of guests that moved here. The first frame leaves in the caller's context; the repeats, because the
 * first may be lost or come before a switch is ready, by one task that lives only while there is something to repeat.
 */
#include "net/announce.h"
#include "kernel/log.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <string.h>

#define RARP_REQUEST_REVERSE 3 /* RFC 903 */

size_t announce_rarp(uint8_t buf[ANNOUNCE_RARP_LEN], const uint8_t mac[ETH_ALEN])
{
	/* clang-format off */
	static const uint8_t head[] = { /* what is the same in each: Ethernet type, then RFC 826's fields */
		ETHERTYPE_RARP >> 8, ETHERTYPE_RARP & 0xff,
		0, 1,                   /* hardware: Ethernet */
		8, 0,                   /* protocol: IPv4 */
		ETH_ALEN, 4,
		0, RARP_REQUEST_REVERSE,
	};
	/* clang-format on */
	memset(buf, 0, ANNOUNCE_RARP_LEN);
	memset(buf, 0xff, ETH_ALEN);
	memcpy(buf + 6, mac, ETH_ALEN);
	memcpy(buf + 12, head, sizeof(head));
	memcpy(buf + 22, mac, ETH_ALEN); /* sender hardware address; 28: sender protocol address 0.0.0.0 */
	memcpy(buf + 32, mac, ETH_ALEN); /* target hardware address; 38: target protocol address 0.0.0.0 */
	return ANNOUNCE_RARP_LEN;
}

static const uint32_t repeat_ms[] = { 50, 150, 250, 350 };
#define ANNOUNCE_MAX 64

static struct announce {          /* [l] lock */
	struct bridge_port *port; /* NULL: free */
	uint64_t start_ns;
	unsigned done; /* repeats sent */
} slots[ANNOUNCE_MAX];
static struct spinlock lock = SPINLOCK_INIT("announce");
static struct waitq changed = { { &changed.waiters, &changed.waiters } }; /* a slot, or `sending`, changed */
static struct bridge_port *sending; /* [l] the task is inside bridge_input for it */
static bool task_runs;              /* [l] */

static void send_one(struct bridge_port *p)
{
	uint8_t buf[ANNOUNCE_RARP_LEN];
	struct frame f;
	frame_init_flat(&f, buf, announce_rarp(buf, p->mac));
	(void)bridge_input(p, &f);
}

static uint64_t due_ns(const struct announce *a) { return a->start_ns + repeat_ms[a->done] * NS_PER_MS; }

static struct announce *next_slot(void)
{
	struct announce *next = NULL;
	for (unsigned i = 0; i < ANNOUNCE_MAX; i++)
		if (slots[i].port && (!next || due_ns(&slots[i]) < due_ns(next)))
			next = &slots[i];
	return next;
}

static void announce_task(void *arg unused)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	for (struct announce *a; (a = next_slot());) {
		if (time_ns() < due_ns(a)) {
			waitq_wait(&changed, &lock, &flags, due_ns(a));
			continue;
		}
		sending = a->port;
		if (++a->done == ARRAY_SIZE(repeat_ms))
			a->port = NULL;
		spin_unlock_irqrestore(&lock, flags);
		send_one(sending);
		flags = spin_lock_irqsave(&lock);
		sending = NULL;
		waitq_wake_all(&changed);
	}
	task_runs = false;
	spin_unlock_irqrestore(&lock, flags);
}

/* The slot for p: its own if it is announced already, else a free one, else NULL. */
static struct announce *slot_for(const struct bridge_port *p)
{
	struct announce *slot = NULL;
	for (unsigned i = 0; i < ANNOUNCE_MAX; i++) {
		if (slots[i].port == p)
			return &slots[i];
		if (!slots[i].port && !slot)
			slot = &slots[i];
	}
	return slot;
}

void announce_start(struct bridge_port *p)
{
	send_one(p); /* in place: the network learns where the guest is before it says anything itself */
	uint64_t flags = spin_lock_irqsave(&lock);
	struct announce *a = slot_for(p);
	bool start = a && !task_runs;
	if (a) {
		*a = (struct announce){ .port = p, .start_ns = time_ns() };
		task_runs = true;
		waitq_wake_all(&changed);
	}
	spin_unlock_irqrestore(&lock, flags);
	if (!a)
		log_warn("announce: %s: %d guests are being announced, this one only once", p->name, ANNOUNCE_MAX);
	if (!start || task_create("announce", TASK_PRIO_IO, announce_task, NULL))
		return;
	log_warn("announce: %s: no memory to repeat the announcement, it went out once", p->name);
	flags = spin_lock_irqsave(&lock);
	task_runs = false;
	for (unsigned i = 0; i < ANNOUNCE_MAX; i++)
		slots[i].port = NULL;
	spin_unlock_irqrestore(&lock, flags);
}

void announce_cancel(struct bridge_port *p)
{
	uint64_t flags = spin_lock_irqsave(&lock);
	for (unsigned i = 0; i < ANNOUNCE_MAX; i++)
		if (slots[i].port == p)
			slots[i].port = NULL;
	waitq_wake_all(&changed);
	while (sending == p)
		waitq_wait(&changed, &lock, &flags, TIME_NEVER);
	spin_unlock_irqrestore(&lock, flags);
}
