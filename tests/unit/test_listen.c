/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who calls the migration service, on lwIP itself: what a connection may hold until its peer has proved a key, and that
 * strangers keep nobody out who has one. Clients here are addresses and ports; their segments are made by hand.
 */
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "lwip/ip4.h"
#include "lwip/priv/tcp_priv.h"
#include "net/tcp.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

#define PORT         7077
#define UNPROVED_WND 0xffff /* bytes of the window of who has proved nothing */
#define BACKLOG      16     /* half-open connections */
#define MOST         24     /* connections that the service takes here */
#define STRANGERS    18     /* of those */
#define PEERS        0x0900 /* 10.77.9.n */
enum { FIN = 1, SYN = 2, RST = 4, PUSH = 8, ACK = 16 };

static uint32_t get32(const uint8_t *p) { return (uint32_t)get_be16(p) << 16 | get_be16(p + 2); }
static void put32(uint8_t *p, uint32_t v)
{
	put_be16(p, v >> 16);
	put_be16(p + 2, v & 0xffff);
}

/* ---- net/, as far as TCP asks ---- */

static struct net_if ifs[2]; /* 10.77.0.11, for migrations; 10.88.0.11, not */
struct net_if *netif_net(struct netif *n) { return CONTAINER_OF(n, struct net_if, netif); }
uint16_t netif_mss(struct netif *n unused, bool is6 unused) { return 1460; }
bool net_is_peer(struct ip ip) { return (get_be16(ip.b + 14) & 0xff00) == PEERS; }
static int kept; /* neighbours */
bool neighbour_keep(struct ip ip unused) { return ++kept; }
void neighbour_drop(struct ip ip unused) { kept--; }

/* ---- clients ---- */

static struct client { /* [core lock] */
	uint32_t ip;   /* 10.N.n.n: its last two bytes */
	unsigned port, net;
	uint32_t seq, ack, window; /* next to send; next expected; up to where in seq the host has room */
	bool answered, reset;
} clients[400];
static unsigned nclients;

static struct client *client_new(unsigned net, uint32_t ip)
{
	assert_true(nclients < ARRAY_SIZE(clients));
	struct client *c = &clients[nclients];
	*c = (struct client){ .ip = ip, .port = 1000 + nclients++, .net = net, .seq = 1 };
	return c;
}

static bool full;      /* [core lock] the card takes nothing */
static uint32_t first; /* [core lock] sequence number of the first byte: */
static unsigned came;  /* [core lock] how often it came */
static unsigned wrong; /* [core lock] segments with bytes that are not nth()'s */
static uint8_t nth(uint32_t n) { return (uint8_t)(n * 7 + n / 251); }

static void look(const struct pbuf *p, uint32_t seq, unsigned head, unsigned len)
{
	static uint8_t data[TCP_BIG_MSS];
	came += len && seq == first;
	bool good = pbuf_copy_partial(p, data, (u16_t)len, (u16_t)(20 + head)) == len;
	for (unsigned i = 0; i < len && good; i++)
		good = data[i] == nth(seq - first + i);
	wrong += !good;
}

/* What the host sends. */
static err_t output(struct netif *n unused, struct pbuf *p, const ip4_addr_t *to)
{
	uint8_t b[60];
	unsigned len = p->tot_len - 40U, head;
	assert_true(pbuf_copy_partial(p, b, sizeof(b), 0) >= 40);
	const uint8_t *tcp = b + 20;
	head = (tcp[12] >> 4) * 4U;
	len -= head - 20;
	if (full && len)
		return tcp_resend_refused(ip_of4(ip4_addr_get_u32(to)), tcp, ERR_MEM);
	for (unsigned i = 0; i < nclients; i++) {
		struct client *c = &clients[i];
		if (c->port != get_be16(tcp + 2) || c->ip != (lwip_ntohl(ip4_addr_get_u32(to)) & 0xffff))
			continue;
		c->reset |= !!(tcp[13] & RST);
		if (c->reset)
			continue;
		c->answered = true;
		if (first)
			look(p, get32(tcp + 4), head, len);
		c->ack = get32(tcp + 4) + len + !!(tcp[13] & (SYN | FIN));
		c->window = get32(tcp + 8) + (get_be16(tcp + 14) << (tcp[13] & SYN ? 0 : TCP_RCV_SCALE));
	}
	return ERR_OK;
}

static void send(struct client *c, unsigned flags, size_t len)
{
	uint8_t b[40 + 8 + 1460] = { 0x45, [8] = 64, [9] = IP_PROTO_TCP }, *tcp = b + 20;
	static const uint8_t options[8] = { 2, 4, 5, 0xb4, 3, 3, 7, 0 }; /* MSS 1460, windows times 128 */
	size_t head = flags & SYN ? 28 : 20;
	put_be16(b + 2, (unsigned)(20 + head + len));
	put32(b + 12, (c->net ? 10U << 24 | 88U << 16 : 10U << 24 | 77U << 16) | c->ip);
	put32(b + 16, c->net ? 10U << 24 | 88U << 16 | 11 : 10U << 24 | 77U << 16 | 11);
	put_be16(tcp, c->port);
	put_be16(tcp + 2, PORT);
	put32(tcp + 4, c->seq);
	put32(tcp + 8, flags & ACK ? c->ack : 0);
	tcp[12] = (uint8_t)(head / 4 << 4), tcp[13] = (uint8_t)flags;
	put_be16(tcp + 14, 0xffff);
	memcpy(tcp + 20, options, head - 20);
	NET_CORE_LOCK();
	struct pbuf *p = netbuf_alloc(20 + head + len);
	assert_non_null(p);
	assert_int_equal(pbuf_take(p, b, (u16_t)(20 + head + len)), ERR_OK);
	c->seq += (uint32_t)len + !!(flags & (SYN | FIN));
	assert_int_equal(ip4_input(p, &ifs[c->net].netif), ERR_OK);
	NET_CORE_UNLOCK();
}

/* ---- the service: a stream that has come is in `served`, by its client ---- */

static struct stream *served[ARRAY_SIZE(clients)]; /* [a] */
static unsigned serving;                           /* [a] */
static void serve(void *arg unused, struct stream *s)
{
	__atomic_fetch_add(&serving, 1, __ATOMIC_SEQ_CST);
	const char *port = strchr(s->peer, ':');
	unsigned i = (unsigned)atoi(port + 1) - 1000;
	__atomic_store_n(&served[i], s, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&served[i], __ATOMIC_SEQ_CST)) /* it is the test's, until it is closed */
		fake_nap();
	stream_close(s);
	__atomic_fetch_sub(&serving, 1, __ATOMIC_SEQ_CST);
}
static struct stream **served_of(const struct client *c) { return &served[c - clients]; }

static bool is_served(const struct client *c) { return __atomic_load_n(served_of(c), __ATOMIC_SEQ_CST); }

static void hang_up(const struct client *c) { __atomic_store_n(served_of(c), NULL, __ATOMIC_SEQ_CST); }

static struct client *call(uint32_t ip)
{
	struct client *c = client_new(0, ip);
	send(c, SYN, 0);
	if (!c->reset && c->answered)
		send(c, ACK, 0);
	return c;
}

static struct client *call_and_wait(uint32_t ip)
{
	struct client *c = call(ip);
	WAIT_FOR(is_served(c));
	return c;
}

/* All hang up, so that the next test finds none. */
static int end_all(void **state unused)
{
	for (unsigned i = 0; i < nclients; i++) {
		hang_up(&clients[i]);
		if (clients[i].answered && !clients[i].reset)
			send(&clients[i], RST, 0);
	}
	WAIT_FOR(!__atomic_load_n(&serving, __ATOMIC_SEQ_CST));
	NET_CORE_LOCK();
	while (tcp_active_pcbs)
		tcp_abort(tcp_active_pcbs);
	while (tcp_tw_pcbs)
		tcp_abort(tcp_tw_pcbs);
	NET_CORE_UNLOCK();
	nclients = 0;
	assert_int_equal(kept, 0);
	return 0;
}

static unsigned active(void)
{
	unsigned n = 0;
	NET_CORE_LOCK();
	for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
		n++;
	NET_CORE_UNLOCK();
	return n;
}

/* As much as has been said is room for what comes: 64 KiB at most, however much of it has been read; then all. */
static void test_window(void **state unused)
{
	static uint8_t buf[1460];
	struct client *c = call_and_wait(0x0105);
	struct stream *s = *served_of(c);
	assert_in_range(c->window - c->seq, 1, UNPROVED_WND);
	for (unsigned i = 0; i < 200; i++) { /* four times as much */
		send(c, ACK | PUSH, sizeof(buf));
		assert_in_range(c->window - c->seq, 0, UNPROVED_WND);
		assert_int_equal(stream_read(s, buf, sizeof(buf), time_in_ms(1000)), 0);
		assert_in_range(c->window - c->seq, sizeof(buf), UNPROVED_WND);
	}
	unsigned sent = 0; /* who reads nothing of it holds no more than that, whatever is sent */
	for (; sent < 100; sent++)
		send(c, ACK | PUSH, sizeof(buf));
	size_t held = 0;
	int n;
	while ((n = stream_read_some(s, buf, sizeof(buf), time_in_ms(50))) > 0)
		held += (size_t)n;
	assert_in_range(held, UNPROVED_WND - sizeof(buf), UNPROVED_WND);
	c = call_and_wait(0x0106);
	s = *served_of(c);
	stream_tcp_trust(s, true);
	send(c, ACK | PUSH, 1);
	assert_in_range(c->window - c->seq, TCP_WND - (1 << TCP_RCV_SCALE) - 1, TCP_WND);
	assert_int_equal(kept, 1);
}

/* Who has proved a key and whom nobody reads holds a window: whatever its segments' size, others find buffers. */
static void test_small_segments(void **state unused)
{
	static const size_t sizes[] = { 1460, 901, 900, 536, 257, 256 };
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct client *c = call_and_wait(0x0800 + i);
		stream_tcp_trust(*served_of(c), true);
		send(c, ACK | PUSH, 1);
		while (c->window - c->seq >= sizes[i])
			send(c, ACK | PUSH, sizes[i]);
		struct pbuf *p = netbuf_alloc(60000);
		assert_non_null(p);
		pbuf_free(p);
		assert_int_equal(end_all(NULL), 0);
	}
}

/* No more at once than the service wants; the one too many is reset, and its place is free when another one ends. */
static void test_most_connections(void **state unused)
{
	struct client *c[MOST];
	for (unsigned i = 0; i < STRANGERS; i++)
		c[i] = call_and_wait(0x0200 + i);
	fake_log_clear();
	struct client *more = call(0x02fe);
	assert_true(more->reset);
	assert_non_null(strstr(fake_log_last(), "one is refused"));
	for (unsigned i = STRANGERS; i < MOST; i++) /* what is left is for peers */
		c[i] = call_and_wait(PEERS + i);
	more = call(PEERS + 0xff);
	assert_true(more->reset);
	hang_up(c[3]);
	WAIT_FOR(__atomic_load_n(&serving, __ATOMIC_SEQ_CST) == MOST - 1);
	for (more = call(PEERS + 0xff); more->reset; more = call(PEERS + 0xff)) /* its task has just a step left */
		fake_nap();
	WAIT_FOR(is_served(more));
	for (unsigned i = 0; i < MOST; i++)
		assert_false(c[i]->reset);
}

/* A flood of SYNs, of addresses that never answer: who calls meanwhile gets in, and who is in stays. */
static void test_flood_of_syns(void **state unused)
{
	struct client *in = call_and_wait(0x0301);
	unsigned before = active();
	for (unsigned i = 0; i < 100; i++)
		send(client_new(0, 0x0400 + i), SYN, 0);
	assert_in_range(active(), before, before + BACKLOG);
	struct client *c = call(0x0302);
	WAIT_FOR(is_served(c));
	assert_in_range(active(), before, before + BACKLOG + 1);
	for (unsigned i = 0; i < nclients; i++) /* nor are resets sent to whoever's addresses those are */
		assert_false(clients[i].reset);
	uint8_t byte;
	send(in, ACK | PUSH, 1);
	assert_int_equal(stream_read(*served_of(in), &byte, 1, time_in_ms(1000)), 0);
}

/* By a network that is not for migrations, or to its address: a reset at once, and nothing for what is no SYN. */
static void test_other_network(void **state unused)
{
	struct client *c = client_new(1, 0x0501);
	send(c, SYN, 0);
	assert_true(c->reset);
	c = client_new(1, 0x0502);
	send(c, ACK, 0);
	assert_false(c->reset || c->answered);
	assert_int_equal(active(), 0);
}

/* Outgoing connections find a place while strangers have all; those who have proved a key give theirs to nobody. */
static void test_reserve(void **state unused)
{
	struct client *proved[4], *stranger[STRANGERS - 4];
	struct tcp_pcb *pcb[MEMP_NUM_TCP_PCB];
	unsigned n = 0, lost = 0;
	for (unsigned i = 0; i < 4; i++) {
		proved[i] = call_and_wait(0x0600 + i);
		stream_tcp_trust(*served_of(proved[i]), true);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(stranger); i++)
		stranger[i] = call_and_wait(0x0700 + i);
	NET_CORE_LOCK();
	while (n < ARRAY_SIZE(pcb) && (pcb[n] = tcp_new_ip_type(IPADDR_TYPE_V4)))
		n++;
	NET_CORE_UNLOCK();
	assert_int_equal(n, MEMP_NUM_TCP_PCB - 4);
	for (unsigned i = 0; i < 4; i++)
		assert_false(proved[i]->reset);
	for (unsigned i = 0; i < ARRAY_SIZE(stranger); i++)
		lost += stranger[i]->reset;
	assert_int_equal(lost, ARRAY_SIZE(stranger));
	NET_CORE_LOCK();
	while (n)
		tcp_abort(pcb[--n]);
	NET_CORE_UNLOCK();
}

static struct tcp_pcb the_pcb(void)
{
	NET_CORE_LOCK();
	struct tcp_pcb pcb = *tcp_active_pcbs;
	NET_CORE_UNLOCK();
	return pcb;
}

static void set_full(bool is)
{
	NET_CORE_LOCK();
	full = is;
	NET_CORE_UNLOCK();
}

static void write_nth(struct stream *s, uint32_t from, uint32_t n)
{
	static uint8_t data[20000];
	for (uint32_t i = 0; i < n; i++)
		data[i] = nth(from + i);
	assert_int_equal(stream_write(s, data, n, time_in_ms(1000)), 0);
}

/*
 * The first segment is lost, and its repetition finds the card's queue full. What is written then stands behind all
 * that was written before, and the lost one goes as soon as it can, also where the retransmission timer has come first.
 */
static void test_sends_again(void **state unused)
{
	enum { PART = 20000, MORE = 300 };
	for (unsigned waits = 0; waits < 2; waits++) {
		struct client *c = call_and_wait(0x0901 + waits);
		struct stream *s = *served_of(c);
		uint32_t at = c->ack, written = 0;
		stream_tcp_trust(s, true);
		NET_CORE_LOCK();
		first = at;
		wrong = 0;
		NET_CORE_UNLOCK();
		for (; written < 4 * PART; written += PART)
			write_nth(s, written, PART);
		assert_int_equal(c->ack - at, written);
		set_full(true);
		came = 0;
		for (unsigned i = 0; i < 4; i++) { /* the others have come */
			c->ack = at;
			send(c, ACK, 0);
		}
		assert_true(the_pcb().flags & TF_INFR);
		write_nth(s, written, MORE);
		written += MORE;
		for (unsigned i = 0; waits && i < 5000 && !(the_pcb().flags & TF_RTO); i++)
			fake_nap();
		assert_true(!waits || the_pcb().flags & TF_RTO);
		write_nth(s, written, MORE);
		written += MORE;
		set_full(false);
		for (unsigned i = 0; i < 5000 && !came; i++)
			fake_nap();
		assert_true(came);
		for (unsigned i = 0; i < 5000 && c->ack - at < written; i++) { /* what has come in a row */
			send(c, ACK, 0);
			fake_nap();
		}
		assert_int_equal(wrong, 0);
		assert_int_equal(c->ack - at, written);
		first = 0;
		assert_int_equal(end_all(NULL), 0);
	}
}

static err_t setup_if(struct netif *n)
{
	n->output = output;
	n->mtu = 65535; /* as netif.c has it: what is too long is cut below lwIP */
	n->flags = NETIF_FLAG_LINK_UP;
	NETIF_SET_CHECKSUM_CTRL(n, NETIF_CHECKSUM_DISABLE_ALL);
	return ERR_OK;
}

static void net_start(void)
{
	assert_int_equal(netbuf_init(), 0);
	assert_int_equal(net_sys_start(), 0);
	NET_CORE_LOCK();
	for (unsigned i = 0; i < 2; i++) {
		ip4_addr_t address, mask;
		IP4_ADDR(&address, 10, 77 + 11 * i, 0, 11);
		IP4_ADDR(&mask, 255, 255, 0, 0);
		ifs[i].uses = i ? NET_USE_VM : NET_USE_MIGRATION;
		assert_non_null(netif_add(&ifs[i].netif, &address, &mask, NULL, NULL, setup_if, ip_input));
		netif_set_up(&ifs[i].netif);
	}
	NET_CORE_UNLOCK();
	assert_int_equal(stream_tcp_listen(PORT, MOST, serve, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_window, end_all),
		cmocka_unit_test_teardown(test_small_segments, end_all),
		cmocka_unit_test_teardown(test_most_connections, end_all),
		cmocka_unit_test_teardown(test_flood_of_syns, end_all),
		cmocka_unit_test_teardown(test_other_network, end_all),
		cmocka_unit_test_teardown(test_reserve, end_all),
		cmocka_unit_test_teardown(test_sends_again, end_all),
	};
	net_start();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
