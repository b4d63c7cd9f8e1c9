/* SPDX-License-Identifier: BSD-2-Clause */
/* A host's address, of either family: IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip {
	uint8_t b[16]; /* zeros: none */
};
#define IP_TEXT 48 /* "[...]:65535" */
struct ip_text {
	char s[IP_TEXT];
};

static const uint8_t ip_mapped[12] = { [10] = 0xff, [11] = 0xff };

static inline bool ip_same(struct ip a, struct ip b) { return !memcmp(a.b, b.b, sizeof(a.b)); }
static inline bool ip_is_none(struct ip a) { return ip_same(a, (struct ip){ { 0 } }); }
static inline bool ip_is4(struct ip a) { return !memcmp(a.b, ip_mapped, sizeof(ip_mapped)); }
static inline bool ip_is6(struct ip a) { return !ip_is_none(a) && !ip_is4(a); }
static inline bool ip_is_link_local(struct ip a) { return a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80; }
/* An IPv4 address in network order; 0: none. */
static inline struct ip ip_of4(uint32_t ip4)
{
	struct ip a = { { 0 } };
	if (ip4) {
		memcpy(a.b, ip_mapped, sizeof(ip_mapped));
		memcpy(a.b + sizeof(ip_mapped), &ip4, sizeof(ip4));
	}
	return a;
}
/* The 16 bytes of a packet or of lwIP. */
static inline struct ip ip_of6(const void *bytes)
{
	struct ip a;
	memcpy(a.b, bytes, sizeof(a.b));
	return a;
}
/* And back; 0: it is none. */
static inline uint32_t ip_to4(struct ip a)
{
	uint32_t ip4 = 0;
	if (ip_is4(a))
		memcpy(&ip4, a.b + sizeof(ip_mapped), sizeof(ip4));
	return ip4;
}
/* One that a machine can have: no group's, and not all zeros. */
static inline bool ip_is_machines(struct ip a)
{
	return !ip_is_none(a) && (ip_is4(a) ? a.b[12] < 224 && ip_to4(a) : a.b[0] != 0xff);
}
static inline bool ip_is_loopback(struct ip a)
{
	return ip_is4(a) ? a.b[12] == 127 : ip_same(a, (struct ip){ { [15] = 1 } });
}
/* One that stands for a host by itself: a link-local one means nothing without the network it is on. */
static inline bool ip_is_hosts(struct ip a) { return ip_is_machines(a) && !ip_is_loopback(a) && !ip_is_link_local(a); }
/* As RFC 5952 writes it, to be used within one expression: ip_text(a).s. kernel/ip.c */
struct ip_text ip_text(struct ip a);
/* "10.77.0.11" or "fd00::b", without a zone: 0, -EINVAL. */
int ip_parse(const char *s, struct ip *a);
/* "10.77.0.11:7077" or "[fd00::b]:7077" */
struct ip_text ip_port_text(struct ip a, uint16_t port);
