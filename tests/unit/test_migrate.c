/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Source and destination in one process, over a pipe, with real guest memory, page tables and state tables
 * (fake_hosts.h says what is not real). After whatever was done to the stream: exactly one host runs the VM, its memory
 * is that of its last pause, nothing is left over, and the next attempt works.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "kernel/console.h"
#include "kernel/host.h"
#include "vmm/boot_file.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/records.h"
#include "vmm/migrate/settle.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- a stream that records, damages and interferes ---- */

static volatile bool commit_is_out;

/* What a long line does to the destination's records. */
static void far_wait(const uint8_t *record)
{
	uint32_t type = get_le32(record);
	if (type == WIRE_PASS_ACK) {
		uint64_t end = time_ns() + 15 * NS_PER_MS;
		while (time_ns() < end)
			task_yield();
	}
	for (unsigned i = 0; type == WIRE_READY && !commit_is_out && i < 5000; i++) {
		struct timespec ts = { .tv_nsec = 1000000 };
		nanosleep(&ts, NULL);
	}
	if (type == WIRE_READY && !commit_is_out)
		fail_msg("COMMIT waits for READY");
}

static void tap_before(struct tap *t, const uint8_t *bytes)
{
	if (get_le32(bytes) == WIRE_COMMIT)
		commit_is_out = true;
	if (t->far)
		far_wait(bytes);
}
static void tap_after(struct tap *t unused) {}

/* ---- two hosts: this thread is on host 0, every connection is served on host 1 ---- */

static struct log *query_log[2]; /* of connections made by tern itself: source's output, destination's */

static void serve(void *s)
{
	fake_host = 1;
	migrate_serve(NULL, s);
}

static struct stream *tap_question(struct stream *s)
{
	struct tap *t = tap_new(s, s->ip, s->peer);
	t->log = query_log[0];
	return &t->s;
}

static struct stream *tap_answer(struct stream *s)
{
	struct tap *t = tap_new(s, s->ip, s->peer);
	t->log = query_log[1];
	return &t->s;
}

static const struct migrate_params params = {
	.dest = { { [10] = 0xff, 0xff, 10, 77, 0, 12 } }, .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30
};

/* ---- guest memory with something of everything ---- */

static void fill_page(struct vm *vm, uint64_t n, uint64_t seed)
{
	uint64_t page[512];
	for (unsigned i = 0; i < 512; i++)
		page[i] = seed ? seed * 0x9e3779b97f4a7c15ULL + n * 512 + i : 0;
	assert_true(fake_guest_write(vm, n << PAGE_SHIFT, page, sizeof(page)));
}

/* A boot file that no host has but the VM: each move brings it along. */
static void give_file(struct vm *vm, enum vm_file_use use, size_t size)
{
	struct boot_file *f;
	assert_int_equal(boot_file_new(size, &f, NULL), 0);
	for (size_t i = 0; i < size; i++)
		boot_file_write(f, i, &(uint8_t){ (uint8_t)(i * 7 + i / 251 + use) }, 1);
	vm_set_file(vm, use, f);
}

static bool has_file(const struct vm *vm, enum vm_file_use use, size_t size)
{
	const struct boot_file *f = vm->file[use];
	size_t n, bad = !f || f->size != size;
	for (size_t i = 0; !bad && i < size; i++)
		bad += *boot_file_at(f, i, &n) != (uint8_t)(i * 7 + i / 251 + use);
	return !bad;
}

static struct vm *new_demo(uint64_t mem)
{
	struct vm *vm = fake_vm_new("demo", mem);
	give_file(vm, VM_INITRD, 70);
	fill_page(vm, 0, 1);
	fill_page(vm, 5, 2);
	fill_page(vm, 6, 3);
	fill_page(vm, mem / PAGE_SIZE - 1, 4);
	const uint8_t last = 1;
	assert_true(fake_guest_write(vm, 9 * PAGE_SIZE - 1, &last, 1)); /* zero but for its last byte */
	return vm;
}

/* Everybody is done. Exactly one host runs it; its memory is right. True: the destination. Removes the VM. */
static bool settled(void)
{
	assert_true(fake_tasks_wait());
	struct vm *a = fake_vm_find(0, "demo"), *b = fake_vm_find(1, "demo");
	assert_true(!a != !b);
	struct vm *vm = a ? a : b;
	assert_int_equal(vm->state, VM_RUNNING);
	assert_null(vm->migration);
	assert_false(vm->mem.tracking);
	if (b) {
		static uint8_t part[16 * PAGE_SIZE]; /* less than all of it, which ASan would map anew each time */
		for (uint64_t at = 0; at < b->cfg.mem; at += sizeof(part)) {
			assert_int_equal(gmem_read(&b->mem, at, part, sizeof(part)), 0);
			assert_memory_equal(part, fake_paused_image + at, sizeof(part));
		}
		assert_int_equal(fake_devs(b)[1].s.mode, 2);
		assert_true(fake_devs(b)[0].s.regs[3] == 0x1111111111111114ULL);
		assert_true(b->cfg.mac[0][0] == 0x52 && !strcmp(b->cfg.s.cmdline, "quiet"));
		assert_true(!b->file[VM_INITRD] || has_file(b, VM_INITRD, 70)); /* a source may know of none */
	}
	assert_int_equal(vm->refs, 1);
	vm_destroy(vm);
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
	return b;
}

/* One attempt over taps that the caller has prepared. */
static int attempt(struct vm *vm, struct tap *src, struct tap *dst, struct why *w)
{
	if (!task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s))
		abort();
	int err = migrate_source_run(vm, &src->s, &params, w);
	stream_close(&src->s);
	return err;
}

static void must_work(struct vm *vm)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	int err = attempt(vm, src, dst, &w);
	if (err)
		fail_msg("the next attempt failed: %s", w.text);
	assert_true(settled());
}

/* The whole stream of one migration, both directions. */
static struct log out[2];

/* ---- tests ---- */

static void test_plain(void **state unused)
{
	struct migrate_status s;
	unsigned announced = fake_announced();
	must_work(new_demo(MIB(2)));
	assert_int_equal(fake_announced(), announced + 1);
	ON_HOST(1) assert_true(migrate_get(0, &s) && s.incoming && s.phase == MIG_DONE);
	assert_true(migrate_get(0, &s) && !s.incoming && s.phase == MIG_DONE);
	assert_int_equal(s.pages_sent, 5);
	assert_true(s.zero_pages >= 507 && s.downtime_ns > 0 && s.total_ns >= s.downtime_ns);
}

/*
 * Boot files go with the VM, unless the destination has one of that name with the same bytes; and they are there as
 * long as the VM is.
 */
static void test_boot_files(void **state unused)
{
	static uint8_t bytes[70], others[70];
	struct vm *vm = new_demo(MIB(2)), *b;
	uint64_t before = host_info.file_bytes;
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	give_file(vm, VM_KERNEL, 200001); /* several records, the last one of 3393 bytes */
	if (attempt(vm, src, dst, &w))
		fail_msg("%s", w.text);
	assert_true(fake_tasks_wait());
	b = fake_vm_find(1, "demo");
	assert_true(has_file(b, VM_KERNEL, 200001) && has_file(b, VM_INITRD, 70));
	assert_int_equal(host_info.file_bytes, before - BOOT_FILE_BLOCK + 5 * BOOT_FILE_BLOCK);
	vm_destroy(b);
	assert_int_equal(host_info.file_bytes, before - BOOT_FILE_BLOCK);
	assert_int_equal(fake_page_live(), 0);

	for (size_t i = 0; i < sizeof(bytes); i++)
		others[i] = bytes[i] = (uint8_t)(i * 7 + i / 251 + VM_INITRD);
	others[69]++;
	assert_int_equal(boot_file_add("same.img", bytes, sizeof(bytes)), 0);
	assert_int_equal(boot_file_add("other.img", others, sizeof(others)), 0);
	static const char *const names[] = { "same.img", "other.img", "none.img" };
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		vm = new_demo(MIB(2));
		strcpy(vm->cfg.s.initrd, names[i]);
		src = connect_taps(&dst);
		assert_int_equal(attempt(vm, src, dst, &w), 0);
		assert_true(fake_tasks_wait());
		b = fake_vm_find(1, "demo");
		assert_true(has_file(b, VM_INITRD, 70));
		assert_true(i ? !b->file[VM_INITRD]->name : !strcmp(b->file[VM_INITRD]->name, "same.img"));
		vm_destroy(b);
	}
}

static void test_by_task(void **state unused)
{
	struct vm *vm = new_demo(MIB(2));
	struct migrate_status s;
	struct why w = { "" };
	vm_ref(vm); /* it may have moved before it is asked for again */
	assert_int_equal(migrate_start(vm, &params, &w), 0);
	int again = migrate_start(vm, &params, &w);
	vm_put(vm);
	assert_true(again == -EBUSY || again == -EINVAL || again == -ENOENT);
	assert_int_equal(migrate_wait("demo", time_in_ms(5000)), 0);
	assert_true(settled());
	assert_true(migrate_get(0, &s) && (s.phase == MIG_DONE));
	assert_int_equal(migrate_cancel("demo", &w), -ENOENT);

	vm = new_demo(MIB(2)); /* nobody there */
	fake_net.unreachable = 1;
	w.text[0] = 0;
	assert_int_equal(migrate_start(vm, &params, &w), 0);
	assert_int_equal(migrate_wait("demo", time_in_ms(5000)), 0);
	assert_true(migrate_get(0, &s) && s.phase == MIG_FAILED);
	assert_non_null(strstr(s.error, "no route"));
	assert_true(fake_tasks_wait());
	must_work(vm);
}

/* A guest that writes all the time, with pages that become zero again; and where the bytes go for an idle one. */
static volatile bool guest_stop;
static struct completion guest_gone;
static void guest(void *arg)
{
	struct vm *vm = arg;
	uint64_t page[512], n = 0;
	while (!guest_stop) {
		for (unsigned i = 0; i < 512; i++)
			page[i] = n % 3 ? n * 512 + i : 0;
		if (!fake_guest_write(vm, (n * 7 % 200) << PAGE_SHIFT, page, sizeof(page)))
			break; /* paused or gone: the test joins us before it frees anything */
		n++;
		if (n % 16 == 0)
			task_sleep_until(time_ns() + 100 * NS_PER_US);
	}
	completion_done(&guest_gone);
}

static void test_busy_guest(void **state unused)
{
	for (unsigned i = 0; i < 20; i++) {
		struct vm *vm = new_demo(MIB(4));
		guest_stop = false;
		completion_init(&guest_gone);
		vm->refs++; /* so that the guest's thread may look at it after it has left */
		assert_non_null(task_create("guest", TASK_PRIO_NORMAL, guest, vm));
		struct tap *dst, *src = connect_taps(&dst);
		struct why w = { "" };
		src->log = &out[0];
		dst->log = &out[1];
		out[0].len = out[1].len = 0;
		int err = attempt(vm, src, dst, &w);
		guest_stop = true;
		assert_int_equal(completion_wait(&guest_gone, time_in_ms(5000)), 0);
		vm_put(vm);
		if (err)
			fail_msg("%s", w.text);
		assert_true(settled());
		if (i < 3)
			independent_reader(out, "");
	}
}

static void test_overhead(void **state unused)
{
	struct migrate_status s;
	struct vm *vm = new_demo(MIB(32));
	for (uint64_t i = 0; i < 8192; i += 2) /* the worst case for runs: every other page */
		fill_page(vm, i, i + 1);
	must_work(vm);
	assert_true(migrate_get(0, &s) && !s.incoming);
	double ratio = (double)s.bytes / ((double)s.pages_sent * 4096);
	print_message("    bytes on the wire: %.4f x non-zero pages, every other page zero\n", ratio);
	assert_true(ratio < 1.05);
	vm = new_demo(MIB(32));
	for (uint64_t i = 0; i < 8192; i++)
		fill_page(vm, i, i + 1);
	uint64_t begin = time_ns();
	must_work(vm);
	assert_true(migrate_get(0, &s) && !s.incoming);
	ratio = (double)s.bytes / ((double)s.pages_sent * 4096);
	print_message("    bytes on the wire: %.4f x non-zero pages, all of them; %.0f MB/s with sanitizers\n", ratio,
		      (double)s.bytes * 1000 / (double)(time_ns() - begin));
	assert_true(ratio < 1.01);
}

static void capture(void)
{
	struct tap *dst, *src = connect_taps(&dst);
	out[0].len = out[1].len = 0;
	src->log = &out[0];
	dst->log = &out[1];
	assert_int_equal(attempt(new_demo(MIB(2)), src, dst, NULL), 0);
	assert_true(settled());
}

/* Where the source's output is page data: for each record { from, to }. */
static bool is_data(size_t at)
{
	for (size_t i = 0; i + 8 <= out[0].len;) {
		const uint8_t *r = out[0].p + i;
		size_t end = i + 8 + get_le32(r + 4);
		if (at < end)
			return get_le32(r) == WIRE_PAGES && at >= i + 8 + 20 + 8UL * get_le32(r + 20);
		i = end;
	}
	return false;
}

/* On a long line COMMIT rides with END; whatever goes wrong from then on is the destination's to decide. */
static struct tap *far_taps(struct tap **dst)
{
	struct tap *src = connect_taps(dst);
	(*dst)->far = true;
	commit_is_out = false;
	return src;
}

static void test_commit_rides(void **state unused)
{
	struct tap *dst, *src = far_taps(&dst);
	struct why w = { "" };
	out[0].len = out[1].len = 0;
	src->log = &out[0];
	dst->log = &out[1];
	assert_int_equal(attempt(new_demo(MIB(2)), src, dst, &w), 0);
	assert_true(settled());
	independent_reader(out, "");

	struct vm *vm = new_demo(MIB(2)); /* refused at the last moment: NEVER, with its reason */
	src = far_taps(&dst);
	fake_vm_opts.load_fail = true;
	assert_int_not_equal(attempt(vm, src, dst, &w), 0);
	fake_vm_opts.load_fail = false;
	if (!strstr(w.text, "no CPU can have"))
		fail_msg("%s", w.text);
	assert_true(fake_tasks_wait());
	must_work(vm);

	unsigned moved = 0, stayed = 0;
	for (uint64_t at = out[0].len - 300; at <= out[0].len; at += 3) { /* END, COMMIT and DONE are 210 bytes */
		vm = new_demo(MIB(2));
		src = far_taps(&dst);
		commit_is_out = true; /* it may never be */
		stream_pipe_cut_after(src->under, at);
		attempt(vm, src, dst, NULL);
		*(settled() ? &moved : &stayed) += 1;
	}
	print_message("    riding, cut near the end: %u moved, %u stayed\n", moved, stayed);
	assert_true(moved && stayed);
}

/* 64 bytes of a page, or of nothing (FILLER): one place in them stands for all. */
static bool is_dull(int side, size_t at)
{
	static const uint8_t nothing[64];
	if (side == 0 && is_data(at) && is_data(at + 64))
		return true;
	return at + 64 <= out[side].len && !memcmp(out[side].p + at, nothing, 64);
}

/* The link breaks after each byte of either side's output. */
static void test_cut_everywhere(void **state unused)
{
	unsigned moved = 0, stayed = 0;
	capture();
	for (int side = 0; side < 2; side++) {
		size_t len = out[side].len;
		for (size_t at = 0; at <= len; at += is_dull(side, at) ? 64 : 1) {
			struct vm *vm = new_demo(MIB(2));
			struct tap *dst, *src = connect_taps(&dst);
			stream_pipe_cut_after((side ? dst : src)->under, at);
			attempt(vm, src, dst, NULL);
			assert_true(fake_tasks_wait());
			vm = fake_vm_find(0, "demo");
			if (vm && at % 50 == 0) {
				must_work(vm);
				stayed++;
			} else if (settled()) {
				moved++;
			} else {
				stayed++;
			}
		}
	}
	print_message("    cut after each byte: %u moved, %u stayed\n", moved, stayed);
	assert_true(moved > 0 && stayed > 1000);
}

/* Time runs some 100 times as fast, for what ends by a time-out. */
static volatile bool clock_stop;
static void *fast_clock(void *arg)
{
	while (!clock_stop) {
		struct timespec ts = { .tv_nsec = 1000000 };
		nanosleep(&ts, NULL);
		fake_time_advance(100 * NS_PER_MS);
	}
	return arg;
}
static pthread_t clock_thread;
static int clock_fast(void **state unused)
{
	clock_stop = false;
	fake_time_freeze(time_ns());
	return pthread_create(&clock_thread, NULL, fast_clock, NULL);
}
static int clock_normal(void **state unused)
{
	clock_stop = true;
	pthread_join(clock_thread, NULL);
	fake_time_thaw();
	for (unsigned h = 0; h < FAKE_HOSTS; h++) /* what moves took by that clock */
		fake_hosts[h].costs = (struct downtime_costs){ 0 };
	return 0;
}

/* One bit of each byte that is not page data arrives flipped. */
static void test_flip_everywhere(void **state unused)
{
	unsigned moved = 0, stayed = 0;
	if (!out[0].len)
		capture();
	for (int side = 0; side < 2; side++) {
		size_t len = out[side].len;
		for (size_t at = 0; at < len; at += is_dull(side, at) ? 64 : 1) {
			if (side == 0 && is_data(at))
				continue;
			struct vm *vm = new_demo(MIB(2));
			struct tap *dst, *src = connect_taps(&dst), *t = side ? dst : src;
			t->flip_at = at;
			t->flip = (uint8_t)(1 << at * 5 % 8);
			attempt(vm, src, dst, NULL);
			*(settled() ? &moved : &stayed) += 1;
		}
	}
	print_message("    a bit of each byte flipped: %u moved, %u stayed\n", moved, stayed);
	assert_true(stayed > 1000);
}

static int clock_fast(void **state);
static int clock_normal(void **state);

/* Each failpoint, on whichever host comes to it first: an error, a cut, and a stall longer than every limit. */
static void test_failpoints(void **state unused)
{
	unsigned moved = 0, stayed = 0;
	struct migrate_params patient = params;
	patient.max_downtime_ms = 60000; /* by a clock that runs so fast the line is slow when this machine is */
	for (enum failpoint p = P0_CONNECT; p < FAILPOINT_COUNT; p++) {
		for (int action = FAIL_ERROR; action <= FAIL_STALL; action++) {
			struct migrate_status s = { .phase = MIG_CONNECT };
			struct vm *vm = new_demo(MIB(2));
			bool busy = p == P5_NTH_PASS; /* passes after the first one take a guest that does something */
			guest_stop = false;
			completion_init(&guest_gone);
			vm->refs++;
			if (busy)
				assert_non_null(task_create("guest", TASK_PRIO_NORMAL, guest, vm));
			failpoint_set(p, action, 1);
			clock_fast(NULL);
			assert_int_equal(migrate_start(vm, &patient, NULL), 0);
			assert_int_equal(migrate_wait("demo", time_in_ms(1000000)), 0);
			guest_stop = true;
			assert_true(fake_tasks_wait());
			clock_normal(NULL);
			failpoint_set(p, FAIL_NONE, 0);
			for (unsigned i = 0; migrate_get(i, &s) && s.incoming;)
				i++;
			vm_put(vm);
			vm = fake_vm_find(0, "demo");
			if (action == FAIL_ERROR &&
			    p < P14_COMMIT_LOST) { /* without a time-out it is known what must come of it */
				if (p != P5_NTH_PASS &&
				    (s.phase != MIG_FAILED || !vm)) /* there need not be a second pass */
					fail_msg("P%d: %s", p, migrate_phase_name(s.phase));
			}
			if (action == FAIL_ERROR && p >= P16_DISKS_TAKEN)
				assert_null(vm);
			*(vm ? &stayed : &moved) += 1;
			if (vm)
				must_work(vm);
			else
				assert_true(settled());
		}
	}
	print_message("    failpoints: %u moved, %u stayed\n", moved, stayed);
}

static void test_cancel_everywhere(void **state unused)
{
	unsigned cancelled = 0, late = 0, told = 0;
	for (unsigned n = 1; late == 0; n++) {
		struct migrate_status s;
		struct vm *vm = new_demo(MIB(2));
		struct tap *dst, *src = connect_taps(&dst);
		src->cancel_at = n;
		cancel_result = 1;
		int err = attempt(vm, src, dst, NULL);
		if (cancel_result == 0) {
			cancelled++;
			assert_int_not_equal(err, 0);
			assert_true(fake_tasks_wait());
			bool found = false;
			for (unsigned i = 0; i < 2 && migrate_get(i, &s); i++)
				found |= !s.incoming && s.phase == MIG_CANCELLED;
			assert_true(found);
			ON_HOST(1)
			found = migrate_get(0, &s) && s.incoming && s.phase != MIG_DONE; /* of this attempt */
			if (found) {
				assert_string_equal(s.error, "cancelled at its source");
				assert_int_equal(s.phase, MIG_CANCELLED);
				told++;
			}
			must_work(vm);
		} else {
			assert_int_equal(cancel_result, -EBUSY); /* COMMIT is on its way */
			assert_int_equal(err, 0);
			assert_true(settled());
			late++;
		}
	}
	assert_true(cancelled > 8 && told > 8);
}

/* ---- refusals: the first reason by name, and the guest has not noticed ---- */

static void refused(const char *text)
{
	struct vm *vm = fake_vm_find(0, "demo");
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	unsigned resumed = fake_resumed();
	src->log = &out[0];
	dst->log = &out[1];
	out[0].len = out[1].len = 0;
	assert_int_not_equal(attempt(vm, src, dst, &w), 0);
	if (!strstr(w.text, text))
		fail_msg("\"%s\" does not say \"%s\"", w.text, text);
	assert_true(fake_tasks_wait());
	assert_int_equal(fake_resumed(), resumed); /* it was never paused */
	if (out[0].len)                            /* else it was refused before a word was said */
		independent_reader(out, "");
	memset(&fake_vm_opts, 0, sizeof(fake_vm_opts));
}

static void test_refusals(void **state unused)
{
	struct vm *vm = new_demo(MIB(2));
	fake_vm_opts.compat_refuse = true;
	refused("leaf 7");
	fake_vm_opts.create_nomem = true;
	refused("memory");
	fake_host = 1;
	struct vm *other = fake_vm_new("demo", MIB(2));
	fake_host = 0;
	refused("already");
	vm_destroy(other);
	fake_host = 1;
	other = fake_vm_new("dolly", MIB(2)); /* the same first letter: the same UUID */
	fake_host = 0;
	refused("the destination refused: VM dolly there has the same UUID: give it one of its own ([vm] uuid)");
	other->state = VM_MISCONFIGURED; /* never runs, and so takes it from nobody */
	fake_vm_opts.compat_refuse = true;
	refused("leaf 7");
	vm_destroy(other);
	struct pt_format blind = pt_format_ept;
	const struct pt_format *fmt = vm->mem.pt.fmt;
	blind.dirty = 0;
	vm->mem.pt.fmt = &blind;
	refused("EPT without dirty bits");
	vm->mem.pt.fmt = fmt;
	must_work(vm);
}

/* ---- state that does not fit, at the last moment ---- */

static void fails_paused(const char *text)
{
	struct vm *vm = fake_vm_find(0, "demo");
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	assert_int_not_equal(attempt(vm, src, dst, &w), 0);
	if (!strstr(w.text, text))
		fail_msg("\"%s\" does not say \"%s\"", w.text, text);
	assert_true(fake_tasks_wait());
	memset(&fake_vm_opts, 0, sizeof(fake_vm_opts));
}

static void test_state_refused(void **state unused)
{
	struct vm *vm = new_demo(MIB(2));
	fake_vm_opts.sections_skip = 3;
	fails_paused("no state of fakedev 1");
	fake_vm_opts.sections_twice = 2;
	fails_paused("fakedev 0 twice");
	fake_devs(vm)[0].s.mode = 99;
	fails_paused("mode 99");
	fake_devs(vm)[0].s.mode = 1;
	fake_vm_opts.load_fail = true;
	fails_paused("no CPU can have");
	fake_vm_opts.late_write = true;
	fails_paused("while its state was saved");
	must_work(vm);
}

/* A guest that powers off while it moves: the attempt ends, and then it is off. */
static void test_power_off(void **state unused)
{
	struct vm *vm = new_demo(MIB(2));
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	vm->power_request = 1;
	assert_int_not_equal(attempt(vm, src, dst, &w), 0);
	assert_non_null(strstr(w.text, "powers off"));
	assert_true(fake_tasks_wait());
	assert_int_equal(vm->state, VM_STOPPED);
	vm_destroy(vm);
}

/* ---- the hand-over, with a peer that plays a part ---- */

struct peer { /* the test as a source */
	struct wire_tx tx;
	struct wire_rx rx;
	struct stream *s;
};

static bool peer_is_before;
static void peer_open(struct peer *p)
{
	struct tap *dest, *t = connect_taps(&dest);
	struct hello h;
	p->s = &t->s;
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dest->s));
	assert_int_equal(wire_tx_init(&p->tx, p->s), 0);
	assert_int_equal(wire_rx_init(&p->rx, p->s), 0);
	assert_int_equal(peer_is_before ? hello_before(&p->tx) : hello_as(&p->tx, HELLO_FEATURES), 0);
	assert_int_equal(hello_recv(&p->rx, &h, time_in_ms(1000), NULL), 0);
}

static void peer_close(struct peer *p)
{
	wire_tx_fini(&p->tx);
	wire_rx_fini(&p->rx);
	stream_close(p->s);
}

static uint32_t peer_recv(struct peer *p) /* type, or 0 if nothing came */
{
	int err;
	do
		err = wire_recv(&p->rx, time_in_ms(3000), NS_PER_SEC, NULL);
	while (!err && p->rx.type == WIRE_PREPARING);
	return err ? 0 : p->rx.type;
}

/* What host b remembers of it. */
static enum record_state record_at_b(const struct attempt_id *id)
{
	enum record_state r = RECORD_NONE;
	ON_HOST(1) r = attempt_find(id, NULL);
	return r;
}

static uint32_t ask(const struct attempt_id *id)
{
	struct peer q;
	peer_open(&q);
	assert_int_equal(id_send(&q.tx, WIRE_QUERY, id, time_in_ms(1000)), 0);
	uint32_t t = peer_recv(&q);
	peer_close(&q);
	return t;
}

static void puppet_offer(struct offer *o)
{
	*o = (struct offer){ .cfg = { .name = "puppet",
				      .mem = MIB(2),
				      .vcpus = 1,
				      .nnics = 1,
				      .mtu = { 1500 },
				      .mac = { { 2, 9 } } },
			     .id = attempt_new_id((const uint8_t *)"pppppppppppppppp") };
	memcpy(o->cfg.uuid, o->id.uuid, 16);
	vm_compat_get(NULL, &o->compat);
}

/* As far as ACCEPT. */
static void peer_offer(struct peer *p, struct attempt_id *id)
{
	static struct offer o;
	puppet_offer(&o);
	*id = o.id;
	assert_int_equal(offer_send(&p->tx, &o, time_in_ms(1000)), 0);
	p->tx.key = p->rx.key = attempt_key(id);
	assert_int_equal(peer_recv(p), WIRE_ACCEPT);
}

/* What a broken source says of its files: each ends the attempt, and nothing is left. */
static void test_boot_files_wrong(void **state unused)
{
	static const struct {
		uint64_t size, digest;
		uint32_t use;
		uint64_t off, len;
		const char *says;
	} wrong[] = {
		{ MIB(2) + 1, 1, 0, 0, 0, "larger than its memory" },
		{ ~0ULL, 1, 0, 0, 0, "larger than its memory" },
		{ 100, 1, 1, 0, 10, "wrong time" },     /* not this one */
		{ 100, 1, 2, 0, 10, "wrong time" },     /* no such file */
		{ 100, 1, 0, 1, 10, "wrong time" },     /* not its beginning */
		{ 100, 1, 0, ~0ULL, 10, "wrong time" }, /* nor that */
		{ 100, 1, 0, 0, 101, "wrong time" },    /* longer than told */
		{ 100, 1, 0, 0, 100, "not what the source said" },
		{ 100, 1, 0, 0, 99, "wrong time" }, /* and not all of it */
		{ 70000, 1, 0, 0, 65536, "PASS at the wrong time" },
		{ 70000, 1, 0, 65536, 4464, "not what the source said" }, /* the first block is zeros */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct peer p;
		struct attempt_id id;
		peer_open(&p);
		peer_offer(&p, &id);
		wire_begin(&p.tx, WIRE_FILES);
		wire_put_str(&p.tx, "vmlinuz", WIRE_FILE_NAME);
		wire_put_u64(&p.tx, wrong[i].size);
		wire_put_u64(&p.tx, wrong[i].digest);
		wire_put_u64(&p.tx, 1);
		wire_put_str(&p.tx, "", WIRE_FILE_NAME);
		for (unsigned k = 0; k < 3; k++)
			wire_put_u64(&p.tx, 0);
		assert_int_equal(wire_end(&p.tx, time_in_ms(1000)), 0);
		if (wrong[i].len) {
			assert_int_equal(peer_recv(&p), WIRE_WANT);
			assert_int_equal(wire_get_u32(&p.rx), 1);
			wire_begin(&p.tx, WIRE_FILE);
			wire_put_u32(&p.tx, wrong[i].use);
			wire_put_u64(&p.tx, wrong[i].off);
			memset(wire_put_space(&p.tx, wrong[i].len), 7, wrong[i].len);
			assert_int_equal(wire_end(&p.tx, time_in_ms(1000)), 0);
			int err = pass_send(&p.tx, 1, 0, time_in_ms(1000));
			assert_true(!err || err == -EPIPE); /* it may have heard enough */
		}
		assert_int_equal(peer_recv(&p), WIRE_ERROR);
		char text[WIRE_TEXT_MAX];
		wire_get_u32(&p.rx);
		wire_get_str(&p.rx, text, sizeof(text));
		if (!strstr(text, wrong[i].says))
			fail_msg("%u: %s", i, text);
		peer_close(&p);
		assert_true(fake_tasks_wait());
		assert_null(fake_vm_find(1, "puppet"));
		assert_int_equal(fake_page_live(), 0);
		assert_int_equal(fake_page_reserved(), 0);
	}
}

/* A VM of zeros, brought to READY. */
static void peer_until_ready(struct peer *p, struct attempt_id *id)
{
	peer_offer(p, id);
	assert_int_equal(pass_send(&p->tx, 1, PASS_FINAL, time_in_ms(1000)), 0);
	wire_begin(&p->tx, WIRE_PAGES);
	wire_put_u64(&p->tx, 0);
	wire_put_u32(&p->tx, 1);
	wire_put_u32(&p->tx, 0);
	wire_put_u32(&p->tx, 0);
	wire_put_u32(&p->tx, 1U << 31 | 512);
	assert_int_equal(wire_end(&p->tx, time_in_ms(1000)), 0);
	assert_int_equal(pass_end_send(&p->tx, 1, 0, 512, time_in_ms(1000)), 0);
	const struct {
		const char *name;
		uint32_t instance, len;
	} sections[] = {
		{ "clock", 0, 32 }, { "fakedev", 0, 48 }, { "fakedev", 1, 48 }, { "config", 0, FAKE_CONFIG_LEN }
	};
	for (unsigned i = 0; i < 4; i++) {
		wire_begin(&p->tx, WIRE_SECTION);
		wire_put_str(&p->tx, sections[i].name, 32);
		wire_put_u32(&p->tx, sections[i].instance);
		wire_put_u32(&p->tx, fake_version(sections[i].name));
		memset(wire_put_space(&p->tx, sections[i].len), 0, sections[i].len);
		assert_int_equal(wire_end(&p->tx, time_in_ms(1000)), 0);
	}
	assert_int_equal(end_send(&p->tx, id, &(struct end_counts){ 1, 4, 0, 0, 512 }, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(p), WIRE_READY);
}

static void memory_refused(uint64_t mem)
{
	static struct offer o;
	struct peer p;
	char text[WIRE_TEXT_MAX];
	o = (struct offer){
		.cfg = { .name = "giant", .mem = mem, .vcpus = 1, .nnics = 1, .mtu = { 1500 }, .mac = { { 2, 8 } } },
		.id = attempt_new_id((const uint8_t *)"gggggggggggggggg")
	};
	vm_compat_get(NULL, &o.compat);
	peer_open(&p);
	assert_int_equal(offer_send(&p.tx, &o, time_in_ms(1000)), 0);
	p.tx.key = p.rx.key = attempt_key(&o.id);
	assert_int_equal(peer_recv(&p), WIRE_REFUSE);
	assert_int_equal(wire_get_u32(&p.rx), REFUSE_MEMORY);
	wire_get_str(&p.rx, text, sizeof(text));
	assert_non_null(strstr(text, "not enough memory"));
	peer_close(&p);
	assert_true(fake_tasks_wait());
	assert_int_equal(fake_page_live(), 0);
}

/* More memory than the host has, or than others who come in this moment leave: refused before anything is allocated. */
static void test_no_memory(void **state unused)
{
	struct vm_reservation r;
	struct why w;
	memory_refused(GIB(4));
	assert_int_equal(vm_memory_reserve(&(struct vm_config){ .mem = GIB(3) }, &r, &w), 0);
	memory_refused(GIB(1));
	vm_memory_release(&r);
	assert_int_equal(fake_page_reserved(), 0);
}

static void puppet_gone(void)
{
	assert_true(fake_tasks_wait());
	assert_null(fake_vm_find(1, "puppet"));
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

static void puppet_runs(void)
{
	assert_true(fake_tasks_wait());
	struct vm *vm = fake_vm_find(1, "puppet");
	assert_non_null(vm);
	assert_int_equal(vm->state, VM_RUNNING);
	vm_destroy(vm);
}

/* The source asks while the destination waits for COMMIT; COMMIT comes late. */
static void test_query_overtakes_commit(void **state unused)
{
	struct peer p;
	struct attempt_id id;
	unsigned resumed = fake_resumed();
	peer_open(&p);
	peer_until_ready(&p, &id);
	assert_int_equal(ask(&id), WIRE_NEVER);
	(void)!commit_send(&p.tx, &id, 1, 0, time_in_ms(1000));
	uint32_t t = peer_recv(&p);
	assert_true(t == 0 || t == WIRE_ERROR);
	peer_close(&p);
	puppet_gone();
	assert_int_equal(fake_resumed(), resumed);
	assert_int_equal(ask(&id), WIRE_NEVER); /* and from then on */
	assert_true(fake_tasks_wait());
}

/* STARTED is lost; the source asks as often as it likes, and says DONE at last. */
static void test_started_is_remembered(void **state unused)
{
	struct peer p;
	struct attempt_id id;
	peer_open(&p);
	peer_until_ready(&p, &id);
	assert_int_equal(commit_send(&p.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_STARTED);
	peer_close(&p); /* without DONE */
	puppet_runs();
	assert_int_equal(ask(&id), WIRE_STARTED); /* though the VM has left again */
	assert_int_equal(ask(&id), WIRE_STARTED);
	struct peer q;
	peer_open(&q);
	assert_int_equal(id_send(&q.tx, WIRE_DONE, &id, time_in_ms(1000)), 0);
	peer_close(&q);
	assert_true(fake_tasks_wait());
	assert_int_equal(record_at_b(&id), RECORD_NONE);
}

/* What comes behind the fields of the record just received: n times, none of them an hour. */
static void check_times(struct peer *p, size_t fields, unsigned n)
{
	assert_int_equal(p->rx.len - p->rx.pos, fields + n * 8);
	assert_non_null(wire_get_bytes(&p->rx, fields));
	for (unsigned i = 0; i < n; i++)
		assert_true(wire_get_u64(&p->rx) < 3600 * NS_PER_SEC);
	assert_true(wire_get_end(&p->rx));
}

/* What took how long is said to a source, but not where a question is answered. */
static void test_times(void **state unused)
{
	struct peer p;
	struct attempt_id id;
	peer_open(&p);
	peer_offer(&p, &id);
	check_times(&p, WIRE_ID_LEN, 1);
	peer_close(&p);
	puppet_gone();
	peer_open(&p);
	peer_until_ready(&p, &id);
	check_times(&p, WIRE_ID_LEN, 3);
	assert_int_equal(commit_send(&p.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_STARTED);
	check_times(&p, WIRE_ID_LEN + 16, 1);
	peer_close(&p);
	puppet_runs();
	peer_open(&p);
	assert_int_equal(id_send(&p.tx, WIRE_QUERY, &id, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_STARTED);
	check_times(&p, WIRE_ID_LEN + 16, 0);
	assert_int_equal(id_send(&p.tx, WIRE_DONE, &id, time_in_ms(1000)), 0);
	peer_close(&p);
	assert_true(fake_tasks_wait());
}

/* A second COMMIT, and one with the wrong epoch. */
static void test_commit_wrong(void **state unused)
{
	struct peer p;
	struct attempt_id id, wrong;
	peer_open(&p);
	peer_until_ready(&p, &id);
	wrong = id;
	wrong.number++;
	assert_int_equal(commit_send(&p.tx, &wrong, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_ERROR); /* why, and then that */
	assert_int_equal(peer_recv(&p), WIRE_NEVER);
	peer_close(&p);
	puppet_gone();
	peer_open(&p);
	peer_until_ready(&p, &id);
	unsigned resumed = fake_resumed();
	assert_int_equal(commit_send(&p.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(commit_send(&p.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_STARTED);
	peer_close(&p);
	puppet_runs();
	assert_int_equal(fake_resumed(), resumed + 1);
}

/* The source goes silent after READY: the destination gives up by itself, and for ever. */
static void test_ready_times_out(void **state unused)
{
	struct peer p;
	struct attempt_id id;
	peer_open(&p);
	peer_until_ready(&p, &id);
	clock_fast(NULL);
	for (unsigned i = 0; i < 5000 && record_at_b(&id) != RECORD_NEVER; i++) {
		struct timespec ts = { .tv_nsec = 1000000 };
		nanosleep(&ts, NULL);
	}
	clock_normal(NULL);
	assert_int_equal(record_at_b(&id), RECORD_NEVER);
	(void)!commit_send(&p.tx, &id, 1, 0, time_in_ms(1000));
	peer_close(&p);
	puppet_gone();
}

/* The older attempt of the same VM hangs: a new offer replaces it. */
static void test_new_offer_replaces(void **state unused)
{
	struct peer p, q;
	struct attempt_id old, id;
	peer_open(&p);
	peer_until_ready(&p, &old);
	peer_open(&q);
	peer_until_ready(&q, &id);
	assert_int_equal(record_at_b(&old), RECORD_NEVER);
	(void)!commit_send(&p.tx, &old, 1, 0, time_in_ms(1000));
	peer_close(&p);
	assert_int_equal(commit_send(&q.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&q), WIRE_STARTED);
	peer_close(&q);
	puppet_runs();
}

/* A destination that reads COMMIT and dies: the test plays it. What the source gets to hear then is up to the test. */
static struct attempt_id seen_id;
static void dying_dest(void *arg)
{
	struct stream *s = arg;
	static struct offer o;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
	fake_host = 1;
	assert_int_equal(wire_tx_init(&tx, s), 0);
	assert_int_equal(wire_rx_init(&rx, s), 0);
	assert_int_equal(hello_send(&tx, time_in_ms(1000)), 0);
	assert_int_equal(hello_recv(&rx, &h, time_in_ms(1000), NULL), 0);
	assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, NULL), 0);
	assert_int_equal(offer_parse(&rx, &o, NULL), 0);
	seen_id = o.id;
	tx.key = rx.key = attempt_key(&o.id);
	for (unsigned i = 0; i < 300; i++) { /* faster than the source's task looks: the last one says it all */
		wire_begin(&tx, WIRE_PREPARING);
		wire_put_u64(&tx, i * o.cfg.mem / 300);
		wire_put_u64(&tx, o.cfg.mem);
		assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
	}
	assert_int_equal(id_send(&tx, WIRE_ACCEPT, &o.id, time_in_ms(1000)), 0);
	while (!wire_recv(&rx, time_in_ms(3000), NS_PER_SEC, NULL) && rx.type != WIRE_COMMIT) {
		static uint8_t data[WIRE_PAGES_MAX * 4096];
		if (rx.data_len)
			assert_int_equal(wire_recv_data(&rx, data, rx.data_len, time_in_ms(1000)), 0);
		if (rx.type == WIRE_FILES) { /* it has them all */
			wire_begin(&tx, WIRE_WANT);
			wire_put_u32(&tx, 0);
			assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
		}
		if (rx.type == WIRE_PASS_END && rx.seq < 9) { /* not the final pass */
			uint32_t pass = wire_get_u32(&rx);
			wire_begin(&tx, WIRE_PASS_ACK);
			wire_put_u32(&tx, pass);
			assert_int_equal(wire_end(&tx, time_in_ms(1000)), 0);
		}
		if (rx.type == WIRE_END)
			assert_int_equal(id_send(&tx, WIRE_READY, &o.id, time_in_ms(1000)), 0);
	}
	assert_int_equal(rx.type, WIRE_COMMIT);
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(s);
}

static struct completion source_done;
static void source_task(void *arg)
{
	struct tap *src = arg;
	migrate_source_run(fake_vm_find(0, "demo"), &src->s, &params, NULL);
	completion_done(&source_done);
}

static void wait_undecided(void)
{
	struct migrate_status s;
	for (unsigned i = 0; i < 5000; i++) {
		for (unsigned k = 0; migrate_get(k, &s); k++)
			if (!s.incoming && s.phase == MIG_UNDECIDED)
				return;
		struct timespec ts = { .tv_nsec = 1000000 };
		nanosleep(&ts, NULL);
	}
	fail_msg("never got undecided");
}

static void wait_error_text(const char *text)
{
	struct migrate_status s;
	for (unsigned i = 0; i < 5000; i++) {
		for (unsigned k = 0; migrate_get(k, &s); k++)
			if (!s.incoming && strstr(s.error, text))
				return;
		struct timespec ts = { .tv_nsec = 1000000 };
		nanosleep(&ts, NULL);
	}
	fail_msg("no migration says: %s", text);
}

enum undecided_end { COMES_BACK_BLANK, HAD_STARTED, OPERATOR_FORCES, RESUMES_ITSELF, UNDECIDED_ENDS };

static void undecided_until(struct vm *vm, enum undecided_end how)
{
	struct why w = { "" };
	unsigned resumed = fake_resumed();
	assert_int_equal(vm->state, VM_UNDECIDED);
	assert_int_equal(migrate_cancel("demo", &w), -EBUSY);
	w.text[0] = 0;
	assert_int_equal(migrate_claim("demo", false, &w), -EPERM);
	assert_non_null(strstr(w.text, "--force"));
	assert_int_equal(fake_resumed(), resumed);
	if (how ==
	    COMES_BACK_BLANK) { /* and has no record: that is no answer. All have answered, so it is the operator's */
		__atomic_store_n(&fake_net.unreachable, 0, __ATOMIC_SEQ_CST);
		wait_error_text("none has it");
		assert_int_equal(vm->state, VM_UNDECIDED);
		assert_int_equal(migrate_claim("demo", false, &w), 0);
	} else if (how == HAD_STARTED) {
		ON_HOST(1)
		{
			assert_int_equal(attempt_offer(&seen_id, "demo", ip_of4(0x0b004d0a)), 0);
			assert_int_equal(attempt_ready(&seen_id), 0);
			assert_int_equal(attempt_commit(&seen_id), 0);
		}
		__atomic_store_n(&fake_net.unreachable, 0, __ATOMIC_SEQ_CST);
	} else if (how == OPERATOR_FORCES) { /* it stays away */
		assert_int_equal(migrate_claim("demo", true, &w), 0);
	} else {
		fake_hosts[0].undecided_resume = true;
		__atomic_store_n(&fake_net.unreachable, 0, __ATOMIC_SEQ_CST);
	}
}

static void test_undecided(void **state unused)
{
	fake_net.tap_client = tap_question, fake_net.tap_server = tap_answer;
	for (enum undecided_end how = 0; how < UNDECIDED_ENDS; how++) {
		struct vm *vm = new_demo(MIB(2));
		struct tap *dst, *src = connect_taps(&dst);
		completion_init(&source_done);
		out[0].len = out[1].len = 0;
		if (how == HAD_STARTED)
			query_log[0] = &out[0], query_log[1] = &out[1];
		fake_net.unreachable = 1000000;
		assert_non_null(task_create("dying", TASK_PRIO_NORMAL, dying_dest, &dst->s));
		assert_non_null(task_create("source", TASK_PRIO_NORMAL, source_task, src));
		wait_undecided();
		undecided_until(vm, how);
		assert_int_equal(completion_wait(&source_done, time_in_ms(20000)), 0);
		fake_net.unreachable = 0;
		fake_hosts[0].undecided_resume = false;
		stream_close(&src->s);
		assert_true(fake_tasks_wait());
		query_log[0] = query_log[1] = NULL;
		if (how == HAD_STARTED) {
			independent_reader(out, "");
			assert_null(fake_vm_find(0, "demo"));
			ON_HOST(1)
			assert_int_equal(settle_once(TIME_NEVER),
					 0); /* if it was not QUERY that told, DONE is still to come */
			assert_int_equal(record_at_b(&seen_id), RECORD_NONE);
			assert_true(fake_tasks_wait());
		} else {
			must_work(vm);
		}
	}
	fake_net.tap_client = fake_net.tap_server = NULL;
}

/* Signs of life, and passes without a page, keep an attempt for a minute at most. */
static void test_no_progress(void **state unused)
{
	static struct offer o;
	struct peer p;
	puppet_offer(&o);
	peer_open(&p);
	assert_int_equal(offer_send(&p.tx, &o, time_in_ms(3000)), 0);
	p.tx.key = p.rx.key = attempt_key(&o.id);
	assert_int_equal(peer_recv(&p), WIRE_ACCEPT);
	fake_time_freeze(time_ns());
	for (unsigned i = 0; i < 61; i++) { /* a second each; the other task has 15 of them to look */
		wire_begin(&p.tx, WIRE_KEEPALIVE);
		assert_int_equal(wire_end(&p.tx, time_ns() + NS_PER_SEC), 0);
		struct timespec ts = { .tv_nsec = 10000000 };
		nanosleep(&ts, NULL);
		fake_time_advance(NS_PER_SEC);
	}
	fake_time_thaw();
	assert_int_equal(peer_recv(&p), WIRE_ERROR);
	wire_get_u32(&p.rx);
	char text[WIRE_TEXT_MAX];
	wire_get_str(&p.rx, text, sizeof(text));
	assert_non_null(strstr(text, "nothing of the VM for 60 s"));
	peer_close(&p);
	puppet_gone();
}

/*
 * What releases 0.1 and 0.2 say first, byte by byte: HELLO with their one version. Both sides say in words that it does
 * not fit.
 */
static uint32_t old_version;
static void old_hello(struct wire_tx *tx)
{
	wire_begin(tx, WIRE_HELLO);
	wire_put_u64(tx, 0x3147494d4e524554ULL);
	wire_put_u32(tx, old_version);
	wire_put_u32(tx, old_version);
	wire_put_u64(tx, old_version == 1); /* 0.1's feature bit */
	wire_put_u32(tx, 335880);
	wire_put_str(tx, "old", 32);
	assert_int_equal(wire_end(tx, time_in_ms(3000)), 0);
}

static void old_dest(void *arg)
{
	struct stream *s = arg;
	struct wire_tx tx;
	assert_int_equal(wire_tx_init(&tx, s), 0);
	old_hello(&tx);
	uint8_t hello[72]; /* the form that they read, with versions that it refuses in its own words */
	assert_int_equal(stream_read(s, hello, sizeof(hello), time_in_ms(3000)), 0);
	assert_int_equal(get_le32(hello), WIRE_HELLO);
	assert_int_equal(get_le32(hello + 4), 64);
	assert_int_equal(get_le32(hello + 20), 3);          /* version_min */
	while (!stream_read(s, hello, 1, time_in_ms(3000))) /* who ends with bytes unread resets: ours would be lost */
		;
	wire_tx_fini(&tx);
	stream_close(s);
}

static void release_before(uint32_t version)
{
	char said[32];
	old_version = version;
	snprintf(said, sizeof(said), "old speaks %u to %u", version, version);
	struct vm *vm = new_demo(MIB(2));
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	assert_non_null(task_create("old", TASK_PRIO_NORMAL, old_dest, &dst->s)); /* as destination */
	assert_int_not_equal(migrate_source_run(vm, &src->s, &params, &w), 0);
	stream_close(&src->s);
	if (!strstr(w.text, said) || !strstr(w.text, "this host 3 to 3"))
		fail_msg("%s", w.text);
	assert_true(fake_tasks_wait());

	struct peer p; /* as source */
	struct tap *t = connect_taps(&dst);
	char text[WIRE_TEXT_MAX];
	p.s = &t->s;
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s));
	assert_int_equal(wire_tx_init(&p.tx, p.s), 0);
	assert_int_equal(wire_rx_init(&p.rx, p.s), 0);
	old_hello(&p.tx);
	assert_int_equal(peer_recv(&p), WIRE_HELLO);
	assert_int_equal(peer_recv(&p), WIRE_IDENT);
	assert_int_equal(peer_recv(&p), WIRE_REFUSE);
	assert_int_equal(wire_get_u32(&p.rx), REFUSE_VERSION);
	wire_get_str(&p.rx, text, sizeof(text));
	assert_non_null(strstr(text, said));
	peer_close(&p);
	must_work(vm);
}

static void test_releases_before(void **state unused)
{
	release_before(1);
	release_before(2);
}

/* Release 0.4 has the same protocol version; either way it is refused in words, before anything is offered. */
static void test_release_before_0_6(void **state unused)
{
	struct why w = { "" };
	struct vm *vm = new_demo(MIB(2));
	struct tap *dst, *src = connect_taps(&dst);
	struct peer p;
	char text[WIRE_TEXT_MAX];
	const uint64_t is = before_features;
	before_features = BIT(0) | BIT(1);
	assert_non_null(task_create("before", TASK_PRIO_NORMAL, dest_before_in_vain, &dst->s));
	assert_int_not_equal(migrate_source_run(vm, &src->s, &params, &w), 0);
	stream_close(&src->s);
	assert_true(fake_tasks_wait());
	assert_non_null(strstr(w.text, "at least 0.6"));
	assert_int_equal(vm->state, VM_RUNNING);

	peer_is_before = true; /* and as source */
	peer_open(&p);
	assert_int_equal(peer_recv(&p), WIRE_REFUSE);
	assert_int_equal(wire_get_u32(&p.rx), REFUSE_VERSION);
	wire_get_str(&p.rx, text, sizeof(text));
	assert_non_null(strstr(text, "at least 0.6"));
	peer_close(&p);
	peer_is_before = false;
	before_features = is;
	must_work(vm); /* to one of today's */
}

/* The release before as source: what a section of its version has not got stays as it is after reset. */
static void test_sections_before(void **state unused)
{
	struct peer p;
	struct attempt_id id;
	fake_vm_opts.newer = peer_is_before = true;
	peer_open(&p);
	peer_until_ready(&p, &id);
	assert_int_equal(commit_send(&p.tx, &id, 1, 0, time_in_ms(1000)), 0);
	assert_int_equal(peer_recv(&p), WIRE_STARTED);
	peer_close(&p);
	puppet_runs();
	peer_is_before = fake_vm_opts.newer = false;
}

static void test_independent_reader(void **state unused)
{
	capture();
	independent_reader(out, "--mutate");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_boot_files),
		cmocka_unit_test(test_boot_files_wrong),
		cmocka_unit_test(test_by_task),
		cmocka_unit_test(test_busy_guest),
		cmocka_unit_test(test_overhead),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_state_refused),
		cmocka_unit_test(test_power_off),
		cmocka_unit_test(test_cancel_everywhere),
		cmocka_unit_test(test_query_overtakes_commit),
		cmocka_unit_test(test_started_is_remembered),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_commit_wrong),
		cmocka_unit_test(test_ready_times_out),
		cmocka_unit_test(test_new_offer_replaces),
		cmocka_unit_test(test_undecided),
		cmocka_unit_test(test_commit_rides),
		cmocka_unit_test(test_failpoints),
		cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test_setup_teardown(test_flip_everywhere, clock_fast, clock_normal),
		cmocka_unit_test(test_no_progress),
		cmocka_unit_test(test_releases_before),
		cmocka_unit_test(test_release_before_0_6),
		cmocka_unit_test(test_sections_before),
		cmocka_unit_test(test_independent_reader),
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_test_filter(getenv("TERN_TEST")); /* one test by name */
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(out[0].p);
	free(out[1].p);
	free(fake_paused_image);
	return failed;
}
