/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pass policy (policy.h). A guest that goes quiet is not stopped at the first moment that fits the budget: passes are
 * cheap and downtime is not, so while each pass still cuts what is left by a quarter, a few more of them are made.
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

uint64_t policy_predict(const struct policy *p, uint64_t pages_left)
{
	uint64_t rate = p->rate ? p->rate : POLICY_RATE_GUESS;
	return time_for(pages_left << PAGE_SHIFT, rate) + POLICY_FIXED_NS + 2 * p->rtt_ns;
}

static void measure(struct policy *p, const struct policy_pass *r)
{
	if (!p->rtt_ns || r->rtt_ns < p->rtt_ns)
		p->rtt_ns = r->rtt_ns;
	if (r->bytes < POLICY_RATE_SAMPLE || !r->ns)
		return;
	uint64_t us = MAX(r->ns / NS_PER_US, 1ULL);
	uint64_t rate = r->bytes < 1ULL << 44 ? r->bytes * 1000000 / us : r->bytes / us * 1000000;
	p->rate = p->rate ? (p->rate + rate) / 2 : rate;
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
	p->stuck = stuck ? p->stuck + 1 : 0;
	if (r->pass < p->max_passes && p->stuck < POLICY_STUCK)
		return POLICY_AGAIN;
	uint64_t secs_den = MAX(r->ns / NS_PER_MS, 1ULL); /* dirty rate: left pages in the last pass's time */
	why_set(w, -ETIMEDOUT,
		"did not converge: after %lu passes %llu MiB are left; the guest dirties %llu MB/s and the link "
		"carries %llu "
		"MB/s, so the downtime would be %llu ms of %llu ms allowed. Raise --max-downtime or migrate when it is "
		"calmer",
		(unsigned long)r->pass, (unsigned long long)(r->left >> 8),
		(unsigned long long)(r->left * PAGE_SIZE / secs_den / 1000), (unsigned long long)(p->rate / 1000000),
		(unsigned long long)(predicted / NS_PER_MS), (unsigned long long)(p->max_downtime_ns / NS_PER_MS));
	return POLICY_GIVE_UP;
}
