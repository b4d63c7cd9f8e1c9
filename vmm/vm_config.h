/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VM is: its section of tern.conf, or what its last host told of it. */
#pragma once
#include "kernel/conf.h"
#include "vmm/state.h"

#define VM_NAME_MAX  32
#define VM_MAX_VCPUS 1 /* this release; arrays are sized at run time */

enum vm_autostart {
	VM_AUTOSTART_NO,
	VM_AUTOSTART_YES,   /* once every peer has said that it has not got it */
	VM_AUTOSTART_ALONE, /* the same, but 30 s of silence count as that */
};

struct vm_config { /* what a host must know before it makes the VM: OFFER has it */
	char name[VM_NAME_MAX];
	uint8_t uuid[16];
	uint64_t mem; /* bytes */
	uint32_t vcpus;
	uint8_t mac[6];
	char net[16];            /* of its network; "": the first one that is for VMs, at each host */
	char cpu[16];            /* CPU model: "host" or "portable" */
	uint32_t mtu;            /* of that network where it was started, as its driver was told; 0: it never was */
	struct vm_config_state { /* migrates as section "config": what its next cold start needs */
		char kernel[96], initrd[96], cmdline[512]; /* files of a host; not needed to run on a destination */
		uint32_t autostart;                        /* enum vm_autostart */
		/* What it may send (net/bridge_rules.h); since version 2. */
		uint32_t mac_change, trunk, dhcp_server, router; /* 1: allowed */
		uint8_t ip[16 * CONF_IPS];                       /* conf_type_ips */
	} s;
};
extern const struct conf_table vm_conf_table; /* into struct vm_config */
extern const struct sdesc vm_config_desc;

/*
 * Section [vm name] of a host of that name and identity (struct incarnation). False if it is wrong: all is in conf's
 * list by then, and the first of it in wrong, "tern.conf:LINE: ...". cfg has a name, a UUID and a MAC in any case.
 */
bool vm_config_read(struct conf *c, const char *name, const char *host, uint64_t identity, struct vm_config *cfg,
		    char wrong[CONF_WRONG_MAX]);
