/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's time: its TSC, nanoseconds and pvclock pages, on hosts of different TSC rates. */
#pragma once
#include "vmm/x86/vcpu.h"

uint64_t guest_tsc(const struct vm *vm);
uint64_t guest_tsc_at(const struct vm *vm, uint64_t host_tsc);
uint64_t guest_ns(const struct vm *vm);
void clock_begin(struct vm *vm, uint64_t host_tsc); /* from vm->clock.s on: guest time is that at this instant */
void clock_save(struct vm *vm, uint64_t host_tsc);  /* guest time at this instant into vm->clock.s */
void clock_advance(struct vm *vm, uint64_t ns);     /* the guest stood still so long */
void clock_update(struct vcpu *v);                  /* write the vCPU's pvclock page, if it has one */
/* The same for a vCPU that goes on from v->state; after a long stop the page says so. */
void clock_resume(struct vcpu *v, uint64_t host_tsc);
void clock_write_wall(struct vcpu *v, gpa_t gpa);
void clock_hot(const struct vcpu *v, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg); /* vm_for_each_hot's */
extern const struct sdesc clock_desc; /* object: struct vm_clock */
