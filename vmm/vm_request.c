/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vCPUs and devices ask of their VM: to be switched off, to be reset, to fail. They leave a request and know
 * nothing of who carries it out (vm->requested, vm_life.c).
 */
#include "vmm/vm.h"
#include <stdarg.h>

/* False: one is under way, of whichever vCPU. */
static bool leave(struct vm *vm, enum vm_power_request what)
{
	uint8_t none = VM_POWER_NONE;
	return __atomic_compare_exchange_n(&vm->power_request, &none, what, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void request(struct vm *vm, enum vm_power_request what)
{
	if (leave(vm, what))
		vm->requested(vm);
}

void vm_request_power_off(void *vm) { request(vm, VM_POWER_OFF); }
void vm_request_reset(void *vm) { request(vm, VM_POWER_RESET); }

void vm_fail(struct vm *vm, const char *fmt, ...)
{
	va_list ap;
	if (!leave(vm, VM_POWER_FAILED)) /* two vCPUs may fail at once: the first one's word stands */
		return;
	va_start(ap, fmt);
	vm_text_vset(&vm->fail, fmt, ap);
	va_end(ap);
	vm->requested(vm);
}
