/* SPDX-License-Identifier: BSD-2-Clause */
/* Which loader takes a file is said by its first bytes. */
#include "vmm/pc/loader.h"
#include "vmm/pc/acpi_tables.h"
#include "vmm/pc/linux_loader.h"
#include "vmm/pc/pvh_loader.h"
#include "vmm/pc/smbios_tables.h"

int loader_load(struct vm *vm, struct why *w)
{
	struct guest_image img = { .kernel = vm->file[VM_KERNEL],
				   .initrd = vm->file[VM_INITRD],
				   .cmdline = vm->cfg.s.cmdline };
	bool pvh = pvh_is_elf(img.kernel);
	vm->machine.s.kind = pvh ? MACHINE_PVH : MACHINE_PLAIN;
	int err = acpi_tables_build(&vm->mem, vm->cfg.vcpus, &img.rsdp);
	if (err)
		return why_set(w, err, "the guest's ACPI tables do not fit");
	struct smbios_info smbios = { .uuid = vm->cfg.uuid, .nvcpus = vm->cfg.vcpus, .serial = "" };
	err = smbios_tables_build(&vm->mem, &smbios);
	if (err)
		return why_set(w, err, "the guest's SMBIOS tables do not fit");
	return pvh ? pvh_load(&vm->mem, &img, vm->boot, w) : linux_load(&vm->mem, &img, vm->boot, w);
}
