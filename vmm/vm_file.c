/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VM boots from (vm.h), and whether this host has what it needs for that; what goes with the VM itself. */
#include "net/bridge.h"
#include "vmm/boot_file.h"
#include "vmm/disk.h"
#include "vmm/vm.h"
#include "vmm/vm_console.h"
#include <stdlib.h>

const char *vm_file_name(const struct vm *vm, enum vm_file_use use)
{
	return use == VM_KERNEL ? vm->cfg.s.kernel : vm->cfg.s.initrd;
}

/* The lock is held. What a VM has not booted from here, nor brought, is known by its name alone. */
static struct boot_file *take_file(struct vm *vm, enum vm_file_use use)
{
	if (!vm->file[use] && vm_file_name(vm, use)[0])
		vm->file[use] = boot_file_named(vm_file_name(vm, use));
	return vm->file[use];
}

struct boot_file *vm_get_file(struct vm *vm, enum vm_file_use use)
{
	mutex_lock(&vm->lock);
	struct boot_file *f = vm->file[use];
	if (f)
		boot_file_ref(f);
	mutex_unlock(&vm->lock);
	return f;
}

void vm_set_file(struct vm *vm, enum vm_file_use use, struct boot_file *f)
{
	mutex_lock(&vm->lock);
	struct boot_file *old = vm->file[use];
	vm->file[use] = f;
	mutex_unlock(&vm->lock);
	boot_file_put(old);
}

int vm_boot_files(struct vm *vm, struct why *w)
{
	for (unsigned i = 0; i < vm->cfg.nnics; i++)
		if (!bridge_find(vm->cfg.net[i], w))
			return -ENOENT;
	for (enum vm_file_use use = VM_KERNEL; use < VM_FILES; use++)
		if (!take_file(vm, use) && (use == VM_KERNEL || vm_file_name(vm, use)[0]))
			return why_set(w, -ENOENT,
				       "this host has no file %s: a [vm] section of its tern.conf must name it, and it "
				       "be on the boot volume, when the host boots",
				       vm_file_name(vm, use));
	return 0;
}

/* Nobody else knows it any more. */
void vm_free(struct vm *vm)
{
	vm_put(vm->beside); /* whose place it has not taken */
	vm_console_free(vm);
	disk_free_all(vm);
	for (unsigned i = 0; i < VM_FILES; i++)
		boot_file_put(vm->file[i]);
	free(vm);
}
