/* SPDX-License-Identifier: BSD-2-Clause */
/* For the programs that measure: pages for page tables (arch/x86/pt.h), addresses being this process's. */
#pragma once
#include "kernel/base/bits.h"

hpa_t bench_table_alloc(void *arg);
void bench_table_free(void *arg, hpa_t hpa);
