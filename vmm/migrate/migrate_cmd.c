/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate`: what the operator does. The one file here that includes net/net.h, because an operator names a peer by the
 * name that tern.conf gives it, and only net/ knows the address.
 */
#include "kernel/base/ip4.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/net.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migrate.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REDRAW_NS    (200 * NS_PER_MS)
#define UNDECIDED_NS (60 * NS_PER_SEC)
#define CTRL_C       3

/* "12.3": tenths of n in units of `unit`. */
struct tenths {
	char s[24];
};
static struct tenths tenths(uint64_t n, uint64_t unit)
{
	struct tenths t;
	uint64_t x = n / unit * 10 + n % unit * 10 / unit;
	sniprintf(t.s, sizeof(t.s), "%lu.%lu", x / 10, x % 10);
	return t;
}

static bool is_over(const struct migrate_status *s)
{
	return s->phase == MIG_DONE || s->phase == MIG_FAILED || s->phase == MIG_CANCELLED;
}

/* The newest migration of this VM that leaves this host. */
static bool status_of(const char *name, struct migrate_status *s)
{
	for (unsigned i = 0; migrate_get(i, s); i++)
		if (!s->incoming && !strcmp(s->vm, name))
			return true;
	return false;
}

static void status_json(struct json *j, const struct migrate_status *s)
{
	json_str(j, "name", s->vm);
	json_str(j, "peer", s->peer);
	json_str(j, "direction", s->incoming ? "in" : "out");
	json_str(j, "phase", migrate_phase_name(s->phase));
	json_bool(j, "over", is_over(s));
	json_u64(j, "passes", s->pass);
	json_u64(j, "pages_left", s->pages_left);
	json_u64(j, "pages", s->pages_sent);
	json_u64(j, "zero_pages", s->zero_pages);
	json_u64(j, "bytes", s->bytes);
	json_u64(j, "bytes_per_s", s->rate);
	json_u64(j, "dirty_pages", s->dirty_last);
	json_u64(j, "dirty_bytes_per_s", s->dirty_rate);
	json_u64(j, "predicted_downtime_us", s->predicted_downtime_ns / NS_PER_US);
	json_u64(j, "total_ms", s->total_ns / NS_PER_MS);
	json_u64(j, "downtime_us", s->downtime_ns / NS_PER_US);
	if (s->error[0])
		json_str(j, "error_text", s->error);
}

/* ---- migrate NAME to PEER ---- */

static void progress_line(struct con *c, const struct migrate_status *s)
{
	con_printf(c, "\r%s: %s", s->vm, migrate_phase_name(s->phase));
	if (s->phase >= MIG_PASSES)
		con_printf(c, "  pass %u  %lu pages left  %s MB/s", s->pass, s->pages_left, tenths(s->rate, 1000000).s);
	if (s->predicted_downtime_ns)
		con_printf(c, "  dirty %s MB/s  downtime ~%lu ms", tenths(s->dirty_rate, 1000000).s,
			   s->predicted_downtime_ns / NS_PER_MS);
	con_printf(c, "\033[K");
}

static void report(struct con *c, const struct migrate_status *s)
{
	uint64_t ms = MAX(s->total_ns / NS_PER_MS, 1ULL);
	con_printf(c, "%s runs at %s\n", s->vm, s->peer);
	con_printf(c, "  total time  %lu ms\n", ms);
	con_printf(c, "  downtime    %s ms\n", tenths(s->downtime_ns, NS_PER_MS).s);
	con_printf(c, "  passes      %u\n", s->pass);
	con_printf(c, "  pages       %lu sent, %lu zero\n", s->pages_sent, s->zero_pages);
	con_printf(c, "  bytes       %lu, %s MB/s\n", s->bytes, tenths(s->bytes / ms * 1000, 1000000).s);
}

/* Once what the guest had asked for meanwhile (power-off, reset) has been carried out. */
static const char *state_here(const char *name)
{
	struct vm *vm = vm_get(name);
	for (uint64_t end = time_in_ms(5000);
	     vm && __atomic_load_n(&vm->power_request, __ATOMIC_ACQUIRE) && time_ns() < end;)
		task_sleep_until(time_in_ms(10));
	const char *state = vm ? vm_state_name(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)) : "no longer";
	if (vm)
		vm_put(vm);
	return state;
}

/* Show it until it is over: 0, or the command's error. */
static int follow(struct con *c, const char *name)
{
	struct migrate_status s = { .phase = MIG_CONNECT };
	uint64_t undecided_ns = 0;
	bool quiet = c->json;

	while (status_of(name, &s) && !is_over(&s)) {
		if (!quiet)
			progress_line(c, &s);
		int ch = migrate_wait(name, time_ns() + (quiet ? NS_PER_SEC / 20 : REDRAW_NS / 2))
				 ? c->getc(c, time_ns())
				 : 0;
		if (s.phase == MIG_UNDECIDED && !undecided_ns)
			undecided_ns = time_ns();
		if (quiet && undecided_ns &&
		    time_ns() - undecided_ns > UNDECIDED_NS) /* a script cannot wait for ever */
			return con_error(c, -ETIMEDOUT,
					 "migrate %s to %s: undecided: it may run there. `migrate status`, `vm claim`",
					 name, s.peer);
		if (ch == CTRL_C && quiet)
			return con_error(c, -EINTR, "migrate %s to %s: it goes on without you", name, s.peer);
		if (ch == CTRL_C) {
			con_printf(c,
				   "\nthe migration goes on. `migrate status` shows it, `migrate cancel %s` ends it\n",
				   name);
			return 0;
		}
	}
	if (!quiet)
		con_printf(c, "\r\033[K");
	if (s.phase != MIG_DONE)
		return con_error(c, s.phase == MIG_CANCELLED ? -ECANCELED : -EIO,
				 "migrate %s to %s: %s. The VM is %s here", name, s.peer, s.error, state_here(name));
	if (c->json) {
		struct json j;
		json_begin(&j, c);
		status_json(&j, &s);
		json_end(&j);
	} else {
		report(c, &s);
	}
	return 0;
}

static bool parse_u32(const char *s, uint32_t max, uint32_t *v)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);
	*v = (uint32_t)n;
	return *s >= '0' && *s <= '9' && !*end && n >= 1 && n <= max;
}

static int cmd_to(struct con *c, int argc, char **argv)
{
	struct migrate_params p = { .port = MIGRATE_PORT,
				    .max_downtime_ms = MIGRATE_DOWNTIME_MS,
				    .max_passes = MIGRATE_MAX_PASSES };
	const char *name = argv[1];
	struct why w = { "" };
	bool detach = false;

	for (int i = 4; i < argc; i++) {
		if (!strcmp(argv[i], "--detach"))
			detach = true;
		else if (!strcmp(argv[i], "--max-downtime") && i + 1 < argc &&
			 parse_u32(argv[i + 1], 60000, &p.max_downtime_ms))
			i++;
		else if (!strcmp(argv[i], "--max-passes") && i + 1 < argc &&
			 parse_u32(argv[i + 1], 1000, &p.max_passes))
			i++;
		else
			return con_error(c, -EINVAL,
					 "migrate: %s: not an option, or its number is missing or out of range. "
					 "--max-downtime 1..60000 (ms), --max-passes 1..1000, --detach",
					 argv[i]);
	}
	int err = net_peer(argv[3], &p.dest, &w);
	if (err)
		return con_error(c, err, "migrate: %s", w.text[0] ? w.text : err_name(err));
	struct vm *vm = vm_get(name);
	if (!vm)
		return con_error(c, -ENOENT, "migrate: no VM %s on this host. `vm list` shows them", name);
	err = migrate_start(vm, &p, &w);
	vm_put(vm);
	if (err)
		return con_error(c, err, "migrate %s: %s", name, w.text[0] ? w.text : err_name(err));
	if (!detach)
		return follow(c, name);
	if (c->json) {
		struct migrate_status s;
		struct json j;
		json_begin(&j, c);
		if (status_of(name, &s))
			status_json(&j, &s);
		json_end(&j);
	} else {
		con_printf(c, "%s is on its way to %s. `migrate status` shows it\n", name, ip4_text(p.dest).s);
	}
	return 0;
}

/* ---- status, cancel ---- */

static int cmd_status(struct con *c)
{
	struct migrate_status s;
	struct json j;

	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "migrations");
		for (unsigned i = 0; migrate_get(i, &s); i++) {
			json_obj(&j, NULL);
			status_json(&j, &s);
			json_obj_end(&j);
		}
		json_arr_end(&j);
		json_end(&j);
		return 0;
	}
	if (!migrate_get(0, &s))
		con_printf(c, "no migrations since tern started\n");
	for (unsigned i = 0; migrate_get(i, &s); i++) {
		con_printf(c, "%-12s %-4s %-21s %-14s pass %-3u %8lu pages  %6s MB  %6lu ms", s.vm,
			   s.incoming ? "from" : "to", s.peer, migrate_phase_name(s.phase), s.pass, s.pages_sent,
			   tenths(s.bytes, 1000000).s, s.total_ns / NS_PER_MS);
		if (s.phase == MIG_DONE && !s.incoming)
			con_printf(c, "  downtime %s ms", tenths(s.downtime_ns, NS_PER_MS).s);
		con_printf(c, "%s%s\n", s.error[0] ? "\n             " : "", s.error);
	}
	return 0;
}

static int cmd_end(struct con *c, const char *what, const char *name, int err, const char *why, const char *done)
{
	if (err)
		return con_error(c, err, "%s %s: %s", what, name, why[0] ? why : err_name(err));
	if (c->json) {
		struct json j;
		json_begin(&j, c);
		json_str(&j, "name", name);
		json_str(&j, "result", done);
		json_end(&j);
	} else {
		con_printf(c, "%s: %s\n", name, done);
	}
	return 0;
}

static int cmd_cancel(struct con *c, const char *name)
{
	struct why w = { "" };
	int err = migrate_cancel(name, &w);
	if (!err && migrate_wait(name, time_in_ms(5000)) == -ETIMEDOUT)
		return cmd_end(c, "migrate cancel", name, 0, "", "cancelling");
	return cmd_end(c, "migrate cancel", name, err, w.text, "cancelled");
}

/* ---- records of attempts whose sources may still hold the image ---- */

static int cmd_records(struct con *c)
{
	struct decision d;
	struct json j;
	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "records");
	} else if (!attempt_get(0, &d)) {
		con_printf(c, "no records: nothing is open between this host and others\n");
	} else {
		con_printf(c, "%-16s %-8s %-16s %s\n", "VM", "DECIDED", "SOURCE", "ATTEMPT");
	}
	for (unsigned i = 0; attempt_get(i, &d); i++) {
		const char *was = d.state == RECORD_STARTED ? "started" : "never";
		char id[64];
		sniprintf(id, sizeof(id), "%016lx-%016lx/%lu", d.id.source.host, d.id.source.boot, d.id.number);
		if (c->json) {
			json_obj(&j, NULL);
			json_str(&j, "name", d.vm);
			json_str(&j, "decided", was);
			json_str(&j, "source", ip4_text(d.source).s);
			json_str(&j, "id", id);
			json_obj_end(&j);
		} else {
			con_printf(c, "%-16s %-8s %-16s %s\n", d.vm, was, ip4_text(d.source).s, id);
		}
	}
	if (c->json) {
		json_arr_end(&j);
		json_end(&j);
	}
	return 0;
}

static int cmd_drop(struct con *c, const char *name, bool force)
{
	struct decision d;
	unsigned n = 0;
	for (unsigned i = 0; attempt_get(i, &d);) {
		if (strcmp(d.vm, name)) {
			i++;
			continue;
		}
		n++;
		if (!force)
			return con_error(c, -EPERM,
					 "migrate drop %s: the host at %s may hold an image of it that stands still, "
					 "and only this record says "
					 "what became of it. Dropped, an operator there may start a second copy. If "
					 "you know better: "
					 "migrate drop %s --force",
					 name, ip4_text(d.source).s, name);
		attempt_event(&d.id, RECORD_EV_DROP);
	}
	return cmd_end(c, "migrate drop", name, n ? 0 : -ENOENT,
		       "no record is kept of it. `migrate records` shows them", "dropped");
}

static int cmd_migrate(struct con *c, int argc, char **argv)
{
	if (argc >= 4 && !strcmp(argv[2], "to"))
		return cmd_to(c, argc, argv);
	if (argc == 2 && !strcmp(argv[1], "status"))
		return cmd_status(c);
	if (argc == 3 && !strcmp(argv[1], "cancel"))
		return cmd_cancel(c, argv[2]);
	if (argc == 2 && !strcmp(argv[1], "records"))
		return cmd_records(c);
	bool force = argc == 4 && !strcmp(argv[3], "--force");
	if (argc - force == 3 && !strcmp(argv[1], "drop"))
		return cmd_drop(c, argv[2], force);
	return con_error(c, -EINVAL,
			 "migrate: say what: migrate NAME to PEER, migrate status|records, migrate cancel|drop NAME");
}

struct completion_of {
	void (*add)(void *arg, const char *word);
	void *arg;
};
static void add_name(struct vm *vm, void *arg)
{
	const struct completion_of *x = arg;
	x->add(x->arg, vm->cfg.name);
}

static void complete(int argc, char **argv, void (*add)(void *arg, const char *word), void *arg)
{
	struct completion_of x = { add, arg };
	if (argc == 2) {
		add(arg, "status");
		add(arg, "cancel");
		add(arg, "records");
		add(arg, "drop");
	}
	if (argc == 2 || (argc == 3 && !strcmp(argv[1], "cancel")))
		vm_for_each(add_name, &x);
	else if (argc == 3)
		add(arg, "to");
	else if (argc > 4) {
		add(arg, "--max-downtime");
		add(arg, "--max-passes");
		add(arg, "--detach");
	}
}

CONSOLE_CMD(migrate,
	    "NAME to PEER [--max-downtime MS] [--max-passes N] [--detach] | status | cancel NAME | records | drop NAME "
	    "[--force]",
	    "move running VMs to other hosts", cmd_migrate, complete);
