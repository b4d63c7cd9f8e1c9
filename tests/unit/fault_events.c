/* SPDX-License-Identifier: BSD-2-Clause */
/* The steps and the events of the fault matrix (faults.h), and what is right at each. */
#include "tests/unit/faults.h"
#include "kernel/task.h"
#include "net/trust.h"
#include "tests/unit/fake_turns.h"
#include "vmm/migrate/wire.h"
#include "vmm/vm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
const struct fault_step fault_steps[] = {
	{ "P0", "source, before connecting", P0_CONNECT, A, AT_SETUP, false, NULL, 0 },
	{ "P1", "source, connected", P1_TLS, A, AT_SETUP, false, NULL, 0 },
	{ "P2a", "source, before HELLO", P2_HELLO, A, AT_SETUP, false, NULL, 0 },
	{ "P12", "source, before OFFER", P12_BEFORE_OFFER, A, AT_SETUP, false, NULL, 0 },
	{ "P2b", "destination, before its checks", P2_HELLO, B, AT_SETUP, false, NULL, 0 },
	{ "P3", "destination, before the skeleton is made", P3_ALLOCATE, B, AT_SETUP, false, NULL, 0 },
	{ "P13", "destination, before ACCEPT", P13_ANSWER_LOST, B, AT_SETUP, false, NULL, 0 },
	{ "P4a", "source, in pass 1", P4_FIRST_PASS, A, AT_PASSES, false, NULL, 0 },
	{ "P4b", "destination, in pass 1", P4_FIRST_PASS, B, AT_PASSES, false, NULL, 0 },
	{ "P5a", "source, in a later pass", P5_NTH_PASS, A, AT_PASSES, false, NULL, 0 },
	{ "P5b", "destination, in a later pass", P5_NTH_PASS, B, AT_PASSES, false, NULL, 0 },
	{ "P4pa", "source, in pass 1, which is asked for", P4_FIRST_PASS, A, AT_PASSES, false, NULL, 1 },
	{ "P4pb", "destination, in pass 1, which it asks for", P4_FIRST_PASS, B, AT_PASSES, false, NULL, 1 },
	{ "P5pa", "source, in a later pass, which is asked for", P5_NTH_PASS, A, AT_PASSES, false, NULL, 1 },
	{ "P5pb", "destination, in a later pass, which it asks for", P5_NTH_PASS, B, AT_PASSES, false, NULL, 1 },
	{ "P6", "source, before the pause", P6_BEFORE_PAUSE, A, AT_STOPPED, false, NULL, 0 },
	{ "P7", "source, after the pause", P7_AFTER_PAUSE, A, AT_STOPPED, false, NULL, 0 },
	{ "P8a", "source, in the final pass", P8_FINAL_PAGES, A, AT_STOPPED, false, NULL, 0 },
	{ "P8b", "destination, in the final pass", P8_FINAL_PAGES, B, AT_STOPPED, false, NULL, 0 },
	{ "P9", "source, before END", P9_BEFORE_END, A, AT_STOPPED, false, NULL, 0 },
	{ "P10", "destination, END checked", P10_BEFORE_READY, B, AT_READY, false, NULL, 0 },
	{ "P11", "destination, before READY goes out", P11_READY_LOST, B, AT_READY, false, NULL, 0 },
	{ "P14", "source, undecided, before COMMIT goes out", P14_COMMIT_LOST, A, AT_COMMIT, false, NULL, 0 },
	{ "P15", "destination, COMMIT received", P15_BEFORE_DECISION, B, AT_DECIDING, false, NULL, 0 },
	{ "P16", "destination, its disks are taken", P16_DISKS_TAKEN, B, AT_DECIDED, false,
	  "a step of shared storage, which there is none of: disks are local layers, which came with the pages", 0 },
	{ "P17", "destination, decided, not running yet", P17_DECIDED, B, AT_DECIDED, false, NULL, 0 },
	{ "P18", "destination, runs there", P18_RUNNING, B, AT_DECIDED, false, NULL, 0 },
	{ "P19", "destination, before STARTED goes out", P19_STARTED_LOST, B, AT_DECIDED, false, NULL, 0 },
	{ "P20", "source, before its image is freed", P20_BEFORE_FREE, A, AT_FREED, false, NULL, 0 },
	{ "P14r", "source, END is out, COMMIT is to ride with it", P14_COMMIT_LOST, A, AT_COMMIT, true, NULL, 0 },
	{ "P10r", "destination, END checked, COMMIT is behind it", P10_BEFORE_READY, B, AT_RIDING, true, NULL, 0 },
	{ "P11r", "destination, before READY, COMMIT has come", P11_READY_LOST, B, AT_RIDING, true, NULL, 0 },
	{ "P15r", "destination, COMMIT that rode is read", P15_BEFORE_DECISION, B, AT_DECIDING, true, NULL, 0 },
	{ "P19r", "destination, before STARTED goes out, far away", P19_STARTED_LOST, B, AT_DECIDED, true, NULL, 0 },
	{ "P21", "source, before it serves what is asked for", P21_SERVING, A, AT_REMOTE, false, NULL, 0 },
	{ "P22", "destination, before it takes what was absent", P22_PULLING, B, AT_REMOTE, false, NULL, 0 },
};
/* clang-format on */
const unsigned fault_nsteps = ARRAY_SIZE(fault_steps);

/* ---- hosts and lines ---- */

static void kill_source(unsigned v unused) { fake_net_die(A); }
static void kill_dest(unsigned v unused) { fake_net_die(B); }

/* The source's cable: what comes from it, and what goes to it. */
static void cable(bool from_down, bool to_down)
{
	for (int i = B; i < FAKE_HOSTS; i++) {
		pipe_line_set(fault_line(A, i), from_down);
		pipe_line_set(fault_line(i, A), to_down);
	}
}

static void up_later(void *ns)
{
	task_sleep_until(time_ns() + (uint64_t)(uintptr_t)ns);
	cable(false, false);
}

static void cut_for(uint64_t ns)
{
	cable(true, true);
	ON_HOST(C)(void) !task_create("cut", TASK_PRIO_NORMAL, up_later, (void *)(uintptr_t)ns);
}

static void cut_1(unsigned v unused) { cut_for(NS_PER_SEC); }
static void cut_5(unsigned v unused) { cut_for(5 * NS_PER_SEC); }
static void cut_30(unsigned v unused) { cut_for(30 * NS_PER_SEC); }
static void cut(unsigned v unused) { cable(true, true); }
static void deaf_dest(unsigned v unused) { cable(true, false); }
static void deaf_source(unsigned v unused) { cable(false, true); }
/* The third host gets to both, and says to each what it hears of the other. */
static void cut_way(unsigned v unused)
{
	pipe_line_set(fault_line(A, B), true);
	pipe_line_set(fault_line(B, A), true);
}
static void slow(unsigned v unused) { fault_lines(1000000 / 8, 0); }
static void lossy(unsigned v unused) { fault_lines(125000000, 5); }

/* What the next write of an end of the migration's connection comes to. */
static void damage(int side, enum pipe_fault what)
{
	struct stream *s = fault_run.end[side];
	if (stream_pipe_is_open(s))
		stream_pipe_fault(s, what, fake_turns_draw());
}
static void held_up(unsigned v unused)
{
	if (stream_pipe_is_open(fault_run.end[A]))
		stream_pipe_hold(fault_run.end[A], 9 * NS_PER_SEC);
}
static void reset(unsigned v unused)
{
	if (stream_pipe_is_open(fault_run.end[A]))
		stream_pipe_reset(fault_run.end[A]);
}
static void fin_source(unsigned v unused) { damage(A, PIPE_END); }
static void fin_dest(unsigned v unused) { damage(B, PIPE_END); }
static void flip_source(unsigned v unused) { damage(A, PIPE_FLIP); }
static void flip_dest(unsigned v unused) { damage(B, PIPE_FLIP); }
static void lose_source(unsigned v unused) { damage(A, PIPE_LOSE); }
static void lose_dest(unsigned v unused) { damage(B, PIPE_LOSE); }
static void twice_source(unsigned v unused) { damage(A, PIPE_TWICE); }
static void twice_dest(unsigned v unused) { damage(B, PIPE_TWICE); }

/* ---- an old stream: of an earlier migration of this VM, between the same boots of these hosts ---- */

struct recorder { /* a stream that keeps what is written to it */
	struct stream s;
	struct stream *under;
	int side;
};
static struct {
	uint8_t *p;
	size_t len;
} old[2];

static int recorder_read(struct stream *s, void *buf, size_t max, uint64_t deadline)
{
	return stream_read_some(CONTAINER_OF(s, struct recorder, s)->under, buf, max, deadline);
}
static int recorder_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline)
{
	struct recorder *r = CONTAINER_OF(s, struct recorder, s);
	for (unsigned i = 0; i < n; i++) {
		old[r->side].p = realloc(old[r->side].p, old[r->side].len + iov[i].len);
		memcpy(old[r->side].p + old[r->side].len, iov[i].base, iov[i].len);
		old[r->side].len += iov[i].len;
	}
	return stream_writev(r->under, iov, n, deadline);
}
static int recorder_shutdown(struct stream *s) { return stream_shutdown(CONTAINER_OF(s, struct recorder, s)->under); }
static void recorder_abort(struct stream *s) { stream_abort(CONTAINER_OF(s, struct recorder, s)->under); }
static void recorder_close(struct stream *s)
{
	stream_close(CONTAINER_OF(s, struct recorder, s)->under);
	free(CONTAINER_OF(s, struct recorder, s));
}
static const struct stream_ops recorder_ops = { recorder_read, recorder_writev, recorder_shutdown, recorder_abort,
						recorder_close };

static struct stream *record(struct stream *s, int side)
{
	struct recorder *r = calloc(1, sizeof(*r));
	r->s = *s;
	r->s.ops = &recorder_ops;
	r->under = s;
	r->side = side;
	return &r->s;
}
static struct stream *record_source(struct stream *s) { return record(s, A); }
static struct stream *record_dest(struct stream *s) { return record(s, B); }

static bool record_old(void)
{
	struct stream *(*client)(struct stream *) = fake_net.tap_client,
					       *(*server)(struct stream *) = fake_net.tap_server;
	old[A].len = old[B].len = 0;
	fake_net.tap_client = record_source;
	fake_net.tap_server = record_dest;
	bool ok = fault_move(A, B);
	fake_net.tap_client = client;
	fake_net.tap_server = server;
	return ok && fault_move(B, A);
}

/* All of it, on a connection of its own. The host is the other than the one that this task is on. */
static void replay_task(void *arg)
{
	struct stream *s;
	uint8_t answer[256];
	int to = (int)(intptr_t)arg;
	ON_HOST(to == B ? A : B)
	if (!trust_connect(&s, fake_net_address(to), MIGRATE_PORT, time_in_ms(10000), NULL, NULL)) {
		if (!stream_write(s, old[A].p, old[A].len, time_in_ms(10000)))
			while (stream_read_some(s, answer, sizeof(answer), time_in_ms(10000)) > 0)
				;
		stream_close(s);
	}
}

static void replay(unsigned v unused)
{
	ON_HOST(C)
	for (int to = A; to <= B; to++)
		(void)!task_create("replay", TASK_PRIO_NORMAL, replay_task, (void *)(intptr_t)to);
}

#define RECORD          (WIRE_HEADER + 4 + WIRE_ID_LEN) /* bytes: header, check, id */
#define COMMIT_AND_DONE (RECORD + 8 + RECORD)
#define STARTED         (RECORD + 16UL)
/* The old stream's last words from that side, COMMIT and DONE or STARTED, in front of what it says next. */
static void replay_words(int side)
{
	size_t n = MIN(old[side].len, side == A ? COMMIT_AND_DONE : STARTED);
	stream_pipe_old(old[side].p + old[side].len - n, n);
	damage(side, PIPE_OLD);
}
static void replay_source(unsigned v unused) { replay_words(A); }
static void replay_dest(unsigned v unused) { replay_words(B); }

/* ---- the operator, on either console ---- */

static void waits_for_cancel(void *arg unused) { (void)!migrate_wait("demo", time_in_ms(5000)); }

/* `migrate cancel demo` */
static void cancel(int h)
{
	struct why w = { "" };
	int err = 0;
	ON_HOST(h)
	{
		err = migrate_cancel("demo", &w);
		if (!err && fault_is_remote())
			fault_wrong("cancel is not refused");
		if (!err)
			(void)!task_create("cancel", TASK_PRIO_NORMAL, waits_for_cancel, NULL);
	}
	if (err && !w.text[0])
		fault_wrong("cancel is refused without a word");
}
static void cancel_source(unsigned v unused) { cancel(A); }
static void cancel_dest(unsigned v unused) { cancel(B); }
/* A packet that is lost is sent again after a second: that much must not cost the word that it was cancelled. */
static void cut_and_cancel(int h)
{
	cut_for(2 * NS_PER_SEC);
	cancel(h);
}
static void cut_cancel_source(unsigned v unused) { cut_and_cancel(A); }
static void cut_cancel_dest(unsigned v unused) { cut_and_cancel(B); }

static void stop(int h)
{
	struct why w = { "" };
	struct vm *vm = fault_vm_at(h);
	if (fault_is_remote() && h == B) { /* it is the operator's power cut, as ever */
		if (!vm || vm_stop(vm, &w))
			fault_wrong("vm stop was refused");
		return;
	}
	if (vm && vm_stop(vm, &w) != -EBUSY)
		fault_wrong("vm stop was not refused");
	if (vm && !strstr(w.text, "migrate cancel"))
		fault_wrong("vm stop does not say what to do");
}
static void stop_source(unsigned v unused) { stop(A); }
static void stop_dest(unsigned v unused) { stop(B); }

static void second(int h)
{
	struct migrate_params p = {
		.dest = fake_net_address(C), .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30
	};
	struct why w = { "" };
	struct vm *vm = fault_vm_at(h);
	int err = -EBUSY;
	ON_HOST(h) if (vm) err = migrate_start(vm, &p, &w);
	if (!err)
		fault_wrong("a second migration was begun");
	else if (vm && !w.text[0])
		fault_wrong("a second migration is refused without a word");
}
static void second_source(unsigned v unused) { second(A); }
static void second_dest(unsigned v unused) { second(B); }

/* ---- the guest ---- */

static struct vm *runner(void) { return fault_runs_at(A) ? fault_vm_at(A) : fault_runs_at(B) ? fault_vm_at(B) : NULL; }
static unsigned resets;
static void guest_reboots(unsigned v unused)
{
	resets = fake_resets;
	vm_request_reset(runner());
}
static void has_rebooted(void)
{
	if (fake_resets != resets + 1)
		fault_wrong("the guest was reset %u times", fake_resets - resets);
}
static void is_in(enum vm_state state)
{
	const struct vm *vm = fault_vm_at(A) ? fault_vm_at(A) : fault_vm_at(B);
	if (!vm || vm->state != state)
		fault_wrong("the VM is %s", vm ? vm_state_name(vm->state) : "gone");
}
static void is_off(void) { is_in(VM_STOPPED); }
static void has_failed(void) { is_in(VM_FAILED); }
static void guest_off(unsigned v unused) { vm_request_power_off(runner()); }
static void guest_fails(unsigned v unused) { vm_fail(runner(), "triple fault"); }
static void virtio_reset(unsigned v unused) { fault_guest_virtio_reset(); }

/* ---- state and memory ---- */

static void export_fails(unsigned v unused) { fake_vm_opts.save_fail = true; }

/* Each section's, and then the CPUs'. */
static void import_fails(unsigned v)
{
	fake_vm_opts.refuse_section = v < FAKE_SECTIONS ? v + 1 : 0;
	fake_vm_opts.load_fail = v == FAKE_SECTIONS;
}

static void alloc_fails(unsigned v)
{
	fault_alloc_arm((long)v + 1);
	if (fault_is_remote()) /* nothing is allocated but for another connection */
		reset(v);
}

static void not_there(unsigned v unused) {}

/* It went on by itself, on its connection, when TCP next tried: nobody had to be asked what became of it. */
static void same_attempt(void)
{
	const struct fault_cell *c = fault_run.cell;
	if (c->ns > c->event->lasts_ns + STREAM_AGAIN_NS)
		fault_wrong("it went on, but was over after %lu ms only", c->ns / NS_PER_MS);
	if (fake_log_has("is undecided"))
		fault_wrong("it did not go on where it was, but was undecided");
}

/* ---- what is right ---- */

/*
 * What is right at each phase, in the order of enum fault_phase: setup, passes, stopped, ready, COMMIT, riding,
 * deciding, decided, freed. Letters of either outcome where a race decides; "-": there are no such cells.
 */
#define EVERYWHERE  "D D D D D D D D D"
#define NOWHERE     "- - - - - - - - -"
#define ON_THE_WIRE (NEEDS_LINK | NEEDS_WORDS)
const struct fault_event fault_running[] = {
	{ .name = "source killed",
	  .happens = kill_source,
	  .right = "L L L L L DL D D D",
	  .stays = true,
	  .parts = true },
	{ .name = "destination killed",
	  .happens = kill_dest,
	  .right = "S S S S U U U U L",
	  .stays = true,
	  .parts = true },
	{ .name = "link cut for 1 s",
	  .happens = cut_1,
	  .right = EVERYWHERE,
	  .lasts_ns = 1 * NS_PER_SEC,
	  .end = same_attempt },
	{ .name = "link cut for 5 s",
	  .happens = cut_5,
	  .right = EVERYWHERE,
	  .lasts_ns = 5 * NS_PER_SEC,
	  .end = same_attempt },
	{ .name = "link cut for 30 s",
	  .happens = cut_30,
	  .right = "S S S S S DS D D D",
	  .lasts_ns = 30 * NS_PER_SEC,
	  .parts = true },
	{ .name = "link cut for ever", .happens = cut, .right = "S S S S U UB B B D", .stays = true, .parts = true },
	{ .name = "only the way between the two is cut for ever",
	  .happens = cut_way,
	  .right = "S S S S U UD D D D",
	  .stays = true,
	  .parts = true },
	{ .name = "half-open: nothing comes from the source",
	  .happens = deaf_dest,
	  .right = "S S S U U UD D D D",
	  .stays = true,
	  .parts = true },
	{ .name = "half-open: nothing gets to the source",
	  .happens = deaf_source,
	  .right = "S S S S B B B B D",
	  .stays = true,
	  .parts = true },
	{ .name = "what the source says is held up for 9 s, on this connection alone",
	  .happens = held_up,
	  .right = "D D S S S S D D D",
	  .needs = NEEDS_LINK,
	  .lasts_ns = 9 * NS_PER_SEC },
	{ .name = "RST", .happens = reset, .right = "S S S S S DS D D D", .needs = NEEDS_LINK },
	{ .name = "FIN inside a record of the source",
	  .happens = fin_source,
	  .right = "S S S S S D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "FIN inside a record of the destination",
	  .happens = fin_dest,
	  .right = "S S S S D D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "1 Mbit/s", .happens = slow, .right = EVERYWHERE },
	{ .name = "5 % loss", .happens = lossy, .right = EVERYWHERE },
	{ .name = "corruption of the source's bytes",
	  .happens = flip_source,
	  .right = "S S S S S D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "corruption of the destination's bytes",
	  .happens = flip_dest,
	  .right = "S S S S D D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "truncation of the source's bytes",
	  .happens = lose_source,
	  .right = "S S S S S D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "truncation of the destination's bytes",
	  .happens = lose_dest,
	  .right = "S S S S D D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "repetition of the source's bytes",
	  .happens = twice_source,
	  .right = "S S S S S D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "repetition of the destination's bytes",
	  .happens = twice_dest,
	  .right = "S S S S D D D D -",
	  .needs = ON_THE_WIRE },
	{ .name = "replay of an old stream, to both hosts",
	  .happens = replay,
	  .right = EVERYWHERE,
	  .begin = record_old },
	{ .name = "replay of the source's old words",
	  .happens = replay_source,
	  .right = "S S S S S D D D -",
	  .needs = ON_THE_WIRE,
	  .begin = record_old },
	{ .name = "replay of the destination's old words",
	  .happens = replay_dest,
	  .right = "S S S S D D D D -",
	  .needs = ON_THE_WIRE,
	  .begin = record_old },
	{ .name = "n-th allocation fails",
	  .happens = alloc_fails,
	  .right = "DS DS DS DS DS DS DS D D",
	  .variants = FAULT_UNTIL_IDLE },
	{ .name = "cancelled at the source",
	  .happens = cancel_source,
	  .right = "S S S S D D D D D",
	  .says = { "cancelled by the operator", "cancelled at its source" } },
	{ .name = "cancelled at the destination",
	  .happens = cancel_dest,
	  .right = "S S S S S S S D D",
	  .needs = NEEDS_DEST_VM,
	  .says = { "cancelled", "cancelled by the operator" } },
	{ .name = "cancelled at the source, the link cut for 2 s",
	  .happens = cut_cancel_source,
	  .right = "S S S S D D D D D",
	  .lasts_ns = 2 * NS_PER_SEC,
	  .says = { "cancelled by the operator", "cancelled at its source" } },
	{ .name = "cancelled at the destination, the link cut for 2 s",
	  .happens = cut_cancel_dest,
	  .right = "S S S S S S S D D",
	  .needs = NEEDS_DEST_VM,
	  .lasts_ns = 2 * NS_PER_SEC,
	  .says = { "cancelled", "cancelled by the operator" } },
	{ .name = "guest reboots",
	  .happens = guest_reboots,
	  .right = "S S S - - - - D D",
	  .needs = NEEDS_GUEST,
	  .says = { "restarts", "restarts" },
	  .end = has_rebooted },
	{ .name = "guest powers off",
	  .happens = guest_off,
	  .right = "O O O - - - - O O",
	  .needs = NEEDS_GUEST,
	  .says = { "powers off", "powers off" },
	  .end = is_off },
	{ .name = "guest's CPU has a triple fault",
	  .happens = guest_fails,
	  .right = "O O O - - - - O O",
	  .needs = NEEDS_GUEST,
	  .says = { "has failed", "has failed" },
	  .end = has_failed },
	{ .name = "guest resets its virtio devices",
	  .happens = virtio_reset,
	  .right = "D D D - - - - D D",
	  .needs = NEEDS_GUEST },
	{ .name = "vm stop at the source", .happens = stop_source, .right = EVERYWHERE },
	{ .name = "vm stop at the destination", .happens = stop_dest, .right = EVERYWHERE, .needs = NEEDS_DEST_VM },
	{ .name = "vm reset at the source", .happens = not_there, .right = NOWHERE, .needs = NEEDS_OTHER },
	{ .name = "vm reset at the destination", .happens = not_there, .right = NOWHERE, .needs = NEEDS_OTHER },
	{ .name = "second migration at the source", .happens = second_source, .right = EVERYWHERE },
	{ .name = "second migration at the destination",
	  .happens = second_dest,
	  .right = EVERYWHERE,
	  .needs = NEEDS_DEST_VM },
	{ .name = "export of the CPUs fails",
	  .happens = export_fails,
	  .right = "S S S S - - - - -",
	  .needs = NEEDS_EXPORT,
	  .says = { "vCPU 0 cannot be saved", "vCPU 0 cannot be saved" } },
	{ .name = "import of each device, and of the CPUs, fails",
	  .happens = import_fails,
	  .right = "S S S S - - - - -",
	  .needs = NEEDS_IMAGE,
	  .variants = FAKE_SECTIONS + 1,
	  .says = { "state", "state" } },
};
const unsigned fault_nrunning = ARRAY_SIZE(fault_running);

__attribute__((destructor)) static void free_old(void)
{
	free(old[A].p);
	free(old[B].p);
}
