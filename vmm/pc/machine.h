/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's PC: its devices in one table, in the order in which they are reset, saved and loaded. */
#pragma once
#include "vmm/vm.h"

/* Build bus and devices of vm (vm->mem, cfg, apics are ready). 0 or -errno with everything undone. */
int machine_build(struct vm *vm) must_check;
void machine_free(struct vm *vm); /* half-made is fine */
void machine_reset(struct vm *vm);
void machine_quiesce(struct vm *vm);
void machine_resume(struct vm *vm);
/* Press the power button. False, and nothing is done: the guest has masked its interrupt, as all are at reset. */
bool machine_press_power(struct vm *vm);
