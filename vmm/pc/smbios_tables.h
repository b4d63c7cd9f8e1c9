/* SPDX-License-Identifier: BSD-2-Clause */
/* SMBIOS tables for the guest: whose machine it is, by which a guest's software knows it again, and what is in it. */
#pragma once
#include "vmm/gmem.h"

struct smbios_info {
	const uint8_t *uuid; /* 16 bytes, as they are written down */
	unsigned nvcpus;
	const char
		*serial; /* of the system; "": none. Guests read configuration from it (cloud-init: "ds=nocloud...") */
};
/* Writes the entry point at PC_SMBIOS and the tables behind it. -ENOSPC: the serial number is too long. */
int smbios_tables_build(struct gmem *g, const struct smbios_info *info) must_check;
