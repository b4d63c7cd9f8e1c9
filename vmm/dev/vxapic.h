/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A local APIC in xAPIC mode: its registers lie in memory, for each vCPU at the same address (SDM 3A 11.4.1). A guest
 * is in this mode once it has left x2APIC's by IA32_APIC_BASE (Linux: nox2apic).
 */
#pragma once
#include "vmm/dev/vlapic.h"

/* An access within the page; by 32 bits at a multiple of 16, or it has no effect and reads 0 (SDM 3A 11.4.1). */
uint32_t vxapic_read(struct vlapic *l, uint32_t off, unsigned size, uint64_t guest_ns);
void vxapic_write(struct vlapic *l, uint32_t off, unsigned size, uint64_t guest_ns, uint32_t val);
/* Does an 8-bit logical destination name it (SDM 3A 11.6.2.2)? Any context. */
bool vxapic_is_named(const struct vlapic *l, uint32_t dest);
extern const struct sdesc vxapic_desc; /* object: struct vlapic; absent in x2APIC mode */
