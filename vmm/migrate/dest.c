/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination of a migration: one call for each OFFER, in its connection's task (service.c). Nothing is moved
 * before ACCEPT, the VM is a skeleton until END has been checked, and it starts only by handover.c's decision. Whatever
 * the peer sends, the worst that happens is that this attempt ends and its skeleton is freed.
 *
 *   OFFER -> checks, skeleton -> ACCEPT -> pages, sections, END -> READY (handover.c) -> run, announce -> STARTED
 */
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/disk.h"
#include "vmm/disk_unit_pass.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/disks.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/boot_files.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/offer_check.h"
#include "vmm/migrate/pages.h"
#include "vmm/migrate/pull.h"
#include "vmm/migrate/pulled.h"
#include "vmm/migrate/sections.h"
#include "vmm/migrate/service.h"
#include "vmm/migrate/settle.h"
#include "vmm/migrate/this_host.h"
#include "vmm/migrate/verify.h"
#include <stdlib.h>
#include <string.h>

struct dest {
	struct stream *s;
	struct wire_tx *tx;
	struct wire_rx *rx;
	struct why *why;
	const struct hello *peer;
	const struct migration *self; /* to self: the source's (self.h); NULL: it is another host's */
	enum vm_state as;             /* what it shall be here: RUNNING, PAUSED or STOPPED, which has no memory here */
	struct offer offer;
	struct migration *m;
	struct vm_reservation memory; /* from the check to the skeleton */
	struct vm *vm;
	struct boot_files_rx files;
	struct sections sections;
	struct page_rx pages;
	struct verify_rx verify;
	struct pulled_rx pulled;
	struct pull pull; /* of what comes when it runs already */
	uint32_t debts;
	uint64_t progress_ns; /* when the last record came that brought something */
	uint32_t pass;        /* the last that began */
	struct arrival at;    /* when what of the black-out came */
	uint64_t missing;     /* frames of pass 1 that later ones must bring, or a map must have */
	bool in_pass, final;  /* it has not ended; it is the one with the guest stopped */
	bool ours;            /* attempts.c knows the offer as this connection's */
	uint64_t told;        /* bytes cleared, as the source has heard last */
};

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- the offer ---- */

/*
 * A source has one attempt at a time for a VM: a new offer of the same incarnation says that the one before is over,
 * whether we noticed or not. An attempt of anybody else is left alone.
 */
static bool older_attempt(const struct attempt_id *id, struct attempt_id *old)
{
	return attempt_find_open(id->uuid, old) && incarnation_equal(old->source, id->source) &&
	       old->number < id->number;
}

/* While memory is cleared: tell the source how far it is. Whatever ends the connection ends the clearing. */
static int preparing(void *arg, uint64_t done, uint64_t total)
{
	struct dest *c = arg;
	if (migration_cancelled(c->m))
		return -ECANCELED;
	if (done <= c->told)
		return 0;
	c->told = done;
	wire_begin(c->tx, WIRE_PREPARING);
	wire_put_u64(c->tx, done);
	wire_put_u64(c->tx, total);
	return wire_end(c->tx, in(MIG_SETUP_NS));
}

/* The VM of this host that it is, if that moves to itself. */
static struct vm *beside(const struct dest *c) { return c->self ? c->self->beside : NULL; }

/* The attempt is ours: memory, devices, and nobody else touches the VM. */
static int make_skeleton(struct dest *c, enum refuse_code *code)
{
	*code = REFUSE_FAILED;
	int err = FAILPOINT(P3_ALLOCATE, c->s);
	if (err)
		return err;
	if (c->as == VM_STOPPED)
		err = vm_create_stopped(&c->offer.cfg, beside(c), &c->vm, c->why);
	else
		err = vm_create_incoming(&c->offer.cfg, beside(c), &c->memory, &(struct gmem_progress){ preparing, c },
					 &c->vm, c->why);
	if (err) {
		*code = err == -ENOMEM ? REFUSE_MEMORY : err == -EEXIST ? REFUSE_IN_USE : REFUSE_FAILED;
		return err;
	}
	err = migration_bind(c->m, c->vm, VM_INCOMING, c->why);
	if (err || (err = sections_init(&c->sections, c->vm)))
		return err;
	*code = REFUSE_CONFIG;
	return disk_unit_pass_prepare(c->vm, c->offer.id.source.host, c->why);
}

/* Take the attempt: 0 and a skeleton, or a code for REFUSE. */
static int take_offer(struct dest *c, enum refuse_code *code)
{
	const struct attempt_id *id = &c->offer.id;
	struct attempt_id old;
	bool replaces = older_attempt(id, &old);

	*code = offer_check(&c->offer, c->as, beside(c), replaces, c->why);
	if (*code)
		return -EACCES;
	if (replaces && attempt_give_up(&old) == RECORD_NEVER)
		migration_evict(&old, in(MIG_ANSWER_NS)); /* and its memory is there for this one */
	*code = REFUSE_MEMORY;
	if (c->as != VM_STOPPED && vm_memory_reserve(&c->offer.cfg, &c->memory, c->why))
		return -ENOMEM;
	*code = REFUSE_BUSY;
	int err = attempt_offer(id, c->offer.cfg.name, c->s->ip);
	if (err == -EALREADY)
		return why_set(c->why, err, "this attempt is over");
	if (err)
		return why_set(c->why, err, "no room there for another attempt's record");
	c->ours = true;
	return make_skeleton(c, code);
}

/* A migration for the OFFER that was received, which others can see and cancel. */
static int read_offer(struct dest *c)
{
	const struct attempt_id *id = &c->offer.id;
	int err = offer_parse(c->rx, &c->offer, c->why);
	c->tx->key = c->rx->key = attempt_key(id);
	if (err)
		return err;
	if (!c->offer.compat.n !=
	    (c->as == VM_STOPPED)) /* else there would be nothing to hold this host's CPU against */
		return why_set(c->why, -EPROTO, "%s says too little or too much of the CPU that it needs",
			       c->peer->host);
	if (!incarnation_equal(id->source, c->peer->inc))
		return why_set(c->why, -EPROTO, "%s offers an attempt of another host", c->peer->host);
	bool own = incarnation_equal(id->source, migrate_this_host()->inc);
	if (own != (c->self != NULL) ||
	    (own && !attempt_id_equal(id, &c->self->id))) /* in clear, somebody repeats it */
		return why_set(c->why, -ELOOP, "it comes from that host itself");
	c->m = migration_new(c->offer.cfg.name, c->s->peer, c->s->ip, true);
	if (!c->m)
		return -ENOMEM;
	for (unsigned i = 0; i < c->offer.cfg.nnics && c->as == VM_STOPPED; i++)
		c->offer.cfg.mtu[i] = 0; /* its next start will find them */
	spin_lock(&c->m->lock);
	c->m->id = *id;
	c->m->st.vm_state = c->as;
	spin_unlock(&c->m->lock);
	err = migration_attach(c->m, c->s, NULL);
	return err ? err : FAILPOINT(P2_HELLO, c->s);
}

/* Answer the OFFER: 0 and a skeleton, or -errno and the source knows why (if it can be told). */
static int accept_offer(struct dest *c)
{
	enum refuse_code code = REFUSE_CONFIG;
	int err = read_offer(c);
	if (err || (err = take_offer(c, &code)) || (err = FAILPOINT(P13_ANSWER_LOST, c->s)) ||
	    (err = wire_filler(c->tx, in(MIG_SETUP_NS))))
		goto refuse;
	uint64_t load_ns = downtime_expect(&migrate_this_host()->costs.load, c->sections.n, 0);
	return id_send_more(c->tx, WIRE_ACCEPT, &c->offer.id, &load_ns, 1, in(MIG_SETUP_NS));
refuse:
	vm_memory_release(&c->memory);
	why_set(c->why, err, "the offer could not be answered: %s", err_name(err));
	if (text_send(c->tx, WIRE_REFUSE, code, c->why->text, in(MIG_TELL_NS)))
		log_debug("REFUSE could not be sent to %s", c->s->peer);
	return err;
}

/* ---- the image ---- */

static int bad_order(struct dest *c)
{
	return why_set(c->why, -EPROTO, "the source sent %s at the wrong time", wire_type_name(c->rx->type));
}

static int recv_pass(struct dest *c)
{
	uint32_t pass = wire_get_u32(c->rx), flags = wire_get_u32(c->rx);
	if (!wire_get_end(c->rx) || c->in_pass || c->final || pass != c->pass + 1 ||
	    flags & ~(PASS_FINAL | PASS_PULLED) || flags == (PASS_FINAL | PASS_PULLED) ||
	    boot_files_pending(&c->files) || disk_bases_pending(c->vm))
		return bad_order(c);
	c->pass = pass;
	c->in_pass = true;
	c->final = flags & PASS_FINAL;
	c->pages.pass = (struct page_counts){ 0, 0 };
	c->pages.disk = 0;
	c->pages.next = 0;
	if (flags & PASS_PULLED)
		pulled_begin(&c->pulled, &c->pages);
	if (c->final) {
		c->at.final_ns = time_ns();
		if (c->as == VM_RUNNING)
			task_set_prio(TASK_PRIO_SWITCH); /* from now on the guest stands still */
	}
	spin_lock(&c->m->lock);
	c->m->st.pass = pass;
	c->m->st.phase = c->final ? MIG_STOPPED : MIG_PASSES;
	spin_unlock(&c->m->lock);
	return 0;
}

static int pass_failpoint(struct dest *c)
{
	return FAILPOINT(c->final ? P8_FINAL_PAGES : c->pass == 1 ? P4_FIRST_PASS : P5_NTH_PASS, c->s);
}

static int recv_pages(struct dest *c)
{
	int err = c->in_pass ? pages_recv(&c->pages, c->why) : bad_order(c);
	if (err)
		return err;
	spin_lock(&c->m->lock);
	c->m->st.pages_sent = c->pages.total.data;
	c->m->st.zero_pages = c->pages.total.zero;
	c->m->st.bytes = c->rx->bytes;
	spin_unlock(&c->m->lock);
	return pass_failpoint(c);
}

static int recv_pass_end(struct dest *c)
{
	uint32_t pass = wire_get_u32(c->rx);
	uint64_t data = wire_get_u64(c->rx), zero = wire_get_u64(c->rx);
	const struct page_counts *got = &c->pages.pass;

	if (!wire_get_end(c->rx) || !c->in_pass || pass != c->pass || !pulled_is_over(&c->pulled))
		return bad_order(c);
	c->in_pass = false;
	c->at.pages_ns = time_ns();
	if (data != got->data || zero != got->zero)
		return why_set(c->why, -EPROTO, "pass %u: the source counts %lu+%lu pages, here came %lu+%lu", pass,
			       data, zero, got->data, got->zero);
	/*
	 * They came in ascending order, so the sum says that each page came. Of what pass 1 lacks, for its guest is to
	 * go at once, more must come, or be in the map of what does not.
	 */
	uint64_t ram = data + zero - c->pages.disk, all = c->vm->mem.size / PAGE_SIZE;
	if (c->pulled.on && ram != c->pulled.map.frames)
		return why_set(c->why, -EPROTO, "pass %u brought %lu of %lu pages", pass, ram, c->pulled.map.frames);
	bool of_all = pass == 1 && !c->pulled.on;
	if (of_all && ram > all)
		return why_set(c->why, -EPROTO, "pass 1 brought %lu of %lu pages", ram, all);
	c->missing = of_all ? all - ram : c->missing - MIN(c->missing, ram);
	c->pulled.on = false;
	int err = pass_failpoint(c); /* even if it had no pages */
	if (err || c->final)
		return err;
	wire_begin(c->tx, WIRE_PASS_ACK);
	wire_put_u32(c->tx, pass);
	return wire_end(c->tx, in(MIG_IDLE_NS));
}

static int recv_end(struct dest *c)
{
	struct attempt_id id;
	struct end_counts n;
	c->at.end_ns = time_ns();
	int err = end_parse(c->rx, &id, &n, c->why);
	if (err)
		return err;
	if (!c->final || c->in_pass || !attempt_id_equal(&id, &c->offer.id) || pull_is_half(&c->pull))
		return bad_order(c);
	if (n.passes != c->pass || n.sections != c->sections.loaded || n.debts != c->debts ||
	    n.data_pages != c->pages.total.data || n.zero_pages != c->pages.total.zero)
		return why_set(c->why, -EPROTO, "the source's totals are not what came here");
	if (c->missing > c->pull.map.frames)
		return why_set(c->why, -EPROTO, "%lu pages of memory did not come", c->missing);
	err = sections_complete(&c->sections, c->why);
	return err ? err : verify_complete(&c->verify, c->why);
}

static int recv_debt(struct dest *c)
{
	int err = settle_come_along(c->rx, c->offer.id.uuid, c->why);
	c->debts += !err;
	return err;
}

/* A source that only says that it lives, or begins and ends passes without a page, has its time as well. */
static int no_progress(struct dest *c)
{
	return why_set(c->why, -ETIMEDOUT, "the source has sent nothing of the VM for %d s",
		       (int)(MIG_PROGRESS_NS / NS_PER_SEC));
}

/* One record of the image; *end: it was the last. */
static int take_record(struct dest *c, bool *end)
{
	switch (c->rx->type) {
	case WIRE_PASS: return recv_pass(c);
	case WIRE_PAGES: return recv_pages(c);
	case WIRE_PASS_END: return recv_pass_end(c);
	case WIRE_KEEPALIVE: return 0;
	case WIRE_DEBT: return recv_debt(c);
	case WIRE_FILES:
	case WIRE_FILE: return c->pass ? bad_order(c) : boot_files_recv(&c->files, c->vm, c->tx, c->rx, c->why);
	case WIRE_VERIFY:
	case WIRE_VERIFY_STATE:
		c->verify.absent = c->pull.map.frames;
		return c->final && !c->in_pass && !pull_is_half(&c->pull) ? verify_recv(&c->verify, c->why)
									  : bad_order(c);
	case WIRE_SECTION:
		return c->final && !c->in_pass && !c->verify.begun_ns ? section_recv(&c->sections, c->rx, c->why)
								      : bad_order(c);
	case WIRE_SERVED: return c->pulled.on ? pulled_served(&c->pulled, c->tx, &c->pages, c->why) : bad_order(c);
	case WIRE_ABSENT:
		if (c->pulled.on)
			return pulled_map(&c->pulled, c->tx, &c->pages, c->why);
		return c->final && !c->in_pass && !c->sections.loaded && !c->verify.begun_ns && c->as == VM_RUNNING &&
				       !c->self
			       ? pull_map(&c->pull, c->vm, c->rx, c->why)
			       : bad_order(c);
	case WIRE_END: *end = true; return recv_end(c);
	case WIRE_ERROR: return handover_source_gave_up(c->rx, c->why);
	default: return bad_order(c);
	}
}

/* Everything from ACCEPT to a skeleton that is ready to run. */
static int receive(struct dest *c)
{
	c->progress_ns = time_ns();
	c->pages = (struct page_rx){
		.rx = c->rx, .mem = &c->vm->mem, .layers = disks_layers(c->vm), .idle_ns = MIG_IDLE_NS
	};
	c->verify = (struct verify_rx){ .m = c->m, .tx = c->tx, .came = &c->pages, .sections = &c->sections };
	pull_init(&c->pull, c->m);
	migration_phase(c->m, MIG_PASSES);
	for (bool end = false; !end;) {
		int err = wire_recv(c->rx, in(MIG_IDLE_NS), MIG_IDLE_NS, c->why);
		if (err)
			return err == -ETIMEDOUT ? why_set(c->why, err, "the source fell silent") : err;
		if (c->rx->type == WIRE_PAGES || c->rx->type == WIRE_VERIFY || c->rx->type == WIRE_SECTION ||
		    c->rx->type == WIRE_END || c->rx->type == WIRE_FILE)
			c->progress_ns = time_ns();
		else if (time_ns() - c->progress_ns > MIG_PROGRESS_NS)
			return no_progress(c);
		err = take_record(c, &end);
		if (err || (err = handover_cancelled(c->m, c->why)))
			return err;
		if (c->final && time_ns() - c->at.final_ns > MIG_BLACKOUT_NS) /* whatever the source makes of it */
			task_set_prio(TASK_PRIO_NORMAL);
	}
	int err = c->as == VM_STOPPED ? 0 : vm_load_cpus(c->vm, c->why);
	if (err || (err = pull_check(&c->pull, c->why)))
		return err;
	return verify_loaded(&c->verify, c->why);
}

/* ---- start, or clean up ---- */

/* Decided: from here on nothing may fail. */
static void start(struct dest *c, uint64_t paused_ns)
{
	uint64_t since = time_ns() - c->sections.clock_ns; /* guest time has run here since it was loaded */

	if (FAILPOINT(P16_DISKS_TAKEN, c->s) || FAILPOINT(P17_DECIDED, c->s))
		log_warn("%s arrives without a connection to its source", c->vm->cfg.name);
	if (c->as != VM_STOPPED)
		vm_advance_clock(c->vm, paused_ns > since ? paused_ns - since : 0);
	if (pull_is_on(&c->pull))
		pull_begin(&c->pull, c->verify.begun_ns);
	vm_arrive(c->vm, c->as);
	(void)vm_announce(c->vm);         /* nothing, if it does not run */
	departed_remove(c->vm->cfg.name); /* it may have come home */
	spin_lock(&c->m->lock);
	c->m->st.downtime_ns = c->as == VM_RUNNING ? paused_ns : 0; /* as far as it can be known here */
	spin_unlock(&c->m->lock);
	int err;
	if ((err = FAILPOINT(P18_RUNNING, c->s)) || (err = FAILPOINT(P19_STARTED_LOST, c->s)) ||
	    (err = handover_started(c->tx, &c->offer.id, &c->at, c->as == VM_RUNNING ? c->sections.n : 0)))
		log_warn("%s is %s here, but its source could not be told: %s; it will ask", c->vm->cfg.name,
			 vm_state_name(c->as), err_name(err));
	disk_unit_pass_mark(c->vm);
}

/* Nothing was started: both hosts shall know that, and nothing be left here. */
static void give_up(struct dest *c, int err, bool accepted)
{
	task_set_prio(TASK_PRIO_NORMAL);
	handover_evicted(c->m, err, c->why);
	why_set(c->why, err, "the connection to the source: %s", err_name(err));
	if (accepted)
		handover_give_up(c->m, c->tx, err, c->why->text);
	else if (c->ours)
		attempt_give_up(&c->offer.id); /* NEVER; or none, if the source has said DONE meanwhile */
	migration_detach(c->m);
	if (c->vm)
		vm_destroy(c->vm);
	migration_unbind(c->m, true);
	bool cancelled = err == -ECANCELED && c->rx->type == WIRE_ERROR; /* by the source */
	migration_finish(c->m, cancelled ? MIG_CANCELLED : MIG_FAILED, c->why->text);
	if (!stream_shutdown(c->s)) /* for the source to read why */
		stream_drain(c->s, in(MIG_TELL_NS));
}

static void attempt(struct dest *c)
{
	uint64_t paused_ns = 0;
	int err = accept_offer(c);
	bool accepted = !err;

	if (!c->m) { /* it was none */
		log_warn("an offer from %s was refused: %s", migrate_peer_name(c->s->ip, c->s->peer), c->why->text);
		return;
	}
	if (accepted) {
		log_info("receiving %s from %s, %lu MiB", c->offer.cfg.name, migrate_peer_name(c->s->ip, c->s->peer),
			 c->offer.cfg.mem >> 20);
		err = receive(c);
	}
	if (err || (err = handover_dest(c->m, c->tx, c->rx, &c->at, &paused_ns, c->why))) {
		give_up(c, err, accepted);
		return;
	}
	start(c, paused_ns);
	task_set_prio(TASK_PRIO_NORMAL);
	vm_ref(c->vm); /* for the frames that come after it */
	migration_detach(c->m);
	if (pull_is_on(&c->pull))
		pull_run(&c->pull, c->tx, c->rx);
	migration_unbind(c->m, false);
	migration_finish(c->m, MIG_DONE, NULL);
	if (!pull_is_on(&c->pull))
		handover_wait_done(c->rx, &c->offer.id, c->vm);
	vm_put(c->vm);
}

void dest_attempt(struct connection *k)
{
	struct dest *c = calloc(1, sizeof(*c));
	if (!c) {
		log_warn("no memory to receive a VM from %s", migrate_peer_name(k->s->ip, k->s->peer));
		return;
	}
	c->s = k->s;
	c->tx = &k->tx;
	c->rx = &k->rx;
	c->why = &k->why;
	c->peer = &k->peer;
	c->as = k->as;
	c->self = k->self;
	attempt(c);
	if (c->m)
		migration_put(c->m);
	boot_files_rx_fini(&c->files);
	sections_fini(&c->sections);
	pull_fini(&c->pull);
	free(c);
}
