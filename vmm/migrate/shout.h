/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * WHO as a frame (datagram.h) on the networks of this host's VMs: a host that runs the VM says so even
 * where addresses do not reach it. Only "it is here" counts; silence says nothing.
 */
#pragma once
#include "kernel/base/list.h"
#include "kernel/sync.h"
#include "vmm/migrate/records.h"

struct shout {
	struct list node;
	const struct who *q;
	uint64_t nonce, until_ns;
	bool heard;               /* [l] somebody has it; shout.c's lock */
	char host[HOST_NAME_MAX]; /* [l] who */
};
void shout_begin(struct shout *s, const struct who *q);
/* Waits until answers have had 200 ms since shout_begin, then `heard` is final. Sleeps. */
void shout_end(struct shout *s);
/* From now on this host hears and answers. Once. */
void shout_init(void);
