/* SPDX-License-Identifier: BSD-2-Clause */
/* How the state of a vCPU migrates: tables of its fields. */
#pragma once
#include "vmm/state.h"

extern const struct sdesc cpu_state_desc, vcpu_msr_desc; /* objects: struct cpu_state; struct vcpu */
