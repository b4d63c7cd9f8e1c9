/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The L2 switch inside tern: NICs, guests and tern's own IP stack are its ports. It learns, ages (300 s), floods, lets
 * a guest send what its policy allows (bridge_rules.h) and flood no more than BRIDGE_FLOODS frames a second, and lets
 * nobody else send from the MAC of who is bound to his port. A guest reaches nothing of the host that it runs on but
 * what answers that one's ping. A guest's memory is hostile: what leaves is the copy of the header that was judged, and
 * the rest. Frames are borrowed (kernel/frame.h) and handed on synchronously, with their offload metadata where the
 * receiving port can use it; else the bridge finishes them in software. Any task context; ports' send functions do
 * their own locking and must not call back into the bridge.
 */
#pragma once
#include "kernel/base/err.h"
#include "kernel/base/list.h"
#include "net/bridge_rules.h"
#include "net/fair.h"

#define BRIDGE_FLOODS       2000 /* broadcast, multicast, and to MACs that are not known: a second, of each guest */
#define BRIDGE_FLOODS_BURST 1000 /* more than that at once, of a guest that was silent */

struct bridge;
struct bridge_port_stats {
	uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
	uint64_t drops[BRIDGE_DROPS]; /* by reason, of frames from the port and of those for it */
};
struct bridge_port {
	struct list node;
	struct list bound; /* [bridge's lock] of the bridge's bound ports; empty: mac is not bound */
	struct bridge *bridge;
	char name[24];
	/* Deliver to the port; 0 or -errno (counted as a drop). */
	int (*send)(void *arg, const struct frame *f);
	/*
	 * How many frames of len bytes send() would take now; NULL: any number. So a large frame that has to be cut for
	 * this port is refused whole with -ENOBUFS, rather than losing its end.
	 */
	unsigned (*room)(void *arg, size_t len);
	void *arg;
	unsigned offloads; /* FRAME_TAKES_*: what send() takes */
	bool is_guest;     /* sends what `policy` allows */
	bool is_host;      /* the host's own IP stack: of guests' frames it gets ARP and ICMP alone */
	uint8_t mac[ETH_ALEN];
	struct bridge_policy policy;    /* of a guest; const while in a bridge */
	struct bridge_port_stats stats; /* [a] relaxed */
	uint64_t flood_ns; /* [bridge's lock] of a guest: when its next flooded frame is due at BRIDGE_FLOODS */
	uint64_t told_ns[BRIDGE_DROPS]; /* [a] of a guest: until then the log says no more of that */
	struct fair *fair;              /* (c) of an uplink: who may fill it; else NULL */
	struct fair_part part;          /* of a guest: its part of its network's uplink */
	unsigned users;                 /* [bridge's lock] calls of send() on their way */
	bool leaving;                   /* [bridge's lock] bridge_remove began */
};
/*
 * A network's bridge, of its name and MTU; for_vms: guests' ports may be there. At boot: the list of them has no lock.
 */
int bridge_create(struct bridge **b, const char *name, unsigned mtu, bool for_vms) must_check;
/* The bridge of a network for VMs; "": of the first that is. NULL: there is none, and why says so. */
struct bridge *bridge_find(const char *name, struct why *w);
struct bridge *bridge_get(unsigned i); /* the i-th of all, NULL past the end */
/*
 * An address of this host or of a peer, or none: guests' packets from it, and ARP or neighbour discovery that claims or
 * probes it, are dropped. gateway: a router's to this host, which a guest may be that is allowed to be a router. Any
 * task.
 */
void bridge_guard(struct bridge *b, struct ip ip, bool gateway);
/* Of all IPv6 addresses that this host makes from its card's MAC (RFC 4291 appendix A). Before there are guests. */
void bridge_guard_own(struct bridge *b, const uint8_t mac[ETH_ALEN]);
/* The same of this host's address and gateway by DHCP, in place of those before; 0: none. */
void bridge_guard_lease(struct bridge *b, uint32_t ip4, uint32_t gateway);
/* The one that this host probes now, in network order, 0: none. A guest that hears the probe may not claim it. */
void bridge_guard_probed(struct bridge *b, uint32_t ip4);
void bridge_destroy(struct bridge *b); /* no ports are left; NULL is fine */
const char *bridge_name(const struct bridge *b);
unsigned bridge_mtu(const struct bridge *b); /* bytes of payload; guests are told it (VIRTIO_NET_F_MTU) */
void bridge_add(struct bridge *b, struct bridge_port *p);
/* On return no send() to p is running or will run, and no MAC is learned on it. May sleep. */
void bridge_remove(struct bridge_port *p);
/*
 * p->mac is static at p, which is in a bridge: frames to it go to p, and one that comes from it at any other port is
 * dropped and counted there. For who is at home here: the host itself, and a guest while it runs here and
 * nowhere else. Twice is harmless; -EEXIST if it is bound to another port.
 */
int bridge_bind(struct bridge_port *p) must_check;
/* p->mac may be learned again, at any port. bridge_remove does this as well; p need not be bound, nor in a bridge. */
void bridge_unbind(struct bridge_port *p);
/*
 * A frame came in from p. For senders that can hold back, the answer: 0 if it was taken (flooded frames always are),
 * -errno of the one port it went to, -EINVAL if it is malformed, -ENETDOWN if p is leaving, -EACCES for all else that
 * p may not send. A guest's may have up to FRAME_IOV_IN pieces.
 */
int bridge_input(struct bridge_port *p, const struct frame *f);
/*
 * A frame that came for p's guest at another host, where it was before, by word of that host: to p alone, and judged as
 * all that comes in by the wire is, but what is not for p goes nowhere. Nothing is learned from it: its sender may be
 * at home at any port here. 0, or -errno as bridge_input, counted at p. The caller keeps p in its bridge.
 */
int bridge_bring(struct bridge_port *p, const struct frame *f);
void bridge_lost(struct bridge_port *p); /* a frame that send() took is dropped after all. Any task */
/* All drops, those that bridge_drops[].spoof has or the others. */
uint64_t bridge_dropped(const struct bridge_port_stats *s, bool spoof);
/*
 * The same for what tern itself says in a guest's name, at its port: no flood of the guest keeps it back. It is judged
 * as the guest's all the same: what was learned of a guest, here or where it came from, need not be true.
 */
int bridge_speak_for(struct bridge_port *p, const struct frame *f);
#define BRIDGE_BOUND UINT64_MAX
/* For the console: each MAC that is bound (its age is BRIDGE_BOUND) or learned; fn must not sleep. */
void bridge_for_each_mac(struct bridge *b,
			 void (*fn)(const uint8_t mac[6], const struct bridge_port *p, uint64_t age_ns, void *arg),
			 void *arg);
void bridge_for_each_port(struct bridge *b, void (*fn)(const struct bridge_port *p, void *arg), void *arg);
