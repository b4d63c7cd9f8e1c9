/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's source of entropy, virtio-rng (virtio 1.2, 5.4). It registers itself (vmm/dev.h). */
#pragma once
#include "vmm/dev/vpci.h"

int vrng_create(struct machine *m, struct vpci_bus *b, unsigned slot); /* 0 or -errno with everything undone */
