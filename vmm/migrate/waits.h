/* SPDX-License-Identifier: BSD-2-Clause */
/* How long a guest that runs already has waited for its pages (pull.h), in powers of two of a microsecond. */
#pragma once
#include "kernel/base/bits.h"

#define WAITS_BUCKETS 24 /* the last: 4 s and longer */

struct migrate_waits {
	uint64_t n, ns;             /* waits, and how long in all */
	uint32_t us[WAITS_BUCKETS]; /* [i]: shorter than 2^i us, and not than 2^(i-1) */
};
void waits_add(struct migrate_waits *w, uint64_t ns);
/* Microseconds that `percent` of the waits are shorter than, as if those of a bucket lay evenly; 0: there was none. */
uint64_t waits_quantile(const struct migrate_waits *w, unsigned percent);
/* "3 <64 us, 17 <128 us", what fits in len bytes; returns buf. */
const char *waits_text(const struct migrate_waits *w, char *buf, size_t len);
