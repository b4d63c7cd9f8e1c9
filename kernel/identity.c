/* SPDX-License-Identifier: BSD-2-Clause */
/* Who this host is, from its hardware (host.h). */
#include "kernel/host.h"
#include "kernel/base/hash.h"

/* With its bits mixed once more (xorshift-multiply), so that sums of it do not cancel out. */
static uint64_t hash(const uint8_t *p, size_t n)
{
	uint64_t h = fnv1a(FNV1A_START, p, n);
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

/* Boards of one kind may share a UUID, and a machine may have no SMBIOS at all: the MACs always count as well. */
uint64_t host_identity(const uint8_t smbios_uuid[16], const uint8_t (*macs)[6], unsigned n)
{
	uint64_t h = hash(smbios_uuid, 16);
	for (unsigned i = 0; i < n; i++)
		h += hash(macs[i], 6);
	return h ? h : 1;
}
