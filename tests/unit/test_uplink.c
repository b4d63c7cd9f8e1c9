/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cards, bonds and VLANs: what goes to which network, with and without tags, in whatever pieces; that an active-backup
 * bond loses nothing but what a dead card swallows, and tells its networks when it goes to another one.
 */
#include "net/lacp.h"
#include "net/uplink.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>

struct card {
	struct nic nic;
	bool up, broken;
	struct frame last; /* sent: copied into buf */
	uint8_t buf[FRAME_MAX];
	unsigned sent;
};
static struct card cards[7];

static struct card *card_of(struct nic *n) { return CONTAINER_OF(n, struct card, nic); }

/* The switch behind cards 5 and 6: it answers at once, in the task of who speaks. */
static struct lacp partner;
static bool partner_speaks; /* [a] */
static void partner_hears(unsigned port, const struct frame *f)
{
	uint8_t pdu[LACP_LEN], frame[ETH_HLEN + LACP_LEN];
	uint64_t next;
	assert_int_equal(frame_copy_out(f, ETH_HLEN, pdu, sizeof(pdu)), sizeof(pdu));
	if (!__atomic_load_n(&partner_speaks, __ATOMIC_ACQUIRE))
		return;
	(void)lacp_hear(&partner, port, pdu, time_ns());
	unsigned due = lacp_due(&partner, time_ns(), &next);
	memcpy(frame, lacp_group, ETH_ALEN);
	memset(frame + ETH_SRC, 2, ETH_ALEN);
	put_be16(frame + ETH_TYPE, LACP_TYPE);
	for (unsigned i = 0; i < 2; i++)
		if (due & 1U << i) {
			struct frame answer;
			lacp_write(&partner, i, frame + ETH_HLEN);
			frame_init_flat(&answer, frame, sizeof(frame));
			cards[5 + i].nic.rx(cards[5 + i].nic.rx_arg, &answer);
		}
}

static int tx(struct nic *n, const struct frame *f)
{
	struct card *c = card_of(n);
	uint8_t head[ETH_HLEN];
	if (!c->up)
		return -ENETDOWN;
	if (frame_copy_out(f, 0, head, sizeof(head)) == sizeof(head) && get_be16(head + ETH_TYPE) == LACP_TYPE) {
		assert_memory_equal(head, lacp_group, ETH_ALEN);
		partner_hears((unsigned)(c - &cards[5]), f);
		return 0;
	}
	c->last = *f;
	assert_int_equal(frame_copy_out(f, 0, c->buf, sizeof(c->buf)), f->len);
	c->sent++;
	return 0;
}
static bool link_up(struct nic *n) { return card_of(n)->up; }
static int start(struct nic *n) { return card_of(n)->broken ? -ENODEV : 0; }
static unsigned room(struct nic *n, size_t len unused) { return (unsigned)(card_of(n) - cards); }
static unsigned mbit(struct nic *n) { return 100 * (unsigned)(card_of(n) - cards); }
static const struct nic_ops ops = { tx, link_up, mbit, start, room };
int nic_start(struct nic *n) { return n->ops->start(n); }

struct net {
	struct uplink_net wire;
	unsigned got, backs;
	uint8_t buf[FRAME_MAX];
	struct frame last;
};
static struct net plain, ten, twenty, bonded, over_bond, tagged_only, aggregated;

static void rx(void *arg, struct frame *f)
{
	struct net *n = arg;
	n->got++;
	n->last = *f;
	assert_int_equal(frame_copy_out(f, 0, n->buf, sizeof(n->buf)), f->len);
}
static void back(void *arg) { ((struct net *)arg)->backs++; }

static void wire_up(struct net *n, unsigned vlan, const char *name, unsigned first, unsigned ncards)
{
	struct nic *const list[] = { &cards[first].nic, &cards[first + ncards - 1].nic };
	n->wire = (struct uplink_net){ .vlan = (uint16_t)vlan,
				       .takes_tags = n != &bonded,
				       .aggregates = n == &aggregated,
				       .rx = rx,
				       .back = back,
				       .arg = n };
	uplink_add(&n->wire, name, list, ncards);
}

/*
 * Card 0 with three networks, cards 1 and 2 a bond of two networks, card 3 has VLAN 5 alone, card 4 does not start, 5
 * and 6 are a bond with LACP.
 */
static int setup(void **state unused)
{
	static struct net dead;
	for (unsigned i = 0; i < ARRAY_SIZE(cards); i++) {
		cards[i].nic = (struct nic){
			.ops = &ops, .mac = { 2, (uint8_t)i }, .offloads = FRAME_TAKES_CSUM, .mtu = 1500
		};
		cards[i].up = true;
	}
	cards[1].nic.offloads |= FRAME_TAKES_TSO4;
	cards[4].broken = true;
	wire_up(&plain, 0, "lan", 0, 1);
	wire_up(&ten, 10, "lan", 0, 1);
	wire_up(&twenty, 20, "lan", 0, 1);
	wire_up(&bonded, 0, "trunk", 1, 2);
	wire_up(&over_bond, 7, "trunk", 1, 2);
	wire_up(&tagged_only, 5, "x", 3, 1);
	wire_up(&dead, 0, "y", 4, 1);
	wire_up(&aggregated, 3, "pair", 5, 2);
	static const uint8_t far[ETH_ALEN] = { 2, 2, 2, 2, 2, 2 };
	lacp_init(&partner, far, 2);
	lacp_link(&partner, 0, true, 0);
	lacp_link(&partner, 1, true, 0);
	assert_true(uplink_start_all());
	assert_false(uplink_is_up(&dead.wire));
	return 0;
}

/* A frame of len bytes, cut at `cut`, with up to two tags. */
static struct frame frame_of(uint8_t *buf, size_t len, size_t cut, unsigned tag, unsigned inner)
{
	size_t at = ETH_TYPE;
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i * 7);
	for (unsigned t = 0; t < 2; t++) {
		unsigned v = t ? inner : tag;
		if (v == ~0U)
			continue;
		put_be16(buf + at, ETHERTYPE_CTAG);
		put_be16(buf + at + 2, v);
		at += ETH_TAG_LEN;
	}
	put_be16(buf + at, 0x88b6);
	struct frame f = { .len = (uint32_t)len, .niov = 2 };
	f.iov[0] = (struct iov){ buf, cut };
	f.iov[1] = (struct iov){ buf + cut, len - cut };
	return f;
}
#define NO ~0U

static void hear(unsigned card, struct frame *f) { cards[card].nic.rx(cards[card].nic.rx_arg, f); }

static unsigned got_by(struct net *n)
{
	unsigned got = n->got;
	n->got = 0;
	return got;
}

static void test_tags_in(void **state unused)
{
	uint8_t buf[200];
	for (size_t cut = 1; cut < 40; cut++) {
		struct frame f = frame_of(buf, 100, cut, NO, NO);
		hear(0, &f);
		assert_int_equal(got_by(&plain), 1);
		f = frame_of(buf, 100, cut, 10, NO);
		hear(0, &f);
		assert_int_equal(got_by(&ten), 1);
		assert_int_equal(ten.last.len, 96);
		assert_memory_equal(ten.buf, buf, ETH_TYPE);
		assert_memory_equal(ten.buf + ETH_TYPE, buf + ETH_TYPE + ETH_TAG_LEN, 96 - ETH_TYPE);
		f = frame_of(buf, 100, cut, 0xe000 | 20, 33); /* its priority is not kept, its inner tag is */
		hear(0, &f);
		assert_int_equal(got_by(&twenty), 1);
		assert_int_equal(get_be16(twenty.buf + ETH_TYPE), ETHERTYPE_CTAG);
		assert_int_equal(get_be16(twenty.buf + ETH_HLEN), 33);
		f = frame_of(buf, 100, cut, 30, NO); /* nobody's: a guest's own, maybe */
		hear(0, &f);
		assert_int_equal(got_by(&plain), 1);
		assert_int_equal(plain.last.len, 100);
		f = frame_of(buf, 100, cut, 0, NO); /* a priority tag is of no VLAN */
		hear(0, &f);
		assert_int_equal(got_by(&plain), 1);
		f = frame_of(buf, 100, cut, NO, NO);
		hear(3, &f);
		f = frame_of(buf, 100, cut, 6, NO);
		hear(3, &f);
		assert_int_equal(got_by(&tagged_only), 0);
		f = frame_of(buf, 100, cut, 5, NO);
		hear(3, &f);
		assert_int_equal(got_by(&tagged_only), 1);
		assert_int_equal(got_by(&plain) + got_by(&ten) + got_by(&twenty) + got_by(&bonded), 0);
	}
	struct frame f = frame_of(buf, 100, 14, 30, NO);
	hear(1, &f);
	assert_int_equal(got_by(&bonded), 0);   /* which takes no foreign tags */
	for (size_t len = 1; len < 18; len++) { /* cut short: nothing is read that is not there */
		f = frame_of(buf, len > 18 ? len : 18, 1, 10, NO);
		f.len = (uint32_t)len;
		f.iov[1].len = len - 1;
		hear(0, &f);
		assert_int_equal(got_by(&ten), 0);
		(void)got_by(&plain);
	}
}

static void test_tags_out(void **state unused)
{
	uint8_t buf[200];
	for (size_t cut = 1; cut < 40; cut++) { /* a guest's own tag does not lead into another network */
		struct frame f = frame_of(buf, 100, cut, 0xe000 | 10, NO);
		assert_int_equal(uplink_send(&plain.wire, &f), -EACCES);
		f = frame_of(buf, 100, cut, 11, 10);
		assert_int_equal(uplink_send(&plain.wire, &f), 0);
		f = frame_of(buf, 100, cut, 0xe000, 10); /* nor behind one of priority alone */
		assert_int_equal(uplink_send(&plain.wire, &f), -EACCES);
		f = frame_of(buf, 100, cut, 0xe000, 12);
		assert_int_equal(uplink_send(&plain.wire, &f), 0);
		f = frame_of(buf, 100, cut, 0, NO);
		assert_int_equal(uplink_send(&plain.wire, &f), 0);
		f = frame_of(buf, 100, cut, 20, NO); /* behind the network's own tag it is nobody else's */
		assert_int_equal(uplink_send(&ten.wire, &f), 0);
	}
	for (size_t cut = 1; cut < 40; cut++) {
		struct frame f = frame_of(buf, 100, cut, NO, NO);
		f.flags = FRAME_NEEDS_CSUM;
		f.gso = FRAME_GSO_TCPV4;
		f.gso_size = 1000;
		f.hdr_len = 54;
		f.csum_start = 34;
		f.csum_offset = 16;
		assert_int_equal(uplink_send(&plain.wire, &f), 0);
		assert_int_equal(cards[0].last.len, 100);
		assert_memory_equal(cards[0].buf, buf, 100);
		assert_int_equal(uplink_send(&ten.wire, &f), 0);
		assert_int_equal(cards[0].last.len, 104);
		assert_memory_equal(cards[0].buf, buf, ETH_TYPE);
		assert_int_equal(get_be16(cards[0].buf + ETH_TYPE), ETHERTYPE_CTAG);
		assert_int_equal(get_be16(cards[0].buf + ETH_HLEN), 10);
		assert_memory_equal(cards[0].buf + ETH_TYPE + ETH_TAG_LEN, buf + ETH_TYPE, 100 - ETH_TYPE);
		assert_true(cards[0].last.hdr_len == 58 && cards[0].last.csum_start == 38 &&
			    cards[0].last.csum_offset == 16);
		assert_true(cards[0].last.gso == FRAME_GSO_TCPV4 && cards[0].last.gso_size == 1000 &&
			    cards[0].last.flags);
	}
	struct frame f = { .len = 1000, .niov = FRAME_IOV_IN }; /* all pieces that may come in, and a tag */
	uint8_t large[1000] = { 0 };
	for (unsigned i = 0; i < f.niov; i++)
		f.iov[i] = (struct iov){ large + 50 * i, i + 1 < f.niov ? 50 : 1000 - 50 * i };
	assert_int_equal(uplink_send(&ten.wire, &f), 0);
	assert_int_equal(cards[0].last.len, 1004);
}

static void test_bond(void **state unused)
{
	uint8_t buf[100];
	bool used;
	struct frame f = frame_of(buf, 100, 30, NO, NO);
	assert_int_equal(uplink_offloads(&bonded.wire), FRAME_TAKES_CSUM);
	assert_memory_equal(uplink_mac(&over_bond.wire), cards[1].nic.mac, ETH_ALEN);
	assert_int_equal(uplink_room(&bonded.wire, 1500), 1);
	hear(2, &f); /* the spare hears what is flooded */
	assert_int_equal(got_by(&bonded), 0);
	hear(1, &f);
	assert_int_equal(got_by(&bonded), 1);
	bonded.backs = over_bond.backs = plain.backs = 0;
	cards[2].nic.link_changed(cards[2].nic.rx_arg, true); /* the spare is nobody's news */
	assert_int_equal(bonded.backs, 0);
	cards[1].up = false;
	cards[1].nic.link_changed(cards[1].nic.rx_arg, false);
	assert_true(bonded.backs == 1 && over_bond.backs == 1 && plain.backs == 0);
	assert_int_equal(uplink_room(&bonded.wire, 1500), 2);
	assert_int_equal(uplink_mbit(&bonded.wire), 200); /* of the one in use */
	assert_true(uplink_is_up(&bonded.wire));
	assert_int_equal(uplink_send(&over_bond.wire, &f), 0);
	assert_int_equal(cards[2].last.len, 104);
	hear(1, &f);
	assert_int_equal(got_by(&bonded), 0);
	hear(2, &f);
	assert_int_equal(got_by(&bonded), 1);
	assert_memory_equal(uplink_mac(&bonded.wire), cards[1].nic.mac, ETH_ALEN); /* it stays the host's */
	cards[1].up = true;
	cards[1].nic.link_changed(cards[1].nic.rx_arg, true); /* a spare from now on */
	assert_int_equal(bonded.backs, 1);
	assert_ptr_equal(uplink_card(&bonded.wire, 1, &used), &cards[2].nic);
	assert_true(used);
	assert_ptr_equal(uplink_card(&bonded.wire, 2, &used), NULL);
	cards[2].up = cards[1].up = false;
	cards[2].nic.link_changed(cards[2].nic.rx_arg, false);
	assert_false(uplink_is_up(&bonded.wire));
	assert_int_equal(uplink_send(&bonded.wire, &f), -ENETDOWN);
	assert_int_equal(bonded.backs, 1);
	cards[1].up = true; /* whichever is first back is used */
	cards[1].nic.link_changed(cards[1].nic.rx_arg, true);
	assert_int_equal(bonded.backs, 2);
	assert_int_equal(uplink_send(&bonded.wire, &f), 0);
	assert_int_equal(cards[1].last.len, 100);
}

/* A card whose cable is pulled and put back: its networks are told when it is back. */
static void test_link_of_a_card(void **state unused)
{
	plain.backs = ten.backs = 0;
	cards[0].up = false;
	cards[0].nic.link_changed(cards[0].nic.rx_arg, false);
	assert_true(!plain.backs && !uplink_is_up(&ten.wire));
	cards[0].up = true;
	cards[0].nic.link_changed(cards[0].nic.rx_arg, true);
	assert_true(plain.backs == 1 && ten.backs == 1 && uplink_is_up(&ten.wire));
}

/* An IPv4 packet of TCP from this port. */
static struct frame flow(uint8_t buf[64], unsigned port)
{
	struct frame f;
	memset(buf, 0, 64);
	memcpy(buf, (uint8_t[]){ 2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 8, 8, 8, 0, 0x45 }, 15);
	buf[ETH_HLEN + 9] = PROTO_TCP;
	put_be16(buf + ETH_HLEN + 20, port);
	frame_init_flat(&f, buf, 64);
	return f;
}

/* Send 100 packets of each of 64 flows: each takes one card. Returns how many flows took card 5. */
static unsigned flows_over_5(void)
{
	uint8_t buf[64];
	unsigned over = 0;
	for (unsigned port = 1000; port < 1064; port++) {
		struct frame f = flow(buf, port);
		cards[5].sent = cards[6].sent = 0;
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(uplink_send(&aggregated.wire, &f), 0);
		assert_true(cards[5].sent + cards[6].sent == 100 && !(cards[5].sent && cards[6].sent));
		over += cards[5].sent ? 1 : 0;
	}
	return over;
}

static bool used_both(void)
{
	bool first, second;
	(void)uplink_card(&aggregated.wire, 0, &first);
	(void)uplink_card(&aggregated.wire, 1, &second);
	return first && second;
}

static void test_lacp(void **state unused)
{
	uint8_t buf[64], system[ETH_ALEN];
	struct frame f = flow(buf, 1), tagged = frame_of(buf, 64, 20, 3, NO);
	assert_false(uplink_partner(&aggregated.wire, 0, system));
	for (uint64_t end = time_in_ms(9000); uplink_send(&aggregated.wire, &f) && time_ns() < end;)
		task_sleep_until(time_in_ms(100));
	assert_int_equal(flows_over_5(), 64); /* nobody has spoken for 3 s: the first card that has a link */
	hear(6, &tagged);
	assert_int_equal(got_by(&aggregated), 0);
	__atomic_store_n(&partner_speaks, true, __ATOMIC_RELEASE);
	for (uint64_t end = time_in_ms(5000); !used_both() && time_ns() < end;)
		task_sleep_until(time_in_ms(10));
	assert_true(used_both());
	assert_true(aggregated.backs > 0);
	assert_true(uplink_partner(&aggregated.wire, 1, system) && system[5] == 2);
	assert_in_range(flows_over_5(), 12, 52);
	assert_int_equal(uplink_room(&aggregated.wire, 1500), 5); /* of that with less */
	hear(5, &tagged), hear(6, &tagged);
	assert_int_equal(got_by(&aggregated), 2);
	unsigned backs = __atomic_load_n(&aggregated.backs, __ATOMIC_RELAXED);
	cards[5].up = false;
	cards[5].nic.link_changed(cards[5].nic.rx_arg, false);
	assert_int_equal(flows_over_5(), 0); /* from the same moment on, without a loss */
	for (uint64_t end = time_in_ms(5000); aggregated.backs == backs && time_ns() < end;)
		task_sleep_until(time_in_ms(10));
	assert_true(aggregated.backs > backs);                /* its task says so, once a second */
	assert_int_equal(uplink_mbit(&aggregated.wire), 600); /* a flow has one of them */
	assert_true(uplink_is_up(&aggregated.wire));
	cards[5].up = true;
	cards[5].nic.link_changed(cards[5].nic.rx_arg, true);
	for (uint64_t end = time_in_ms(5000); !used_both() && time_ns() < end;)
		task_sleep_until(time_in_ms(10));
	assert_in_range(flows_over_5(), 12, 52);
	cards[5].up = cards[6].up = false;
	for (unsigned i = 5; i < 7; i++)
		cards[i].nic.link_changed(cards[i].nic.rx_arg, false);
	f = flow(buf, 1);
	assert_int_equal(uplink_send(&aggregated.wire, &f), -ENETDOWN);
	assert_int_equal(uplink_room(&aggregated.wire, 1500), 0);
	assert_false(uplink_is_up(&aggregated.wire));
	__atomic_store_n(&partner_speaks, false, __ATOMIC_RELEASE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tags_in),        cmocka_unit_test(test_tags_out), cmocka_unit_test(test_bond),
		cmocka_unit_test(test_link_of_a_card), cmocka_unit_test(test_lacp),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
