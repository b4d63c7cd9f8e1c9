/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `spoil`: a byte of a VM's memory becomes another one, behind the back of all that keeps account of what was written:
 * of a VM that is being received as well. What a fault of the hardware, or of ours, would do; `migrate --verify` is to
 * find it.
 */
#include "kernel/console.h"
#include "vmm/vm.h"
#include <stdlib.h>

static int cmd_spoil(struct con *c, int argc unused, char **argv)
{
	gpa_t gpa = strtoul(argv[2], NULL, 16);
	struct vm *vm = vm_get(argv[1]);
	if (!vm)
		return con_error(c, -ENOENT, "spoil: no VM %s on this host", argv[1]);
	mutex_lock(&vm->lock);
	uint8_t *p = vm_state_now(vm) == VM_STOPPED ? NULL : gmem_ptr(&vm->mem, gpa, 1);
	if (p)
		*p ^= 1;
	mutex_unlock(&vm->lock);
	vm_put(vm);
	if (!p)
		return con_error(c, -EFAULT, "spoil %s: %lx is no memory of it", argv[1], gpa);
	out_u64(c, "address", gpa);
	return 0;
}
CONSOLE_CMD(spoil, "NAME ADDRESS", "change a byte of a VM's memory (test builds)", "spoil demo 5000", cmd_spoil, NULL);
