/* SPDX-License-Identifier: BSD-2-Clause */
/* `migrate all to PEER`: each VM of which this host has more than a file, once; who begins when is bandwidth.h's. */
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/migrate_cmd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDRAW_NS (250 * NS_PER_MS)
#define LINES     12 /* of progress, the sum's aside: a screen has 24 */

enum going { GOES, MOVED, STAYS, OFF };
struct leaver {
	char name[VM_NAME_MAX];
	enum going going;
	char why[256];         /* STAYS */
	uint64_t undecided_ns; /* seen so, by a script; 0: not */
};
struct leavers {
	struct leaver *vm;
	unsigned n, max; /* n may be more than there is room for */
	unsigned moved, stay, off;
	unsigned drawn;     /* lines of progress above the cursor */
	unsigned log_shown; /* then: if the log has been there since, they stay where they are */
};

/* ---- who ---- */

static void add(struct vm *vm, void *arg)
{
	struct leavers *l = arg;
	enum vm_state state = vm_state_now(vm);
	if (state == VM_STOPPING || state == VM_MISCONFIGURED || state == VM_INCOMING)
		return;
	bool off = state == VM_STOPPED && !__atomic_load_n(&vm->has_disks, __ATOMIC_RELAXED) &&
		   !__atomic_load_n(&vm->came_off, __ATOMIC_RELAXED);
	if (l->n < l->max) {
		struct leaver *v = &l->vm[l->n];
		memcpy(v->name, vm->cfg.name, VM_NAME_MAX);
		v->going = off ? OFF : GOES;
		l->off += off;
	}
	l->n++;
}

/*
 * Those of which this host has more than what a file says, which goes with it when it is switched off: all but those
 * that are off, have written to no disk, and were stopped here. These are named. 0 or -ENOMEM.
 */
static int leavers_find(struct leavers *l)
{
	*l = (struct leavers){ .n = 0 };
	do { /* the table may have grown meanwhile */
		free(l->vm);
		*l = (struct leavers){ .max = l->n + 1 };
		l->vm = calloc(l->max, sizeof(*l->vm));
		if (!l->vm)
			return -ENOMEM;
		vm_for_each(add, l);
	} while (l->n > l->max);
	return 0;
}

static void stays(struct leavers *l, struct leaver *v, const char *why)
{
	v->going = STAYS;
	sniprintf(v->why, sizeof(v->why), "%s", why);
	l->stay++;
}

static void begin(struct leavers *l, const struct migrate_params *p)
{
	for (struct leaver *v = l->vm; v < l->vm + l->n; v++) {
		if (v->going == OFF)
			continue;
		struct why w = { "" };
		struct vm *vm = vm_get(v->name);
		int err = vm ? migrate_start(vm, p, &w) : why_set(&w, -ENOENT, "it is gone");
		if (vm)
			vm_put(vm);
		struct migrate_status s;
		if (err == -EBUSY && migrate_cmd_status(v->name, &s) && !migrate_cmd_is_over(&s))
			err = 0; /* on its way already */
		if (err)
			stays(l, v, w.text[0] ? w.text : err_name(err));
	}
}

/* ---- how far they are ---- */

static void erase(struct con *c, struct leavers *l)
{
	if (l->drawn && l->log_shown == console_log_shown())
		out_text(c, "\r\033[%uA\033[J", l->drawn);
	l->drawn = 0;
}

/* Looks at all of them; tells each end once. */
static void leavers_look(struct con *c, struct leavers *l, struct migrate_status *busy)
{
	struct migrate_status s;
	*busy = (struct migrate_status){ .phase = MIG_QUEUED };
	for (struct leaver *v = l->vm; v < l->vm + l->n; v++) {
		if (v->going != GOES)
			continue;
		if (!migrate_cmd_status(v->name, &s)) {
			stays(l, v, "how its migration ended is no longer known");
			continue;
		}
		if (s.phase == MIG_UNDECIDED && c->json && !v->undecided_ns)
			v->undecided_ns = time_ns();
		if (v->undecided_ns && time_ns() - v->undecided_ns > MIGRATE_CMD_UNDECIDED_NS) {
			stays(l, v, "undecided: it may run there. `migrate status`, `vm claim`");
			continue;
		}
		if (!migrate_cmd_is_over(&s)) {
			busy->rate += s.rate;
			if (!busy->vm[0] || s.phase > busy->phase) {
				memcpy(busy->vm, s.vm, sizeof(s.vm));
				busy->phase = s.phase;
			}
			continue;
		}
		if (s.phase != MIG_DONE) {
			stays(l, v, s.error);
			continue;
		}
		v->going = MOVED;
		l->moved++;
		erase(c, l);
		if (s.vm_state == VM_RUNNING)
			out_text(c, "%s has moved in %s ms, downtime %s\n", v->name,
				 out_tenths(s.total_ns, NS_PER_MS).s, out_span(s.downtime_ns).s);
		else
			out_text(c, "%s has moved in %s ms, and is %s\n", v->name, out_tenths(s.total_ns, NS_PER_MS).s,
				 vm_state_name(s.vm_state));
	}
}

/* A line for each that is on its way, and their sum. */
static void progress(struct con *c, struct leavers *l, const struct migrate_status *busy)
{
	struct migrate_status s;
	unsigned queued = 0, more = 0;
	erase(c, l);
	l->log_shown = console_log_shown();
	for (const struct leaver *v = l->vm; v < l->vm + l->n; v++) {
		if (v->going != GOES || !migrate_cmd_status(v->name, &s))
			continue;
		if (s.phase == MIG_QUEUED) {
			queued++;
		} else if (l->drawn == LINES) {
			more++;
		} else {
			migrate_cmd_progress(c, &s);
			out_text(c, "\n");
			l->drawn++;
		}
	}
	if (more)
		out_text(c, "%u more on their way; ", more);
	out_text(c, "%u of %u moved, %u stay, %u queued  %s MB/s\n", l->moved, l->n - l->off, l->stay, queued,
		 out_tenths(busy->rate, 1000000).s);
	l->drawn++;
}

/* Until all have ended: 0; -EINTR: the operator does not wait. */
static int follow_all(struct con *c, struct leavers *l)
{
	struct migrate_status busy;
	int err = 0;
	for (;;) {
		leavers_look(c, l, &busy);
		if (l->moved + l->stay + l->off == l->n || err)
			break;
		progress(c, l, &busy);
		if (migrate_wait(busy.vm, time_ns() + REDRAW_NS) == -ENOENT)
			task_sleep_until(time_ns() + REDRAW_NS);
		err = c->interrupted(c) ? -EINTR : 0;
	}
	erase(c, l);
	return err;
}

static int report(struct con *c, const struct leavers *l, const char *peer, int left)
{
	static const char *const words[] = { [GOES] = "goes", [MOVED] = "moved", [STAYS] = "stays", [OFF] = "off" };
	const struct leaver *first = NULL;
	out_table(c, "vms", "-12 name|VM, -6 result", "no VM is here");
	for (const struct leaver *v = l->vm; v < l->vm + l->n; v++) {
		if (!first && v->going == STAYS)
			first = v;
		out_row(c);
		out_str(c, "name", v->name);
		out_str(c, "result", words[v->going]);
		out_more(c, "why",
			 v->going == OFF
				 ? "it is stopped, and nothing would be lost with this host: `migrate` it by name"
				 : v->why);
		out_row_end(c);
	}
	out_table_end(c);
	if (l->moved + l->stay + l->off < l->n)
		out_text(c, "the others go on. `migrate status` shows them, `migrate cancel all` ends them\n");
	if (!first)
		return left && c->json ? con_error(c, -EINTR, "migrate all to %s: they go on without you", peer) : 0;
	return con_error(c, -EIO, "migrate all to %s: %u of %u moved, %u stay; %s: %s", peer, l->moved, l->n - l->off,
			 l->stay, first->name, first->why);
}

int migrate_cmd_all(struct con *c, const struct migrate_params *p, const char *peer, bool detach)
{
	struct leavers l;
	int err = leavers_find(&l);
	if (err)
		return con_error(c, err, "migrate all: out of memory");
	begin(&l, p);
	int left = detach ? 0 : follow_all(c, &l);
	err = report(c, &l, peer, left);
	free(l.vm);
	return err;
}
