/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LACP: two sides of it wired to each other as a host's bond and its switches are. In turns of 100 ms each sends what
 * is due, and hears what the cables let through.
 */
#include "net/lacp.h"
#include "kernel/time.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { PORTS = 4, HOST = 0, SWITCH, OTHER_SWITCH, SIDES };
struct end {
	int side, port; /* side -1: no cable */
};
static struct lacp side[SIDES];
static struct end wire[SIDES][PORTS];
static bool deaf[SIDES][PORTS]; /* nothing comes in there */
static unsigned sent[SIDES][PORTS];
static uint64_t now;
static const uint8_t mac[SIDES][6] = { { 2, 1 }, { 2, 2 }, { 2, 3 } };

static int setup(void **state unused)
{
	now = NS_PER_SEC;
	memset(deaf, 0, sizeof(deaf));
	memset(sent, 0, sizeof(sent));
	for (int s = 0; s < SIDES; s++) {
		lacp_init(&side[s], mac[s], PORTS);
		for (int p = 0; p < PORTS; p++)
			wire[s][p].side = -1;
	}
	return 0;
}

static void plug(int port, int to, int at)
{
	wire[HOST][port] = (struct end){ to, at };
	wire[to][at] = (struct end){ HOST, port };
	lacp_link(&side[HOST], (unsigned)port, true, now);
	lacp_link(&side[to], (unsigned)at, true, now);
}

static void unplug(int port)
{
	struct end far = wire[HOST][port];
	wire[HOST][port].side = wire[far.side][far.port].side = -1;
	lacp_link(&side[HOST], (unsigned)port, false, now);
	lacp_link(&side[far.side], (unsigned)far.port, false, now);
}

static void run_ms(unsigned ms)
{
	for (; ms; ms -= MIN(ms, 100U), now += 100 * NS_PER_MS)
		for (unsigned again = 0; again < 4; again++) /* answers at once */
			for (int s = 0; s < SIDES; s++) {
				uint64_t next;
				unsigned due = lacp_due(&side[s], now, &next);
				assert_true(next > now && next <= now + NS_PER_SEC);
				for (int p = 0; p < PORTS; p++) {
					struct end far = wire[s][p];
					uint8_t pdu[LACP_LEN];
					if (!(due & 1U << p))
						continue;
					sent[s][p]++;
					lacp_write(&side[s], (unsigned)p, pdu);
					if (far.side >= 0 && !deaf[far.side][far.port])
						assert_false(lacp_hear(&side[far.side], (unsigned)far.port, pdu, now));
				}
			}
}

static void all(int s, unsigned set)
{
	assert_int_equal(lacp_collects(&side[s]), set);
	assert_int_equal(lacp_distributes(&side[s]), set);
}

static void test_two_cables(void **state unused)
{
	plug(0, SWITCH, 1);
	plug(1, SWITCH, 0);
	run_ms(300);
	all(HOST, 3);
	all(SWITCH, 3);
	assert_memory_equal(side[HOST].port[0].partner.system, mac[SWITCH], 6);
	assert_int_equal(side[HOST].port[0].partner.port, 2);
	/* Quiet now: one each second. */
	unsigned before = sent[HOST][0];
	run_ms(10000);
	assert_in_range(sent[HOST][0] - before, 9, 11);
	/* A cable is pulled: at once. Put back: again. */
	unplug(0);
	all(HOST, 2);
	all(SWITCH, 1);
	plug(0, SWITCH, 1);
	run_ms(1500);
	all(HOST, 3);
	all(SWITCH, 3);
}

/* A link that is up and leads nowhere, or one way alone, is out of use within 3 s, on both sides. */
static void test_silence(void **state unused)
{
	plug(0, SWITCH, 0);
	plug(1, SWITCH, 1);
	run_ms(1000);
	all(HOST, 3);
	deaf[HOST][0] = true;
	run_ms(2000);
	all(HOST, 3);
	run_ms(1500);
	all(HOST, 2);
	run_ms(100);
	all(SWITCH, 2); /* it was told that we do not hear it */
	run_ms(60000);
	all(HOST, 2);
	deaf[HOST][0] = false;
	run_ms(2000);
	all(HOST, 3);
	/* All fall silent: nothing is sent while that may be a pause. Then, what a switch without LACP wants. */
	deaf[HOST][0] = deaf[HOST][1] = true;
	run_ms(3500);
	all(HOST, 0);
	run_ms(3500);
	all(HOST, 1);
}

static void test_no_partner(void **state unused)
{
	all(HOST, 0);
	lacp_link(&side[HOST], 2, true, now);
	lacp_link(&side[HOST], 1, true, now);
	run_ms(2900);
	all(HOST, 0); /* there may be one */
	run_ms(300);
	all(HOST, 2);
	run_ms(20000);
	all(HOST, 2);
	lacp_link(&side[HOST], 3, true, now); /* nor does this one end what works */
	all(HOST, 2);
	lacp_link(&side[HOST], 1, false, now);
	all(HOST, 4);
}

/* One bond at two switches: it uses one of them, that with more cables; of equal ones the one in use. */
static void test_two_switches(void **state unused)
{
	plug(3, OTHER_SWITCH, 0);
	run_ms(1000);
	all(HOST, 8);
	plug(1, SWITCH, 0);
	run_ms(3000);
	all(HOST, 8);
	all(SWITCH, 0);
	plug(2, SWITCH, 1);
	run_ms(3000);
	all(HOST, 6);
	all(SWITCH, 3);
	all(OTHER_SWITCH, 0);
	unplug(1);
	run_ms(3000);
	all(HOST, 4);
	unplug(2);
	run_ms(3000);
	all(HOST, 8);
	all(OTHER_SWITCH, 1);
}

/* A switch that speaks, and takes no port into a group of its own, has no frames of ours while there is another. */
static void test_never_in_sync(void **state unused)
{
	uint8_t pdu[LACP_LEN];
	lacp_link(&side[HOST], 0, true, now);
	lacp_link(&side[HOST], 1, true, now);
	plug(2, SWITCH, 0);
	for (unsigned i = 0; i < 50; i++) {
		for (unsigned port = 0; port < 2; port++) {
			lacp_write(&side[OTHER_SWITCH], port, pdu); /* its link is down: not in sync */
			assert_false(lacp_hear(&side[HOST], port, pdu, now));
		}
		run_ms(200);
	}
	all(HOST, 4);
	all(SWITCH, 1);
}

/* Of a group in use another port than the first one goes on, though there is another switch with as many. */
static void test_stays(void **state unused)
{
	plug(1, SWITCH, 0);
	plug(2, SWITCH, 1);
	run_ms(1000);
	plug(0, OTHER_SWITCH, 0);
	run_ms(2000);
	all(HOST, 6);
	unplug(1);
	run_ms(100);
	all(HOST, 4);
	run_ms(5000);
	all(HOST, 4);
}

/* What the card does not take is said again, as soon as may be. */
static void test_unsent(void **state unused)
{
	uint64_t next;
	lacp_link(&side[HOST], 0, true, now);
	for (unsigned i = 0; i < 9; i++) {
		assert_int_equal(lacp_due(&side[HOST], now, &next), 1);
		lacp_unsent(&side[HOST], 0);
		now += LACP_AGAIN_NS;
	}
}

/* A partner that aggregates nothing has one of the cables, and the others are none to send over. */
static void test_individual(void **state unused)
{
	for (unsigned p = 0; p < PORTS; p++)
		side[SWITCH].port[p].actor.state &= (uint8_t)~LACP_AGGREGATION;
	plug(0, SWITCH, 0);
	plug(1, SWITCH, 1);
	run_ms(2000);
	all(HOST, 1);
	unplug(0);
	run_ms(2000);
	all(HOST, 2);
}

/* Who wants to hear of us each 30 s does, and is heard each second all the same. */
static void test_slow_partner(void **state unused)
{
	uint8_t pdu[LACP_LEN];
	unsigned n = 0;
	for (unsigned p = 0; p < PORTS; p++)
		side[SWITCH].port[p].actor.state &= (uint8_t)~LACP_SHORT;
	plug(0, SWITCH, 0);
	run_ms(1000);
	for (unsigned i = 0; i < 60; i++, now += NS_PER_SEC) {
		uint64_t next;
		lacp_write(&side[SWITCH], 0, pdu);
		assert_false(lacp_hear(&side[HOST], 0, pdu, now));
		n += lacp_due(&side[HOST], now, &next);
		all(HOST, 1);
	}
	assert_in_range(n, 1, 3);
}

static void test_never_more_than_three_a_second(void **state unused)
{
	uint8_t pdu[LACP_LEN];
	plug(0, SWITCH, 0);
	run_ms(2000);
	lacp_write(&side[SWITCH], 0, pdu);
	unsigned before = sent[HOST][0];
	wire[HOST][0].side = -1;
	for (unsigned i = 0; i < 100; i++) { /* it knows us by another port each time: we have to tell it */
		pdu[22 + 15] = (uint8_t)i;
		assert_false(lacp_hear(&side[HOST], 0, pdu, now));
		run_ms(100);
	}
	assert_in_range(sent[HOST][0] - before, 25, 33);
}

static void test_bytes(void **state unused)
{
	static const uint8_t first[] = {
		1, 1,                                                                 /* LACP, version 1 */
		1, 20, 0x80, 0, 2, 1, 0, 0, 0, 0, 0, 1, 0x80, 0, 0, 1, 0x47, 0, 0, 0, /* actor: defaulted */
		2, 20, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,    0, 0, 0, /* partner */
		3, 16, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0,                /* collector */
		0, 0,                                                                 /* the end */
	};
	uint8_t pdu[LACP_LEN], marker[LACP_LEN] = { 2, 1, 1, 16, 0, 7, 2, 2, 0, 0, 0, 0, 1, 2, 3, 4 }, answer[LACP_LEN];
	lacp_link(&side[HOST], 0, true, now);
	now += 3 * NS_PER_SEC;
	uint64_t next;
	assert_int_equal(lacp_due(&side[HOST], now, &next), 1);
	lacp_write(&side[HOST], 0, pdu);
	assert_memory_equal(pdu, first, sizeof(first));
	memcpy(answer, marker, sizeof(answer));
	assert_true(lacp_hear(&side[HOST], 0, answer, now));
	marker[2] = 2;
	assert_memory_equal(answer, marker, sizeof(answer));
	assert_false(lacp_hear(&side[HOST], 0, answer, now)); /* an answer has none */
}

/* What is malformed, of another protocol, or our own (a loop) changes nothing. */
static void test_refused(void **state unused)
{
	uint8_t good[LACP_LEN], pdu[LACP_LEN];
	static const struct {
		unsigned at;
		uint8_t is;
	} bad[] = { { 0, 3 }, { 2, 2 }, { 3, 19 }, { 22, 1 }, { 23, 21 } };
	lacp_link(&side[HOST], 0, true, now);
	lacp_link(&side[SWITCH], 0, true, now);
	lacp_write(&side[SWITCH], 0, good);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		memcpy(pdu, good, sizeof(pdu));
		pdu[bad[i].at] = bad[i].is;
		assert_false(lacp_hear(&side[HOST], 0, pdu, now));
		assert_false(side[HOST].port[0].current);
	}
	lacp_write(&side[HOST], 1, pdu);
	assert_false(lacp_hear(&side[HOST], 0, pdu, now));
	assert_false(lacp_hear(&side[HOST], 1, good, now)); /* its link is down */
	assert_int_equal(side[HOST].chosen, -1);
	assert_false(lacp_hear(&side[HOST], 0, good, now));
	assert_int_equal(side[HOST].chosen, 0);
	all(HOST, 0); /* heard, and not yet agreed */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_two_cables, setup),
		cmocka_unit_test_setup(test_silence, setup),
		cmocka_unit_test_setup(test_no_partner, setup),
		cmocka_unit_test_setup(test_two_switches, setup),
		cmocka_unit_test_setup(test_never_in_sync, setup),
		cmocka_unit_test_setup(test_stays, setup),
		cmocka_unit_test_setup(test_unsent, setup),
		cmocka_unit_test_setup(test_individual, setup),
		cmocka_unit_test_setup(test_slow_partner, setup),
		cmocka_unit_test_setup(test_never_more_than_three_a_second, setup),
		cmocka_unit_test_setup(test_bytes, setup),
		cmocka_unit_test_setup(test_refused, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
