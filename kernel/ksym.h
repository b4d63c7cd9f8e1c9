/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of the kernel's functions, for backtraces. The table is made at link time by tools/ksyms.py. */
#pragma once
#include "kernel/base/bits.h"

/*
 * The function that holds addr, and how far into it addr is; NULL if addr is not in the kernel's text. Any context,
 * takes no lock. For a return address ask for addr - 1, which still lies in the caller.
 */
const char *ksym_lookup(uintptr_t addr, uintptr_t *offset);
