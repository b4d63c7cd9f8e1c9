/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C (Castagnoli), the digest of iSCSI (RFC 7143 13.1; examples: RFC 3720 B.4). Any context. */
#pragma once
#include "kernel/base/bits.h"

#define CRC32C_START 0xffffffffU

/* Goes on from crc with n bytes; what is sent is the complement of the last one, little-endian. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
