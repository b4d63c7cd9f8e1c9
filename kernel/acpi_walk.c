/* SPDX-License-Identifier: BSD-2-Clause */
#include "kernel/acpi_walk.h"
#include "arch/x86/hw/acpi.h"
#include "kernel/base/checksum.h"
#include "kernel/base/err.h"
#include <string.h>

#define TABLE_MAX MIB(4)

const uint8_t *acpi_table(acpi_map *map, hpa_t hpa, uint32_t *len)
{
	const uint8_t *t = map(hpa, ACPI_HEADER_LEN);
	if (!t)
		return NULL;
	*len = get_le32(t + ACPI_LENGTH);
	if (*len < ACPI_HEADER_LEN || *len > TABLE_MAX)
		return NULL;
	t = map(hpa, *len);
	return t && !sum8(t, *len) ? t : NULL;
}

int acpi_walk(acpi_map *map, hpa_t rsdp, void (*each)(void *arg, hpa_t hpa, const uint8_t *t, uint32_t len), void *arg)
{
	const uint8_t *r = rsdp ? map(rsdp, RSDP_LEN) : NULL;
	if (!r || memcmp(r, "RSD PTR ", 8) != 0 || sum8(r, RSDP_LEN_1))
		return -ENODEV;
	/* From ACPI 2.0 on the XSDT, whose addresses have 64 bits, replaces the RSDT. */
	bool wide = r[RSDP_REVISION] >= 2 && get_le64(r + RSDP_XSDT) != 0;
	unsigned width = wide ? 8 : 4;
	uint32_t len, tlen = 0;
	const uint8_t *root = acpi_table(map, wide ? get_le64(r + RSDP_XSDT) : get_le32(r + RSDP_RSDT), &len);
	if (!root)
		return -ENODEV;
	for (uint32_t off = ACPI_HEADER_LEN; off + width <= len; off += width) {
		hpa_t hpa = wide ? get_le64(root + off) : get_le32(root + off);
		const uint8_t *t = acpi_table(map, hpa, &tlen);
		each(arg, hpa, t, tlen);
	}
	return 0;
}
