/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What comes by a card: any frames, in any pieces, with any tags; among them those between hosts (hostframe.h), with
 * any records, said by somebody who has proved it or not. Each frame reaches the network whose tag it has, whole and
 * without that tag, and none other; what a network sends leaves with its tag, and an untagged one's guest does not
 * reach another network with a tag of its own (net/uplink.c). A question is answered to who asked, on the network that
 * it came by, once; and whoever has proved nothing changes nothing here (doc/trust.md).
 */
#include "net/port.h"
#undef HOST_NAME_MAX /* of limits.h, which lwIP's headers include; records.h has its own */
#include "kernel/random.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "net/hostframe.h"
#include "net/trust.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/migrate/datagram.h"
#include "vmm/migrate/shout.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void want(bool good)
{
	if (!good)
		abort();
}

/* ---- one card, three networks; the third one is not for VMs ---- */

enum { NETS = 3, SIZE_MAX_IN = 2048 };
static struct net_if ifs[NETS];
static const uint16_t vlans[NETS] = { 0, 10, 20 };
static const char *const names[NETS] = { "lan", "ten", "move" };
static const uint8_t host_mac[ETH_ALEN] = { 2, 0, 0, 0, 0, 0x1f }, asker[ETH_ALEN] = { 2, 0, 0, 0, 0, 0x2f };
struct net_if *net_if_get(unsigned i) { return i < NETS ? &ifs[i] : NULL; }

/* A bridge is no more than its network here. */
static struct bridge *bridge_of(unsigned i) { return (struct bridge *)&ifs[i]; }
struct bridge *bridge_find(const char *name, struct why *w)
{
	for (unsigned i = 0; i < NETS; i++)
		if (ifs[i].uses & NET_USE_VM && (!name[0] || !strcmp(name, names[i])))
			return bridge_of(i);
	(void)why_set(w, -ENOENT, "no network %s", name);
	return NULL;
}
const char *bridge_name(const struct bridge *b) { return ((const struct net_if *)(const void *)b)->name; }
unsigned bridge_mtu(const struct bridge *b) { return ((const struct net_if *)(const void *)b)->wire.mtu; }

static struct sent { /* by the card, since a frame came in */
	uint8_t p[FRAME_MAX];
	size_t len;
	unsigned n;
} sent;
static int tx(struct nic *n unused, const struct frame *f)
{
	sent.n++;
	sent.len = f->len;
	want(frame_copy_out(f, 0, sent.p, sizeof(sent.p)) == f->len);
	return 0;
}
static bool link_up(struct nic *n unused) { return true; }
static int start(struct nic *n unused) { return 0; }
int nic_start(struct nic *n) { return n->ops->start(n); }
static const struct nic_ops ops = { .tx = tx, .link_up = link_up, .start = start };
static struct nic card = { .ops = &ops, .mac = { 2, [5] = 0x1f }, .mtu = 1500 };

/* ---- where a frame is to come out, by its bytes ---- */

static const uint8_t *came; /* the frame on the wire */
static size_t came_len;
static int came_out; /* the network; -1: none */

static bool is_tagged(const uint8_t *p, size_t len) { return len >= 18 && p[12] == 0x81 && p[13] == 0; }
static unsigned vid_of(const uint8_t *p) { return (p[14] & 15U) << 8 | p[15]; }

static int net_of(const uint8_t *p, size_t len)
{
	unsigned vid = is_tagged(p, len) ? vid_of(p) : 0;
	return len < 14 ? -1 : vid == 10 ? 1 : vid == 20 ? 2 : 0;
}

static void rx(void *arg, struct frame *f)
{
	static uint8_t buf[SIZE_MAX_IN + 18];
	struct net_if *i = arg;
	size_t n = frame_copy_out(f, 0, buf, sizeof(buf)), tag = i->wire.vlan ? 4 : 0;
	want(came_out == -1 && n == f->len && n == came_len - tag);
	came_out = (int)(i - ifs);
	want(!memcmp(buf, came, 12) && !memcmp(buf + 12, came + 12 + tag, n - 12));
	bool ours = n >= 16 && buf[12] == 0x88 && buf[13] == 0xb5;
	want(hostframe_input(i, f) == ours);
}
static void back(void *arg unused) {}

/* ---- the hosts: this one is number 1, and has a VM that it is about to start ---- */

static enum trust_word word;
size_t trust_sign(uint8_t *msg unused, size_t len, size_t size unused) { return len; }
enum trust_word trust_check(const uint8_t *msg, size_t *len)
{
	size_t head = 12 + (vlans[came_out] ? 4 : 0) + 4; /* it is the frame's payload, and not what lay behind that */
	want(head + *len <= came_len && !memcmp(msg, came + head, *len));
	return word;
}
int trust_connect(struct stream **s unused, struct ip ip unused, uint16_t port unused, uint64_t end unused,
		  const struct stream_canceller *canceller unused, struct why *w)
{
	return why_set(w, -EHOSTUNREACH, "no network");
}
int trust_accept(struct stream **s unused, uint64_t end unused, struct why *w unused) { return -EACCES; }
bool trust_is_proved(const struct stream *s unused) { return false; }
const char *trust_cipher(const struct stream *s unused) { return ""; }
int stream_tcp_listen(uint16_t port unused, unsigned max unused, void (*fn)(void *, struct stream *) unused,
		      void *arg unused)
{
	return 0;
}
void random_bytes(void *buf, size_t n) { memset(buf, 0x5a, n); }

static struct vm *demo;

static void begin(void)
{
	static struct nic *const cards[1] = { &card };
	fake_host = 1;
	for (unsigned i = 0; i < NETS; i++) {
		ifs[i] = (struct net_if){ .uses = i < 2 ? NET_USE_VM : NET_USE_MIGRATION,
					  .bridge = bridge_of(i),
					  .wire = { .vlan = vlans[i],
						    .mtu = 1500,
						    .takes_tags = i < 2,
						    .rx = rx,
						    .back = back,
						    .arg = &ifs[i] } };
		memcpy(ifs[i].name, names[i], strlen(names[i]));
		uplink_add(&ifs[i].wire, "lan", cards, 1);
	}
	shout_init();
	want(uplink_start_all());
	fake_time_freeze(NS_PER_SEC);
	demo = fake_vm_new("demo", MIB(2));
}

/* ---- frames of the input ---- */

struct input {
	const uint8_t *p;
	size_t left;
	uint64_t asked; /* the nonce of this host's own question */
	bool may_hear;  /* it has been answered in a way that counts */
	bool may_yield; /* another host's question has come that counts */
};

static unsigned take(struct input *in) { return in->left ? in->left--, *in->p++ : 0; }
static size_t take_bytes(struct input *in, void *to, size_t n)
{
	n = MIN(n, in->left);
	memcpy(to, in->p, n);
	in->p += n, in->left -= n;
	return n;
}

static int put(struct wire_tx *wire, const void *arg)
{
	struct input *in = (struct input *)(uintptr_t)arg;
	struct who q = { .name = "demo",
			 .mac = { 0x52, 0x54, 0, 1, 2, 3 },
			 .uuid = "dddddddddddddddd",
			 .asker = fake_hosts[0].inc };
	struct have_answer a = { .have = HAVE_HERE, .name = "demo", .host = "a" };
	struct reach r = { .to = fake_hosts[1].inc };
	struct reached there = { .came = take(in), .size = 1500, .mtu = 1500, .net = "lan" };
	uint8_t fields[256];
	switch (there.came >> 4 & 7) {
	case 0:
	case 1: q.flags = take(in) % 5; return who_send(wire, &q, TIME_NEVER);
	case 2: return have_send(wire, &a, TIME_NEVER);
	case 3: memcpy(r.net, names[there.came % NETS], 4); return reach_send(wire, &r, TIME_NEVER);
	case 4: return reached_send(wire, &there, TIME_NEVER);
	default:
		wire_begin(wire, take(in) ?: WIRE_WHO);
		wire_put_bytes(wire, fields, take_bytes(in, fields, take(in)));
		return wire_end(wire, TIME_NEVER);
	}
}

/* Records that host number 0 says, or the input. */
static size_t payload_of(struct input *in, uint8_t *p, size_t room)
{
	static struct datagram d;
	unsigned how = take(in);
	if (how % 4 == 0) {
		size_t n = take(in);
		n = take_bytes(in, p + 2, MIN(room - 2, n));
		p[0] = (uint8_t)(how >> 6), p[1] = (uint8_t)(how & 0x30 ? n : take(in));
		return n + 2;
	}
	uint64_t nonce = how % 4 == 1 ? in->asked : (time_ns() / NS_PER_US + take(in)) << 16 | take(in);
	ON_HOST(how >> 2 & 1) want(!datagram_write(&d, nonce, false, put, in) || d.len);
	in->may_hear |= nonce == in->asked && word >= TRUST_UNPROVED;
	in->may_yield |= word >= TRUST_UNPROVED;
	size_t n = MIN(d.len, room - 2);
	memcpy(p + 2, d.p, n);
	p[0] = (uint8_t)(n >> 8), p[1] = (uint8_t)n;
	for (unsigned k = how >> 5; k > 5 && n; k--) /* bytes that are wrong now */
		p[2 + (take(in) << 2) % n] = (uint8_t)take(in);
	return n + 2;
}

static size_t frame_of(struct input *in, uint8_t *p)
{
	static const uint8_t tags[8] = { 0, 10, 20, 30, 10, 20, 0, 0 };
	unsigned how = take(in);
	size_t less = take(in);
	size_t n = 12;
	memcpy(p, how & 1 ? host_mac : (const uint8_t *)"\377\377\377\377\377\377", ETH_ALEN);
	memcpy(p + ETH_ALEN, asker, ETH_ALEN);
	for (unsigned k = how >> 1 & 3; k; k--, n += 4) { /* none to three tags */
		p[n] = how & 8 ? 0x88 : 0x81, p[n + 1] = how & 8 ? 0xa8 : 0;
		p[n + 2] = (uint8_t)(take(in) & 0xf0), p[n + 3] = tags[take(in) % 8];
		how &= ~8U; /* an outer one of another kind, at most (IEEE 802.1ad) */
	}
	if (how >= 0xe0)
		return n + take_bytes(in, p + n, MIN(SIZE_MAX_IN - n, less));
	p[n] = 0x88, p[n + 1] = 0xb5;
	n += 2;
	n += payload_of(in, p + n, SIZE_MAX_IN - n);
	size_t padding = MIN((size_t)(how >> 4 & 3) * 600, SIZE_MAX_IN - n);
	memset(p + n, 0, padding);
	return how >= 0xc0 ? n - MIN(n, less) : n + padding;
}

/* In pieces of that size, in memory of its own. */
static struct frame pieces_of(uint8_t *p, size_t len, size_t step)
{
	struct frame f = { .len = (uint32_t)len };
	for (size_t at = 0; at < len; at += step) {
		if (f.niov == FRAME_IOV_IN - 1)
			step = len - at;
		f.iov[f.niov++] = (struct iov){ p + at, MIN(step, len - at) };
	}
	return f;
}

/* An answer goes to who asked, by the same way, and is no shorter than a frame may be, nor than the question. */
static void check_answer(void)
{
	size_t tag = came_out >= 0 && vlans[came_out] ? 4 : 0;
	want(sent.n <= 1 && (!sent.n || (came_out >= 0 && word != TRUST_DENIED)));
	if (!sent.n)
		return;
	want(!memcmp(sent.p, came + ETH_ALEN, ETH_ALEN) && !memcmp(sent.p + ETH_ALEN, host_mac, ETH_ALEN));
	want(sent.len >= 60 + tag && sent.len <= 14 + tag + 1500 && sent.len >= MIN(came_len, 14 + tag + 1500));
	want(is_tagged(sent.p, sent.len) ? vid_of(sent.p) == vlans[came_out] && tag : !tag);
	want(sent.p[12 + tag] == 0x88 && sent.p[13 + tag] == 0xb5);
}

/* Does its own tag, or one behind a tag of priority alone, name another network than that of frames without? */
static bool leads_elsewhere(const uint8_t *p, size_t len)
{
	bool twice = is_tagged(p, len) && !vid_of(p);
	return net_of(p, len) > 0 || (twice && net_of(p + 4, len - 4) > 0);
}

/* The same frame leaves by each network. */
static void send_out(const struct frame *f)
{
	for (unsigned i = 0; i < NETS; i++) {
		sent.n = 0;
		int err = uplink_send(&ifs[i].wire, f);
		bool others = leads_elsewhere(came, came_len);
		if (!i) {
			want(err == (others ? -EACCES : 0) && sent.n == !others);
			want(others || (sent.len == came_len && !memcmp(sent.p, came, came_len)));
			continue;
		}
		want(err == (came_len < 14 ? -EINVAL : 0) && sent.n == (came_len >= 14));
		if (err)
			continue;
		want(sent.len == came_len + 4 && is_tagged(sent.p, sent.len) && vid_of(sent.p) == vlans[i]);
		want(!memcmp(sent.p, came, 12) && !memcmp(sent.p + 16, came + 12, came_len - 12));
	}
}

static void one_frame(struct input *in)
{
	static uint8_t buf[SIZE_MAX_IN];
	unsigned how = take(in);
	word = (enum trust_word)(how % 4);
	came_len = frame_of(in, buf);
	uint8_t *exact = malloc(MAX(came_len, 1UL));
	memcpy(exact, buf, came_len);
	came = exact;
	struct frame f = pieces_of(exact, came_len, how >> 2 ?: 2000);
	came_out = -1;
	sent.n = 0;
	card.rx(card.rx_arg, &f);
	want(came_out == net_of(came, came_len));
	check_answer();
	send_out(&f);
	free(exact);
	fake_time_advance(take(in) * NS_PER_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size, 0, false, false };
	struct shout s;
	if (!demo)
		begin();
	fake_time_advance(10 * NS_PER_SEC);
	demo->state = size && data[0] & 0x80 ? VM_RUNNING : VM_STOPPED;
	__atomic_store_n(&demo->lease, VM_LEASE_ASKING, __ATOMIC_SEQ_CST);
	const struct who q = { .name = "demo", .asker = fake_hosts[1].inc };
	shout_begin(&s, &q);
	in.asked = s.nonce;
	while (in.left)
		one_frame(&in);
	fake_time_advance(NS_PER_SEC);
	shout_end(&s);
	want(!s.heard || in.may_hear);
	want(demo->lease == VM_LEASE_ASKING || in.may_yield);
	fake_hosts[1].naskers = 0;
	memset(fake_hosts[1].askers, 0, sizeof(fake_hosts[1].askers));
	return 0;
}
