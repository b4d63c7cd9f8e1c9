/* SPDX-License-Identifier: BSD-2-Clause */
/* `vm`: what the operator does with virtual machines on this host. Moving them is `migrate`'s. */
#include "kernel/base/mac.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/pc/machine.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migrate.h"
#include "vmm/x86/vcpu.h"
#include "vmm/vm_console.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHUTDOWN_MS     (60 * 1000)
#define SHUTDOWN_MAX_MS (60 * 60 * 1000)

static const char *const exit_names[] = {
	[EXIT_HOST_IRQ] = "host_irq",
	[EXIT_HANDLED] = "handled",
	[EXIT_CPUID] = "cpuid",
	[EXIT_MSR] = "msr",
	[EXIT_IO] = "io",
	[EXIT_NPF] = "npf",
	[EXIT_HLT] = "hlt",
	[EXIT_VMCALL] = "vmcall",
	[EXIT_IRQ_WINDOW] = "irq_window",
	[EXIT_XSETBV] = "xsetbv",
	[EXIT_EXCEPTION] = "exception",
	[EXIT_CACHE] = "cache",
	[EXIT_UNDEFINED] = "undefined",
	[EXIT_PRIVILEGED] = "privileged",
	[EXIT_PAUSE] = "pause",
	[EXIT_RDTSC] = "rdtsc",
	[EXIT_SHUTDOWN] = "shutdown",
	[EXIT_INVALID] = "invalid",
};

/* What both `list` and `info` show: a snapshot, so that nothing is printed under a lock. */
struct vm_row {
	char name[VM_NAME_MAX], fail[CONF_WRONG_MAX];
	struct mac_text mac;
	char waits_for[160]; /* off: why it has not started yet */
	char moved[96];      /* departed: where to and when; then there is nothing else */
	const char *state;
	uint64_t mem, uptime_ns; /* uptime: since it started or arrived here; 0: off */
	uint32_t vcpus;
	bool migrating;
};
struct vm_rows {
	struct vm_row *row; /* NULL: count only */
	unsigned n, max;
};

static void row_fill(struct vm_row *r, struct vm *vm)
{
	enum vm_state st = __atomic_load_n(&vm->state, __ATOMIC_RELAXED);

	memcpy(r->name, vm->cfg.name, sizeof(r->name));
	memcpy(r->fail, vm->fail, sizeof(r->fail));
	r->fail[sizeof(r->fail) - 1] = '\0';
	memcpy(r->waits_for, vm->waits_for, sizeof(r->waits_for));
	r->waits_for[sizeof(r->waits_for) - 1] = '\0';
	r->mac = mac_text(vm->cfg.mac);
	r->state = vm_state_is_off(st) && __atomic_load_n(&vm->lease, __ATOMIC_RELAXED) == VM_LEASE_ASKING
			   ? "starting"
			   : vm_state_name(st);
	r->mem = vm->cfg.mem;
	r->vcpus = vm->cfg.vcpus;
	r->uptime_ns = vm_state_is_off(st) || st == VM_INCOMING ? 0 : time_ns() - vm->start_ns;
	r->migrating = vm_is_migrating(vm);
}

static void row_collect(struct vm *vm, void *arg)
{
	struct vm_rows *rows = arg;
	if (rows->row && rows->n < rows->max)
		row_fill(&rows->row[rows->n], vm);
	if (!rows->row || rows->n < rows->max)
		rows->n++;
}

static void show_row(struct con *c, const struct vm_row *r)
{
	out_str(c, "name", r->name);
	out_str(c, "state|", r->state);
	out_line(c, "state", "%s", r->migrating && !strcmp(r->state, "running") ? "migrating" : r->state);
	out_u64(c, "vcpus", r->vcpus);
	out_bytes(c, "memory_bytes", r->mem);
	out_str(c, "mac", r->mac.s);
	out_ms(c, "uptime_ms|up", r->uptime_ns);
	out_bool(c, "migrating", r->migrating);
	out_more(c, "fail|failed", r->fail);
	out_more(c, "waits_for|waits", r->waits_for);
	out_more(c, "moved", r->moved);
}

/* Those that were sent away: `vm start` can still have them, when their new host is gone. */
static void collect_departed(struct vm_rows *rows)
{
	struct departure d;
	for (unsigned i = 0; rows->n < rows->max && departed_get(NULL, i, &d); i++) {
		struct vm_row *r = &rows->row[rows->n++];
		char when[16];
		memset(r, 0, sizeof(*r));
		memcpy(r->name, d.cfg.name, sizeof(r->name));
		r->mac = mac_text(d.cfg.mac);
		departed_when(&d, when);
		sniprintf(r->moved, sizeof(r->moved), "to %s%s", d.host, when);
		r->state = "moved";
		r->mem = d.cfg.mem;
		r->vcpus = d.cfg.vcpus;
	}
}

static int cmd_list(struct con *c, int argc unused, char **argv unused)
{
	struct vm_rows rows = { 0 };

	vm_for_each(row_collect, &rows);
	rows.max = rows.n + departed_count() + 8; /* some may appear meanwhile */
	rows.n = 0;
	rows.row = calloc(rows.max, sizeof(*rows.row));
	if (!rows.row)
		return con_error(c, -ENOMEM, "vm list: out of memory");
	vm_for_each(row_collect, &rows);
	collect_departed(&rows);

	out_table(c, "vms", "-14 name, -13 state, 5 vcpus, 9 memory_bytes, -17 mac, -11 uptime_ms|up",
		  "no VMs: add a [vm NAME] section to tern.conf");
	for (unsigned i = 0; i < rows.n; i++) {
		out_row(c);
		show_row(c, &rows.row[i]);
		out_row_end(c);
	}
	out_table_end(c);
	free(rows.row);
	return 0;
}

static void uuid_text(char out[37], const uint8_t u[16])
{
	sniprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2],
		  u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

struct vm_detail {
	struct vm_row row;
	char uuid[37];
	uint64_t exits[ARRAY_SIZE(exit_names)];
	uint64_t console_bytes, unclaimed, splits;
	bool tracking;
};

static void detail_fill(struct vm_detail *d, struct vm *vm)
{
	uint8_t none[1];

	memset(d, 0, sizeof(*d));
	row_fill(&d->row, vm);
	uuid_text(d->uuid, vm->cfg.uuid);
	vm_console_tail(vm, none, 0, &d->console_bytes);
	mutex_lock(&vm->lock); /* vCPUs and memory stay */
	for (unsigned i = 0; vm->vcpus && i < vm->nvcpus; i++)
		for (unsigned k = 0; vm->vcpus[i] && k < ARRAY_SIZE(exit_names); k++)
			d->exits[k] += __atomic_load_n(&vm->vcpus[i]->exits[k], __ATOMIC_RELAXED);
	d->unclaimed = vm->machine.bus.unclaimed;
	d->tracking = vm->mem.tracking;
	d->splits = vm->mem.splits;
	mutex_unlock(&vm->lock);
}

/* Of the configuration, what is not in the row as a number. */
static void show_key(void *c, const struct conf_key *k, const char *value)
{
	if (k->type == &conf_type_str || k->type == &conf_type_choice)
		out_str(c, k->key, value);
}

static void show_detail(struct con *c, const struct vm *vm, const struct vm_detail *d)
{
	show_row(c, &d->row);
	out_str(c, "uuid", d->uuid);
	conf_show(&vm_conf_table, &vm->cfg, show_key, c);
	out_bool(c, "dirty_tracking", d->tracking);
	out_u64(c, "page_splits", d->splits);
	out_bytes(c, "console_bytes", d->console_bytes);
	out_u64(c, "unclaimed_accesses|bus, unclaimed", d->unclaimed);
	out_words(c, "exits");
	for (unsigned k = 0; k < ARRAY_SIZE(exit_names); k++)
		out_u64(c, exit_names[k], d->exits[k]);
	out_words_end(c);
}

static int do_info(struct con *c, struct vm *vm)
{
	struct vm_detail d;

	detail_fill(&d, vm);
	show_detail(c, vm, &d);
	return 0;
}

/* The answer to a command that changed the VM: its name and state now. */
static int answer(struct con *c, struct vm *vm, const char *did)
{
	out_str(c, "name|", vm->cfg.name);
	out_str(c, "state|",
		departed_get(vm->cfg.name, 0, NULL) ? "moved"
						    : vm_state_name(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)));
	out_text(c, "%s: %s\n", vm->cfg.name, did);
	return 0;
}

/* For who looks on: what the start waits for, and the way out. */
static bool start_waits(void *arg, const char *waits_for)
{
	struct con *c = arg;
	out_text(c, "\rstarting (%.64s)\033[K", waits_for);
	return c->interrupted(c);
}

static int do_start(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	int err = vm_start_here(vm, con_opt(c, "--force"), &(struct vm_waiter){ start_waits, c }, &w);

	out_text(c, "\r\033[K");
	if (err == -EEXIST)
		return con_error(c, err, "vm start %s: %s. Move it from there, or stop it there", vm->cfg.name, w.text);
	if (err == -EAGAIN || (err == -EBUSY && vm->waits_for[0]))
		return con_error(c, err, "vm start %s: %s. When you are sure that no host runs it: vm start %s --force",
				 vm->cfg.name, w.text, vm->cfg.name);
	if (err)
		return con_error(c, err, "vm start %s: %s", vm->cfg.name, w.text[0] ? w.text : err_name(err));
	return answer(c, vm, "started");
}

static int do_kill(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	int err = vm_stop(vm, &w);

	return err ? con_error(c, err, "vm kill %s: %s", vm->cfg.name, w.text) : answer(c, vm, "stopped");
}

/* Press the power button, and wait until it is off: 0, or why not. */
static int press_and_wait(struct con *c, struct vm *vm, uint64_t ms, struct why *w)
{
	uint64_t begin = time_ns(), end = begin + ms * NS_PER_MS;
	int err = vm_press_power(vm, w);

	while (!err && !vm_state_is_off(vm_state_now(vm))) {
		if (time_ns() >= end)
			err = why_set(w, -ETIMEDOUT, "its guest has not shut down within %s, and runs on",
				      out_span(ms * NS_PER_MS).s);
		else if (c->interrupted(c))
			err = why_set(w, -EINTR, "its guest was asked to, and may still shut down");
		out_text(c, "\rshutting down (%s)\033[K", out_span(time_ns() - begin).s);
		task_sleep_until(time_in_ms(100));
	}
	out_text(c, "\r\033[K");
	if (!err && vm->gone)
		err = why_set(w, -ENOENT, "it has moved meanwhile: `migrate status` says where to. Shut it down there");
	else if (!err && vm_state_now(vm) != VM_STOPPED)
		err = why_set(w, -EIO, "%s", vm->fail);
	return err;
}

/* cut: what cannot or does not shut down has its power cut. */
static int switch_off(struct con *c, struct vm *vm, bool cut)
{
	struct why w = { "" };
	const char *given = con_opt(c, "--timeout");
	uint64_t ms = SHUTDOWN_MS;

	if (given && conf_parse_ms(given, SHUTDOWN_MAX_MS, &ms))
		return con_error(c, -EINVAL, "vm: --timeout %s: give a time up to 60m, as 90s", given);
	if (cut && vm_state_now(vm) != VM_RUNNING)
		return do_kill(c, vm);
	int err = press_and_wait(c, vm, ms, &w);
	if (!err)
		return answer(c, vm, "shut down");
	if (err != -ETIMEDOUT && err != -ENOTSUP)
		return con_error(c, err, "vm: %s: %s", vm->cfg.name, w.text);
	if (!cut)
		return con_error(c, err, "vm shutdown %s: %s. `vm kill %s` cuts its power", vm->cfg.name, w.text,
				 vm->cfg.name);
	out_text(c, "%s: %s: its power is cut\n", vm->cfg.name, w.text);
	return do_kill(c, vm);
}
static int do_shutdown(struct con *c, struct vm *vm) { return switch_off(c, vm, false); }
static int do_stop(struct con *c, struct vm *vm) { return switch_off(c, vm, true); }

/* Have the task of an undecided VM do the operator's word, and wait for it. */
static int decide(struct con *c, struct vm *vm, const char *verb, int (*word)(const char *, bool, struct why *))
{
	struct why w = { "" };
	int err = word(vm->cfg.name, con_opt(c, "--force"), &w);

	if (!err) /* a round of questions that is under way is not broken off */
		err = migrate_wait(vm->cfg.name, time_in_ms(20000));
	if (err == -ETIMEDOUT)
		return con_error(c, err,
				 "vm %s %s: noted, and done when the questions under way have ended: `migrate status`",
				 verb, vm->cfg.name);
	return err ? con_error(c, err, "vm %s %s: %s", verb, vm->cfg.name, w.text[0] ? w.text : err_name(err)) : 0;
}

/* So that it can come from the peer that has it; or what is left here of one that is known to be elsewhere. */
static int do_forget(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	int err;

	if (__atomic_load_n(&vm->state, __ATOMIC_RELAXED) == VM_UNDECIDED) {
		err = decide(c, vm, "forget", migrate_forget);
		if (!err && !vm->gone)
			err = con_error(c, -EBUSY, "vm forget %s: it was decided meanwhile, and goes on here",
					vm->cfg.name);
		return err ? err
			   : answer(c, vm,
				    "its image here is gone; `vm list` still says where it went, until it is forgotten "
				    "again");
	}
	err = vm_remove(vm, &w);
	if (err)
		return con_error(c, err, "vm forget %s: %s", vm->cfg.name, w.text);
	return answer(c, vm, "forgotten until this host is restarted");
}

/* One that was sent away: whoever looks for it is no longer told where it went. */
static int forget_departed(struct con *c, const char *name)
{
	struct departure d = { 0 };
	char when[16];

	if (!con_opt(c, "--force") && departed_get(name, 0, &d)) {
		departed_when(&d, when);
		return con_error(c, -EBUSY,
				 "vm forget %s: it has moved to %s%s, and whoever looks for it is told so here. When "
				 "that host is gone for good: vm forget %s --force",
				 name, d.host, when, name);
	}
	departed_remove(name);
	out_str(c, "name|", name);
	out_text(c, "%s: nothing is known of it here\n", name);
	return 0;
}

/* For scripts: what the guest said last, as text. */
static int console_json(struct con *c, struct vm *vm)
{
	char *text = malloc(VM_CONSOLE_RING + 1);
	uint64_t total;

	if (!text)
		return con_error(c, -ENOMEM, "vm console %s: out of memory", vm->cfg.name);
	size_t n = vm_console_tail(vm, (uint8_t *)text, VM_CONSOLE_RING, &total), k = 0;
	for (size_t i = 0; i < n; i++)
		if (text[i])
			text[k++] = text[i];
	text[k] = '\0';
	out_str(c, "name", vm->cfg.name);
	out_u64(c, "console_bytes", total);
	out_str(c, "tail", text);
	free(text);
	return 0;
}

static int do_console(struct con *c, struct vm *vm)
{
	if (c->json)
		return console_json(c, vm);
	int err = vm_console_attach(vm, c);
	if (err == -EBUSY)
		return con_error(c, err, "vm console %s: another operator is attached. Leave it there first (Ctrl-])",
				 vm->cfg.name);
	if (err == -ENODEV)
		return con_error(c, err, "vm console %s: it has no console while it is off. `vm start %s` first",
				 vm->cfg.name, vm->cfg.name);
	return err ? con_error(c, err, "vm console %s: %s", vm->cfg.name, err_name(err)) : 0;
}

/* Take back a VM whose migration got no answer to COMMIT (doc/handover.md). */
static int do_claim(struct con *c, struct vm *vm)
{
	int err = decide(c, vm, "claim", migrate_claim);

	if (err)
		return err;
	if (vm->gone)
		return answer(c, vm, "it runs elsewhere, as we now know: the image here was dropped");
	return answer(c, vm, "claimed");
}

static int with_vm(struct con *c, char **argv, int (*fn)(struct con *c, struct vm *vm))
{
	struct vm *vm = vm_get(argv[1]);
	if (!vm && fn == do_forget && departed_get(argv[1], 0, NULL))
		return forget_departed(c, argv[1]);
	bool departed = !vm && fn == do_start && (vm = departed_restore(argv[1]));
	if (!vm)
		return con_error(c, -ENOENT, "vm: there is no VM %s here. `vm list` shows them", argv[1]);
	int err = fn(c, vm);
	if (err && departed)
		(void)vm_remove(vm, NULL); /* it is elsewhere, and comes home without being in its own way */
	vm_put(vm);
	return err;
}
static int cmd_info(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_info); }
static int cmd_start(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_start); }
static int cmd_shutdown(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_shutdown); }
static int cmd_stop(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_stop); }
static int cmd_kill(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_kill); }
static int cmd_console(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_console); }
static int cmd_claim(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_claim); }
static int cmd_forget(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_forget); }

static void running(struct vm *vm, void *arg)
{
	enum vm_state s = __atomic_load_n(&vm->state, __ATOMIC_RELAXED);
	if (s == VM_RUNNING || s == VM_PAUSED)
		(void)why_set(arg, -EBUSY, "%s runs here: move it away, or stop it", vm->cfg.name);
}

int vm_may_leave(struct why *w)
{
	vm_for_each(running, w);
	int err = w->text[0] ? -EBUSY : migrate_may_leave(w);
	if (!err)
		vm_for_each(running, w); /* that took its time: one may have come */
	return w->text[0] ? -EBUSY : err;
}

struct completion_ctx {
	void (*add)(void *arg, const char *word);
	void *arg;
};

static void add_name(struct vm *vm, void *arg)
{
	struct completion_ctx *x = arg;
	x->add(x->arg, vm->cfg.name);
}

void vm_words(const char *what unused, void (*add)(void *arg, const char *word), void *arg)
{
	vm_for_each(add_name, &(struct completion_ctx){ add, arg });
}

static const struct con_sub subs[] = {
	{ "list", "", "those that are here, and where those went that have moved", cmd_list, NULL, false },
	{ "info", "NAME", "its configuration, state, and why it failed", cmd_info, vm_words, false },
	{ "start", "NAME [--force]", "boot it, once no peer has it; --force: asking nobody", cmd_start, vm_words,
	  false },
	{ "shutdown", "NAME [--timeout TIME]", "press its power button, and wait until it is off (60s)", cmd_shutdown,
	  vm_words, true },
	{ "stop", "NAME [--timeout TIME]", "shutdown, then kill", cmd_stop, vm_words, true },
	{ "kill", "NAME", "cut its power", cmd_kill, vm_words, true },
	{ "console", "NAME", "its serial console; Ctrl-] leaves", cmd_console, vm_words, false },
	{ "claim", "NAME [--force]", "an undecided VM goes on here", cmd_claim, vm_words, true },
	{ "forget", "NAME [--force]", "what is here of one that is elsewhere", cmd_forget, vm_words, true },
};
CONSOLE_CMDS(vm, "virtual machines on this host", "vm start demo", subs);
