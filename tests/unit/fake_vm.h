/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One vCPU on a modelled AMD-V: arch/x86/svm.c and svm_state.c are the real ones, and so is all of the exit policy;
 * only VMRUN is a function of the test's, which puts an exit code into the VMCB. The guest has 4 MiB of RAM, page
 * tables of its own in it, code at FV_CODE, and one device of plain memory that counts its accesses.
 *
 *   gva 0..2M -> gpa same, in 4K pages   FV_DEV -> FV_DEV_GPA (device, 2M page)   all else: not mapped
 */
#pragma once
#include "arch/x86/svm_vcpu.h"
#include "vmm/x86/vcpu.h"

#define FV_CODE    0x10000ULL
#define FV_DATA    0x20000ULL
#define FV_PML4    0x1000ULL
#define FV_PT      0x5000ULL /* level 1 table of the first 2M */
#define FV_DEV     0x40000000ULL
#define FV_DEV_GPA 0xfe000000ULL
#define FV_PORT    0x300 /* 16 ports of the device's memory, from offset 0x800 */

struct fv {
	struct vm vm;
	struct vcpu vcpu;
	struct svm_vcpu hw;
	struct vmcb vmcb;
	uint8_t dev[PAGE_SIZE];
	unsigned nreads, nwrites, last_size;
	unsigned resets;
	char fail[160];                             /* vm_fail's text */
	uint64_t delivered;                         /* EVENTINJ at the last VMRUN */
	void (*vmrun)(struct fv *f, uint64_t *gpr); /* what the guest does; NULL: nothing */
	uint64_t exitcode, info1, info2, intinfo;
};

extern struct vcpu *fake_kicked; /* the last that vcpu_kick was called for */
extern uint64_t fake_rest_ns;    /* until when vcpu_rest was called, the last time */
extern bool fake_short;          /* a task waits for a CPU */
struct fv *fv_new(void);
void fv_free(struct fv *f);
void fv_reset(struct fv *f);                               /* long mode, CPL 0, registers 0, RIP = FV_CODE */
void fv_vendor(struct fv *f, const char name[12]);         /* in the guest's CPUID */
void fv_code(struct fv *f, const uint8_t *code, size_t n); /* at FV_CODE, RIP there */
uint64_t *fv_pte(struct fv *f, uint64_t gva);              /* of the first 2M */
/* Enter, exit with this code, and let exit.c handle it. */
void fv_exit(struct fv *f, uint64_t code, uint64_t info1, uint64_t info2);
