/* SPDX-License-Identifier: BSD-2-Clause */
/* What is known of this host from boot on; kernel/main.c fills it, commands show it. */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/conf.h"

/*
 * One boot of one machine. `host` comes from the hardware (SMBIOS UUID and the cards' permanent MACs), never from
 * tern.conf, so that a copied boot volume is another host; `boot` is random in each boot. Neither is ever 0 for a real
 * host.
 */
struct incarnation {
	uint64_t host, boot;
};
static inline bool incarnation_equal(struct incarnation a, struct incarnation b)
{
	return a.host == b.host && a.boot == b.boot;
}
/* `host` of an incarnation; in whatever order the cards come. Pure. */
uint64_t host_identity(const uint8_t smbios_uuid[16], const uint8_t (*macs)[6], unsigned n);

#define HOST_RATE_MIN (1UL << 20) /* bytes per second: with less a record takes longer than a sign of life may */
struct host_conf {                /* [host] of tern.conf */
	char name[32];
	char console[16]; /* "": as the firmware says */
	struct conf_password console_password;
	uint64_t migrate_limit, migrate_minimum; /* bytes per second: of all migrations together, 0: none; for each */
	uint32_t undecided; /* HOST_UNDECIDED_*: what to do with a VM that no host has or had (doc/handover.md) */
};
enum { HOST_UNDECIDED_ASK, HOST_UNDECIDED_RESUME };
extern const struct conf_table host_conf_table; /* kernel/conf.h */

#define HOST_HV_FEATURES 40
struct host_hv_feature { /* a capability of the CPU's virtualisation */
	const char *name;
	bool present, used;
};

struct con;
/* tern's address on a NIC, as commands show it. */
struct host_address {
	char address[24];  /* "10.77.0.11/24"; "": none that may be used */
	char wanted[24];   /* "10.77.0.11/24", also while it may not be used; "": none yet */
	const char *state; /* "none", "probing", "ok", "conflict" */
	bool no_link;      /* "probing", a static address, and nobody hears a probe */
	char other[20];    /* the MAC of the host that has it, in a conflict; else "" */
	char address6[48]; /* IPv6, also while it may not be used; "": none yet */
	const char *state6;
};
void host_address_show(struct con *c, const struct host_address *a);

struct host_info {
	char name[32];
	struct incarnation inc;
	char cpu_vendor[16], cpu_model[52];
	unsigned ncpus, ncpus_missing; /* online; those that did not start */
	uint64_t ram_bytes;            /* all RAM the loader found, firmware's aside */
	uint64_t file_bytes;           /* of it, boot files of VMs */
	uint64_t kernel_bytes;         /* of it, the kernel's image */
	const char *hv;                /* "AMD-V"; NULL: VMs cannot run, and why_no_hv says why */
	struct host_hv_feature hv_feature[HOST_HV_FEATURES];
	unsigned nhv_features;
	char why_no_hv[256];
	void (*address)(struct host_address *out); /* of the first NIC with one; NULL: no network */
	void (*peers)(struct con *c);              /* print the other hosts' states; NULL: no network */
};
extern struct host_info host_info;

/*
 * Before the machine is switched off or restarted by `poweroff` or `reboot`: 0, or -EBUSY with the reason, which
 * --force overrides. Set by kernel/main.c for the rooms above; NULL: nothing stands against it. May sleep.
 */
struct why;
extern int (*host_may_leave)(struct why *w);
