/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of a black-out, predicted and measured (downtime.h). */
#include "vmm/migrate/downtime.h"

const char *const downtime_part_names[DOWN_PARTS] = { "scan", "send", "state", "load", "waits", "verify" };

uint64_t downtime_sum(const struct downtime *d)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < DOWN_PARTS; i++)
		sum += d->ns[i];
	return sum;
}

static uint64_t difference(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

bool downtime_is_wrong(const struct downtime *predicted, const struct downtime *actual, struct why *w)
{
	uint64_t was = downtime_sum(actual), said = downtime_sum(predicted);
	unsigned worst = 0;
	if (!was)
		return false;
	was -= actual->ns[DOWN_VERIFY];
	said -= predicted->ns[DOWN_VERIFY];
	if (difference(was, said) <= DOWNTIME_FLOOR_NS || MAX(was, said) / 2 <= MIN(was, said))
		return false;
	for (unsigned i = 0; i < DOWN_VERIFY; i++)
		if (difference(actual->ns[i], predicted->ns[i]) > difference(actual->ns[worst], predicted->ns[worst]))
			worst = i;
	why_set(w, 0, "its downtime was predicted as %lu us and was %lu us: of that the %s %lu us, and %lu us",
		said / NS_PER_US, was / NS_PER_US, downtime_part_names[worst], predicted->ns[worst] / NS_PER_US,
		actual->ns[worst] / NS_PER_US);
	return true;
}

uint64_t downtime_expect(const uint64_t *cost, uint64_t n, uint64_t guess)
{
	uint64_t one = __atomic_load_n(cost, __ATOMIC_RELAXED);
	return one ? one * MAX(n, 1UL) : guess;
}

void downtime_learn(uint64_t *cost, uint64_t ns, uint64_t n, uint64_t guess)
{
	uint64_t old = __atomic_load_n(cost, __ATOMIC_RELAXED);
	n = MAX(n, 1UL);
	uint64_t one = MAX(MIN(ns, 2 * downtime_expect(cost, n, guess)) / n, 1UL);
	__atomic_store_n(cost, old ? MAX((3 * old + one) / 4, 1UL) : one, __ATOMIC_RELAXED);
}
