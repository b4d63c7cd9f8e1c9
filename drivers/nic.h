/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network interface card. Drivers fill struct nic and register it; net/ takes it from there. Receiving: the driver's
 * task (TASK_PRIO_IO, woken by the card's interrupt) calls nic->rx for each frame, borrowed (kernel/frame.h).
 */
#pragma once
#include "kernel/frame.h"
#include "kernel/host.h"

#define NIC_MTU_MIN  576  /* what every IPv4 host takes (RFC 791) */
#define NIC_MTU6_MIN 1280 /* RFC 8200 5 */

struct nic;
struct nic_ops {
	/*
	 * Send. Any task, any CPU; the driver locks. Copies or completes before returning. A frame with an offload that
	 * the NIC lacks never gets here (net/bridge.c finishes it). -ENOBUFS: queue full (frame dropped), -ENETDOWN: no
	 * link.
	 */
	int (*tx)(struct nic *n, const struct frame *f);
	bool (*link_up)(struct nic *n);
	unsigned (*mbit)(struct nic *n); /* of its link, in Mbit/s; 0: not known */
	int (*start)(struct nic *n);     /* nic_start's work */
	/* How many frames of len bytes tx would take now. Any task. */
	unsigned (*tx_room)(struct nic *n, size_t len);
};
struct nic_stats {
	uint64_t rx_frames, rx_bytes, rx_dropped, tx_frames, tx_bytes, tx_dropped;
};
struct nic {
	const struct nic_ops *ops;
	char name[8];       /* "nic0", by PCI order */
	const char *driver; /* "virtio-net", "e1000" */
	char location[16];  /* "00:03.0" */
	uint8_t mac[ETH_ALEN];
	unsigned offloads;      /* FRAME_TAKES_*: what it sends */
	unsigned mtu;           /* the largest it carries: bytes behind the Ethernet header and tags */
	unsigned mtu_used;      /* of its networks the largest, and 1500 if it can; before nic_start */
	struct nic_stats stats; /* [a] counted with relaxed atomics */
	unsigned queues;        /* (c) once it runs: pairs of them, each with a task in which rx is called */
	/* Set by net/ before nic_start. */
	void (*rx)(void *arg, struct frame *f);
	void (*link_changed)(void *arg, bool up); /* interrupt context */
	void *rx_arg;                             /* of these */
};

/* Find all NICs that a driver knows, in PCI order: kernel/main.c calls it once. Returns how many. */
unsigned nic_probe_all(void);
struct nic *nic_get(unsigned i); /* NULL past the end */
int nic_start(struct nic *n);    /* begin receiving; 0 or -errno */
/* Is this task a card's, in its rx? It holds no lock then. */
bool nic_receives(void);
