/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP, built for the host, asks of net/ by the hooks of lwipopts.h: it routes as it would without. */
#include "kernel/random.h"
#include "net/port.h"
#include <stdlib.h>

struct netif *net_route_src(const ip4_addr_t *src unused, const ip4_addr_t *dest unused) { return NULL; }
/* Weak: addr_if.c or netif6.c has them, too. */
__attribute__((weak)) void net_dhcp_options(struct netif *n unused, unsigned char *o unused, unsigned type unused,
					    unsigned short *l unused)
{
}
__attribute__((weak)) struct netif *net_route6(const struct ip6_addr *src unused, const struct ip6_addr *dest unused)
{
	return NULL;
}
__attribute__((weak)) const struct ip6_addr *net_gw6(struct netif *n unused, const struct ip6_addr *dest unused)
{
	return NULL;
}

struct ip netif_ip_of(const ip_addr_t *a)
{
	return IP_IS_V6(a) ? ip_of6(ip_2_ip6(a)->addr) : ip_of4(ip4_addr_get_u32(ip_2_ip4(a)));
}

void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)rand();
}
