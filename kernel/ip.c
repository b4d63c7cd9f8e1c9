/* SPDX-License-Identifier: BSD-2-Clause */
/* Hosts' addresses as text (kernel/ip.h). */
#include "kernel/ip.h"
#include "kernel/base/ip4.h"
#include "kernel/conf.h"

/* Groups in hexadecimal, the first longest run of zeros as "::" (RFC 5952 4). */
static void ip6_text(const uint8_t ip[16], char buf[IP_TEXT])
{
	unsigned at = 8, run = 1;
	for (unsigned i = 0; i < 8; i++) {
		unsigned n = 0;
		while (i + n < 8 && !ip[2 * (i + n)] && !ip[2 * (i + n) + 1])
			n++;
		if (n > run) {
			at = i;
			run = n;
		}
	}
	buf[0] = '\0';
	for (unsigned i = 0; i < 8; i += i == at ? run : 1) {
		size_t n = strlen(buf);
		if (i == at)
			snprintf(buf + n, IP_TEXT - n, "%s", i ? ":" : "::");
		else
			snprintf(buf + n, IP_TEXT - n, "%x%s", ip[2 * i] << 8 | ip[2 * i + 1], i < 7 ? ":" : "");
	}
}

struct ip_text ip_text(struct ip a)
{
	struct ip_text t;
	if (ip_is4(a))
		memcpy(t.s, ip4_text(ip_to4(a)).s, sizeof(struct ip4_text));
	else
		ip6_text(a.b, t.s);
	return t;
}

struct ip_text ip_port_text(struct ip a, uint16_t port)
{
	struct ip_text t;
	snprintf(t.s, sizeof(t.s), ip_is4(a) ? "%s:%u" : "[%s]:%u", ip_text(a).s, port);
	return t;
}

int ip_parse(const char *s, struct ip *a)
{
	uint32_t ip4;
	if (!conf_parse_ip4(s, &ip4)) {
		*a = ip_of4(ip4);
		return 0;
	}
	return conf_parse_ip6(s, a->b);
}
