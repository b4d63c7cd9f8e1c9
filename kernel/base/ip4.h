/* SPDX-License-Identifier: BSD-2-Clause */
/* An IPv4 address, held in network order, as text, to be used within one expression: ip4_text(ip).s. */
#pragma once
#include <stdint.h>
#include <stdio.h>

struct ip4_text {
	char s[16];
};

static inline struct ip4_text ip4_text(uint32_t ip)
{
	struct ip4_text t;
	const uint8_t *b = (const uint8_t *)&ip;
	snprintf(t.s, sizeof(t.s), "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
	return t;
}
