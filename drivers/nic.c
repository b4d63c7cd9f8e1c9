/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of NICs, the receiving task that all drivers share, and the `nic` command. */
#include "drivers/nic.h"
#include "drivers/nic_poll.h"
#include "drivers/pci_bus.h"
#include "kernel/console.h"
#include "kernel/base/err.h"
#include "kernel/log.h"
#include "kernel/base/mac.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <stdio.h>
#include <string.h>

#define NIC_MAX     16
#define RECEIVERS   32
#define POLL_BUDGET 64 /* frames until other tasks of the same priority get a turn */
#define WATCH_NS    NS_PER_SEC
#define LATE_NS     (20 * NS_PER_MS) /* that an interrupt may be later than its frame */

static struct nic *nics[NIC_MAX]; /* (c) after nic_probe_all */
static unsigned nnics;
static const struct task *receivers[RECEIVERS]; /* [a] they live for ever */
static unsigned nreceivers;                     /* [a] */

unsigned nic_probe_all(void)
{
	static struct nic *(*const probes[])(const struct pci_dev *d) = { virtio_net_probe, e1000_probe };
	struct pci_dev *d;
	for (unsigned i = 0; (d = pci_get(i)) && nnics < NIC_MAX; i++) {
		for (unsigned p = 0; p < ARRAY_SIZE(probes); p++) {
			struct nic *n = probes[p](d);
			if (!n)
				continue;
			sniprintf(n->name, sizeof(n->name), "nic%u", nnics);
			memcpy(n->location, d->location, sizeof(n->location));
			n->mtu_used = MIN(n->mtu, (unsigned)ETH_DATA_MAX);
			nics[nnics++] = n;
			log_info("%s: %s at %s, %s", n->name, n->driver, n->location, mac_text(n->mac).s);
			break;
		}
	}
	return nnics;
}

struct nic *nic_get(unsigned i) { return i < nnics ? nics[i] : NULL; }

int nic_start(struct nic *n) { return n->ops->start(n); }

bool nic_receives(void)
{
	const struct task *self = task_self();
	for (unsigned i = 0; i < MIN(__atomic_load_n(&nreceivers, __ATOMIC_RELAXED), RECEIVERS); i++)
		if (__atomic_load_n(&receivers[i], __ATOMIC_RELAXED) == self)
			return true;
	return false;
}

void nic_link_changed(struct nic *n)
{
	bool up = n->ops->link_up(n);
	log_info("%s: link is %s", n->name, up ? "up" : "down");
	if (n->link_changed)
		n->link_changed(n->rx_arg, up);
}

/* Was there an interrupt, within so many ns? */
static bool told(struct nic_poll *p, uint64_t ns)
{
	int late = 0;
	uint64_t deadline = time_ns() + ns, flags = spin_lock_irqsave(&p->lock);
	while (!p->pending && !late)
		late = waitq_wait(&p->q, &p->lock, &flags, deadline);
	bool pending = p->pending;
	p->pending = false;
	spin_unlock_irqrestore(&p->lock, flags);
	return pending;
}

/*
 * Until the card has something. One that does not say so, or whose interrupt is lost, shall not leave the host deaf: it
 * is asked each second.
 */
static void wait_for_frames(struct nic_poll *p)
{
	bool heard;
	while (!(heard = told(p, WATCH_NS)) && p->rearm(p)) {}
	if (!heard && !told(p, LATE_NS))
		log_warn("%s: it has received frames for up to a second, and no interrupt told of them", p->n->name);
}

static void poll_task(void *arg)
{
	struct nic_poll *p = arg;
	unsigned i = __atomic_fetch_add(&nreceivers, 1, __ATOMIC_RELAXED);
	if (i < RECEIVERS) /* else what it receives for this host takes another way (net/netif.c) */
		__atomic_store_n(&receivers[i], task_self(), __ATOMIC_RELAXED);
	for (;;) {
		do {
			while (p->poll(p, POLL_BUDGET))
				task_yield();
		} while (!p->rearm(p));
		wait_for_frames(p);
	}
}

void nic_poll_init(struct nic_poll *p, struct nic *n, bool (*poll)(struct nic_poll *, unsigned),
		   bool (*rearm)(struct nic_poll *))
{
	*p = (struct nic_poll){ .poll = poll, .rearm = rearm, .n = n };
	spin_init(&p->lock, "nic poll");
	waitq_init(&p->q);
}

int nic_poll_start(struct nic_poll *p)
{
	return task_create(p->n->name, TASK_PRIO_IO, poll_task, p) ? 0 : err_trace(-ENOMEM);
}

void nic_poll_wake(struct nic_poll *p)
{
	uint64_t flags = spin_lock_irqsave(&p->lock);
	p->pending = true;
	waitq_wake_one(&p->q);
	spin_unlock_irqrestore(&p->lock, flags);
}

static int cmd_nic(struct con *c, int argc unused, char **argv unused)
{
	struct nic *n;
	out_table(c, "nics", "-6 name, -10 driver, -10 location, -17 mac, -4 link",
		  "no NIC that tern has a driver for");
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		out_row(c);
		out_str(c, "name", n->name);
		out_str(c, "driver", n->driver);
		out_str(c, "location", n->location);
		out_str(c, "mac", mac_text(n->mac).s);
		out_bool(c, "link|", n->ops->link_up(n));
		out_line(c, "link", "%s", n->ops->link_up(n) ? "up" : "down");
		out_u64(c, "queues", n->queues);
		out_bool(c, "csum", n->offloads & FRAME_TAKES_CSUM);
		out_bool(c, "tso", n->offloads & FRAME_TAKES_TSO4);
		out_u64(c, "rx_frames", n->stats.rx_frames);
		out_u64(c, "rx_bytes", n->stats.rx_bytes);
		out_u64(c, "rx_dropped", n->stats.rx_dropped);
		out_u64(c, "tx_frames", n->stats.tx_frames);
		out_u64(c, "tx_bytes", n->stats.tx_bytes);
		out_u64(c, "tx_dropped", n->stats.tx_dropped);
		out_line(c, "traffic", "received %lu frames, %lu bytes, %lu dropped", n->stats.rx_frames,
			 n->stats.rx_bytes, n->stats.rx_dropped);
		out_line(c, "traffic", "sent     %lu frames, %lu bytes, %lu dropped", n->stats.tx_frames,
			 n->stats.tx_bytes, n->stats.tx_dropped);
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}
static const struct con_sub subs[] = { { "list|", "", "driver, link, counters of each", cmd_nic, NULL, false } };
CONSOLE_CMDS(nic, "network cards: driver, link, counters", "nic list", subs);
