/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VM is: its section of tern.conf, or what its last host told of it. */
#pragma once
#include "kernel/conf.h"
#include "kernel/task.h"
#include "vmm/state.h"
#include <string.h>

#define VM_NAME_MAX   32
#define VM_NAME_ALL   "all" /* in commands, each VM; none is called that (kernel/conf.c) */
#define VM_NICS_MAX   CONF_NICS
#define VM_DISKS_MAX  (CONF_NICS + 1) /* and what cloud-init reads */
#define VM_FILE_MAX   96
#define VM_WEIGHT_MAX 1000
#define VM_MAX_VCPUS  64 /* that a file may ask for; formats are good for 2048, and arrays are sized at run time */

enum vm_autostart {
	VM_AUTOSTART_NO,
	VM_AUTOSTART_YES,   /* once every peer has said that it has not got it */
	VM_AUTOSTART_ALONE, /* the same, but 30 s of silence count as that */
};

enum {
	DISK_READONLY = 1,
	DISK_OWN = 2,   /* its base image was made for this VM, and goes where that goes */
	DISK_COPY = 4,  /* of an OFFER: the base image comes along, if it is not there */
	DISK_FLAGS = 7, /* that an OFFER may have of a disk with a layer */
	DISK_UNIT = 8,  /* it is on a unit of shared storage, which a host's [disk] names (disk_unit.h), and has none */
};
struct vm_disk_config {
	char name[CONF_NAME_MAX];
	uint64_t size, layer; /* bytes: of the disk, and of what its layer may take of the host's memory */
	uint32_t flags;
	char file[VM_FILE_MAX]; /* its base image, on a host's boot volume, "": none, or DISK_OWN; or a unit's name */
	uint64_t base_size, base_digest; /* of that (boot_file.h), 0: none; digest: as OFFER has it, else 0 */
};
/* What is done for a guest that dirties its memory faster than its migration's line carries it. */
enum migrate_strategy {
	MIGRATE_AUTO,     /* the best means that there is: today as THROTTLE */
	MIGRATE_THROTTLE, /* its vCPUs are slowed, each by what it dirties (vmm/x86/stun.h) */
	MIGRATE_STOP,     /* it is stopped for as long as what is left takes, whatever the budget */
	MIGRATE_ABORT,    /* it stays where it is */
	MIGRATE_REMOTE,   /* it goes before its memory has, which then comes as it asks for it (post-copy) */
	MIGRATE_STRATEGIES,
};
extern const char *const migrate_strategy_words[]; /* as operators write them; NULL ends them */
/* Files for cloud-init in the guest (seed.h). */
enum vm_seed_file { SEED_USER_DATA, SEED_META_DATA, SEED_NETWORK_CONFIG, SEED_FILES };
struct vm_config { /* what a host must know before it makes the VM: OFFER has it */
	char name[VM_NAME_MAX];
	uint8_t uuid[16];
	uint64_t mem; /* bytes */
	uint32_t vcpus;
	uint32_t nnics; /* network cards, at least one */
	uint8_t mac[VM_NICS_MAX][6];
	char net[VM_NICS_MAX]
		[CONF_NAME_MAX];   /* of each card's network; "": the first one that is for VMs, at each host */
	uint32_t mtu[VM_NICS_MAX]; /* of that where it was started, as its driver was told; 0: it never was */
	char cpu[16];              /* CPU model: "host" or "portable" */
	uint32_t ndisks;           /* in the order in which it boots from them */
	struct vm_disk_config disk[VM_DISKS_MAX];
	/* As the file has them; disk.c makes disks of them, which are what goes with the VM. */
	char disk_names[CONF_NICS][CONF_NAME_MAX], seed[SEED_FILES][VM_FILE_MAX];
	struct vm_config_state { /* migrates as section "config": what its next cold start needs */
		char kernel[VM_FILE_MAX], initrd[VM_FILE_MAX]; /* of a host; not needed to run on a destination */
		char cmdline[512];
		uint32_t autostart; /* enum vm_autostart */
		/* What each of its cards may send (net/bridge_rules.h); for all, or for each. */
		uint32_t mac_change, trunk, dhcp_server, router; /* CONF_NIC_CHOICE */
		struct conf_nic_ips ip;
		uint32_t migrate_strategy; /* enum migrate_strategy */
		uint32_t weight;           /* of its share of the CPUs; 0: TASK_WEIGHT */
	} s;
};
extern const struct conf_table vm_conf_table; /* into struct vm_config */
extern const struct sdesc vm_config_desc;

static inline uint32_t vm_config_weight(const struct vm_config *c) { return c->s.weight ? c->s.weight : TASK_WEIGHT; }

/* Does one of its cards have this MAC? */
static inline bool vm_config_has_mac(const struct vm_config *c, const uint8_t mac[6])
{
	for (unsigned i = 0; i < c->nnics; i++)
		if (!memcmp(c->mac[i], mac, 6))
			return true;
	return false;
}

/*
 * Section [vm name] of a host of that name and identity (struct incarnation). False if it is wrong: all is in conf's
 * list by then, and the first of it in wrong, "tern.conf:LINE: ...". cfg has a name, a UUID and a MAC in any case.
 */
bool vm_config_read(struct conf *c, const char *name, const char *host, uint64_t identity, struct vm_config *cfg,
		    char wrong[CONF_WRONG_MAX]);

/*
 * May a VM of that name have this MAC on this host? -EINVAL: it is multicast, broadcast or zero; -EEXIST: a network
 * card of the host has it, or a VM of another name in the table, whatever its state. The reason names no host, for it
 * may be told to a peer. A VM that comes into the table between this and vm_new is found there. Any context that may
 * take the table's lock.
 */
int vm_mac_check(const char *name, const uint8_t mac[6], struct why *w) must_check;
