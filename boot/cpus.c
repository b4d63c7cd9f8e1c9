/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which CPUs there are: from the MP services protocol (PI 1.8 vol. 2, 13.4), which all firmware has that starts CPUs at
 * all, and which Bochs' OVMF has although it gives no ACPI tables. Without it: the boot CPU alone.
 */
#include "boot/boot.h"
#include <cpuid.h>

#define MP_SERVICES_GUID                                                                       \
	{                                                                                      \
		0x3fdda605, 0xa76e, 0x4f46, { 0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08 } \
	}

#define PROCESSOR_AS_BSP_BIT  BIT(0)
#define PROCESSOR_ENABLED_BIT BIT(1)
#define PROCESSOR_HEALTHY_BIT BIT(2)

struct processor_information { /* EFI_PROCESSOR_INFORMATION */
	UINT64 processor_id;   /* the APIC id */
	UINT32 status_flag;
	UINT32 location[3];
	UINT32 extended_location[6];
	UINT64 beyond[8]; /* room for what a later version may add */
};
struct mp_services { /* EFI_MP_SERVICES_PROTOCOL, as far as it is used here */
	EFI_STATUS(EFIAPI *get_number_of_processors)(struct mp_services *self, UINTN *all, UINTN *enabled);
	EFI_STATUS(EFIAPI *get_processor_info)
	(struct mp_services *self, UINTN number, struct processor_information *info);
};

static uint32_t own_apic_id(void)
{
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid_count(0xb, 0, &eax, &ebx, &ecx, &edx) && ebx)
		return edx; /* extended topology: the full x2APIC id (SDM 2A, CPUID leaf 0BH) */
	__cpuid(1, eax, ebx, ecx, edx);
	return ebx >> 24;
}

static bool is_listed(const uint32_t *ids, uint32_t n, uint32_t id)
{
	for (uint32_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

void cpus_find(void)
{
	static EFI_GUID guid = MP_SERVICES_GUID;
	struct processor_information info;
	struct mp_services *mp;
	UINTN all = 1, enabled, off = 0;
	uint32_t *ids, n = 0;

	if (EFI_ERROR(boot.bs->LocateProtocol(&guid, NULL, (void **)&mp)) ||
	    EFI_ERROR(mp->get_number_of_processors(mp, &all, &enabled)) || all < 1 || all > 65536) {
		say("the firmware does not list the CPUs (no MP services protocol); tern uses the boot CPU alone\n");
		mp = NULL;
		all = 1;
	}
	ids = boot_alloc((all + 1) * sizeof(*ids));
	ids[n++] = own_apic_id();
	for (UINTN i = 0; mp && i < all; i++) {
		if (EFI_ERROR(mp->get_processor_info(mp, i, &info)))
			continue;
		if (info.status_flag & PROCESSOR_AS_BSP_BIT)
			continue;
		if (!(info.status_flag & PROCESSOR_ENABLED_BIT) || !(info.status_flag & PROCESSOR_HEALTHY_BIT))
			off++;
		else if (info.processor_id <= UINT32_MAX && !is_listed(ids, n, (uint32_t)info.processor_id))
			ids[n++] = (uint32_t)info.processor_id;
	}
	if (off)
		say("%u CPUs are switched off or reported faulty by the firmware; left alone\n", (unsigned)off);
	boot.h->cpus = (hpa_t)(uintptr_t)ids;
	boot.h->ncpus = n;
}
