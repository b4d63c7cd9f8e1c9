/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP asks of compiler and platform (lwip/arch.h). */
#pragma once
#include "kernel/base/err.h"
#include <limits.h>
#include <stdint.h>

#ifndef BYTE_ORDER
#define BYTE_ORDER 1234 /* LITTLE_ENDIAN */
#endif
#define LWIP_NO_UNISTD_H 1
#ifndef SSIZE_MAX
#define SSIZE_MAX INT_MAX
#endif
#include <sys/types.h> /* ssize_t */
#define lwip_htons(x) __builtin_bswap16(x)
#define lwip_htonl(x) __builtin_bswap32(x)

#define LWIP_PLATFORM_DIAG(x) \
	do {                  \
	} while (0)
#define LWIP_PLATFORM_ASSERT(x) panic("lwIP: %s", x)

uint32_t net_random(void);
#define LWIP_RAND() net_random()
uint16_t net_checksum(const void *data, int len); /* not complemented, in memory's byte order */
#define LWIP_CHKSUM net_checksum
