/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lwIP as a port of the bridge. Both ways frames may be large TCP segments with their checksum left open: lwIP itself
 * knows nothing of that; here its segments get the metadata of struct frame, and the NIC or the bridge does the rest.
 *
 * Receiving: frames from this interface's NIC are handled at once in its task, which holds no lock; frames from a
 * guest come in its vCPU's context with locks we know nothing of, so they go through lwIP's own task.
 */
#include "kernel/log.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/ip4_frag.h"
#include "lwip/prot/ethernet.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/tcp.h"
#include "lwip/tcpip.h"
#include "net/neighbour.h"
#include "net/port.h"
#include "net/tcp.h"
#include <stdio.h>
#include <string.h>

#define OPT_MSS 2     /* RFC 9293 3.1: the first option of lwIP's SYNs; its value is behind its length */
#define IP_MTU  65535 /* what lwIP is told, so that large TCP segments pass; if_output cuts the rest */

static struct net_if *if_of(struct netif *n) { return CONTAINER_OF(n, struct net_if, netif); }

struct net_if *netif_net(struct netif *n) { return if_of(n); }

uint16_t netif_mss(struct netif *n, bool is6)
{
	return (uint16_t)MIN((unsigned)TCP_MSS, if_of(n)->wire.mtu - (is6 ? IP6_HLEN : IP_HLEN) - TCP_HLEN);
}

/* ---- routes: core lock held ---- */

/* lwIP's hook: what has one network's address leaves by that one, whatever is the default. NULL: as lwIP would. */
struct netif *net_route_src(const ip4_addr_t *src, const ip4_addr_t *dest unused)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->has_ip4 && !ip4_addr_isany(src) && ip4_addr_eq(src, netif_ip4_addr(&i->netif)))
			return &i->netif;
	return NULL;
}

/* Whose subnet it is in: that of the longest prefix, of equal ones that of the use; NULL: behind a gateway. */
static struct netif *on_link(const ip4_addr_t *to, unsigned use)
{
	struct net_if *i, *best = NULL;
	unsigned most = 0;
	for (unsigned n = 0; (i = net_if_get(n)); n++) {
		if (!i->has_ip4 || ip4_addr_isany(netif_ip4_addr(&i->netif)) ||
		    !ip4_addr_net_eq(to, netif_ip4_addr(&i->netif), netif_ip4_netmask(&i->netif)))
			continue;
		unsigned prefix = popcount64(ip4_addr_get_u32(netif_ip4_netmask(&i->netif)));
		unsigned rank = 2 * prefix + !!(i->uses & use) + 1;
		if (rank > most) {
			most = rank;
			best = i;
		}
	}
	return best ? &best->netif : NULL;
}

static struct netif *way4(const ip4_addr_t *to, unsigned use)
{
	struct net_if *i;
	struct netif *link = on_link(to, use);
	if (link)
		return link;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->uses & use && i->has_ip4 && !ip4_addr_isany(netif_ip4_gw(&i->netif)))
			return &i->netif;
	return ip4_route(to);
}

struct netif *netif_way_for(const ip_addr_t *to, unsigned use)
{
	return IP_IS_V6(to) ? netif6_way_for(ip_2_ip6(to), use) : way4(ip_2_ip4(to), use);
}

struct netif *netif_way(const ip_addr_t *to) { return netif_way_for(to, NET_USE_MIGRATION); }

struct ip netif_ip_of(const ip_addr_t *a)
{
	return IP_IS_V6(a) ? ip_of6(ip_2_ip6(a)->addr) : ip_of4(ip4_addr_get_u32(ip_2_ip4(a)));
}

ip_addr_t netif_lwip_of(struct ip ip)
{
	ip_addr_t a = { .type = IPADDR_TYPE_V4 };
	if (ip_is4(ip)) {
		ip4_addr_set_u32(ip_2_ip4(&a), ip_to4(ip));
	} else {
		a.type = IPADDR_TYPE_V6;
		memcpy(ip_2_ip6(&a)->addr, ip.b, sizeof(ip.b));
	}
	return a;
}

/* ---- sending: core lock held ---- */

/* If ip (n bytes in one piece) begins an unfragmented TCP/IPv4 packet: its IP header length, else 0. */
static unsigned tcp4_header(const uint8_t *ip, size_t n)
{
	unsigned ihl = n >= IP_HLEN + TCP_HLEN ? (ip[0] & 0xfU) * 4 : 0;
	if (ihl < IP_HLEN || ip[0] >> 4 != 4 || ip[9] != IP_PROTO_TCP || ihl + TCP_HLEN > n)
		return 0;
	return (ip[6] & 0x3f) | ip[7] ? 0 : ihl;
}

/* The same of TCP/IPv6; lwIP sends no extension headers there. */
static unsigned tcp6_header(const uint8_t *ip, size_t n)
{
	return n >= IP6_HLEN + TCP_HLEN && ip[0] >> 4 == 6 && ip[6] == IP6_NEXTH_TCP ? IP6_HLEN : 0;
}

/*
 * Leave the checksum to whoever sends the frame: the field holds the pseudo header's sum, not complemented (virtio 1.1,
 * 5.1.6.2). So what follows may still change.
 */
static void offload_tcp(struct frame *f, uint8_t *eth, size_t n, bool is6, unsigned mss)
{
	uint8_t *ip = eth + SIZEOF_ETH_HDR;
	unsigned ihl = is6 ? tcp6_header(ip, n - SIZEOF_ETH_HDR) : tcp4_header(ip, n - SIZEOF_ETH_HDR);
	if (!ihl)
		return;
	uint8_t *tcp = ip + ihl;
	uint16_t tcp_len = (uint16_t)(f->len - SIZEOF_ETH_HDR - ihl);
	/* The same sum for either family: addresses, length and protocol (RFC 9293 3.1, 8200 8.1). */
	uint8_t pseudo[36] = { [1] = IP_PROTO_TCP, [2] = (uint8_t)(tcp_len >> 8), [3] = (uint8_t)tcp_len };
	size_t addresses = is6 ? 32 : 8;
	memcpy(pseudo + 4, ip + (is6 ? 8 : 12), addresses);
	uint16_t sum = net_checksum(pseudo, 4 + addresses);
	memcpy(tcp + 16, &sum, 2);
	f->flags = FRAME_NEEDS_CSUM;
	f->csum_start = (uint16_t)(SIZEOF_ETH_HDR + ihl);
	f->csum_offset = 16;
	/* lwIP, which knows no MTU, offers TCP_MSS: no peer shall send more than fits here. */
	if (tcp[13] & TCP_SYN && n >= f->csum_start + TCP_HLEN + 4U && tcp[20] == OPT_MSS)
		put_be16(tcp + 22, MIN(get_be16(tcp + 22), mss));
	if (f->len > SIZEOF_ETH_HDR + mss + (is6 ? IP6_HLEN : IP_HLEN) + TCP_HLEN) {
		f->gso = is6 ? FRAME_GSO_TCPV6 : FRAME_GSO_TCPV4;
		f->gso_size = (uint16_t)mss;
		f->hdr_len = (uint16_t)(f->csum_start + (tcp[12] >> 4) * 4);
	}
}

static err_t link_output(struct netif *n, struct pbuf *p)
{
	if (pbuf_clen(p) > FRAME_IOV_IN) { /* many small writes that waited for the window became one segment */
		struct pbuf *flat = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
		err_t err = flat ? link_output(n, flat) : ERR_MEM;
		if (flat)
			pbuf_free(flat);
		return err;
	}
	struct net_if *i = if_of(n);
	struct frame f = { .len = p->tot_len };
	size_t first = p->len;
	uint8_t *head = p->payload;
	for (struct pbuf *q = p; q; q = q->next) {
		f.iov[f.niov++] = (struct iov){ q->payload, q->len };
	}
	uint16_t type = first < SIZEOF_ETH_HDR ? 0 : get_be16(head + 12);
	if (type == ETHTYPE_IP || type == ETHTYPE_IPV6)
		offload_tcp(&f, head, first, type == ETHTYPE_IPV6, netif_mss(n, type == ETHTYPE_IPV6));
	/* Told that the queue is full, lwIP keeps the segment and tries again at the next ACK. */
	return bridge_input(&i->ip_port, &f) == -ENOBUFS ? ERR_MEM : ERR_OK;
}

/* What lwIP hears of a packet, n bytes of it in one piece, that could not be sent. */
static err_t refused(const uint8_t *ip, size_t n, bool is6, err_t err)
{
	unsigned ihl = is6 ? tcp6_header(ip, n) : tcp4_header(ip, n);
	uint32_t to = 0;
	if (!ihl)
		return err;
	memcpy(&to, ip + 16, sizeof(to));
	return tcp_resend_refused(is6 ? ip_of6(ip + 24) : ip_of4(to), ip + ihl, err);
}

static err_t if_output(struct netif *n, struct pbuf *p, const ip4_addr_t *to)
{
	if (p->tot_len <= if_of(n)->wire.mtu || tcp4_header(p->payload, p->len)) {
		if (neighbour_must_ask(n, to) && !neighbour_may_ask(if_of(n), ip_of4(ip4_addr_get_u32(to))))
			return ERR_OK; /* as if it were lost */
		const uint8_t *ip = p->payload;
		size_t len = p->len;
		err_t err = etharp_output(n, p, to);
		return err ? refused(ip, len, false, err) : ERR_OK;
	}
	n->mtu = (u16_t)if_of(n)->wire.mtu;
	err_t err = ip4_frag(p, n, to);
	n->mtu = IP_MTU;
	return err;
}

static err_t if_output6(struct netif *n, struct pbuf *p, const ip6_addr_t *to)
{
	if (neighbour_must_ask6(n, to) && !neighbour_may_ask(if_of(n), ip_of6(to->addr)))
		return ERR_OK;
	const uint8_t *ip = p->payload;
	size_t len = p->len;
	err_t err = ethip6_output(n, p, to);
	return err ? refused(ip, len, true, err) : ERR_OK;
}

/* ---- receiving ---- */

/*
 * The checks that a packet still needs go with the choice of the function; flags are lwIP's per interface, under its
 * lock.
 */
static err_t input_checked(struct pbuf *p, struct netif *n)
{
	NETIF_SET_CHECKSUM_CTRL(n, (u16_t)(NETIF_CHECKSUM_ENABLE_ALL & ~NETIF_CHECKSUM_GEN_TCP));
	err_t err = addr_if_input(if_of(n), p);
	/* What lwIP sends to its own address has no checksum to check. */
	NETIF_SET_CHECKSUM_CTRL(n, (u16_t)(NETIF_CHECKSUM_ENABLE_ALL &
					   ~(NETIF_CHECKSUM_GEN_TCP | NETIF_CHECKSUM_CHECK_TCP)));
	return err;
}

static err_t input_valid(struct pbuf *p, struct netif *n)
{
	NETIF_SET_CHECKSUM_CTRL(n, (u16_t)(NETIF_CHECKSUM_ENABLE_ALL &
					   ~(NETIF_CHECKSUM_GEN_TCP | NETIF_CHECKSUM_CHECK_TCP |
					     NETIF_CHECKSUM_CHECK_UDP)));
	return addr_if_input(if_of(n), p);
}

static int port_send(void *arg, const struct frame *f)
{
	struct net_if *i = arg;
	uint8_t dst[ETH_ALEN];
	/* Flooded frames for others end here, before they cost a buffer. */
	if (frame_copy_out(f, 0, dst, ETH_ALEN) != ETH_ALEN ||
	    (!(dst[0] & 1) && memcmp(dst, i->ip_port.mac, ETH_ALEN) != 0))
		return 0;
	struct pbuf *p = netbuf_alloc(f->len);
	if (!p)
		return -ENOBUFS;
	size_t off = 0;
	for (struct pbuf *q = p; q; off += q->len, q = q->next)
		frame_copy_out(f, off, q->payload, q->len);
	netif_input_fn input = f->flags & (FRAME_NEEDS_CSUM | FRAME_DATA_VALID) ? input_valid : input_checked;
	if (!nic_receives()) {
		if (tcpip_inpkt(p, &i->netif, input) == ERR_OK)
			return 0;
		pbuf_free(p);
		return -ENOBUFS;
	}
	NET_CORE_LOCK();
	if (input(p, &i->netif) != ERR_OK)
		pbuf_free(p);
	NET_CORE_UNLOCK();
	return 0;
}

/* ---- setting up ---- */

/* By DHCP, or on its probes' word. */
static void status_changed(struct netif *n, netif_nsc_reason_t reason, const netif_ext_callback_args_t *args unused)
{
	struct net_if *i = if_of(n);
	char text[24] = "";
	if (!i->has_ip4 || !(reason & (LWIP_NSC_STATUS_CHANGED | LWIP_NSC_IPV4_SETTINGS_CHANGED)))
		return;
	if (netif_is_up(n) && !ip4_addr_isany(netif_ip4_addr(n))) {
		const ip4_addr_t *a = netif_ip4_addr(n);
		sniprintf(text, sizeof(text), "%u.%u.%u.%u/%u", ip4_addr1(a), ip4_addr2(a), ip4_addr3(a), ip4_addr4(a),
			  popcount64(ip4_addr_get_u32(netif_ip4_netmask(n))));
	}
	if (i->dhcp)
		bridge_guard_lease(i->bridge, netif_ip4_addr(n)->addr, netif_ip4_gw(n)->addr);
	if (strcmp(text, i->text) == 0)
		return;
	addr_if_set_text(i, text);
	bool again = i->addr.state == NET_ADDR_CONFLICT;
	if (text[0])
		log_printf(again ? LOG_WARN : LOG_INFO, "net: %s: %s%s%s", i->name, text, i->dhcp ? " from DHCP" : "",
			   again ? " is used now: no other host has it" : "");
	else if (i->dhcp)
		log_warn("net: %s: no address any more", i->name);
}

static err_t netif_setup(struct netif *n)
{
	struct net_if *i = if_of(n);
	n->name[0] = 'e';
	n->name[1] = 'n';
	n->mtu = IP_MTU;
	n->hwaddr_len = ETH_ALEN;
	memcpy(n->hwaddr, uplink_mac(&i->wire), ETH_ALEN);
	n->flags =
		NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP | NETIF_FLAG_MLD6;
	n->output = if_output;
	n->output_ip6 = if_output6;
	n->linkoutput = link_output;
	NETIF_SET_CHECKSUM_CTRL(n, (u16_t)(NETIF_CHECKSUM_ENABLE_ALL &
					   ~(NETIF_CHECKSUM_GEN_TCP | NETIF_CHECKSUM_CHECK_TCP)));
	return ERR_OK;
}

static netif_ext_callback_t watch; /* core lock */

int netif_attach(struct net_if *i)
{
	i->ip_port = (struct bridge_port){ .send = port_send,
					   .arg = i,
					   .offloads = FRAME_TAKES_CSUM | FRAME_TAKES_TSO4 | FRAME_TAKES_TSO6,
					   .is_host = true };
	sniprintf(i->ip_port.name, sizeof(i->ip_port.name), "tern");
	memcpy(i->ip_port.mac, uplink_mac(&i->wire), ETH_ALEN);
	bridge_add(i->bridge, &i->ip_port);
	int err = bridge_bind(&i->ip_port);
	if (err)
		return err_trace(err);
	if (i->has_ip6)
		bridge_guard_own(i->bridge, i->ip_port.mac);
	NET_CORE_LOCK();
	if (!watch.callback_fn) /* it is told of all */
		netif_add_ext_callback(&watch, status_changed);
	bool ok = netif_add(&i->netif, NULL, NULL, NULL, NULL, netif_setup, tcpip_input) != NULL;
	if (ok) {
		const struct net_if *before = netif_default ? netif_net(netif_default) : NULL;
		bool better = before && (i->has_ip4 == before->has_ip4 ? i->uses & ~before->uses & NET_USE_MANAGEMENT
								       : i->has_ip4);
		if (!before || better)
			netif_set_default(&i->netif);
		netif_set_up(&i->netif);
		ok = !i->dhcp || dhcp_start(&i->netif) == ERR_OK;
		addr_if_attach(i);
	}
	NET_CORE_UNLOCK();
	return ok ? 0 : err_trace(-ENOMEM);
}
