/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `spoil`: a byte of a VM's memory becomes another one, behind the back of all that keeps account of what was written:
 * of a VM that is being received as well. What a fault of the hardware, or of ours, would do; `migrate --verify` is to
 * find it. `absent`: bytes of frames that are to come in post-copy, while none does (`failpoint P22 stall`): where
 * zeros come, and nothing is known to have been written, they stay.
 */
#include "kernel/console.h"
#include "vmm/vm.h"
#include <stdlib.h>
#include <string.h>

#define ABSENT 16 /* fewer than may differ at one time */

static unsigned spoil_absent(struct gmem *g)
{
	struct gmem_range r[2];
	uint64_t step = gmem_track_left(g) / ABSENT + 1, seen = 0;
	unsigned n = 0;
	for (unsigned i = 0, all = g->size ? gmem_ranges(g, r) : 0; i < all; i++)
		for (gfn_t f = r[i].first, end = f + r[i].count; (f = gmem_track_next(g, f, end)) < end; f++)
			if (seen++ % step == 0) {
				*(uint8_t *)gmem_ptr(g, f << PAGE_SHIFT, 1) ^= 1;
				n++;
			}
	return n;
}

static int cmd_spoil(struct con *c, int argc unused, char **argv)
{
	bool absent = !strcmp(argv[2], "absent");
	gpa_t gpa = strtoul(argv[2], NULL, 16);
	struct vm *vm = vm_get(argv[1]);
	if (!vm)
		return con_error(c, -ENOENT, "spoil: no VM %s on this host", argv[1]);
	mutex_lock(&vm->lock);
	uint8_t *p = vm_state_now(vm) == VM_STOPPED ? NULL : gmem_ptr(&vm->mem, gpa, 1);
	unsigned n = absent && !gmem_all_here(&vm->mem) ? spoil_absent(&vm->mem) : 0;
	if (p && !absent)
		*p ^= 1;
	mutex_unlock(&vm->lock);
	vm_put(vm);
	if (absent) {
		out_u64(c, "frames", n);
		return 0;
	}
	if (!p)
		return con_error(c, -EFAULT, "spoil %s: %lx is no memory of it", argv[1], gpa);
	out_u64(c, "address", gpa);
	return 0;
}
CONSOLE_CMD(spoil, "NAME ADDRESS|absent", "change a byte of a VM's memory (test builds)", "spoil demo 5000", cmd_spoil,
	    NULL);
