/* SPDX-License-Identifier: BSD-2-Clause */
/* A token bucket, kept as the time at which it will be full again (GCRA, ITU-T I.371). */
#pragma once
#include "kernel/base/bits.h"

/* Take cost_ns out of it, if that time is less than ahead_ns away. The caller's lock guards *full_ns. */
static inline bool gcra_take(uint64_t *full_ns, uint64_t now, uint64_t cost_ns, uint64_t ahead_ns)
{
	uint64_t due = MAX(*full_ns, now);
	if (due >= now + ahead_ns)
		return false;
	*full_ns = due + cost_ns;
	return true;
}
