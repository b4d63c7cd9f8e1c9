/* SPDX-License-Identifier: BSD-2-Clause */
/* The console's commands about the host itself: host, tasks, log, poweroff, reboot. */
#include "kernel/acpi_host.h"
#include "kernel/console.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/malloc.h"
#include "kernel/page.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include <stdio.h>
#include <string.h>

struct host_info host_info;
int (*host_may_leave)(struct why *w);

static void show_features(struct con *c, const struct host_info *h)
{
	char text[2][400] = { "", "" }; /* those that it lacks; those that it has, with a * if tern uses them */
	out_list(c, "virtualisation_features");
	for (unsigned i = 0; i < h->nhv_features; i++) {
		const struct host_hv_feature *f = &h->hv_feature[i];
		char *t = text[f->present];
		out_row(c);
		out_str(c, "name|", f->name);
		out_bool(c, "present|", f->present);
		out_bool(c, "used|", f->used);
		out_row_end(c);
		sniprintf(t + strlen(t), sizeof(text[0]) - strlen(t), "%s%s%s", *t ? " " : "", f->name,
			  f->used ? "*" : "");
	}
	out_list_end(c);
	if (h->nhv_features) {
		out_line(c, "has", "%s (*: tern uses it)", text[1]);
		out_line(c, "lacks", "%s", text[0]);
	}
}

void host_address_show(struct con *c, const struct host_address *a)
{
	out_str(c, "address|", a->address);
	out_str(c, "address_wanted|", a->wanted);
	out_str(c, "address_state|", a->state);
	out_str(c, "conflict_with|", a->other);
	if (a->address[0])
		out_line(c, "address", "%s", a->address);
	else if (a->other[0])
		out_line(c, "no address", "%s: conflict with %s, which has it too; not used", a->wanted, a->other);
	else if (a->wanted[0])
		out_line(c, "no address", "%s: %s", a->wanted, a->no_link ? "no link" : "probing, not used yet");
	else if (!strcmp(a->state, "probing"))
		out_line(c, "no address", "no address yet: no answer from DHCP");
	else if (!strcmp(a->state6, "none"))
		out_line(c, "no address", "none");
	out_str(c, "address6|", a->address6);
	out_str(c, "address6_state|", a->state6);
	if (!strcmp(a->state6, "conflict"))
		out_line(c, "no address", "%s: conflict with another host, which has it too; not used", a->address6);
	else if (!strcmp(a->state6, "probing") && !a->address6[0])
		out_line(c, "no address", "no IPv6 address yet: no router's word");
	else if (!strcmp(a->state6, "probing"))
		out_line(c, "no address", "%s: probing, not used yet", a->address6);
	else if (a->address6[0])
		out_line(c, "address6", "%s", a->address6);
}

static int cmd_host(struct con *c, int argc unused, char **argv unused)
{
	const struct host_info *h = &host_info;
	uint64_t free = page_free_count() * PAGE_SIZE, guests = page_guest_count() * PAGE_SIZE;
	uint64_t heap_used, heap = malloc_slab_bytes(&heap_used);
	char id[40];
	struct host_address addr = { .state = "none", .state6 = "none" };
	sniprintf(id, sizeof(id), "%016lx-%016lx", h->inc.host, h->inc.boot);
	if (h->address)
		h->address(&addr);
	out_str(c, "name", h->name);
	out_str(c, "version", TERN_VERSION);
	out_str(c, "id", id);
	host_address_show(c, &addr);
	out_u64(c, "cpus|CPUs", h->ncpus);
	out_u64(c, h->ncpus_missing ? "cpus_missing|not started" : "cpus_missing|", h->ncpus_missing);
	out_str(c, "cpu_vendor|vendor", h->cpu_vendor);
	out_str(c, "cpu_model|model", h->cpu_model);
	out_u64(c, "tsc_hz|", time_tsc_hz());
	out_line(c, "clock", "%lu MHz", time_tsc_hz() / 1000000);
	out_str(c, "virtualisation|", h->hv ? h->hv : "");
	out_line(c, "VMs by", "%s", h->hv ? h->hv : h->why_no_hv);
	show_features(c, h);
	out_bytes(c, "memory_total|memory", h->ram_bytes);
	out_bytes(c, "memory_free|- free", free);
	out_bytes(c, "memory_guests|- guests'", guests);
	out_bytes(c, "memory_files|- boot files", h->file_bytes);
	out_bytes(c, "memory_tern|- tern's own", h->ram_bytes - free - guests - h->file_bytes);
	out_u64(c, "image_bytes|", h->kernel_bytes);
	out_u64(c, "pages_free|", page_free_count());
	out_u64(c, "heap_bytes|", heap);
	out_u64(c, "heap_used|", heap_used);
	out_ms(c, "uptime_ms|up", time_ns());
	out_ms(c, "boot_ms|prompt after", console_prompt_ns());
	out_time(c, "time", time_wall_ns());
	if (h->peers)
		h->peers(c);
	return 0;
}

#define TASKS_MAX 512

struct task_rows {
	unsigned n;
	struct {
		char name[24];
		int cpu;
		const char *state;
		uint64_t run_ns;
	} row[TASKS_MAX];
};
static struct task_rows rows; /* the console's task only */

static void add_task(const struct task_info *i, void *arg)
{
	struct task_rows *r = arg;
	if (r->n == TASKS_MAX)
		return;
	strncpy(r->row[r->n].name, i->name, sizeof(r->row[0].name) - 1);
	r->row[r->n].cpu = i->cpu;
	r->row[r->n].state = i->state;
	r->row[r->n++].run_ns = i->run_ns;
}

static int cmd_tasks(struct con *c, int argc unused, char **argv unused)
{
	memset(&rows, 0, sizeof(rows));
	task_for_each(add_task, &rows);
	out_table(c, "tasks", "-24 name|task, -9 state, 4 cpu, 10 run_us|CPU time", NULL);
	for (unsigned i = 0; i < rows.n; i++) {
		out_row(c);
		out_str(c, "name", rows.row[i].name);
		out_str(c, "state", rows.row[i].state);
		out_i64(c, "cpu", rows.row[i].cpu);
		out_us(c, "run_us", rows.row[i].run_ns);
		out_row_end(c);
	}
	out_table_end(c);
	return 0;
}
CONSOLE_CMD(tasks, "", "what runs inside tern", "tasks", cmd_tasks, NULL);

static void show_line(struct con *c, const struct log_line *l, uint64_t wall_ns)
{
	uint64_t s = (wall_ns + l->time_ns) / NS_PER_SEC;
	out_row(c);
	out_u64(c, "seq|", l->seq);
	out_us(c, "us|", l->time_ns);
	out_time(c, "time|", wall_ns ? wall_ns + l->time_ns : 0);
	out_str(c, "level|", log_level_name(l->level));
	out_str(c, "text|", l->text);
	out_row_end(c);
	if (wall_ns)
		out_text(c, "%02lu:%02lu:%02lu ", s / 3600 % 24, s / 60 % 60, s % 60);
	out_text(c, "[%5lu.%06lu] %-5s %s\n", l->time_ns / NS_PER_SEC, l->time_ns % NS_PER_SEC / NS_PER_US,
		 log_level_name(l->level), l->text);
}

#define LEVELS "error|warn|info|debug"

static int cmd_log_echo(struct con *c, int argc, char **argv)
{
	if (argc > 1)
		console_log_echo((enum log_level)log_level_parse(argv[1]));
	out_str(c, "echo|", log_level_name(log_echo_level()));
	out_text(c, "the console shows %s and what is more urgent\n", log_level_name(log_echo_level()));
	return 0;
}

static int cmd_log(struct con *c, int argc, char **argv)
{
	int level = argc > 1 ? log_level_parse(argv[1]) : LOG_DEBUG;
	struct log_line l;
	uint64_t wall = time_wall_ns() ? time_wall_ns() - time_ns() : 0; /* when tern started */
	out_list(c, "log");
	for (uint64_t seq = 0; log_read(&seq, &l);)
		if ((int)l.level <= level)
			show_line(c, &l, wall);
	out_list_end(c);
	return 0;
}
static const struct con_sub log_subs[] = {
	{ "show|", "[" LEVELS "]", "what was said, down to a level", cmd_log, NULL, false },
	{ "echo", "[" LEVELS "]", "what of it is shown here at once", cmd_log_echo, NULL, false },
};
CONSOLE_CMDS(log, "the log down to a level; what of it is shown here at once", "log warn", log_subs);

/* The last words have to get out of the serial port first, if its terminal takes them. */
static void say_last(struct con *c, const char *what)
{
	char key[32];
	sniprintf(key, sizeof(key), "%s|", what);
	out_bool(c, key, true);
	out_text(c, "%s\n", what);
	out_end(c);
	(void)uart_wait(0, false);
	task_sleep_until(time_in_ms(50));
}

/* 0, or the command's error: something stands against it. */
static int leave(struct con *c, const char *what)
{
	struct why w = { "" };
	if (con_opt(c, "--force") || !host_may_leave || !host_may_leave(&w))
		return 0;
	return con_error(c, -EBUSY, "%s: %s. If you know better: %s --force", what, w.text, what);
}

static int cmd_poweroff(struct con *c, int argc unused, char **argv unused)
{
	int err = leave(c, "poweroff");
	if (err)
		return err;
	say_last(c, "poweroff");
	acpi_power_off();
	return con_error(c, -ENOTSUP, "poweroff: the firmware offers no way to do it. Use the machine's power switch");
}

static int cmd_reboot(struct con *c, int argc unused, char **argv unused)
{
	int err = leave(c, "reboot");
	if (err)
		return err;
	say_last(c, "reboot");
	acpi_reset();
}

static const struct con_sub host_subs[] = {
	{ "info|", "", "CPUs, virtualisation, memory, version, uptime", cmd_host, NULL, false },
	{ "poweroff", "[--force]", "switch the machine off, unless a VM, its disks or a move need it", cmd_poweroff,
	  NULL, true },
	{ "reboot", "[--force]", "restart the machine, unless a VM, its disks or a move need it", cmd_reboot, NULL,
	  true },
};
CONSOLE_CMDS(host, "this host: CPUs, virtualisation, memory, version, uptime", "host reboot", host_subs);
/* The same, in a word. */
static const struct con_sub poweroff_subs[] = {
	{ "", "[--force]", "switch it off, unless a VM, its disks or a move need it; --force: all the same",
	  cmd_poweroff, NULL, true }
};
CONSOLE_CMDS(poweroff, "switch the machine off", "poweroff", poweroff_subs);
static const struct con_sub reboot_subs[] = {
	{ "", "[--force]", "restart it, unless a VM, its disks or a move need it; --force: all the same", cmd_reboot,
	  NULL, true }
};
CONSOLE_CMDS(reboot, "restart the machine", "reboot", reboot_subs);
