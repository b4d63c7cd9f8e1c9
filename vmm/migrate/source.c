/* SPDX-License-Identifier: BSD-2-Clause */
/* The task of an outgoing migration, from connecting to the end (source.h). */
#include "vmm/migrate/source.h"
#include "kernel/log.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/handover.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

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
			err = precopy_guest_gone(c);
	}
	return err == -ETIMEDOUT ? why_set(c->w, err, "the destination did not answer the offer") : err;
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
		err = precopy_run(c);
	bool rides = policy_rides(&c->policy);
	if (!err)
		err = switchover_run(c, rides);
	if (err == -ETIMEDOUT && c->paused && time_ns() >= switchover_end(c))
		why_set(c->w, err, "the switch-over took longer than %lu ms, so the guest goes on here",
			((switchover_end(c) - c->paused_ns) / NS_PER_MS));
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
	sniprintf(d->addr, sizeof(d->addr), "%s", m->p.dest);
	departed_add(d);
}

static int attempt(struct migration *m, struct stream *s, struct why *w)
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
					     .progress = precopy_progress,
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

void source_task(void *arg)
{
	struct migration *m = arg;
	struct stream *s = NULL;
	struct why w = { "" };
	int err = FAILPOINT(P0_CONNECT, NULL);

	uint64_t begin = time_ns();
	if (!err)
		err = stream_tcp_connect(&s, m->p.dest, m->p.port, begin + MIG_CONNECT_NS, &w);
	m->connect_ns = time_ns() - begin;
	if (!err)
		err = FAILPOINT(P1_TLS, s);
	if (!err) {
		attempt(m, s, &w); /* ends m in every case; w is in its status */
	} else {
		migration_unbind(m, false);
		migration_finish(m, MIG_FAILED, w.text[0] ? w.text : err_name(err));
	}
	stream_close(s);
	migration_put(m);
}

int migrate_source_run(struct vm *vm, struct stream *s, const struct migrate_params *p, struct why *w)
{
	struct migration *m = migration_new(vm->cfg.name, s->peer, false);
	if (!m)
		return why_set(w, -ENOMEM, "out of memory");
	m->p = *p;
	int err = migration_bind(m, vm, VM_RUNNING, w);
	if (err) {
		migration_drop(m);
		return err;
	}
	err = attempt(m, s, w);
	migration_put(m);
	return err;
}
