/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network card with several pairs of queues (virtio 1.2, 5.1.2 and 5.1.6.5.6), driven by the small driver of
 * fake_guest.c: what the driver chooses, where frames go, and all of it with a migration between any two steps.
 */
#include "tests/unit/fake_guest.h"
#include "vmm/dev/vnet.h"
#include "vmm/dev/vnet_device.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define F_CTRL   BIT(17)
#define F_MQ     BIT(22)
#define F_V1     BIT(32)
#define F_PAIRS  (F_V1 | F_CTRL | F_MQ)
#define PAIRS    4
#define RING(q)  (0x10000UL + 0x4000UL * (q))
#define BUFS     0x100000UL
#define BUF(q)   (BUFS + 0x1000UL * (q))
#define MAX_CONF 8 /* max_virtqueue_pairs */

static struct fg g;
static struct fg_dev d;
static struct fg_queue q[2 * PAIRS + 1];

/* The driver comes up with so many queues and the control queue. */
static void up(uint64_t features, unsigned nqueues, unsigned ctrl)
{
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_true(fg_negotiate(&d, features));
	for (unsigned i = 0; i < nqueues; i++)
		fg_queue_init(&q[i], &d, i, 16, RING(i), false);
	fg_queue_init(&q[ctrl], &d, ctrl, 16, RING(ctrl), false);
	fg_driver_ok(&d);
}

/* What the device answers, 0xee: nothing. */
static unsigned command(struct fg_queue *ctrl, const void *bytes, uint32_t n)
{
	uint8_t ack = 0xee;
	fg_put(&g, BUFS - 0x100, bytes, n);
	fg_put(&g, BUFS - 0x80, &ack, 1);
	fg_add(ctrl, (struct fg_sg[]){ { BUFS - 0x100, n, false }, { BUFS - 0x80, 1, true } }, 2, 0);
	fg_ring(ctrl);
	(void)fg_used(ctrl, NULL);
	fg_get(&g, BUFS - 0x80, &ack, 1);
	return ack;
}

static unsigned use_pairs(unsigned n) { return command(&q[2 * PAIRS], (uint8_t[]){ 4, 0, (uint8_t)n, 0 }, 4); }

/* A UDP packet of a flow, from the guest or to it. */
static size_t packet(uint8_t b[64], unsigned flow, bool from_guest)
{
	static const uint8_t guest[4] = { 10, 77, 0, 50 }, other[4] = { 10, 77, 0, 9 };
	uint8_t *ip = b + ETH_HLEN;
	memset(b, 0, 64);
	put_be16(b + ETH_TYPE, ETHERTYPE_IPV4);
	ip[0] = 0x45;
	ip[9] = PROTO_UDP;
	memcpy(ip + 12, from_guest ? guest : other, 4);
	memcpy(ip + 16, from_guest ? other : guest, 4);
	put_be16(ip + (from_guest ? 20 : 22), 40000 + flow);
	put_be16(ip + (from_guest ? 22 : 20), 53);
	return 64;
}

static void sends(unsigned pair, unsigned flow)
{
	uint8_t b[VNET_HDR_LEN + 64] = { 0 };
	gpa_t at = BUF(2 * pair + 1);
	fg_put(&g, at, b, VNET_HDR_LEN);
	(void)packet(b, flow, true);
	fg_put(&g, at + VNET_HDR_LEN, b, 64);
	fg_add(&q[2 * pair + 1], (struct fg_sg[]){ { at, sizeof(b), false } }, 1, 0);
	fg_ring(&q[2 * pair + 1]);
	assert_true(fg_used(&q[2 * pair + 1], NULL) >= 0);
}

static void offers(unsigned pair)
{
	fg_add(&q[2 * pair], (struct fg_sg[]){ { BUF(2 * pair), 256, true } }, 1, 0);
	fg_ring(&q[2 * pair]);
}

/* Which pair gets a packet of the flow; it has a buffer for it, as all have. */
static unsigned receives(unsigned flow)
{
	uint8_t b[64];
	struct frame f;
	unsigned got = ~0U;
	frame_init_flat(&f, b, packet(b, flow, false));
	assert_int_equal(vnet_rx(g.net, &f), 0);
	fg_step(&g);
	for (unsigned i = 0; i < PAIRS; i++) {
		uint32_t len = 0;
		if (!q[2 * i].d || fg_used(&q[2 * i], &len) < 0)
			continue;
		assert_int_equal(len, VNET_HDR_LEN + 64);
		assert_int_equal(got, ~0U);
		got = i;
		offers(i);
	}
	assert_int_not_equal(got, ~0U);
	return got;
}

/* Where the guest sends, there it receives. */
static void steering(void)
{
	assert_int_equal(fg_features(&d) & F_MQ, F_MQ);
	assert_int_equal(fg_read(&d, d.config + MAX_CONF, 2), PAIRS);
	assert_int_equal(fg_read(&d, d.common + 0x12, 2), 2 * PAIRS + 1);
	for (unsigned i = 0; i < PAIRS; i++)
		offers(i);
	for (unsigned flow = 0; flow < 8; flow++)
		assert_int_equal(receives(flow), 0); /* until the driver says that it uses more */
	assert_int_equal(use_pairs(0), 1);
	assert_int_equal(use_pairs(PAIRS + 1), 1);
	assert_int_equal(command(&q[2 * PAIRS], (uint8_t[]){ 4, 0, 2 }, 3), 1);
	assert_int_equal(command(&q[2 * PAIRS], (uint8_t[]){ 4, 1, 2, 0 }, 4), 1);
	assert_int_equal(use_pairs(PAIRS), 0);

	unsigned seen = 0;
	for (unsigned flow = 0; flow < 32; flow++)
		seen |= 1U << receives(flow);
	assert_int_equal(seen, (1U << PAIRS) - 1); /* flows of which it has sent nothing are spread */
	g.migrate_always = false;                  /* what follows is no state: it is learned anew */
	for (unsigned flow = 0; flow < 8; flow++) {
		sends(flow % PAIRS, flow);
		assert_int_equal(receives(flow), flow % PAIRS);
		sends(3 - flow % PAIRS, flow); /* its task has moved to another CPU */
		assert_int_equal(receives(flow), 3 - flow % PAIRS);
	}
	assert_int_equal(use_pairs(2), 0); /* a CPU was taken off */
	for (unsigned flow = 0; flow < 8; flow++)
		assert_true(receives(flow) < 2);
}

static void test_steering(void **state unused)
{
	for (unsigned i = 0; i < 2; i++) {
		memset(q, 0, sizeof(q));
		fg_init_pairs(&g, PAIRS);
		g.migrate_always = i;
		up(F_PAIRS, 2 * PAIRS, 2 * PAIRS);
		steering();
		fg_fini(&g);
	}
}

/* Each queue has a vector of its own, which goes with it. */
static void test_vectors(void **state unused)
{
	fg_init_pairs(&g, PAIRS);
	up(F_PAIRS, 2 * PAIRS, 2 * PAIRS);
	assert_int_equal(use_pairs(PAIRS), 0);
	for (unsigned i = 0; i < PAIRS; i++) {
		fg_want_interrupt(&q[2 * i + 1], true);
		fg_migrate(&g);
		unsigned before = g.nmsi;
		sends(i, i);
		assert_int_equal(g.nmsi, before + 1);
		assert_int_equal(g.msi[before % 64].data, 0x40 + 2 * i + 2);
	}
	fg_fini(&g);
}

/* A driver without the feature has one pair, and its control queue is the third (5.1.2). */
static void test_one_pair(void **state unused)
{
	memset(q, 0, sizeof(q));
	fg_init_pairs(&g, PAIRS);
	up(F_V1 | F_CTRL, 2, 2);
	offers(0);
	assert_int_equal(command(&q[2], (uint8_t[]){ 4, 0, 1, 0 }, 4), 1);
	q[2].d = NULL;
	for (unsigned flow = 0; flow < 8; flow++)
		assert_int_equal(receives(flow), 0);
	fg_fini(&g);
}

/* A reset leaves one pair; what waited in the others' queues is gone. */
static void test_reset(void **state unused)
{
	uint8_t b[64];
	struct frame f;
	memset(q, 0, sizeof(q));
	fg_init_pairs(&g, PAIRS);
	up(F_PAIRS, 2 * PAIRS, 2 * PAIRS);
	assert_int_equal(use_pairs(PAIRS), 0);
	for (unsigned flow = 0; flow < 16; flow++) { /* no buffers */
		frame_init_flat(&f, b, packet(b, flow, false));
		assert_int_equal(vnet_rx(g.net, &f), 0);
	}
	memset(q, 0, sizeof(q));
	up(F_PAIRS, 2 * PAIRS, 2 * PAIRS);
	for (unsigned i = 0; i < PAIRS; i++)
		offers(i);
	for (unsigned i = 0; i < PAIRS; i++)
		assert_int_equal(fg_used(&q[2 * i], NULL), -1);
	for (unsigned flow = 0; flow < 8; flow++)
		assert_int_equal(receives(flow), 0);
	fg_fini(&g);
}

/* The most that there are: all vectors fit the table, and all queues have their state. */
static void test_most(void **state unused)
{
	fg_init_pairs(&g, VNET_PAIRS_MAX + 1);
	fg_probe(&d, &g, FG_NET_SLOT);
	assert_int_equal(fg_read(&d, d.config + MAX_CONF, 2), VNET_PAIRS_MAX);
	assert_int_equal(fg_read(&d, d.common + 0x12, 2), 2 * VNET_PAIRS_MAX + 1);
	assert_true(fg_negotiate(&d, F_PAIRS));
	static struct fg_queue last[3];
	for (unsigned i = 0; i < 3; i++)
		fg_queue_init(&last[i], &d, 2 * VNET_PAIRS_MAX - 2 + i, 16, RING(i), false);
	fg_driver_ok(&d);
	assert_int_equal(command(&last[2], (uint8_t[]){ 4, 0, VNET_PAIRS_MAX, 0 }, 4), 0);
	fg_migrate(&g);
	fg_put(&g, BUFS, (uint8_t[VNET_HDR_LEN + 64]){ 0 }, VNET_HDR_LEN + 64);
	fg_add(&last[1], (struct fg_sg[]){ { BUFS, VNET_HDR_LEN + 64, false } }, 1, 0);
	fg_want_interrupt(&last[1], true);
	unsigned before = g.nmsi;
	fg_ring(&last[1]);
	assert_int_equal(g.nmsi, before + 1);
	assert_int_equal(g.msi[before % 64].data, 0x40 + 2 * VNET_PAIRS_MAX);
	fg_fini(&g);
}

/* State that no such card can have. */
static void test_refused(void **state unused)
{
	static const uint16_t wrong[] = { 0, PAIRS + 1, 0xffff };
	struct why w = { .text = "" };
	fg_init_pairs(&g, PAIRS);
	struct dev *dev = fg_find(&g, "virtio-net");
	const struct dev_section *s = &dev->section[dev->nsections - 1];
	assert_string_equal(s->desc->name, "virtio-net");
	uint8_t buf[16];
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		state_save(s->desc, s->obj, buf);
		put_le16(buf + 8, wrong[i]);
		assert_int_equal(state_load(s->desc, s->obj, 2, buf, 10, &w), -EINVAL);
		assert_non_null(strstr(w.text, "pairs"));
	}
	fg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steering), cmocka_unit_test(test_vectors), cmocka_unit_test(test_one_pair),
		cmocka_unit_test(test_reset),    cmocka_unit_test(test_most),    cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
