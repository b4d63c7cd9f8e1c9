/* SPDX-License-Identifier: BSD-2-Clause */
/* `vm`: what the operator does with virtual machines on this host. Moving them is `migrate`'s. */
#include "vmm/disk.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/trust.h"
#include "vmm/pc/machine.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/this_host.h"
#include "vmm/x86/vcpu.h"
#include "vmm/vm_cmd_show.h"
#include "vmm/vm_console.h"
#include <stdlib.h>
#include <string.h>

#define SHUTDOWN_MS     (60 * 1000)
#define SHUTDOWN_MAX_MS (60 * 60 * 1000)

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

static void name_insecure(struct con *c)
{
	const struct migrate_host *me = migrate_this_host();
	for (unsigned i = 0; i < me->npeers; i++)
		if (trust_is_insecure(me->peers[i].ip))
			out_text(c, OUT_RED("%s: asked in clear, whoever answers: insecure = yes") "\n",
				 me->peers[i].name);
}

static int do_start(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	if (!con_opt(c, "--force"))
		name_insecure(c);
	int err = vm_start_here(vm, con_opt(c, "--force"), &(struct vm_waiter){ start_waits, c }, &w);
	out_text(c, "\r\033[K");
	if (err == -EEXIST)
		return con_error(c, err,
				 "vm start %s: %s. Move it from there, off or not, or start it there if it is off",
				 vm->cfg.name, w.text);
	if (err == -EAGAIN || (err == -EBUSY && vm_text_get(&vm->waits_for).s[0]))
		return con_error(c, err, "vm start %s: %s. When you are sure that no host runs it: vm start %s --force",
				 vm->cfg.name, w.text, vm->cfg.name);
	if (err)
		return con_error(c, err, "vm start %s: %s", vm->cfg.name, w.text[0] ? w.text : err_name(err));
	return answer(c, vm, "started");
}

/* One that still asks other hosts whether it may start: it asks no longer. */
static bool start_ended(struct vm *vm)
{
	enum vm_lease l = __atomic_load_n(&vm->lease, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&vm->waits_storage, false, __ATOMIC_SEQ_CST))
		return true;
	if (!vm_state_is_off(vm_state_now(vm)) || (l != VM_LEASE_ASKING && l != VM_LEASE_YIELDED))
		return false;
	vm_lease_drop(vm);
	return true;
}

static int do_kill(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	if (start_ended(vm))
		return answer(c, vm, "its start is given up");
	int err = vm_stop(vm, &w);

	return err ? con_error(c, err, "vm: %s: %s", vm->cfg.name, w.text) : answer(c, vm, "stopped");
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
	if (!err && vm_is_gone(vm))
		err = why_set(w, -ENOENT, "it has moved meanwhile: `migrate status` says where to. Shut it down there");
	else if (!err && vm_state_now(vm) != VM_STOPPED)
		err = why_set(w, -EIO, "%s", vm_text_get(&vm->fail).s);
	return err;
}

/* cut: what cannot or does not shut down has its power cut. */
static int switch_off(struct con *c, struct vm *vm, bool cut)
{
	struct why w = { "" };
	const char *given = con_opt(c, "--timeout");
	uint64_t ms = SHUTDOWN_MS;
	if (given && conf_parse_ms(given, SHUTDOWN_MAX_MS, &ms))
		return con_error(c, -EINVAL, "vm: --timeout %s: give a time with its unit, up to 60m, as 90s or 2m",
				 given);
	if (start_ended(vm))
		return answer(c, vm, "its start is given up");
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
	enum vm_state state = vm_state_now(vm);
	if (state == VM_UNDECIDED || state == VM_SERVING) {
		err = decide(c, vm, "forget", migrate_forget);
		if (!err && !vm_is_gone(vm))
			err = con_error(c, -EBUSY, "vm forget %s: it was decided meanwhile, and goes on here",
					vm->cfg.name);
		return err ? err
			   : answer(c, vm,
				    "its image here is gone; `vm list` still says where it went, until it is forgotten "
				    "again");
	}
	err = vm_remove(vm, con_opt(c, "--force"), &w);
	if (err)
		return con_error(c, err, "vm forget %s: %s", vm->cfg.name, w.text);
	return answer(c, vm, "forgotten until this host is restarted");
}

/* One that was sent away: whoever looks for it is no longer told where it went. */
static int forget_departed(struct con *c, const struct departure *d)
{
	const char *name = d->cfg.name;
	char when[16];
	if (!con_opt(c, "--force")) {
		departed_when(d, when);
		return con_error(c, -EBUSY,
				 "vm forget %s: it has moved to %s%s, and whoever looks for it is told so here. When "
				 "that host is gone for good: vm forget %s --force",
				 name, d->host, when, name);
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
	int err = vm_console_attach(vm, c, con_opt(c, "--raw"));
	if (err == -EBUSY)
		return con_error(c, err, "vm console %s: another operator is attached. Leave it there first (Ctrl-])",
				 vm->cfg.name);
	if (err == -ENODEV)
		return con_error(c, err, "vm console %s: it has no console while it is off. `vm start %s` first",
				 vm->cfg.name, vm->cfg.name);
	return err ? con_error(c, err, "vm console %s: %s", vm->cfg.name, err_name(err)) : 0;
}

/* It stands still, with all that it has, until it is resumed, here or wherever it has moved meanwhile. */
static int do_pause(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	int err = vm_suspend(vm, &w);
	return err ? con_error(c, err, "vm pause %s: %s", vm->cfg.name, w.text) : answer(c, vm, "paused");
}

static int do_resume(struct con *c, struct vm *vm)
{
	struct why w = { "" };
	int err = vm_go_on(vm, &w);
	if (err)
		return con_error(c, err, "vm resume %s: %s", vm->cfg.name, w.text);
	(void)vm_announce(vm); /* switches have heard nothing of it, or it was elsewhere */
	return answer(c, vm, "resumed");
}

static int do_announce(struct con *c, struct vm *vm)
{
	if (!vm_announce(vm))
		return con_error(c, -EINVAL, "vm announce %s: it is %s; only one that runs here is announced",
				 vm->cfg.name, vm_state_name(vm_state_now(vm)));
	return answer(c, vm, "announced to its network");
}

/* Take back a VM whose migration got no answer to COMMIT (doc/handover.md). */
static int do_claim(struct con *c, struct vm *vm)
{
	int err = decide(c, vm, "claim", migrate_claim);
	if (err)
		return err;
	if (vm_is_gone(vm))
		return answer(c, vm, "it runs elsewhere, as we now know: the image here was dropped");
	return answer(c, vm, "claimed");
}

static int with_vm(struct con *c, char **argv, int (*fn)(struct con *c, struct vm *vm))
{
	struct vm *vm = vm_get(argv[1]);
	struct departure d;
	bool departed = !vm && departed_get(argv[1], 0, &d);
	char when[16];
	if (departed && fn == do_forget)
		return forget_departed(c, &d);
	if (departed && fn == do_start)
		vm = departed_restore(argv[1]);
	if (!vm && departed) {
		departed_when(&d, when);
		return con_error(c, -ENOENT, "vm %s %s: it has moved to %s%s", argv[0], argv[1], d.host, when);
	}
	if (!vm)
		return con_error(c, -ENOENT, "vm: there is no VM %s here. `vm list` shows them", argv[1]);
	int err = fn(c, vm);
	if (!err && departed && vm->cfg.ndisks)
		out_text(c, "its disks begin anew from their base images: what it wrote to them was in %s's memory\n",
			 d.host);
	if (err && departed)
		(void)vm_remove(vm, true, NULL); /* it is elsewhere, and comes home without being in its own way */
	vm_put(vm);
	return err;
}
static int cmd_info(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, vm_cmd_show_info); }
static int cmd_start(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_start); }
static int cmd_shutdown(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_shutdown); }
static int cmd_stop(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_stop); }
static int cmd_kill(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_kill); }
static int cmd_console(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_console); }
static int cmd_announce(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_announce); }
static int cmd_pause(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_pause); }
static int cmd_resume(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_resume); }
static int cmd_claim(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_claim); }
static int cmd_forget(struct con *c, int argc unused, char **argv) { return with_vm(c, argv, do_forget); }

static void running(struct vm *vm, void *arg)
{
	enum vm_state s = __atomic_load_n(&vm->state, __ATOMIC_RELAXED);
	if (s == VM_RUNNING || s == VM_PAUSED)
		(void)why_set(arg, -EBUSY, "%s runs here: move it away, or stop it", vm->cfg.name);
	else if (vm_state_is_off(s) && __atomic_load_n(&vm->has_disks, __ATOMIC_RELAXED))
		(void)why_set(
			arg, -EBUSY,
			"%s is off, but what it wrote to its disks is in this host's memory alone: %smove it away "
			"as it is, or `vm forget %s --force`",
			vm->cfg.name, s == VM_FAILED ? "`vm kill` it and " : "", vm->cfg.name);
	else if (s == VM_FAILED && disk_has_units(&vm->cfg))
		(void)why_set(arg, -EBUSY, "%s has failed, and its units are still this host's: `vm kill` it",
			      vm->cfg.name);
	else if (s == VM_STOPPED && __atomic_load_n(&vm->came_off, __ATOMIC_RELAXED))
		(void)why_set(
			arg, -EBUSY,
			"%s is off, but it moved here so, and only this host may start it: move it away as it is, "
			"or `vm forget %s --force`",
			vm->cfg.name, vm->cfg.name);
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
	{ "list", "", "those that are here, and where those went that have moved", vm_cmd_show_list, NULL, false },
	{ "info", "NAME", "its configuration, state, and why it failed", cmd_info, vm_words, false },
	{ "start", "NAME [--force]", "boot it, once no peer has it; --force: asking nobody", cmd_start, vm_words,
	  false },
	{ "shutdown", "NAME [--timeout TIME]", "press its power button, and wait until it is off (60s)", cmd_shutdown,
	  vm_words, true },
	{ "stop", "NAME [--timeout TIME]", "shutdown, then kill", cmd_stop, vm_words, true },
	{ "kill", "NAME", "cut its power", cmd_kill, vm_words, true },
	{ "pause", "NAME", "it stands still, until it is resumed; its clocks go on", cmd_pause, vm_words, false },
	{ "resume", "NAME", "one that is paused goes on", cmd_resume, vm_words, false },
	{ "console", "NAME [--raw]", "its serial console; Ctrl-] leaves; --raw: unfiltered", cmd_console, vm_words,
	  false },
	{ "announce", "NAME", "tell its network where it is: RARP, ARP, ND, groups", cmd_announce, vm_words, false },
	{ "claim", "NAME [--force]", "an undecided VM goes on here", cmd_claim, vm_words, true },
	{ "forget", "NAME [--force]", "what is here of one that is elsewhere", cmd_forget, vm_words, true },
};
CONSOLE_CMD(announce, "NAME", "", "announce demo", cmd_announce,
	    vm_words); /* `vm announce`, as other hypervisors have it */
CONSOLE_CMDS(vm, "virtual machines on this host", "vm start demo", subs);
