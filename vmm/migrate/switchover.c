/* SPDX-License-Identifier: BSD-2-Clause */
/* The source while its guest stands still, from the pause to READY (source.h). */
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/disks.h"
#include "vmm/migrate/remote.h"
#include "vmm/migrate/source.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/verify.h"
#include <stdlib.h>
#include <string.h>

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/*
 * While the guest stands still there is one deadline for all of it, beside that of each record: past it the guest goes
 * on here. Ten times what the operator allowed, or of what is expected where he lets it stop for as long as it takes,
 * because a forecast may be wrong; at least 5 s, because a line that is cut for so long may come back. What --verify
 * takes comes on top: each of its steps has a limit of its own.
 */
uint64_t switchover_end(const struct source *c)
{
	return c->paused_ns + c->verify_ns + MAX(10 * c->allow_ns, MIG_BLACKOUT_NS);
}
static uint64_t stopped_in(const struct source *c, uint64_t ns) { return MIN(in(ns), switchover_end(c)); }

struct section_arg {
	struct source *c;
	int err;
};

static void section_send(void *arg, const struct sdesc *d, uint32_t instance, void *obj)
{
	struct section_arg *a = arg;
	struct source *c = a->c;

	BUG_ON(state_size(d) > WIRE_SECTION_MAX);
	if (a->err || (d->absent && d->absent(obj)))
		return;
	wire_begin(&c->tx, WIRE_SECTION);
	wire_put_str(&c->tx, d->name, 32);
	wire_put_u32(&c->tx, instance);
	wire_put_u32(&c->tx, d->version);
	if (!strcmp(d->name, "clock"))
		c->clock_ns = time_ns();
	state_save(d, obj, wire_put_space(&c->tx, state_size(d)));
	if ((a->err = verify_keep(c, d, instance)))
		return;
	a->err = wire_end(&c->tx, stopped_in(c, MIG_STOPPED_NS));
	c->sections++;
}

/*
 * What attempts of this VM were started by hosts whose sources may still hold their images goes with it: its new host
 * can tell them.
 */
static int debts_send(struct source *c)
{
	struct decision *v;
	unsigned n;
	int err = attempt_list(&v, &n);
	for (unsigned i = 0; i < n && !err; i++) {
		if (v[i].state != RECORD_STARTED || memcmp(v[i].id.uuid, c->id.uuid, sizeof(v[i].id.uuid)))
			continue;
		err = debt_send(&c->tx, WIRE_DEBT, &v[i], in(MIG_IDLE_NS));
		c->debts += !err;
	}
	free(v);
	return err;
}

/* From the pause to the last section: after it, nothing of the image is missing there but END. */
static int send_rest(struct source *c)
{
	const struct gmem *mem = &c->vm->mem;
	struct section_arg sections = { .c = c };
	int err = migration_guest_gone(c->m, c->paused, c->w);
	if (err || (err = FAILPOINT(P7_AFTER_PAUSE, c->s)) || (err = vm_save_cpus(c->vm, c->w)))
		return err;
	uint64_t saved_ns = time_ns();
	if (c->tracking)
		c->left += gmem_track_harvest_all(&c->vm->mem, true); /* after the save, which may touch guest memory */
	c->left += disks_harvest(&c->pages.layers);
	c->scanned_ns = time_ns();
	c->scan_ns = c->scanned_ns - saved_ns;
	err = c->m->remote ? remote_send(c) : precopy_send_pass(c, true);
	if (err)
		return err;
	c->sent_ns = time_ns();
	vm_for_each_section(c->vm, section_send, &sections);
	if (sections.err)
		return sections.err;
	c->stated_ns = time_ns();
	/* Did saving the state write to guest memory, after the last look at its dirt? Then the image would be torn. */
	if (gmem_next_written(mem, 0, mem->gfn_end) < mem->gfn_end)
		return why_set(c->w, -EIO, "a device wrote to guest memory while its state was saved");
	err = FAILPOINT(P9_BEFORE_END, c->s);
	return err ? err : verify_run(c);
}

/* END, and what the destination makes of all that. */
static int end_then_ready(struct source *c)
{
	struct inbox_msg msg;
	int err = end_send(&c->tx, &c->id, &c->counts, stopped_in(c, MIG_STOPPED_NS));
	if (err || (err = inbox_wait(&c->in, WIRE_READY, c->verify ? WIRE_DIFFERS : 0, stopped_in(c, MIG_STOPPED_NS),
				     &msg, c->w)))
		return err == -ETIMEDOUT ? why_set(c->w, err, "the destination did not get ready in time") : err;
	if (msg.type == WIRE_DIFFERS)
		return verify_differs(c);
	verify_passed(c);
	return 0;
}

int switchover_run(struct source *c, bool rides)
{
	int err = debts_send(c); /* while the guest runs; none can be added to them: this VM is not received now */
	if (err || (err = FAILPOINT(P6_BEFORE_PAUSE, c->s)))
		return err;
	c->m->remote = c->policy.remote;
	migration_phase(c->m, MIG_STOPPED);
	c->pages.idle_ns = MIG_STOPPED_NS;
	c->paused_ns = c->clock_ns = time_ns();
	c->trips = c->in.trips;
	c->pages.end_ns = switchover_end(c);
	if (!migration_rests(c->m)) {
		task_set_prio(
			TASK_PRIO_SWITCH); /* the guest stands still, others can wait a little; source.c ends it */
		err = vm_pause(c->vm);
	}
	if (err && !migration_guest_gone(c->m, false, c->w)) /* else it has said why */
		why_set(c->w, err, "the guest could not be paused, it is %s", vm_state_name(vm_state_now(c->vm)));
	if (err)
		return err;
	c->paused = true;
	err = send_rest(c);
	if (err)
		return err;
	c->counts = (struct end_counts){ .passes = c->pass,
					 .sections = c->sections,
					 .debts = c->debts,
					 .data_pages = c->pages.total.data,
					 .zero_pages = c->pages.total.zero };
	if (rides)
		return 0; /* END goes with COMMIT */
	err = end_then_ready(c);
	precopy_status(c);
	return err;
}
