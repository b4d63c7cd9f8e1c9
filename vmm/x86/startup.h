/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a CPU's registers look when it begins: after power-on, after INIT, and at a start-up IPI (SDM 3A 9.4 and table
 * 10-1; APM2 14.1). Pure functions of the state; the local APIC has the same events in vlapic.h.
 */
#pragma once
#include "arch/x86/hv.h"

void startup_power_on(struct cpu_state *s);
/* From what it was, since INIT leaves most MSRs and the vectors alone. signature: CPUID 1:EAX, which EDX has then. */
void startup_init(struct cpu_state *s, uint32_t signature);
/* A waiting one starts in real mode at vector << 12. */
void startup_sipi(struct cpu_state *s, uint8_t vector);
