/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU: a task that enters the guest, and how others reach it. Exits are decided in exit.c; this file's vcpu.c holds
 * the run loop, kicks, pausing and the flush protocol.
 */
#pragma once
#include "arch/x86/hv.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "vmm/vm.h"

#define VCPU_MTRR_RESET 0x806                        /* MTRRs enabled, default write-back */
static inline bool msr_mtrr_valid(uint64_t def_type) /* type in 7:0, FE 10, E 11 (SDM 3A 12.11.2.1) */
{
	return !(def_type & ~0xcffULL) && (def_type & 0xff) <= 6 && (def_type & 0xfe) != 2;
}

enum vcpu_want { VCPU_WANT_RUN, VCPU_WANT_PARK, VCPU_WANT_QUIT };

struct vcpu_msr_state {                   /* migrates: MSRs that live in software */
	uint64_t system_time, wall_clock; /* KVM paravirtual clock, as the guest wrote them */
	uint64_t mtrr_def_type, misc_enable;
	uint32_t halted; /* in HLT */
	uint32_t nmi_pending;
};

/*
 * (c) const after create  [v] the vCPU's task, or it is parked  [l] lock  [a] atomic
 */
struct vcpu {
	struct vm *vm;             /* (c) */
	unsigned id;               /* (c) = APIC id */
	struct hv_vcpu *hv;        /* [v] */
	struct vlapic lapic;       /* [v], IRR [a] */
	struct vcpu_msr_state msr; /* [v] */
	struct cpu_state *state;   /* [v] image of the hardware state while parked and saved */
	struct timer timer;        /* the LAPIC timer's next deadline */
	uint64_t timer_armed_ns;   /* [v] what `timer` is set to, 0: nothing */

	struct spinlock lock;
	struct waitq wq;        /* the task waits here: halted, parked */
	enum vcpu_want want;    /* [l] */
	bool parked;            /* [l] */
	struct completion gone; /* the task has ended */

	uint32_t seq;                     /* [a] odd: in the guest or about to enter; see vcpu_flush */
	uint32_t cpu;                     /* [a] host CPU while seq is odd */
	uint8_t timer_check;              /* [a] the LAPIC timer was touched or is due */
	uint8_t kicked;                   /* [a] something to look at before the next entry */
	uint8_t flush;                    /* [a] take new translations at the next entry */
	bool asked;                       /* [v] at the last entry there was something to ask a window for */
	uint8_t nmi;                      /* [a] an NMI to inject */
	uint64_t exits[EXIT_INVALID + 1]; /* [v] by kind */
};

int vcpu_create(struct vm *vm, unsigned id, struct vcpu **v) must_check; /* parked */
void vcpu_destroy(struct vcpu *v);                                       /* ends the task; not from a vCPU's task */
void vcpu_park(struct vcpu *v);               /* returns when it is out of the guest, its state saved to v->state */
void vcpu_hold(struct vcpu *v);               /* any context: it leaves the guest soon and parks; does not wait */
void vcpu_unpark(struct vcpu *v);             /* goes on from v->state; v->state has been accepted by vcpu_load */
int vcpu_load(struct vcpu *v, struct why *w); /* parked: v->state into hardware form */
void vcpu_kick(struct vcpu *v);               /* any context: wake it, or take it out of the guest for a look */
void vcpu_flush(struct vcpu *v);              /* returns when it holds no older translation. Tasks only */

/*
 * The whole state of a vCPU that is handling an exit, to be changed and given back; it is off the hardware meanwhile.
 * Slow, for what happens rarely. Its own task, interrupts on.
 */
struct cpu_state *vcpu_state_take(struct vcpu *v);
void vcpu_state_give(struct vcpu *v); /* the VM fails if it is not one that the CPU can have */

/* exit.c: handle one exit, interrupts on. */
void exit_handle(struct vcpu *v, struct vmexit *x);
/*
 * The instruction is done, go on at next_rip: ends the interrupt shadow and RF, and raises the trap of single-stepping.
 */
void exit_done(struct vcpu *v, uint64_t next_rip);
void exit_repeat(struct vcpu *v);                /* one turn of a REP is done, the same instruction goes on */
void exit_fault(struct vcpu *v, uint64_t event); /* raise an exception of the fault class instead: HV_EVENT format */
void exit_hypercall(struct vcpu *v);             /* VMCALL or VMMCALL, but for stepping over it */

/*
 * foreign.c: instructions that the vendor whose CPU the guest was started on has, and this host's does not (or not in
 * this mode): after #UD. True: it is done, or has raised the exception that it would there. False: #UD is right.
 */
bool foreign_emulate(struct vcpu *v);
enum cpu_vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD };
enum cpu_vendor guest_vendor(const struct vm *vm); /* as its CPUID says, wherever it runs */

/* msr.c: 0, or -EINVAL for #GP. */
int msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
int msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
extern const uint32_t msr_pass_list[];
extern const unsigned nmsr_pass_list;

/* insn.c: guest code. */
#define INSN_MAX 15
/*
 * gva -> gpa by the guest's page tables (SDM 3A 4.5), with what the current privilege may do; a write sets D. 0,
 * -EFAULT: not mapped or not allowed (walk_fault() makes the event that the CPU would raise), -ENOTSUP: paging that
 * tern does not read (32 bits).
 */
int walk_gva(struct vcpu *v, const struct hv_mode *m, uint64_t gva, bool write, gpa_t *gpa);
uint64_t walk_fault(struct vcpu *v, const struct hv_mode *m, bool write);
/* Copy up to a page between guest RAM and buf; 0, or as walk_gva, with nothing written; -ENXIO: not RAM. */
int gva_copy(struct vcpu *v, const struct hv_mode *m, uint64_t gva, void *buf, size_t len, bool write);
struct ZydisDecoder_;
bool insn_decoder(const struct hv_mode *m, struct ZydisDecoder_ *d); /* set up for the mode the guest runs in */
unsigned insn_fetch(struct vcpu *v, const struct hv_mode *m, uint8_t buf[INSN_MAX]); /* bytes at RIP that are there */
/* An instruction of the two-byte map, 0F xx, without operands; or one of group 0F 01, with its third byte. */
struct insn_op {
	uint32_t opcode; /* 0x0f05, 0x0f01c1... */
	uint8_t len;     /* with prefixes */
	bool lock, rex_w;
};
bool insn_opcode(struct vcpu *v, const struct hv_mode *m,
		 struct insn_op *op); /* at RIP; false: unreadable or another */
/*
 * Length of the instruction at RIP whose opcode bytes are expected to be op[0..n); decoded if it has prefixes. 0:
 * unreadable.
 */
unsigned insn_length(struct vcpu *v, const uint8_t *op, unsigned n);
/* mmio.c: emulate the instruction that touched gpa outside RAM. 0, or -errno: the VM cannot go on (why says). */
int mmio_emulate(struct vcpu *v, gpa_t gpa, bool write, struct why *w);

/* clock.c */
uint64_t guest_tsc(const struct vm *vm);
uint64_t guest_tsc_at(const struct vm *vm, uint64_t host_tsc);
uint64_t guest_ns(const struct vm *vm);
void clock_begin(struct vm *vm, uint64_t host_tsc); /* from vm->clock.s on: guest time is that at this instant */
void clock_save(struct vm *vm, uint64_t host_tsc);  /* guest time at this instant into vm->clock.s */
void clock_advance(struct vm *vm, uint64_t ns);     /* the guest stood still so long */
void clock_update(struct vcpu *v);                  /* write the vCPU's pvclock page, if it has one */
/* The same for a vCPU that goes on from v->state; after a long stop the page says so. */
void clock_resume(struct vcpu *v, uint64_t host_tsc);
void clock_write_wall(struct vcpu *v, gpa_t gpa);
extern const struct sdesc clock_desc;                    /* object: struct vm_clock */
extern const struct sdesc cpu_state_desc, vcpu_msr_desc; /* objects: struct cpu_state; struct vcpu */

/* A guest's odd doings, for debugging: it may not fill the log, so the first lines only. */
#define GUEST_NOISE_MAX 64
#define guest_log(vm, fmt, ...)                                                \
	do {                                                                   \
		if ((vm)->noise < GUEST_NOISE_MAX && ++(vm)->noise)            \
			log_debug("vm %s: " fmt, (vm)->cfg.name, __VA_ARGS__); \
	} while (0)

/* From devices and exits: done by a task of the VM's own, since a vCPU cannot tear itself down. */
void vm_request_power_off(void *vm);
void vm_request_reset(void *vm);
