/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random bytes fit for keys: a ChaCha20 generator with fast key erasure, fed by RDRAND/RDSEED where the CPU has them
 * and by TSC jitter always. Without RDRAND the first bytes after start are only as good as the jitter of that start.
 */
#pragma once
#include "kernel/base/bits.h"

/* Has the CPU RDRAND or RDSEED? Without, a key that is made here soon after start could be guessed. */
bool random_has_source(void);
void random_bytes(void *buf, size_t n); /* any context */
