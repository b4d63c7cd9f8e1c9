/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UUID of the machine, from SMBIOS's System Information structure (DSP0134 3.6: entry points 5.2, header 6.1.2,
 * type 1 in 7.2). The tables are the firmware's: each length is checked before it is believed. A machine without SMBIOS
 * has no UUID.
 */
#include "boot/boot.h"
#include "arch/x86/hw/dmi.h"
#include "kernel/base/checksum.h"
#include "kernel/base/bits.h"
#include <string.h>

struct table {
	const uint8_t *p;
	uint32_t len;
};

/* The structure table that an entry point names; len 0: not one of SMBIOS. */
static struct table entry_point(const uint8_t *e)
{
	if (!memcmp(e, "_SM3_", 5) && e[6] >= 24 && !sum8(e, e[6]))
		return (struct table){ (const uint8_t *)(uintptr_t)get_le64(e + 16), get_le32(e + 12) };
	if (!memcmp(e, "_SM_", 4) && e[5] >= 30 && !sum8(e, e[5]))
		return (struct table){ (const uint8_t *)(uintptr_t)get_le32(e + 24), get_le16(e + 22) };
	return (struct table){ NULL, 0 };
}

static bool uuid_of(struct table t, uint8_t uuid[16])
{
	while (t.len >= 4 && t.p[0] != SMBIOS_END) {
		uint32_t n = t.p[1];
		if (n < 4 || n > t.len)
			return false;
		if (t.p[0] == SMBIOS_SYSTEM && n >= SYSTEM_UUID + 16) {
			memcpy(uuid, t.p + SYSTEM_UUID, 16);
			return true;
		}
		while (n + 1 < t.len && (t.p[n] || t.p[n + 1])) /* strings, ended by an empty one */
			n++;
		if (n + 2 > t.len)
			return false;
		t.p += n + 2;
		t.len -= n + 2;
	}
	return false;
}

/* All zeros and all ones mean "none" (7.2.1). */
static bool uuid_is_set(const uint8_t u[16])
{
	uint8_t any = 0, all = 0xff;
	for (unsigned i = 0; i < 16; i++) {
		any |= u[i];
		all &= u[i];
	}
	return any && all != 0xff;
}

void smbios_find(void)
{
	static const EFI_GUID smbios3 = {
		0xf2fd1544, 0x9794, 0x4a2c, { 0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94 }
	};
	static const EFI_GUID smbios = {
		0xeb9d2d31, 0x2d88, 0x11d3, { 0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d }
	};
	for (UINTN i = 0; i < boot.st->NumberOfTableEntries; i++) {
		const EFI_CONFIGURATION_TABLE *c = &boot.st->ConfigurationTable[i];
		uint8_t uuid[16];
		if (memcmp(&c->VendorGuid, &smbios3, sizeof(smbios3)) &&
		    memcmp(&c->VendorGuid, &smbios, sizeof(smbios)))
			continue;
		struct table t = entry_point(c->VendorTable);
		if (t.p && t.len && t.len < MIB(1) && uuid_of(t, uuid) && uuid_is_set(uuid)) {
			memcpy(boot.h->system_uuid, uuid, sizeof(uuid));
			return;
		}
	}
}
