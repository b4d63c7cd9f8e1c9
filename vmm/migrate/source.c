/* SPDX-License-Identifier: BSD-2-Clause */
/* The task of an outgoing migration, from connecting to the end (source.h). */
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/source.h"
#include "arch/x86/hw/virtio.h"
#include "vmm/x86/stun.h"
#include "kernel/log.h"
#include "net/trust.h"
#include "vmm/disk.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/disks.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/boot_files.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/reach.h"
#include "vmm/migrate/remote.h"
#include "vmm/migrate/resting.h"
#include "vmm/migrate/self.h"
#include "vmm/migrate/verify.h"
#include <stdlib.h>
#include <string.h>

#define PREPARING_STEP (1UL << 20)      /* bytes: less is no progress */
#define REACH_NS       (7 * NS_PER_SEC) /* of MIG_GREETING_NS, for all networks: the destination waits for the offer */
#define REACH_SHORT_NS (3 * NS_PER_SEC) /* in less silence means nothing: those before have had the time */

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- setup ---- */

/* Who is it? From here on the reader has the stream's other direction. */
static int greet(struct source *c)
{
	struct hello h;
	int err = FAILPOINT(P2_HELLO, c->s);
	if (err || (err = hello_exchange(&c->tx, &c->in.rx, &h, in(MIG_SETUP_NS), c->w)))
		return err;
	if (incarnation_equal(h.inc, c->id.source) != c->m->p.to_self)
		return why_set(c->w, -ELOOP, "%s is this host itself", c->m->st.peer);
	if (disk_has_units(&c->vm->cfg) && !(h.features & HELLO_0_7))
		return why_set(c->w, -ENOTSUP, "%s runs a release that has no disks on shared storage", h.host);
	c->can_remote = !migration_rests(c->m) && !c->m->p.to_self;
	if (c->policy.strategy == MIGRATE_REMOTE && !c->can_remote) /* to self, or nothing runs that would need it */
		c->policy.strategy = MIGRATE_AUTO;
	if ((err = verify_begin(c)))
		return err;
	spin_lock(&c->m->lock);
	c->m->dest = h.inc;
	memcpy(c->m->dest_name, h.host, sizeof(c->m->dest_name));
	spin_unlock(&c->m->lock);
	return inbox_start(&c->in);
}

static bool leaves(void *arg) { return migration_cancelled(arg); }

/*
 * Its clients shall find it there as they do here, on each of its networks. Where one has no link here, they do not,
 * and it may well move; so it may where those that answered late have left one no time. Where a guest sends tags
 * itself, what goes without one may not leave the switch. Called by its own task.
 */
static int reach(struct source *c)
{
	const struct vm_config *cfg = &c->vm->cfg;
	if (c->m->p.any_network || c->m->p.to_self)
		return 0;
	uint64_t end = in(REACH_NS);
	for (unsigned i = 0; i < cfg->nnics; i++) {
		if (CONF_NIC_CHOICE(cfg->s.trunk, i))
			continue;
		struct reach_to to = { .inc = c->m->dest,
				       .name = c->m->dest_name,
				       .mtu = c->m->st.vm_state == VM_STOPPED ? VNET_MTU_MIN : cfg->mtu[i],
				       .end_ns = end,
				       .in_clear = !trust_is_proved(c->s),
				       .leaves = leaves,
				       .arg = c->m };
		const char *net = cfg->net[i][0] ? cfg->net[i] : "for VMs", *dest = c->m->dest_name;
		bool no_time = in(REACH_SHORT_NS) > end;
		int err = reach_ask(cfg->net[i], &to, c->w);
		if (err == -ENETDOWN)
			log_warn("%s: its network %s has no link here; whether %s is on it was not tried", cfg->name,
				 net, dest);
		else if (err == -ETIMEDOUT && no_time)
			log_warn("%s: no time was left to find out whether %s is on its network %s", cfg->name, dest,
				 net);
		else if (err)
			return err;
		c->w->text[0] = '\0';
	}
	return 0;
}

/*
 * The destination finds and clears the memory before it answers the offer, which takes as long as it takes, and says
 * how far it is.
 */
static int wait_accepted(struct source *c)
{
	struct inbox_msg msg = { .type = WIRE_PREPARING };
	uint64_t done = 0, size = c->vm->cfg.mem, end = in(MIG_SETUP_NS);
	while (msg.type == WIRE_PREPARING) {
		int err = inbox_wait(&c->in, WIRE_ACCEPT, WIRE_PREPARING, end, &msg, c->w);
		if (err == -ETIMEDOUT && done && done < size)
			return why_set(c->w, err, "the destination makes no progress in clearing memory for it");
		/* The destination waits for the whole offer for the rest of MIG_GREETING_NS. */
		bool at_once = time_ns() < end - MIG_SETUP_NS + (MIG_GREETING_NS - REACH_NS) / 2;
		if (err == -ETIMEDOUT || (!at_once && (err == -EPIPE || err == -ECONNRESET)))
			return why_set(
				c->w, err,
				"the destination greeted, but did not answer the offer, which comes in packets of full "
				"size: does the way carry them? ([net] mtu)");
		if (err || (err = migration_guest_gone(c->m, c->paused, c->w)))
			return err;
		if (msg.type == WIRE_PREPARING && msg.done <= size &&
		    (msg.done >= done + PREPARING_STEP || (msg.done == size && done < size))) {
			done = msg.done;
			end = in(MIG_SETUP_NS);
		}
	}
	return 0;
}

static int setup(struct source *c)
{
	migration_phase(c->m, MIG_SETUP);
	const struct pt_format *fmt = c->vm->mem.pt.fmt;
	if (c->vm->mem.size && !fmt->dirty)
		return why_set(c->w, -ENOTSUP,
			       "this host's CPU has %s without dirty bits: VMs run here, but cannot move away",
			       fmt->name);
	int err = greet(c);
	if (err == -ETIMEDOUT)
		return why_set(c->w, err, "the destination did not answer");
	if (err || (err = reach(c)) || (err = FAILPOINT(P12_BEFORE_OFFER, c->s)))
		return err;
	c->offer.id = c->id;
	c->offer.cfg = c->vm->cfg;
	if ((err = disk_bases_digest(c->vm, &c->offer.cfg, c->m->p.copy_base, c->w)) ||
	    (err = resting_offer(c->m, &c->tx, &c->offer, in(MIG_SETUP_NS))))
		return err;
	if (!(err = wire_filler(&c->tx, in(MIG_SETUP_NS))))
		err = offer_send(&c->tx, &c->offer, in(MIG_SETUP_NS));
	c->tx.key = attempt_key(&c->id);
	if (err || (err = wait_accepted(c)))
		return err;
	forecast_begin(c);
	return boot_files_send(c);
}

/* ---- all of it ---- */

/* The guest goes on here, and nothing is left of the attempt. */
static void take_back(struct source *c)
{
	if (c->paused && !migration_rests(c->m)) {
		stun_set(c->vm, NULL); /* before it runs: at once */
		vm_resume(c->vm);
		(void)vm_announce(c->vm); /* switches may have learned the destination's port, or nothing for long */
		spin_lock(&c->m->lock);
		c->m->st.downtime_ns = time_ns() - c->paused_ns;
		spin_unlock(&c->m->lock);
	}
	task_set_prio(TASK_PRIO_NORMAL); /* what follows takes long, and nobody waits for it */
	c->paused = false;
	precopy_undo(c);
}

/*
 * A courtesy to the destination, so that it need not wait for its limit, and can say why; the stream may be gone. Then
 * the destination gets to read it: what it says to it is of no interest, but ending the stream here would throw away
 * what the network has not delivered yet.
 */
static void tell_why(struct source *c, int err)
{
	const char *text = c->w->text[0] ? c->w->text : err_name(err);
	if (migration_cancelled(c->m)) {
		err = -ECANCELED;
		text = "cancelled at its source";
	}
	if (!c->tx.seq)
		return;
	uint64_t end = in(MIG_TELL_NS);
	if (text_send(&c->tx, WIRE_ERROR, (uint32_t)-err, text, end))
		log_debug("%s: the destination could not be told why", c->vm->cfg.name);
	else
		inbox_drain(&c->in, end);
}

/* From the stream to what only the hand-over can decide: 0, and *rides says how COMMIT is to be sent. */
static int until_ready(struct source *c, bool *rides)
{
	int err = inbox_init(&c->in, c->s, &c->id);
	c->in.tx = &c->tx;
	if (err || (err = wire_tx_init(&c->tx, c->s)) || (err = migration_attach(c->m, c->s, &c->in)))
		return err;
	if ((err = setup(c)) || (err = precopy_run(c)))
		return err;
	*rides = policy_rides(&c->policy);
	err = switchover_run(c, *rides);
	if (err == -ETIMEDOUT && c->paused && time_ns() >= switchover_end(c))
		why_set(c->w, err, "the switch-over took longer than %lu ms, so the guest goes on here",
			((switchover_end(c) - c->paused_ns) / NS_PER_MS));
	return err == -ENOMEM ? why_set(c->w, err, "its host is out of memory") : err;
}

/* All of a migration that leaves, in its own task. */
static enum migrate_phase run(struct source *c)
{
	struct migration *m = c->m;
	enum handover_outcome out = HANDOVER_NOT_BEGUN;
	bool rides = false;
	int err = until_ready(c, &rides);

	if (!err) {
		struct handover h = { .s = c->s,
				      .tx = &c->tx,
				      .in = &c->in,
				      .rides = rides,
				      .counts = &c->counts,
				      .paused_at_ns = c->paused_ns,
				      .clock_at_ns = c->clock_ns,
				      .end_ns = switchover_end(c) };
		out = handover_source(m, &h, c->w);
		err = out == HANDOVER_NOT_BEGUN ? (migration_cancelled(m) ? -ECANCELED : -EIO) : 0;
	}
	migration_detach(m);
	if (out == HANDOVER_NOT_BEGUN || out == HANDOVER_NEVER)
		take_back(c); /* first of all: the guest waits */
	task_set_prio(TASK_PRIO_NORMAL);
	if (err == -EPIPE || err == -ECONNRESET)
		inbox_last_word(&c->in, in(NS_PER_SEC), c->w);
	c->forgotten = out == HANDOVER_FORGOTTEN;
	if (out == HANDOVER_NOT_BEGUN)
		tell_why(c, err);
	verify_end(c);
	if (out == HANDOVER_STARTED && m->remote)
		return MIG_REMOTE; /* the connection stays */
	inbox_fini(&c->in);
	wire_tx_fini(&c->tx);
	if (out == HANDOVER_STARTED) {
		(void)!FAILPOINT(P20_BEFORE_FREE, NULL);
		forecast_end(c);
		return MIG_DONE;
	}
	if (err)
		why_set(c->w, err, "connection to the destination lost while %s: %s", migrate_phase_name(m->st.phase),
			err_name(err));
	return MIG_FAILED;
}

/* Where the VM went; d was made before it went. By its own task. */
static void departure_note(const struct migration *m, struct departure *d)
{
	*d = (struct departure){ .cfg = m->vm->cfg, .where = m->dest };
	d->when_s = time_wall_ns() / NS_PER_SEC;
	memcpy(d->host, m->dest_name, sizeof(d->host));
	d->ip = m->p.dest;
	departed_add(d);
}

static struct source *source_new(struct migration *m, struct stream *s, struct why *w)
{
	struct source *c = calloc(1, sizeof(*c));
	uint32_t *shares = calloc(2UL * MAX(m->vm->nvcpus, 1U), sizeof(*shares));
	if (!c || !shares) {
		free(c);
		free(shares);
		return NULL;
	}
	*c = (struct source){ .m = m, .vm = m->vm, .s = s, .w = w, .id = attempt_new_id(m->vm->cfg.uuid) };
	c->share = shares;
	c->sample = shares + m->vm->nvcpus;
	for (unsigned i = 0; i < m->vm->nvcpus; i++)
		c->share[i] = STUN_FULL;
	spin_lock(&m->lock);
	m->id = c->id;
	spin_unlock(&m->lock);
	c->pages = (struct page_tx){ .tx = &c->tx,
				     .mem = &m->vm->mem,
				     .layers = disks_layers(m->vm),
				     .idle_ns = MIG_IDLE_NS,
				     .end_ns = TIME_NEVER,
				     .progress = precopy_progress,
				     .arg = c };
	c->rate_ns = c->quiet_ns = time_ns();
	policy_init(&c->policy, m->p.strategy, m->p.max_downtime_ms * NS_PER_MS, m->p.max_passes);
	c->policy.never_rides = m->p.verify || migration_rests(m);
	c->policy.rtt_ns = c->s->rtt_ns; /* passes make it shorter, if it can be */
	return c;
}

/* One attempt over a stream: ends m in every case. */
static int attempt(struct migration *m, struct stream *s, struct why *w)
{
	struct why why = { "" };
	struct source *c = source_new(m, s, &why);
	struct departure *gone = malloc(sizeof(*gone)); /* now: nothing can fail when the VM has gone */
	enum migrate_phase phase = MIG_FAILED;
	bool leaves = false;

	if (c && gone) {
		phase = run(c);
		leaves = phase == MIG_DONE || phase == MIG_REMOTE || c->forgotten;
	} else {
		why_set(&why, -ENOMEM, "its host is out of memory");
	}
	if (leaves && !m->p.to_self)     /* else it has not gone */
		departure_note(m, gone); /* first: at no moment does this host know nothing of it */
	else
		free(gone);
	if (phase == MIG_REMOTE)
		phase = remote_serve(c) ? MIG_DONE : MIG_FAILED;
	if (c)
		free(c->share);
	free(c);
	if (leaves)
		vm_destroy(m->vm); /* its memory of the guest; the struct stays while m holds its reference */
	else
		resting_end(m);
	migration_unbind(m, leaves);
	migration_finish(m, phase, phase == MIG_DONE ? NULL : why.text);
	return phase == MIG_DONE ? 0 : why_set(w, -ECONNABORTED, "%s", why.text);
}

static int connect(struct migration *m, struct stream **s, struct why *w)
{
	int err = FAILPOINT(P0_CONNECT, NULL);
	if (!err && m->p.to_self)
		err = self_connect(m, s, w);
	else if (!err)
		err = trust_connect(s, m->p.dest, m->p.port, in(MIG_CONNECT_NS), &m->canceller, w);
	return err ? err : FAILPOINT(P1_TLS, *s);
}

void source_task(void *arg)
{
	struct migration *m = arg;
	struct stream *s = NULL;
	struct why w = { "" };
	int err;
	if ((err = resting_begin(m, &w)) || (err = boot_files_digest(m, &w)) || (err = bandwidth_begin(m, &w)) ||
	    (err = connect(m, &s, &w))) {
		resting_end(m);
		migration_unbind(m, false);
		migration_finish(m, MIG_FAILED, w.text[0] ? w.text : err_name(err));
	} else {
		(void)attempt(m, s, &w); /* its end is in m's status */
	}
	migration_detach(m);
	stream_close(s);
	self_end(m);
	bandwidth_end(m);
	migration_put(m);
}

int migrate_source_run(struct vm *vm, struct stream *s, const struct migrate_params *p, struct why *w)
{
	struct migration *m = migration_new(vm->cfg.name, s->peer, s->ip, false);
	if (!m)
		return why_set(w, -ENOMEM, "out of memory");
	m->p = *p;
	int err = migration_bind_leaver(m, vm, w);
	if (err) {
		migration_drop(m);
		return err;
	}
	if ((err = resting_begin(m, w)))
		migration_unbind(m, false);
	else
		err = attempt(m, s, w);
	migration_put(m);
	return err;
}
