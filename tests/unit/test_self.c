/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `migrate NAME to self` (self.h): the VM moves within one host, and whatever fails on the way, one VM is left that is
 * whole and runs, in one slot or the other. Two that run at once are a panic (fake_hosts.c).
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/stream.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/self.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct migrate_params params = {
	.to_self = true, .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30
};

/* ---- the stream ---- */

#define SENT (3UL << 20) /* more than its rings hold */

static void writer(void *arg)
{
	struct stream *s = arg;
	uint8_t buf[7001];
	for (uint64_t at = 0, n; at < SENT; at += n) {
		n = MIN(sizeof(buf), SENT - at);
		for (uint64_t i = 0; i < n; i++)
			buf[i] = (uint8_t)((at + i) * 7 + (at + i) / 253);
		struct iov iov[2] = { { buf, n / 3 }, { buf + n / 3, n - n / 3 } };
		if (stream_writev(s, iov, 2, time_in_ms(5000)))
			panic("stream_writev");
	}
	stream_shutdown(s);
}

static void test_stream(void **state unused)
{
	struct stream *a, *b;
	uint8_t buf[4099];
	uint64_t at = 0;
	int n;
	assert_int_equal(stream_loop_open("self", &a, &b), 0);
	assert_string_equal(a->peer, "self");
	assert_int_equal(stream_read_some(b, buf, sizeof(buf), time_in_ms(1)), -ETIMEDOUT);
	stream_close(a);
	stream_close(b);
	assert_int_equal(stream_loop_open("self", &a, &b), 0);
	assert_non_null(task_create("writer", TASK_PRIO_NORMAL, writer, a));
	for (; (n = stream_read_some(b, buf, sizeof(buf), time_in_ms(5000))) > 0; at += (uint64_t)n)
		for (uint64_t i = 0; i < (uint64_t)n; i++)
			if (buf[i] != (uint8_t)((at + i) * 7 + (at + i) / 253))
				fail_msg("byte %lu", at + i);
	assert_true(n == 0 && at == SENT);
	assert_true(fake_tasks_wait());
	assert_int_equal(stream_write(b, "x", 1, time_in_ms(1000)), 0); /* the other way is open */
	assert_int_equal(stream_read(a, buf, 1, time_in_ms(1000)), 0);
	stream_close(b);
	assert_int_equal(stream_read_some(a, buf, 1, time_in_ms(1000)), 0);
	stream_close(a);
}

static void test_stream_ends(void **state unused)
{
	struct stream *a, *b;
	static uint8_t big[1 << 20];
	assert_int_equal(stream_loop_open("self", &a, &b), 0);
	assert_int_equal(stream_write(a, big, sizeof(big), time_in_ms(1)), -ETIMEDOUT); /* it is full */
	stream_abort(b);
	assert_int_equal(stream_read(b, big, 1, time_in_ms(1000)), -ECANCELED);
	stream_close(a);
	stream_close(b);
	assert_int_equal(stream_loop_open("self", &a, &b), 0);
	stream_abort(a);
	assert_int_equal(stream_read(b, big, 1, time_in_ms(1000)), -ECONNRESET);
	stream_close(b);
	stream_close(a);
	assert_int_equal(stream_loop_open("self", &a, &b), 0);
	stream_close(b);
	assert_int_equal(stream_write(a, big, 1, time_in_ms(1000)), -EPIPE);
	stream_close(a);
}

/* ---- the VM ---- */

static const uint64_t word = 0x123456789;

static struct vm *new_vm(enum vm_state as)
{
	struct vm *vm = fake_vm_new("demo", MIB(2));
	assert_true(fake_guest_write(vm, 0x5008, &word, sizeof(word)));
	fake_devs(vm)[1].s.regs[2] = 99;
	vm->cfg.ndisks = 1;
	vm->cfg.disk[0] = (struct vm_disk_config){ .name = "data", .size = MIB(1), .layer = 100 * PAGE_SIZE };
	assert_int_equal(disk_make_all(vm, NULL), 0);
	memset(layer_fill_page(&vm->disk[0]->layer, 77), 0x5a, PAGE_SIZE);
	if (as != VM_RUNNING)
		fake_vm_rest(vm, as);
	return vm;
}

/* One is left, whole, in that state; is it another one than vm? */
static bool is_whole(const struct vm *vm, enum vm_state as)
{
	struct vm *now = fake_vm_find(0, "demo");
	const void *page;
	uint64_t got = 0;
	assert_true(fake_tasks_wait());
	assert_non_null(now);
	assert_int_equal(now->state, as);
	assert_true(!now->migration && !now->beside && now->refs == 1 && !now->mem.tracking);
	assert_true(layer_has(&now->disk[0]->layer, 77, &page));
	assert_int_equal(*(const uint8_t *)page, 0x5a);
	if (as != VM_STOPPED) {
		assert_int_equal(gmem_read(&now->mem, 0x5008, &got, sizeof(got)), 0);
		assert_true(got == word && fake_devs(now)[1].s.regs[2] == 99);
	}
	assert_false(departed_get("demo", 0, NULL));
	assert_false(attempt_get(0, &(struct decision){ 0 }));
	assert_int_equal(fake_hosts[0].nrecords, 0);
	return now != vm;
}

static void gone(void)
{
	vm_destroy(fake_vm_find(0, "demo"));
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
	fake_host_restart(0);
}

static struct migrate_status moves(struct vm *vm)
{
	struct migrate_status s = { .phase = MIG_QUEUED };
	struct why w = { "" };
	if (migrate_start(vm, &params, &w))
		fail_msg("%s", w.text);
	assert_int_equal(migrate_wait("demo", time_in_ms(30000)), 0);
	for (unsigned i = 0; migrate_get(i, &s) && s.incoming; i++)
		;
	assert_true(s.to_self && !s.incoming);
	assert_string_equal(s.peer_name, "self");
	return s;
}

static void test_moves(void **state unused)
{
	for (enum vm_state as = VM_STOPPED; as <= VM_PAUSED; as++) {
		for (int v = 0; v < 2; v++) {
			struct vm *vm = new_vm(as);
			params.verify = v;
			fake_elsewhere = true;
			struct migrate_status s = moves(vm);
			if (s.phase != MIG_DONE)
				fail_msg("%s", s.error);
			assert_true(is_whole(vm, as));
			vm = fake_vm_find(0, "demo");
			assert_int_equal(moves(vm).phase, MIG_DONE); /* and once more */
			assert_true(is_whole(vm, as));
			assert_false(fake_vm_find(0, "demo")->came_off);
			gone();
		}
	}
	params.verify = false;
}

/* It has not gone: other hosts are not asked for it, and it is nobody's twin. */
static void test_fails(void **state unused)
{
	struct vm *vm = new_vm(VM_RUNNING);
	fake_vm_opts.load_fail = true;
	struct migrate_status s = moves(vm);
	fake_vm_opts.load_fail = false;
	assert_int_equal(s.phase, MIG_FAILED);
	assert_non_null(strstr(s.error, "a state that no CPU can have"));
	assert_false(is_whole(vm, VM_RUNNING));
	fake_vm_opts.create_nomem = true;
	s = moves(vm);
	fake_vm_opts.create_nomem = false;
	assert_int_equal(s.phase, MIG_FAILED);
	assert_false(is_whole(vm, VM_RUNNING));
	assert_int_equal(moves(vm).phase, MIG_DONE);
	assert_true(is_whole(vm, VM_RUNNING));
	gone();
}

/* A step fails, or the connection is cut there; those that both sides pass once, and on both. */
static void one_step(enum failpoint p, enum fail_action action, unsigned count)
{
	struct vm *vm = new_vm(VM_RUNNING);
	failpoint_set(p, action, count);
	struct migrate_status s = moves(vm);
	failpoint_set(p, FAIL_NONE, 0);
	if (s.phase != MIG_DONE && s.phase != MIG_FAILED)
		fail_msg("P%d: %s: %s", (int)p, migrate_phase_name(s.phase), s.error);
	if (is_whole(vm, VM_RUNNING) != (s.phase == MIG_DONE))
		fail_msg("P%d: %s, but it is in the other slot", (int)p, migrate_phase_name(s.phase));
	assert_int_equal(moves(fake_vm_find(0, "demo")).phase, MIG_DONE);
	assert_true(is_whole(vm, VM_RUNNING) || s.phase == MIG_DONE);
	gone();
}

static void test_each_step(void **state unused)
{
	for (enum failpoint p = P0_CONNECT; p < FAILPOINT_COUNT; p++)
		for (unsigned count = 1; count <= (p < P16_DISKS_TAKEN ? 2 : 1); count++)
			for (enum fail_action action = FAIL_ERROR; action <= FAIL_CUT; action++)
				one_step(p, action, count);
}

/* Nothing is known of the attempt any more: only one that is still in its place may go on. */
static void test_ask(void **state unused)
{
	struct vm *vm = new_vm(VM_RUNNING), *other;
	struct migration m = { .vm = vm, .id = attempt_new_id(vm->cfg.uuid) };
	assert_int_equal(self_ask(&m), SOURCE_EV_NEVER);
	vm_ref(vm);
	vm_destroy(vm);
	assert_int_equal(self_ask(&m), SOURCE_EV_STARTED); /* what has taken its place has gone since */
	other = new_vm(VM_RUNNING);
	assert_int_equal(self_ask(&m), SOURCE_EV_STARTED);
	assert_ptr_equal(fake_vm_find(0, "demo"), other);
	vm_put(vm);
	gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream), cmocka_unit_test(test_stream_ends), cmocka_unit_test(test_moves),
		cmocka_unit_test(test_fails),  cmocka_unit_test(test_each_step),   cmocka_unit_test(test_ask),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(fake_paused_image);
	return failed;
}
