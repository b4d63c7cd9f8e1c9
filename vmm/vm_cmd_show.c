/* SPDX-License-Identifier: BSD-2-Clause */
/* `vm list` and `vm info`: snapshots, so that nothing is printed under a lock. */
#include "kernel/base/mac.h"
#include "kernel/conf.h"
#include "kernel/time.h"
#include "vmm/boot_file.h"
#include "vmm/migrate/departed.h"
#include "vmm/vm_cmd_show.h"
#include "vmm/vm_console.h"
#include "vmm/x86/vcpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	[EXIT_BUS_LOCK] = "bus_lock",
	[EXIT_RDTSC] = "rdtsc",
	[EXIT_SHUTDOWN] = "shutdown",
	[EXIT_INVALID] = "invalid",
};

const char *vm_cmd_show_exit(unsigned kind) { return exit_names[kind]; }

/* What both `list` and `info` show: a snapshot, so that nothing is printed under a lock. */
struct vm_row {
	char name[VM_NAME_MAX];
	struct vm_said fail, waits_for; /* off: why it has not started yet */
	struct mac_text mac;
	char moved[96]; /* departed: where to and when; then there is nothing else */
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
	r->fail = vm_text_get(&vm->fail);
	r->waits_for = vm_text_get(&vm->waits_for);
	r->mac = mac_text(vm->cfg.mac[0]);
	r->state = vm_state_is_off(st) && __atomic_load_n(&vm->lease, __ATOMIC_RELAXED) == VM_LEASE_ASKING
			   ? "starting"
			   : vm_state_name(st);
	r->mem = vm->cfg.mem;
	r->vcpus = vm->cfg.vcpus;
	r->uptime_ns = vm_state_has_ended(st) || st == VM_INCOMING || !vm->nvcpus ? 0 : time_ns() - vm->start_ns;
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
	out_more(c, "fail|failed", r->fail.s);
	out_more(c, "waits_for|waits", r->waits_for.s);
	out_more(c, "moved", r->moved);
}

/* Those that were sent away: `vm start` can still have them, when their new host is gone. */
static void collect_departed(struct vm_rows *rows)
{
	struct departure d;
	for (unsigned i = 0, own = rows->n; rows->n < rows->max && departed_get(NULL, i, &d); i++) {
		bool listed = false; /* one that serves what has not moved yet */
		for (unsigned k = 0; k < own; k++)
			listed |= !strcmp(rows->row[k].name, d.cfg.name);
		if (listed)
			continue;
		struct vm_row *r = &rows->row[rows->n++];
		char when[16];
		memset(r, 0, sizeof(*r));
		memcpy(r->name, d.cfg.name, sizeof(r->name));
		r->mac = mac_text(d.cfg.mac[0]);
		departed_when(&d, when);
		sniprintf(r->moved, sizeof(r->moved), "to %s%s", d.host, when);
		r->state = "moved";
		r->mem = d.cfg.mem;
		r->vcpus = d.cfg.vcpus;
	}
}

int vm_cmd_show_list(struct con *c, int argc unused, char **argv unused)
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
		  "no VMs: tern.conf has none, or they were forgotten until the next boot");
	for (unsigned i = 0; i < rows.n; i++) {
		out_row(c);
		show_row(c, &rows.row[i]);
		out_row_end(c);
	}
	out_table_end(c);
	free(rows.row);
	return 0;
}

struct vm_detail {
	struct vm_row row;
	uint64_t exits[ARRAY_SIZE(exit_names)];
	uint64_t console_bytes, unclaimed, splits;
	bool tracking;
	const char *boot_files;
};

/* Where its kernel is, which the next power-on takes; an initrd is there, too. */
static const char *boot_files(struct vm *vm)
{
	struct boot_file *f = vm_get_file(vm, VM_KERNEL);
	if (!f)
		f = boot_file_named(vm_file_name(vm, VM_KERNEL));
	const char *where = !f ? "missing" : f->name ? "of this host" : "came with it";
	boot_file_put(f);
	return where;
}

static void detail_fill(struct vm_detail *d, struct vm *vm)
{
	uint8_t none[1];
	memset(d, 0, sizeof(*d));
	row_fill(&d->row, vm);
	d->boot_files = boot_files(vm);
	vm_console_tail(vm, none, 0, &d->console_bytes);
	mutex_lock(&vm->lock); /* vCPUs and memory stay */
	for (unsigned i = 0; vm->vcpus && i < vm->nvcpus; i++)
		for (unsigned k = 0; vm->vcpus[i] && k < ARRAY_SIZE(exit_names); k++)
			d->exits[k] += __atomic_load_n(&vm->vcpus[i]->exits[k], __ATOMIC_RELAXED);
	d->unclaimed = vm->machine.bus.unclaimed;
	d->tracking = __atomic_load_n(&vm->mem.tracking, __ATOMIC_RELAXED);
	d->splits = __atomic_load_n(&vm->mem.splits, __ATOMIC_RELAXED);
	mutex_unlock(&vm->lock);
}

/* Of the configuration, what is not in the row as a number. */
static void show_key(void *c, const struct conf_key *k, const char *value)
{
	if (k->type == &conf_type_str || k->type == &conf_type_choice || k->type == &conf_type_uuid ||
	    k->type == &conf_type_nic_choice || k->type == &conf_type_nic_ips || k->type == &conf_type_names)
		out_str(c, k->key, value);
	else if (k->type == &conf_type_macs && strchr(value, ','))
		out_str(c, "macs", value);
}

static void show_detail(struct con *c, const struct vm *vm, const struct vm_detail *d)
{
	show_row(c, &d->row);
	out_u64(c, "weight", vm_config_weight(&vm->cfg));
	conf_show(&vm_conf_table, &vm->cfg, show_key, c);
	out_str(c, "boot_files|boot files", d->boot_files);
	out_bool(c, "dirty_tracking", d->tracking);
	out_u64(c, "page_splits", d->splits);
	out_bytes(c, "console_bytes", d->console_bytes);
	out_u64(c, "unclaimed_accesses|bus, unclaimed", d->unclaimed);
	out_u64(c, "halt_polls", __atomic_load_n(&vm->halt.polls, __ATOMIC_RELAXED));
	out_u64(c, "halt_polls_woken|- woken", __atomic_load_n(&vm->halt.woken, __ATOMIC_RELAXED));
	out_words(c, "exits");
	for (unsigned k = 0; k < ARRAY_SIZE(exit_names); k++)
		out_u64(c, exit_names[k], d->exits[k]);
	out_words_end(c);
}

int vm_cmd_show_info(struct con *c, struct vm *vm)
{
	struct vm_detail d;
	detail_fill(&d, vm);
	show_detail(c, vm, &d);
	return 0;
}
