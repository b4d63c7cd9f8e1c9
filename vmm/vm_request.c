/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What vCPUs and devices ask of their VM: to be switched off, to be reset, to fail. They leave a request and know
 * nothing of who carries it out (vm->requested, vm_life.c).
 */
#include "vmm/vm.h"
#include <stdarg.h>
#include <stdio.h>

static void request(struct vm *vm, enum vm_power_request what)
{
	uint8_t none = VM_POWER_NONE;
	if (__atomic_compare_exchange_n(&vm->power_request, &none, what, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		vm->requested(vm); /* else one is under way */
}

void vm_request_power_off(void *vm) { request(vm, VM_POWER_OFF); }
void vm_request_reset(void *vm) { request(vm, VM_POWER_RESET); }

void vm_fail(struct vm *vm, const char *fmt, ...)
{
	va_list ap;
	if (vm_has_request(vm))
		return;
	va_start(ap, fmt);
	vsnprintf(vm->fail, sizeof(vm->fail), fmt, ap);
	va_end(ap);
	request(vm, VM_POWER_FAILED);
}
