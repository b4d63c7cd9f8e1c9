/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is to happen to a vCPU that its own code does not do: interrupts, NMIs, INIT, SIPI, the end of HLT, its LAPIC
 * timer.
 * All of it waits in struct vcpu_events and in the local APIC; hardware has an event only from events_inject() on.
 */
#pragma once
#include "kernel/time.h"

/*
 * [v] the vCPU's task, or it is parked  [a] atomic, any context
 */
struct vcpu_events {
	uint8_t nmi;             /* [a] one to inject */
	uint8_t timer_check;     /* [a] the LAPIC timer was touched or is due */
	bool halted;             /* [v] in HLT */
	bool asked;              /* [v] at the last entry there was something to ask a window for */
	struct timer timer;      /* the LAPIC timer's next deadline */
	uint64_t timer_armed_ns; /* [v] what `timer` is set to, 0: nothing */
};

struct vcpu;
void events_init(struct vcpu *v);       /* zeroed: power-on */
void events_save(struct vcpu *v);       /* parked: into v->state; of others' NMIs only once all vCPUs are parked */
void events_load(struct vcpu *v);       /* parked: from v->state, which is believed from vcpu_load on */
void events_stop_timer(struct vcpu *v); /* off the hardware; the next entry arms it again, if timer_check is set */

void events_nmi(struct vcpu *v); /* any context: an NMI for it, and a kick */
/* Before an entry, interrupts off: give the guest what its local APIC has, or ask to be told when it can take it. */
void events_inject(struct vcpu *v);
/* In HLT, or waiting for SIPI: is there something to look at? HLT has ended if it ends that. */
bool events_end_wait(struct vcpu *v);
/*
 * INIT or SIPI was sent to it (SDM 3A 9.4, 11.6). INIT resets the machine where it is the boot CPU, by a request that
 * parks the vCPU; any other one waits for SIPI from then on. Its task, interrupts on. vcpu_has_init() tells.
 */
void events_take_init(struct vcpu *v);
