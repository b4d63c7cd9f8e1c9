/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual machine on this host: its configuration, memory, devices and vCPUs, and the table of all of them.
 *
 * Life:  STOPPED --vm_start--> RUNNING <--vm_pause/vm_resume--> PAUSED        (guest off or vm_stop: STOPPED)
 *        vm_create_incoming: INCOMING --vm_arrive--> RUNNING, PAUSED or STOPPED at the destination of a migration
 *        MISCONFIGURED: its section of tern.conf is wrong; it is there to be seen, and never starts
 *        UNDECIDED: source after COMMIT without an answer; may neither run nor be freed.
 *        SERVING: it runs at its destination, which asks here for the memory that it lacks.
 */
#pragma once
#include "kernel/log.h"
#include "arch/x86/hv.h"
#include "kernel/frame.h"
#include "kernel/base/list.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "vmm/x86/cpuid.h"
#include "vmm/dev.h"
#include "vmm/dev/vlapic.h"
#include "vmm/gmem.h"
#include "vmm/vm_config.h"
#include "vmm/vm_text.h"

enum vm_state {
	VM_STOPPED,
	VM_RUNNING,
	VM_PAUSED,
	VM_INCOMING,
	VM_UNDECIDED,
	VM_SERVING, /* it runs elsewhere, and what has not gone there yet is here (post-copy): never runs again */
	VM_FAILED,
	VM_MISCONFIGURED,
	VM_STOPPING, /* it has stopped, and its memory goes back, which of TiBs takes seconds */
};
const char *vm_state_name(enum vm_state s);
enum vm_power_request { VM_POWER_NONE, VM_POWER_OFF, VM_POWER_RESET, VM_POWER_FAILED };
static inline bool vm_state_is_off(enum vm_state s)
{
	return s == VM_STOPPED || s == VM_FAILED || s == VM_MISCONFIGURED;
}

static inline bool vm_state_has_ended(enum vm_state s) { return vm_state_is_off(s) || s == VM_STOPPING; }

/*
 * A host that is about to start a VM asks its peers first (vm_guard); this is what it tells those that ask the same.
 */
enum vm_lease { VM_LEASE_NONE, VM_LEASE_ASKING, VM_LEASE_YIELDED, VM_LEASE_TAKEN };

/*
 * (c) const after create  [m] vm->lock; a look without it: vm_state_now(), vm_is_gone(), vm_is_migrating()
 * [a] atomic  [v] its vCPU task, or all vCPUs paused
 */
struct boot_file;
enum vm_file_use { VM_KERNEL, VM_INITRD, VM_FILES };
struct vm {
	struct list node;     /* vm table's lock */
	struct vm_config cfg; /* (c) */
	enum vm_state state;  /* [m] */
	enum vm_lease lease;  /* [a] */
	bool asked_for;    /* [a] somebody asks the guard about it: ASKING and YIELDED are his, and nobody else asks */
	bool gone;         /* [m] out of the table: it never runs again */
	struct vm *beside; /* (c) of one that is in no table yet: whose place it will take, with a reference */
	bool building;     /* [m] its memory comes or goes, without the lock; who finds this set leaves it alone */
	unsigned refs;     /* table's lock */
	struct mutex lock;
	struct gmem mem;        /* own locking; allocated while not STOPPED */
	struct machine machine; /* own locking */
	struct vapic_bus apics; /* (c) while running */
	struct vcpu **vcpus;    /* (c) while running */
	unsigned nvcpus;
	struct cpuid_table cpuid; /* (c) while running: the guest's CPUID */
	struct vm_clock {         /* [v] migrates as section "clock" */
		struct vm_clock_state {
			uint64_t guest_tsc, guest_ns;
			uint64_t tsc_hz;  /* of the guest, for life */
			uint64_t wall_ns; /* UTC at guest time 0: what kvmclock tells */
		} s;
	} clock;
	struct vuart *uart; /* these five are the machine's (c) */
	struct vioapic *ioapic;
	struct vpci_bus *pci;
	struct vnet *vnet[VM_NICS_MAX];
	struct vblk *vblk[VM_DISKS_MAX];
	struct vm_console *console;             /* vmm/vm_console.c: scroll-back ring and attached operator */
	struct vm_port *port[VM_NICS_MAX];      /* vmm/vm_port.c: its ports on bridges */
	uint64_t tsc_offset, tsc_ratio;         /* [v] guest TSC = (host TSC * ratio >> 32) + offset */
	uint64_t tsc_hz;                        /* [v] the guest's TSC in this host's seconds */
	uint64_t clock_base_tsc, clock_base_ns; /* [v] guest_clock.c: how guest ns follow from guest TSC */
	uint32_t clock_mul;                     /* [v] */
	int32_t clock_shift;                    /* [v] */
	struct task_share share;                /* [a] its vCPUs' and devices' part of the CPUs */
	uint64_t bus_locks_full_ns;             /* [a] bus_lock.c: when it will have paid for them */
	struct vm_halt {                        /* [a] halt_poll.h */
		unsigned polling;               /* vCPUs, now */
		uint64_t polls, woken;          /* in all, and those that ended with something to do */
	} halt;
	struct migration *migration;      /* [m] running outgoing or incoming attempt, or NULL */
	uint64_t start_ns;                /* when it started or arrived here */
	uint64_t dirty_rate;              /* [a] bytes per second, in the last pass of its migration; 0: none */
	struct vm_text fail;              /* why it is FAILED or MISCONFIGURED */
	struct vm_text waits_for;         /* why it has not started yet */
	uint8_t power_request;            /* [a] enum vm_power_request: what the guest asked for, or vm_fail */
	void (*requested)(struct vm *vm); /* (c) while it has vCPUs: has it carried out. Any context */
	uint32_t noise;                   /* [v] lines that this guest's odd doings have put into the log */
	struct cpu_state *boot;           /* (c) once loaded: how the boot CPU starts */
	struct boot_file *file[VM_FILES]; /* [m] what it boots from, with a reference; NULL: never asked for, or none */
	struct disk *disk[VM_DISKS_MAX];  /* [m] disk.h: made when it starts here for the first time, or arrives */
	bool has_disks;                   /* [a] it has such with layers, also while it is off */
	bool force_units;                 /* [a] the next start takes units that other hosts hold */
	bool units_away;                  /* [m] its last start failed for storage that may come yet */
	bool waits_storage;               /* [a] it will be started again because of that, until this is taken away */
	bool came_off; /* [a] it moved here off, and has not started yet: who asks for it hears that it is here */
};

/* As it was a moment ago. */
static inline enum vm_state vm_state_now(const struct vm *vm) { return __atomic_load_n(&vm->state, __ATOMIC_RELAXED); }
static inline bool vm_is_gone(const struct vm *vm) { return __atomic_load_n(&vm->gone, __ATOMIC_RELAXED); }
static inline bool vm_is_migrating(const struct vm *vm) { return __atomic_load_n(&vm->migration, __ATOMIC_RELAXED); }
static inline bool vm_has_request(const struct vm *vm) { return __atomic_load_n(&vm->power_request, __ATOMIC_SEQ_CST); }

/* Once, by kernel/main.c: the [vm] sections become STOPPED VMs (autostart ones start). */
int vmm_init(const struct hv_ops *hv, struct conf *c);
extern const struct hv_ops *vmm_hv_ops; /* (c) after vmm_init; NULL: this host cannot run VMs */
static inline const struct hv_ops *vmm_hv(void) { return vmm_hv_ops; }
/* By kernel/main.c before vmm_init: the MAC of a network card of this host. */
void vmm_own_mac(const uint8_t mac[ETH_ALEN]);

/* Table. vm_get takes a reference that vm_put gives back; NULL if there is none of that name. */
struct vm *vm_get(const char *name);
void vm_ref(struct vm *vm);
void vm_put(struct vm *vm);
void vm_free(struct vm *vm); /* vm_file.c: what the last vm_put leaves */
/*
 * A new VM in the table, with the table's reference, which vm_forget gives back. -EEXIST if the name, the UUID or the
 * MAC is taken; one that is misconfigured never runs, and so takes none but its name.
 */
int vm_new(const struct vm_config *cfg, enum vm_state state, struct vm **out, struct why *w) must_check;
void vm_forget(struct vm *vm);
/*
 * The same, of one that is in no table yet, and that nobody finds: it has what old has, and takes its place there by
 * vm_take_place, at one moment; old is then in none. For vmm/migrate's moves within a host.
 */
int vm_new_beside(struct vm *old, enum vm_state state, const struct vm_config *cfg, struct vm **out,
		  struct why *w) must_check;
void vm_take_place(struct vm *vm);
void vm_for_each(void (*fn)(struct vm *vm, void *arg), void *arg); /* fn may not sleep */
/*
 * May this host be switched off? Not while a VM runs, nor one that is off is here alone (disks, came_off), nor as
 * migrate_may_leave has it.
 */
int vm_may_leave(struct why *w) must_check;
/* Completion of a VM's name (struct con_sub). */
void vm_words(const char *what, void (*add)(void *arg, const char *word), void *arg);

/*
 * Admission: all the memory that a VM of this configuration takes is promised to r, before it is built and whoever else
 * comes in the same moment; -ENOMEM says what it needs, and what this host has free and keeps for itself. Building it
 * uses r up; in any case it is released, once or more often.
 */
struct vm_reservation {
	struct page_reservation pages;
};
int vm_memory_reserve(const struct vm_config *cfg, struct vm_reservation *r, struct why *w) must_check;
/* The same for other things of VMs: "a boot file needs". */
int vm_memory_reserve_for(const char *who, uint64_t pages, struct vm_reservation *r, struct why *w) must_check;
void vm_memory_release(struct vm_reservation *r);

/*
 * What it has booted from, or what came with it: with a reference, or NULL, if there is none or it is not known (its
 * source did not know it: a power-on then takes the file of this host that its configuration names). vm_set_file takes
 * f over.
 */
const char *vm_file_name(const struct vm *vm, enum vm_file_use use); /* in its configuration; "" is none */
struct boot_file *vm_get_file(struct vm *vm, enum vm_file_use use);
void vm_set_file(struct vm *vm, enum vm_file_use use, struct boot_file *f);
/*
 * Has what a power-on needs of this host, whose network and files it may lack: -ENOENT, and w says which; else vm->file
 * has all of it. vm->lock is held.
 */
int vm_boot_files(struct vm *vm, struct why *w) must_check;

/* What the guest's drivers will be told of each network for as long as it runs, wherever it moves. vm->lock is held. */
int vm_take_mtus(struct vm *vm, struct why *w) must_check;
int vm_start(struct vm *vm, struct why *w) must_check; /* boot from its kernel; -EBUSY, -ENOMEM, -ENOENT... */
/* Who starts a VM that is off: how sure it must be that no other host has it, and how long that may take. */
enum vm_start_by {
	VM_START_OPERATOR,
	VM_START_AUTO,  /* as long as it takes */
	VM_START_ALONE, /* the same, but 30 s of silence say that nobody has it */
};
/* Who waits for a start: asked in the starter's task, several times a second, whether to give it up. */
struct vm_waiter {
	bool (*leaves)(void *arg, const char *waits_for); /* waits_for: "asks b, c, 4 s" */
	void *arg;
};
/*
 * Who knows of other hosts; kernel/main.c registers it before vmm_init. may_start: vm->lease is ASKING. 0: it may start
 * here, and the lease is TAKEN. -EEXIST: a host has it, receives it or is about to start it. -EAGAIN (the operator): it
 * cannot be known. -EINTR: the waiter (NULL: nobody) left. w says what and who. Sleeps. started: it runs here.
 */
struct vm_guard {
	int (*may_start)(struct vm *vm, enum vm_start_by by, const struct vm_waiter *waiter, struct why *w);
	void (*started)(struct vm *vm);
};
extern struct vm_guard vm_guard;
/* vm_start, by the operator, unless the guard says no. With force nobody is asked. waiter may be NULL. Sleeps. */
int vm_start_here(struct vm *vm, bool force, const struct vm_waiter *waiter, struct why *w) must_check;
static inline bool vm_lease(struct vm *vm, enum vm_lease from, enum vm_lease to)
{
	return __atomic_compare_exchange_n(&vm->lease, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
/* Whoever asks for it, to start it, finds that his lease has gone. TAKEN stays: a start is under way. */
static inline void vm_lease_drop(struct vm *vm)
{
	if (!vm_lease(vm, VM_LEASE_ASKING, VM_LEASE_NONE))
		(void)vm_lease(vm, VM_LEASE_YIELDED, VM_LEASE_NONE);
}
int vm_stop(struct vm *vm, struct why *w); /* power cut: STOPPED, memory freed. May sleep */
/* Ask the guest to shut down: its power button. -EINVAL: it does not run; -ENOTSUP: it takes no notice. */
int vm_press_power(struct vm *vm, struct why *w) must_check;
/* STOPPED: out of the table, until this host is restarted. force: with what is on its disks. */
int vm_remove(struct vm *vm, bool force, struct why *w);
/* Contain a guest's fault: the VM stops, is FAILED, and says why. From a vCPU or device context. */
void vm_fail(struct vm *vm, const char *fmt, ...) printf_like(2, 3);
/* The guest's own wish; done by a task of the VM's own, since a vCPU cannot tear itself down. Any context. */
void vm_request_power_off(void *vm);
void vm_request_reset(void *vm);

/*
 * All vCPUs out of guest mode, devices quiescent, frames for its cards kept (vm_port.h); state PAUSED. Nests not.
 * vm_resume goes on at the very next instruction.
 */
int vm_pause(struct vm *vm) must_check; /* -EINVAL unless RUNNING */
void vm_resume(struct vm *vm);          /* PAUSED or INCOMING (loaded) -> RUNNING */
/* The operator's: the same, unless it moves (-EBUSY). What time it is in the guest goes on meanwhile. */
int vm_suspend(struct vm *vm, struct why *w) must_check; /* -EINVAL unless it runs */
int vm_go_on(struct vm *vm, struct why *w) must_check;   /* -EINVAL unless PAUSED */

/* ---- for vmm/migrate ---- */
/*
 * Destination: a skeleton with memory, devices and vCPUs from cfg; INCOMING. -EEXIST name in use, -ENOMEM, -EINVAL, or
 * what p says. beside (NULL: none): the VM of this host that it is to replace (vm_new_beside). r: its reservation
 * (NULL: it makes one); p hears how far the clearing of its memory is (NULL: nobody), which takes seconds.
 */
int vm_create_incoming(const struct vm_config *cfg, struct vm *beside, struct vm_reservation *r,
		       const struct gmem_progress *p, struct vm **vm, struct why *w) must_check;
/* The same of a VM that is stopped, and will be: disks, and no more. */
int vm_create_stopped(const struct vm_config *cfg, struct vm *beside, struct vm **vm, struct why *w) must_check;
/* A skeleton is complete, and now this host's: INCOMING -> RUNNING, PAUSED or STOPPED. */
void vm_arrive(struct vm *vm, enum vm_state as);
/*
 * Drop a skeleton, or the source's image after STARTED, or a stopped VM that has left: frees everything, leaves the
 * table.
 */
void vm_destroy(struct vm *vm);
/*
 * Every section that migrates, in load order: vcpu state and lapic of each vCPU, clock, devices. VM paused or INCOMING.
 */
void vm_for_each_section(struct vm *vm, void (*fn)(void *arg, const struct sdesc *d, uint32_t instance, void *obj),
			 void *arg);
/*
 * Guest memory that tern itself reads and writes while the guest runs, so that no entry waits for it: what KVM's
 * interfaces have there, and virtqueues. gpa is the guest's word; pieces may overlap. As vm_for_each_section.
 */
void vm_for_each_hot(struct vm *vm, void (*fn)(void *arg, gpa_t gpa, size_t len), void *arg);
/*
 * The source after pausing: reads hardware state into the objects that the sections describe; destination: the reverse.
 */
int vm_save_cpus(struct vm *vm, struct why *w) must_check;
int vm_load_cpus(struct vm *vm, struct why *w) must_check;
/* Announce it from its bridge port (net/announce.h), in rounds. False: it does not run here. May sleep. */
bool vm_announce(struct vm *vm);
/* INCOMING, loaded: let guest time advance by ns (the guest stood still that long) before vm_resume. */
void vm_advance_clock(struct vm *vm, uint64_t ns);
/* The migration has let go of vm (vm->migration is NULL again): a power-off or reset that waited for it is done now. */
void vm_migration_ended(struct vm *vm);
/* A guest's odd doings, for debugging: it may not fill the log, so the first lines only. */
#define GUEST_NOISE_MAX 64
#define guest_log(vm, fmt, ...)                                                \
	do {                                                                   \
		if ((vm)->noise < GUEST_NOISE_MAX && ++(vm)->noise)            \
			log_debug("vm %s: " fmt, (vm)->cfg.name, __VA_ARGS__); \
	} while (0)
