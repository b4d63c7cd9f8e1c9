/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames for a VM that stands still for a migration (vmm/vm_port.h), with its real card, port and bridge, and the
 * driver of fake_guest.c: they come to the guest when it goes on here, or are taken in order for who runs it elsewhere;
 * floods are bounded; and what is brought from another host comes to that guest alone.
 */
#include "kernel/time.h"
#include "net/announce_frames.h"
#include "net/bridge.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_queue.h"
#include "vmm/vm_port.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define F_V1  BIT(32)
#define RINGS 0x10000UL
#define BUFS  0x100000UL
#define RING  64

static const uint8_t mac[ETH_ALEN] = { 0x52, 0x54, 0, 0, 0, 7 }, other_mac[ETH_ALEN] = { 2, 0, 0, 0, 0, 9 },
		     client[ETH_ALEN] = { 2, 0, 0, 0, 0, 5 }, all[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct tap { /* a port that counts what comes to it */
	struct bridge_port port;
	unsigned frames;
};
static struct fg g;
static struct fg_dev d;
static struct fg_queue rx;
static struct vm vm;
static struct bridge *lan;
static struct tap wire, neighbour, host;
static unsigned offered;

static int tap_send(void *arg, const struct frame *f unused)
{
	((struct tap *)arg)->frames++;
	return 0;
}

static void tap_add(struct tap *t)
{
	t->port.send = tap_send;
	t->port.arg = t;
	bridge_add(lan, &t->port);
}

static void offer_buffers(unsigned n)
{
	for (; n; n--, offered++)
		fg_add(&rx, (struct fg_sg[]){ { BUFS + 0x800UL * (offered % RING), 0x800, true } }, 1, 0);
	fg_ring(&rx);
}

static int setup(void **state unused)
{
	memset(&vm, 0, sizeof(vm));
	memset(&wire, 0, sizeof(wire));
	memset(&neighbour, 0, sizeof(neighbour));
	memset(&host, 0, sizeof(host));
	memset(&rx, 0, sizeof(rx));
	offered = 0;
	fake_time_freeze(NS_PER_SEC);
	fg_init(&g);
	g.unchecked = true;
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, F_V1));
	fg_queue_init(&rx, &d, 0, RING, RINGS, false);
	fg_driver_ok(&d);
	assert_int_equal(bridge_create(&lan, "lan", 1500, true), 0);
	tap_add(&wire);
	memcpy(neighbour.port.mac, other_mac, ETH_ALEN);
	neighbour.port.is_guest = true;
	tap_add(&neighbour);
	assert_int_equal(bridge_bind(&neighbour.port), 0);
	host.port.is_host = true;
	tap_add(&host);
	mutex_init(&vm.lock, "vm");
	strcpy(vm.cfg.name, "demo");
	vm.cfg.nnics = 1;
	vm.cfg.mtu[0] = 1500;
	memcpy(vm.cfg.mac[0], mac, ETH_ALEN);
	vm.vnet[0] = g.net;
	assert_int_equal(vm_port_create_all(&vm), 0);
	vm_port_attach_all(&vm);
	return 0;
}

static int teardown(void **state unused)
{
	vm_port_detach_all(&vm);
	vm_port_free_all(&vm);
	bridge_remove(&wire.port);
	bridge_remove(&neighbour.port);
	bridge_remove(&host.port);
	bridge_destroy(lan);
	fg_fini(&g);
	fake_time_thaw();
	return 0;
}

/* What vm_pause and vm_resume do with it. */
static void pause_it(bool keeps)
{
	struct dev *card = fg_find(&g, "virtio-net");
	if (keeps)
		vm_port_keep_all(&vm);
	card->ops->quiesce(card);
	vm_port_unbind_all(&vm);
}

static void resume_it(void)
{
	struct dev *card = fg_find(&g, "virtio-net");
	vm_port_attach_all(&vm);
	card->ops->resume(card);
}

static void frame_from(struct tap *from, const uint8_t *dst, const uint8_t *src, uint32_t number, size_t len)
{
	static uint8_t b[9100];
	struct frame f;
	memcpy(b, dst, ETH_ALEN);
	memcpy(b + ETH_SRC, src, ETH_ALEN);
	put_be16(b + ETH_TYPE, 0x88b6);
	put_le32(b + ETH_HLEN, number);
	frame_init_flat(&f, b, len);
	(void)bridge_input(&from->port, &f);
}

static void comes(uint32_t number) { frame_from(&wire, mac, client, number, 60); }

/* The guest has those from `first` on, in order, and no others. */
static void guest_has(uint32_t first, unsigned n)
{
	for (; n; n--, first++) {
		int head = fg_used(&rx, NULL);
		assert_true(head >= 0);
		gpa_t at = BUFS + 0x800UL * ((unsigned)head % RING);
		assert_int_equal(fg_get32(&g, at + VNET_HDR_LEN + ETH_HLEN), first);
	}
	assert_int_equal(fg_used(&rx, NULL), -1);
}

struct taken {
	unsigned n, groups, stop_at;
	uint32_t number[1 << 14];
	size_t len[1 << 14];
};
static struct taken taken;

static int take(void *arg, unsigned nic, const struct frame *f)
{
	struct taken *t = arg;
	uint8_t b[ETH_HLEN + 4];
	assert_int_equal(nic, 0);
	assert_int_equal(f->gso, FRAME_GSO_NONE);
	assert_false(f->flags & FRAME_NEEDS_CSUM);
	(void)frame_copy_out(f, 0, b, sizeof(b));
	t->groups += b[0] & 1;
	t->number[t->n] = get_le32(b + ETH_HLEN);
	t->len[t->n++] = f->len;
	return t->stop_at && t->n == t->stop_at ? -EPIPE : 0;
}

static unsigned take_all(void)
{
	memset(&taken, 0, sizeof(taken));
	assert_int_equal(vm_port_take_kept(&vm, take, &taken), 0);
	return taken.n;
}

static void find_guest(const struct bridge_port *p, void *arg)
{
	if (!strcmp(p->name, "demo"))
		*(const struct bridge_port **)arg = p;
}

static const struct bridge_port_stats *stats(void)
{
	const struct bridge_port *p = NULL;
	bridge_for_each_port(lan, find_guest, &p);
	assert_non_null(p);
	return &p->stats;
}

/* ---- at the source ---- */

/* It goes on here: all that came before and meanwhile, once and in order, and then what comes. */
static void test_taken_back(void **state unused)
{
	for (uint32_t i = 0; i < 5; i++)
		comes(i); /* it has given no buffers yet */
	pause_it(true);
	for (uint32_t i = 5; i < 25; i++)
		comes(i);
	offer_buffers(30);
	assert_int_equal(fg_used(&rx, NULL), -1);
	resume_it();
	comes(25);
	guest_has(0, 26);
	pause_it(true); /* and once more */
	comes(26);
	resume_it();
	guest_has(26, 1);
	assert_int_equal(bridge_dropped(stats(), false), 0);
}

/* Who pauses it for something else loses them, as ever. */
static void test_not_kept(void **state unused)
{
	offer_buffers(10);
	pause_it(false);
	comes(0);
	assert_int_equal(stats()->drops[BRIDGE_DROP_REFUSED], 1);
	resume_it();
	comes(1);
	guest_has(1, 1);
}

/* An answer that is older than ten seconds is for nobody. */
static void test_stale(void **state unused)
{
	offer_buffers(10);
	pause_it(true);
	comes(0);
	fake_time_advance(11 * NS_PER_SEC);
	resume_it();
	comes(1);
	guest_has(1, 1);
}

/* It runs elsewhere: they are taken, those from before the pause too, until the network knows where it is. */
static void test_taken(void **state unused)
{
	uint8_t b[ANNOUNCE_FRAME_MAX];
	struct frame f;
	for (uint32_t i = 0; i < 3; i++)
		comes(i);
	pause_it(true);
	for (uint32_t i = 3; i < 9; i++)
		comes(i);
	frame_from(&wire, all, client, 9, 60);
	frame_from(&wire, client, other_mac, 99, 60); /* for somebody else */
	memset(&taken, 0, sizeof(taken));
	taken.stop_at = 4;
	assert_int_equal(vm_port_take_kept(&vm, take, &taken), -EPIPE);
	taken.stop_at = 0;
	assert_int_equal(vm_port_take_kept(&vm, take, &taken), 0);
	assert_int_equal(taken.n, 10);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(taken.number[i], i);
	assert_false(vm_port_is_elsewhere(&vm));

	comes(10);
	vm_port_wait_kept(&vm, TIME_NEVER); /* there is something: it does not wait */
	frame_init_flat(&f, b, announce_rarp(b, mac));
	assert_int_equal(bridge_input(&wire.port, &f), 0);
	assert_true(vm_port_is_elsewhere(&vm));
	vm_port_wait_kept(&vm, TIME_NEVER);
	comes(11); /* goes where the switches have it by now */
	assert_int_equal(take_all(), 1);
	assert_int_equal(taken.number[0], 10);
}

/* No flood takes more than there is room for, and the first ones are those that are kept. */
static void test_bound(void **state unused)
{
	pause_it(true);
	for (uint32_t i = 0; i < 10000; i++)
		comes(i);
	unsigned n = take_all();
	assert_in_range(n, 3000, VNET_QUEUE_SIZE / 60);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(taken.number[i], i);
	assert_int_equal(stats()->drops[BRIDGE_DROP_FULL], 10000 - n);
}

/* A storm of broadcasts leaves room to what is for the guest alone. */
static void test_storm(void **state unused)
{
	pause_it(true);
	for (uint32_t i = 0; i < 10000; i++)
		frame_from(&wire, all, client, i, 60);
	for (uint32_t i = 0; i < 2000; i++)
		comes(i);
	unsigned n = take_all();
	assert_int_equal(n - taken.groups, 2000);
	assert_in_range(taken.groups, 500, VNET_QUEUE_SIZE / 4 / 60);
	assert_int_equal(stats()->drops[BRIDGE_DROP_FULL], 10000 - taken.groups);
}

/* What a guest beside it sent unfinished is finished first. */
static void test_unfinished(void **state unused)
{
	enum { TCP = ETH_HLEN + 20, HEAD = TCP + 20, PAYLOAD = 3000 };
	static uint8_t b[HEAD + PAYLOAD];
	struct frame f;
	memcpy(b, mac, ETH_ALEN);
	memcpy(b + ETH_SRC, client, ETH_ALEN);
	put_be16(b + ETH_TYPE, ETHERTYPE_IPV4);
	b[ETH_HLEN] = 0x45;
	put_be16(b + ETH_HLEN + 2, sizeof(b) - ETH_HLEN);
	b[ETH_HLEN + 9] = 6;
	b[TCP + 12] = 5 << 4;
	pause_it(true);
	frame_init_flat(&f, b, sizeof(b));
	f.flags = FRAME_NEEDS_CSUM;
	f.gso = FRAME_GSO_TCPV4;
	f.gso_size = 1400;
	f.hdr_len = HEAD;
	f.csum_start = TCP;
	f.csum_offset = 16;
	assert_int_equal(vnet_rx(g.net, &f), 0); /* not by the bridge: this driver takes none such */
	f.gso = FRAME_GSO_NONE;
	f.gso_size = 0;
	f.len = HEAD + 100;
	f.iov[0].len = f.len;
	put_be16(b + ETH_HLEN + 2, f.len - ETH_HLEN);
	assert_int_equal(vnet_rx(g.net, &f), 0);
	assert_int_equal(take_all(), 4);
	assert_int_equal(taken.len[0], HEAD + 1400);
	assert_int_equal(taken.len[1], HEAD + 1400);
	assert_int_equal(taken.len[2], HEAD + 200);
	assert_int_equal(taken.len[3], HEAD + 100);
}

/* ---- at the destination ---- */

static void bring(const uint8_t *dst, const uint8_t *src, uint16_t type, uint16_t tag, uint32_t number, size_t len)
{
	static uint8_t b[9100];
	struct frame f;
	memset(b, 0, sizeof(b));
	memcpy(b, dst, ETH_ALEN);
	memcpy(b + ETH_SRC, src, ETH_ALEN);
	put_be16(b + ETH_TYPE, type);
	put_le32(b + ETH_HLEN, number);
	if (type == ETHERTYPE_CTAG)
		put_be16(b + ETH_HLEN, tag);
	frame_init_flat(&f, b, len);
	vm_port_bring(&vm, 0, &f);
}

static void no_client(const uint8_t m[6], const struct bridge_port *p unused, uint64_t age unused, void *arg)
{
	*(bool *)arg |= !memcmp(m, client, ETH_ALEN);
}

static void test_brought(void **state unused)
{
	bool learned = false;
	offer_buffers(20);
	bring(mac, client, 0x88b6, 0, 1, 60);
	bring(all, client, 0x88b6, 0, 2, 1514);
	bring(mac, other_mac, 0x88b6, 0, 3, 60); /* one that is at home at a port here wrote to it when it was there */
	guest_has(1, 3);
	bring(mac, client, ETHERTYPE_CTAG, 7 << 13, 0, 60); /* a priority alone */
	guest_has(7 << 5, 1);                               /* these bytes, read as a number */
	bridge_for_each_mac(lan, no_client, &learned);
	assert_false(learned);
	assert_int_equal(wire.frames + neighbour.frames + host.frames, 0);
}

/* A source may say anything: nothing of it comes to anybody. */
static void test_brought_hostile(void **state unused)
{
	static const uint8_t group_src[ETH_ALEN] = { 1, 0, 0x5e, 0, 0, 1 },
			     reserved[ETH_ALEN] = { 1, 0x80, 0xc2, 0, 0, 0xe };
	struct {
		const uint8_t *dst, *src;
		uint16_t type, tag;
		size_t len;
		enum bridge_drop drop;
	} bad[] = {
		{ other_mac, client, 0x88b6, 0, 60, BRIDGE_DROP_REFUSED }, /* the guest's beside it */
		{ client, client, 0x88b6, 0, 60, BRIDGE_DROP_REFUSED },    /* somebody's on the wire */
		{ mac, group_src, 0x88b6, 0, 60, BRIDGE_DROP_MALFORMED },
		{ mac, client, 0x88b6, 0, ETH_HLEN - 1, BRIDGE_DROP_MALFORMED },
		{ mac, mac, 0x88b6, 0, 60, BRIDGE_DROP_MAC }, /* its own */
		{ reserved, client, 0x88b6, 0, 60, BRIDGE_DROP_RESERVED },
		{ mac, client, ETHERTYPE_TERN, 0, 60, BRIDGE_DROP_HOST },
		{ mac, client, ETHERTYPE_CTAG, 20, 60, BRIDGE_DROP_TAG }, /* another network's */
		{ mac, client, ETHERTYPE_STAG, 20, 16, BRIDGE_DROP_TAG }, /* half of one */
		{ mac, client, 0x88b6, 0, 1523, BRIDGE_DROP_LONG },       /* than the network's MTU and two tags */
	};
	offer_buffers(20);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t before = stats()->drops[bad[i].drop];
		bring(bad[i].dst, bad[i].src, bad[i].type, bad[i].tag, 1, bad[i].len);
		assert_int_equal(stats()->drops[bad[i].drop], before + 1);
	}
	for (uint32_t i = 0; i < 10000; i++) /* endless */
		bring(mac, client, 0x88b6, 0, i, 60);
	guest_has(0, 20);
	assert_int_equal(wire.frames + neighbour.frames + host.frames, 0);
	assert_true(stats()->drops[BRIDGE_DROP_FULL] > 5000);
	vm_port_detach_all(&vm); /* stopped, or gone on: nobody is there to have it */
	bring(mac, client, 0x88b6, 0, 1, 60);
	vm_port_attach_all(&vm);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_taken_back), TEST(test_not_kept), TEST(test_stale),
		TEST(test_taken),      TEST(test_bound),    TEST(test_storm),
		TEST(test_unfinished), TEST(test_brought),  TEST(test_brought_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
