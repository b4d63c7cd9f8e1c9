/* SPDX-License-Identifier: BSD-2-Clause */
/* The product's one host (this_host.h). */
#include "vmm/migrate/this_host.h"

static struct migrate_host the_host;

struct migrate_host *migrate_this_host(void) { return &the_host; }
