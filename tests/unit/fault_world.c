/* SPDX-License-Identifier: BSD-2-Clause */
/* Hosts, lines and the guest of the fault matrix (faults.h), and what is looked at after each cell. */
#include "tests/unit/faults.h"
#include "kernel/host.h"
#include "kernel/task.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_turns.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/settle.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEM     MIB(2)
#define RATE    125000000 /* bytes per second: 1 Gbit/s */
#define LOOK_NS (20 * NS_PER_MS)
#define BURST   100 /* pages that the guest dirties in pass 1: more than are worth no other pass */

struct fault_run fault_run;
static struct pipe_line lines[FAKE_HOSTS][FAKE_HOSTS];
static const struct migrate_params *params_to(int to)
{
	static struct migrate_params p = { .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30 };
	p.dest = fake_net_address(to);
	return &p;
}

void fault_wrong(const char *fmt, ...)
{
	va_list ap;
	if (!fault_run.cell || fault_run.cell->problem[0])
		return;
	va_start(ap, fmt);
	vsnprintf(fault_run.cell->problem, sizeof(fault_run.cell->problem), fmt, ap);
	va_end(ap);
}

struct vm *fault_vm_at(int h) { return fake_host_dead[h] ? NULL : fake_vm_find(h, "demo"); }

static enum vm_state right_state(void)
{
	static const enum vm_state states[] = { VM_RUNNING, VM_PAUSED, VM_STOPPED };
	return states[fault_run.cell ? fault_run.cell->event->kind : FAULT_RUNS];
}

bool fault_runs_at(int h)
{
	struct vm *vm = fault_vm_at(h);
	return vm && vm->state == right_state();
}

struct pipe_line *fault_line(int from, int to) { return &lines[from][to]; }

void fault_lines(uint64_t rate, unsigned loss)
{
	for (int i = 0; i < 2; i++) {
		lines[i][1 - i].rate = rate;
		lines[i][1 - i].loss = loss;
	}
}

/* ---- the guest: what it has written, and what its devices' registers are ---- */

static uint8_t shadow[MEM];
static struct fake_dev_state shadow_dev[2];
static uint64_t written;

static void guest_write(struct vm *vm, uint64_t page)
{
	uint64_t words[PAGE_SIZE / 8];
	written++;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = written * 0x9e3779b97f4a7c15ULL + i;
	if (!gmem_is_here(&vm->mem, page << PAGE_SHIFT, PAGE_SIZE)) /* fault_remote.c's task waits for such */
		return;
	if (!fake_guest_write(vm, page << PAGE_SHIFT, words, sizeof(words)))
		return;
	memcpy(shadow + (page << PAGE_SHIFT), words, sizeof(words));
	shadow_dev[1].regs[1] = fake_devs(vm)[1].s.regs[1] = written;
}

bool fault_guest_page(uint64_t page, uint64_t first_word)
{
	return get_le64(shadow + (page << PAGE_SHIFT)) == first_word;
}

static void guest_writes(unsigned pages)
{
	for (int h = A; h < FAKE_HOSTS; h++) {
		struct vm *vm = NULL;
		ON_HOST(h) if (!fake_host_dead[h]) vm = vm_get("demo");
		for (unsigned i = 0; vm && i < pages; i++)
			guest_write(vm, (written * 7 + 3) % (MEM / PAGE_SIZE));
		ON_HOST(h) vm_put(vm);
	}
}

void fault_guest_virtio_reset(void)
{
	for (int h = A; h <= B; h++)
		if (fault_runs_at(h))
			memset(fake_devs(fault_vm_at(h))[0].s.regs, 0, sizeof(shadow_dev[0].regs));
	memset(shadow_dev[0].regs, 0, sizeof(shadow_dev[0].regs));
}

/* What it does right before it is paused goes with the last pass. */
static void last_moment(struct vm *vm) { guest_write(vm, 5); }

/* A disk of one that rests: a block of it. */
#define BLOCKS 40
static void disk_write(struct vm *vm)
{
	struct layer *l = &vm->disk[0]->layer;
	for (uint64_t b = 0; b < BLOCKS; b++)
		memset(layer_fill_page(l, b * 7), (int)b + 1, PAGE_SIZE);
}

static void look_at_disk(struct vm *vm)
{
	const void *page;
	for (uint64_t b = 0; b < BLOCKS; b++) {
		uint8_t want[PAGE_SIZE];
		memset(want, (int)b + 1, sizeof(want));
		if (!vm->disk[0] || !layer_has(&vm->disk[0]->layer, b * 7, &page) || !page ||
		    memcmp(page, want, PAGE_SIZE)) {
			fault_wrong("block %lu of its disk is not what was written", b * 7);
			return;
		}
	}
}

/* Is it whole, where it runs? */
static void look_at_guest(int h)
{
	static uint8_t part[16 * PAGE_SIZE];
	struct vm *vm = fault_vm_at(h);
	if (vm->cfg.ndisks)
		look_at_disk(vm);
	for (uint64_t at = 0; at < vm->mem.size; at += sizeof(part))
		if (gmem_read(&vm->mem, at, part, sizeof(part)) || memcmp(part, shadow + at, sizeof(part)))
			fault_wrong("memory from %lx on is not what the guest wrote", at);
	for (unsigned i = 0; i < 2 && vm->mem.size; i++)
		if (memcmp(fake_devs(vm)[i].s.regs, shadow_dev[i].regs, sizeof(shadow_dev[i].regs)) ||
		    fake_devs(vm)[i].s.mode != shadow_dev[i].mode)
			fault_wrong("the registers of device %u are not the guest's", i);
	if (vm->migration || vm->mem.tracking || vm->refs != 1)
		fault_wrong("something still holds the VM at %c", 'a' + h);
}

/* ---- steps and allocations ---- */

int failpoint_hit(enum failpoint p, struct stream *s unused)
{
	const struct fault_cell *c = fault_run.cell;
	if (p == P4_FIRST_PASS && fake_host == A && !fault_run.burst) { /* so that there is a second pass */
		fault_run.burst = true;
		guest_writes(BURST);
	}
	if (fault_is_remote() && p == P18_RUNNING && fake_host == B)
		fault_remote_runs();
	if (!fault_run.armed || p != c->step->p || fake_host != c->step->side || fake_host_dead[fake_host])
		return 0;
	fault_run.armed = false;
	fault_run.hit = true;
	fault_run.hit_ns = time_ns();
	c->event->happens(fault_run.variant);
	return 0;
}

static _Thread_local bool is_test; /* this thread: it looks on, and nothing fails for it */

void fault_alloc_arm(long n) { fault_run.allocs = n; }

static bool alloc_fails(void)
{
	bool fails = fault_run.allocs && !is_test && !--fault_run.allocs;
	fault_run.did |= fails;
	return fails;
}

/* The linker puts these between the sources under test and the C library (tests.mk). */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n) { return alloc_fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return alloc_fails() ? NULL : __real_calloc(n, size); }

/* ---- the world ---- */

static struct stream *see_source(struct stream *s)
{
	if (fault_run.cell && !fault_run.end[A] && fake_host == A)
		fault_run.end[A] = s;
	return s;
}
static struct stream *see_dest(struct stream *s)
{
	if (fault_run.end[A] && !fault_run.end[B])
		fault_run.end[B] = s;
	return s;
}

static void set_lines(uint64_t delay_ns)
{
	for (int i = 0; i < FAKE_HOSTS; i++)
		for (int k = 0; k < FAKE_HOSTS; k++)
			lines[i][k] = (struct pipe_line){ .rate = RATE, .delay_ns = delay_ns, .draw = fake_turns_draw };
}

void fault_world_begin(const struct fault_step *step)
{
	static uint8_t file[70];
	struct boot_file *f;
	struct vm *vm = NULL;
	is_test = true;
	fake_alloc_fails = alloc_fails;
	fake_last_moment = last_moment;
	memset(&fake_net, 0, sizeof(fake_net));
	memset(&fake_vm_opts, 0, sizeof(fake_vm_opts));
	set_lines(step->far ? 15 * NS_PER_MS : 100 * NS_PER_US);
	fake_net.lines = lines;
	fake_net.tap_client = see_source;
	fake_net.tap_server = see_dest;
	for (int h = 0; h < FAKE_HOSTS; h++)
		fake_host_restart(h);
	fake_net_peers(A, "bc");
	fake_net_peers(B, "ac");
	fake_net_peers(C, "ab");
	fake_log_clear();
	ON_HOST(A) vm = fake_vm_new("demo", MEM);
	memset(shadow, 0, sizeof(shadow));
	for (unsigned i = 0; i < 2; i++)
		shadow_dev[i] = fake_devs(vm)[i].s;
	if (boot_file_new(sizeof(file), &f, NULL))
		abort();
	boot_file_write(f, 0, file, sizeof(file));
	vm_set_file(vm, VM_INITRD, f);
	written = 0;
	guest_writes(8);
	if (right_state() == VM_RUNNING)
		return;
	vm->cfg.ndisks = 1;
	vm->cfg.disk[0] = (struct vm_disk_config){ .name = "data", .size = MIB(2), .layer = 200 * PAGE_SIZE };
	ON_HOST(A) if (disk_make_all(vm, NULL)) abort();
	disk_write(vm);
	fake_vm_rest(vm, right_state());
}

void fault_world_end(void)
{
	for (int h = 0; h < FAKE_HOSTS; h++)
		fake_host_restart(h);
	if (fake_page_live() || fake_page_reserved())
		fault_wrong("%lu pages are left, %lu reserved", fake_page_live(), fake_page_reserved());
	if (host_info.file_bytes)
		fault_wrong("%lu bytes of boot files are left", host_info.file_bytes);
	if (pipe_open())
		fault_wrong("%u connections are left", pipe_open());
}

/* ---- waiting ---- */

/* The newest attempt of that direction at that host; false: none. */
static bool attempt_at(int h, bool incoming, struct migrate_status *s)
{
	bool found = false;
	ON_HOST(h)
	for (unsigned i = 0; !found && migrate_get(i, s) && s->start_ns >= fault_run.begin_ns; i++)
		found = s->incoming == incoming;
	return found;
}

static bool is_over(enum migrate_phase p) { return p >= MIG_DONE; }

/* The operator reads in `migrate status` and in the log that it is undecided. */
static bool is_told(const struct migrate_status *s)
{
	return s->phase == MIG_UNDECIDED && s->error[0] && fake_log_has("is undecided");
}

/* Has the destination ended what it had of the attempt, if it lives? */
static bool dest_is_quiet(void)
{
	struct migrate_status s;
	if (fake_host_dead[B])
		return true;
	return !(attempt_at(B, true, &s) && !is_over(s.phase)) && !fake_hosts[B].receiving && !fake_hosts[B].ngreetings;
}

static bool is_quiet(bool stays)
{
	struct migrate_status s;
	if (!fake_host_dead[A] && attempt_at(A, false, &s) && !is_over(s.phase) &&
	    !(stays && (is_told(&s) || fault_remote_told(A, &s))))
		return false;
	return dest_is_quiet() || (stays && attempt_at(B, true, &s) && fault_remote_told(B, &s));
}

/* Has whoever lives noticed that the other is not there? What follows from that may take longer. */
static bool is_noticed(void)
{
	struct migrate_status s;
	if (!fake_host_dead[A] && attempt_at(A, false, &s) && !is_over(s.phase) && s.phase != MIG_UNDECIDED &&
	    !fault_remote_told(A, &s))
		return false;
	return dest_is_quiet() || (attempt_at(B, true, &s) && fault_remote_told(B, &s));
}

static bool wait_quiet(bool stays, uint64_t end_ns)
{
	for (unsigned i = 0; time_ns() < end_ns; i++) {
		if (fault_run.hit && !fault_run.noticed_ns && is_noticed())
			fault_run.noticed_ns = time_ns();
		if (is_quiet(stays))
			return true;
		if (i % 5 == 0)
			guest_writes(1);
		task_sleep_until(time_ns() + LOOK_NS);
	}
	return false;
}

bool fault_move(int from, int to)
{
	struct migrate_status s = { .phase = MIG_FAILED };
	struct vm *vm = fault_vm_at(from);
	struct why w = { "" };
	int err = -ENOENT;
	ON_HOST(from) if (vm) err = migrate_start(vm, params_to(to), &w);
	ON_HOST(from) if (!err) err = migrate_wait("demo", time_ns() + FAULT_BOUND_NS);
	(void)attempt_at(from, false, &s);
	if (err || s.phase != MIG_DONE || !fault_runs_at(to)) {
		fault_wrong("the next migration, %c to %c, fails: %s%s", 'a' + from, 'a' + to, w.text, s.error);
		return false;
	}
	if (!fake_tasks_wait())
		fault_wrong("tasks do not end");
	look_at_guest(to);
	return true;
}

/* ---- a cell ---- */

static char outcome(void)
{
	const struct vm *a = fault_vm_at(A), *b = fault_vm_at(B);
	char remote = fault_is_remote() ? fault_remote_outcome() : 0;
	if (remote)
		return remote;
	if (fault_runs_at(A))
		return fault_runs_at(B) ? '2' : FAULT_AT_SOURCE;
	if (a && a->state == VM_UNDECIDED)
		return fault_runs_at(B) ? FAULT_BOTH : FAULT_UNDECIDED;
	if (fault_runs_at(B))
		return FAULT_AT_DEST;
	if (a || b)
		return vm_state_is_off((a ? a : b)->state) ? FAULT_OFF : '?';
	return fake_host_dead[A] || fake_host_dead[B] ? FAULT_DIED : '0';
}

static bool is_right(const char *right, enum fault_phase phase, char outcome)
{
	const char *why;
	if (phase == AT_REMOTE)
		return strchr(fault_remote_right(fault_run.cell->event, &why), outcome);
	for (unsigned i = 0; i < (unsigned)phase; i++)
		right = strchr(right, ' ') + 1;
	return memchr(right, outcome, strcspn(right, " "));
}

/* A cause in words, no mere name of an error. */
static void look_at_words(int side, const char *text)
{
	const char *must = fault_run.cell->event->says[side];
	bool bare = !text[0];
	for (int e = 1; e < 140; e++)
		bare |= !strcmp(text, err_name(-e));
	if (bare)
		fault_wrong("the %s does not say why: \"%s\"", side == A ? "source" : "destination", text);
	else if (must && !strstr(text, must))
		fault_wrong("the %s does not say \"%s\" but \"%s\"", side == A ? "source" : "destination", must, text);
}

/* What the operator reads on both consoles. */
static void take_words(struct fault_cell *c)
{
	for (int h = A; h <= B; h++) {
		struct migrate_status s = { .phase = MIG_DONE };
		const char *text = "";
		if (fake_host_dead[h])
			continue;
		bool any = attempt_at(h, h == B, &s);
		if (any && s.phase == MIG_REMOTE && h == B)
			continue; /* it runs here, and says how much it lacks; the log has why */
		if (any && s.phase != MIG_DONE)
			look_at_words(h, text = s.error);
		else if (!any && c->outcome == FAULT_AT_SOURCE)
			text = fake_log_last_at(h); /* it was not offered anything yet */
		if (text[0])
			snprintf(c->says[h], sizeof(c->says[h]), "%s", text);
		if (h == A && is_over(s.phase))
			c->still_ns = MAX(c->still_ns, s.downtime_ns);
		if (h == A && c->step->phase <= AT_STOPPED && s.downtime_ns > FAULT_STILL_NS)
			fault_wrong("the guest stood still for %lu ms", s.downtime_ns / NS_PER_MS);
	}
}

/* Hosts that died boot again, lines are well; the operator claims what no host has. */
static void heal(void)
{
	struct migrate_status s;
	fault_run.allocs = 0;
	fault_run.armed = false;
	memset(&fake_vm_opts, 0, sizeof(fake_vm_opts));
	for (int h = A; h <= B; h++) {
		if (!fake_host_dead[h])
			continue;
		/* No longer real: they end its tasks. */
		ON_HOST(h)(void) migrate_claim("demo", true, &(struct why){ "" });
		if (fault_is_remote() && h == A)
			ON_HOST(h)(void) migrate_forget("demo", true, &(struct why){ "" });
		if (fault_is_remote() && h == B && fake_vm_find(B, "demo"))
			(void)vm_stop(fake_vm_find(B, "demo"), &(struct why){ "" });
		for (uint64_t end = time_ns() + FAULT_BOUND_NS; fake_tasks_at(h) && time_ns() < end;)
			task_sleep_until(time_ns() + LOOK_NS);
		if (fake_tasks_at(h))
			fault_wrong("tasks of the dead host do not end");
		fake_host_restart(h);
		fake_net_revive(h);
	}
	for (int i = 0; i < FAKE_HOSTS * FAKE_HOSTS; i++)
		pipe_line_set(&lines[i / FAKE_HOSTS][i % FAKE_HOSTS], false);
	fault_lines(RATE, 0);
	for (uint64_t end = time_ns() + FAULT_BOUND_NS; time_ns() < end; task_sleep_until(time_ns() + LOOK_NS)) {
		if (!attempt_at(A, false, &s) || s.phase != MIG_UNDECIDED)
			break;
		if (strstr(s.error, "none has it"))
			ON_HOST(A) if (migrate_claim("demo", false, NULL)) fault_wrong("claim is refused");
	}
	if (fault_is_remote())
		fault_remote_heal();
	if (!fake_tasks_wait())
		fault_wrong("tasks do not end");
}

/* What the disks of those VMs that are there may still take. */
static uint64_t disks_room(void)
{
	uint64_t n = 0;
	for (int h = 0; h < FAKE_HOSTS; h++)
		for (unsigned i = 0; fault_vm_at(h) && i < fault_vm_at(h)->cfg.ndisks; i++)
			n += fault_vm_at(h)->disk[i]->layer.pages.pages;
	return n;
}

/* Nothing is left on either host but the VM. */
static void look_for_left(void)
{
	struct decision d;
	for (int h = 0; h < FAKE_HOSTS; h++) {
		const struct migrate_host *m = &fake_hosts[h];
		unsigned open = 0;
		for (unsigned i = 0; i < 3; i++)
			ON_HOST(h) open = settle_once(TIME_NEVER);
		if (open || m->nrecords)
			fault_wrong("%u records are left at %c", m->nrecords, 'a' + h);
		if (m->receiving || m->relaying || m->ngreetings || m->band.running || !list_empty(&m->band.queue))
			fault_wrong("a session is left at %c", 'a' + h);
		ON_HOST(h) if (attempt_get(0, &d)) fault_wrong("a record is left at %c", 'a' + h);
	}
	if (!fake_tasks_wait())
		fault_wrong("tasks do not end");
	if (fake_page_reserved() != disks_room())
		fault_wrong("%lu pages are still reserved", fake_page_reserved());
	if (fault_vm_at(A) && fault_vm_at(B))
		fault_wrong("both hosts have the VM, %s and %s", vm_state_name(fault_vm_at(A)->state),
			    vm_state_name(fault_vm_at(B)->state));
	if (pipe_open())
		fault_wrong("%u connections are left", pipe_open());
}

static void run(struct fault_cell *c)
{
	const struct fault_event *e = c->event;
	struct why w = { "" };
	int err = 0;
	fault_run.hit = fault_run.did = fault_run.burst = false;
	fault_run.begin_ns = time_ns();
	fault_run.hit_ns = fault_run.noticed_ns = 0;
	fault_run.end[A] = fault_run.end[B] = NULL;
	fault_run.armed = true;
	struct migrate_params p = *params_to(B);
	p.pull = fault_run.cell->step->pulled;
	if (fault_is_remote()) {
		guest_writes(BURST); /* pass 1 shows what the line carries */
		fault_remote_begin(&p);
	}
	ON_HOST(A) err = migrate_start(fault_vm_at(A), &p, &w);
	if (err)
		fault_wrong("it does not begin: %s", w.text);
	bool quiet = wait_quiet(e->stays, time_ns() + e->lasts_ns + 2 * FAULT_BOUND_NS);
	if (!fault_run.hit) {
		fault_wrong("the step was not passed");
	} else {
		c->ns = MAX(c->ns, time_ns() - fault_run.hit_ns);
		if (!quiet || time_ns() - fault_run.hit_ns > e->lasts_ns + FAULT_BOUND_NS)
			fault_wrong("it does not end within %lu s", (e->lasts_ns + FAULT_BOUND_NS) / NS_PER_SEC);
	}
	if (fault_run.hit && e->parts && fault_run.noticed_ns - fault_run.hit_ns > FAULT_NOTICE_NS)
		fault_wrong("it is noticed after %lu ms", (fault_run.noticed_ns - fault_run.hit_ns) / NS_PER_MS);
	c->outcome = outcome();
	if (!is_right(e->right, c->step->phase, c->outcome))
		fault_wrong("the outcome is %c, right is %s%s", c->outcome, fault_is_remote() ? "" : "by phase, ",
			    fault_is_remote() ? fault_remote_right(e, &(const char *){ NULL }) : e->right);
	take_words(c);
	if (fault_is_remote())
		fault_remote_look();
	heal();
	look_for_left();
	if (e->end)
		e->end();
	int at = fault_runs_at(A) ? A : fault_runs_at(B) ? B : C;
	bool gone = c->outcome == FAULT_DIED || c->outcome == FAULT_OFF || c->outcome == FAULT_LACKS ||
		    c->outcome == FAULT_PART;
	if (at == C && !gone)
		fault_wrong("nobody runs it after all was healed");
	if (at == C)
		return;
	look_at_guest(at);
	(void)fault_move(at, A + B - at);
}

/* Of those that count, all at the first step and in post-copy, and the next few at each other, which are among them. */
static unsigned variants_of(const struct fault_cell *c)
{
	if (c->event->variants != FAULT_UNTIL_IDLE)
		return MAX(c->event->variants, 1U);
	return c->step == fault_steps || c->step->phase == AT_REMOTE ? c->event->variants : 6;
}

void fault_run_cell(struct fault_cell *c)
{
	const struct fault_event *e = c->event;
	const char *more = getenv("TERN_FAULT_SEED"); /* other turns than usual */
	uint64_t seed = more ? strtoul(more, NULL, 10) * 1000000000 : 0;
	bool goes_on = true;
	fault_run.cell = c;
	for (unsigned v = 0, n = variants_of(c); v < n && goes_on && !c->problem[0]; v++) {
		fake_turns_seed(seed + 1 + v + 1000 * (uint64_t)(c->step - fault_steps) +
				1000000 * (uint64_t)(e - fault_events));
		fault_run.variant = v;
		fault_world_begin(c->step);
		if (e->begin && !e->begin())
			fault_wrong("the migration before it failed");
		run(c);
		goes_on = e->variants != FAULT_UNTIL_IDLE || fault_run.did;
		c->runs++;
		fault_world_end();
	}
	fault_run.cell = NULL;
}
