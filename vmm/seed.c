/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A FAT12 file system in memory (seed.h), after Microsoft's "FAT: General Overview of On-Disk Format", 1.03:
 *
 *   sector 0: boot sector | FAT, twice | root directory, a sector | clusters of 4 KiB: the files, one after another
 *
 * A file's name needs entries for a long name before its own: the short one has no '-' in the right place.
 */
#include "vmm/seed.h"
#include <stdio.h>
#include <string.h>

enum {
	SECTOR = 512,
	CLUSTER = 4096,
	FIRST = 2,       /* cluster */
	CLUSTERS = 2048, /* at most: 8 MiB; from 4,085 on it would be FAT16 */
	FATS = 2,
	ENTRY = 32,
	LONG_PART = 13, /* characters in one entry of a long name */
};
enum { ATTR_READONLY = 1, ATTR_VOLUME = 8, ATTR_LONG = 15, LONG_LAST = 0x40 };
#define LABEL "CIDATA     "
#define DATE  0x5a21 /* 1 January 2025, of all files: the same bytes from the same files */

struct fat {
	struct boot_file *f;
	uint32_t fat_sectors, clusters;
	uint8_t sector[SECTOR]; /* being made */
};

static uint32_t fat_at(const struct fat *v, unsigned copy) { return (1 + copy * v->fat_sectors) * SECTOR; }
static uint32_t root_at(const struct fat *v) { return fat_at(v, FATS); }
static uint64_t data_at(const struct fat *v) { return root_at(v) + SECTOR; }

static uint64_t size_of(const struct seed_file *f) { return f->file ? f->file->size : strlen(f->text); }
static uint32_t clusters_of(const struct seed_file *f) { return (uint32_t)((size_of(f) + CLUSTER - 1) / CLUSTER); }

static void put_boot_sector(struct fat *v)
{
	uint8_t *s = v->sector;
	uint32_t sectors = (uint32_t)(v->f->size / SECTOR);

	memset(s, 0, SECTOR);
	memcpy(s, "\xeb\x3c\x90tern    ", 11);
	put_le16(s + 11, SECTOR);
	s[13] = CLUSTER / SECTOR;
	put_le16(s + 14, 1); /* reserved sectors */
	s[16] = FATS;
	put_le16(s + 17, SECTOR / ENTRY); /* of the root directory */
	put_le16(s + 19, (uint16_t)sectors);
	s[21] = 0xf8; /* medium: fixed */
	put_le16(s + 22, (uint16_t)v->fat_sectors);
	put_le16(s + 24, 32); /* geometry, which nobody uses */
	put_le16(s + 26, 2);
	s[36] = 0x80;
	s[38] = 0x29; /* what follows is there */
	put_le32(s + 39, 0x7465726e);
	memcpy(s + 43, LABEL "FAT12   ", 19);
	put_le16(s + 510, 0xaa55);
	boot_file_write(v->f, 0, s, SECTOR);
}

/* Entry n of both tables. */
static void put_fat(struct fat *v, uint32_t n, uint32_t next)
{
	for (unsigned copy = 0; copy < FATS; copy++) {
		uint64_t at = fat_at(v, copy) + n * 3 / 2;
		size_t len;
		uint8_t two[2];
		for (unsigned i = 0; i < 2; i++)
			two[i] = *boot_file_at(v->f, at + i, &len);
		uint32_t old = get_le16(two);
		put_le16(two, (uint16_t)(n & 1 ? (old & 0xf) | next << 4 : (old & 0xf000) | next));
		boot_file_write(v->f, at, two, 2);
	}
}

/* FAT's checksum of a short name, which its long one has to have. */
static uint8_t short_sum(const uint8_t name[11])
{
	uint8_t sum = 0;
	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
	return sum;
}

static void put_entry(uint8_t *e, const char *name11, uint8_t attr, uint32_t first, uint32_t size)
{
	memcpy(e, name11, 11);
	e[11] = attr;
	put_le16(e + 16, DATE);
	put_le16(e + 18, DATE);
	put_le16(e + 24, DATE);
	put_le16(e + 26, (uint16_t)first);
	put_le32(e + 28, size);
}

/* The entries of a long name from e on, its last part first, and the one behind them. */
static uint8_t *put_long(uint8_t *e, const char *name, const uint8_t *short_name)
{
	static const uint8_t at[LONG_PART] = { 1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30 };
	size_t len = strlen(name), parts = (len + LONG_PART - 1) / LONG_PART;

	for (size_t part = parts; part > 0; part--, e += ENTRY) {
		e[0] = (uint8_t)(part | (part == parts ? LONG_LAST : 0));
		e[11] = ATTR_LONG;
		e[13] = short_sum(short_name);
		for (size_t i = 0, c = (part - 1) * LONG_PART; i < LONG_PART; i++, c++)
			put_le16(e + at[i], c < len ? (uint8_t)name[c] : c == len ? 0 : 0xffff);
	}
	return e;
}

static void put_file(struct fat *v, const struct seed_file *f, uint32_t first)
{
	uint64_t at = data_at(v) + (uint64_t)(first - FIRST) * CLUSTER, size = size_of(f);
	uint32_t n = clusters_of(f);
	for (uint32_t i = 0; i < n; i++)
		put_fat(v, first + i, i + 1 < n ? first + i + 1 : 0xfff);
	size_t part;
	for (uint64_t off = 0; off < size; off += part) {
		const uint8_t *p = (const uint8_t *)f->text + off;
		part = size;
		if (f->file)
			p = boot_file_at(f->file, off, &part);
		boot_file_write(v->f, at + off, p, part);
	}
}

int seed_fat(const struct seed_file *f, unsigned n, struct boot_file **out, struct why *w)
{
	struct fat v = { .clusters = 64 }; /* room, and no file system so small that something takes offence */
	uint32_t next = FIRST;
	for (unsigned i = 0; i < n; i++) {
		if (size_of(&f[i]) > CLUSTERS * (uint64_t)CLUSTER || v.clusters + clusters_of(&f[i]) > CLUSTERS)
			return why_set(w, -EFBIG, "%s: more than 8 MiB for cloud-init", f[i].name);
		v.clusters += clusters_of(&f[i]);
	}
	v.fat_sectors = ((v.clusters + FIRST) * 3 / 2 + SECTOR) / SECTOR;
	int err = boot_file_new(data_at(&v) + (uint64_t)v.clusters * CLUSTER, &v.f, w);
	if (err)
		return err;
	put_boot_sector(&v);
	put_fat(&v, 0, 0xff8);
	put_fat(&v, 1, 0xfff);
	uint8_t root[SECTOR] = { 0 }, *e = root;
	put_entry(e, LABEL, ATTR_VOLUME, 0, 0);
	e += ENTRY;
	for (unsigned i = 0; i < n; i++) {
		char alias[] = "FILE0      ";
		alias[4] += (char)i;
		bool any = size_of(&f[i]);
		e = put_long(e, f[i].name, (const uint8_t *)alias);
		put_entry(e, alias, ATTR_READONLY, any ? next : 0, (uint32_t)size_of(&f[i]));
		e += ENTRY;
		put_file(&v, &f[i], next);
		next += clusters_of(&f[i]);
	}
	boot_file_write(v.f, root_at(&v), root, SECTOR);
	*out = v.f;
	return 0;
}

int seed_make(const struct vm_config *cfg, struct boot_file **out, struct why *w)
{
	struct seed_file f[SEED_FILES] = { { .name = "user-data", .text = "" },
					   { .name = "meta-data" },
					   { .name = "network-config" } };
	unsigned n = cfg->seed[SEED_NETWORK_CONFIG][0] ? SEED_FILES : SEED_NETWORK_CONFIG;
	char meta[160], uuid[40];
	int err = 0;

	conf_type_uuid.text(NULL, cfg->uuid, uuid, sizeof(uuid));
	snprintf(meta, sizeof(meta), "instance-id: %s\nlocal-hostname: %s\n", uuid, cfg->name);
	f[SEED_META_DATA].text = meta;
	for (unsigned i = 0; i < n && !err; i++) {
		const char *name = cfg->seed[i];
		f[i].file = name[0] ? boot_file_named(name) : NULL;
		if (name[0] && !f[i].file)
			err = why_set(w, -ENOENT, "there is no file %s (%s) on the boot volume", name, f[i].name);
	}
	if (!err)
		err = seed_fat(f, n, out, w);
	for (unsigned i = 0; i < n; i++)
		boot_file_put(f[i].file);
	return err;
}
