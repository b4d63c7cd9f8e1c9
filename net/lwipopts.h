/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lwIP as tern uses it (lwIP 2.2): threaded with one core lock, raw API only. What is not here keeps
 * lwIP's default. Memory is fixed: NET_HEAP_ORDER and NETBUF_COUNT below are all that data ever takes.
 */
#pragma once

#define NO_SYS                  0
#define SYS_LIGHTWEIGHT_PROT    1
#define LWIP_TCPIP_CORE_LOCKING 1
#define LWIP_NETCONN            0
#define LWIP_SOCKET             0
#define LWIP_RAW                1
#define LWIP_STATS              0
void net_core_assert(void);
#define LWIP_ASSERT_CORE_LOCKED() net_core_assert()

/* Tasks: everything but the guests' vCPUs and migration runs at the I/O priority. */
#define TCPIP_THREAD_NAME        "tcpip"
#define TCPIP_THREAD_STACKSIZE   0 /* tern's tasks all have the same */
#define TCPIP_THREAD_PRIO        0
#define TCPIP_MBOX_SIZE          256
#define MEMP_NUM_TCPIP_MSG_INPKT 128

/* Memory. The heap holds what is sent and not yet acknowledged; received data lies in netbuf.c's buffers. */
#define NET_HEAP_ORDER 10 /* 4 MiB */
#define MEM_ALIGNMENT  8
#define MEM_SIZE       ((4096 << NET_HEAP_ORDER) - 4096)
extern void *net_heap;
#define LWIP_RAM_HEAP_POINTER    net_heap
#define NETBUF_COUNT             1536 /* of 2 KiB */
#define PBUF_POOL_SIZE           16   /* lwIP's own use */
#define PBUF_POOL_BUFSIZE        1536
#define LWIP_SUPPORT_CUSTOM_PBUF 1
#define MEMP_NUM_PBUF            256
#define MEMP_NUM_RAW_PCB         8
#define MEMP_NUM_UDP_PCB         8
#define MEMP_NUM_TCP_PCB         48
#define MEMP_NUM_TCP_PCB_LISTEN  8
#define MEMP_NUM_TCP_SEG         4096
#define MEMP_NUM_ARP_QUEUE       32
#define ARP_TABLE_SIZE           64
#define ARP_QUEUEING             1

/* tcp.c is told when one is freed. */
#define LWIP_TCP_PCB_NUM_EXT_ARGS     1
/* netif_neighbour_keep */
#define ETHARP_SUPPORT_STATIC_ENTRIES 1

/* IP. */
#define LWIP_IPV4                1
#define LWIP_IPV6                1
#define LWIP_ICMP                1
#define IP_FRAG                  1
#define IP_REASSEMBLY            1
#define IP_REASS_MAX_PBUFS       64
#define LWIP_DHCP                1
#define LWIP_DHCP_DOES_ACD_CHECK 1
#define LWIP_ACD                 1
#define MEMP_NUM_SYS_TIMEOUT     (LWIP_NUM_SYS_TIMEOUT_INTERNAL + 1) /* addr_if.c's */
struct netif;
void net_dhcp_options(struct netif *n, unsigned char *options, unsigned type, unsigned short *len);
#define LWIP_HOOK_DHCP_APPEND_OPTIONS(netif, dhcp, state, msg, type, len) \
	net_dhcp_options(netif, (msg)->options, type, len)
#define LWIP_AUTOIP 0
struct ip4_addr;
struct netif *net_route_src(const struct ip4_addr *src, const struct ip4_addr *dest);
#define LWIP_HOOK_IP4_ROUTE_SRC(src, dest) net_route_src(src, dest)
struct ip6_addr;
struct netif *net_route6(const struct ip6_addr *src, const struct ip6_addr *dest);
#define LWIP_HOOK_IP6_ROUTE(src, dest) net_route6(src, dest)
const struct ip6_addr *net_gw6(struct netif *n, const struct ip6_addr *dest);
#define LWIP_HOOK_ND6_GET_GW(n, dest)  net_gw6(n, dest)
#define LWIP_IPV6_FRAG                 0 /* large segments are the bridge's to cut */
#define LWIP_IPV6_REASS                0
#define LWIP_ND6_ALLOW_RA_UPDATES      0 /* of the MTU, above all: lwIP knows none */
#define LWIP_IPV6_NUM_ADDRESSES        4
#define LWIP_ND6_NUM_NEIGHBORS         64
#define ND6_ROUTERS_OF_A_NET           3 /* netif6.c; 8 is NET_IF_MAX */
#define ND6_PREFIXES_OF_A_NET          4
#define LWIP_ND6_NUM_ROUTERS           (8 * ND6_ROUTERS_OF_A_NET)
#define LWIP_ND6_NUM_PREFIXES          (8 * ND6_PREFIXES_OF_A_NET)
#define LWIP_ND6_NUM_DESTINATIONS      64
#define MEMP_NUM_MLD6_GROUP            32
#define LWIP_IGMP                      0
#define LWIP_DNS                       0
#define LWIP_NETIF_LOOPBACK            1
#define LWIP_HAVE_LOOPIF               0
#define LWIP_NETIF_EXT_STATUS_CALLBACK 1
#define LWIP_NETIF_LINK_CALLBACK       0
#define LWIP_CHECKSUM_CTRL_PER_NETIF   1 /* netif.c leaves TCP's to the NIC or the bridge */

/*
 * TCP. One MiB in flight fills 1 Gbit/s at 8 ms. Segments grow to TCP_BIG_MSS on connections whose path takes the full
 * Ethernet MSS (tcp.c) and are cut by the NIC, or at the last moment by the bridge.
 */
#define TCP_MSS                  8960 /* of an MTU of 9000; netif_mss says what a network's is */
#define TCP_WND                  (1024 * 1024)
#define TCP_WND_UPDATE_THRESHOLD 5840
#define LWIP_WND_SCALE           1
#define TCP_RCV_SCALE            5
#define TCP_SND_BUF              (1024 * 1024)
#define TCP_SND_QUEUELEN         3000
#define TCP_SNDLOWAT             32768
#define TCP_SNDQUEUELOWAT        1500
#define TCP_BIG_MSS              64240 /* with its headers below the 64 KiB of an IP packet */
#define TCP_OVERSIZE             TCP_BIG_MSS
#define TCP_QUEUE_OOSEQ          1
#define TCP_OOSEQ_MAX_BYTES      (512 * 1024)
unsigned short net_ooseq_limit(void);
#define TCP_OOSEQ_PBUFS_LIMIT(pcb)     net_ooseq_limit()
#define LWIP_TCP_SACK_OUT              1
#define LWIP_TCP_KEEPALIVE             1
#define TCP_LISTEN_BACKLOG             1
#define TCP_MSL                        5000UL
#define TCP_TMR_INTERVAL               50   /* ms: delayed ACKs; retransmission works in twice that */
#define LWIP_TCP_RTO_TIME              1000 /* RFC 6298; what tcp.c lets it grow to is as much */
#define TCP_MAXRTX                     8
#define TCP_SYNMAXRTX                  6
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* they compare with pools and types of the socket API */
struct tcp_pcb;
struct tcp_hdr;
signed char net_tcp_incoming(struct tcp_pcb *pcb, const struct tcp_hdr *h);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, hdr, optlen, opt1len, opt2, p) net_tcp_incoming(pcb, hdr)
unsigned net_tcp_isn(void);
#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port) net_tcp_isn()
