/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames that come for a guest while it moves, over the wire (vmm/migrate/frames.h): they arrive once and in order,
 * nobody waits for them for longer than was said, and whatever a source makes of the record harms nothing. What the
 * cards themselves do is in test_kept.c.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/frames.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/records.h"

static const struct migrate_params params = {
	.dest = { { [10] = 0xff, 0xff, 10, 77, 0, 12 } }, .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30
};
static struct log out[2];
static unsigned done_records;

static void tap_before(struct tap *t unused, const uint8_t *bytes) { done_records += get_le32(bytes) == WIRE_DONE; }
static void tap_after(struct tap *t unused) {}

static void serve(void *s)
{
	fake_host = 1;
	migrate_serve(NULL, s);
}

static void keep(unsigned nic, uint32_t number, size_t len)
{
	uint8_t b[9100] = { 0 };
	put_le32(b + ETH_HLEN, number);
	fake_keep(nic, b, len);
}

/* Move a VM to host b, where it is returned. */
static struct vm *moved(unsigned nics)
{
	struct vm *vm = fake_vm_new("demo", MIB(2));
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	vm->cfg.nnics = nics;
	for (unsigned i = 0; i < nics && nics > 1; i++) { /* several have networks with names */
		snprintf(vm->cfg.net[i], sizeof(vm->cfg.net[i]), "net%u", i);
		vm->cfg.mac[i][5] = (uint8_t)i;
		vm->cfg.mac[i][0] = 2;
		vm->cfg.mtu[i] = 1500;
	}
	src->log = &out[0];
	dst->log = &out[1];
	out[0].len = out[1].len = 0;
	if (!task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s))
		abort();
	if (migrate_source_run(vm, &src->s, &params, &w))
		fail_msg("%s", w.text);
	stream_close(&src->s);
	assert_true(fake_tasks_wait());
	vm = fake_vm_find(1, "demo");
	assert_non_null(vm);
	assert_int_equal(vm->state, VM_RUNNING);
	assert_int_equal(vm->refs, 1);
	return vm;
}

/* So many records FRAMES were sent. */
static unsigned records(void)
{
	unsigned n = 0;
	for (size_t i = 0; i + 8 <= out[0].len; i += 8 + get_le32(out[0].p + i + 4))
		n += get_le32(out[0].p + i) == WIRE_FRAMES;
	return n;
}

static void end(struct vm *vm)
{
	vm_destroy(vm);
	assert_int_equal(fake_kept_clear(), 0);
	assert_int_equal(fake_page_live(), 0);
}

static void brought_in_order(const struct vm *vm, unsigned n)
{
	assert_int_equal(fake_brought.n, n);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(fake_brought.frame[i].number, i);
		assert_ptr_equal(fake_brought.frame[i].vm, vm);
	}
}

static void test_in_order(void **state unused)
{
	static const size_t sizes[] = { ETH_HLEN + 4, 60, 1514, 1518, 9022 };
	for (uint32_t i = 0; i < 300; i++)
		keep(i / 100 % 2, i, sizes[i % 5]);
	struct vm *vm = moved(2);
	brought_in_order(vm, 300);
	for (uint32_t i = 0; i < 300; i++) {
		assert_int_equal(fake_brought.frame[i].nic, i / 100 % 2);
		assert_int_equal(fake_brought.frame[i].len, sizes[i % 5]);
	}
	assert_true(records() > 10); /* 727 KB, at most 64 KiB in each, of one card each */
	independent_reader(out, "");
	end(vm);
}

static void test_none(void **state unused)
{
	done_records = 0;
	struct vm *vm = moved(1);
	assert_int_equal(records(), 0);
	assert_int_equal(fake_brought.n, 0);
	assert_int_equal(done_records, 1);
	end(vm);
}

/* Each mutation of a stream with two such records is refused by the reader that was written from wire.md. */
static void test_mutations(void **state unused)
{
	keep(0, 0, 18);
	keep(0, 1, 20);
	keep(1, 2, 18);
	struct vm *vm = moved(2);
	brought_in_order(vm, 3);
	assert_int_equal(records(), 2);
	independent_reader(out, "--mutate");
	end(vm);
}

/* They go on coming, until the network knows where it is. */
static void later(void *arg unused)
{
	for (uint32_t i = 0; i < 50; i++) {
		keep(0, i, 100);
		task_sleep_until(time_ns() + NS_PER_MS);
	}
	__atomic_store_n(&fake_elsewhere, true, __ATOMIC_SEQ_CST);
}

static void test_goes_on(void **state unused)
{
	fake_elsewhere = false;
	assert_non_null(task_create("later", TASK_PRIO_NORMAL, later, NULL));
	uint64_t begin = time_ns();
	struct vm *vm = moved(1);
	assert_true(time_ns() - begin < FRAMES_NS); /* it did not wait on */
	brought_in_order(vm, 50);
	end(vm);
}

/* A network that says nothing is waited for no longer than a second, and DONE comes all the same. */
static void test_never_told(void **state unused)
{
	fake_elsewhere = false;
	done_records = 0;
	keep(0, 0, 60);
	uint64_t begin = time_ns();
	struct vm *vm = moved(1);
	assert_true(time_ns() - begin >= FRAMES_NS && time_ns() - begin < 4 * FRAMES_NS);
	brought_in_order(vm, 1);
	assert_int_equal(done_records, 1);
	end(vm);
}

/* Nor does a flood keep it that is faster than it is sent. */
static void test_flood(void **state unused)
{
	fake_elsewhere = false;
	fake_flood = true;
	done_records = 0;
	fake_bring_us = 100;
	keep(0, 0, 1514);
	uint64_t begin = time_ns();
	struct vm *vm = moved(1);
	assert_true(time_ns() - begin >= FRAMES_NS && time_ns() - begin < 4 * FRAMES_NS);
	assert_int_equal(done_records, 1);
	assert_true(fake_brought.n > 100);
	end(vm);
}

/* ---- a source that says anything ---- */

struct puppet {
	struct wire_tx tx;
	struct wire_rx rx;
	struct stream *s;
	struct attempt_id id;
};

static uint32_t hear(struct puppet *p)
{
	int err;
	do
		err = wire_recv(&p->rx, time_in_ms(3000), NS_PER_SEC, NULL);
	while (!err && p->rx.type == WIRE_PREPARING);
	return err ? 0 : p->rx.type;
}

static void section(struct puppet *p, const char *name, uint32_t instance, size_t len)
{
	wire_begin(&p->tx, WIRE_SECTION);
	wire_put_str(&p->tx, name, 32);
	wire_put_u32(&p->tx, instance);
	wire_put_u32(&p->tx, fake_version(name));
	memset(wire_put_space(&p->tx, len), 0, len);
	assert_int_equal(wire_end(&p->tx, time_in_ms(1000)), 0);
}

/* As far as ACCEPT, or STARTED. */
static void puppet_open(struct puppet *p, bool started)
{
	struct tap *dest, *t = connect_taps(&dest);
	struct hello h;
	static struct offer o;
	p->s = &t->s;
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, &dest->s));
	assert_int_equal(wire_tx_init(&p->tx, p->s), 0);
	assert_int_equal(wire_rx_init(&p->rx, p->s), 0);
	assert_int_equal(hello_exchange(&p->tx, &p->rx, &h, time_in_ms(1000), NULL), 0);
	o = (struct offer){
		.cfg = { .name = "demo", .mem = MIB(2), .vcpus = 1, .nnics = 1, .mtu = { 1500 }, .mac = { { 2, 9 } } },
		.id = attempt_new_id((const uint8_t *)"pppppppppppppppp")
	};
	vm_compat_get(NULL, &o.compat);
	p->id = o.id;
	assert_int_equal(offer_send(&p->tx, &o, time_in_ms(1000)), 0);
	p->tx.key = p->rx.key = attempt_key(&o.id);
	assert_int_equal(hear(p), WIRE_ACCEPT);
	assert_int_equal(pass_send(&p->tx, 1, PASS_FINAL, time_in_ms(1000)), 0);
	if (!started)
		return;
	wire_begin(&p->tx, WIRE_PAGES);
	wire_put_u64(&p->tx, 0);
	wire_put_u32(&p->tx, 1);
	wire_put_u32(&p->tx, 0);
	wire_put_u64(&p->tx, (1ULL << 31 | 512) << 32);
	assert_int_equal(wire_end(&p->tx, time_in_ms(1000)), 0);
	assert_int_equal(pass_end_send(&p->tx, 1, 0, 512, time_in_ms(1000)), 0);
	section(p, "clock", 0, 32);
	section(p, "fakedev", 0, 48);
	section(p, "fakedev", 1, 48);
	section(p, "config", 0, FAKE_CONFIG_LEN);
	assert_int_equal(end_send(&p->tx, &o.id, &(struct end_counts){ 1, 4, 0, 0, 512 }, time_in_ms(1000)), 0);
	assert_int_equal(hear(p), WIRE_READY);
	assert_int_equal(commit_send(&p->tx, &o.id, 0, 0, time_in_ms(1000)), 0);
	assert_int_equal(hear(p), WIRE_STARTED);
}

static void puppet_close(struct puppet *p)
{
	wire_tx_fini(&p->tx);
	wire_rx_fini(&p->rx);
	stream_close(p->s);
	assert_true(fake_tasks_wait());
	ON_HOST(1) attempt_event(&p->id, RECORD_EV_DROP);
}

/* A record of that length with such a card and first frame, as far as it has room for them. */
static int say_frames(struct puppet *p, uint32_t nic, uint32_t size, size_t len)
{
	wire_begin(&p->tx, WIRE_FRAMES);
	uint8_t *b = wire_put_space(&p->tx, len);
	memset(b, 0, len);
	if (len >= 4)
		put_le32(b, nic);
	if (len >= 8)
		put_le32(b + 4, size);
	return wire_end(&p->tx, time_in_ms(1000));
}

/* Each ends the connection; what has started runs on, and the source's word that it knows is not heard. */
static void test_malformed(void **state unused)
{
	static const struct {
		uint32_t nic, size;
		size_t len;
	} bad[] = {
		{ 0, 14, 21 },               /* too short a record for any frame */
		{ 0, 14, 0 },                /* nothing at all */
		{ 1, 14, 22 },               /* no such card */
		{ ~0U, 14, 22 },             /* nor that */
		{ 0, 13, 22 },               /* shorter than a header */
		{ 0, 15, 22 },               /* longer than what there is */
		{ 0, ~0U, 22 },              /* the same */
		{ 0, 14, 24 },               /* half a size behind it */
		{ 0, 14, 26 },               /* a frame of nothing behind it */
		{ 0, 9023, 8 + 9023 },       /* longer than any */
		{ 0, 14, WIRE_BODY_MAX - 4 } /* longer than a record may be */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct puppet p;
		puppet_open(&p, true);
		(void)!say_frames(&p, bad[i].nic, bad[i].size, bad[i].len); /* which may end it midway */
		(void)!id_send(&p.tx, WIRE_DONE, &p.id, time_in_ms(1000));
		assert_int_equal(hear(&p), 0);
		assert_true(fake_brought.n <= 1);
		ON_HOST(1) assert_int_equal(attempt_find(&p.id, NULL), RECORD_STARTED);
		assert_int_equal(fake_vm_find(1, "demo")->state, VM_RUNNING);
		puppet_close(&p);
		end(fake_vm_find(1, "demo"));
	}
}

/* Good ones of a puppet are taken, so that the above is for the reason told there. */
static void test_well_formed(void **state unused)
{
	struct puppet p;
	puppet_open(&p, true);
	assert_int_equal(say_frames(&p, 0, 14, 22), 0);
	assert_int_equal(say_frames(&p, 0, 9022, 8 + 9022), 0);
	assert_int_equal(id_send(&p.tx, WIRE_DONE, &p.id, time_in_ms(1000)), 0);
	assert_true(fake_tasks_wait());
	assert_int_equal(fake_brought.n, 2);
	ON_HOST(1) assert_int_equal(attempt_find(&p.id, NULL), RECORD_NONE);
	puppet_close(&p);
	end(fake_vm_find(1, "demo"));
}

/* Before it runs there is nobody to have them. */
static void test_too_early(void **state unused)
{
	struct puppet p;
	puppet_open(&p, false);
	assert_int_equal(say_frames(&p, 0, 14, 22), 0);
	assert_int_equal(hear(&p), WIRE_ERROR);
	assert_int_equal(hear(&p), WIRE_NEVER);
	assert_int_equal(fake_brought.n, 0);
	puppet_close(&p);
	assert_null(fake_vm_find(1, "demo"));
	assert_int_equal(fake_page_live(), 0);
}

/* A stream of them without end is listened to for some seconds; meanwhile the VM may be stopped. */
static void test_endless(void **state unused)
{
	struct puppet p;
	puppet_open(&p, true);
	uint64_t begin = time_ns();
	fake_bring_us = 1000; /* so that there always is a next one */
	for (unsigned i = 0; time_ns() - begin < 20 * NS_PER_SEC && !say_frames(&p, 0, 14, 22); i++)
		if (i == 10)
			vm_destroy(fake_vm_find(1, "demo"));
	assert_true(time_ns() - begin < 10 * NS_PER_SEC);
	puppet_close(&p);
	assert_null(fake_vm_find(1, "demo"));
	(void)fake_kept_clear();
	assert_int_equal(fake_page_live(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_order),    cmocka_unit_test(test_none),       cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_goes_on),     cmocka_unit_test(test_never_told), cmocka_unit_test(test_flood),
		cmocka_unit_test(test_well_formed), cmocka_unit_test(test_malformed),  cmocka_unit_test(test_too_early),
		cmocka_unit_test(test_endless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
