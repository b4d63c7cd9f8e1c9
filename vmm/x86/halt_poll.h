/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Halt polling, as KVM has it (Documentation/virt/kvm/halt-polling.rst): a vCPU in HLT keeps its CPU for a moment, for
 * going to sleep and coming back costs as much as many a wait. For how long, the last wait says: where that was short
 * the next one is tried with twice the time, up to HALT_POLL_MAX_NS; where it was longer than that, with none.
 *
 * Nobody waits for it: it ends as soon as a task waits for a CPU anywhere, and of a VM's vCPUs no more poll at once
 * than half of the host's CPUs, or one. Where tern is itself a guest it polls not at all: the CPU is its host's.
 */
#pragma once
#include "kernel/base/bits.h"

#define HALT_POLL_MIN_NS (10 * NS_PER_US)
#define HALT_POLL_MAX_NS (200 * NS_PER_US)

struct vcpu;
extern bool halt_poll_on;
void halt_poll_init(void); /* once, before a VM runs */
/* Its task, interrupts on: false: it may sleep now; true: there is something to look at. */
bool halt_poll(struct vcpu *v);
/* What the next time's limit is, after one of limit_ns and a wait of waited_ns in all. */
uint32_t halt_poll_next(uint32_t limit_ns, uint64_t waited_ns);
