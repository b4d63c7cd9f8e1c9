/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C (crc32c.h) by the CPU's instruction where it has one (SDM 2A, CRC32), else by a table. */
#include "crypto/crc32c.h"
#include "arch/x86/cpu.h"
#include "arch/x86/hw/cpuid_bits.h"
#include <string.h>

static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
	uint64_t c = crc, word;
	for (; n >= sizeof(word); n -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		__asm__("crc32q %1, %0" : "+r"(c) : "rm"(word));
	}
	for (; n; n--, p++)
		__asm__("crc32b %1, %k0" : "+r"(c) : "rm"(*p));
	return (uint32_t)c;
}

/* A nibble at a time, by the reflected polynomial 0x82f63b78: who has no such instruction has no speed to lose. */
static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t n)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	for (; n; n--, p++) {
		crc ^= *p;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	static int has; /* 0: not looked yet */
	int h = __atomic_load_n(&has, __ATOMIC_RELAXED);
	if (!h) {
		h = cpuid(1, 0).ecx & CPUID1_ECX_SSE4_2 ? 1 : -1;
		__atomic_store_n(&has, h, __ATOMIC_RELAXED);
	}
	return h > 0 ? by_instruction(crc, p, n) : by_table(crc, p, n);
}
