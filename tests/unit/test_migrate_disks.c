/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM with disks moves from host 0 to host 1 (fake_hosts.h), or does not, while its guest writes to them: whatever
 * becomes of an attempt, the disks are where the VM is, and as the flat arrays that the guest's writes went to as well.
 */
#include "kernel/base/hva.h"
#include "kernel/host.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/wire_tap.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/records.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define IMAGE 70656UL /* 17 blocks and a quarter */
#define DISK  (MIB(2) + 3 * SECTOR)
#define DISKS 2

static uint8_t image[IMAGE], model[DISKS][DISK];
static uint64_t seed;
static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005UL + 1442695040888963407UL;
	return (seed >> 33) % n;
}

/* ---- the guest and its disks ---- */

static void done(struct blockdev_req *r unused) {}

static void submit(struct vm *vm, unsigned disk, enum blockdev_op op, uint64_t off, void *p, uint64_t len)
{
	struct blockdev *b = &vm->disk[disk]->layer.b;
	struct gmem_pin pin = { p, 0, len, GMEM_WRITE };
	struct blockdev_req r = { .op = op, .off = off, .len = len, .seg = p ? &pin : NULL, .done = done };
	b->ops->submit(b, &r);
	assert_int_equal(r.err, 0);
}

/* The guest writes something somewhere, if it runs. */
static void guest_writes(struct vm *vm)
{
	unsigned disk = (unsigned)rnd(DISKS);
	uint64_t sectors = 1 + rnd(24), at = rnd(4) ? rnd(200) : DISK / SECTOR - 24 - rnd(100);
	uint8_t *p = model[disk] + at * SECTOR;
	mutex_lock(&vm->lock);
	if (vm->state != VM_RUNNING) {
		mutex_unlock(&vm->lock);
		return;
	}
	if (rnd(4)) {
		for (uint64_t i = 0; i < sectors * SECTOR; i++)
			p[i] = (uint8_t)(rnd(256));
		submit(vm, disk, BLOCKDEV_WRITE, at * SECTOR, p, sectors * SECTOR);
	} else {
		memset(p, 0, sectors * SECTOR);
		submit(vm, disk, BLOCKDEV_ZERO, at * SECTOR, NULL, sectors * SECTOR);
	}
	mutex_unlock(&vm->lock);
}

static void assert_disks(struct vm *vm)
{
	static uint8_t got[DISK];
	assert_int_equal(vm->cfg.ndisks, DISKS);
	for (unsigned i = 0; i < DISKS; i++) {
		submit(vm, i, BLOCKDEV_READ, 0, got, DISK);
		assert_memory_equal(got, model[i], DISK);
		assert_true(vm->disk[i]->layer.used <= vm->disk[i]->layer.max);
	}
	assert_true(vm->disk[0]->layer.base && !vm->disk[1]->layer.base);
}

static struct vm *new_vm(void)
{
	struct vm *vm = fake_vm_new("demo", MIB(2));
	struct why w = { "" };
	vm->cfg.ndisks = DISKS;
	for (unsigned i = 0; i < DISKS; i++) {
		struct vm_disk_config *d = &vm->cfg.disk[i];
		*d = (struct vm_disk_config){ .name = "root", .size = DISK, .layer = 400 * PAGE_SIZE };
		if (i)
			strcpy(d->name, "data");
		memset(model[i], 0, DISK);
	}
	strcpy(vm->cfg.disk[0].file, "image");
	vm->cfg.disk[0].base_size = IMAGE;
	memcpy(model[0], image, IMAGE);
	if (disk_make_all(vm, &w))
		fail_msg("%s", w.text);
	seed = 1;
	for (unsigned i = 0; i < 10; i++)
		guest_writes(vm);
	return vm;
}

/* ---- a stream in which something happens at each write ---- */

static void tap_before(struct tap *t unused, const uint8_t *bytes unused) {}
static void tap_after(struct tap *t)
{
	if (t->writes && t->write_no < 40) /* and then it lets them come to an end */
		guest_writes(t->writes);
}

static bool copy_base; /* --copy-base */

static void serve(void *s)
{
	fake_host = !fake_host; /* that of who created the task */
	migrate_serve(NULL, s);
}

static int attempt(struct vm *vm, struct tap *src, struct tap *dst, struct why *w)
{
	static const struct migrate_params params = { .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30 };
	struct migrate_params p = params;
	p.dest = src->s.ip;
	p.copy_base = copy_base;
	if (!task_create("serve", TASK_PRIO_NORMAL, serve, &dst->s))
		abort();
	int err = migrate_source_run(vm, &src->s, &p, w);
	stream_close(&src->s);
	return err;
}

/* Everybody is done: it runs on one host, with its disks. True: the destination. */
static bool moved(void)
{
	assert_true(fake_tasks_wait());
	struct vm *a = fake_vm_find(0, "demo"), *b = fake_vm_find(1, "demo");
	assert_true(!a != !b);
	assert_int_equal((a ? a : b)->state, VM_RUNNING);
	assert_disks(a ? a : b);
	return b;
}

static void gone(void)
{
	struct vm *a = fake_vm_find(0, "demo"), *b = fake_vm_find(1, "demo");
	vm_destroy(a ? a : b);
	assert_int_equal(fake_page_live(), 0);
	assert_int_equal(fake_page_reserved(), 0);
}

/* The next attempt of one that stayed works, and what the guest wrote in between goes with it. */
static void must_work(struct vm *vm)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	for (unsigned i = 0; i < 5; i++)
		guest_writes(vm);
	src->writes = vm;
	if (attempt(vm, src, dst, &w))
		fail_msg("the next attempt failed: %s", w.text);
	assert_true(moved());
}

static struct log out[2];
static void capture(struct vm *vm)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	out[0].len = out[1].len = 0;
	src->log = &out[0];
	dst->log = &out[1];
	src->writes = vm;
	if (attempt(vm, src, dst, &w))
		fail_msg("%s", w.text);
	assert_true(moved());
}

/* ---- tests ---- */

static void test_reader(void **state unused)
{
	capture(new_vm());
	independent_reader(out, "--mutate");
	gone();
}

/* What has come moves on, with a reader that finds nothing wrong with it either. */
static void test_and_home_again(void **state unused)
{
	for (unsigned i = 0; i < 4; i++) {
		int from = (int)i % 2;
		ON_HOST(from)
		{
			struct vm *vm = i ? fake_vm_find(from, "demo") : new_vm();
			struct tap *dst, *src = connect_taps(&dst);
			struct why w = { "" };
			dst->s.ip = fake_net_address(from);
			src->s.ip = fake_net_address(!from);
			src->writes = vm;
			if (attempt(vm, src, dst, &w))
				fail_msg("%s", w.text);
			assert_true(moved() == !from);
		}
	}
	gone();
}

/* Its base image is not there, under that name, and comes along. */
static struct vm *new_vm_with_base(void)
{
	struct vm *vm = new_vm();
	if (copy_base)
		strcpy(vm->cfg.disk[0].file, "gone");
	return vm;
}

static void test_base_comes(void **state unused)
{
	uint64_t before = host_info.file_bytes;
	copy_base = true;
	capture(new_vm_with_base());
	independent_reader(out, "");
	assert_int_equal(host_info.file_bytes, before + 2 * BOOT_FILE_BLOCK);
	gone();
	assert_int_equal(host_info.file_bytes, before);
	capture(new_vm()); /* it is there */
	assert_int_equal(host_info.file_bytes, before);
	gone();
	copy_base = false;
}

/* The link breaks at each record: at its start, in it, and before its last byte. */
static void cut_at_records(void)
{
	unsigned went = 0, stayed = 0;
	capture(new_vm_with_base());
	gone();
	for (int side = 0; side < 2; side++) {
		size_t len = out[side].len;
		uint8_t *all = malloc(len);
		memcpy(all, out[side].p, len);
		for (size_t at = 0, next; at < len; at = next) {
			next = at + 8 + get_le32(all + at + 4);
			for (unsigned i = 0; i < 3; i++) {
				struct vm *vm = new_vm_with_base();
				struct tap *dst, *src = connect_taps(&dst);
				stream_pipe_cut_after((side ? dst : src)->under, i == 0   ? at
										 : i == 1 ? (at + next) / 2
											  : next - 1);
				src->writes = vm;
				attempt(vm, src, dst, NULL);
				if (moved()) {
					went++;
				} else {
					stayed++;
					must_work(vm);
				}
				gone();
			}
		}
		free(all);
	}
	print_message("    cut at each record: %u moved, %u stayed\n", went, stayed);
	assert_true(went && stayed > 50);
}

static void test_cut_at_records(void **state unused) { cut_at_records(); }
static void test_cut_at_records_of_base(void **state unused)
{
	copy_base = true;
	cut_at_records();
	copy_base = false;
}

static void test_cancel_everywhere(void **state unused)
{
	unsigned cancelled = 0;
	for (unsigned n = 1;; n++) {
		struct vm *vm = new_vm();
		struct tap *dst, *src = connect_taps(&dst);
		src->cancel_at = n;
		src->writes = vm;
		cancel_result = 1;
		int err = attempt(vm, src, dst, NULL);
		if (cancel_result)
			break;
		cancelled++;
		assert_int_not_equal(err, 0);
		assert_false(moved());
		must_work(vm);
		gone();
	}
	assert_true(moved());
	gone();
	assert_true(cancelled > 8);
}

static void refused(struct vm *vm, enum refuse_code code, const char *text)
{
	struct tap *dst, *src = connect_taps(&dst);
	struct why w = { "" };
	unsigned resumed = fake_resumed();
	src->log = &out[0];
	dst->log = &out[1];
	out[0].len = out[1].len = 0;
	assert_int_not_equal(attempt(vm, src, dst, &w), 0);
	if (!strstr(w.text, text))
		fail_msg("\"%s\" does not say \"%s\"", w.text, text);
	assert_false(moved());
	assert_int_equal(fake_resumed(), resumed); /* it was never paused */
	const uint8_t *last = out[1].p;
	while (last + 8 + get_le32(last + 4) < out[1].p + out[1].len)
		last += 8 + get_le32(last + 4);
	assert_int_equal(get_le32(last), WIRE_REFUSE);
	assert_int_equal(get_le32(last + 12), code);
	independent_reader(out, "");
}

static struct boot_file *other_image(void)
{
	struct boot_file *f;
	assert_int_equal(boot_file_new(IMAGE, &f, NULL), 0);
	boot_file_write(f, 0, image, IMAGE);
	boot_file_write(f, IMAGE - 1, &(uint8_t){ (uint8_t)(image[IMAGE - 1] + 1) }, 1);
	return f;
}

/* Host 1 has no image of that name; another one; no memory for what the guest may write. */
static void test_refused(void **state unused)
{
	struct vm *vm = new_vm();
	struct layer *l = &vm->disk[0]->layer;
	struct boot_file *same = l->base;
	strcpy(vm->cfg.disk[0].file, "gone");
	refused(vm, REFUSE_CONFIG, "disk root: no such base image there (gone, 70656 bytes): --copy-base");
	strcpy(vm->cfg.disk[0].file, "image");
	l->base = other_image(); /* in a byte that the guest has overwritten, or model would have to have it */
	submit(vm, 0, BLOCKDEV_WRITE, IMAGE - SECTOR, model[0] + IMAGE - SECTOR, SECTOR);
	refused(vm, REFUSE_CONFIG, "disk root: no such base image there (image, 70656 bytes): --copy-base");
	boot_file_put(l->base);
	l->base = same;
	uint64_t max = vm->disk[1]->layer.max; /* what it is now, not what the VM's file says */
	vm->disk[1]->layer.max = GIB(64) / PAGE_SIZE;
	refused(vm, REFUSE_MEMORY, "not enough memory: the layer of its disk may take 65536 MiB");
	vm->disk[1]->layer.max = max;
	must_work(vm);
	gone();
}

/* ---- digests ---- */

static const struct migrate_params to_b = { .port = MIGRATE_PORT, .max_downtime_ms = 300, .max_passes = 30 };

/* Another base image for its first disk. It has no digest yet; returns the one before. */
static struct boot_file *give_base(struct vm *vm, const char *name, const hpa_t *chunk, uint64_t size)
{
	struct boot_file *was = vm->disk[0]->layer.base;
	assert_int_equal(boot_file_add_sparse(name, chunk, size), 0);
	vm->disk[0]->layer.base = boot_file_named(name);
	strcpy(vm->cfg.disk[0].file, name);
	return was;
}

static struct boot_file *files_of_it[2];
static unsigned known_then;
static void connected(int from unused, int to unused)
{
	known_then = 0;
	for (unsigned i = 0; i < 2; i++)
		known_then += files_of_it[i]->digest != 0;
}

/* Who has connected is waited for: what takes long has been done by then. */
static void test_digests_before_connecting(void **state unused)
{
	struct migrate_params p = to_b;
	struct vm *vm = new_vm();
	struct why w = { "" };
	hpa_t chunk[2] = { hpa_of(image), hpa_of(image + BOOT_FILE_BLOCK) };
	boot_file_put(give_base(vm, "fresh", chunk, IMAGE));
	assert_int_equal(boot_file_new(BOOT_FILE_BLOCK, &vm->file[VM_KERNEL], &w), 0);
	files_of_it[0] = vm->file[VM_KERNEL];
	files_of_it[1] = vm->disk[0]->layer.base;
	assert_true(!files_of_it[0]->digest && !files_of_it[1]->digest);
	p.dest = fake_net_address(1);
	fake_net.connected = connected;
	assert_int_equal(migrate_start(vm, &p, &w), 0);
	assert_true(moved());
	fake_net.connected = NULL;
	assert_int_equal(known_then, 2);
	gone();
}

#define HUGE_BLOCKS (1UL << 20) /* 64 GiB of one and the same block: that takes longer than the test does */

/* Meanwhile it can be cancelled, and a guest that powers off need not wait. */
static void test_digest_is_left(void **state unused)
{
	struct migrate_params p = to_b;
	struct vm *vm = new_vm();
	struct migrate_status st;
	hpa_t *chunk = malloc(HUGE_BLOCKS * sizeof(*chunk));
	for (unsigned i = 0; i < HUGE_BLOCKS; i++)
		chunk[i] = hpa_of(image);
	struct boot_file *was = give_base(vm, "huge", chunk, HUGE_BLOCKS * BOOT_FILE_BLOCK);
	free(chunk);
	p.dest = fake_net_address(1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(migrate_start(vm, &p, NULL), 0);
		if (i)
			__atomic_store_n(&vm->power_request, VM_POWER_OFF, __ATOMIC_SEQ_CST);
		else
			assert_int_equal(migrate_cancel("demo", NULL), 0);
		assert_int_equal(migrate_wait("demo", time_in_ms(3000)), 0);
		assert_true(migrate_get(0, &st));
		assert_int_equal(st.phase, i ? MIG_FAILED : MIG_CANCELLED);
		assert_non_null(strstr(st.error, i ? "powers off" : "cancelled by the operator"));
		assert_int_equal(vm->disk[0]->layer.base->digest, 0);
	}
	assert_true(fake_tasks_wait());
	assert_int_equal(vm->state, VM_STOPPED);
	boot_file_put(vm->disk[0]->layer.base);
	vm->disk[0]->layer.base = was;
	gone();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader),
		cmocka_unit_test(test_and_home_again),
		cmocka_unit_test(test_base_comes),
		cmocka_unit_test(test_cut_at_records),
		cmocka_unit_test(test_cut_at_records_of_base),
		cmocka_unit_test(test_cancel_everywhere),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_digests_before_connecting),
		cmocka_unit_test(test_digest_is_left),
	};
	for (unsigned i = 0; i < IMAGE; i++)
		image[i] = (uint8_t)(i * 7 + i / 251);
	if (boot_file_add("image", image, IMAGE))
		return 1;
	fake_last_moment = guest_writes;
	cmocka_set_test_filter(getenv("TERN_TEST")); /* one test by name */
	int failed = cmocka_run_group_tests_name("migrate disks", tests, NULL, NULL);
	free(out[0].p);
	free(out[1].p);
	free(fake_paused_image);
	return failed;
}
