/* SPDX-License-Identifier: BSD-2-Clause */
/* The source's passes over the running guest (source.h). */
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/disks.h"
#include "vmm/migrate/hot.h"
#include "vmm/migrate/pulled.h"
#include "vmm/migrate/source.h"
#include "kernel/log.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/vm_port.h"
#include "vmm/x86/stun.h"

#define RATE_NS (250 * NS_PER_MS) /* the shown rate is over at least this long */

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- status, and what must be looked at all the time ---- */

void precopy_status(struct source *c)
{
	struct migrate_status *st = &c->m->st;
	uint64_t now = time_ns(), sent = c->pages.pass.data + c->pages.pass.zero;

	spin_lock(&c->m->lock);
	st->pass = c->pass;
	st->pages_sent = c->pages.total.data;
	st->zero_pages = c->pages.total.zero;
	st->disk_pages = c->pages.disk;
	st->bytes = c->tx.bytes;
	forecast_trips(c, st);
	st->pages_left = sent < c->left ? c->left - sent : 0;
	if (now - c->rate_ns >= RATE_NS) {
		st->rate = (c->tx.bytes - c->rate_bytes) * 1000 / MAX((now - c->rate_ns) / NS_PER_MS, 1ULL);
		c->rate_ns = now;
		c->rate_bytes = c->tx.bytes;
	}
	spin_unlock(&c->m->lock);
}

static uint64_t timeout_of(struct source *c)
{
	spin_lock(&c->m->lock);
	uint64_t ms = c->m->p.timeout_ms;
	spin_unlock(&c->m->lock);
	return ms * NS_PER_MS;
}

static enum migrate_strategy strategy_of(struct source *c)
{
	spin_lock(&c->m->lock);
	enum migrate_strategy s = c->m->p.strategy;
	spin_unlock(&c->m->lock);
	return s;
}

static bool is_late(struct source *c)
{
	uint64_t ns = timeout_of(c);
	return ns && c->begin_ns && time_ns() - c->begin_ns > ns;
}

/* Shall the guest go now, whatever of this pass is left? */
static bool goes_at_once(struct source *c)
{
	spin_lock(&c->m->lock);
	bool remote = c->m->p.strategy == MIGRATE_REMOTE, now = c->m->p.at_once;
	spin_unlock(&c->m->lock);
	return remote && c->can_remote && (now || is_late(c));
}

int precopy_look(struct source *c)
{
	int err = inbox_poll(&c->in, c->w);
	if (err || (err = migration_guest_gone(c->m, c->paused, c->w)))
		return err;
	enum migrate_strategy s = strategy_of(c);
	if (!c->paused && s != MIGRATE_STOP && s != MIGRATE_REMOTE && is_late(c))
		return why_set(c->w, -ETIMEDOUT, "it was not through within the %lu s allowed (--timeout)",
			       timeout_of(c) / NS_PER_SEC);
	precopy_status(c);
	if (!c->paused)
		bandwidth_pace(c->m, c->tx.bytes - c->paced);
	c->paced = c->tx.bytes;
	return 0;
}

/* Between records of a pass: is everything still well on both sides? */
int precopy_progress(void *arg)
{
	struct source *c = arg;
	uint64_t now = time_ns();
	int err = FAILPOINT(c->paused ? P8_FINAL_PAGES : c->pass == 1 ? P4_FIRST_PASS : P5_NTH_PASS, c->s);
	if (err || (err = precopy_look(c)))
		return err;
	c->pages.stop = !c->paused && goes_at_once(c);
	if (c->paused && now - c->paused_ns > MIG_BLACKOUT_NS)
		task_set_prio(TASK_PRIO_NORMAL); /* with a budget that long others need not wait */
	if (c->quiet_seq != c->tx.seq) {
		c->quiet_seq = c->tx.seq;
		c->quiet_ns = now;
		return 0;
	}
	if (now - c->quiet_ns <= MIG_KEEPALIVE_NS)
		return 0;
	err = pages_flush(&c->pages); /* a desert of zero pages: the run so far, and a sign of life */
	if (err)
		return err;
	wire_begin(&c->tx, WIRE_KEEPALIVE);
	return wire_end(&c->tx, in(MIG_IDLE_NS));
}

/* ---- passes ---- */

int precopy_send_pass(struct source *c, bool final)
{
	c->pass++;
	bool pulled = c->m->p.pull && !final && c->vm->mem.size;
	int err = pass_send(&c->tx, c->pass, final ? PASS_FINAL : pulled ? PASS_PULLED : 0, pages_deadline(&c->pages));
	if (err)
		return err;
	err = pulled   ? pulled_send(c)
	      : c->hot ? pages_send_frames(&c->pages, c->hot->frame, c->hot->n)
		       : pages_send_pass(&c->pages, !final);
	if (err || (err = precopy_progress(c))) /* even if it had no pages */
		return err;
	c->said_ns = time_ns(); /* before: who stands ready for long after it would find the answer there at once */
	return pass_end_send(&c->tx, c->pass, c->pages.pass.data, c->pages.pass.zero, pages_deadline(&c->pages));
}

/* The destination has written all of the pass to the VM's memory; so the next one is measured from a clean start. */
static int wait_acked(struct source *c)
{
	struct inbox_msg msg;
	int err = inbox_wait(&c->in, WIRE_PASS_ACK, 0, in(MIG_IDLE_NS), &msg, c->w);
	if (err == -ETIMEDOUT)
		return why_set(c->w, err, "the destination fell silent after pass %u", c->pass);
	if (!err && msg.num != c->pass)
		return why_set(c->w, -EPROTO, "the destination acknowledged pass %u instead of %u", msg.num, c->pass);
	return err;
}

static void pass_report(struct source *c, const struct policy_pass *r)
{
	c->pages.pass = (struct page_counts){ 0, 0 };
	policy_forecast(&c->policy, r->left, &c->forecast);
	precopy_status(c);
	spin_lock(&c->m->lock);
	c->m->st.dirty_last = r->left;
	c->m->st.dirty_rate = r->left * PAGE_SIZE * 1000 / MAX(r->ns / NS_PER_MS, 1ULL);
	__atomic_store_n(&c->vm->dirty_rate, c->m->st.dirty_rate, __ATOMIC_RELAXED);
	c->m->st.predicted_downtime_ns = downtime_sum(&c->forecast);
	c->m->st.predicted = c->forecast;
	spin_unlock(&c->m->lock);
	log_debug("%s: pass %u: %lu data and zero pages so far %lu, left %lu, %lu ms, rtt %lu us", c->vm->cfg.name,
		  r->pass, c->pages.total.data, c->pages.total.zero, r->left, r->ns / NS_PER_MS, r->rtt_ns / NS_PER_US);
}

/* What the operator has changed meanwhile. */
static void take_changes(struct source *c)
{
	spin_lock(&c->m->lock);
	c->policy.max_downtime_ns = c->m->p.max_downtime_ms * NS_PER_MS;
	enum migrate_strategy now = c->m->p.strategy;
	bool cannot = now == MIGRATE_REMOTE && !c->can_remote;
	if (cannot)
		now = c->m->p.strategy = c->policy.strategy;
	c->policy.at_once = now == MIGRATE_REMOTE && c->m->p.at_once;
	c->policy.strategy = c->m->st.strategy = now;
	spin_unlock(&c->m->lock);
	if (cannot)
		log_warn("%s: no post-copy: its destination does not know it, or it moves within this host",
			 c->vm->cfg.name);
}

void precopy_undo(struct source *c)
{
	stun_set(c->vm, NULL);
	spin_lock(&c->m->lock);
	c->m->st.vcpus = 0;
	spin_unlock(&c->m->lock);
	if (c->tracking) /* else it has no memory */
		gmem_track_stop(&c->vm->mem);
	__atomic_store_n(&c->vm->dirty_rate, 0, __ATOMIC_RELAXED);
	c->tracking = false;
}

/* How long this task has stood ready so far while others had its CPU. */
static uint64_t waited(void)
{
	uint64_t run, wait;
	task_times(task_self(), &run, &wait);
	return wait;
}

/* Takes what the guest has written. How long that would have taken with the guest stopped, and CPUs free. */
static uint64_t harvest(struct source *c, uint64_t *blocks)
{
	uint64_t begin = time_ns(), before = waited();
	*blocks = disks_harvest(&c->pages.layers);
	(void)gmem_track_harvest_all(&c->vm->mem, false);
	c->left = gmem_track_left(&c->vm->mem) + *blocks; /* with what a pass that was stopped has left */
	uint64_t ns = time_ns() - begin;
	return ns - MIN(ns, waited() - before);
}

int precopy_run(struct source *c)
{
	uint64_t out;
	vm_port_bytes(c->vm, &out, &c->received);
	c->begin_ns = time_ns();
	c->tracking = c->vm->mem.size; /* one that is off has no memory */
	c->left = disks_fill(&c->pages.layers);
	if (c->tracking) {
		gmem_track_start(&c->vm->mem);
		c->left += gmem_track_fill(&c->vm->mem);
	}
	migration_phase(c->m, MIG_PASSES);
	for (;;) {
		uint64_t bytes = c->tx.bytes, begin = time_ns();
		int err = precopy_send_pass(c, false);
		if (err)
			return err;
		err = wait_acked(c);
		if (err)
			return err;
		if (migration_rests(c->m)) { /* nothing has changed, or will */
			c->allow_ns = c->policy.max_downtime_ns;
			c->left = 0;
			return 0;
		}
		uint64_t acked = time_ns();
		/* What the guest wrote while the pass was under way is the next one. */
		uint64_t blocks, scan_ns = harvest(c, &blocks);
		struct policy_pass r = { .pass = c->pass,
					 .bytes = c->tx.bytes - bytes,
					 .ns = acked - begin,
					 .rtt_ns = acked - c->said_ns,
					 .left = c->left,
					 .scan_ns = scan_ns,
					 .limited = bandwidth_limit_of(c->m),
					 .late = is_late(c) };
		take_changes(c);
		enum policy_verdict v = policy_next(&c->policy, &r, c->w);
		pass_report(c, &r);
		c->allow_ns = MAX(c->policy.max_downtime_ns, policy_predict(&c->policy, c->policy.remote ? 0 : r.left));
		if (v != POLICY_AGAIN)
			return v == POLICY_STOP ? 0 : -ETIMEDOUT;
		slow_vcpus(c, &r, blocks);
	}
}
