/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A source's forecast of the black-out, beside what it was (source.h). What this host has learned from earlier moves,
 * and what the destination says from its own, becomes the policy's; afterwards both learn from this one.
 *
 * Clocks of two hosts are not compared: the destination says how long each part took, from its own clock, and what the
 * source sees beside these parts is waits.
 */
#include "kernel/log.h"
#include "vmm/migrate/source.h"
#include "vmm/migrate/this_host.h"

static void add_section(void *arg, const struct sdesc *d, uint32_t instance unused, void *obj unused)
{
	struct source *c = arg;
	c->nsections++;
	c->policy.state_bytes += WIRE_SECTION_PRE + state_size(d);
}

void forecast_begin(struct source *c)
{
	const struct downtime_costs *k = &migrate_this_host()->costs;
	struct policy *p = &c->policy;
	vm_for_each_section(c->vm, add_section, c);
	p->stop_ns = downtime_expect(&k->stop, c->vm->nvcpus, p->stop_ns);
	p->state_ns = downtime_expect(&k->section, c->nsections, p->state_ns);
	p->load_ns = downtime_expect(&k->load, c->nsections, p->load_ns); /* there as it was here */
	if (c->in.told.expects_load_ns)
		p->load_ns = c->in.told.expects_load_ns;
}

void forecast_trips(const struct source *c, struct migrate_status *st)
{
	st->round_trips = c->in.trips + 1; /* and HELLO's */
	st->stopped_trips = c->paused ? c->in.trips - c->trips : 0;
}

static uint64_t less(uint64_t a, uint64_t b) { return a - MIN(a, b); }

/* all: from the pause to the guest's start. */
static void take_apart(const struct source *c, uint64_t all, struct downtime *d)
{
	const struct inbox_told *t = &c->in.told;
	*d = (struct downtime){ .ns = { [DOWN_SCAN] = c->scanned_ns - c->paused_ns,
					[DOWN_SEND] = t->ready ? t->pages_ns : c->sent_ns - c->scanned_ns,
					[DOWN_STATE] =
						t->ready ? less(t->state_ns, c->verify_ns) : c->stated_ns - c->sent_ns,
					[DOWN_LOAD] = t->load_ns + t->start_ns,
					[DOWN_VERIFY] = c->verify_ns } };
	d->ns[DOWN_WAITS] = less(all, downtime_sum(d));
}

void forecast_end(struct source *c)
{
	struct downtime_costs *k = &migrate_this_host()->costs;
	struct migrate_status *st = &c->m->st;
	struct downtime d;
	struct why w = { "" };
	if (!c->in.told.heard) /* it was undecided, and the guest has run there for who knows how long */
		return;
	bool rests = migration_rests(c->m); /* nobody was stopped for it, nothing forecast: nothing to learn from */
	uint64_t all = less(st->downtime_ns, c->policy.rtt_ns / 2); /* that STARTED took to come */
	take_apart(c, all, &d);
	spin_lock(&c->m->lock);
	forecast_trips(c, st);
	if (!rests) {
		st->downtime_ns = all;
		st->actual = d;
	}
	spin_unlock(&c->m->lock);
	if (rests)
		return;
	downtime_learn(&k->stop, less(d.ns[DOWN_SCAN], c->scan_ns), c->vm->nvcpus, DOWNTIME_STOP_NS);
	uint64_t line = less(c->forecast.ns[DOWN_STATE], c->policy.state_ns); /* of its bytes, at the measured rate */
	if (c->in.told.ready)
		downtime_learn(&k->section, less(d.ns[DOWN_STATE], line), c->nsections, DOWNTIME_STATE_NS);
	if (downtime_is_wrong(&c->forecast, &d, &w))
		log_info("%s to %s: %s", st->vm, st->peer_name, w.text);
}
