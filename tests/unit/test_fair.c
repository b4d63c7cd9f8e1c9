/* SPDX-License-Identifier: BSD-2-Clause */
/* The shares of a full uplink: a modelled card that takes so many bytes a millisecond, and guests that want to send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/base/bits.h"
#include "kernel/time.h"
#include "net/fair.h"
#include "tests/unit/fake_kernel.h"

#define FRAME   1500U
#define CARD    120000U /* bytes a millisecond */
#define RING    250000U
#define TICKS   20 /* in a millisecond */
#define GUESTS  3
#define SECONDS 3

static struct fair fair;
static struct guest {
	struct fair_part part;
	unsigned want, frame; /* bytes a millisecond; in each */
	uint64_t left, offered, sent, lost;
} guest[GUESTS];
static uint64_t queued, now;
static unsigned host;           /* bytes a millisecond that it sends, behind what guests do */
static unsigned known;          /* so many times the ring */
static unsigned large = GUESTS; /* who sends frames that are yet to be cut */

static unsigned room(void) { return (unsigned)((RING - queued) / FAIR_FRAME); }

static void host_sends(void)
{
	static uint64_t left;
	for (left += host / TICKS; left >= FRAME && queued + FRAME <= RING; left -= FRAME) {
		queued += FRAME;
		fair_sent(&fair, FRAME, true, now);
	}
	left = MIN(left, (uint64_t)host / TICKS);
}

static void offer(struct guest *g)
{
	g->offered += g->frame;
	bool taken = !fair_asks(&fair) || fair_may(&fair, &g->part, g->frame, room(), now);
	if (taken) {
		taken = queued + g->frame <= RING;
		fair_sent(&fair, g->frame, taken, now);
	}
	if (!taken) {
		g->lost += g->frame;
		return;
	}
	queued += g->frame;
	g->sent += g->frame;
}

/* In turns, in each of which one sends all that it has: who comes first finds what the card has taken meanwhile. */
static void run(unsigned a, unsigned b, unsigned c)
{
	const unsigned want[GUESTS] = { a, b, c };
	fair_init(&fair);
	fair.room_most = known * (RING / FAIR_FRAME);
	queued = 0;
	now = NS_PER_SEC;
	for (unsigned i = 0; i < GUESTS; i++)
		guest[i] = (struct guest){ .want = want[i], .frame = i == large ? 65000 : FRAME };
	for (unsigned t = 0; t < SECONDS * 1000 * TICKS; t++, now += NS_PER_MS / TICKS) {
		queued -= MIN(queued, (uint64_t)CARD / TICKS);
		for (unsigned i = 0; i < GUESTS; i++)
			guest[i].left += guest[i].want / TICKS;
		for (unsigned i = 0; i < GUESTS; i++)
			for (; guest[i].left >= guest[i].frame; guest[i].left -= guest[i].frame)
				offer(&guest[i]);
		host_sends();
	}
	for (unsigned i = 0; i < GUESTS; i++)
		print_message("    wants %7u, gets %7lu, loses %2lu %%\n", guest[i].want,
			      guest[i].sent / (SECONDS * 1000),
			      guest[i].offered ? guest[i].lost * 100 / guest[i].offered : 0);
}
static uint64_t rate(unsigned i) { return guest[i].sent / (SECONDS * 1000); }

static void there_is_room(void **state unused)
{
	run(CARD / 3, CARD / 3, CARD / 4);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_int_equal(guest[i].lost, 0);
	assert_false(fair_counts(&fair));
}

static void alone_it_has_all(void **state unused)
{
	run(10 * CARD, 0, 0);
	assert_true(rate(0) > CARD * 95 / 100);
}

static void a_flood_leaves_others_theirs(void **state unused)
{
	run(10 * CARD, CARD / 4, 0);
	assert_true(guest[1].lost * 100 <= guest[1].offered);
	assert_true(rate(0) > CARD * 60 / 100); /* what is not wanted by others */
	run(10 * CARD, CARD / 4, CARD / 4);
	assert_true(guest[1].lost * 100 <= guest[1].offered && guest[2].lost * 100 <= guest[2].offered);
}

static void floods_are_equal(void **state unused)
{
	run(40 * CARD, 4 * CARD, 0);
	assert_true(rate(1) > CARD * 42 / 100 && rate(0) + rate(1) > CARD * 95 / 100);
	run(40 * CARD, 10 * CARD, 2 * CARD);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(rate(i) > CARD * 25 / 100);
}

static void large_frames_too(void **state unused)
{
	large = 1;
	run(10 * CARD, CARD / 4, CARD / 4);
	large = GUESTS;
	assert_true(guest[1].lost * 50 <= guest[1].offered && guest[2].lost * 100 <= guest[2].offered);
}

/* A migration that sends more than half of what the card takes. */
static void beside_the_host(void **state unused)
{
	host = CARD * 2 / 3;
	run(CARD / 4, 0, 0);
	uint64_t alone = rate(0);
	run(CARD / 2, 0, 0);
	uint64_t half = rate(0);
	run(10 * CARD, CARD / 20, 0);
	host = 0;
	assert_true(alone > CARD / 4 * 95 / 100 && half > CARD / 4);
	assert_true(rate(0) > CARD * 2 / 5 && guest[1].lost * 20 <= guest[1].offered);
}

/* What is known of the ring is of another card. */
static void ring_of_another_size(void **state unused)
{
	known = 3;
	run(10 * CARD, CARD / 4, 0);
	known = 0;
	assert_true(rate(0) + rate(1) > CARD * 40 / 100);
}

/* A second after the last refusal nobody is counted any more. */
static void it_ends(void **state unused)
{
	run(10 * CARD, CARD / 4, 0);
	assert_true(fair_counts(&fair));
	now += 2 * NS_PER_SEC;
	assert_true(fair_may(&fair, &guest[0].part, 100 * RING, 0, now) && !fair_counts(&fair));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_room),
		cmocka_unit_test(alone_it_has_all),
		cmocka_unit_test(a_flood_leaves_others_theirs),
		cmocka_unit_test(floods_are_equal),
		cmocka_unit_test(large_frames_too),
		cmocka_unit_test(beside_the_host),
		cmocka_unit_test(ring_of_another_size),
		cmocka_unit_test(it_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
