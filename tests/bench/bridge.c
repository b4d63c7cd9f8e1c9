/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a frame costs in the bridge, in instructions: from bridge_input() to the port's send(), and back. The objects
 * are those of the kernel's image, with locks and a clock of a few instructions.
 */
#include "kernel/log.h"
#include "kernel/sync.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "net/packet.h"
#include "tests/bench/count.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the kernel's objects want of it. */
uintptr_t __stack_chk_guard = 0x5bd1e995;
uint64_t time_ns(void) { return NS_PER_SEC; }
void spin_init(struct spinlock *l, const char *name) { (void)l, (void)name; }
uint64_t spin_lock_irqsave(struct spinlock *l)
{
	(void)l;
	return 0;
}
void spin_unlock_irqrestore(struct spinlock *l, uint64_t flags) { (void)l, (void)flags; }
void waitq_init(struct waitq *q) { (void)q; }
int waitq_wait(struct waitq *q, struct spinlock *l, uint64_t *flags, uint64_t end)
{
	(void)q, (void)l, (void)flags, (void)end;
	return 0;
}
void waitq_wake_all(struct waitq *q) { (void)q; }
void log_printf(enum log_level level, const char *fmt, ...) { (void)level, (void)fmt; }
int why_set(struct why *w, int err, const char *fmt, ...)
{
	(void)w, (void)fmt;
	return err;
}
int sniprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

/* ---- what is forwarded ---- */

static struct bridge *bridge, *other;
static struct bridge_port wire, host, guest[2], sender, plain; /* the last two at `other`; plain cuts no segments */
static uint8_t buf[ETH_HLEN + 65535];

static int sink(void *arg, const struct frame *f)
{
	(void)arg, (void)f;
	return 0;
}

static void add(struct bridge *b, struct bridge_port *p, uint8_t n)
{
	p->send = sink;
	p->offloads = FRAME_TAKES_CSUM | FRAME_TAKES_TSO4 | FRAME_TAKES_TSO6;
	memcpy(p->mac, (uint8_t[]){ 2, 0, 0, 0, 0, n }, ETH_ALEN);
	bridge_add(b, p);
	if (bridge_bind(p))
		exit(1);
}

/* A TCP segment of IPv4 that a checksum is still to be put into, or a broadcast of ARP. */
static void build(struct frame *f, const struct bridge_port *from, const struct bridge_port *to, size_t len,
		  uint16_t gso_size)
{
	memset(buf, 0, 128);
	memset(buf, 0xff, ETH_ALEN);
	if (to)
		memcpy(buf, to->mac, ETH_ALEN);
	memcpy(buf + ETH_SRC, from->mac, ETH_ALEN);
	put_be16(buf + ETH_TYPE, to ? ETHERTYPE_IPV4 : ETHERTYPE_ARP);
	frame_init_flat(f, buf, len);
	uint8_t *l3 = buf + ETH_HLEN;
	if (!to) {
		memcpy(l3, packet_arp_head, sizeof(packet_arp_head));
		memcpy(l3 + ARP_SENDER_MAC, from->mac, ETH_ALEN);
		memcpy(l3 + ARP_SENDER_IP, (uint8_t[]){ 10, 77, 0, 50 }, 4);
		return;
	}
	l3[0] = 0x45;
	l3[IP4_PROTO] = PROTO_TCP;
	put_be16(l3 + IP4_LEN, (uint16_t)(len - ETH_HLEN));
	memcpy(l3 + IP4_SRC, (uint8_t[]){ 10, 77, 0, 50, 10, 77, 0, 51 }, 8);
	l3[IP4_HDR + 12] = 5 << 4; /* TCP's own header is 20 bytes */
	f->flags = FRAME_NEEDS_CSUM;
	f->csum_start = ETH_HLEN + IP4_HDR;
	f->csum_offset = 16;
	if (len > 1514) {
		f->gso = FRAME_GSO_TCPV4;
		f->gso_size = gso_size;
		f->hdr_len = ETH_HLEN + IP4_HDR + 20;
	}
}

static const struct {
	const char *name;
	struct bridge_port *from, *to; /* to: NULL, all */
	size_t len;
	uint16_t gso_size;
} kinds[] = {
	{ "guest to wire", &guest[0], &wire, 1514, 0 },
	{ "guest to wire, 60 KiB to segment", &guest[0], &wire, 61440, 1448 },
	{ "wire to guest", &wire, &guest[0], 1514, 0 },
	{ "guest to guest", &guest[0], &guest[1], 1514, 0 },
	{ "guest to all of 3 ports", &guest[0], NULL, 60, 0 },
	{ "cut here: 64 KiB, 1448 bytes each", &sender, &plain, sizeof(buf), 1448 },
	{ "cut here: 64 KiB, 48 bytes each", &sender, &plain, sizeof(buf), 48 }, /* a guest can do no worse */
};

static const char *name(size_t i) { return kinds[i].name; }

static void setup(void)
{
	if (bridge_create(&bridge, "lan", 1500, true) || bridge_create(&other, "other", 1500, false))
		exit(1);
	guest[0].is_guest = guest[1].is_guest = sender.is_guest = true;
	host.is_host = true;
	add(bridge, &wire, 1), add(bridge, &host, 2), add(bridge, &guest[0], 3), add(bridge, &guest[1], 4);
	add(other, &sender, 5), add(other, &plain, 6);
	plain.offloads = 0;
}

static struct frame frame;
static void prepare(size_t i) { build(&frame, kinds[i].from, kinds[i].to, kinds[i].len, kinds[i].gso_size); }
static int forward(size_t i) { return bridge_input(kinds[i].from, &frame); }

int main(int argc, char **argv)
{
	return count_main(argc, argv,
			  &(struct counted){ .program = "bench_bridge",
					     .n = ARRAY_SIZE(kinds),
					     .name = name,
					     .setup = setup,
					     .prepare = prepare,
					     .run = forward });
}
