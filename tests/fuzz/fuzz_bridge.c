/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Any frame of a guest, with any virtio header, in any pieces, that changes while it is on its way. Whatever leaves
 * comes from the guest's own MAC, is for no group that is a bridge's own, does not speak as hosts do, has no tag but at
 * a trunk, and fits a wire where the port wants that.
 */
#include "net/bridge.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t mac[ETH_ALEN] = { 2, 0, 0, 0, 0, 0xa }, mac_host[ETH_ALEN] = { 2, 0, 0, 0, 0, 0x1f };
static struct bridge *b;
static struct bridge_port guest, wire, plain, host;
static uint8_t frame[FRAME_MAX], was[32];
static size_t len;

static void want(bool good)
{
	if (!good)
		abort();
}

/* Behind tags and SNAP, in another way than the rules do it. */
static void check_types(const uint8_t *p, size_t n)
{
	static const uint8_t llc[3] = { 0xaa, 0xaa, 3 };
	size_t at = 12;
	while (at + 2 <= n) {
		unsigned type = (unsigned)p[at] << 8 | p[at + 1];
		want(type != 0x88b5);
		if (type == 0x8100 || type == 0x88a8 || type == 0x9100) {
			want(guest.policy.trunk);
			at += 4;
		} else if (type < 0x600 && at + 10 <= n && !memcmp(p + at + 2, llc, 3) && !p[at + 5] && !p[at + 6] &&
			   (!p[at + 7] || p[at + 7] == 0xf8)) {
			at += 8;
		} else {
			break;
		}
	}
}

static int sink(void *arg, const struct frame *f)
{
	const struct bridge_port *to = arg;
	static const uint8_t group[5] = { 1, 0x80, 0xc2 };
	uint8_t h[64], *end;
	size_t n = frame_copy_out(f, 0, h, sizeof(h)), sum = 0;
	for (unsigned i = 0; i < f->niov; i++) { /* all its bytes are there */
		end = (uint8_t *)f->iov[i].base + f->iov[i].len;
		want(!f->iov[i].len || end[-1] == *(volatile uint8_t *)(end - 1));
		sum += f->iov[i].len;
	}
	want(sum == f->len && f->len >= ETH_HLEN && f->len <= FRAME_MAX);
	want(!memcmp(h, was, 14)); /* not what the guest made of it meanwhile */
	want(guest.policy.any_mac ? !(h[6] & 1) && memcmp(h + 6, mac_host, 6) : !memcmp(h + 6, mac, 6));
	want(memcmp(h, group, sizeof(group)) || h[5] > 15);
	check_types(h, n);
	if (f->gso == FRAME_GSO_NONE || to == &plain)
		want(f->len <= (guest.policy.trunk ? 1522 : 1514));
	else
		want(f->gso_size >= 48 && f->hdr_len < f->len && f->flags == FRAME_NEEDS_CSUM);
	want(to != &plain || (!f->flags && !f->gso));
	want(!f->flags || (uint32_t)f->csum_start + f->csum_offset + 2 <= f->len);
	if (to == &host)
		want((h[12] == 8 && (h[13] == 6 || (!h[13] && h[23] == 1))) ||
		     (h[12] == 0x86 && h[13] == 0xdd && h[20] == 58));
	memset(frame, 0x5a, MIN(len, sizeof(was)));
	memcpy(frame + 6, mac_host, MIN(len > 6 ? len - 6 : 0, (size_t)6));
	return 0;
}

static void add(struct bridge_port *p, unsigned offloads, const uint8_t own[ETH_ALEN])
{
	p->send = sink;
	p->arg = p;
	p->offloads = offloads;
	memcpy(p->mac, own, ETH_ALEN);
	bridge_add(b, p);
	if (own == mac || own == mac_host)
		if (bridge_bind(p))
			abort();
}

static void begin(void)
{
	static const uint8_t none[ETH_ALEN], ip[4] = { 10, 77, 0, 11 };
	if (b)
		return;
	guest.is_guest = host.is_host = true;
	if (bridge_create(&b, "lan", 1500, true))
		abort();
	add(&wire, FRAME_TAKES_CSUM | FRAME_TAKES_TSO4 | FRAME_TAKES_TSO6, none);
	add(&plain, 0, none);
	add(&guest, 0, mac);
	add(&host, FRAME_TAKES_CSUM | FRAME_TAKES_TSO4, mac_host);
	bridge_guard(b, ip_of4(get_le32(ip)), false);
	bridge_guard_own(b, mac_host);
	fake_time_freeze(NS_PER_SEC);
}

/* Policy, virtio header, how the frame is cut and how long its tail is, then its bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t list[16] = { [10] = 0xff, 0xff, 10, 77, 0, 50 };
	enum { HEAD = 16 };
	if (size < HEAD || size > 2048)
		return 0;
	begin();
	fake_time_advance(NS_PER_SEC);
	guest.policy = (struct bridge_policy){
		.any_mac = data[0] & 1, .trunk = data[0] & 2, .dhcp_server = data[0] & 4, .router = data[0] & 8
	};
	if (data[0] & 16)
		memcpy(guest.policy.ip[0], list, sizeof(list));
	size_t tail = data[1] & 1 ? get_le16(data + 2) : 0, step = data[4] + 1UL;
	len = MIN(size - HEAD + tail, sizeof(frame));
	memset(frame, 0, len);
	memcpy(frame, data + HEAD, size - HEAD);
	if (len >= 12 && !(data[0] & 32))
		memcpy(frame + 6, mac, 6);
	if (len >= 6 && data[7] & 1)
		memcpy(frame, (uint8_t[]){ 1, 0x80, 0xc2, 0, 0, data[7] >> 4 }, 6);
	memcpy(was, frame, MIN(len, sizeof(was)));
	struct frame f = { .len = (uint32_t)len,
			   .flags = data[5] & FRAME_NEEDS_CSUM,
			   .gso = data[6],
			   .hdr_len = get_le16(data + 8),
			   .gso_size = get_le16(data + 10),
			   .csum_start = get_le16(data + 12),
			   .csum_offset = get_le16(data + 14) };
	for (size_t at = 0; at < len; at += step) {
		if (f.niov == FRAME_IOV_IN - 1)
			step = len - at;
		f.iov[f.niov++] = (struct iov){ frame + at, MIN(step, len - at) };
	}
	(void)bridge_input(&guest, &f);
	uint8_t *exact = malloc(size - HEAD); /* from the wire: is it a router's? */
	memcpy(exact, data + HEAD, size - HEAD);
	(void)bridge_rules_router(exact, size - HEAD);
	free(exact);
	return 0;
}
