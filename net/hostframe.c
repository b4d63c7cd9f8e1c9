/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames between hosts (hostframe.h): straight to and from the cards, past the bridge and lwIP. */
#include "net/hostframe.h"
#include "net/packet.h"
#include "net/port.h"
#include <string.h>

#define HEADER 14

struct hostframe_from {
	struct net_if *i;
	uint8_t mac[ETH_ALEN];
	size_t size;
};

static void (*receiver)(const struct hostframe_from *from, const uint8_t *payload, size_t len);

void hostframe_receiver(void (*fn)(const struct hostframe_from *from, const uint8_t *payload, size_t len))
{
	receiver = fn;
}

/* size: bytes behind the header at least, as far as the network carries them. */
static void send(struct net_if *i, const uint8_t dst[ETH_ALEN], const void *payload, size_t len, size_t size)
{
	uint8_t head[HEADER + 2];
	static uint8_t zeros[512]; /* so many times */
	_Static_assert(2 + ETH_JUMBO_MAX / sizeof(zeros) + 1 <= FRAME_IOV_IN + 1, "and a tag's pieces");
	if (len > HOSTFRAME_MAX - 2)
		return;
	memcpy(head, dst, ETH_ALEN);
	memcpy(head + ETH_ALEN, uplink_mac(&i->wire), ETH_ALEN);
	head[12] = ETHERTYPE_TERN >> 8, head[13] = ETHERTYPE_TERN & 0xff;
	head[14] = (uint8_t)(len >> 8), head[15] = (uint8_t)len; /* short frames come padded */
	size = MAX(MIN(size, (size_t)i->wire.mtu), (size_t)(ETH_PADDED - ETH_HLEN));
	struct frame f = { .iov = { { head, sizeof(head) }, { (void *)(uintptr_t)payload, len } },
			   .niov = 2,
			   .len = (uint32_t)(sizeof(head) + len) };
	while (f.len < HEADER + size) {
		size_t n = MIN(HEADER + size - f.len, sizeof(zeros));
		f.iov[f.niov++] = (struct iov){ zeros, n };
		f.len += (uint32_t)n;
	}
	(void)uplink_send(&i->wire, &f);
}

static const uint8_t all[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

int hostframe_broadcast_on(const struct bridge *b, const void *payload, size_t len, size_t size)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->bridge == b && uplink_is_up(&i->wire)) {
			send(i, all, payload, len, size);
			return 0;
		}
	return -ENETDOWN;
}

const struct bridge *hostframe_bridge(const struct hostframe_from *from) { return from->i->bridge; }

size_t hostframe_size(const struct hostframe_from *from) { return from->size; }

void hostframe_broadcast(const void *payload, size_t len)
{
	struct net_if *i;
	for (unsigned n = 0; (i = net_if_get(n)); n++)
		if (i->uses & NET_USE_VM)
			send(i, all, payload, len, 0);
}

void hostframe_reply(const struct hostframe_from *from, const void *payload, size_t len)
{
	send(from->i, from->mac, payload, len, from->size);
}

bool hostframe_input(struct net_if *i, const struct frame *f)
{
	uint8_t buf[HEADER + HOSTFRAME_MAX];
	size_t n = frame_copy_out(f, 0, buf, HEADER + 2);
	if (n < HEADER + 2 || buf[12] != ETHERTYPE_TERN >> 8 || buf[13] != (ETHERTYPE_TERN & 0xff))
		return false;
	if (!receiver)
		return true;
	n = frame_copy_out(f, 0, buf, sizeof(buf)); /* what is longer is padded */
	size_t len = (size_t)buf[14] << 8 | buf[15];
	if (n < HEADER + 2 || len > n - HEADER - 2)
		return true;
	struct hostframe_from from = { .i = i, .size = f->len - HEADER };
	memcpy(from.mac, buf + ETH_ALEN, ETH_ALEN);
	receiver(&from, buf + HEADER + 2, len);
	return true;
}
