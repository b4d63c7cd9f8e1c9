/* SPDX-License-Identifier: BSD-2-Clause */
/* The loader's entry. Reads as the boot order; doc/boot.md tells the same in prose. */
#include "boot/boot.h"
#include "boot/serial_port.h"
#include <string.h>

#define STACK_SIZE KIB(32)

struct boot boot;

hpa_t boot_try_alloc(uint64_t size)
{
	EFI_PHYSICAL_ADDRESS hpa = 0;
	UINTN pages = (size >> PAGE_SHIFT) + ((size & PAGE_MASK) != 0);

	if (!pages || EFI_ERROR(boot.bs->AllocatePages(AllocateAnyPages, EfiLoaderData, pages, &hpa)))
		return 0;
	return hpa;
}

void *boot_alloc(uint64_t size)
{
	hpa_t hpa = boot_try_alloc(size);

	if (!hpa)
		boot_fatal("no %u KiB of memory left.", (unsigned)(size >> 10) + 1);
	return memset((void *)(uintptr_t)hpa, 0, ALIGN_UP(size, PAGE_SIZE));
}

void boot_free(hpa_t hpa, uint64_t size) { boot.bs->FreePages(hpa, (size >> PAGE_SHIFT) + ((size & PAGE_MASK) != 0)); }

static bool guid_is(const EFI_GUID *a, const EFI_GUID *b) { return !memcmp(a, b, sizeof(*a)); }

/* The ACPI 2.0 table if there is one (UEFI 4.6); the 1.0 one has 32-bit pointers only, but is better than none. */
static hpa_t find_rsdp(void)
{
	static const EFI_GUID acpi20 = ACPI_20_TABLE_GUID, acpi10 = ACPI_TABLE_GUID;
	hpa_t old = 0;

	for (UINTN i = 0; i < boot.st->NumberOfTableEntries; i++) {
		const EFI_CONFIGURATION_TABLE *t = &boot.st->ConfigurationTable[i];

		if (guid_is(&t->VendorGuid, &acpi20))
			return (hpa_t)(uintptr_t)t->VendorTable;
		if (guid_is(&t->VendorGuid, &acpi10))
			old = (hpa_t)(uintptr_t)t->VendorTable;
	}
	return old;
}

/* The firmware's page tables map its tables where they lie. */
static const uint8_t *acpi_at(hpa_t hpa, uint64_t size)
{
	return hpa && hpa + size > hpa ? (const uint8_t *)(uintptr_t)hpa : NULL;
}

static void find_console(void)
{
	const char *v = boot.conf ? conf_get(boot.conf, "host", "", CONF_CONSOLE) : NULL;

	if (serial_port_find(v, acpi_at, boot.h->rsdp, &boot.h->console))
		say("tern.conf:%d: console = %s: write com1 to com4, or an I/O port like 0x2f8; as without it\n",
		    conf_line(boot.conf, "host", "", CONF_CONSOLE), v);
}

/*
 * A page that a start-up IPI can name: below 1 MiB. The first try may give page 0, where the real-mode vectors are:
 * then that one stays taken, and the next try gives another. 0 if there is none: exit_boot.c looks once more at the
 * end.
 */
static hpa_t find_trampoline(void)
{
	for (int i = 0; i < 2; i++) {
		EFI_PHYSICAL_ADDRESS hpa = MIB(1) - 1;

		if (EFI_ERROR(boot.bs->AllocatePages(AllocateMaxAddress, EfiLoaderData, 1, &hpa)))
			return 0;
		if (hpa)
			return hpa;
	}
	return 0;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st);

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st)
{
	void *stack;

	boot.image = image;
	boot.st = st;
	boot.bs = st->BootServices;
	boot.bs->SetWatchdogTimer(0, 0, 0, NULL); /* it would reset the machine after 5 minutes (UEFI 7.5) */
	boot.h = boot_alloc(sizeof(*boot.h));
	boot.h->magic = HANDOFF_MAGIC;
	boot.h->version = HANDOFF_VERSION;
	boot.h->size = sizeof(*boot.h);
	say_init();
	say_console("\ntern " TERN_VERSION "\n");

	files_load();
	cpus_find();
	efi_clock_measure();
	boot.h->rsdp = find_rsdp();
	find_console();
	boot.h->console_locked = say_nothing();
	smbios_find();
	boot.h->trampoline = find_trampoline();
	load_kernel();
	stack = boot_alloc(STACK_SIZE);
	first_paging_build();
	say_console("starting on %u CPU%s. From here on tern is on the serial port at 0x%x, %u baud 8N1\n",
		    boot.h->ncpus, boot.h->ncpus == 1 ? "" : "s", boot.h->console.port,
		    115200U / boot.h->console.divisor);
	exit_firmware();
	first_paging_enter((uint64_t)(uintptr_t)stack + STACK_SIZE);
}
