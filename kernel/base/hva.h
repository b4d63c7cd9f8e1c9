/* SPDX-License-Identifier: BSD-2-Clause */
/* The direct map: every byte of the host's RAM at a fixed distance from its physical address. Only RAM is there. */
#pragma once
#include "kernel/base/bits.h"

#ifndef HHDM_BASE
#define HHDM_BASE 0xffff800000000000UL /* 0 in host-built tests, where an hpa is a pointer */
#endif
#define HPA_NONE (~(hpa_t)0) /* no such page */

static inline void *hva_of(hpa_t hpa) { return (void *)(uintptr_t)(hpa + HHDM_BASE); }
static inline hpa_t hpa_of(const void *hva) { return (hpa_t)(uintptr_t)hva - HHDM_BASE; }
