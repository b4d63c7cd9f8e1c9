/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source of a migration, from an open stream to the destination's READY. What follows is in handover.c, because
 * from COMMIT on other rules hold. Every error in this file leaves the guest running here, as if nothing had been
 * tried.
 *
 *   HELLO -> OFFER -> ACCEPT | pass 1, 2 ... (guest runs) | pause, last pass, CPU and device state, END -> READY | hand-over
 */
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/inbox.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/pages.h"
#include "vmm/migrate/policy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_NS (250 * NS_PER_MS) /* the shown rate is over at least this long */

struct source { /* of the migration's task alone */
	struct migration *m;
	struct vm *vm;
	struct stream *s;
	struct why *w;
	struct wire_tx tx;
	struct inbox in;
	struct page_tx pages;
	struct policy policy;
	struct attempt_id id;
	uint32_t debts;
	struct end_counts counts;
	uint64_t *map; /* pages to send, by gfn: the VM's track_map */
	uint64_t left; /* of them, when the pass began */
	uint32_t pass;
	uint32_t sections;
	bool tracking, paused;
	bool forgotten;     /* by the operator, undecided: the image goes, and it is not known where the VM is */
	uint64_t paused_ns; /* when the guest was stopped */
	uint64_t clock_ns;  /* when guest time was read */
	uint64_t quiet_ns, quiet_seq; /* when the last record was seen to have gone, and its number */
	uint64_t rate_ns, rate_bytes;
	struct offer offer;
};

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/*
 * While the guest stands still there is one deadline for all of it, beside that of each record: past it the guest goes
 * on here. Ten times what the operator allowed, because a forecast may be wrong; at least 5 s, because a line that is
 * cut for so long may come back.
 */
static uint64_t stopped_end(const struct source *c)
{
	return c->paused_ns + MAX(10 * c->policy.max_downtime_ns, MIG_BLACKOUT_NS);
}
static uint64_t stopped_in(const struct source *c, uint64_t ns) { return MIN(in(ns), stopped_end(c)); }

/* ---- status, and what must be looked at all the time ---- */

static void status_update(struct source *c)
{
	struct migrate_status *st = &c->m->st;
	uint64_t now = time_ns(), sent = c->pages.pass.data + c->pages.pass.zero;

	spin_lock(&c->m->lock);
	st->pass = c->pass;
	st->pages_sent = c->pages.total.data;
	st->zero_pages = c->pages.total.zero;
	st->bytes = c->tx.bytes;
	st->pages_left = sent < c->left ? c->left - sent : 0;
	if (now - c->rate_ns >= RATE_NS) {
		st->rate = (c->tx.bytes - c->rate_bytes) * 1000 / MAX((now - c->rate_ns) / NS_PER_MS, 1ULL);
		c->rate_ns = now;
		c->rate_bytes = c->tx.bytes;
	}
	spin_unlock(&c->m->lock);
}

/* A guest that powers off, resets or fails waits with it until we let go of it (vm_migration_ended): at once. */
static int guest_gone(struct source *c)
{
	if (__atomic_load_n(&c->vm->power_request, __ATOMIC_ACQUIRE))
		return why_set(c->w, -ECANCELED, "the guest powers off, restarts or has failed");
	if (!c->paused && __atomic_load_n(&c->vm->state, __ATOMIC_RELAXED) != VM_RUNNING)
		return why_set(c->w, -ECANCELED, "the guest was stopped meanwhile");
	return 0;
}

/* Between records of a pass: is everything still well on both sides? */
static int progress(void *arg)
{
	struct source *c = arg;
	uint64_t now = time_ns();
	int err = FAILPOINT(c->paused ? P8_FINAL_PAGES : c->pass == 1 ? P4_FIRST_PASS : P5_NTH_PASS, c->s);

	if (!err)
		err = inbox_poll(&c->in, c->w);
	if (!err)
		err = guest_gone(c);
	if (err)
		return err;
	status_update(c);
	if (c->quiet_seq != c->tx.seq) {
		c->quiet_seq = c->tx.seq;
		c->quiet_ns = now;
	} else if (now - c->quiet_ns >
		   MIG_KEEPALIVE_NS) { /* a desert of zero pages: the run so far, and a sign of life */
		err = pages_flush(&c->pages);
		if (!err) {
			wire_begin(&c->tx, WIRE_KEEPALIVE);
			err = wire_end(&c->tx, in(MIG_IDLE_NS));
		}
	}
	return err;
}

/* ---- setup ---- */

static int setup(struct source *c)
{
	struct hello h;
	struct inbox_msg msg;

	migration_phase(c->m, MIG_SETUP);
	const struct pt_format *fmt = c->vm->mem.pt.fmt;
	if (!fmt->dirty)
		return why_set(c->w, -ENOTSUP,
			       "this host's CPU has %s without dirty bits: VMs run here, but cannot move away",
			       fmt->name);
	int err = FAILPOINT(P2_HELLO, c->s);
	if (!err)
		err = hello_exchange(&c->tx, &c->in.rx, &h, in(MIG_SETUP_NS), c->w);
	if (!err && incarnation_equal(h.inc, c->id.source))
		err = why_set(c->w, -ELOOP, "%s is this host itself", c->m->st.peer);
	if (!err)
		err = inbox_start(&c->in);
	if (!err)
		err = FAILPOINT(P12_BEFORE_OFFER, c->s);
	if (err)
		return err;
	spin_lock(&c->m->lock);
	c->m->dest = h.inc;
	memcpy(c->m->dest_name, h.host, sizeof(c->m->dest_name));
	spin_unlock(&c->m->lock);
	c->offer.id = c->id;
	c->offer.cfg = c->vm->cfg;
	vm_compat_get(c->vm, &c->offer.compat);
	err = offer_send(&c->tx, &c->offer, in(MIG_SETUP_NS));
	c->tx.key = attempt_key(&c->id);
	/*
	 * The destination finds and clears the memory before it answers, which takes as long as it takes, and says how
	 * far it is.
	 */
	uint64_t done = 0, end = in(MIG_SETUP_NS);
	for (bool preparing = true; !err && preparing;) {
		err = inbox_wait(&c->in, WIRE_ACCEPT, WIRE_PREPARING, end, &msg, c->w);
		preparing = !err && msg.type == WIRE_PREPARING;
		if (preparing && msg.done > done) {
			done = msg.done;
			end = in(MIG_SETUP_NS);
		}
		if (!err)
			err = guest_gone(c);
	}
	return err == -ETIMEDOUT ? why_set(c->w, err, "the destination did not answer the offer") : err;
}

/* ---- passes ---- */

/* Add what has been dirtied to the map; returns how many pages that are new in it. */
static uint64_t harvest(struct source *c)
{
	struct gmem_range r[2];
	uint64_t n = 0;
	for (unsigned i = 0, nr = gmem_ranges(&c->vm->mem, r); i < nr; i++)
		n += gmem_track_harvest(&c->vm->mem, r[i].first, r[i].count, c->map + r[i].first / 64, vm_flush_tlb,
					c->vm);
	return n;
}

static void tracking_start(struct source *c)
{
	struct gmem_range r[2];

	c->map = c->vm->mem.track_map;
	gmem_track_start(&c->vm->mem, vm_flush_tlb, c->vm);
	c->tracking = true;
	for (unsigned i = 0, nr = gmem_ranges(&c->vm->mem, r); i < nr; i++) {
		memset(c->map + r[i].first / 64, 0xff, r[i].count / 8); /* RAM is whole 2 MiB blocks */
		c->left += r[i].count;
	}
}

static int send_pass(struct source *c, bool final)
{
	c->pass++;
	int err = pass_send(&c->tx, c->pass, final ? PASS_FINAL : 0, pages_deadline(&c->pages));
	if (!err)
		err = pages_send_pass(&c->pages, c->map, !final, vm_flush_tlb, c->vm);
	if (!err)
		err = progress(c); /* even if it had no pages */
	if (!err)
		err = pass_end_send(&c->tx, c->pass, c->pages.pass.data, c->pages.pass.zero, pages_deadline(&c->pages));
	return err;
}

/* Passes over the running guest until the policy says stop. */
static int passes(struct source *c)
{
	enum policy_verdict v = POLICY_AGAIN;
	int err = 0;

	tracking_start(c);
	migration_phase(c->m, MIG_PASSES);
	while (!err && v == POLICY_AGAIN) {
		struct inbox_msg msg;
		struct policy_pass r = { .bytes = c->tx.bytes };
		uint64_t begin = time_ns();

		err = send_pass(c, false);
		if (err)
			break;
		uint64_t sent = time_ns();
		err = inbox_wait(&c->in, WIRE_PASS_ACK, 0, in(MIG_IDLE_NS), &msg, c->w);
		if (!err && msg.num != c->pass)
			err = why_set(c->w, -EPROTO, "the destination acknowledged pass %u instead of %u", msg.num,
				      c->pass);
		if (err)
			return err == -ETIMEDOUT
				       ? why_set(c->w, err, "the destination fell silent after pass %u", c->pass)
				       : err;
		uint64_t acked = time_ns();
		c->left = harvest(c);
		r.pass = c->pass;
		r.bytes = c->tx.bytes - r.bytes;
		r.ns = acked - begin;
		r.rtt_ns = acked - sent;
		r.left = c->left;
		v = policy_next(&c->policy, &r, c->w);
		c->pages.pass = (struct page_counts){ 0, 0 };
		status_update(c);
		spin_lock(&c->m->lock);
		c->m->st.dirty_last = r.left;
		c->m->st.dirty_rate = r.left * PAGE_SIZE * 1000 / MAX(r.ns / NS_PER_MS, 1ULL);
		c->m->st.predicted_downtime_ns = policy_predict(&c->policy, r.left);
		spin_unlock(&c->m->lock);
		log_debug("%s: pass %u: %lu data and zero pages so far %lu, left %lu, %lu ms, rtt %lu us",
			  c->vm->cfg.name, r.pass, c->pages.total.data, c->pages.total.zero, r.left, r.ns / NS_PER_MS,
			  r.rtt_ns / NS_PER_US);
		if (v == POLICY_GIVE_UP)
			err = -ETIMEDOUT;
	}
	return err;
}

/* ---- switch-over ---- */

struct section_arg {
	struct source *c;
	int err;
};

static void section_send(void *arg, const struct sdesc *d, uint32_t instance, void *obj)
{
	struct section_arg *a = arg;
	struct source *c = a->c;
	size_t size = state_size(d);

	BUG_ON(size > WIRE_SECTION_MAX);
	if (a->err)
		return;
	wire_begin(&c->tx, WIRE_SECTION);
	wire_put_str(&c->tx, d->name, 32);
	wire_put_u32(&c->tx, instance);
	wire_put_u32(&c->tx, d->version);
	if (!strcmp(d->name, "clock"))
		c->clock_ns = time_ns();
	state_save(d, obj, wire_put_space(&c->tx, size));
	a->err = wire_end(&c->tx, stopped_in(c, MIG_STOPPED_NS));
	c->sections++;
}

/* Did saving the state write to guest memory, after the last look at its dirt? Then the image would be torn. */
static bool written_after_harvest(const struct gmem *g)
{
	uint64_t any = 0;
	for (uint64_t i = 0; i < BITMAP_WORDS(g->gfn_end); i++)
		any |= __atomic_load_n(&g->soft_dirty[i], __ATOMIC_RELAXED);
	return any;
}

/*
 * What attempts of this VM were started by hosts whose sources may still hold their images goes with it: its new host
 * can tell them.
 */
static int debts_send(struct source *c)
{
	struct decision d;
	int err = 0;
	for (unsigned i = 0; !err && attempt_get(i, &d); i++) {
		if (d.state != RECORD_STARTED || memcmp(d.id.uuid, c->id.uuid, sizeof(d.id.uuid)))
			continue;
		err = debt_send(&c->tx, WIRE_DEBT, &d, in(MIG_IDLE_NS));
		c->debts++;
	}
	return err;
}

/* Stop the guest, send all that is left, and (unless COMMIT rides with END) wait until the destination has it. */
static int switch_over(struct source *c, bool rides)
{
	struct section_arg sections = { .c = c };
	struct inbox_msg msg;
	int err = debts_send(c); /* while the guest runs; none can be added to them: this VM is not received now */

	if (!err)
		err = FAILPOINT(P6_BEFORE_PAUSE, c->s);
	if (err)
		return err;
	migration_phase(c->m, MIG_STOPPED);
	c->pages.idle_ns = MIG_STOPPED_NS;
	c->paused_ns = c->clock_ns = time_ns();
	c->pages.end_ns = stopped_end(c);
	err = vm_pause(c->vm);
	if (err)
		return why_set(c->w, err, "the guest could not be paused, it is %s", vm_state_name(c->vm->state));
	c->paused = true;
	err = guest_gone(c);
	if (!err)
		err = FAILPOINT(P7_AFTER_PAUSE, c->s);
	if (!err)
		err = vm_save_cpus(c->vm, c->w);
	if (!err) {
		c->left += harvest(c); /* after the save, which may touch guest memory */
		err = send_pass(c, true);
	}
	if (!err) {
		vm_for_each_section(c->vm, section_send, &sections);
		err = sections.err;
	}
	if (!err && written_after_harvest(&c->vm->mem))
		err = why_set(c->w, -EIO, "a device wrote to guest memory while its state was saved");
	if (!err)
		err = FAILPOINT(P9_BEFORE_END, c->s);
	if (err)
		return err;
	c->counts = (struct end_counts){ .passes = c->pass,
					 .sections = c->sections,
					 .debts = c->debts,
					 .data_pages = c->pages.total.data,
					 .zero_pages = c->pages.total.zero };
	if (rides)
		return 0;
	err = end_send(&c->tx, &c->id, &c->counts, stopped_in(c, MIG_STOPPED_NS));
	if (!err)
		err = inbox_wait(&c->in, WIRE_READY, 0, stopped_in(c, MIG_STOPPED_NS), &msg, c->w);
	status_update(c);
	return err == -ETIMEDOUT ? why_set(c->w, err, "the destination did not get ready in time") : err;
}

/* ---- all of it ---- */

/* The guest goes on here, and nothing is left of the attempt. */
static void take_back(struct source *c)
{
	if (c->paused) {
		vm_resume(c->vm);
		vm_announce(c->vm); /* switches may have learned the destination's port, or nothing for long */
		spin_lock(&c->m->lock);
		c->m->st.downtime_ns = time_ns() - c->paused_ns;
		spin_unlock(&c->m->lock);
	}
	c->paused = false;
	if (c->tracking)
		gmem_track_stop(&c->vm->mem, vm_flush_tlb, c->vm);
	c->tracking = false;
}

/* A courtesy to the destination, so that it need not wait for its limit; the stream may be gone. */
static void tell_why(struct source *c, int err)
{
	const char *text = c->w->text[0] ? c->w->text : err_name(err);
	if (c->tx.seq && text_send(&c->tx, WIRE_ERROR, (uint32_t)-err, text, in(NS_PER_SEC / 2)))
		log_debug("%s: the destination could not be told why", c->vm->cfg.name);
}

static enum migrate_phase run(struct source *c)
{
	struct migration *m = c->m;
	int err = inbox_init(&c->in, c->s, &c->id);

	if (!err)
		err = wire_tx_init(&c->tx, c->s);
	if (!err)
		err = migration_attach(m, c->s);
	if (!err)
		err = setup(c);
	if (!err)
		err = passes(c);
	bool rides = policy_rides(&c->policy);
	if (!err)
		err = switch_over(c, rides);
	if (err == -ETIMEDOUT && c->paused && time_ns() >= stopped_end(c))
		why_set(c->w, err, "the switch-over took longer than %lu ms, so the guest goes on here",
			((stopped_end(c) - c->paused_ns) / NS_PER_MS));
	enum handover_outcome out = HANDOVER_NOT_BEGUN;
	if (!err)
		out = handover_source(m,
				      &(struct handover){ .s = c->s,
							  .tx = &c->tx,
							  .in = &c->in,
							  .rides = rides,
							  .counts = &c->counts,
							  .paused_at_ns = c->paused_ns,
							  .clock_at_ns = c->clock_ns },
				      c->w);
	migration_detach(m);
	if (out == HANDOVER_NOT_BEGUN || out == HANDOVER_NEVER)
		take_back(c); /* first of all: the guest waits */
	c->forgotten = out == HANDOVER_FORGOTTEN;
	if (out == HANDOVER_NOT_BEGUN)
		tell_why(c, err);
	inbox_fini(&c->in);
	wire_tx_fini(&c->tx);
	if (out != HANDOVER_STARTED) {
		if (err && !c->w->text[0])
			why_set(c->w, err, "connection to the destination lost while %s: %s",
				migrate_phase_name(m->st.phase), err_name(err));
		return MIG_FAILED;
	}
	(void)!FAILPOINT(P20_BEFORE_FREE, NULL);
	return MIG_DONE;
}

/* Where the VM went; d was made before it went. */
static void departure_note(const struct migration *m, struct departure *d)
{
	*d = (struct departure){ .cfg = m->vm->cfg, .where = m->dest, .when_ns = time_ns() };
	d->when_s = time_wall_ns() / NS_PER_SEC;
	memcpy(d->host, m->dest_name, sizeof(d->host));
	d->ip = m->p.dest;
	departed_add(d);
}

int source_attempt(struct migration *m, struct stream *s, struct why *w)
{
	struct why why = { "" };
	struct source *c = calloc(1, sizeof(*c));
	struct departure *gone = malloc(sizeof(*gone));
	enum migrate_phase phase = MIG_FAILED;
	bool leaves = false;

	if (c && gone) {
		c->m = m;
		c->vm = m->vm;
		c->s = s;
		c->w = &why;
		c->id = attempt_new_id(m->vm->cfg.uuid);
		spin_lock(&m->lock);
		m->id = c->id;
		spin_unlock(&m->lock);
		c->pages = (struct page_tx){ .tx = &c->tx,
					     .mem = &m->vm->mem,
					     .idle_ns = MIG_IDLE_NS,
					     .end_ns = TIME_NEVER,
					     .progress = progress,
					     .arg = c };
		c->rate_ns = c->quiet_ns = time_ns();
		policy_init(&c->policy, m->p.max_downtime_ms * NS_PER_MS, m->p.max_passes);
		c->policy.rtt_ns = m->connect_ns; /* passes make it shorter, if it can be */
		phase = run(c);
		leaves = phase == MIG_DONE || c->forgotten;
	} else {
		why_set(&why, -ENOMEM, "out of memory");
	}
	free(c);
	if (leaves) {
		departure_note(m, gone); /* first: at no moment does this host know nothing of it */
		vm_destroy(m->vm);       /* its memory of the guest; the struct stays while m holds its reference */
	} else {
		free(gone);
	}
	migration_unbind(m, leaves);
	migration_finish(m, phase, why.text);
	if (phase == MIG_DONE)
		return 0;
	return why_set(w, -ECONNABORTED, "%s", why.text);
}
