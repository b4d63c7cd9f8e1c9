/* SPDX-License-Identifier: BSD-2-Clause */
/* The states of an interface's address, fed with what lwIP's ACD would be seen doing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/time.h"
#include "net/addr.h"
#include <string.h>

#define IP    0x0b004d0a
#define OTHER 0x0c004d0a
#define SEC   NS_PER_SEC

static const uint8_t first[6] = { 0x52, 0x54, 0, 0, 0, 1 }, second[6] = { 0x52, 0x54, 0, 0, 0, 2 };

static enum addr_todo tick(struct addr *a, uint64_t now, enum addr_acd acd)
{
	return addr_tick(a, now, acd, IP, true, acd == ADDR_ACD_HOLDS);
}

static enum addr_news arp(struct addr *a, uint64_t now, enum addr_acd before, enum addr_acd after, bool defended,
			  const uint8_t mac[6])
{
	return addr_arp(a, now, &(struct addr_seen){ before, after, defended, a->ip, mac }, 0);
}

/* ACD finds another host while it probes or holds. */
static enum addr_news conflict(struct addr *a, uint64_t now, enum addr_acd before, const uint8_t mac[6],
			       uint32_t random)
{
	return addr_arp(a, now, &(struct addr_seen){ before, ADDR_ACD_OFF, false, a->ip, mac }, random);
}

static void in_use(struct addr *a)
{
	addr_init(a, false, IP);
	assert_int_equal(tick(a, SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_int_equal(tick(a, 2 * SEC, ADDR_ACD_HOLDS), ADDR_USE);
	assert_int_equal(a->state, NET_ADDR_OK);
}

static void probed_then_used(void **state)
{
	(void)state;
	struct addr a;
	addr_init(&a, false, IP);
	assert_int_equal(addr_tick(&a, 0, ADDR_ACD_OFF, 0, false, false), ADDR_NOTHING); /* nobody would hear it */
	assert_true(a.state == NET_ADDR_PROBING && a.waiting);
	assert_int_equal(tick(&a, SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_true(a.state == NET_ADDR_PROBING && !a.waiting);
	assert_int_equal(tick(&a, 2 * SEC, ADDR_ACD_PROBES), ADDR_NOTHING);
	assert_int_equal(arp(&a, 2 * SEC, ADDR_ACD_PROBES, ADDR_ACD_PROBES, false, second), ADDR_QUIET);
	assert_int_equal(a.state, NET_ADDR_PROBING);
	assert_int_equal(tick(&a, 6 * SEC, ADDR_ACD_HOLDS), ADDR_USE);
	assert_int_equal(a.state, NET_ADDR_OK);
	assert_int_equal(tick(&a, 7 * SEC, ADDR_ACD_HOLDS), ADDR_NOTHING);
}

static void taken_until_the_other_goes(void **state)
{
	(void)state;
	struct addr a;
	addr_init(&a, false, IP);
	assert_int_equal(tick(&a, SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_int_equal(conflict(&a, 2 * SEC, ADDR_ACD_PROBES, first, 3000), ADDR_TAKEN);
	assert_int_equal(a.state, NET_ADDR_CONFLICT);
	assert_memory_equal(a.other, first, 6);
	assert_int_equal(tick(&a, 15 * SEC - 1, ADDR_ACD_OFF), ADDR_NOTHING);
	assert_int_equal(tick(&a, 15 * SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_int_equal(a.state, NET_ADDR_CONFLICT); /* the state of this moment is not known to be better */
	assert_int_equal(conflict(&a, 16 * SEC, ADDR_ACD_PROBES, first, 0), ADDR_QUIET);
	assert_int_equal(tick(&a, 26 * SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_int_equal(conflict(&a, 27 * SEC, ADDR_ACD_PROBES, second, 0), ADDR_TAKEN); /* another one is news */
	assert_memory_equal(a.other, second, 6);
	assert_int_equal(tick(&a, 37 * SEC, ADDR_ACD_OFF), ADDR_PROBE);
	assert_int_equal(tick(&a, 42 * SEC, ADDR_ACD_HOLDS), ADDR_USE);
	assert_int_equal(a.state, NET_ADDR_OK);
}

static void tried_rarely_after_ten_conflicts(void **state)
{
	(void)state;
	struct addr a;
	uint64_t now = SEC;
	addr_init(&a, false, IP);
	for (unsigned n = 0; n < 9; n++, now += 20 * SEC) {
		assert_int_equal(tick(&a, now, ADDR_ACD_OFF), ADDR_PROBE);
		conflict(&a, now, ADDR_ACD_PROBES, first, n * 1234567);
	}
	for (unsigned n = 0; n < 300; n++, now += 70 * SEC) {
		assert_int_equal(tick(&a, now, ADDR_ACD_OFF), ADDR_PROBE);
		conflict(&a, now, ADDR_ACD_PROBES, first, 0);
		assert_int_equal(tick(&a, now + 60 * SEC - 1, ADDR_ACD_OFF), ADDR_NOTHING);
	}
}

static void defended_then_given_up(void **state)
{
	(void)state;
	struct addr a;
	in_use(&a);
	assert_int_equal(arp(&a, 9 * SEC, ADDR_ACD_HOLDS, ADDR_ACD_HOLDS, true, first), ADDR_DEFENDED);
	assert_memory_equal(a.defended, first, 6);
	assert_int_equal(a.state, NET_ADDR_OK);
	assert_int_equal(arp(&a, 30 * SEC, ADDR_ACD_HOLDS, ADDR_ACD_HOLDS, true, first), ADDR_QUIET); /* told */
	assert_int_equal(arp(&a, 50 * SEC, ADDR_ACD_HOLDS, ADDR_ACD_HOLDS, true, second), ADDR_DEFENDED);
	assert_int_equal(arp(&a, 700 * SEC, ADDR_ACD_HOLDS, ADDR_ACD_HOLDS, true, second), ADDR_DEFENDED);
	assert_int_equal(conflict(&a, 705 * SEC, ADDR_ACD_HOLDS, second, 0), ADDR_GIVEN_UP);
	assert_int_equal(a.state, NET_ADDR_CONFLICT);
	assert_memory_equal(a.other, second, 6);
	assert_int_equal(tick(&a, 715 * SEC, ADDR_ACD_OFF), ADDR_PROBE);
}

static void probed_again_when_the_link_is_back(void **state)
{
	(void)state;
	struct addr a;
	in_use(&a);
	assert_int_equal(addr_tick(&a, 3 * SEC, ADDR_ACD_HOLDS, IP, false, true), ADDR_NOTHING);
	assert_int_equal(tick(&a, 4 * SEC, ADDR_ACD_HOLDS), ADDR_PROBE);
	assert_int_equal(a.state, NET_ADDR_OK); /* connections go on */
	assert_int_equal(addr_tick(&a, 5 * SEC, ADDR_ACD_PROBES, IP, true, true), ADDR_NOTHING);
	assert_int_equal(conflict(&a, 6 * SEC, ADDR_ACD_PROBES, first, 0), ADDR_GIVEN_UP);
	in_use(&a);
	assert_int_equal(addr_tick(&a, 3 * SEC, ADDR_ACD_HOLDS, IP, false, true), ADDR_NOTHING);
	assert_int_equal(tick(&a, 4 * SEC, ADDR_ACD_HOLDS), ADDR_PROBE);
	assert_int_equal(tick(&a, 9 * SEC, ADDR_ACD_HOLDS), ADDR_NOTHING);
	assert_int_equal(a.state, NET_ADDR_OK);
}

static enum addr_todo dhcp(struct addr *a, enum addr_acd acd, uint32_t ip, bool bound)
{
	return addr_tick(a, SEC, acd, ip, true, bound);
}

/* lwIP's DHCP client does the work; here is only said how far it is. */
static void by_dhcp(void **state)
{
	(void)state;
	struct addr a;
	addr_init(&a, true, 0);
	assert_int_equal(dhcp(&a, ADDR_ACD_OFF, 0, false), ADDR_NOTHING);
	assert_true(a.state == NET_ADDR_PROBING && a.waiting && !a.ip);
	assert_int_equal(dhcp(&a, ADDR_ACD_PROBES, IP, false), ADDR_NOTHING);
	assert_true(a.state == NET_ADDR_PROBING && !a.waiting && a.ip == IP);
	assert_int_equal(conflict(&a, SEC, ADDR_ACD_PROBES, first, 0), ADDR_TAKEN);
	assert_int_equal(dhcp(&a, ADDR_ACD_OFF, IP, false), ADDR_NOTHING);
	assert_int_equal(a.state, NET_ADDR_CONFLICT);
	dhcp(&a, ADDR_ACD_PROBES, IP, false); /* the same is offered again */
	assert_int_equal(a.state, NET_ADDR_CONFLICT);
	dhcp(&a, ADDR_ACD_PROBES, OTHER, false);
	assert_true(a.state == NET_ADDR_PROBING && a.ip == OTHER);
	dhcp(&a, ADDR_ACD_HOLDS, OTHER, false); /* between its two announcements */
	assert_int_equal(a.state, NET_ADDR_PROBING);
	assert_int_equal(dhcp(&a, ADDR_ACD_HOLDS, OTHER, true), ADDR_USE);
	assert_int_equal(a.state, NET_ADDR_OK);
	dhcp(&a, ADDR_ACD_OFF, OTHER, false); /* the lease is over */
	assert_true(a.state == NET_ADDR_PROBING && a.waiting && !a.ip);
}

/* The conflict comes between DHCP's ACK and the next look at ACD; and the next address is that host's as well. */
static void by_dhcp_at_once(void **state)
{
	(void)state;
	struct addr a;
	struct addr_seen seen = { ADDR_ACD_PROBES, ADDR_ACD_OFF, false, IP, first };
	addr_init(&a, true, 0);
	assert_int_equal(addr_arp(&a, SEC, &seen, 0), ADDR_TAKEN);
	assert_true(a.state == NET_ADDR_CONFLICT && a.ip == IP);
	seen.ip = OTHER;
	assert_int_equal(addr_arp(&a, 20 * SEC, &seen, 0), ADDR_TAKEN);
	assert_true(a.state == NET_ADDR_CONFLICT && a.ip == OTHER);
	assert_int_equal(addr_arp(&a, 40 * SEC, &seen, 0), ADDR_QUIET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probed_then_used),
		cmocka_unit_test(taken_until_the_other_goes),
		cmocka_unit_test(tried_rarely_after_ten_conflicts),
		cmocka_unit_test(defended_then_given_up),
		cmocka_unit_test(probed_again_when_the_link_is_back),
		cmocka_unit_test(by_dhcp),
		cmocka_unit_test(by_dhcp_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
