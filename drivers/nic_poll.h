/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The receiving task of a NIC driver. An interrupt wakes it; from then on it polls, with the card's receive interrupts
 * off, until nothing is left. Private to drivers/.
 */
#pragma once
#include "drivers/nic.h"
#include "drivers/pci_bus.h"
#include "kernel/sync.h"

struct nic_poll {
	struct spinlock lock;
	struct waitq q;
	bool pending; /* [lock] an interrupt came since the task last began to poll */
	/* Take at most `budget` frames off the ring; true if there may be more. */
	bool (*poll)(struct nic_poll *p, unsigned budget);
	/* Receive interrupts are on from here; false if there are frames already, so that a poll is due. */
	bool (*rearm)(struct nic_poll *p);
	struct nic *n;
};
/* Before the card can interrupt; the task, which begins with a poll, once its rings stand: 0 or -ENOMEM. */
void nic_poll_init(struct nic_poll *p, struct nic *n, bool (*poll)(struct nic_poll *, unsigned),
		   bool (*rearm)(struct nic_poll *));
int nic_poll_start(struct nic_poll *p);
void nic_poll_wake(struct nic_poll *p); /* interrupt context */

/* Drivers: the NIC on d if it is theirs and works, else NULL. */
struct nic *virtio_net_probe(const struct pci_dev *d);
struct nic *e1000_probe(const struct pci_dev *d);

void nic_link_changed(struct nic *n); /* the card says so: log it, and tell who uses it. Interrupt context */

static inline void nic_count(uint64_t *counter, uint64_t n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }
