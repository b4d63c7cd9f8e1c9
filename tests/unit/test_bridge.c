/* SPDX-License-Identifier: BSD-2-Clause */
/* The switch: where frames go, what a guest may not send, what becomes of offloads, and ports that leave under load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/announce_frames.h"
#include "net/bridge.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 0xa }, mac_b[6] = { 2, 0, 0, 0, 0, 0xb },
		     mac_c[6] = { 2, 0, 0, 0, 0, 0xc };
static const uint8_t mac_all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct tap { /* a port and what it got */
	struct bridge_port port;
	unsigned frames;
	uint64_t bytes;
	uint8_t last[2048];
	size_t last_len;
	uint8_t last_flags, last_gso;
	int answer;
	unsigned slow_us; /* send() takes that long */
	uint8_t *forge;   /* a guest's frame, which it changes when the bridge has let it in */
	int inside;       /* calls of send() on their way; atomic */
};

static int tap_send(void *arg, const struct frame *f)
{
	struct tap *t = arg;
	__atomic_fetch_add(&t->inside, 1, __ATOMIC_SEQ_CST);
	if (t->slow_us)
		task_sleep_until(time_ns() + t->slow_us * NS_PER_US);
	if (t->forge) {
		memset(t->forge, 0xee, 60);
		memset(t->forge + 300, 0xdd, 20);
	}
	t->frames++;
	t->bytes += f->len;
	t->last_flags = f->flags;
	t->last_gso = f->gso;
	t->last_len = frame_copy_out(f, 0, t->last, sizeof(t->last));
	__atomic_fetch_sub(&t->inside, 1, __ATOMIC_SEQ_CST);
	return t->answer;
}

struct net {
	struct bridge *b;
	struct tap nic, g1, g2; /* a NIC; guests with mac_a and mac_b */
};

static void tap_add(struct net *n, struct tap *t, const uint8_t *only)
{
	t->port.send = tap_send;
	t->port.arg = t;
	t->port.offloads = FRAME_TAKES_CSUM | FRAME_TAKES_TSO4 | FRAME_TAKES_TSO6;
	if (only) {
		t->port.is_guest = true;
		memcpy(t->port.mac, only, 6);
	}
	bridge_add(n->b, &t->port);
}

static int setup(void **state)
{
	struct net *n = calloc(1, sizeof(*n));
	assert_int_equal(bridge_create(&n->b, "lan", 1500, true), 0);
	tap_add(n, &n->nic, NULL);
	tap_add(n, &n->g1, mac_a);
	tap_add(n, &n->g2, mac_b);
	fake_time_freeze(NS_PER_SEC);
	*state = n;
	return 0;
}

static int teardown(void **state)
{
	struct net *n = *state;
	fake_time_thaw();
	bridge_remove(&n->nic.port);
	bridge_remove(&n->g1.port);
	bridge_remove(&n->g2.port);
	bridge_destroy(n->b);
	free(n);
	return 0;
}

static int input(struct tap *from, const uint8_t *dst, const uint8_t *src, size_t len)
{
	uint8_t buf[1600] = { 0 };
	struct frame f;
	memcpy(buf, dst, 6);
	memcpy(buf + 6, src, 6);
	buf[12] = 0x88, buf[13] = 0xb6;
	for (size_t i = 14; i < len; i++)
		buf[i] = (uint8_t)i;
	frame_init_flat(&f, buf, len);
	return bridge_input(&from->port, &f);
}

/* ARP of a sender with address spa that asks for, or claims, tpa; or a frame between hosts if both are NULL. */
static int guest_says(struct tap *from, const uint8_t *spa, const uint8_t *tpa)
{
	uint8_t buf[60] = { 0 };
	struct frame f;
	memcpy(buf, mac_all, 6);
	memcpy(buf + 6, from->port.mac, 6);
	buf[12] = spa ? 0x08 : 0x88, buf[13] = spa ? 0x06 : 0xb5;
	if (spa) {
		memcpy(buf + 14, (uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, 1 }, 8);
		memcpy(buf + 22, from->port.mac, 6);
		memcpy(buf + 28, spa, 4);
		memcpy(buf + 38, tpa, 4);
	}
	frame_init_flat(&f, buf, sizeof(buf));
	return bridge_input(&from->port, &f);
}

/*
 * A guest is no host: it neither claims nor probes a host's address, and does not speak as hosts do among themselves.
 */
static void guests_are_no_hosts(void **state)
{
	struct net *n = *state;
	static const uint8_t host[4] = { 10, 77, 0, 11 }, guest[4] = { 10, 77, 0, 50 }, none[4] = { 0 };
	assert_int_equal(guest_says(&n->g1, host, guest), 0); /* nobody's yet */
	uint32_t ip;
	memcpy(&ip, host, sizeof(ip));
	bridge_guard(n->b, ip_of4(0), false); /* none */
	bridge_guard(n->b, ip_of4(ip), true); /* a router's: a guest that is allowed to be one may be it */
	n->g1.port.policy.router = true;
	assert_int_equal(guest_says(&n->g1, host, guest), 0);
	n->g1.port.policy.router = false;
	assert_int_equal(guest_says(&n->g1, host, guest), -EACCES);
	n->g1.port.policy.router = true;
	bridge_guard(n->b, ip_of4(ip), false); /* and a host's */
	bridge_guard(n->b, ip_of4(ip), true);
	unsigned seen = n->nic.frames;
	assert_int_equal(guest_says(&n->g1, host, guest), -EACCES); /* claims it */
	assert_int_equal(guest_says(&n->g1, host, host), -EACCES);
	assert_int_equal(guest_says(&n->g1, none, host), -EACCES); /* probes it */
	assert_int_equal(guest_says(&n->g1, NULL, NULL), -EACCES);
	assert_int_equal(bridge_dropped(&n->g1.port.stats, true), 5);
	assert_int_equal(n->nic.frames, seen);
	assert_int_equal(guest_says(&n->g1, guest, host), 0); /* asks for it: as who wants to talk to it */
	assert_int_equal(guest_says(&n->g1, none, guest), 0);
	assert_int_equal(n->nic.frames, seen + 2);
	uint32_t probed;
	memcpy(&probed, guest, sizeof(probed));
	bridge_guard_probed(n->b, probed); /* by DHCP it was offered to this host, which asks whether it is free */
	assert_int_equal(guest_says(&n->g1, guest, host), -EACCES);
	bridge_guard_probed(n->b, 0);
	assert_int_equal(guest_says(&n->g1, guest, host), 0);
	bridge_guard_lease(n->b, probed, 0); /* it is the host's now */
	assert_int_equal(guest_says(&n->g1, guest, host), -EACCES);
	for (unsigned i = 0; i < 200; i++) /* one after the other, each of which was the host's alone while it had it */
		bridge_guard_lease(n->b, probed + (i << 24), 0);
	assert_int_equal(guest_says(&n->g1, guest, host), 0);
	bridge_guard_lease(n->b, probed, 0);
	assert_int_equal(guest_says(&n->g1, guest, host), -EACCES);
}

static int say_nd(struct tap *from, const uint8_t router[16], uint8_t type)
{
	uint8_t buf[86] = { 0x33, 0x33, 0, 0, 0, 1 };
	struct frame f;
	memcpy(buf + 6, from->port.mac, 6);
	memcpy(buf + 12, (uint8_t[]){ 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255 }, 10);
	memcpy(buf + 22, router, 16);
	buf[54] = type;
	memcpy(buf + 62, router, 16);
	buf[78] = 2, buf[79] = 1; /* its link-layer address */
	memcpy(buf + 80, from->port.mac, 6);
	frame_init_flat(&f, buf, type == 134 ? 70 : sizeof(buf));
	fake_time_advance(NS_PER_SEC);
	return bridge_input(&from->port, &f);
}

/* A guest takes no router's place: not of those that the wire was heard from, as many as are remembered. */
static void guests_are_no_routers(void **state)
{
	struct net *n = *state;
	uint8_t router[16] = { 0xfe, 0x80, [15] = 1 };
	assert_int_equal(say_nd(&n->g1, router, 136), 0); /* nobody's yet */
	assert_int_equal(say_nd(&n->nic, router, 134), 0);
	assert_int_equal(say_nd(&n->g1, router, 136), -EACCES);
	n->g1.port.policy.router = true;
	assert_int_equal(say_nd(&n->g1, router, 134), 0); /* what a guest says is no reason */
	n->g1.port.policy.router = false;
	for (router[15] = 2; router[15] < 1 + BRIDGE_ROUTERS; router[15]++)
		assert_int_equal(say_nd(&n->nic, router, 134), 0);
	router[15] = 1;
	assert_int_equal(say_nd(&n->nic, router, 134), 0); /* again: it is not the oldest */
	router[15] = 1 + BRIDGE_ROUTERS;
	assert_int_equal(say_nd(&n->nic, router, 134), 0);
	assert_int_equal(say_nd(&n->g1, router, 136), -EACCES);
	router[15] = 2;
	assert_int_equal(say_nd(&n->g1, router, 136), 0);
	router[15] = 1;
	assert_int_equal(say_nd(&n->g1, router, 136), -EACCES);
}

/* Nor does it take a host's IPv6 address: one of tern.conf, or one that the host makes from its MAC. */
static void guests_are_no_hosts6(void **state)
{
	struct net *n = *state;
	static const uint8_t mac[ETH_ALEN] = { 0x52, 0x54, 0, 0, 0, 1 };
	uint8_t host[16] = { 0xfd, 0, 0, 0x77, [15] = 11 };
	uint8_t made[16] = { 0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 1 };
	struct ip ip;
	memcpy(ip.b, host, sizeof(ip.b));
	assert_int_equal(say_nd(&n->g1, host, 136), 0); /* nobody's yet */
	assert_int_equal(say_nd(&n->g1, made, 136), 0);
	bridge_guard(n->b, ip, false);
	bridge_guard_own(n->b, mac);
	assert_int_equal(say_nd(&n->g1, host, 136), -EACCES);
	assert_int_equal(say_nd(&n->g1, made, 136), -EACCES);
	memcpy(made, (uint8_t[]){ 0xfe, 0x80, 0, 0 }, 4);
	assert_int_equal(say_nd(&n->g1, made, 136), -EACCES);
	n->g1.port.policy.router = true; /* which is no leave to be a host */
	assert_int_equal(say_nd(&n->g1, made, 136), -EACCES);
	assert_int_equal(say_nd(&n->g1, host, 136), -EACCES);
	host[15] = made[15] = 12;
	assert_int_equal(say_nd(&n->g1, host, 136), 0);
	assert_int_equal(say_nd(&n->g1, made, 136), 0);
}

static void learns_and_floods(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0); /* broadcast: everybody but the sender */
	assert_int_equal(n->nic.frames, 1);
	assert_int_equal(n->g2.frames, 1);
	assert_int_equal(n->g1.frames, 0);
	assert_int_equal(input(&n->nic, mac_a, mac_c, 60), 0); /* mac_a is learned: its port only */
	assert_int_equal(n->g1.frames, 1);
	assert_int_equal(n->g2.frames, 1);
	assert_int_equal(n->g1.last_len, 60);
	assert_memory_equal(n->g1.last, mac_a, 6);
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), 0); /* and mac_c behind the NIC */
	assert_int_equal(n->nic.frames, 2);
	assert_int_equal(n->g2.frames, 1);
	static const uint8_t unknown[6] = { 2, 9, 9, 9, 9, 9 };
	assert_int_equal(input(&n->g1, unknown, mac_a, 60),
			 0); /* unknown: to the wire, but not to guests that have another MAC */
	assert_int_equal(n->nic.frames, 3);
	assert_int_equal(n->g2.frames, 1);
	assert_int_equal(input(&n->nic, mac_b, mac_c, 60), 0); /* a silent guest is reached by its own MAC */
	assert_int_equal(n->g2.frames, 2);
	assert_int_equal(n->g1.frames, 1);
	assert_int_equal(input(&n->nic, mac_c, mac_b, 60), 0); /* both on one side: stays there */
	assert_int_equal(n->g1.frames + n->g2.frames, 3);
}

struct seen {
	const struct bridge_port *port;
	uint64_t age_ns;
	const uint8_t *mac;
};

static void look(const uint8_t mac[6], const struct bridge_port *p, uint64_t age_ns, void *arg)
{
	struct seen *s = arg;
	if (memcmp(mac, s->mac, 6) == 0) {
		s->port = p;
		s->age_ns = age_ns;
	}
}

static const struct bridge_port *port_of(struct net *n, const uint8_t *mac)
{
	struct seen s = { .mac = mac };
	bridge_for_each_mac(n->b, look, &s);
	return s.port;
}

/* What listens on the host is not for its guests: they may answer its ping; who comes by the wire may do all. */
static void guests_reach_no_service(void **state)
{
	static const struct {
		uint8_t type[2], protocol;
		uint8_t icmp, fragment;
		bool host, others;
	} c[] = {
		{ { 0x08, 0x06 }, 0, 0, 0, true, true },     /* ARP */
		{ { 0x08, 0x00 }, 1, 0, 0, true, true },     /* the answer to a ping */
		{ { 0x08, 0x00 }, 1, 8, 0, false, true },    /* a ping */
		{ { 0x08, 0x00 }, 1, 3, 0, false, true },    /* "fragmentation needed" and the like */
		{ { 0x08, 0x00 }, 1, 0, 0x20, false, true }, /* a fragment */
		{ { 0x08, 0x00 }, 6, 0, 0, false, true },    /* TCP */
		{ { 0x08, 0x00 }, 17, 0, 0, false, true },   /* UDP */
		{ { 0x86, 0xdd }, 59, 0, 0, false, true },   /* IPv6, and nothing follows */
		{ { 0x86, 0xdd }, 58, 129, 0, true, true },  /* the answer to a ping */
		{ { 0x86, 0xdd }, 58, 128, 0, false, true }, /* a ping */
		{ { 0x86, 0xdd }, 58, 2, 0, false, true },   /* "packet too big" */
		{ { 0x81, 0x00 }, 0, 0, 0, false, true },    /* a tag, and who knows what */
		{ { 0x88, 0xb5 }, 0, 0, 0, false, false },   /* not even on the wire */
	};
	static const uint8_t mac_host[6] = { 2, 0, 0, 0, 0, 0x1f };
	const uint8_t *to[] = { mac_host, mac_all };
	struct net *n = *state;
	struct tap host = { .port.is_host = true };
	n->g1.port.policy.trunk = true;
	memcpy(host.port.mac, mac_host, 6);
	tap_add(n, &host, NULL);
	assert_int_equal(bridge_bind(&host.port), 0);
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(c); i++) {
		uint8_t buf[60] = { 0 };
		const uint8_t *dst = to[i & 1];
		struct frame f;
		unsigned before = host.frames, nic = n->nic.frames;
		memcpy(buf, dst, 6);
		memcpy(buf + 6, mac_a, 6);
		memcpy(buf + 12, c[i / 2].type, 2);
		if (c[i / 2].type[1] == 6) {
			memcpy(buf + 14, (uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, 1 }, 8);
			memcpy(buf + 22, mac_a, 6);
		} else if (c[i / 2].type[0] == 8) {
			buf[14] = 0x45;
			buf[20] = c[i / 2].fragment;
			buf[23] = c[i / 2].protocol;
			buf[34] = c[i / 2].icmp;
		} else {
			buf[14] = 0x60;
			buf[20] = c[i / 2].protocol;
			buf[54] = c[i / 2].icmp;
		}
		frame_init_flat(&f, buf, sizeof(buf));
		(void)bridge_input(&n->g1.port, &f);
		assert_int_equal(host.frames - before, c[i / 2].host);
		assert_int_equal(n->nic.frames - nic, dst == mac_all && c[i / 2].others);
		memcpy(buf + 6, mac_c, 6);
		before = host.frames;
		(void)bridge_input(&n->nic.port, &f);
		assert_int_equal(host.frames - before, 1);
	}
	bridge_remove(&host.port);
}

static void rarp_moves_a_mac(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0);
	assert_ptr_equal(port_of(n, mac_a), &n->g1.port);
	uint8_t rarp[ANNOUNCE_FRAME_MAX];
	struct frame f;
	frame_init_flat(&f, rarp, announce_rarp(rarp, mac_a));
	assert_int_equal(bridge_input(&n->nic.port, &f), 0); /* the guest runs on another host now */
	assert_ptr_equal(port_of(n, mac_a), &n->nic.port);
	unsigned before = n->nic.frames;
	assert_int_equal(input(&n->g2, mac_a, mac_b, 60), 0);
	assert_int_equal(n->nic.frames, before + 1);
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0); /* and back, should it go on here */
	assert_ptr_equal(port_of(n, mac_a), &n->g1.port);
}

static void ages(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->nic, mac_all, mac_c, 60), 0);
	fake_time_advance(299 * NS_PER_SEC);
	assert_ptr_equal(port_of(n, mac_c), &n->nic.port);
	struct tap other = { 0 };
	tap_add(n, &other, NULL);
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), 0);
	assert_int_equal(other.frames, 0);
	fake_time_advance(2 * NS_PER_SEC);
	assert_null(port_of(n, mac_c));
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), 0); /* forgotten: flooded */
	assert_int_equal(other.frames, 1);
	bridge_remove(&other.port);
}

static void a_full_table_still_forwards(void **state)
{
	struct net *n = *state;
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t src[6] = { 2, 1, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
		fake_time_advance(1);
		assert_int_equal(input(&n->nic, mac_a, src, 60), 0);
		assert_ptr_equal(port_of(n, src), &n->nic.port); /* the newest always has a place */
		if (i > 2000)
			i += 97;
	}
}

/* MACs of one series, as machines on a network often have, do not crowd each other out. */
static void a_series_of_macs(void **state)
{
	struct net *n = *state;
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(input(&n->nic, mac_a, (uint8_t[]){ 2, 5, 0, 0, 0, (uint8_t)i }, 60), 0);
	for (unsigned i = 0; i < 256; i++)
		assert_ptr_equal(port_of(n, (uint8_t[]){ 2, 5, 0, 0, 0, (uint8_t)i }), &n->nic.port);
}

static void guests_cannot_spoof(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->g1, mac_all, mac_b, 60), -EACCES);
	assert_int_equal(bridge_dropped(&n->g1.port.stats, true), 1);
	assert_int_equal(n->nic.frames + n->g2.frames, 0);
	assert_null(port_of(n, mac_b));
	static const uint8_t group[6] = { 3, 0, 0, 0, 0, 1 };
	assert_int_equal(input(&n->nic, mac_all, group, 60), -EINVAL); /* a group address is no source */
	assert_int_equal(n->g1.frames, 0);
	assert_int_equal(input(&n->nic, mac_all, mac_c, 13), -EINVAL);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, false), 2);
}

/* What is bound to a port is reached there, whoever else sends from it; one that does is counted. */
static void bound_macs_stay(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->nic, mac_all, mac_a, 60), 0); /* learned at the wire before it is bound */
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	unsigned frames = n->g1.frames;
	assert_int_equal(input(&n->nic, mac_b, mac_a, 60), -EACCES);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, true), 1);
	assert_int_equal(n->g2.frames, 1); /* by the first alone */
	assert_int_equal(n->nic.port.stats.rx_frames, 1);
	uint8_t rarp[ANNOUNCE_FRAME_MAX];
	struct frame f;
	frame_init_flat(&f, rarp, announce_rarp(rarp, mac_a));
	assert_int_equal(bridge_input(&n->nic.port, &f), -EACCES);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, true), 2);
	assert_int_equal(input(&n->nic, mac_a, mac_c, 60), 0);
	assert_int_equal(input(&n->g2, mac_a, mac_b, 60), 0);
	assert_int_equal(n->g1.frames, frames + 2);
	assert_int_equal(n->nic.frames, 0); /* and not flooded, though the guest has sent nothing yet */
	assert_ptr_equal(port_of(n, mac_a), &n->g1.port);
	fake_time_advance(1000 * NS_PER_SEC); /* it does not age */
	assert_int_equal(input(&n->g1, mac_b, mac_a, 60), 0);
	assert_int_equal(input(&n->nic, mac_a, mac_c, 60), 0);
	assert_int_equal(n->g1.frames, frames + 3);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, true), 2);
}

static void twins_are_not_bound(void **state)
{
	struct net *n = *state;
	struct tap twin = { 0 };
	tap_add(n, &twin, mac_a);
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	assert_int_equal(bridge_bind(&twin.port), -EEXIST);
	assert_int_equal(input(&twin, mac_all, mac_a, 60), -EACCES);
	assert_int_equal(bridge_dropped(&twin.port.stats, true), 1);
	bridge_unbind(&twin.port); /* which it was not */
	assert_ptr_equal(port_of(n, mac_a), &n->g1.port);
	bridge_unbind(&n->g1.port);
	assert_int_equal(bridge_bind(&twin.port), 0);
	bridge_remove(&twin.port); /* and its MAC is free again */
	assert_null(port_of(n, mac_a));
	assert_int_equal(bridge_bind(&n->g1.port), 0);
}

/* A guest stands still for the switch-over and then runs at the destination; or it goes on here after all. */
static void an_unbound_mac_moves(void **state)
{
	struct net *n = *state;
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0); /* what is bound is not learned beside that */
	bridge_unbind(&n->g1.port);
	bridge_unbind(&n->g1.port);
	assert_null(port_of(n, mac_a));
	uint8_t rarp[ANNOUNCE_FRAME_MAX];
	struct frame f;
	frame_init_flat(&f, rarp, announce_rarp(rarp, mac_a));
	assert_int_equal(bridge_input(&n->nic.port, &f), 0);
	assert_ptr_equal(port_of(n, mac_a), &n->nic.port);
	unsigned frames = n->nic.frames, here = n->g1.frames;
	assert_int_equal(input(&n->g2, mac_a, mac_b, 60), 0);
	assert_int_equal(n->nic.frames, frames + 1);
	assert_int_equal(n->g1.frames, here);
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	assert_int_equal(input(&n->g2, mac_a, mac_b, 60), 0);
	assert_int_equal(n->g1.frames, here + 1);
	bridge_remove(&n->g1.port);
	bridge_unbind(&n->g1.port); /* harmless */
	assert_int_equal(input(&n->nic, mac_all, mac_a, 60), 0);
	assert_ptr_equal(port_of(n, mac_a), &n->nic.port);
	bridge_add(n->b, &n->g1.port);
}

/* Learning is not crowded out by static MACs, however many share a place in the table. */
static void many_bound_macs(void **state)
{
	struct net *n = *state;
	enum { MANY = 2000 };
	struct tap *tap = calloc(MANY, sizeof(*tap));
	for (unsigned i = 0; i < MANY; i++) {
		uint8_t mac[6] = { 2, 0, 0, 1, (uint8_t)(i >> 8), (uint8_t)i };
		tap_add(n, &tap[i], mac);
		assert_int_equal(bridge_bind(&tap[i].port), 0);
	}
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(input(&n->nic, tap[i].port.mac, mac_c, 60), 0);
		assert_int_equal(tap[i].frames, 1);
		assert_int_equal(input(&n->nic, mac_all, tap[i].port.mac, 60), -EACCES);
	}
	assert_ptr_equal(port_of(n, mac_c), &n->nic.port);
	for (unsigned i = 0; i < MANY; i++)
		bridge_remove(&tap[i].port);
	free(tap);
}

/* An IPv4/TCP frame of n payload bytes from mac_b to mac_a; its checksum holds the pseudo header's sum. */
static size_t tcp_frame(uint8_t *p, size_t n)
{
	size_t tcp_len = 20 + n, ip_len = 20 + tcp_len;
	memset(p, 0, 54);
	memcpy(p, mac_a, 6);
	memcpy(p + 6, mac_b, 6);
	p[12] = 8;
	uint8_t *ip = p + 14, *tcp = p + 34;
	ip[0] = 0x45, ip[2] = (uint8_t)(ip_len >> 8), ip[3] = (uint8_t)ip_len, ip[6] = 0x40, ip[8] = 64, ip[9] = 6;
	memcpy(ip + 12, (uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8);
	tcp[12] = 0x50, tcp[13] = 0x18;
	uint32_t sum = 6 + (uint32_t)tcp_len;
	for (unsigned i = 12; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	tcp[16] = (uint8_t)(sum >> 8), tcp[17] = (uint8_t)sum;
	for (size_t i = 0; i < n; i++)
		tcp[20 + i] = (uint8_t)(i * 7);
	return 54 + n;
}

static uint16_t tcp_sum(const uint8_t *p, size_t len)
{
	uint32_t sum = 6 + (uint32_t)(len - 34);
	for (size_t i = 26; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum; /* 0xffff when it is right */
}

static void finishes_offloads(void **state)
{
	struct net *n = *state;
	uint8_t buf[6000];
	struct frame f;
	frame_init_flat(&f, buf, tcp_frame(buf, 5000));
	f.flags = FRAME_NEEDS_CSUM;
	f.csum_start = 34, f.csum_offset = 16, f.hdr_len = 54;
	f.gso = FRAME_GSO_TCPV4, f.gso_size = 1460;
	assert_int_equal(bridge_input(&n->g2.port, &f), 0); /* flooded to the guest that has mac_a: as it is */
	assert_int_equal(n->g1.frames, 1);
	assert_int_equal(n->g1.last_gso, FRAME_GSO_TCPV4);
	assert_int_equal(n->g1.last_flags, FRAME_NEEDS_CSUM);
	n->g1.port.offloads = 0;
	assert_int_equal(bridge_input(&n->g2.port, &f), 0); /* now in pieces of 1460 with good checksums */
	assert_int_equal(n->g1.frames, 1 + 4);
	assert_int_equal(n->g1.last_len, 54 + 5000 - 3 * 1460);
	assert_int_equal(n->g1.last_gso, 0);
	assert_int_equal(n->g1.last_flags, 0);
	assert_int_equal(tcp_sum(n->g1.last, n->g1.last_len), 0xffff);
	frame_init_flat(&f, buf, tcp_frame(buf, 100)); /* a small one needs its checksum only */
	f.flags = FRAME_NEEDS_CSUM;
	f.csum_start = 34, f.csum_offset = 16;
	assert_int_equal(bridge_input(&n->g2.port, &f), 0);
	assert_int_equal(n->g1.frames, 6);
	assert_int_equal(tcp_sum(n->g1.last, n->g1.last_len), 0xffff);
	f.csum_start = 2000; /* nonsense reaches nobody */
	input(&n->g1, mac_all, mac_a, 60);
	assert_int_equal(bridge_input(&n->g2.port, &f), -EINVAL);
	assert_int_equal(n->g1.frames, 6);
	assert_int_equal(n->g2.port.stats.drops[BRIDGE_DROP_OFFLOAD], 1);
}

/*
 * A guest that changes its frame's header while it is on its way: what leaves is what was judged, by each port of a
 * flood, and by one for which the frame is cut.
 */
static void a_header_is_read_once(void **state)
{
	struct net *n = *state;
	uint8_t buf[6000], before[6000];
	struct frame f;
	n->nic.forge = buf; /* the first port */
	n->g1.port.offloads = 0;
	size_t len = tcp_frame(buf, 5000);
	memcpy(buf, mac_all, 6);
	memcpy(before, buf, len);
	frame_init_flat(&f, buf, len);
	f.flags = FRAME_NEEDS_CSUM;
	f.csum_start = 34, f.csum_offset = 16;
	f.gso = FRAME_GSO_TCPV4, f.gso_size = 1460;
	assert_int_equal(bridge_input(&n->g2.port, &f), 0);
	assert_memory_equal(n->nic.last, before, 256);
	assert_int_equal(buf[6], 0xee); /* it did change */
	assert_int_equal(n->nic.last[300], 0xdd);
	assert_int_equal(n->g1.frames, 4);
	assert_memory_equal(n->g1.last, mac_all, 6);
	assert_memory_equal(n->g1.last + 6, mac_b, 6);
	assert_memory_equal(n->g1.last + 12, before + 12, 4); /* type, and how IP begins */
	assert_int_equal(tcp_sum(n->g1.last, n->g1.last_len), 0xffff);
}

/* A guest's frame in pieces: all that a frame has but one, and any cuts. */
static void pieces(void **state)
{
	struct net *n = *state;
	uint8_t buf[1000];
	for (unsigned cuts = 1; cuts <= FRAME_IOV_MAX; cuts++)
		for (size_t first = 1; first < 600; first += 7) {
			struct frame f = { .len = (uint32_t)(first + 10 * (cuts - 1)), .niov = cuts };
			if (f.len < 60)
				continue;
			for (size_t i = 0; i < f.len; i++)
				buf[i] = (uint8_t)(i * 5);
			memcpy(buf, mac_all, 6);
			memcpy(buf + 6, mac_a, 6);
			memcpy(buf + 12, (uint8_t[]){ 0x88, 0xb6 }, 2);
			for (unsigned i = 0; i < cuts; i++)
				f.iov[i] =
					i ? (struct iov){ buf + first + 10 * (i - 1), 10 } : (struct iov){ buf, first };
			n->nic.last_len = 0;
			fake_time_advance(NS_PER_SEC);
			int err = bridge_input(&n->g1.port, &f);
			if (err) {
				assert_int_equal(err, -EINVAL);
				assert_true(cuts == FRAME_IOV_MAX && first > BRIDGE_HEAD); /* no room for the copy */
				continue;
			}
			assert_int_equal(n->nic.last_len, f.len);
			assert_memory_equal(n->nic.last, buf, f.len);
		}
	assert_true(n->g1.port.stats.drops[BRIDGE_DROP_MALFORMED]);
}

/* What goes to everybody costs everybody: a guest has so many a second. */
static void storms_end(void **state)
{
	struct net *n = *state;
	static const uint8_t group[6] = { 1, 0, 0x5e, 0, 0, 0xfb }, unknown[6] = { 2, 9, 9, 9, 9, 9 };
	const uint8_t *to[] = { mac_all, group, unknown };
	assert_int_equal(input(&n->nic, mac_all, mac_c, 60), 0);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(input(&n->g1, to[i % 3], mac_a, 60), i < BRIDGE_FLOODS_BURST ? 0 : -EACCES);
	assert_int_equal(n->nic.frames, BRIDGE_FLOODS_BURST);
	assert_int_equal(n->g1.port.stats.drops[BRIDGE_DROP_STORM], 5000 - BRIDGE_FLOODS_BURST);
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), 0); /* to who is known, as ever */
	static const uint8_t mac_host[6] = { 2, 0, 0, 0, 0, 0x1f };
	struct tap host = { .port.is_host = true };
	memcpy(host.port.mac, mac_host, 6);
	tap_add(n, &host, NULL);
	assert_int_equal(bridge_bind(&host.port), 0);
	assert_int_equal(input(&n->g1, mac_host, mac_a, 60), -EACCES); /* but its host has as few */
	bridge_remove(&host.port);
	assert_int_equal(input(&n->g2, mac_all, mac_b, 60), 0); /* and others are not held up */
	n->nic.frames = 0;
	for (unsigned ms = 0; ms < 3000; ms++) {
		fake_time_advance(NS_PER_MS);
		for (unsigned i = 0; i < 10; i++)
			(void)input(&n->g1, to[i % 3], mac_a, 60);
	}
	assert_int_equal(n->nic.frames, 3 * BRIDGE_FLOODS);
	fake_time_advance(3600 * NS_PER_SEC); /* silence is not saved up */
	n->nic.frames = 0;
	for (unsigned i = 0; i < 5000; i++)
		(void)input(&n->g1, mac_all, mac_a, 60);
	assert_int_equal(n->nic.frames, BRIDGE_FLOODS_BURST);
	uint8_t buf[60] = { 0 };
	struct frame own;
	memcpy(buf, mac_all, 6), memcpy(buf + 6, mac_a, 6);
	frame_init_flat(&own, buf, sizeof(buf));
	assert_int_equal(bridge_input(&n->g1.port, &own), -EACCES);
	assert_int_equal(bridge_speak_for(&n->g1.port, &own), 0); /* what tern says for it is not kept back... */
	assert_int_equal(n->nic.frames, BRIDGE_FLOODS_BURST + 1);
	memcpy(buf + 6, mac_b, 6);
	assert_int_equal(bridge_speak_for(&n->g1.port, &own), -EACCES); /* ...but judged */
	for (unsigned i = 0; i < 5000; i++)                             /* who is no guest has no bound */
		assert_int_equal(input(&n->nic, mac_all, mac_c, 60), 0);
}

/* Frames for the next bridge alone stay on their wire, whichever that is. */
static void bridges_talk_to_nobody_else(void **state)
{
	struct net *n = *state;
	uint8_t group[6] = { 1, 0x80, 0xc2, 0, 0, 0 };
	for (group[5] = 0; group[5] < 16; group[5]++) {
		assert_int_equal(input(&n->g1, group, mac_a, 60), -EACCES);
		assert_int_equal(input(&n->nic, group, mac_c, 60), -EACCES);
	}
	assert_int_equal(n->nic.frames + n->g1.frames + n->g2.frames, 0);
	assert_int_equal(n->nic.port.stats.drops[BRIDGE_DROP_RESERVED], 16);
	assert_int_equal(input(&n->g1, group, mac_a, 60), 0);
	assert_int_equal(n->nic.frames, 1);
}

static int tagged(struct net *n, size_t payload)
{
	static uint8_t buf[2048];
	struct frame f;
	memcpy(buf, mac_all, 6);
	memcpy(buf + 6, mac_a, 6);
	memcpy(buf + 12, (uint8_t[]){ 0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 0x88, 0xb6 }, 10);
	frame_init_flat(&f, buf, 22 + payload);
	f.flags = FRAME_NEEDS_CSUM; /* which is finished here */
	f.csum_start = 22, f.csum_offset = 10;
	return bridge_input(&n->g1.port, &f);
}

static void trunks_carry_two_tags(void **state)
{
	struct net *n = *state;
	n->nic.port.offloads = 0;
	assert_int_equal(tagged(n, 100), -EACCES);
	assert_int_equal(n->g1.port.stats.drops[BRIDGE_DROP_TAG], 1);
	n->g1.port.policy.trunk = true;
	assert_int_equal(tagged(n, 1500), 0);
	assert_int_equal(n->nic.last_len, 1522);
	assert_int_equal(n->g2.last_len, 1522);
	assert_int_equal(tagged(n, 1501), -EINVAL);
	assert_int_equal(n->g1.port.stats.drops[BRIDGE_DROP_LONG], 1);
	assert_int_equal(n->nic.frames, 1);
}

/* A guest with others behind it: they are reached, and take nothing from who is at home here. */
static void a_guest_of_many_macs(void **state)
{
	struct net *n = *state;
	static const uint8_t inner[6] = { 2, 7, 7, 7, 7, 7 }, mac_host[6] = { 2, 0, 0, 0, 0, 0x1f };
	struct tap host = { .port.is_host = true };
	memcpy(host.port.mac, mac_host, 6);
	tap_add(n, &host, NULL);
	assert_int_equal(bridge_bind(&host.port), 0);
	assert_int_equal(bridge_bind(&n->g1.port), 0);
	assert_int_equal(bridge_bind(&n->g2.port), 0);
	n->g1.port.policy.any_mac = true;
	assert_int_equal(input(&n->nic, inner, mac_c, 60), 0); /* not heard of yet: looked for there as well */
	assert_int_equal(n->g1.frames, 1);
	assert_int_equal(n->g2.frames, 0);
	assert_int_equal(input(&n->g1, mac_all, inner, 60), 0);
	assert_ptr_equal(port_of(n, inner), &n->g1.port);
	assert_int_equal(input(&n->g2, inner, mac_b, 60), 0);
	assert_int_equal(n->g1.frames, 2);
	assert_int_equal(input(&n->g1, mac_all, mac_b, 60), -EACCES);
	assert_int_equal(input(&n->g1, mac_all, mac_host, 60), -EACCES);
	assert_int_equal(n->g1.port.stats.drops[BRIDGE_DROP_BOUND], 2);
	/* Those on the wire keep their places, however many it makes up; theirs are taken from it. */
	for (unsigned i = 0; i < 2000; i++)
		(void)input(&n->nic, mac_a, (uint8_t[]){ 2, 3, 0, 0, (uint8_t)(i >> 8), (uint8_t)i }, 60);
	bool kept[2000];
	for (unsigned i = 0; i < 2000; i++)
		kept[i] = port_of(n, (uint8_t[]){ 2, 3, 0, 0, (uint8_t)(i >> 8), (uint8_t)i }) != NULL;
	for (unsigned i = 0; i < 20000; i++) {
		fake_time_advance(NS_PER_MS);
		(void)input(&n->g1, mac_c, (uint8_t[]){ 2, 4, 0, 0, (uint8_t)(i >> 8), (uint8_t)i }, 60);
	}
	for (unsigned i = 0; i < 2000; i++)
		if (kept[i])
			assert_ptr_equal(port_of(n, (uint8_t[]){ 2, 3, 0, 0, (uint8_t)(i >> 8), (uint8_t)i }),
					 &n->nic.port);
	bridge_remove(&host.port);
}

/* A guest's many MACs, however fresh, give place to those of the wire, which do not push out each other for them. */
static void the_wire_comes_first(void **state)
{
	struct net *n = *state;
	unsigned kept = 0;
	n->g1.port.policy.any_mac = true;
	(void)input(&n->nic, mac_all, mac_c, 60);
	for (unsigned half = 0; half < 2; half++) {
		for (unsigned i = 0; i < 5000; i++) {
			fake_time_advance(1);
			(void)input(&n->g1, mac_c, (uint8_t[]){ 2, 4, 0, 0, (uint8_t)(i >> 8), (uint8_t)i }, 60);
		}
		for (unsigned i = 0; i < 128; i++)
			(void)input(&n->nic, mac_c, (uint8_t[]){ 2, 3, 0, 0, (uint8_t)half, (uint8_t)i }, 60);
	}
	for (unsigned i = 0; i < 256; i++)
		kept += port_of(n, (uint8_t[]){ 2, 3, 0, 0, i >= 128, (uint8_t)(i % 128) }) == &n->nic.port;
	assert_true(kept >= 250);
}

/* The operator is told once what a guest does, and what helps; again after an hour. */
static void tells_of_another_mac(void **state)
{
	struct net *n = *state;
	strcpy(n->g1.port.name, "demo");
	fake_log_clear();
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0);
	assert_string_equal(fake_log_last(), "");
	assert_int_equal(input(&n->g1, mac_all, mac_c, 60), -EACCES);
	assert_non_null(
		strstr(fake_log_last(), "demo sends from the MAC 02:00:00:00:00:0c, but has 02:00:00:00:00:0a"));
	assert_non_null(strstr(fake_log_last(), "mac_change = allow"));
	fake_log_clear();
	for (unsigned i = 0; i < 3599; i++) {
		fake_time_advance(NS_PER_SEC);
		(void)input(&n->g1, mac_all, mac_c, 60);
		(void)input(&n->g1, mac_all, mac_b, 60);
	}
	assert_string_equal(fake_log_last(), "");
	fake_time_advance(NS_PER_SEC);
	(void)input(&n->g1, mac_all, mac_b, 60);
	assert_non_null(strstr(fake_log_last(), "02:00:00:00:00:0b"));
}

static void tells_a_full_queue(void **state)
{
	struct net *n = *state;
	assert_int_equal(input(&n->nic, mac_all, mac_c, 60), 0);
	n->nic.answer = -ENOBUFS;
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), -ENOBUFS);
	assert_int_equal(n->nic.port.stats.drops[BRIDGE_DROP_FULL], 1);
	assert_int_equal(input(&n->g1, mac_all, mac_a, 60), 0); /* flooding never fails */
	n->nic.answer = -ENETDOWN;
	assert_int_equal(input(&n->g1, mac_c, mac_a, 60), -ENETDOWN);
	assert_int_equal(n->nic.port.stats.drops[BRIDGE_DROP_REFUSED], 1);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, false), 3);
	assert_int_equal(bridge_dropped(&n->nic.port.stats, true), 0);
}

static unsigned room_of(void *arg, size_t len unused)
{
	(void)arg;
	return 3;
}

/* A large frame that must be cut, for a queue that cannot hold it all: nothing of it goes out. */
static void a_large_frame_goes_whole(void **state)
{
	struct net *n = *state;
	uint8_t buf[6000];
	struct frame f;
	n->g1.port.offloads = 0;
	n->g1.port.room = room_of;
	input(&n->g1, mac_all, mac_a, 60);
	frame_init_flat(&f, buf, tcp_frame(buf, 5000));
	f.flags = FRAME_NEEDS_CSUM;
	f.csum_start = 34, f.csum_offset = 16, f.hdr_len = 54;
	f.gso = FRAME_GSO_TCPV4, f.gso_size = 1460;
	assert_int_equal(bridge_input(&n->g2.port, &f), -ENOBUFS);
	assert_int_equal(n->g1.frames, 0);
	frame_init_flat(&f, buf, tcp_frame(buf, 3 * 1400));
	f.flags = FRAME_NEEDS_CSUM;
	f.csum_start = 34, f.csum_offset = 16, f.hdr_len = 54;
	f.gso = FRAME_GSO_TCPV4, f.gso_size = 1460;
	assert_int_equal(bridge_input(&n->g2.port, &f), 0);
	assert_int_equal(n->g1.frames, 3);
}

struct pusher {
	struct net *n;
	bool stop; /* atomic */
};

static void push(void *arg)
{
	struct pusher *p = arg;
	while (!__atomic_load_n(&p->stop, __ATOMIC_SEQ_CST)) {
		input(&p->n->nic, mac_a, mac_c, 60);
		input(&p->n->nic, mac_all, mac_c, 60);
	}
}

/*
 * A port leaves while it is learned and frames are on their way into it: after that nobody is inside, nothing is
 * learned.
 */
static void leaves_under_load(void **state)
{
	struct net *n = *state;
	fake_time_thaw();
	struct pusher p = { .n = n };
	n->g1.slow_us = 200;
	input(&n->g1, mac_all, mac_a, 60);
	for (unsigned i = 0; i < 4; i++)
		assert_non_null(task_create("push", TASK_PRIO_NORMAL, push, &p));
	for (unsigned round = 0; round < 20; round++) {
		task_sleep_until(time_ns() + NS_PER_MS);
		bridge_remove(&n->g1.port);
		assert_int_equal(__atomic_load_n(&n->g1.inside, __ATOMIC_SEQ_CST), 0);
		unsigned frames = n->g1.frames;
		assert_null(port_of(n, mac_a));
		task_sleep_until(time_ns() + NS_PER_MS);
		assert_int_equal(n->g1.frames, frames);
		assert_int_equal(input(&n->g1, mac_all, mac_a, 60), -ENETDOWN);
		bridge_add(n->b, &n->g1.port);
		input(&n->g1, mac_all, mac_a, 60);
	}
	__atomic_store_n(&p.stop, true, __ATOMIC_SEQ_CST);
	assert_true(fake_tasks_wait());
	bridge_remove(&n->g1.port);
	bridge_remove(&n->g1.port); /* twice is harmless */
	bridge_add(n->b, &n->g1.port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(learns_and_floods, setup, teardown),
		cmocka_unit_test_setup_teardown(guests_are_no_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(guests_are_no_routers, setup, teardown),
		cmocka_unit_test_setup_teardown(guests_are_no_hosts6, setup, teardown),
		cmocka_unit_test_setup_teardown(guests_reach_no_service, setup, teardown),
		cmocka_unit_test_setup_teardown(rarp_moves_a_mac, setup, teardown),
		cmocka_unit_test_setup_teardown(ages, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_table_still_forwards, setup, teardown),
		cmocka_unit_test_setup_teardown(a_series_of_macs, setup, teardown),
		cmocka_unit_test_setup_teardown(guests_cannot_spoof, setup, teardown),
		cmocka_unit_test_setup_teardown(bound_macs_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(twins_are_not_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(an_unbound_mac_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(many_bound_macs, setup, teardown),
		cmocka_unit_test_setup_teardown(finishes_offloads, setup, teardown),
		cmocka_unit_test_setup_teardown(a_header_is_read_once, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(storms_end, setup, teardown),
		cmocka_unit_test_setup_teardown(bridges_talk_to_nobody_else, setup, teardown),
		cmocka_unit_test_setup_teardown(trunks_carry_two_tags, setup, teardown),
		cmocka_unit_test_setup_teardown(a_guest_of_many_macs, setup, teardown),
		cmocka_unit_test_setup_teardown(the_wire_comes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(tells_of_another_mac, setup, teardown),
		cmocka_unit_test_setup_teardown(tells_a_full_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(a_large_frame_goes_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_under_load, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
