/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames between hosts (hostframe.h): straight to and from the cards, past the bridge and lwIP. */
#include "net/hostframe.h"
#include "net/port.h"
#include <string.h>

#define HEADER 14

struct hostframe_from {
	struct net_if *i;
	uint8_t mac[ETH_ALEN];
};

static void (*receiver)(const struct hostframe_from *from, const uint8_t *payload, size_t len);

void hostframe_receiver(void (*fn)(const struct hostframe_from *from, const uint8_t *payload, size_t len))
{
	receiver = fn;
}

static void send(struct net_if *i, const uint8_t dst[ETH_ALEN], const void *payload, size_t len)
{
	uint8_t head[HEADER + 2];
	static uint8_t zeros[64];
	if (len > HOSTFRAME_MAX - 2)
		return;
	memcpy(head, dst, ETH_ALEN);
	memcpy(head + ETH_ALEN, uplink_mac(&i->wire), ETH_ALEN);
	head[12] = HOSTFRAME_TYPE >> 8, head[13] = HOSTFRAME_TYPE & 0xff;
	head[14] = (uint8_t)(len >> 8), head[15] = (uint8_t)len; /* short frames come padded */
	size_t pad = len < 44 ? 44 - len : 0;
	struct frame f = { .len = sizeof(head) + len + pad, .niov = pad ? 3 : 2 };
	f.iov[0] = (struct iov){ head, sizeof(head) };
	f.iov[1] = (struct iov){ (void *)(uintptr_t)payload, len };
	f.iov[2] = (struct iov){ zeros, pad };
	(void)uplink_send(&i->wire, &f);
}

static const uint8_t all[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

int hostframe_broadcast_on(const struct bridge *b, const void *payload, size_t len)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->bridge == b && uplink_is_up(&i->wire)) {
			send(i, all, payload, len);
			return 0;
		}
	return -ENETDOWN;
}

const struct bridge *hostframe_bridge(const struct hostframe_from *from) { return from->i->bridge; }

void hostframe_broadcast(const void *payload, size_t len)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->uses & NET_USE_VM)
			send(i, all, payload, len);
}

void hostframe_reply(const struct hostframe_from *from, const void *payload, size_t len)
{
	send(from->i, from->mac, payload, len);
}

bool hostframe_input(struct net_if *i, const struct frame *f)
{
	uint8_t buf[HEADER + HOSTFRAME_MAX];
	size_t n = frame_copy_out(f, 0, buf, HEADER + 2);
	if (n < HEADER + 2 || buf[12] != HOSTFRAME_TYPE >> 8 || buf[13] != (HOSTFRAME_TYPE & 0xff))
		return false;
	if (!receiver || f->len > sizeof(buf))
		return true;
	n = frame_copy_out(f, 0, buf, f->len);
	size_t len = (size_t)buf[14] << 8 | buf[15];
	if (n < HEADER + 2 || len > n - HEADER - 2)
		return true;
	struct hostframe_from from = { .i = i };
	memcpy(from.mac, buf + ETH_ALEN, ETH_ALEN);
	receiver(&from, buf + HEADER + 2, len);
	return true;
}
