/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pass policy (policy.h). A guest that goes quiet is not stopped at the first moment that fits the budget: passes
 * are cheap and downtime is not, so while each pass still cuts what is left by a quarter, a few more of them are made.
 *
 * What a pass measures as its round trip is too long by the time that the stream's own queue takes to drain: on a slow
 * line that is most of it. The prediction goes with the shortest one measured, which small passes make good; to give up
 * because of the line takes one that is certain, without the queue.
 */
#include "vmm/migrate/policy.h"

void policy_init(struct policy *p, uint64_t max_downtime_ns, uint32_t max_passes)
{
	*p = (struct policy){ .max_downtime_ns = max_downtime_ns, .max_passes = MAX(max_passes, 1U) };
}

/* bytes / rate in ns without overflow for any rate below 16 GiB/s (faster ones are taken as that). */
static uint64_t time_for(uint64_t bytes, uint64_t rate)
{
	rate = MIN(MAX(rate, 1ULL), 1ULL << 34);
	uint64_t s = bytes / rate;
	return s >= 1000000 ? 1000000 * NS_PER_SEC : s * NS_PER_SEC + bytes % rate * NS_PER_SEC / rate;
}

static uint64_t sending(const struct policy *p, uint64_t bytes)
{
	return time_for(bytes, p->rate ? p->rate : POLICY_RATE_GUESS);
}

/* What the switch-over waits for the line, if that takes rtt_ns there and back. */
static uint64_t trips(const struct policy *p, uint64_t rtt_ns) { return ((p->ride ? 1 : 3) * rtt_ns + 1) / 2; }

uint64_t policy_predict(const struct policy *p, uint64_t pages_left)
{
	return sending(p, pages_left << PAGE_SHIFT) + POLICY_FIXED_NS + trips(p, p->rtt_ns);
}

bool policy_rides(const struct policy *p) { return p->ride; }

static void measure(struct policy *p, const struct policy_pass *r)
{
	if (!p->rtt_ns || r->rtt_ns < p->rtt_ns)
		p->rtt_ns = r->rtt_ns;
	p->ride = p->rtt_ns >= POLICY_RIDE_NS;
	if (r->bytes < POLICY_RATE_SAMPLE || !r->ns)
		return;
	uint64_t us = MAX(r->ns / NS_PER_US, 1ULL);
	uint64_t rate = r->bytes < 1ULL << 44 ? r->bytes * 1000000 / us : r->bytes / us * 1000000;
	p->rate = p->rate ? (p->rate + rate) / 2 : rate;
}

static uint64_t ceil_div(uint64_t n, uint64_t d) { return (n + d - 1) / d; }

static uint64_t would_do_ms(const struct policy *p)
{
	return ceil_div(policy_predict(p, POLICY_SMALL), 10 * NS_PER_MS) * 10;
}

bool policy_possible(uint64_t max_downtime_ns, struct why *w)
{
	struct policy p = { 0 }; /* the shortest line */
	if (max_downtime_ns > POLICY_FIXED_NS)
		return true;
	why_set(w, -EINVAL,
		"stopping the guest here and starting it there takes %lu ms by itself, and %lu ms are allowed; "
		"--max-downtime %lums would do for a guest that is calm",
		POLICY_FIXED_NS / NS_PER_MS, max_downtime_ns / NS_PER_MS, would_do_ms(&p));
	return false;
}

/*
 * Does the line itself break the budget, however little is left? w then says what the line is as far as we know, and
 * what would do for a guest that leaves little.
 */
static bool line_too_long(const struct policy *p, const struct policy_pass *r, struct why *w)
{
	uint64_t queue = sending(p, MIN(r->bytes, POLICY_QUEUE));
	uint64_t line = trips(p, MIN(p->rtt_ns, r->rtt_ns - MIN(r->rtt_ns, queue)));

	if (line + POLICY_FIXED_NS <= p->max_downtime_ns)
		return false;
	why_set(w, -ETIMEDOUT,
		"the line's round trip is %lu ms: the downtime would be at least %lu ms of %lu ms allowed; "
		"--max-downtime %lums would do for a guest that is calm",
		ceil_div(p->rtt_ns, NS_PER_MS), ceil_div(policy_predict(p, 0), NS_PER_MS),
		p->max_downtime_ns / NS_PER_MS, would_do_ms(p));
	return true;
}

enum policy_verdict policy_next(struct policy *p, const struct policy_pass *r, struct why *w)
{
	measure(p, r);
	uint64_t predicted = policy_predict(p, r->left);
	bool first = r->pass == 1;
	bool shrinks = first || r->left < p->prev_left / 4 * 3;             /* by a quarter: worth polishing */
	bool stuck = !first && r->left >= p->prev_left - p->prev_left / 20; /* not even by a twentieth */
	p->prev_left = r->left;
	if (predicted <= p->max_downtime_ns) {
		p->stuck = 0;
		if (r->left <= POLICY_SMALL || !shrinks || p->polish++ >= POLICY_POLISH || r->pass >= p->max_passes)
			return POLICY_STOP;
		return POLICY_AGAIN;
	}
	if (line_too_long(p, r, w))
		return POLICY_GIVE_UP;
	p->stuck = stuck ? p->stuck + 1 : 0;
	if (r->pass < p->max_passes && p->stuck < POLICY_STUCK)
		return POLICY_AGAIN;
	uint64_t secs_den = MAX(r->ns / NS_PER_MS, 1ULL); /* dirty rate: left pages in the last pass's time */
	why_set(w, -ETIMEDOUT,
		"did not converge: after %u passes %lu MiB are left; the guest dirties %lu MB/s and the %s %lu "
		"MB/s, so the downtime would be %lu ms of %lu ms allowed. Raise --max-downtime or migrate when it is "
		"calmer",
		r->pass, r->left >> 8, r->left * PAGE_SIZE / secs_den / 1000,
		r->limited ? "limit allows" : "link carries", p->rate / 1000000, predicted / NS_PER_MS,
		p->max_downtime_ns / NS_PER_MS);
	return POLICY_GIVE_UP;
}
