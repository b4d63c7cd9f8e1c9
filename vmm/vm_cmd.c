/* SPDX-License-Identifier: BSD-2-Clause */
/* `vm`: what the operator does with virtual machines on this host. Moving them is `migrate`'s. */
#include "kernel/console.h"
#include "kernel/base/mac.h"
#include "kernel/time.h"
#include "vmm/pc/machine.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migrate.h"
#include "vmm/x86/vcpu.h"
#include "vmm/vm_console.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CTRL_C 3

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

static void json_row(struct json *j, const struct vm_row *r)
{
	json_str(j, "name", r->name);
	json_str(j, "state", r->state);
	json_u64(j, "vcpus", r->vcpus);
	json_u64(j, "memory_bytes", r->mem);
	json_str(j, "mac", r->mac.s);
	json_u64(j, "uptime_ms", r->uptime_ns / NS_PER_MS);
	json_bool(j, "migrating", r->migrating);
	if (r->fail[0])
		json_str(j, "fail", r->fail);
	if (r->waits_for[0])
		json_str(j, "waits_for", r->waits_for);
	if (r->moved[0])
		json_str(j, "moved", r->moved);
}

static void uptime_text(char *buf, size_t n, uint64_t ns)
{
	uint64_t s = ns / NS_PER_SEC;

	if (!ns)
		sniprintf(buf, n, "-");
	else if (s >= 86400)
		sniprintf(buf, n, "%lud %02lu:%02lu:%02lu", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60);
	else
		sniprintf(buf, n, "%02lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
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

static int cmd_list(struct con *c)
{
	struct vm_rows rows = { 0 };
	char up[32];

	vm_for_each(row_collect, &rows);
	rows.max = rows.n + departed_count() + 8; /* some may appear meanwhile */
	rows.n = 0;
	rows.row = calloc(rows.max, sizeof(*rows.row));
	if (!rows.row)
		return con_error(c, -ENOMEM, "vm list: out of memory");
	vm_for_each(row_collect, &rows);
	collect_departed(&rows);

	if (c->json) {
		struct json j;
		json_begin(&j, c);
		json_arr(&j, "vms");
		for (unsigned i = 0; i < rows.n; i++) {
			json_obj(&j, NULL);
			json_row(&j, &rows.row[i]);
			json_obj_end(&j);
		}
		json_arr_end(&j);
		json_end(&j);
	} else {
		con_printf(c, "%-16s %-13s %5s %10s  %-17s %s\n", "NAME", "STATE", "VCPUS", "MEMORY", "MAC", "UP");
		for (unsigned i = 0; i < rows.n; i++) {
			const struct vm_row *r = &rows.row[i];
			uptime_text(up, sizeof(up), r->uptime_ns);
			con_printf(c, "%-16s %-13s %5u %6lu MiB  %-17s %s%s\n", r->name, r->state, (unsigned)r->vcpus,
				   r->mem >> 20, r->mac.s, up, r->migrating ? "  migrating" : "");
			if (r->moved[0] || r->waits_for[0])
				con_printf(c, "%16s %s\n", "", r->moved[0] ? r->moved : r->waits_for);
		}
		if (!rows.n)
			con_printf(c, "no VMs: add a [vm NAME] section to tern.conf\n");
	}
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
static void config_json(void *j, const struct conf_key *k, const char *value)
{
	if (k->type == &conf_type_str || k->type == &conf_type_choice)
		json_str(j, k->key, value);
}

static void config_text(void *c, const struct conf_key *k, const char *value)
{
	con_printf(c, "%-10s %s\n", k->key, value[0] ? value : "-");
}

static void info_json(struct con *c, const struct vm *vm, const struct vm_detail *d)
{
	struct json j;

	json_begin(&j, c);
	json_row(&j, &d->row);
	json_str(&j, "uuid", d->uuid);
	conf_show(&vm_conf_table, &vm->cfg, config_json, &j);
	json_bool(&j, "dirty_tracking", d->tracking);
	json_u64(&j, "page_splits", d->splits);
	json_u64(&j, "console_bytes", d->console_bytes);
	json_u64(&j, "unclaimed_accesses", d->unclaimed);
	json_obj(&j, "exits");
	for (unsigned k = 0; k < ARRAY_SIZE(exit_names); k++)
		json_u64(&j, exit_names[k], d->exits[k]);
	json_obj_end(&j);
	json_end(&j);
}

static void info_text(struct con *c, const struct vm *vm, const struct vm_detail *d)
{
	const struct vm_row *r = &d->row;
	char up[32];

	uptime_text(up, sizeof(up), r->uptime_ns);
	con_printf(c, "%-10s %s\n%-10s %s%s\n", "name", r->name, "state", r->state, r->migrating ? ", migrating" : "");
	if (r->fail[0])
		con_printf(c, "%-10s %s\n", vm->state == VM_MISCONFIGURED ? "wrong" : "failed", r->fail);
	if (r->waits_for[0])
		con_printf(c, "%-10s %s\n", "waits", r->waits_for);
	con_printf(c, "%-10s %s\n%-10s %s\n", "up", up, "uuid", d->uuid);
	conf_show(&vm_conf_table, &vm->cfg, config_text, c);
	con_printf(c, "%-10s %lu bytes said\n", "console", d->console_bytes);
	con_printf(c, "%-10s %s, %lu large pages split so far\n", "tracking", d->tracking ? "on" : "off", d->splits);
	if (!vm->nvcpus)
		return; /* off: nothing below was counted */
	con_printf(c, "%-10s", "exits");
	for (unsigned k = 0; k < ARRAY_SIZE(exit_names); k++)
		if (d->exits[k])
			con_printf(c, " %s %lu", exit_names[k], d->exits[k]);
	con_printf(c, "\n");
	if (d->unclaimed)
		con_printf(c, "%-10s %lu accesses that no device answered\n", "bus", d->unclaimed);
}

static int cmd_info(struct con *c, struct vm *vm, bool force unused)
{
	struct vm_detail d;

	detail_fill(&d, vm);
	if (c->json)
		info_json(c, vm, &d);
	else
		info_text(c, vm, &d);
	return 0;
}

/* The answer to a command that changed the VM: its name and state now. */
static int answer(struct con *c, struct vm *vm, const char *did)
{
	struct json j;

	if (!c->json) {
		con_printf(c, "%s: %s\n", vm->cfg.name, did);
		return 0;
	}
	json_begin(&j, c);
	json_str(&j, "name", vm->cfg.name);
	json_str(&j, "state",
		 departed_get(vm->cfg.name, 0, NULL) ? "moved"
						     : vm_state_name(__atomic_load_n(&vm->state, __ATOMIC_RELAXED)));
	json_end(&j);
	return 0;
}

/* For who looks on: what the start waits for, and the way out. */
static bool start_waits(void *arg, const char *waits_for)
{
	struct con *c = arg;
	if (!c->json)
		con_printf(c, "\rstarting (%.64s)\033[K", waits_for);
	return c->getc(c, time_ns()) == CTRL_C;
}

static int cmd_start(struct con *c, struct vm *vm, bool force)
{
	struct why w = { "" };
	int err = vm_start_here(vm, force, &(struct vm_waiter){ start_waits, c }, &w);

	if (!c->json)
		con_printf(c, "\r\033[K");
	if (err == -EEXIST)
		return con_error(c, err, "vm start %s: %s. Move it from there, or stop it there", vm->cfg.name, w.text);
	if (err == -EAGAIN || (err == -EBUSY && vm->waits_for[0]))
		return con_error(c, err, "vm start %s: %s. When you are sure that no host runs it: vm start %s --force",
				 vm->cfg.name, w.text, vm->cfg.name);
	if (err)
		return con_error(c, err, "vm start %s: %s", vm->cfg.name, w.text[0] ? w.text : err_name(err));
	return answer(c, vm, "started");
}

static int cmd_stop(struct con *c, struct vm *vm, bool force unused)
{
	struct why w = { "" };
	int err = vm_stop(vm, &w);

	if (err)
		return con_error(c, err, "vm stop %s: %s", vm->cfg.name, w.text[0] ? w.text : err_name(err));
	return answer(c, vm, "stopped");
}

/* Have the task of an undecided VM do the operator's word, and wait for it. */
static int decide(struct con *c, struct vm *vm, const char *verb, int (*word)(const char *, bool, struct why *),
		  bool force)
{
	struct why w = { "" };
	int err = word(vm->cfg.name, force, &w);

	if (!err) /* a round of questions that is under way is not broken off */
		err = migrate_wait(vm->cfg.name, time_in_ms(20000));
	if (err == -ETIMEDOUT)
		return con_error(c, err,
				 "vm %s %s: noted, and done when the questions under way have ended: `migrate status`",
				 verb, vm->cfg.name);
	return err ? con_error(c, err, "vm %s %s: %s", verb, vm->cfg.name, w.text[0] ? w.text : err_name(err)) : 0;
}

/* So that it can come from the peer that has it; or what is left here of one that is known to be elsewhere. */
static int cmd_forget(struct con *c, struct vm *vm, bool force)
{
	struct why w = { "" };
	int err;

	if (__atomic_load_n(&vm->state, __ATOMIC_RELAXED) == VM_UNDECIDED) {
		err = decide(c, vm, "forget", migrate_forget, force);
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
static int forget_departed(struct con *c, const char *name, bool force)
{
	struct departure d = { 0 };
	char when[16];

	if (!force && departed_get(name, 0, &d)) {
		departed_when(&d, when);
		return con_error(c, -EBUSY,
				 "vm forget %s: it has moved to %s%s, and whoever looks for it is told so here. When "
				 "that host is gone for good: vm forget %s --force",
				 name, d.host, when, name);
	}
	departed_remove(name);
	if (c->json) {
		struct json j;
		json_begin(&j, c);
		json_str(&j, "name", name);
		json_end(&j);
	} else {
		con_printf(c, "%s: nothing is known of it here\n", name);
	}
	return 0;
}

/* For scripts: what the guest said last, as text. */
static int console_json(struct con *c, struct vm *vm)
{
	char *text = malloc(VM_CONSOLE_RING + 1);
	uint64_t total;
	struct json j;

	if (!text)
		return con_error(c, -ENOMEM, "vm console %s: out of memory", vm->cfg.name);
	size_t n = vm_console_tail(vm, (uint8_t *)text, VM_CONSOLE_RING, &total), k = 0;
	for (size_t i = 0; i < n; i++)
		if (text[i])
			text[k++] = text[i];
	text[k] = '\0';
	json_begin(&j, c);
	json_str(&j, "name", vm->cfg.name);
	json_u64(&j, "console_bytes", total);
	json_str(&j, "tail", text);
	json_end(&j);
	free(text);
	return 0;
}

static int cmd_console(struct con *c, struct vm *vm, bool force unused)
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
static int cmd_claim(struct con *c, struct vm *vm, bool force)
{
	int err = decide(c, vm, "claim", migrate_claim, force);

	if (err)
		return err;
	if (vm->gone)
		return answer(c, vm, "it runs elsewhere, as we now know: the image here was dropped");
	return answer(c, vm, "claimed");
}

static const struct {
	const char *name;
	int (*fn)(struct con *c, struct vm *vm, bool force); /* NULL: `list` */
	bool may_force;
} subs[] = {
	{ "list", NULL, false },        { "info", cmd_info, false },       { "start", cmd_start, true },
	{ "stop", cmd_stop, false },    { "console", cmd_console, false }, { "claim", cmd_claim, true },
	{ "forget", cmd_forget, true },
};

static int cmd_vm(struct con *c, int argc, char **argv)
{
	for (unsigned i = 0; argc >= 2 && i < ARRAY_SIZE(subs); i++) {
		if (strcmp(argv[1], subs[i].name))
			continue;
		bool force = subs[i].may_force && argc == 4 && !strcmp(argv[3], "--force");
		if (argc - force != (subs[i].fn ? 3 : 2))
			return con_error(c, -EINVAL, "vm %s: %s", argv[1],
					 subs[i].fn ? "give the name of one VM" : "takes no name");
		if (!subs[i].fn)
			return cmd_list(c);
		struct vm *vm = vm_get(argv[2]);
		if (!vm && subs[i].fn == cmd_forget && departed_get(argv[2], 0, NULL))
			return forget_departed(c, argv[2], force);
		bool departed = !vm && subs[i].fn == cmd_start && (vm = departed_restore(argv[2]));
		if (!vm)
			return con_error(c, -ENOENT, "vm %s: there is no VM %s here. `vm list` shows them", argv[1],
					 argv[2]);
		int err = subs[i].fn(c, vm, force);
		if (err && departed)
			(void)vm_remove(vm, NULL); /* it is elsewhere, and comes home without being in its own way */
		vm_put(vm);
		return err;
	}
	return con_error(c, -EINVAL, "vm: say what: vm list, or vm info|start|stop|console|claim|forget NAME");
}

struct completion_ctx {
	void (*add)(void *arg, const char *word);
	void *arg;
};

static void complete_name(struct vm *vm, void *arg)
{
	struct completion_ctx *x = arg;
	x->add(x->arg, vm->cfg.name);
}

static void complete_vm(int argc, char **argv, void (*add)(void *arg, const char *word), void *arg)
{
	if (argc == 2)
		for (unsigned i = 0; i < ARRAY_SIZE(subs); i++)
			add(arg, subs[i].name);
	if (argc == 3 && strcmp(argv[1], "list"))
		vm_for_each(complete_name, &(struct completion_ctx){ add, arg });
}

CONSOLE_CMD(vm,
	    "list | info NAME | start NAME [--force] | stop NAME | console NAME | claim NAME [--force] | forget NAME "
	    "[--force]",
	    "virtual machines on this host", cmd_vm, complete_vm);
