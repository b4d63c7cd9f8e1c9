/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any PDUs at a bond's ports, and their links: what is collected from and sent over is always a port with a link, and
 * what is sent over is collected from.
 */
#include "net/lacp.h"
#include "kernel/time.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each byte is a step: a port in its low bits, what happens there above them; a PDU takes the 60 bytes behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[ETH_ALEN] = { 2 };
	enum { TAKES = 60 };
	struct lacp l;
	uint64_t now = NS_PER_SEC, next;
	unsigned up = 0;
	lacp_init(&l, mac, NET_LEGS_MAX);
	while (size) {
		unsigned port = *data % NET_LEGS_MAX, what = *data / NET_LEGS_MAX % 4;
		data++, size--;
		if (what == 0) {
			up ^= 1U << port;
			lacp_link(&l, port, up & 1U << port, now);
		} else if (what == 1) {
			now += NS_PER_SEC / 2;
		} else {
			uint8_t *pdu = calloc(1, LACP_LEN), own[LACP_LEN];
			size_t n = MIN(size, (size_t)TAKES);
			lacp_write(&l, port, own);
			if (what == 3) /* a partner who knows us */
				memcpy(pdu, own, 2), memcpy(pdu + 22, own + 2, 20), pdu[22] = 2, n = MIN(n, 22UL);
			memcpy(pdu, data, n);
			data += n, size -= n;
			(void)lacp_hear(&l, port, pdu, now);
			free(pdu);
		}
		(void)lacp_due(&l, now, &next);
		if (next <= now || lacp_collects(&l) & ~up || lacp_distributes(&l) & ~lacp_collects(&l))
			abort();
	}
	return 0;
}
