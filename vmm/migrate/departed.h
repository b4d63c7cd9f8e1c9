/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMs that have been sent away: where to and when, for as long as this host lives, and the configuration with which one
 * could be started here again should its new host die. A VM that comes back, or is started here again, is no longer
 * departed.
 */
#pragma once
#include "vmm/migrate/records.h"

struct departure {
	struct list node; /* departed.c's */
	struct vm_config cfg;
	char host[HOST_NAME_MAX]; /* where it went */
	struct ip ip;
	struct incarnation where;
	uint64_t when_s; /* UTC, 0: no clock */
};
/*
 * Takes d, which is malloc'd: had before the VM goes, so that nothing can fail when it has gone. Replaces an older one
 * of that name.
 */
void departed_add(struct departure *d);
void departed_remove(const char *name);
/* By name, or (name NULL) the i-th; false: none. d may be NULL. */
bool departed_get(const char *name, unsigned i, struct departure *d);
/*
 * One that was sent away, as a stopped VM again, with a reference: whether it may start here vm_start_here finds out.
 * NULL: none of that name. It counts as departed until it runs here.
 */
struct vm *departed_restore(const char *name);
unsigned departed_count(void);
/* " at 14:05 UTC", or "" without a clock. */
void departed_when(const struct departure *d, char buf[16]);
/* One whose name, MAC or UUID is that of q. */
bool departed_match(const struct who *q, struct departure *d);
