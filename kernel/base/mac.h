/* SPDX-License-Identifier: BSD-2-Clause */
/* An Ethernet address (IEEE 802-2014 8.2) as text, to be used within one expression: mac_text(mac).s. */
#pragma once
#include <stdint.h>
#include <stdio.h>

struct mac_text {
	char s[18]; /* aa:bb:cc:dd:ee:ff */
};

static inline struct mac_text mac_text(const uint8_t mac[6])
{
	struct mac_text t;
	snprintf(t.s, sizeof(t.s), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return t;
}
