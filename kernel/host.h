/* SPDX-License-Identifier: BSD-2-Clause */
/* What is known of this host from boot on; kernel/main.c fills it, commands show it. */
#pragma once
#include "kernel/bits.h"

#define HOST_HV_FEATURES 40
struct host_hv_feature { /* a capability of the CPU's virtualisation */
	const char *name;
	bool present, used;
};

struct host_info {
	char name[32];
	char cpu_vendor[16], cpu_model[52];
	unsigned ncpus, ncpus_missing; /* online; those that did not start */
	uint64_t ram_bytes;            /* all RAM the loader found, firmware's aside */
	uint64_t file_bytes;           /* of it, boot files of VMs */
	uint64_t kernel_bytes;         /* of it, the kernel's image */
	const char *hv;                /* "AMD-V"; NULL: VMs cannot run, and why_no_hv says why */
	struct host_hv_feature hv_feature[HOST_HV_FEATURES];
	unsigned nhv_features;
	char why_no_hv[256];
};
extern struct host_info host_info;
