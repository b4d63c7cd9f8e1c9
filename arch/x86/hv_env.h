/* SPDX-License-Identifier: BSD-2-Clause */
/* What the vendors' files share of the kernel's memory. Private to hv.c, svm* and vmx*. */
#pragma once
#include "arch/x86/hv.h"
#include "kernel/handoff.h"

extern const struct hv_env *hv_env; /* hv.c: set before any probe */
static inline void *hva_of_hpa(hpa_t h) { return (void *)(uintptr_t)(h + HHDM_BASE); }
static inline hpa_t hpa_of_hva(const void *p) { return (hpa_t)(uintptr_t)p - HHDM_BASE; }
