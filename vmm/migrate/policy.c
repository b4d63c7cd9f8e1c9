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

void policy_init(struct policy *p, enum migrate_strategy strategy, uint64_t max_downtime_ns, uint32_t max_passes)
{
	*p = (struct policy){ .stop_ns = DOWNTIME_STOP_NS,
			      .state_ns = DOWNTIME_STATE_NS,
			      .load_ns = DOWNTIME_LOAD_NS,
			      .strategy = strategy,
			      .max_downtime_ns = max_downtime_ns,
			      .max_passes = MAX(max_passes, 1U) };
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

void policy_forecast(const struct policy *p, uint64_t pages_left, struct downtime *d)
{
	*d = (struct downtime){ .ns = { [DOWN_SCAN] = p->stop_ns + p->scan_ns,
					[DOWN_SEND] = sending(p, pages_left << PAGE_SHIFT),
					[DOWN_STATE] = p->state_ns + sending(p, p->state_bytes),
					[DOWN_LOAD] = p->load_ns,
					[DOWN_WAITS] = trips(p, p->rtt_ns) } };
}

uint64_t policy_predict(const struct policy *p, uint64_t pages_left)
{
	struct downtime d;
	policy_forecast(p, pages_left, &d);
	return downtime_sum(&d);
}

/* What it takes on the shortest line with nothing left to send. */
static uint64_t fixed(const struct policy *p) { return policy_predict(p, 0) - trips(p, p->rtt_ns); }

bool policy_rides(const struct policy *p) { return p->ride; }

static void measure(struct policy *p, const struct policy_pass *r)
{
	if (!p->rtt_ns || r->rtt_ns < p->rtt_ns)
		p->rtt_ns = r->rtt_ns;
	p->ride = p->rtt_ns >= POLICY_RIDE_NS && !p->never_rides;
	/* The guest and others take CPUs from this one, and none from the one while it stands still. */
	p->scan_ns = r->pass > 1 ? MIN(r->scan_ns, p->last_scan_ns) : r->scan_ns;
	p->last_scan_ns = r->scan_ns;
	bool rough = r->bytes < POLICY_RATE_SAMPLE;
	if (r->bytes < POLICY_RATE_ROUGH || !r->ns || (rough && p->rate && !p->rough))
		return;
	/* A small one takes little longer than its acknowledgement. */
	uint64_t ns = r->ns - (rough ? MIN(p->rtt_ns, r->ns / 2) : 0), us = MAX(ns / NS_PER_US, 1ULL);
	uint64_t rate = r->bytes < 1ULL << 44 ? r->bytes * 1000000 / us : r->bytes / us * 1000000;
	p->rate = p->rate && rough == p->rough ? (p->rate + rate) / 2 : rate;
	p->rough = rough;
}

static uint64_t ceil_div(uint64_t n, uint64_t d) { return (n + d - 1) / d; }

static uint64_t would_do_ms(const struct policy *p)
{
	return ceil_div(policy_predict(p, POLICY_SMALL), 10 * NS_PER_MS) * 10;
}

bool policy_possible(uint64_t max_downtime_ns, struct why *w)
{
	struct policy p;
	policy_init(&p, MIGRATE_AUTO, max_downtime_ns, 1); /* the shortest line */
	if (max_downtime_ns > POLICY_FIXED_NS)
		return true;
	why_set(w, -EINVAL,
		"stopping the guest here and starting it there takes %lu ms by itself, and %lu ms are allowed; "
		"--max-downtime %lums would do for a guest that is calm",
		POLICY_FIXED_NS / NS_PER_MS, max_downtime_ns / NS_PER_MS, would_do_ms(&p));
	return false;
}

/* Of that, what is certain: what earlier moves took was others' doing as well, and may be less. */
static uint64_t certain(const struct policy *p)
{
	return MIN(p->stop_ns + p->state_ns + p->load_ns, POLICY_FIXED_NS) + sending(p, p->state_bytes);
}

static enum policy_verdict hosts_too_slow(const struct policy *p, struct why *w)
{
	why_set(w, -ETIMEDOUT,
		"stopping the guest, and %lu KiB of its state, take %lu ms, and %lu ms are allowed; --max-downtime "
		"%lums would do for a guest that is calm",
		p->state_bytes >> 10, ceil_div(fixed(p), NS_PER_MS), p->max_downtime_ns / NS_PER_MS, would_do_ms(p));
	return POLICY_GIVE_UP;
}

/*
 * Do the line itself, and state, break the budget, however little is left? w then says what the line is as far as we
 * know, and what would do for a guest that leaves little.
 */
static bool line_too_long(const struct policy *p, const struct policy_pass *r, struct why *w)
{
	uint64_t queue = sending(p, MIN(r->bytes, POLICY_QUEUE));
	uint64_t line = trips(p, MIN(p->rtt_ns, r->rtt_ns - MIN(r->rtt_ns, queue)));

	if (line + certain(p) <= p->max_downtime_ns)
		return false;
	if (line < certain(p))
		return hosts_too_slow(p, w) == POLICY_GIVE_UP;
	why_set(w, -ETIMEDOUT,
		"the line's round trip is %lu ms: the downtime would be at least %lu ms of %lu ms allowed; "
		"--max-downtime %lums would do for a guest that is calm",
		ceil_div(p->rtt_ns, NS_PER_MS), ceil_div(policy_predict(p, 0), NS_PER_MS),
		p->max_downtime_ns / NS_PER_MS, would_do_ms(p));
	return true;
}

static enum policy_verdict did_not_converge(const struct policy *p, const struct policy_pass *r, uint64_t predicted,
					    struct why *w)
{
	uint64_t ms = MAX(r->ns / NS_PER_MS, 1ULL); /* dirty rate: left pages in the last pass's time */
	why_set(w, -ETIMEDOUT,
		"did not converge%s: after %u passes %lu MiB are left; the guest dirties %lu MB/s, the %s %lu MB/s: "
		"the "
		"downtime would be %lu ms of %lu ms. Raise --max-downtime, or --strategy %s",
		p->may_dirty ? " with its vCPUs slowed" : "", r->pass, r->left >> 8, r->left * PAGE_SIZE / ms / 1000,
		r->limited ? "limit allows" : "link carries", p->rate / 1000000, predicted / NS_PER_MS,
		p->max_downtime_ns / NS_PER_MS,
		p->strategy == MIGRATE_ABORT  ? "throttle (slow it) or stop"
		: p->strategy == MIGRATE_AUTO ? "throttle (below 1 % of a CPU) or stop"
					      : "stop");
	return POLICY_GIVE_UP;
}

/* It does not fit yet. What was begun is kept up while the strategy is one that slows. */
static enum policy_verdict slow_down(struct policy *p, const struct policy_pass *r, bool over, uint64_t predicted,
				     struct why *w)
{
	p->watch = true;
	if (!p->may_dirty && !over && p->slow < POLICY_SLOW)
		return POLICY_AGAIN;
	if (!p->may_dirty) {
		p->stuck = p->vain = 0;
		p->best = r->left;
	}
	p->vain++;
	if (r->left < p->best - p->best / 20) { /* else one that comes and goes would be carried for ever */
		p->best = r->left;
		p->vain = 0;
	}
	/*
	 * One that writes the same pages many times in a pass dirties no less for being slowed a little: by halves. But
	 * not where pages are the least of what the downtime would be: that would slow who writes next to nothing.
	 */
	bool pages = sending(p, r->left << PAGE_SHIFT) > predicted / 4;
	p->may_dirty = (p->rate ? p->rate : POLICY_RATE_GUESS) / 100 * POLICY_STUN_PERCENT;
	p->may_dirty >>= pages ? MIN(p->stuck, 4U) : 0;
	p->may_dirty = MAX(p->may_dirty, (uint64_t)PAGE_SIZE);
	if (p->stuck >= POLICY_STUN_STUCK || p->vain >= POLICY_STUN_VAIN)
		return did_not_converge(p, r, predicted, w);
	return POLICY_AGAIN;
}

enum policy_verdict policy_next(struct policy *p, const struct policy_pass *r, struct why *w)
{
	measure(p, r);
	uint64_t predicted = policy_predict(p, r->left);
	bool first = r->pass == 1;
	bool shrinks = first || r->left < p->prev_left / 4 * 3;             /* by a quarter: worth polishing */
	bool stuck = !first && r->left >= p->prev_left - p->prev_left / 20; /* not even by a twentieth */
	p->prev_left = r->left;
	p->watch = false;
	if (predicted <= p->max_downtime_ns) {
		p->stuck = p->slow = 0;
		if (r->left <= POLICY_SMALL || !shrinks || p->polish++ >= POLICY_POLISH || r->pass >= p->max_passes ||
		    r->late || p->at_once)
			return POLICY_STOP;
		return POLICY_AGAIN;
	}
	p->stuck = stuck ? p->stuck + 1 : 0;
	p->slow = shrinks ? 0 : p->slow + 1;
	bool over = r->pass >= p->max_passes || p->stuck >= POLICY_STUCK;
	if (p->strategy == MIGRATE_REMOTE) { /* while passes pay, less has to be asked for later */
		p->may_dirty = 0;
		p->remote = over || r->late || p->at_once || !shrinks || line_too_long(p, r, NULL);
		return p->remote ? POLICY_STOP : POLICY_AGAIN;
	}
	if (p->strategy == MIGRATE_STOP) {
		p->may_dirty = 0;
		return over || r->late || line_too_long(p, r, NULL) ? POLICY_STOP : POLICY_AGAIN;
	}
	if (line_too_long(p, r, w))
		return POLICY_GIVE_UP;
	bool vain = fixed(p) > p->max_downtime_ns; /* no slowing helps, but the next looks may be shorter */
	if (p->strategy != MIGRATE_ABORT && !vain)
		return slow_down(p, r, over, predicted, w);
	p->may_dirty = 0;
	if (over && vain)
		return hosts_too_slow(p, w);
	return over ? did_not_converge(p, r, predicted, w) : POLICY_AGAIN;
}

/* ---- who is slowed ---- */

/* What vCPU i would dirty at full speed, given what all of them were seen to write to. */
static uint64_t appetite(const uint32_t *sample, unsigned n, uint64_t seen, uint64_t rate, uint32_t share, unsigned i)
{
	uint64_t part = seen ? rate / seen * sample[i] + rate % seen * sample[i] / seen : rate / n;
	return part * STUN_FULL / MAX(share, 1U);
}

uint64_t policy_spare(uint32_t *sample, unsigned n, uint64_t pages, const uint32_t *share)
{
	uint64_t seen = 0, left = pages;
	bool others = false;
	for (unsigned i = 0; i < n; i++)
		seen += sample[i];
	if (!seen)
		return pages;
	for (unsigned i = 0; i < n; i++) {
		uint64_t part = pages / seen * sample[i] + pages % seen * sample[i] / seen;
		if (share[i] == STUN_FULL && part <= POLICY_SMALL) {
			sample[i] = 0;
			left -= part;
		}
		others |= sample[i] != 0;
	}
	return others ? left : 0;
}

bool policy_shares(const uint32_t *sample, unsigned n, uint64_t rate, uint64_t allowed, uint32_t least, uint32_t *share)
{
	uint64_t seen = 0, bound = ~0ULL;
	bool any = false;
	for (unsigned i = 0; i < n; i++)
		seen += sample[i];
	rate = MIN(rate, 1ULL << 44);
	/* Those below the bound leave to the others what they do not use; the bound only rises. */
	for (uint64_t before = 0; n && bound != before;) {
		uint64_t rest = allowed;
		unsigned above = 0;
		before = bound;
		uint64_t at = bound == ~0ULL ? allowed / n : bound;
		for (unsigned i = 0; i < n; i++) {
			uint64_t a = appetite(sample, n, seen, rate, share[i], i);
			above += a > at;
			rest -= a > at ? 0 : MIN(rest, a);
		}
		if (!above)
			bound = before = ~0ULL;
		else
			bound = rest / above;
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t a = appetite(sample, n, seen, rate, share[i], i);
		uint64_t to = a <= bound ? STUN_FULL : MAX(bound * STUN_FULL / a, (uint64_t)least);
		if (rate <= allowed) /* it fits as it is: who was slowed gets what is left over, and no more */
			to = MAX(to, (uint64_t)share[i]);
		share[i] = (uint32_t)MIN(MIN(to, 2ULL * share[i]), (uint64_t)STUN_FULL);
		any |= share[i] != STUN_FULL;
	}
	return any;
}
