/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardware virtualisation behind one table of operations. The vendor's file (svm.c, vmx.c) decodes an exit into a
 * neutral struct vmexit; vmm/x86/exit.c decides. Nothing above this header says Intel or AMD.
 *
 * Life of a vCPU on hardware:   create -> [ load -> enter... -> put ]... -> destroy
 * Between load and put the task does not leave its CPU (or put and load run as the task's switch hooks).
 */
#pragma once
#include "arch/x86/hw/segment.h"
#include "arch/x86/hw/xsave.h"
#include "arch/x86/pt.h"
#include "kernel/base/bits.h"
#include "kernel/base/err.h"

enum {
	REG_RAX,
	REG_RCX,
	REG_RDX,
	REG_RBX,
	REG_RSP,
	REG_RBP,
	REG_RSI,
	REG_RDI,
	REG_R8 /* ..R15 = 15 */,
	REG_COUNT = 16
};

/*
 * Attributes as in the access-rights format of SDM 3C 25.4.1: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15,
 * unusable 16.
 */
struct seg_state {
	uint64_t base;
	uint32_t limit;
	uint32_t attr;
	uint64_t selector;
};

/*
 * An event to be delivered or that was cut short in delivery, as one word: vector 7:0, type 10:8, error code valid 11,
 * valid 31, error code 63:32.
 */
#define HV_EVENT_INTR          0
#define HV_EVENT_NMI           2
#define HV_EVENT_EXC           3
#define HV_EVENT_SOFT          4 /* INT n, needs the instruction's length */
#define HV_EVENT(type, vec)    (BIT(31) | (uint64_t)(type) << 8 | (vec))
#define HV_EVENT_ERR(vec, err) (HV_EVENT(HV_EVENT_EXC, vec) | BIT(11) | (uint64_t)(uint32_t)(err) << 32)

static inline unsigned hv_event_type(uint64_t event) { return event >> 8 & 7; }
static inline uint8_t hv_event_vector(uint64_t event) { return (uint8_t)event; }

enum { HV_SHADOW_STI = 1, HV_SHADOW_MOV_SS = 2 };

/*
 * The whole architectural state of one vCPU, the same for both vendors. All fields migrate (vmm/x86/cpu_state.c has
 * their table).
 */
struct cpu_state {
	uint64_t gpr[REG_COUNT];
	uint64_t rip, rflags;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
	uint64_t dr0, dr1, dr2, dr3, dr6, dr7;
	struct seg_state seg[SEG_COUNT];
	uint64_t gdt_base, idt_base;
	uint32_t gdt_limit, idt_limit;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux;
	uint64_t tsc;         /* guest TSC at the instant of the save */
	uint64_t event;       /* being delivered when the vCPU stopped; HV_EVENT format, 0: none */
	uint64_t event_next;  /* an interrupt that waits behind it: an exception cut its delivery short; 0: none */
	uint32_t int_shadow;  /* HV_SHADOW_*: AMD does not tell STI from MOV SS and gives STI */
	uint32_t nmi_blocked; /* in an NMI's handler; not by one that is still in event or event_next */
	uint32_t halted;      /* in HLT, waiting for an interrupt */
	uint32_t xsave_size;  /* bytes of xsave in use, standard format */
	uint8_t xsave[XSAVE_AREA_MAX];
	uint64_t cr8;
	uint64_t pending_debug; /* debug traps that wait behind a MOV SS, SDM 3C 25.4.2; 0 on AMD, which drops them */
	uint64_t nmi_pending;   /* an NMI that was sent and is not being delivered yet: 0 or 1 */
};

enum vmexit_kind {
	EXIT_HOST_IRQ, /* nothing to do: an interrupt or IPI of the host, taken as soon as interrupts are on */
	EXIT_HANDLED,  /* nothing to do: the vendor's code has done it (CR accesses of VT-x) */
	EXIT_CPUID,
	EXIT_MSR,
	EXIT_IO,
	EXIT_NPF, /* nested page fault / EPT violation */
	EXIT_HLT,
	EXIT_VMCALL,
	EXIT_IRQ_WINDOW, /* the guest can take an interrupt now */
	EXIT_XSETBV,
	EXIT_EXCEPTION,  /* an intercepted one: #DB, #AC, #MC, or #UD of what may be the other vendor's instruction */
	EXIT_CACHE,      /* INVD, WBINVD: skip */
	EXIT_UNDEFINED,  /* an instruction that this guest does not have: #UD */
	EXIT_PRIVILEGED, /* one that its policy denies (RDPMC...): #GP(0) */
	EXIT_BUS_LOCK,   /* hv_vcpu.bus_locked, and nothing else */
	EXIT_PAUSE,      /* it has spun for a while: PAUSEs at most HV_SPIN_GAP cycles apart */
	EXIT_RDTSC,      /* RDTSC and RDTSCP, where the guest's TSC rate is not the host's and hardware cannot scale */
	EXIT_SHUTDOWN,   /* triple fault */
	EXIT_INVALID,    /* entry refused: the guest's state is not representable; why[] explains */
};
struct vmexit {
	enum vmexit_kind kind;
	uint8_t len; /* instruction length if hardware told, else 0 */
	union {
		struct {
			uint32_t index;
			bool write;
		} msr;
		struct {
			uint64_t next_rip;
			uint16_t port;
			uint8_t size;      /* 1, 2, 4 */
			uint8_t addr_size; /* 2, 4, 8, for string forms */
			uint8_t seg;       /* SEG_*, for OUTS */
			bool in, string, rep;
		} io;
		struct {
			gpa_t gpa;
			bool write, fetch;
		} npf;
		struct {
			uint8_t vector;
			bool has_error;
			uint32_t error;
		} exc;
		char why[96];
	} u;
};

/* What generic code may read and write between exits. Vendors embed it as the first member of their own struct. */
struct hv_vcpu {
	uint64_t gpr[REG_COUNT]; /* incl. RSP */
	uint64_t rip, rflags;
	uint64_t cr8;           /* the task priority class, 0..15: the local APIC's TPR 7:4 (SDM 3A 11.8.6) */
	uint64_t fault_address; /* CR2 of a #PF; read by inject */
	uint64_t event_next;    /* waits behind an exception that cut its delivery short (cpu_state); 0: none */
	bool bus_locked; /* a locked access has stopped all CPUs, or is about to; who has seen to that clears it */
};

/* The mode the guest runs in, for its page walk and for decoding. */
struct hv_mode {
	uint64_t cr0, cr3, cr4, efer;
	uint64_t cs_base;
	uint8_t cpl;
	bool long_mode; /* CS.L with EFER.LMA */
	bool cs32;      /* CS.D */
};

struct hv_vcpu_params {
	hpa_t npt_root;
	const uint32_t *msr_pass; /* MSRs the guest reads and writes directly; all others exit */
	unsigned nmsr_pass;
};

#define HV_TSC_SAME BIT(32)

/* Spinning is told by hardware where that can: Intel's window in cycles (SDM 3C 26.1.3), AMD's in PAUSEs. */
#define HV_SPIN_GAP    128
#define HV_SPIN_WINDOW 4096

/* A capability of the CPU's virtualisation, for `host`: in the order of the manual's chapters. */
struct hv_feature {
	const char *name; /* "EPT", "NRIPS" */
	bool present, used;
};

struct hv_ops {
	const char *name;                  /* "AMD-V", "VT-x" */
	const struct hv_feature *features; /* true after probe */
	unsigned nfeatures;
	const struct pt_format *pt_format; /* .dirty 0: the CPU has no such bit, and no VM can be moved away */
	/* 0, or -ENOTSUP with the reason in one sentence. Boot CPU. */
	int (*probe)(struct why *w);
	int (*cpu_on)(void);                                       /* on each CPU, interrupts off: 0 or -errno */
	struct hv_vcpu *(*create)(const struct hv_vcpu_params *p); /* NULL: no memory */
	void (*destroy)(struct hv_vcpu *v);
	void (*load)(struct hv_vcpu *v); /* interrupts off: guest FPU, XCR0 and segment MSRs become live on this CPU */
	void (*put)(struct hv_vcpu *v);  /* interrupts off: taken off the CPU again */
	/*
	 * Run the guest until an exit. Interrupts off at call and at return; a pending host interrupt ends it as
	 * EXIT_HOST_IRQ.
	 */
	void (*enter)(struct hv_vcpu *v, struct vmexit *x);
	/*
	 * Whole state, vCPU not loaded. set: of a state that some CPU can have (vmm/x86/cpu_check.h has looked);
	 * -EINVAL with the reason if this CPU, or its virtualisation, cannot.
	 */
	void (*get_state)(struct hv_vcpu *v, struct cpu_state *s);
	int (*set_state)(struct hv_vcpu *v, const struct cpu_state *s, struct why *w);
	void (*get_mode)(struct hv_vcpu *v, struct hv_mode *m);
	/*
	 * Event delivery. Ready: nothing pending, no shadow, and RFLAGS.IF for an interrupt, or for an NMI no other one
	 * that has not returned; neither looks at priorities. inject replaces none of these, but an exception may cut
	 * one short.
	 */
	void (*inject)(struct hv_vcpu *v, uint64_t event);
	bool (*ready)(struct hv_vcpu *v, bool nmi);
	/*
	 * Exit (EXIT_IRQ_WINDOW) when an interrupt of priority class prio, vector 7:4, could be taken, CR8 included, or
	 * an NMI. 0 and false: do not. Returns false if the CPU has no such exit for the NMI: it waits for any other.
	 */
	bool (*window)(struct hv_vcpu *v, unsigned prio, bool nmi);
	/* The instruction has been emulated: moves RIP, ends the interrupt shadow, raises the trap of RFLAGS.TF. */
	void (*skip)(struct hv_vcpu *v, uint64_t next_rip);
	/*
	 * MSRs that live in hardware state (EFER, PAT...): 0 or -EINVAL (then #GP). set: a value that the MSR can have.
	 */
	int (*get_msr)(struct hv_vcpu *v, uint32_t msr, uint64_t *val);
	int (*set_msr)(struct hv_vcpu *v, uint32_t msr, uint64_t val);
	int (*set_xcr0)(struct hv_vcpu *v, uint64_t xcr0);
	/*
	 * Guest TSC = (host TSC * ratio >> 32) + offset; a ratio of HV_TSC_SAME is 1. Where hardware cannot scale,
	 * another ratio makes RDTSC and RDTSCP exit (EXIT_RDTSC).
	 */
	void (*set_tsc)(struct hv_vcpu *v, uint64_t offset, uint64_t ratio);
	void (*flush_tlb)(struct hv_vcpu *v); /* all of the guest's translations, at the next entry */
};

/* What this CPU must have for a state, on either vendor. 0, or -EINVAL with the reason. */
int hv_check_state(const struct cpu_state *s, struct why *w);

/* What the vendor's code needs of the kernel. Blocks of 2^order zeroed pages; ~0: none. */
struct hv_env {
	hpa_t (*alloc)(unsigned order);
	void (*free)(hpa_t hpa, unsigned order);
};
/* The one for this CPU, or NULL with the reason. Boot CPU, once; then cpu_on() on every CPU. */
const struct hv_ops *hv_detect(const struct hv_env *env, struct why *w);
