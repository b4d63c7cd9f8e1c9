/* SPDX-License-Identifier: BSD-2-Clause */
/* Any IPv6 frame: never a byte read behind it (ASan), and no redirect and no Packet Too Big passes. */
#include "net/nd_filter.h"
#include "net/packet.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool kept(struct ip ip, uint8_t mac[ETH_ALEN])
{
	memcpy(mac, ip.b, ETH_ALEN);
	return ip.b[15] & 1;
}

static bool elsewhere(const void *arg, struct ip ip)
{
	(void)arg;
	return ip.b[14] & 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ip own = { { 0xfd, [15] = 1 } };
	const struct nd_filter f = { .own = &own, .nown = 1, .kept = kept, .elsewhere = elsewhere };
	uint8_t *h = malloc(size ? size : 1);
	memcpy(h, data, size);
	if (nd_filter_passes(&f, h, size)) {
		const uint8_t *ip = h + ETH_HLEN;
		if (ip[IP6_NEXT] == PROTO_ICMPV6 && (ip[IP6_HDR] < ICMP6_ECHO || ip[IP6_HDR] == ND_REDIRECT))
			abort();
	}
	free(h);
	return 0;
}
