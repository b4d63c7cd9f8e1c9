/* SPDX-License-Identifier: BSD-2-Clause */
/* The `ping` command: ICMP echo (RFC 792) through a raw lwIP pcb. */
#include "kernel/console.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/raw.h"
#include "lwip/tcpip.h"
#include "net/net.h"
#include "net/port.h"
#include <string.h>

#define PING_COUNT  4
#define PING_DATA   56
#define TIMEOUT_MS  1000
#define INTERVAL_MS 200

struct ping {             /* [C] lwIP's core lock */
	uint16_t id, seq; /* [C] the one waited for */
	bool waiting;     /* [C] */
	struct sem answered;
	uint64_t sent_ns, rtt_ns; /* [C] */
};

/* lwIP's raw callback: 1 when the packet was ours, and then it is freed here. */
static u8_t on_icmp(void *arg, struct raw_pcb *pcb unused, struct pbuf *p, const ip_addr_t *from unused)
{
	struct ping *g = arg;
	uint8_t b[IP6_HLEN + 8];
	if (pbuf_copy_partial(p, b, 1, 0) != 1)
		return 0;
	bool is6 = b[0] >> 4 == 6;
	u16_t ihl = is6 ? IP6_HLEN : (u16_t)((b[0] & 0xf) * 4);
	if (pbuf_copy_partial(p, b, 8, ihl) != 8 || b[0] != (is6 ? ICMP6_TYPE_EREP : ICMP_ER) || !g->waiting ||
	    (b[4] << 8 | b[5]) != g->id || (b[6] << 8 | b[7]) != g->seq)
		return 0;
	g->waiting = false;
	g->rtt_ns = time_ns() - g->sent_ns;
	sem_up(&g->answered);
	pbuf_free(p);
	return 1;
}

/* Core lock held. */
static err_t send_echo(struct ping *g, struct raw_pcb *pcb, const ip_addr_t *to)
{
	uint8_t b[8 + PING_DATA];
	memset(b, 0x5a, sizeof(b));
	memset(b, 0, 8);
	b[0] = IP_IS_V6(to) ? ICMP6_TYPE_EREQ : ICMP_ECHO;
	b[4] = (uint8_t)(g->id >> 8);
	b[5] = (uint8_t)g->id;
	b[6] = (uint8_t)(++g->seq >> 8);
	b[7] = (uint8_t)g->seq;
	/* ICMPv6's covers addresses: lwIP makes it. */
	uint16_t sum = IP_IS_V6(to) ? 0 : (uint16_t)~net_checksum(b, sizeof(b));
	memcpy(b + 2, &sum, 2);
	struct pbuf *p = pbuf_alloc(PBUF_IP, sizeof(b), PBUF_RAM);
	if (!p)
		return ERR_MEM;
	pbuf_take(p, b, sizeof(b));
	g->waiting = true;
	g->sent_ns = time_ns();
	err_t err = raw_sendto(pcb, p, to);
	pbuf_free(p);
	return err;
}

static unsigned ping_run(struct con *c, struct ping *g, struct raw_pcb *pcb, const ip_addr_t *to, const char *addr)
{
	unsigned good = 0;
	for (unsigned i = 0; i < PING_COUNT && !c->interrupted(c); i++) {
		NET_CORE_LOCK();
		err_t err = send_echo(g, pcb, to);
		NET_CORE_UNLOCK();
		bool ok = err == ERR_OK && sem_down(&g->answered, time_in_ms(TIMEOUT_MS)) == 0;
		NET_CORE_LOCK();
		g->waiting = false;
		uint64_t us = g->rtt_ns / NS_PER_US;
		NET_CORE_UNLOCK();
		if (!ok) /* an answer between the time-out and the lock */
			(void)sem_down(&g->answered, 0);
		good += ok;
		if (ok) {
			out_u64(c, NULL, us);
			out_text(c, "%u bytes from %s: seq %u time %lu.%03lu ms\n", PING_DATA + 8, addr, i + 1,
				 us / 1000, us % 1000);
		} else {
			out_text(c, "seq %u: %s\n", i + 1, err == ERR_RTE ? "no route" : "no answer");
		}
		if (i + 1 < PING_COUNT && ok)
			task_sleep_until(time_in_ms(INTERVAL_MS));
	}
	return good;
}

void net_peer_words(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	unsigned n;
	const struct net_peer *p = net_peers(&n);
	for (unsigned i = 0; i < n; i++)
		add(arg, p[i].name);
}

static int cmd_ping(struct con *c, int argc unused, char **argv)
{
	char mine[48];
	struct why w = { "" };
	struct ip ip;
	struct ping g = { .id = (uint16_t)net_random() };
	int err = net_peer(argv[1], &ip, &w);
	if (err)
		return con_error(c, err, "ping: %s", w.text);
	if (!net_address(mine)[0] && (err = net_addr_why(ip, &w)))
		return con_error(c, err, "ping: %s", w.text);
	const struct ip_text addr = ip_text(ip);
	const ip_addr_t to = netif_lwip_of(ip);
	sem_init(&g.answered, 0);
	NET_CORE_LOCK();
	struct raw_pcb *pcb = raw_new_ip_type(IP_GET_TYPE(&to), ip_is4(ip) ? IP_PROTO_ICMP : IP6_NEXTH_ICMP6);
	if (pcb) {
		raw_recv(pcb, on_icmp, &g);
		pcb->chksum_reqd = !ip_is4(ip);
		pcb->chksum_offset = 2;
	}
	NET_CORE_UNLOCK();
	if (!pcb)
		return con_error(c, -ENOMEM, "ping: too many at once. Try again");
	out_str(c, "address|", addr.s);
	out_u64(c, "sent|", PING_COUNT);
	out_list(c, "rtt_us");
	unsigned good = ping_run(c, &g, pcb, &to, addr.s);
	NET_CORE_LOCK();
	raw_remove(pcb);
	NET_CORE_UNLOCK();
	out_list_end(c);
	out_u64(c, "received|", good);
	if (!good)
		return con_error(c, -ETIMEDOUT, "ping: %s does not answer. Is it on, and in this network?", addr.s);
	out_text(c, "%u sent, %u received\n", PING_COUNT, good);
	return 0;
}
CONSOLE_CMD(ping, "ADDR|PEER", "send 4 echo requests to a host", "ping b", cmd_ping, net_peer_words);
