/* SPDX-License-Identifier: BSD-2-Clause */
/* The states of an interface's address (addr.h). */
#include "net/addr.h"
#include <string.h>

/*
 * How long a conflict rests until the next try, and what is added at random: two hosts that were switched on together
 * hear each other's probes, and one of them must be done, which takes 4 to 7 s, before the other begins. RFC 5227 2.1.1
 * wants a host with MAX_CONFLICTS behind it to wait RATE_LIMIT_INTERVAL.
 */
#define MAX_CONFLICTS 10
#define AGAIN_NS      (10 * NS_PER_SEC)
#define AGAIN_RARE_NS (60 * NS_PER_SEC)
#define AGAIN_SPAN_MS 10000
#define TELL_AGAIN_NS (600 * NS_PER_SEC) /* one that comes again and again is told of only so often */

void addr_init(struct addr *a, bool dhcp, uint32_t ip)
{
	*a = (struct addr){ .dhcp = dhcp, .state = NET_ADDR_PROBING, .waiting = true, .ip = ip };
}

static enum addr_todo use(struct addr *a, uint32_t ip)
{
	bool news = a->state != NET_ADDR_OK;
	a->state = NET_ADDR_OK;
	a->waiting = false;
	a->ip = ip;
	a->conflicts = 0;
	return news ? ADDR_USE : ADDR_NOTHING;
}

/* lwIP's DHCP client starts ACD and binds the address by itself. */
static enum addr_todo tick_dhcp(struct addr *a, enum addr_acd acd, uint32_t ip, bool bound)
{
	if (bound)
		return use(a, ip);
	if (acd == ADDR_ACD_OFF) {
		if (a->state != NET_ADDR_CONFLICT)
			addr_init(a, true, 0);
		return ADDR_NOTHING;
	}
	if (a->state == NET_ADDR_CONFLICT && a->ip == ip) /* offered once more */
		return ADDR_NOTHING;
	a->state = NET_ADDR_PROBING;
	a->waiting = false;
	a->ip = ip;
	return ADDR_NOTHING;
}

enum addr_todo addr_tick(struct addr *a, uint64_t now_ns, enum addr_acd acd, uint32_t ip, bool link, bool bound)
{
	bool back = link && !a->link;
	a->link = link;
	if (a->dhcp)
		return tick_dhcp(a, acd, ip, bound);
	if (acd == ADDR_ACD_HOLDS && !(back && a->state == NET_ADDR_OK))
		return use(a, a->ip);
	if (acd == ADDR_ACD_PROBES || !link || (a->state == NET_ADDR_CONFLICT && now_ns < a->again_ns))
		return ADDR_NOTHING;
	a->waiting = false;
	return ADDR_PROBE;
}

static bool tells(struct addr *a, uint64_t now_ns, const uint8_t mac[6])
{
	if (a->defended_ns && memcmp(a->defended, mac, 6) == 0 && now_ns - a->defended_ns < TELL_AGAIN_NS)
		return false;
	memcpy(a->defended, mac, 6);
	a->defended_ns = now_ns;
	return true;
}

enum addr_news addr_arp(struct addr *a, uint64_t now_ns, const struct addr_seen *s, uint32_t random)
{
	if (s->before == ADDR_ACD_OFF || s->after != ADDR_ACD_OFF)
		return s->defended && tells(a, now_ns, s->mac) ? ADDR_DEFENDED : ADDR_QUIET;
	bool used = a->state == NET_ADDR_OK;
	bool known = a->state == NET_ADDR_CONFLICT && a->ip == s->ip && memcmp(a->other, s->mac, 6) == 0;
	a->state = NET_ADDR_CONFLICT;
	a->waiting = false;
	a->ip = s->ip;
	memcpy(a->other, s->mac, 6);
	a->conflicts++;
	a->again_ns =
		now_ns + (a->conflicts < MAX_CONFLICTS ? AGAIN_NS : AGAIN_RARE_NS) + random % AGAIN_SPAN_MS * NS_PER_MS;
	return used ? ADDR_GIVEN_UP : known ? ADDR_QUIET : ADDR_TAKEN;
}
