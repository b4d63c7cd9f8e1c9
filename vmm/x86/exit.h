/* SPDX-License-Identifier: BSD-2-Clause */
/* What an exit does to the guest: one switch for both vendors (exit.c), and how an emulated instruction ends. */
#pragma once
#include "vmm/x86/vcpu.h"

/* Handle one exit, interrupts on. */
void exit_handle(struct vcpu *v, struct vmexit *x);
/*
 * The instruction is done, go on at next_rip: ends the interrupt shadow and RF, and raises the trap of single-stepping.
 */
void exit_done(struct vcpu *v, uint64_t next_rip);
void exit_repeat(struct vcpu *v);                /* one turn of a REP is done, the same instruction goes on */
void exit_fault(struct vcpu *v, uint64_t event); /* raise an exception of the fault class instead: HV_EVENT format */
