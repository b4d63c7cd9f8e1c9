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
#include <stdio.h>
#include <string.h>

#define NIC_MAX     16
#define POLL_BUDGET 64 /* frames until other tasks of the same priority get a turn */

static struct nic *nics[NIC_MAX]; /* (c) after nic_probe_all */
static unsigned nnics;

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
			nics[nnics++] = n;
			log_info("%s: %s at %s, %s", n->name, n->driver, n->location, mac_text(n->mac).s);
			break;
		}
	}
	return nnics;
}

struct nic *nic_get(unsigned i) { return i < nnics ? nics[i] : NULL; }

int nic_start(struct nic *n) { return n->ops->start(n); }

static void poll_task(void *arg)
{
	struct nic_poll *p = arg;
	for (;;) {
		do {
			while (p->poll(p->n, POLL_BUDGET))
				task_yield();
		} while (!p->rearm(p->n));
		uint64_t flags = spin_lock_irqsave(&p->lock);
		while (!p->pending)
			waitq_wait(&p->q, &p->lock, &flags, TIME_NEVER);
		p->pending = false;
		spin_unlock_irqrestore(&p->lock, flags);
	}
}

void nic_poll_init(struct nic_poll *p, struct nic *n, bool (*poll)(struct nic *, unsigned), bool (*rearm)(struct nic *))
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

static struct host_address address_of(struct nic *n)
{
	struct host_address a = { .state = "none" };
	if (n->address)
		n->address(n->rx_arg, &a);
	return a;
}

static void nic_json(struct con *c)
{
	struct json j;
	struct nic *n;
	json_begin(&j, c);
	json_arr(&j, "nics");
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		json_obj(&j, NULL);
		json_str(&j, "name", n->name);
		json_str(&j, "driver", n->driver);
		json_str(&j, "location", n->location);
		json_str(&j, "mac", mac_text(n->mac).s);
		struct host_address a = address_of(n);
		host_address_json(&j, &a);
		json_bool(&j, "link", n->ops->link_up(n));
		json_bool(&j, "csum", n->offloads & FRAME_TAKES_CSUM);
		json_bool(&j, "tso", n->offloads & FRAME_TAKES_TSO4);
		json_u64(&j, "rx_frames", n->stats.rx_frames);
		json_u64(&j, "rx_bytes", n->stats.rx_bytes);
		json_u64(&j, "rx_dropped", n->stats.rx_dropped);
		json_u64(&j, "tx_frames", n->stats.tx_frames);
		json_u64(&j, "tx_bytes", n->stats.tx_bytes);
		json_u64(&j, "tx_dropped", n->stats.tx_dropped);
		json_obj_end(&j);
	}
	json_arr_end(&j);
	json_end(&j);
}

static int cmd_nic(struct con *c, int argc, char **argv)
{
	if (argc > 1)
		return con_error(c, -EINVAL, "nic: unknown argument %s. Usage: nic", argv[1]);
	if (c->json) {
		nic_json(c);
		return 0;
	}
	if (!nnics)
		con_printf(c, "no NIC that tern has a driver for\n");
	struct nic *n;
	for (unsigned i = 0; (n = nic_get(i)); i++) {
		con_printf(c, "%-6s %-10s %-8s %s link %-4s ", n->name, n->driver, n->location, mac_text(n->mac).s,
			   n->ops->link_up(n) ? "up" : "down");
		struct host_address a = address_of(n);
		host_address_print(c, &a);
		con_printf(c,
			   "\n       received %lu frames, %lu bytes, %lu dropped; sent %lu frames, %lu bytes, %lu "
			   "dropped\n",
			   n->stats.rx_frames, n->stats.rx_bytes, n->stats.rx_dropped, n->stats.tx_frames,
			   n->stats.tx_bytes, n->stats.tx_dropped);
	}
	return 0;
}
CONSOLE_CMD(nic, "", "network cards: driver, link, address, counters", cmd_nic, NULL);
