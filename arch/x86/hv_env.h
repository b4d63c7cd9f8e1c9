/* SPDX-License-Identifier: BSD-2-Clause */
/* What the vendors' files share of the kernel's memory. Private to hv.c, svm* and vmx*. */
#pragma once
#include "arch/x86/cpu.h"
#include "arch/x86/hv.h"

extern const struct hv_env *hv_env; /* hv.c: set before any probe */

/* ---- hv_state.c: what is the same for both ---- */

/*
 * An exception met `cut`, an event under delivery: an interrupt or NMI waits in hv->event_next behind it, an exception
 * is raised again by its own instruction. A guest can make #AC or #DB meet itself for ever (stack or IDT of its own
 * making): that ends here too.
 */
void hv_event_cut(struct hv_vcpu *hv, uint64_t cut);
/* Whether the guest can take what waits there. */
bool hv_event_takes(const struct hv_vcpu *hv, bool shadow);
static inline bool hv_is_nmi(uint64_t event) { return event && hv_event_type(event) == HV_EVENT_NMI; }
static inline bool hv_is_page_fault(uint64_t event) { return (event & 0x7ff) == (HV_EVENT_EXC << 8 | VEC_PF); }
/* The state's extended part into an area for fpu_load. */
void hv_xsave_in(uint8_t area[XSAVE_AREA_MAX], const struct cpu_state *s);
/* Whether WRMSR may change EFER to val now: LME may not change under paging. Its bits have been looked at before. */
bool hv_efer_valid(uint64_t val, uint64_t efer, uint64_t cr0);
