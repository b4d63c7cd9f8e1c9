/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's SMBIOS tables, written once when it starts (at a reset again): an entry point, and behind it one table of
 * structures. edk2's CloudHv looks for the entry point at this very address; Linux and others search from there.
 */
#include "vmm/pc/smbios_tables.h"
#include "arch/x86/hw/dmi.h"
#include "kernel/base/checksum.h"
#include "vmm/pc/pc.h"
#include <stdlib.h>
#include <string.h>

#define AREA      (PC_PVH_INFO - PC_SMBIOS)
#define TABLE_OFF ALIGN_UP(SMBIOS_EP_LEN, 16)
_Static_assert(PC_SMBIOS == SMBIOS_AREA, "where guests look without asking");

struct smbios_builder {
	uint8_t *buf; /* as it will be at PC_SMBIOS */
	size_t len;
	bool full;
};

static uint8_t *append(struct smbios_builder *b, size_t n)
{
	static uint8_t scratch[CPU_LEN]; /* written, never read, once there is no room */

	if (b->full || n > AREA - b->len) {
		b->full = true;
		return scratch;
	}
	b->len += n;
	return b->buf + b->len - n;
}

/* A structure's formatted area. Its handle is its type and, of several of one type, a number. */
static uint8_t *structure(struct smbios_builder *b, uint8_t type, uint8_t len, unsigned nr)
{
	uint8_t *s = append(b, len);
	s[0] = type;
	s[1] = len;
	put_le16(s + 2, (uint16_t)(type << 8 | nr));
	return s;
}

/* The strings behind it, up to a NULL; fields have their numbers, from 1 on. */
static void strings(struct smbios_builder *b, const char *const *str)
{
	if (!*str)
		append(b, 1);
	for (; *str && !b->full; str++) {
		size_t n = strlen(*str) + 1;
		uint8_t *p = append(b, n);
		if (!b->full)
			memcpy(p, *str, n);
	}
	append(b, 1);
}
#define STRINGS(b, ...) strings(b, (const char *const[]){ __VA_ARGS__, NULL })

static uint16_t handle(unsigned type) { return (uint16_t)(type << 8); }

static void identity(struct smbios_builder *b, const struct smbios_info *info)
{
	/* A UUID's first three fields are little-endian here (7.2.1). */
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	uint8_t *s = structure(b, SMBIOS_BIOS, BIOS_LEN, 0);
	s[BIOS_VENDOR] = 1;
	s[BIOS_VERSION] = 2;
	s[BIOS_DATE] = 3;
	put_le64(s + BIOS_FLAGS, BIOS_NO_FLAGS);
	put_le16(s + BIOS_FLAGS2, BIOS_IS_VM);
	put_le32(s + BIOS_RELEASES, BIOS_NO_NUMBER);
	STRINGS(b, "tern", "1", "01/01/2026"); /* Linux has workarounds for old ones */

	s = structure(b, SMBIOS_SYSTEM, SYSTEM_LEN, 0);
	s[SYSTEM_MAKER] = 1;
	s[SYSTEM_PRODUCT] = 2;
	s[SYSTEM_VERSION] = 3;
	s[SYSTEM_SERIAL] = info->serial[0] ? 4 : 0;
	for (unsigned i = 0; i < sizeof(order); i++)
		s[SYSTEM_UUID + i] = info->uuid[order[i]];
	s[SYSTEM_WAKE] = SYSTEM_WAKE_SWITCH;
	STRINGS(b, "tern", "tern PC", "1", info->serial[0] ? info->serial : NULL);

	s = structure(b, SMBIOS_CHASSIS, CHASSIS_LEN, 0);
	s[CHASSIS_MAKER] = 1;
	s[CHASSIS_TYPE] = CHASSIS_OTHER;
	memset(s + CHASSIS_STATES, CHASSIS_SAFE, CHASSIS_SECURITY - CHASSIS_STATES);
	s[CHASSIS_SECURITY] = CHASSIS_SECURE;
	STRINGS(b, "tern");
}

/* One socket with a core for each vCPU, as in the guest's CPUID. */
static void cpu(struct smbios_builder *b, unsigned nvcpus)
{
	uint8_t *s = structure(b, SMBIOS_CPU, CPU_LEN, 0);
	s[CPU_SOCKET] = 1;
	s[CPU_TYPE] = CPU_CENTRAL;
	s[CPU_FAMILY] = s[CPU_UPGRADE] = CPU_OTHER;
	s[CPU_STATUS] = CPU_ENABLED;
	put_le16(s + CPU_FLAGS, nvcpus > 1 ? CPU_64BIT | CPU_MULTI_CORE : CPU_64BIT);
	put_le16(s + CPU_FAMILY2, CPU_OTHER);
	for (unsigned i = 0; i < 3; i++) {
		put_le16(s + CPU_CACHES + 2 * i, SMBIOS_NO_HANDLE);
		s[CPU_CORES + i] = (uint8_t)MIN(nvcpus, 0xffU);
		put_le16(s + CPU_CORES2 + 2 * i, (uint16_t)nvcpus);
	}
	STRINGS(b, "CPU 0");
}

static void memory_range(struct smbios_builder *b, unsigned nr, uint64_t start, uint64_t size)
{
	if (!size)
		return;
	uint64_t last = start + size - 1;
	bool far = last >> 10 >= RANGE_EXTENDED;
	uint8_t *s = structure(b, SMBIOS_MEMORY_RANGE, RANGE_LEN, nr);
	put_le32(s + RANGE_START, far ? RANGE_EXTENDED : (uint32_t)(start >> 10));
	put_le32(s + RANGE_END, far ? RANGE_EXTENDED : (uint32_t)(last >> 10));
	put_le16(s + RANGE_ARRAY, handle(SMBIOS_MEMORY_ARRAY));
	s[RANGE_WIDTH] = 1;
	put_le64(s + RANGE_START2, far ? start : 0);
	put_le64(s + RANGE_END2, far ? last : 0);
	STRINGS(b, NULL);
}

/* One module with all of it. */
static void memory(struct smbios_builder *b, const struct gmem *g)
{
	bool large = g->size >> 10 >= ARRAY_EXTENDED, many = g->size >> 20 >= MEMDEV_EXTENDED;

	uint8_t *s = structure(b, SMBIOS_MEMORY_ARRAY, ARRAY_LEN, 0);
	s[ARRAY_LOCATION] = ARRAY_OTHER;
	s[ARRAY_USE] = ARRAY_SYSTEM;
	s[ARRAY_ECC] = ARRAY_NO_ECC;
	put_le32(s + ARRAY_CAPACITY, large ? ARRAY_EXTENDED : (uint32_t)(g->size >> 10));
	put_le16(s + ARRAY_ERROR, SMBIOS_NO_ERROR);
	put_le16(s + ARRAY_DEVICES, 1);
	put_le64(s + ARRAY_CAPACITY2, large ? g->size : 0);
	STRINGS(b, NULL);

	s = structure(b, SMBIOS_MEMORY_DEVICE, MEMDEV_LEN, 0);
	put_le16(s + MEMDEV_ARRAY, handle(SMBIOS_MEMORY_ARRAY));
	put_le16(s + MEMDEV_ERROR, SMBIOS_NO_ERROR);
	put_le16(s + MEMDEV_TOTAL_WIDTH, 64);
	put_le16(s + MEMDEV_WIDTH, 64);
	put_le16(s + MEMDEV_SIZE, many ? MEMDEV_EXTENDED : (uint16_t)(g->size >> 20));
	s[MEMDEV_FORM] = MEMDEV_DIMM;
	s[MEMDEV_LOCATOR] = 1;
	s[MEMDEV_TYPE] = MEMDEV_RAM;
	put_le16(s + MEMDEV_DETAIL, MEMDEV_OTHER);
	put_le32(s + MEMDEV_SIZE2, many ? (uint32_t)(g->size >> 20) : 0);
	STRINGS(b, "DIMM 0");

	memory_range(b, 0, 0, g->low);
	memory_range(b, 1, GMEM_HIGH, g->high);
}

static void entry_point(struct smbios_builder *b)
{
	uint8_t *e = b->buf;
	memcpy(e, "_SM3_", 5);
	e[SMBIOS_EP_LENGTH] = SMBIOS_EP_LEN;
	e[SMBIOS_MAJOR] = 3;
	e[SMBIOS_MINOR] = 0;
	e[SMBIOS_EP_REVISION] = 1;
	put_le32(e + SMBIOS_MAX_SIZE, (uint32_t)(b->len - TABLE_OFF));
	put_le64(e + SMBIOS_TABLE, PC_SMBIOS + TABLE_OFF);
	e[SMBIOS_CHECKSUM] = (uint8_t)-sum8(e, SMBIOS_EP_LEN);
}

int smbios_tables_build(struct gmem *g, const struct smbios_info *info)
{
	struct smbios_builder b = { .buf = calloc(1, AREA), .len = TABLE_OFF };

	if (!b.buf)
		return err_trace(-ENOMEM);
	identity(&b, info);
	cpu(&b, info->nvcpus);
	memory(&b, g);
	structure(&b, SMBIOS_BOOT, BOOT_LEN, 0)[BOOT_STATUS] = 0; /* no errors */
	STRINGS(&b, NULL);
	structure(&b, SMBIOS_END, 4, 0);
	STRINGS(&b, NULL);
	entry_point(&b);
	int err = b.full ? -ENOSPC : gmem_write(g, PC_SMBIOS, b.buf, b.len);
	free(b.buf);
	return err;
}
