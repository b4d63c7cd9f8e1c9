/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames as text: "02000000000a 86dd z20", hexadecimal digits in pairs, zN for N bytes of zeros. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline uint8_t frame_text_digit(char c) { return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10); }

static inline size_t frame_text(const char *text, uint8_t *buf)
{
	size_t n = 0;
	while (*text) {
		if (*text == ' ') {
			text++;
		} else if (*text == 'z') {
			size_t zeros = (size_t)strtoul(text + 1, (char **)&text, 10);
			memset(buf + n, 0, zeros);
			n += zeros;
		} else {
			buf[n++] = (uint8_t)(frame_text_digit(text[0]) << 4 | frame_text_digit(text[1]));
			text += 2;
		}
	}
	return n;
}
