/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Questions as frames (net/hostframe.h). WHO, on the networks of this host's VMs: a host that runs the VM says so even
 * where addresses do not reach it. Only "it is here" counts; silence says nothing. And REACH, on the network of a VM
 * that is about to move: is the destination on it?
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
/*
 * Do frames on the network `net` (as a VM's configuration has it) get to the host `to`, called name, and come back?
 * Both have a network of that name. 0, -ENETDOWN: it has no link here, so there is nothing to lose; -EHOSTUNREACH and w
 * says what came of them. Sleeps up to 3 s.
 */
int shout_reach(const char *net, struct incarnation to, const char *name, struct why *w) must_check;
/* From now on this host hears and answers. Once. */
void shout_init(void);
