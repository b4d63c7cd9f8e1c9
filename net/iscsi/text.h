/* SPDX-License-Identifier: BSD-2-Clause */
/* Key=value pairs, each ended by a NUL: what LOGIN negotiates with (RFC 7143 6). */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/ip.h"

#define ISCSI_PORT 3260

#define ISCSI_TEXT_MAX 8192 /* bytes of a login's data: what either side may send before it says more (13.12) */

struct iscsi_text {
	char *at; /* where pairs are written, or were read */
	size_t len, max;
	bool full; /* one had no room, and is not there */
};
/* snprintf's words as key's value. */
void iscsi_text_add(struct iscsi_text *t, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* "0x" and the bytes in hexadecimal (6.1, binary values). */
void iscsi_text_add_bytes(struct iscsi_text *t, const char *key, const uint8_t *p, size_t n);
/*
 * Is it pairs as they are to be: a key, "=", a value, a NUL, each time, of printable characters? Else nothing in it is
 * looked at.
 */
bool iscsi_text_is_sane(const struct iscsi_text *t);
/* key's value in a sane one, NULL: none; of several the first. */
const char *iscsi_text_get(const struct iscsi_text *t, const char *key);
/* A number, of decimal or hexadecimal digits, up to max: or -EINVAL. */
int iscsi_text_number(const char *value, uint32_t max, uint32_t *n) must_check;
/* Bytes, by "0x" or base64's "0b": how many, up to max, or -EINVAL. */
int iscsi_text_bytes(const char *value, uint8_t *p, size_t max) must_check;
/* "10.77.2.5:3260,1", "[2001:db8::1]": TargetAddress, without a name to be resolved. */
bool iscsi_address_parse(const char *s, struct ip *ip, uint16_t *port);
