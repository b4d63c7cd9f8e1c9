/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMs of tern.conf; starting what is off, by the operator or at boot, unless the guard says no (vm.h). */
#include "kernel/host.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/bridge.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/vm.h"
#include "vmm/x86/halt_poll.h"

#define STORAGE_NS (3 * NS_PER_SEC)

struct vm_guard vm_guard;
const struct hv_ops *vmm_hv_ops;

/* The lease is TAKEN, and ends here. */
static int start_leased(struct vm *vm, bool force, struct why *w)
{
	__atomic_store_n(&vm->force_units, force, __ATOMIC_RELAXED);
	int err = vm_start(vm, w);
	__atomic_store_n(&vm->force_units, false, __ATOMIC_RELAXED);
	if (!err)
		vm_guard.started(vm);
	__atomic_store_n(&vm->waits_storage, false, __ATOMIC_SEQ_CST); /* whoever waits to start it need not */
	vm_text_set(&vm->waits_for, "%s", "");
	__atomic_store_n(&vm->lease, VM_LEASE_NONE, __ATOMIC_SEQ_CST);
	return err;
}

/*
 * One asks at a time. What he hears is of before a `vm start --force` that came meanwhile and failed: were another to
 * ask then, the first would take that one's lease for his own, and what he has heard for fresh.
 */
static bool ask_begin(struct vm *vm)
{
	if (__atomic_exchange_n(&vm->asked_for, true, __ATOMIC_SEQ_CST))
		return false;
	if (vm_lease(vm, VM_LEASE_NONE, VM_LEASE_ASKING))
		return true;
	__atomic_store_n(&vm->asked_for, false, __ATOMIC_SEQ_CST);
	return false;
}

/* After ask_begin. */
static int start_guarded(struct vm *vm, enum vm_start_by by, const struct vm_waiter *waiter, struct why *w)
{
	int err = vm_guard.may_start(vm, by, waiter, w);
	if (err)
		vm_lease_drop(vm); /* before another may ask; TAKEN is that of `vm start --force` */
	__atomic_store_n(&vm->asked_for, false, __ATOMIC_SEQ_CST);
	return err ? err : start_leased(vm, false, w);
}

int vm_start_here(struct vm *vm, bool force, const struct vm_waiter *waiter, struct why *w)
{
	enum vm_state state = vm_state_now(vm);
	if (!vm_state_is_off(state) || state == VM_MISCONFIGURED)
		return vm_start(vm, w); /* which has its own answer */
	if (force) {                    /* whoever is still asking finds that his lease has gone */
		if (__atomic_exchange_n(&vm->lease, VM_LEASE_TAKEN, __ATOMIC_SEQ_CST) == VM_LEASE_TAKEN)
			return why_set(w, -EBUSY, "it is being started");
		return start_leased(vm, true, w);
	}
	if (vm_is_migrating(vm)) /* vm_start would say so, when all have been asked */
		return why_set(w, -EBUSY, "it is being migrated");
	if (!ask_begin(vm)) {
		struct vm_said but = vm_text_get(&vm->waits_for);
		return why_set(w, -EBUSY, "it is being started%s%s", but.s[0] ? ", but: " : "", but.s);
	}
	return start_guarded(vm, VM_START_OPERATOR, waiter, w);
}

/* After a power cut a server of disks may come up later than its hosts. False: it was called off meanwhile. */
static bool wait_for_storage(struct vm *vm, const struct why *w)
{
	vm_text_set(&vm->waits_for, "its storage: %s", w->text);
	__atomic_store_n(&vm->waits_storage, true, __ATOMIC_SEQ_CST);
	task_sleep_until(time_ns() + STORAGE_NS);
	vm_text_set(&vm->waits_for, "%s", "");
	return __atomic_exchange_n(&vm->waits_storage, false, __ATOMIC_SEQ_CST) && vm_state_now(vm) == VM_STOPPED;
}

/*
 * One task for each: it may wait for a peer as long as that takes. What has moved to a peer, before this host was
 * restarted, stays there.
 */
static void autostart_one(void *arg)
{
	struct vm *vm = arg;
	struct why w = { "" };
	bool alone = vm->cfg.s.autostart == VM_AUTOSTART_ALONE;
	mutex_lock(&vm->lock);
	int err = vm_boot_files(vm, &w);
	if (err) /* nobody need be asked */
		vm_text_set(&vm->fail, "%s", w.text);
	mutex_unlock(&vm->lock);
	while (!err) {
		w.text[0] = 0;
		err = ask_begin(vm) ? start_guarded(vm, alone ? VM_START_ALONE : VM_START_AUTO, NULL, &w) : -ECANCELED;
		if (!err || !vm->units_away)
			break;
		err = wait_for_storage(vm, &w) ? 0 : -ECANCELED;
	}
	if (err == -EEXIST)
		log_warn("vm %s: not started: %s", vm->cfg.name, w.text);
	else if (err && err != -ECANCELED)
		log_error("vm %s: cannot start: %s", vm->cfg.name, w.text);
	vm_put(vm);
}

struct starters {                            /* with a reference each */
	struct vm *vm[CONF_MAX_ENTRIES / 2]; /* a section has at least two entries */
	unsigned n;
};

static void collect(struct vm *vm, void *arg) /* the table's lock is held */
{
	struct starters *s = arg;
	if (vm->cfg.s.autostart == VM_AUTOSTART_NO || vm->state != VM_STOPPED || s->n == ARRAY_SIZE(s->vm))
		return;
	vm->refs++;
	s->vm[s->n++] = vm;
}

/* In a task of its own: the prompt does not wait for guests' memory to be cleared. */
static void autostart(void *arg unused)
{
	struct starters todo = { .n = 0 };
	vm_for_each(collect, &todo);
	for (unsigned i = 0; i < todo.n; i++) {
		if (task_create("autostart", TASK_PRIO_NORMAL, autostart_one, todo.vm[i]))
			continue;
		log_error("vm %s: no memory for the task that would start it", todo.vm[i]->cfg.name);
		vm_put(todo.vm[i]);
	}
}

/* One of tern.conf. What is wrong with it is told, and it stays in the table, misconfigured. */
static void add_configured(struct conf *c, const char *name)
{
	struct vm_config cfg;
	struct vm *vm;
	struct why w = { "" };
	struct conf_reader r = { .c = c, .table = &vm_conf_table, .name = name };
	bool good = vm_config_read(c, name, host_info.name, host_info.inc.host, &cfg, r.wrong);
	for (unsigned k = 0; good && k < cfg.nnics && cfg.net[k][0]; k++)
		if (!bridge_find(cfg.net[k], &w)) {
			conf_wrong(&r, "net", "%s", w.text);
			good = false;
		}
	if (good) {
		disk_config_read(&r, &cfg);
		good = !r.wrong[0];
	}
	int err = vm_new(&cfg, good ? VM_STOPPED : VM_MISCONFIGURED, &vm, &w);
	if (err == -EEXIST) {
		conf_wrong(&r, "uuid", "%s; give it one of its own", w.text);
		err = vm_new(&cfg, VM_MISCONFIGURED, &vm, &w);
	}
	if (err)
		conf_problem(c, conf_line(c, "vm", name, ""), "[vm %s]: %s", name, w.text);
	else
		vm_text_set(&vm->fail, "%s", r.wrong);
}

int vmm_init(const struct hv_ops *ops, struct conf *c)
{
	const char *name;
	vmm_hv_ops = ops;
	halt_poll_init();
	for (unsigned i = 0; (name = conf_section(c, "vm", i)); i++)
		add_configured(c, name);
	disk_config_rest(c);
	if (!ops)
		return 0;
	if (!task_create("digests", TASK_PRIO_NORMAL, boot_file_digest_all, NULL))
		return err_trace(-ENOMEM);
	return task_create("autostart", TASK_PRIO_NORMAL, autostart, NULL) ? 0 : err_trace(-ENOMEM);
}

int vm_take_mtus(struct vm *vm, struct why *w)
{
	for (unsigned i = 0; i < vm->cfg.nnics; i++) {
		const struct bridge *net = bridge_find(vm->cfg.net[i], w);
		if (!net)
			return -ENOENT;
		vm->cfg.mtu[i] = bridge_mtu(net);
	}
	return 0;
}
