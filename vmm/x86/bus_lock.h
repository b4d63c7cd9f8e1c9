/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bus locks: a locked access to two cache lines, or to memory that is not cached, stops all CPUs of the machine for a
 * microsecond or so (SDM 3A 9.1.2). Where the CPU tells (Intel's bus-lock detection, AMD's bus-lock threshold) a VM
 * does that ten thousand times a second and no more, however many vCPUs it has.
 */
#pragma once
struct vcpu;

/* hv_vcpu.bus_locked was set: v waits if its VM has had too many. Its own task. */
void bus_lock_rest(struct vcpu *v);
