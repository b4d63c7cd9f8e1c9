/* SPDX-License-Identifier: BSD-2-Clause */
/* [disk] sections, each word that an operator may read of them, and the disks that are made of them. */
#include "kernel/host.h"
#include "tests/unit/fake_kernel.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct host_info host_info = { .name = "a" };

static struct vm other; /* the one VM that is there already */
void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg) { fn(&other, arg); }

#define IMAGE (100UL << 10)
static uint8_t image[IMAGE], image2[IMAGE], odd[IMAGE + 100], large[MIB(2)];

static int setup(void **state unused)
{
	memset(image, 1, sizeof(image));
	memset(image2, 2, sizeof(image2));
	return boot_file_add("image", image, sizeof(image)) || boot_file_add("image2", image2, sizeof(image2)) ||
	       boot_file_add("odd", odd, sizeof(odd)) || boot_file_add("large", large, sizeof(large));
}

static struct conf conf;
static struct vm_config cfg;
static char wrong[CONF_WRONG_MAX];

/* As vm_start.c reads a [vm]. */
static bool take(const char *text)
{
	struct conf_reader r = { .c = &conf, .table = &vm_conf_table, .name = "demo" };
	(void)conf_parse(&conf, text, strlen(text));
	if (vm_config_read(&conf, "demo", "a", 1, &cfg, r.wrong))
		disk_config_read(&r, &cfg);
	memcpy(wrong, r.wrong, sizeof(wrong));
	return !wrong[0];
}

#define VM "[vm demo]\nkernel = k\n"

static void test_good(void **state unused)
{
	const struct vm_disk_config *d = cfg.disk;
	assert_true(take(VM));
	assert_int_equal(cfg.ndisks, 0);

	assert_true(take(VM "disk = b, a, c, d\n[disk a]\nfile = image\n[disk b]\nmemory = 4M\n"
			    "[disk c]\nfile = image2\nsize = 3G\nreadonly = yes\n[disk d]\nfile = large\nsize = "
			    "100G\nlayer = 256M\n"));
	assert_int_equal(cfg.ndisks, 4);
	assert_true(!strcmp(d[0].name, "b") && !strcmp(d[1].name, "a") && !strcmp(d[2].name, "c"));
	assert_true(!d[0].file[0] && d[0].size == MIB(4) && !d[0].base_size && !d[0].flags);
	assert_int_equal(d[0].layer, layer_pages_whole(MIB(4)) * PAGE_SIZE); /* all of it may be written */
	assert_true(!strcmp(d[1].file, "image") && d[1].size == IMAGE && d[1].base_size == IMAGE);
	assert_int_equal(d[1].layer, layer_pages_whole(IMAGE) * PAGE_SIZE);
	assert_true(d[2].size == GIB(3) && d[2].base_size == IMAGE && d[2].flags == DISK_READONLY);
	assert_int_equal(d[2].layer, PAGE_SIZE);
	assert_true(d[3].size == GIB(100) && d[3].layer == MIB(256));
	for (unsigned i = 0; i < 4; i++)
		assert_true(disk_config_is_sane(&d[i]));

	assert_true(take(VM "disk = a\n[disk a]\nfile = image\nsize = 100G\n"));
	assert_int_equal(d[0].layer, GIB(1));
}

static void test_wrong(void **state unused)
{
	static const struct {
		const char *text, *wrong;
	} c[] = {
		{ "disk = a\n", "tern.conf:3: [vm demo] disk = a: there is no section [disk a]" },
		{ "disk = a\n[disk a]\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: it wants either file, memory or iscsi" },
		{ "disk = a\n[disk a]\nfile = image\nmemory = 1G\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: it wants either file, memory or iscsi" },
		{ "disk = a\n[disk a]\nmemory = 1G\nsize = 2G\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: size, layer and readonly are for a disk with a file" },
		{ "disk = a\n[disk a]\nmemory = 1G\nlayer = 1M\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: size, layer and readonly are for a disk with a file" },
		{ "disk = a\n[disk a]\nmemory = 1G\nreadonly = yes\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: size, layer and readonly are for a disk with a file" },
		{ "disk = a\n[disk a]\nfile = gone\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: there is no image gone on the boot volume, or it could not "
		  "be read" },
		{ "disk = a\n[disk a]\nfile = odd\n", "tern.conf:3: [vm demo] disk = a: disk a: its image odd has "
						      "102500 bytes, which are no whole sectors" },
		{ "disk = a\n[disk a]\nfile = large\nsize = 1M\n",
		  "tern.conf:3: [vm demo] disk = a: disk a: its image large is larger than size" },
		{ "disk = a, a\n[disk a]\nfile = image\n", "tern.conf:3: [vm demo] disk = a, a: write the names of 1 "
							   "to 4 disks ([disk NAME]), each of one VM alone; "
							   "'a' is there twice" },
		{ "disk = a, used\n[disk a]\nfile = image\n[disk used]\nfile = image\n",
		  "tern.conf:3: [vm demo] disk = a, used: disk used is in use by other: a disk is of one VM, once" },
		{ "disk = a\n[disk a]\nfile = image\nsize = 1000000\n",
		  "tern.conf:3: [vm demo] disk = a: its disk a is wrong" },
		{ "disk = a\n[disk a]\nfile = image\ncolour = red\n",
		  "tern.conf:3: [vm demo] disk = a: its disk a is wrong" },
	};
	other.cfg = (struct vm_config){ .name = "other", .ndisks = 1, .disk = { { .name = "used" } } };
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char text[400] = VM;
		strcat(text, c[i].text);
		assert_false(take(text));
		assert_string_equal(wrong, c[i].wrong);
		assert_true(cfg.ndisks < 2);
		assert_non_null(strstr(conf.problems, wrong));
	}
	other.cfg.ndisks = 0;
}

/* What is wrong with a key of the section is told of its own line. */
static void test_wrong_keys(void **state unused)
{
	static const struct {
		const char *text, *problem;
	} c[] = {
		{ "file = image\nsize = 1000000\n", "tern.conf:6: [disk a] size = 1000000: " },
		{ "file = image\nsize = 512K\n", "tern.conf:6: [disk a] size = 512K: " },
		{ "file = image\nlayer = 1000\n", "tern.conf:6: [disk a] layer = 1000: " },
		{ "file = image\nlayer = 2000G\n", "tern.conf:6: [disk a] layer = 2000G: " },
		{ "file = image\nreadonly = maybe\n", "tern.conf:6: [disk a] readonly = maybe: " },
		{ "memory = 2000G\n", "tern.conf:5: [disk a] memory = 2000G: " },
		{ "memory = 1000000\n", "tern.conf:5: [disk a] memory = 1000000: " },
		{ "memory = 1M\ncolour = red\n",
		  "tern.conf:6: [disk a] colour: there is no such key; there are file, memory, size, "
		  "layer, readonly" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char text[400] = VM "disk = a\n[disk a]\n";
		strcat(text, c[i].text);
		assert_false(take(text));
		if (!strstr(conf.problems, c[i].problem))
			fail_msg("%s is not in\n%s", c[i].problem, conf.problems);
	}
}

/* Sections that no VM names: for what comes from elsewhere, or wrong. */
static void test_of_nobody(void **state unused)
{
	(void)take("[disk a]\nfile = image\n[disk b]\nmemory = 1M\nfile = image\n[disk c]\nfile = gone\n[disk d]\nfilm "
		   "= x\n");
	conf.problems[0] = 0;
	disk_config_rest(&conf);
	assert_null(strstr(conf.problems, "[disk a]"));
	assert_non_null(strstr(conf.problems, "tern.conf:3: [disk b]: it wants either file, memory or iscsi"));
	assert_non_null(strstr(conf.problems, "tern.conf:6: [disk c]: there is no image gone on the boot volume"));
	assert_non_null(strstr(conf.problems, "tern.conf:9: [disk d] film: there is no such key"));
}

/* ---- what comes from another host ---- */

static void test_sane(void **state unused)
{
	const struct vm_disk_config good = {
		.name = "d", .size = MIB(1), .layer = PAGE_SIZE, .file = "image", .base_size = IMAGE
	};
	assert_true(disk_config_is_sane(&good));
	for (unsigned i = 0; i < 14; i++) {
		struct vm_disk_config d = good;
		switch (i) {
		case 0: d.name[0] = 0; break;
		case 1: strcpy(d.name, "a b"); break;
		case 2: d.size = 0; break;
		case 3: d.size++; break;
		case 4: d.size = LAYER_SIZE_MAX + SECTOR; break;
		case 5: d.layer = 0; break;
		case 6: d.layer++; break;
		case 7: d.layer = LAYER_SIZE_MAX + PAGE_SIZE; break;
		case 8: d.flags = DISK_FLAGS + 1; break;
		case 9: d.base_size = 0; break;
		case 10: d.base_size = d.size + 1; break;
		case 11: d.file[0] = 0; break; /* with the size of a base */
		case 12:
			d.file[0] = 0;
			d.base_size = 0;
			d.base_digest = 1;
			break;
		default: d.size = ~0UL & ~511UL; break;
		}
		if (disk_config_is_sane(&d))
			fail_msg("case %u", i);
	}
}

static void test_same_base(void **state unused)
{
	struct boot_file *f = boot_file_named("image");
	const uint64_t digest = boot_file_digest(f);
	struct vm_config c = {
		.ndisks = 2,
		.disk = { { .name = "m" }, { .name = "d", .file = "image", .base_size = IMAGE, .base_digest = digest } }
	};
	struct why w = { "" };
	boot_file_put(f);
	assert_int_equal(disk_bases_check(&c, &w), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct vm_config k = c;
		w.text[0] = 0;
		if (i == 0)
			k.disk[1].base_size -= SECTOR;
		else if (i == 1)
			k.disk[1].base_digest ^= 1;
		else
			strcpy(k.disk[1].file, i == 2 ? "image2" : "gone");
		assert_int_equal(disk_bases_check(&k, &w), -ENOENT);
		assert_non_null(strstr(w.text, "disk d: no such base image there ("));
		assert_non_null(strstr(w.text, "--copy-base sends it along"));
	}
}

/* ---- disks of them ---- */

static void test_made(void **state unused)
{
	static struct vm vm;
	struct why w = { "" };
	uint64_t live = fake_page_live();
	mutex_init(&vm.lock, "vm");
	assert_true(take(VM "disk = a, b\n[disk a]\nfile = image\nsize = 1M\n[disk b]\nmemory = 4M\n"));
	vm.cfg = cfg;
	assert_int_equal(disk_make_all(&vm, &w), 0);
	assert_int_equal(fake_page_reserved(), (cfg.disk[0].layer + cfg.disk[1].layer) / PAGE_SIZE);
	struct disk *a = vm.disk[0], *b = vm.disk[1];
	assert_true(a && b && !vm.disk[2]);
	assert_true(a->layer.b.size == MIB(1) && a->layer.base && !b->layer.base && !a->layer.b.readonly);
	assert_memory_equal(a->layer.b.serial, "a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(disk_make_all(&vm, &w), 0); /* it has them */
	assert_true(vm.disk[0] == a && vm.disk[1] == b);

	struct vm_config c = vm.cfg;
	assert_int_equal(disk_bases_digest(&vm, &c, false, &w), 0);
	struct boot_file *f = boot_file_named("image");
	assert_true(c.disk[0].base_digest == boot_file_digest(f) && !c.disk[1].base_digest);
	boot_file_put(f);

	/* Two more, of which the second has no base: what was there stays, and nothing else. */
	vm.cfg.ndisks = 4;
	vm.cfg.disk[2] = vm.cfg.disk[1];
	vm.cfg.disk[3] = vm.cfg.disk[0];
	strcpy(vm.cfg.disk[3].file, "gone");
	uint64_t reserved = fake_page_reserved();
	assert_int_equal(disk_make_all(&vm, &w), -ENOENT);
	assert_non_null(strstr(w.text, "disk a needs its base image gone"));
	assert_true(vm.disk[0] == a && vm.disk[1] == b && !vm.disk[2] && !vm.disk[3]);
	assert_int_equal(fake_page_reserved(), reserved);
	w.text[0] = 0;
	vm.cfg.disk[3] = vm.cfg.disk[1];
	vm.cfg.disk[3].layer = GIB(64);
	assert_int_equal(disk_make_all(&vm, &w), -ENOMEM);
	assert_non_null(strstr(w.text, "not enough memory: the layer of its disk may take 65536 MiB; "));
	assert_true(!vm.disk[2] && !vm.disk[3]);
	assert_int_equal(fake_page_reserved(), reserved);
	/* One that has left, and is to start here again: its images came with it, and went with it. */
	vm.cfg.disk[3] = vm.cfg.disk[0];
	strcpy(vm.cfg.disk[3].file, "gone");
	vm.cfg.disk[3].base_digest = 7;
	vm.cfg.disk[3].flags = DISK_COPY;
	for (unsigned i = 0; i < 2; i++) {
		vm.state = VM_STOPPED;
		w.text[0] = 0;
		assert_int_equal(disk_make_all(&vm, &w), -ENOENT);
		assert_non_null(strstr(w.text, i ? "what cloud-init reads came with it" : "no such base image there"));
		vm.state = VM_INCOMING; /* there it comes */
		assert_int_equal(disk_make_all(&vm, &w), 0);
		assert_true(vm.disk[3] && !vm.disk[3]->layer.base && disk_bases_pending(&vm));
		layer_fini(&vm.disk[3]->layer);
		free(vm.disk[3]);
		vm.disk[3] = NULL;
		vm.cfg.disk[3].file[0] = 0;
		vm.cfg.disk[3].flags = DISK_OWN | DISK_READONLY;
	}
	disk_free_all(&vm);
	assert_true(!vm.disk[0] && !vm.disk[1]);
	assert_int_equal(fake_page_reserved(), 0);
	assert_int_equal(fake_page_live(), live);
}

const char *vm_state_name(enum vm_state s) { return s == VM_UNDECIDED ? "undecided" : "?"; }
static struct vblk *told;
void vblk_resized(struct vblk *k) { told = k; }

static int resized(struct vm *vm, unsigned i, uint64_t size, uint64_t layer, const char *says)
{
	struct why w = { "" };
	struct vm_config offer = vm->cfg;
	uint64_t reserved = fake_page_reserved();
	int err = disk_resize(vm, i, size, layer, &w);
	if (!err)
		assert_int_equal(disk_bases_digest(vm, &offer, false, &w), 0);
	if (err)
		assert_int_equal(fake_page_reserved(), reserved);
	else
		assert_true(offer.disk[i].size == size && offer.disk[i].layer == vm->disk[i]->layer.max * PAGE_SIZE);
	assert_true(err ? strstr(w.text, says) != NULL : !says);
	return err;
}

static void test_resized(void **state unused)
{
	static struct vm vm;
	struct why w = { "" };
	mutex_init(&vm.lock, "vm");
	assert_true(take(VM "disk = a, b, c\n[disk a]\nfile = image\nsize = 4M\nlayer = 1M\n[disk b]\nmemory = 4M\n"
			    "[disk c]\nfile = image\nreadonly = yes\n"));
	vm.cfg = cfg;
	assert_int_equal(resized(&vm, 0, MIB(8), 0, "its VM has not been started here"), -ENOENT);
	assert_int_equal(disk_make_all(&vm, &w), 0);
	vm.state = VM_RUNNING; /* with the devices that those of this test stand for */
	vm.vblk[0] = (struct vblk *)&vm.disk[0];
	vm.vblk[1] = (struct vblk *)&vm.disk[1];
	/* Whose layer had room for all of it, its layer has so still; the other one gets what it is told. */
	assert_int_equal(resized(&vm, 0, MIB(8), 0, NULL), 0);
	assert_int_equal(vm.disk[0]->layer.max, MIB(1) / PAGE_SIZE);
	assert_ptr_equal(told, vm.vblk[0]);
	assert_int_equal(resized(&vm, 0, MIB(8), MIB(2), NULL), 0);
	assert_int_equal(vm.disk[0]->layer.max, MIB(2) / PAGE_SIZE);
	assert_int_equal(resized(&vm, 1, MIB(8), 0, NULL), 0);
	assert_int_equal(vm.disk[1]->layer.max, layer_pages_whole(MIB(8)));
	assert_ptr_equal(told, vm.vblk[1]);
	told = NULL;
	assert_int_equal(vm.cfg.disk[1].size, MIB(4)); /* which is what tern.conf says */

	assert_int_equal(resized(&vm, 1, MIB(8) - SECTOR, 0, "what a guest has may not be cut off"), -EINVAL);
	assert_int_equal(resized(&vm, 1, MIB(8) + 1, 0, "give a multiple of 512 bytes"), -EINVAL);
	assert_int_equal(resized(&vm, 1, LAYER_SIZE_MAX + SECTOR, 0, "give a multiple of 512 bytes"), -EINVAL);
	assert_int_equal(resized(&vm, 0, MIB(8), MIB(1), "give its layer a multiple of 4096 bytes from the"), -EINVAL);
	assert_int_equal(resized(&vm, 0, MIB(8), MIB(2) + 1, "give its layer a multiple"), -EINVAL);
	assert_int_equal(resized(&vm, 0, MIB(8), GIB(4096), "not enough memory: the layer of its disk may take"),
			 -ENOMEM);
	assert_int_equal(resized(&vm, 2, MIB(8), 0, "nobody can write to it"), -EINVAL);
	static struct migration *const some = (struct migration *)&vm;
	vm.migration = some;
	assert_int_equal(resized(&vm, 1, MIB(9), 0, "its VM is being migrated"), -EBUSY);
	vm.migration = NULL;
	vm.state = VM_UNDECIDED;
	assert_int_equal(resized(&vm, 1, MIB(9), 0, "its VM is undecided"), -EBUSY);
	vm.state = VM_STOPPED;
	assert_int_equal(resized(&vm, 1, MIB(9), 0, NULL), 0);
	assert_null(told); /* by what failed, or of a guest that is not there */
	disk_free_all(&vm);
	assert_int_equal(fake_page_reserved(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),      cmocka_unit_test(test_wrong),   cmocka_unit_test(test_wrong_keys),
		cmocka_unit_test(test_of_nobody), cmocka_unit_test(test_sane),    cmocka_unit_test(test_same_base),
		cmocka_unit_test(test_made),      cmocka_unit_test(test_resized),
	};
	return cmocka_run_group_tests_name("disk", tests, setup, NULL);
}
