/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AMD-V structures (APM volume 2, chapter 15 and appendix B, C). Private to svm*.
 */
#pragma once
#include "kernel/base/bits.h"

#define MSR_VM_CR       0xc0010114 /* APM2 15.30.1 */
#define VM_CR_SVMDIS    BIT(4)
#define MSR_VM_HSAVE_PA 0xc0010117

/* clang-format off */
enum { /* intercept words at 0x00c and 0x010, as bit numbers (APM2 appendix B, table B-1) */
	SVM_I1_INTR = BIT(0), SVM_I1_NMI = BIT(1), SVM_I1_INIT = BIT(3), SVM_I1_VINTR = BIT(4), SVM_I1_RDTSC = BIT(14),
	SVM_I1_RDPMC = BIT(15), SVM_I1_CPUID = BIT(18), SVM_I1_IRET = BIT(20), SVM_I1_INVD = BIT(22),
	SVM_I1_PAUSE = BIT(23), SVM_I1_HLT = BIT(24), SVM_I1_INVLPGA = BIT(26), SVM_I1_IOIO = BIT(27),
	SVM_I1_MSR = BIT(28), SVM_I1_TASK = BIT(29), SVM_I1_FERR = BIT(30),
};
/* clang-format on */
#define SVM_I1_SHUTDOWN BIT(31)
/* clang-format off */
enum {
	SVM_I2_VMRUN = BIT(0), SVM_I2_VMMCALL = BIT(1), SVM_I2_VMLOAD = BIT(2), SVM_I2_VMSAVE = BIT(3),
	SVM_I2_STGI = BIT(4), SVM_I2_CLGI = BIT(5), SVM_I2_SKINIT = BIT(6), SVM_I2_RDTSCP = BIT(7),
	SVM_I2_WBINVD = BIT(9), SVM_I2_MONITOR = BIT(10), SVM_I2_MWAIT = BIT(11), SVM_I2_MWAIT_ARMED = BIT(12),
	SVM_I2_XSETBV = BIT(13), SVM_I2_RDPRU = BIT(14),
};
enum {
	SVM_I3_INVLPGB = BIT(0), SVM_I3_INVLPGB_ILLEGAL = BIT(1), SVM_I3_MCOMMIT = BIT(3), SVM_I3_TLBSYNC = BIT(4),
	SVM_I3_BUS_LOCK = BIT(5),
};

enum { /* EXITCODE, APM2 appendix C */
	SVM_EXIT_EXCP_BASE = 0x40, SVM_EXIT_EXCP_LAST = 0x5f, SVM_EXIT_INTR = 0x60, SVM_EXIT_NMI = 0x61,
	SVM_EXIT_SMI = 0x62, SVM_EXIT_INIT = 0x63, SVM_EXIT_VINTR = 0x64, SVM_EXIT_RDTSC = 0x6e, SVM_EXIT_RDPMC = 0x6f,
	SVM_EXIT_CPUID = 0x72, SVM_EXIT_IRET = 0x74, SVM_EXIT_INVD = 0x76, SVM_EXIT_PAUSE = 0x77, SVM_EXIT_HLT = 0x78,
	SVM_EXIT_INVLPGA = 0x7a, SVM_EXIT_IOIO = 0x7b, SVM_EXIT_MSR = 0x7c, SVM_EXIT_TASK = 0x7d, SVM_EXIT_FERR = 0x7e,
	SVM_EXIT_SHUTDOWN = 0x7f, SVM_EXIT_VMRUN = 0x80, SVM_EXIT_VMMCALL = 0x81, SVM_EXIT_VMLOAD = 0x82,
	SVM_EXIT_SKINIT = 0x86, SVM_EXIT_RDTSCP = 0x87, SVM_EXIT_WBINVD = 0x89, SVM_EXIT_MONITOR = 0x8a,
	SVM_EXIT_MWAIT = 0x8b, SVM_EXIT_MWAIT_ARMED = 0x8c, SVM_EXIT_XSETBV = 0x8d, SVM_EXIT_RDPRU = 0x8e,
	SVM_EXIT_INVLPGB = 0xa0, SVM_EXIT_TLBSYNC = 0xa4, SVM_EXIT_BUS_LOCK = 0xa5, SVM_EXIT_NPF = 0x400,
};
/* clang-format on */

#define SVM_INT_V_TPR          0xfULL
#define SVM_INT_V_IRQ          BIT(8)
#define SVM_INT_V_PRIO_SHIFT   16
#define SVM_INT_V_PRIO         (0xfULL << SVM_INT_V_PRIO_SHIFT)
#define SVM_INT_V_IGN_TPR      BIT(20)
#define SVM_INT_V_INTR_MASKING BIT(24)
#define SVM_TLB_FLUSH_ALL      1
#define SVM_EVENT_VALID        BIT(31)

/* EXITINFO1 of an I/O exit, APM2 15.10.2. The size of the operand is in bits 6:4, the segment in 12:10. */
#define SVM_IO_IN     BIT(0)
#define SVM_IO_STRING BIT(2)
#define SVM_IO_REP    BIT(3)
#define SVM_IO_A16    BIT(7)
#define SVM_IO_A32    BIT(8)
#define SVM_IO_A64    BIT(9)

struct svm_seg {
	uint16_t selector, attr; /* attr: access-rights bits 7:0, then AVL, L, D/B, G in 11:8 */
	uint32_t limit;
	uint64_t base;
} PACKED;
#define SVM_SEG_L 0x200U
#define SVM_SEG_D 0x400U

struct vmcb { /* one 4K page */
	uint32_t cr_intercepts, dr_intercepts, exception_intercepts, intercept1, intercept2, intercept3;
	uint8_t pad018[0x03c - 0x018];
	uint16_t pause_threshold, pause_count;
	uint64_t iopm_pa, msrpm_pa, tsc_offset; /* 0x040 */
	uint32_t asid;                          /* 0x058 */
	uint8_t tlb_control, pad05d[3];
	uint64_t int_ctl, int_state;                          /* 0x060 */
	uint64_t exitcode, exitinfo1, exitinfo2, exitintinfo; /* 0x070 */
	uint64_t np_enable, avic, ghcb, eventinj, ncr3, lbr;  /* 0x090 */
	uint32_t clean, pad0c4;                               /* 0x0c0 */
	uint64_t nrip;                                        /* 0x0c8 */
	uint8_t nbytes, bytes[15];                            /* 0x0d0 */
	uint8_t pad0e0[0x120 - 0x0e0];
	uint16_t bus_locks; /* 0x120: as many may be until one exits (15.14.5) */
	uint8_t pad122[0x400 - 0x122];
	struct svm_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; /* 0x400 */
	uint8_t pad4a0[0x4cb - 0x4a0], cpl;
	uint32_t pad4cc;
	uint64_t efer; /* 0x4d0 */
	uint8_t pad4d8[0x548 - 0x4d8];
	uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 0x548 */
	uint8_t pad580[0x5d8 - 0x580];
	uint64_t rsp, s_cet, ssp, isst, rax;                                                               /* 0x5d8 */
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2; /* 0x600 */
	uint8_t pad648[0x668 - 0x648];
	uint64_t pat; /* 0x668 */
	uint8_t pad670[0x1000 - 0x670];
} PACKED;
_Static_assert(offsetof(struct vmcb, iopm_pa) == 0x040 && offsetof(struct vmcb, int_ctl) == 0x060, "VMCB");
_Static_assert(offsetof(struct vmcb, eventinj) == 0x0a8 && offsetof(struct vmcb, nrip) == 0x0c8, "VMCB");
_Static_assert(offsetof(struct vmcb, bus_locks) == 0x120 && offsetof(struct vmcb, es) == 0x400, "VMCB");
_Static_assert(offsetof(struct vmcb, cpl) == 0x4cb && offsetof(struct vmcb, cr4) == 0x548, "VMCB");
_Static_assert(offsetof(struct vmcb, rax) == 0x5f8 && offsetof(struct vmcb, cr2) == 0x640, "VMCB");
_Static_assert(offsetof(struct vmcb, pat) == 0x668 && sizeof(struct vmcb) == 4096, "VMCB");

/*
 * svm_entry.S: GIF off, guest registers in, VMRUN, guest registers out, host segment state back, GIF on. gpr points to
 * 16 registers in the order of hv.h (RAX and RSP are the VMCB's). Interrupts are off before and after.
 */
void svm_world_switch(uint64_t *gpr, hpa_t vmcb, hpa_t host_vmcb);
