/* SPDX-License-Identifier: BSD-2-Clause */
/* CHAP by MD5 (RFC 1994 4.1; RFC 7143 12.1.3). */
#pragma once
#include "kernel/base/bits.h"

#define CHAP_MD5           "5"
#define CHAP_RESPONSE      16
#define CHAP_CHALLENGE_MAX 1024

/* The response to a challenge. -EIO: it could not be computed. */
int chap_respond(uint8_t id, const char *secret, const uint8_t *challenge, size_t n,
		 uint8_t response[CHAP_RESPONSE]) must_check;
