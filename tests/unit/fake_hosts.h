/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMs as migration sees them, for host-built tests: vmm/vm.h over the real gmem.c, pt.c and state.c, without CPUs. Two hosts
 * live in one process; which one a thread is on is the thread's own. Starting a VM that runs on the other host as well is
 * a panic: that is what the hand-over must never do.
 */
#pragma once
#include "vmm/vm.h"

extern _Thread_local int fake_host; /* 0 or 1 */

struct fake_vm_opts { /* of all VMs; zero: everything works */
	bool compat_refuse, create_nomem, load_fail;
	unsigned sections_skip;  /* leave out section n (1..) when the source walks them */
	unsigned sections_twice; /* walk section n twice */
	bool late_write;         /* saving a section writes to guest memory */
};
extern struct fake_vm_opts fake_vm_opts;

/* A RUNNING VM on this thread's host. */
struct vm *fake_vm_new(const char *name, uint64_t mem);
/* The VM of that name on a host, without a reference; NULL. */
struct vm *fake_vm_find(int host, const char *name);
/* The guest writes: only while it runs, else false. */
bool fake_guest_write(struct vm *vm, gpa_t gpa, const void *buf, size_t len);
/* Memory of the VM when it was last paused (mem bytes), and its state words then. */
extern uint8_t *fake_paused_image;
/* State that migrates: two devices of one kind. */
#define FAKE_DEVS 2
struct fake_dev {
	struct fake_dev_state {
		uint64_t regs[4];
		uint32_t mode;
		uint8_t fifo[12];
	} s;
	struct vm *vm;
};
struct fake_dev *fake_devs(struct vm *vm);
unsigned fake_announced(void); /* vm_announce calls so far */
unsigned fake_resumed(void);
