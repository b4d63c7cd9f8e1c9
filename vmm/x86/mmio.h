/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions that touch what is not RAM. */
#pragma once
#include "vmm/x86/vcpu.h"

/* Emulate the instruction that touched gpa outside RAM. 0, or -errno: the VM cannot go on (why says). */
int mmio_emulate(struct vcpu *v, gpa_t gpa, bool write, struct why *w);
