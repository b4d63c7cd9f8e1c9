/* SPDX-License-Identifier: BSD-2-Clause */
/* Debian's tgtd, a real iSCSI target, on a loopback port of its own: for tests over sockets.h. */
#pragma once
#include "kernel/base/bits.h"
#include <sys/types.h>

struct tgtd {
	pid_t pid; /* 0: it does not run */
	uint16_t port;
	int control;
	char dir[64]; /* temporary: its socket, its log, disks */
};
/* A directory and a free port, and there it is. NULL, or why it is not. */
const char *tgtd_start(struct tgtd *d);
void tgtd_kill(struct tgtd *d);         /* as if the host had lost its power */
const char *tgtd_again(struct tgtd *d); /* at the same port, with no configuration yet */
/* It ends, and what it left is removed. */
void tgtd_end(struct tgtd *d);
/* tgtadm's words behind its --lld. False: it says no. */
bool tgtd_adm(const struct tgtd *d, const char *fmt, ...) printf_like(2, 3);
/* A target with a unit 1 of mib MiB, for all initiators. */
bool tgtd_target(const struct tgtd *d, unsigned tid, const char *name, unsigned mib);
