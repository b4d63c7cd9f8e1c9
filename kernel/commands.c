/* SPDX-License-Identifier: BSD-2-Clause */
/* The console's commands about the host itself: host, tasks, log, poweroff, reboot. */
#include "kernel/acpi_host.h"
#include "kernel/console.h"
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include <stdio.h>
#include <string.h>

struct host_info host_info;
int (*host_may_leave)(struct why *w);

static void json_features(struct json *j, const struct host_info *h)
{
	json_arr(j, "virtualisation_features");
	for (unsigned i = 0; i < h->nhv_features; i++) {
		json_obj(j, NULL);
		json_str(j, "name", h->hv_feature[i].name);
		json_bool(j, "present", h->hv_feature[i].present);
		json_bool(j, "used", h->hv_feature[i].used);
		json_obj_end(j);
	}
	json_arr_end(j);
}

/* Those that are there (or are not), in lines of a console's width. */
static void print_features(struct con *c, const struct host_info *h, const char *title, bool present)
{
	size_t col = 0;
	for (unsigned i = 0; i < h->nhv_features; i++) {
		const struct host_hv_feature *f = &h->hv_feature[i];
		if (f->present != present)
			continue;
		if (!col || col + strlen(f->name) + 2 > 78) {
			con_printf(c, "%s%-10s", col ? "\n" : "", col ? "" : title);
			col = 10;
		}
		con_printf(c, "%s%s%s", col > 10 ? " " : "", f->name, f->used ? "*" : "");
		col += strlen(f->name) + f->used + 1;
	}
	if (col)
		con_printf(c, "\n");
}

void host_address_json(struct json *j, const struct host_address *a)
{
	json_str(j, "address", a->address);
	json_str(j, "address_wanted", a->wanted);
	json_str(j, "address_state", a->state);
	json_str(j, "conflict_with", a->other);
}

void host_address_print(struct con *c, const struct host_address *a)
{
	if (a->address[0])
		con_printf(c, "%s", a->address);
	else if (a->other[0])
		con_printf(c, "%s: conflict with %s, which has it too; not used", a->wanted, a->other);
	else if (a->wanted[0])
		con_printf(c, "%s: probing, not used yet", a->wanted);
	else
		con_printf(c, strcmp(a->state, "probing") ? "no address" : "no address yet: no answer from DHCP");
}

static int cmd_host(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	const struct host_info *h = &host_info;
	uint64_t free = page_free_count() * PAGE_SIZE, guests = page_guest_count() * PAGE_SIZE;
	uint64_t own = h->ram_bytes - free - guests - h->file_bytes;
	uint64_t up = time_ns(), boot = console_prompt_ns();
	char id[40];
	sniprintf(id, sizeof(id), "%016lx-%016lx", h->inc.host, h->inc.boot);
	struct host_address addr = { .state = "none" };
	if (h->address)
		h->address(&addr);
	if (c->json) {
		struct json j;
		json_begin(&j, c);
		json_str(&j, "name", h->name);
		json_str(&j, "version", TERN_VERSION);
		json_str(&j, "id", id);
		host_address_json(&j, &addr);
		json_u64(&j, "cpus", h->ncpus);
		json_u64(&j, "cpus_missing", h->ncpus_missing);
		json_str(&j, "cpu_vendor", h->cpu_vendor);
		json_str(&j, "cpu_model", h->cpu_model);
		json_str(&j, "virtualisation", h->hv ? h->hv : "");
		json_features(&j, h);
		json_u64(&j, "memory_total", h->ram_bytes);
		json_u64(&j, "memory_free", free);
		json_u64(&j, "memory_guests", guests);
		json_u64(&j, "memory_files", h->file_bytes);
		json_u64(&j, "memory_tern", own);
		json_u64(&j, "image_bytes", h->kernel_bytes);
		json_u64(&j, "pages_free", page_free_count());
		json_u64(&j, "tsc_hz", time_tsc_hz());
		json_u64(&j, "uptime_ms", up / NS_PER_MS);
		json_u64(&j, "boot_ms", boot / NS_PER_MS);
		json_u64(&j, "time", time_wall_ns() / NS_PER_SEC);
		json_end(&j);
		return 0;
	}
	con_printf(c, "name      %s\n", h->name);
	con_printf(c, "version   tern " TERN_VERSION "\n");
	con_printf(c, "id        %s (of this hardware, and of this boot)\naddress   ", id);
	host_address_print(c, &addr);
	con_printf(c, "\n");
	con_printf(c, "CPUs      %u, %s %s, %lu MHz", h->ncpus, h->cpu_vendor, h->cpu_model, time_tsc_hz() / 1000000);
	con_printf(c, h->ncpus_missing ? " (%u more did not start)\n" : "\n", h->ncpus_missing);
	con_printf(c, "VMs by    %s%s\n", h->hv ? h->hv : h->why_no_hv,
		   h->nhv_features ? ", of which tern uses what has a *" : "");
	print_features(c, h, "has", true);
	print_features(c, h, "lacks", false);
	con_printf(c, "memory    %lu MiB: %lu free, %lu guests', %lu boot files, %lu KiB tern's own\n",
		   h->ram_bytes >> 20, free >> 20, guests >> 20, h->file_bytes >> 20, own >> 10);
	con_printf(c, "up        %lu.%03lu s, prompt after %lu ms\n", up / NS_PER_SEC, up % NS_PER_SEC / NS_PER_MS,
		   boot / NS_PER_MS);
	return 0;
}
CONSOLE_CMD(host, "", "this host: CPUs, virtualisation, memory, version, uptime", cmd_host, NULL);

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

static int cmd_tasks(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	memset(&rows, 0, sizeof(rows));
	task_for_each(add_task, &rows);
	struct json j;
	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "tasks");
	} else {
		con_printf(c, "%-24s %-9s %4s %12s\n", "task", "state", "CPU", "CPU time ms");
	}
	for (unsigned i = 0; i < rows.n; i++) {
		if (c->json) {
			json_obj(&j, NULL);
			json_str(&j, "name", rows.row[i].name);
			json_str(&j, "state", rows.row[i].state);
			json_i64(&j, "cpu", rows.row[i].cpu);
			json_u64(&j, "run_us", rows.row[i].run_ns / NS_PER_US);
			json_obj_end(&j);
		} else {
			con_printf(c, "%-24s %-9s ", rows.row[i].name, rows.row[i].state);
			if (rows.row[i].cpu >= 0)
				con_printf(c, "%4d", rows.row[i].cpu);
			else
				con_printf(c, "%4s", "-");
			con_printf(c, " %12lu\n", rows.row[i].run_ns / NS_PER_MS);
		}
	}
	if (c->json) {
		json_arr_end(&j);
		json_end(&j);
	}
	return 0;
}
CONSOLE_CMD(tasks, "", "what runs inside tern", cmd_tasks, NULL);

static int cmd_log(struct con *c, int argc, char **argv)
{
	int level = LOG_DEBUG;
	bool echo = argc > 1 && !strcmp(argv[1], "echo");
	const char *name = echo ? (argc > 2 ? argv[2] : NULL) : argc > 1 ? argv[1] : "debug";
	if (name && (level = log_level_parse(name)) < 0)
		return con_error(c, -EINVAL, "log: %s is not a level. Give error, warn, info or debug", name);
	if (echo) {
		if (name)
			console_log_echo((enum log_level)level);
		con_printf(c, c->json ? "{\"echo\":\"%s\"}\n" : "the console shows %s and what is more urgent\n",
			   log_level_name(log_echo_level()));
		return 0;
	}
	struct json j;
	if (c->json) {
		json_begin(&j, c);
		json_arr(&j, "log");
	}
	struct log_line l;
	for (uint64_t seq = 0; log_read(&seq, &l);) {
		if ((int)l.level > level)
			continue;
		if (c->json) {
			json_obj(&j, NULL);
			json_u64(&j, "seq", l.seq);
			json_u64(&j, "us", l.time_ns / NS_PER_US);
			json_str(&j, "level", log_level_name(l.level));
			json_str(&j, "text", l.text);
			json_obj_end(&j);
		} else {
			con_printf(c, "[%5lu.%06lu] %-5s %s\n", l.time_ns / NS_PER_SEC,
				   l.time_ns % NS_PER_SEC / NS_PER_US, log_level_name(l.level), l.text);
		}
	}
	if (c->json) {
		json_arr_end(&j);
		json_end(&j);
	}
	return 0;
}
CONSOLE_CMD(log, "[error | warn | info | debug] | echo [LEVEL]",
	    "the log down to a level; what of it is shown here at once", cmd_log, NULL);

/* The last words have to get out of the serial port first, if its terminal takes them. */
static void say_last(struct con *c, const char *what)
{
	con_printf(c, c->json ? "{\"%s\":true}\n" : "%s\n", what);
	(void)uart_wait(0, false);
	task_sleep_until(time_in_ms(50));
}

/* 0, or the command's error: a wrong argument, or something that stands against it. */
static int leave(struct con *c, int argc, char **argv)
{
	struct why w = { "" };
	bool force = argc == 2 && !strcmp(argv[1], "--force");
	if (argc > 1 + force)
		return con_error(c, -EINVAL, "%s: takes --force or nothing", argv[0]);
	if (force || !host_may_leave || !host_may_leave(&w))
		return 0;
	return con_error(c, -EBUSY, "%s: %s. If you know better: %s --force", argv[0], w.text, argv[0]);
}

static int cmd_poweroff(struct con *c, int argc, char **argv)
{
	int err = leave(c, argc, argv);
	if (err)
		return err;
	say_last(c, "poweroff");
	acpi_power_off();
	return con_error(c, -ENOTSUP, "poweroff: the firmware offers no way to do it. Use the machine's power switch");
}
CONSOLE_CMD(poweroff, "[--force]", "switch the machine off at once, VMs and all", cmd_poweroff, NULL);

static int cmd_reboot(struct con *c, int argc, char **argv)
{
	int err = leave(c, argc, argv);
	if (err)
		return err;
	say_last(c, "reboot");
	acpi_reset();
}
CONSOLE_CMD(reboot, "[--force]", "restart the machine at once, VMs and all", cmd_reboot, NULL);
