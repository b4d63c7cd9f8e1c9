/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern's own address space: the direct map, the kernel image (W^X), device mappings and guarded stacks. One set of page
 * tables for all CPUs, built with the shared walker (pt.h).
 */
#pragma once
#include "kernel/base/bits.h"

/*
 * Map a device's registers uncached, never executable; page granular, NULL if out of space. Lives for ever (drivers
 * keep theirs).
 */
void *mmio_map(hpa_t hpa, uint64_t size) must_check;

/*
 * size (at most 56 KiB) bytes of fresh zeroed memory at a kernel address with unmapped guard pages around them; NULL:
 * no memory.
 */
void *stack_alloc(size_t size) must_check;
void stack_free(void *stack, size_t size);

static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline uint16_t mmio_read16(const volatile void *p) { return *(const volatile uint16_t *)p; }
static inline uint8_t mmio_read8(const volatile void *p) { return *(const volatile uint8_t *)p; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline void mmio_write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mmio_write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
