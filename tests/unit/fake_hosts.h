/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hosts and VMs as migration sees them, for host-built tests: vmm/vm.h over the real gmem.c, pt.c and state.c, without
 * CPUs. Three hosts, a, b and c, live in one process; which one a thread is on is the thread's own (fake_host: 0, 1,
 * 2). Starting a VM that runs on another host as well is a panic: that is what the hand-over must never do.
 */
#pragma once
#include "tests/unit/fake_kernel.h"
#include "vmm/migrate/this_host.h"
#include "vmm/vm.h"

#define FAKE_HOSTS 3
extern struct migrate_host fake_hosts[FAKE_HOSTS];
/*
 * A power cut and a new boot: its VMs, records and memory of anything are gone. Its tasks must have ended
 * (fake_tasks_wait).
 */
void fake_host_restart(int host);
/* It has died (fake_net_die), and its tasks do not know: what runs there runs nowhere. */
extern bool fake_host_dead[FAKE_HOSTS];
/* The one network that the host has, NULL: any that is asked for. */
extern const char *fake_host_net[FAKE_HOSTS];
extern unsigned fake_host_mtu[FAKE_HOSTS]; /* of its networks; 0: 1500 */
/* Do something as a task on that host would. */
#define ON_HOST(h) \
	for (int fake_was = fake_host, fake_once = (fake_host = (h), 1); fake_once; fake_once = 0, fake_host = fake_was)
/* May a frame on the VMs' network pass from the one host to the other? fake_shout.c, test_shout.c */
extern bool (*fake_frame_passes)(int from, int to);
extern int fake_reach;                /* what reach_ask says */
extern const char *fake_reach_silent; /* but of this network that nothing came */
extern bool fake_reach_slow;          /* of others it says so in the last moment but 2 s */

struct fake_vm_opts { /* of all VMs; zero: everything works */
	bool compat_refuse, create_nomem, load_fail;
	uint64_t load_ns;        /* the destination takes so long to load the CPUs */
	unsigned sections_skip;  /* leave out section n (1..) when the source walks them */
	unsigned sections_twice; /* walk section n twice */
	bool newer;              /* a field that an older release does not send */
	bool late_write;         /* saving a section writes to guest memory */
	bool save_fail;          /* the CPUs' state cannot be read at the source */
	unsigned refuse_section; /* the destination's check of section n (1..) says no */
};
extern struct fake_vm_opts fake_vm_opts;

/* A RUNNING VM on this thread's host. */
struct vm *fake_vm_new(const char *name, uint64_t mem);
void fake_vm_rest(struct vm *vm, enum vm_state as); /* stop it, or pause it, as its operator */
/* The VM of that name on a host, without a reference; NULL. */
struct vm *fake_vm_find(int host, const char *name);
/* The guest writes: only while it runs, else false. */
bool fake_guest_write(struct vm *vm, gpa_t gpa, const void *buf, size_t len);
extern bool fake_slowed; /* the last one whose speed was set */
/* The operator's power cut, with the rules of vmm/vm_life.c. */
int vm_stop(struct vm *vm, struct why *w);
#define FAKE_SECTIONS   4
/* What a peer of today sends of a VM's section "config" has so many bytes; of the others, see fake_state.c. */
#define FAKE_CONFIG_LEN sizeof(struct vm_config_state)
static inline uint32_t fake_version(const char *section)
{
	return strcmp(section, vm_config_desc.name) ? 1 : vm_config_desc.version;
}
extern unsigned fake_resets; /* of all guests, carried out */
/* What the guest does in the last moment before it is paused, NULL: nothing. */
extern void (*fake_last_moment)(struct vm *vm);
/* As the last device of a VM is loaded, NULL: nothing: what goes wrong there. */
extern void (*fake_loaded)(struct vm *vm);
/* Memory of the VM when it was last paused (mem bytes), and its state words then. */
extern uint8_t *fake_paused_image;
/* State that migrates: two devices of one kind. */
#define FAKE_DEVS 3
struct fake_dev {
	struct fake_dev_state {
		uint64_t regs[4];
		uint32_t mode;
		uint8_t fifo[12];
		uint64_t newer; /* in version 2 */
	} s;
	struct vm *vm;
};
struct fake_dev *fake_devs(struct vm *vm);
/* A frame comes for the card of whatever VM is taken from next (vm_port_take_kept). */
void fake_keep(unsigned nic, const void *bytes, size_t len);
extern bool fake_elsewhere; /* what vm_port_is_elsewhere says; atomic */
#define FAKE_BROUGHT 1024
extern struct fake_brought { /* by vm_port_bring, in order */
	unsigned n;
	struct {
		const struct vm *vm;
		unsigned nic;
		size_t len;
		uint32_t number; /* behind its header */
	} frame[FAKE_BROUGHT];
} fake_brought;
extern volatile bool fake_flood;        /* as fast as one is taken the next one like it comes */
extern volatile unsigned fake_bring_us; /* vm_port_bring takes that long */
unsigned fake_kept_clear(void);         /* all of that; how many nobody had taken */
unsigned fake_announced(void);          /* vm_announce calls so far */
unsigned fake_resumed(void);
