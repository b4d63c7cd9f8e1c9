/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM that is stopped, or paused, moves from host 0 to host 1 (fake_hosts.h) and is there what it was. What may go
 * wrong on the way is in the fault matrix (faults.h).
 */
#include "kernel/task.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/wire_tap.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/probe.h"

static void tap_before(struct tap *t unused, const uint8_t *bytes unused) {}
static void tap_after(struct tap *t unused) {}

static const struct migrate_params params = {
	.dest = { { [10] = 0xff, 0xff, 10, 77, 0, 12 } }, .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30
};
static bool verify;
static struct log out[2];

static void serve(void *s)
{
	fake_host = 1;
	migrate_serve(NULL, s);
}

static int attempt(struct vm *vm, struct why *w)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct migrate_params p = params;
	p.verify = verify;
	out[0].len = out[1].len = 0;
	src->log = &out[0];
	dst->log = &out[1];
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s));
	int err = migrate_source_run(vm, &src->s, &p, w);
	stream_close(&src->s);
	assert_true(fake_tasks_wait());
	return err;
}

/* What took its time while nobody waited says nothing of black-outs: neither host learns from it, or compares it. */
static void nothing_was_learnt(void)
{
	for (int host = 0; host < 2; host++) {
		const struct downtime_costs *k = &fake_hosts[host].costs;
		assert_true(!k->stop && !k->section && !k->load);
	}
	assert_false(fake_log_has("was predicted"));
}

static void moves(struct vm *vm)
{
	struct why w = { "" };
	fake_log_clear();
	if (attempt(vm, &w))
		fail_msg("%s", w.text);
	nothing_was_learnt();
	assert_null(fake_vm_find(0, "demo"));
	ON_HOST(0) assert_true(departed_get("demo", 0, NULL));
}

static void gone(int host)
{
	ON_HOST(host) vm_destroy(fake_vm_find(host, "demo"));
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
	fake_host_restart(0);
	fake_host_restart(1);
}

/* With what it has written to a disk, if it has one. */
static struct vm *new_stopped(unsigned ndisks, bool started)
{
	struct vm *vm = fake_vm_new("demo", MIB(2));
	strcpy(vm->cfg.s.kernel, "k");
	vm->cfg.ndisks = ndisks;
	vm->cfg.disk[0] = (struct vm_disk_config){ .name = "data", .size = MIB(1), .layer = 100 * PAGE_SIZE };
	if (started && ndisks) {
		assert_int_equal(disk_make_all(vm, NULL), 0);
		memset(layer_fill_page(&vm->disk[0]->layer, 77), 0x5a, PAGE_SIZE);
		assert_int_equal(layer_fill_zero(&vm->disk[0]->layer, 78), 0);
	}
	if (!started)
		vm->cfg.mtu[0] = 0;
	fake_vm_rest(vm, VM_STOPPED);
	return vm;
}

static void has_data(struct vm *vm)
{
	const uint8_t *page;
	const void *p;
	assert_true(layer_has(&vm->disk[0]->layer, 77, &p));
	page = p;
	assert_true(page[0] == 0x5a && page[PAGE_SIZE - 1] == 0x5a);
	assert_true(layer_has(&vm->disk[0]->layer, 78, &p));
	assert_false(layer_has(&vm->disk[0]->layer, 79, &p));
}

static void test_stopped(void **state unused)
{
	for (int v = 0; v < 2; v++) {
		verify = v;
		moves(new_stopped(1, true));
		struct vm *vm = fake_vm_find(1, "demo");
		assert_int_equal(vm->state, VM_STOPPED);
		assert_string_equal(vm->cfg.s.kernel, "k");
		assert_int_equal(vm->cfg.mtu[0], 0); /* its next start finds out */
		assert_int_equal(vm->mem.size, 0);
		assert_int_equal(vm->cfg.mem, MIB(2));
		has_data(vm);
		independent_reader(out, "");
		gone(1);
	}
	verify = false;
}

/* Of one without disks there is nothing but words, and its boot files. */
static void test_stopped_without_disks(void **state unused)
{
	for (int v = 0; v < 2; v++) {
		verify = v;
		struct boot_file *f;
		struct vm *vm = new_stopped(0, true);
		assert_int_equal(boot_file_new(70, &f, NULL), 0);
		boot_file_write(f, 0, "initrd", 6);
		vm_set_file(vm, VM_INITRD, f);
		moves(vm);
		vm = fake_vm_find(1, "demo");
		assert_true(vm->state == VM_STOPPED && vm->file[VM_INITRD]->size == 70);
		independent_reader(out, v ? "--mutate" : "");
		gone(1);
	}
	verify = false;
}

/* It has never run: its disks are made for it to move; if it stays, they are not there. */
static void test_never_started(void **state unused)
{
	struct why w = { "" };
	struct vm *vm = new_stopped(1, false);
	fake_vm_opts.create_nomem = true;
	assert_int_not_equal(attempt(vm, &w), 0);
	fake_vm_opts.create_nomem = false;
	assert_true(vm->state == VM_STOPPED && !vm->migration && !vm->disk[0] && !vm->has_disks);
	assert_int_equal(fake_page_reserved(), 0);
	moves(vm);
	vm = fake_vm_find(1, "demo");
	assert_true(vm->state == VM_STOPPED && vm->disk[0]);
	gone(1);
}

static void test_paused(void **state unused)
{
	for (int v = 0; v < 2; v++) {
		verify = v;
		struct vm *vm = fake_vm_new("demo", MIB(2));
		const uint64_t word = 0x1234567;
		unsigned resumed = fake_resumed(), announced = fake_announced();
		assert_true(fake_guest_write(vm, 0x5008, &word, sizeof(word)));
		fake_devs(vm)[1].s.regs[2] = 99;
		fake_vm_rest(vm, VM_PAUSED);
		moves(vm);
		vm = fake_vm_find(1, "demo");
		assert_int_equal(vm->state, VM_PAUSED);
		uint64_t got;
		assert_int_equal(gmem_read(&vm->mem, 0x5008, &got, sizeof(got)), 0);
		assert_true(got == word && fake_devs(vm)[1].s.regs[2] == 99);
		assert_int_equal(fake_resumed(), resumed);
		assert_int_equal(fake_announced(), announced + 1); /* it is asked to be, and does not run */
		/* Its time has gone on meanwhile, as if it had stayed. */
		int64_t behind = -(int64_t)vm->clock_base_ns;
		assert_true(behind > -(int64_t)NS_PER_SEC && behind < (int64_t)NS_PER_SEC);
		struct migrate_status s;
		assert_true(migrate_get(0, &s) && s.vm_state == VM_PAUSED && !s.downtime_ns && s.pass == 2);
		independent_reader(out, "");
		gone(1);
	}
	verify = false;
}

/* ---- who says that it is where ---- */

static enum have asked(int host)
{
	struct vm_config cfg = { .name = "demo", .nnics = 1 };
	struct have_answer a;
	struct who q;
	memset(cfg.uuid, 'd', sizeof(cfg.uuid));
	ON_HOST(2) q = probe_question(&cfg, WHO_STARTING);
	ON_HOST(host) probe_local(&q, &a);
	return a.have;
}

/* One that was only stopped there, any host may start; one that was brought there so is there alone. */
static void test_is_here(void **state unused)
{
	struct vm *vm = new_stopped(0, true);
	assert_int_equal(asked(0), HAVE_NOTHING);
	vm->migration = (struct migration *)vm;
	assert_int_equal(asked(0), HAVE_HERE);
	vm->migration = NULL;
	moves(vm);
	assert_int_equal(asked(0), HAVE_MOVED);
	assert_int_equal(asked(1), HAVE_HERE);
	gone(1);
}

static void test_must_not_move(void **state unused)
{
	static const struct {
		enum vm_state state;
		enum vm_lease lease;
		bool building;
		const char *says;
	} not [] = {
		{ VM_STOPPED, VM_LEASE_ASKING, false, "is being started" },
		{ VM_STOPPED, VM_LEASE_TAKEN, false, "is being started" },
		{ VM_STOPPED, VM_LEASE_NONE, true, "is being started" },
		{ VM_FAILED, VM_LEASE_NONE, false, "is failed" },
		{ VM_MISCONFIGURED, VM_LEASE_NONE, false, "is misconfigured" },
		{ VM_STOPPING, VM_LEASE_NONE, false, "is stopping" },
		{ VM_UNDECIDED, VM_LEASE_NONE, false, "is undecided" },
	};
	struct vm *vm = new_stopped(0, true);
	for (unsigned i = 0; i < ARRAY_SIZE(not ); i++) {
		struct why w = { "" };
		vm->state = not [i].state;
		vm->lease = not [i].lease;
		vm->building = not [i].building;
		assert_int_not_equal(migrate_start(vm, &params, &w), 0);
		if (!strstr(w.text, not [i].says))
			fail_msg("\"%s\", not \"%s\"", w.text, not [i].says);
		assert_null(vm->migration);
	}
	vm->state = VM_STOPPED;
	vm->building = false;
	gone(0);
}

/* ---- the peer ---- */

/* ---- a source that says anything ---- */

struct says {
	uint32_t state; /* 0: no STATE */
	uint32_t words; /* of the CPU */
	bool offers;
	const char *why;
	uint64_t mem; /* 0: as it has */
};

static void puppet(const struct says *say)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
	struct vm *vm = NULL;
	struct offer o = { .id = attempt_new_id((const uint8_t *)"dddddddddddddddd") };
	uint64_t end = time_in_ms(3000);
	fake_log_clear();
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s));
	assert_int_equal(wire_tx_init(&tx, &src->s), 0);
	assert_int_equal(wire_rx_init(&rx, &src->s), 0);
	assert_int_equal(hello_exchange(&tx, &rx, &h, end, NULL), 0);
	if (say->state) {
		wire_begin(&tx, WIRE_STATE);
		wire_put_u32(&tx, say->state);
		assert_int_equal(wire_end(&tx, end), 0);
	}
	vm = fake_vm_new("demo", MIB(2));
	o.cfg = vm->cfg;
	o.cfg.mem = say->mem ? say->mem : o.cfg.mem;
	vm_destroy(vm);
	vm_compat_get(NULL, &o.compat);
	o.compat.n = say->words;
	/* Who has heard enough may have closed. */
	(void)!(say->offers ? offer_send(&tx, &o, end) : id_send(&tx, WIRE_QUERY, &o.id, end));
	(void)!stream_shutdown(&src->s);
	while (!wire_recv(&rx, end, NS_PER_SEC, NULL)) {
		if (rx.type != WIRE_REFUSE)
			break;
		if (say->mem)
			assert_int_equal(wire_get_u32(&rx), REFUSE_MEMORY);
	}
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(&src->s);
	assert_true(fake_tasks_wait());
	if (!fake_log_has(say->why))
		fail_msg("STATE %u, %u words: not \"%s\"", say->state, say->words, say->why);
	assert_null(fake_vm_find(1, "demo"));
	assert_int_equal(fake_page_live(), 0);
	fake_host_restart(0);
	fake_host_restart(1);
}

static void test_what_a_source_may_say(void **state unused)
{
	static const struct says bad[] = {
		{ 3, 2, true, "malformed STATE", 0 },
		{ 0xffffffff, 2, true, "malformed STATE", 0 },
		{ 1, 2, true, "too little or too much of the CPU", 0 },
		{ 2, 0, true, "too little or too much of the CPU", 0 },
		{ 0, 0, true, "too little or too much of the CPU", 0 },
		{ 1, 0, false, "it sent QUERY after STATE", 0 },
		{ 1, 0, true, "the VM has 4098 MiB, more than the 4096 MiB of this host", GIB(4) + MIB(2) },
		{ 1, 0, true, "more than the 4096 MiB of this host", (1UL << 52) - MIB(2) },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		puppet(&bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_stopped_without_disks),
		cmocka_unit_test(test_never_started),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_is_here),
		cmocka_unit_test(test_must_not_move),
		cmocka_unit_test(test_what_a_source_may_say),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(out[0].p);
	free(out[1].p);
	free(fake_paused_image);
	return failed;
}
