/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes of a guest's, in any pieces: what comes out is bounded, passes again, and makes no terminal answer. */
#include "vmm/term_filter.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char once[4096 + 64 * TERM_FILTER_SEQ], twice[sizeof(once) + TERM_FILTER_SEQ];
	struct term_filter f = { 0 }, g = { 0 };
	size_t n = 0, piece = size ? data[0] % 64 + 1 : 1;
	if (size > 4096)
		return 0;
	for (size_t at = 0; at < size; at += piece) {
		size_t len = MIN(piece, size - at), k = term_filter(&f, data + at, len, once + n);
		if (k > TERM_FILTER_OUT(len) || n + k > size)
			abort();
		n += k;
	}
	for (size_t i = 0; i < n; i++)
		if (!once[i] || once[i] == 0x05 || (once[i] == 0x1b && i + 1 < n && strchr("]PX^_Zc", once[i + 1])))
			abort();
	for (size_t i = 0; i + 1 < n; i++) {
		size_t end = i + 2;
		if ((uint8_t)once[i] == 0xc2 && (uint8_t)once[i + 1] < 0xa0)
			abort();
		if (once[i] != 0x1b || once[i + 1] != '[')
			continue;
		while (end < n && (uint8_t)once[end] < '@')
			end++;
		if (end - i > 2 + 8 * 5 || !once[end] || !strchr("@ABCDEFGHIJKLMPSTXZ`adefhlmrsu", once[end]))
			abort();
	}
	if (term_filter(&g, (const uint8_t *)once, n, twice) != n || memcmp(once, twice, n))
		abort();
	return 0;
}
