/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entries of four-level page tables: the CPU's own (SDM 3A 4.5; AMD's nested tables have the same, APM2 15.25) and
 * EPT's (SDM 3C 29.3.2). Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define PT_LEVELS  4
#define PT_ENTRIES 512

#define PTE_P    BIT(0)
#define PTE_W    BIT(1)
#define PTE_U    BIT(2)
#define PTE_PWT  BIT(3)
#define PTE_PCD  BIT(4)
#define PTE_A    BIT(5)
#define PTE_D    BIT(6)
#define PTE_PS   BIT(7) /* a leaf above level 1; PAT in one at level 1 */
#define PTE_G    BIT(8)
#define PTE_NX   BIT(63)
#define PTE_ADDR 0x000ffffffffff000ULL /* 51:12 */

#define EPTE_R     BIT(0)
#define EPTE_W     BIT(1)
#define EPTE_X     BIT(2)
#define EPTE_WB    (6ULL << 3) /* memory type; 0 is UC */
#define EPTE_LARGE BIT(7)
#define EPTE_A     BIT(8)
#define EPTE_D     BIT(9)
#define EPTE_SOFT  BIT(11) /* ignored by the CPU */
