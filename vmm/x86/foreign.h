/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions of the vendor on whose CPU the guest was started, where this host's CPU has them not. */
#pragma once
#include "vmm/x86/vcpu.h"

/*
 * After #UD: an instruction that the vendor whose CPU the guest was started on has, and this host's has not (or not in
 * this mode)? True: it is done, or has raised the exception that it would there. False: #UD is right.
 */
bool foreign_emulate(struct vcpu *v);
