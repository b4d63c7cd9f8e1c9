/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks at the end of OFFER: what is written is read back, and what cannot be a VM's disks is refused. */
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/disk.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/disks.h"
#include "vmm/seed.h"
#include <stdio.h>
#include <string.h>

static const struct attempt_id id = { .uuid = "0123456789abcde", .source = { 5, 6 }, .number = 7 };
static uint64_t soon(void) { return time_in_ms(1000); }

static void config(struct offer *o, unsigned nics, unsigned disks)
{
	*o = (struct offer){ .id = id, .compat = { .n = 1 } };
	struct vm_config *c = &o->cfg;
	*c = (struct vm_config){ .name = "demo", .mem = MIB(2), .vcpus = 1, .nnics = nics, .ndisks = disks };
	memcpy(c->uuid, id.uuid, sizeof(c->uuid));
	for (unsigned i = 0; i < nics; i++) {
		if (nics > 1)
			snprintf(c->net[i], sizeof(c->net[i]), "net%u", i);
		c->mtu[i] = 1500;
		c->mac[i][0] = 2;
		c->mac[i][5] = (uint8_t)i;
	}
	for (unsigned i = 0; i < disks; i++) {
		struct vm_disk_config *d = &c->disk[i];
		snprintf(d->name, sizeof(d->name), "disk%u", i);
		d->size = MIB(1 + i);
		d->layer = (i + 2) * PAGE_SIZE;
		d->flags = i & 1;
		if (!(i & 1))
			continue;
		memset(d->file, 'f', sizeof(d->file) - 1);
		d->base_size = MIB(1) + i * SECTOR;
		d->base_digest = 0x1122334455667788 + i;
	}
}

static int goes(const struct offer *o, struct offer *got)
{
	struct why w = { "" };
	assert_int_equal(offer_send(&tx, o, soon()), 0);
	assert_int_equal(wire_recv(&rx, soon(), NS_PER_SEC, &w), 0);
	assert_int_equal(rx.type, WIRE_OFFER);
	memset(got, 0xee, sizeof(*got)); /* whatever was there */
	return offer_parse(&rx, got, &w);
}

static void test_there_and_back(void **state unused)
{
	static struct offer o, got;
	for (unsigned nics = 1; nics <= VM_NICS_MAX; nics++)
		for (unsigned disks = 0; disks <= VM_DISKS_MAX; disks++) {
			config(&o, nics, disks);
			assert_int_equal(goes(&o, &got), 0);
			assert_memory_equal(&got.cfg, &o.cfg, sizeof(o.cfg));
		}
}

static void fill(char *s, size_t size, char c)
{
	memset(s, c, size - 1);
	s[size - 1] = '\0';
}

/* The largest that there can be: all that tells of its CPU, all cards and disks, and each name as long as it may be. */
static void test_largest(void **state unused)
{
	static struct offer o, got;
	config(&o, VM_NICS_MAX, VM_DISKS_MAX);
	struct vm_config *c = &o.cfg;
	o.compat.n = VM_COMPAT_WORDS;
	memset(o.compat.leaf, 0xee, sizeof(o.compat.leaf));
	memset(o.compat.sub, 0xee, sizeof(o.compat.sub));
	memset(o.compat.regs, 0xee, sizeof(o.compat.regs));
	c->mem = (1UL << 52) - GMEM_BLOCK;
	fill(c->name, sizeof(c->name), 'n');
	fill(c->cpu, sizeof(c->cpu), 'p');
	for (unsigned i = 0; i < VM_NICS_MAX; i++)
		fill(c->net[i], sizeof(c->net[i]), (char)('a' + i));
	for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
		struct vm_disk_config *d = &c->disk[i];
		bool own = i == VM_DISKS_MAX - 1; /* what cloud-init reads */
		*d = (struct vm_disk_config){ .size = LAYER_SIZE_MAX,
					      .layer = LAYER_SIZE_MAX,
					      .base_size = LAYER_SIZE_MAX,
					      .base_digest = ~0UL - i,
					      .flags = own ? DISK_FLAGS : DISK_READONLY | DISK_COPY };
		if (own) {
			strcpy(d->name, SEED_NAME);
		} else {
			fill(d->name, sizeof(d->name), (char)('a' + i));
			fill(d->file, sizeof(d->file), 'f');
		}
	}
	assert_int_equal(goes(&o, &got), 0);
	assert_memory_equal(&got, &o, sizeof(o));
}

static void test_wrong_fields(void **state unused)
{
	static struct offer o, got;
	for (unsigned i = 0; i < 15; i++) {
		config(&o, 1, 3);
		struct vm_disk_config *d = &o.cfg.disk[1];
		switch (i) {
		case 0: d->name[0] = 0; break;
		case 1: strcpy(d->name, "a;b"); break;
		case 2: strcpy(d->name, "disk0"); break; /* is there already */
		case 3: d->size = 0; break;
		case 4: d->size += 1; break;
		case 5: d->size = LAYER_SIZE_MAX + SECTOR; break;
		case 6: d->layer = 0; break;
		case 7: d->layer -= SECTOR; break;
		case 8: d->layer = ~0UL; break;
		case 9: d->flags = DISK_FLAGS + 1; break;
		case 10: d->file[0] = 0; break; /* a base of no name */
		case 11: d->base_size = 0; break;
		case 12: d->base_size = d->size + SECTOR; break;
		case 13: d->base_digest = 0; break; /* then any file of that name would do */
		case 14: strcpy(d->file, "a\033[2J"); break;
		}
		if (goes(&o, &got) != -EPROTO)
			fail_msg("case %u", i);
	}
}

/* An OFFER whose end is what it is: of so many bytes, from the name on that says that disks follow. */
static int ends_with(const uint8_t *end, size_t n, struct offer *got)
{
	struct why w = { "" };
	static const uint8_t mac[6] = { 2 };
	wire_begin(&tx, WIRE_OFFER);
	wire_put_bytes(&tx, id.uuid, 16);
	wire_put_u64(&tx, id.source.host);
	wire_put_u64(&tx, id.source.boot);
	wire_put_u64(&tx, id.number);
	wire_put_u64(&tx, MIB(2));
	wire_put_u32(&tx, 1);
	wire_put_u32(&tx, PAGE_SIZE);
	wire_put_u32(&tx, 1);
	wire_put_bytes(&tx, mac, 6);
	wire_put_str(&tx, "demo", VM_NAME_MAX);
	wire_put_str(&tx, "host", 16);
	memset(wire_put_space(&tx, 24), 0, 24);
	wire_put_str(&tx, "", 16);
	wire_put_u32(&tx, 1500);
	wire_put_bytes(&tx, mac, 6);
	wire_put_bytes(&tx, end, n);
	assert_int_equal(wire_end(&tx, soon()), 0);
	assert_int_equal(wire_recv(&rx, soon(), NS_PER_SEC, &w), 0);
	memset(got, 0xee, sizeof(*got));
	return offer_parse(&rx, got, &w);
}

#define DISK_LEN (16 + 8 + 8 + 4 + 96 + 8 + 8) /* doc/wire.md */

/* A disk of zeros, as doc/wire.md has it. */
static void put_disk(uint8_t *p, char name)
{
	memset(p, 0, DISK_LEN);
	p[0] = (uint8_t)name;
	put_le64(p + 16, MIB(1));
	put_le64(p + 24, MIB(1));
}

static void test_wrong_ends(void **state unused)
{
	static uint8_t end[16 + (VM_DISKS_MAX + 1) * DISK_LEN];
	static struct offer got;
	for (unsigned i = 0; i <= VM_DISKS_MAX; i++)
		put_disk(end + 16 + i * DISK_LEN, (char)('a' + i));
	for (unsigned n = 0; n <= sizeof(end); n++) {
		unsigned disks = n < 16 ? 0 : (n - 16) / DISK_LEN;
		bool whole = n == 0 || (n > 16 && (n - 16) % DISK_LEN == 0 && disks <= VM_DISKS_MAX);
		int err = ends_with(end, n, &got);
		if (err != (whole ? 0 : -EPROTO))
			fail_msg("%u bytes: %d", n, err);
		if (whole)
			assert_true(got.cfg.ndisks == disks && got.cfg.nnics == 1);
	}
	assert_true(!strcmp(got.cfg.disk[0].name, "a") && got.cfg.disk[3].size == MIB(1));
}

/* Any bit of it changed is refused, or a disk that can be one: nothing else is found in it. */
static void test_flipped(void **state unused)
{
	static uint8_t end[16 + 2 * DISK_LEN];
	static struct offer got;
	put_disk(end + 16, 'a');
	put_disk(end + 16 + DISK_LEN, 'b');
	strcpy((char *)end + 16 + DISK_LEN + 36, "image");
	put_le64(end + 16 + DISK_LEN + 132, MIB(1));
	put_le64(end + 16 + DISK_LEN + 140, 77);
	assert_int_equal(ends_with(end, sizeof(end), &got), 0);
	unsigned taken = 0;
	for (unsigned bit = 0; bit < 8 * sizeof(end); bit++) {
		end[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int err = ends_with(end, sizeof(end), &got);
		assert_true(!err || err == -EPROTO);
		for (unsigned i = 0; !err && i < got.cfg.ndisks; i++)
			assert_true(disk_config_is_sane(&got.cfg.disk[i]));
		assert_true(err || got.cfg.ndisks == 2);
		taken += !err;
		end[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(taken > 50); /* other sizes, names, digests */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_pipe, close_pipe)
	const struct CMUnitTest tests[] = { T(test_there_and_back), T(test_largest), T(test_wrong_fields),
					    T(test_wrong_ends), T(test_flipped) };
	return cmocka_run_group_tests_name("wire disks", tests, NULL, NULL);
}
