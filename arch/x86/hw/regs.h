/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPU's registers by their names in the manuals: control and debug registers (SDM 3A 2.5 and 17.2, APM2 3.1),
 * RFLAGS (SDM 1 3.4.3), MSRs (SDM 4), exception vectors (SDM 3A table 6-1). Definitions only; every room may include
 * this, assembly too.
 */
#pragma once
#include "kernel/base/bits.h"

/* Control register bits. */
#define CR0_PE         BIT(0)
#define CR0_MP         BIT(1)
#define CR0_EM         BIT(2)
#define CR0_TS         BIT(3)
#define CR0_ET         BIT(4)
#define CR0_NE         BIT(5)
#define CR0_WP         BIT(16)
#define CR0_AM         BIT(18)
#define CR0_NW         BIT(29)
#define CR0_CD         BIT(30)
#define CR0_PG         BIT(31)
#define CR0_DEFINED    0xe005003fULL /* all of these */
#define CR4_TSD        BIT(2)
#define CR4_PSE        BIT(4)
#define CR4_PAE        BIT(5)
#define CR4_MCE        BIT(6)
#define CR4_PGE        BIT(7)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_ALWAYS     0x7ffULL /* VME .. OSXMMEXCPT: every CPU with long mode has them */
#define CR4_UMIP       BIT(11)
#define CR4_LA57       BIT(12)
#define CR4_VMXE       BIT(13)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)
#define CR4_PKE        BIT(22)
#define EFER_SCE       BIT(0)
#define EFER_LME       BIT(8)
#define EFER_LMA       BIT(10)
#define EFER_NXE       BIT(11)
#define EFER_SVME      BIT(12)
#define RFLAGS_CF      BIT(0)
#define RFLAGS_PF      BIT(2)
#define RFLAGS_AF      BIT(4)
#define RFLAGS_ZF      BIT(6)
#define RFLAGS_SF      BIT(7)
#define RFLAGS_TF      BIT(8)
#define RFLAGS_IF      BIT(9)
#define RFLAGS_DF      BIT(10)
#define RFLAGS_OF      BIT(11)
#define RFLAGS_RF      BIT(16)
#define RFLAGS_VM      BIT(17)
#define RFLAGS_ALWAYS  BIT(1)
#define RFLAGS_DEFINED 0x3f7fd7ULL
#define DR6_TRAPS      0xfULL
#define DR6_BS         BIT(14)
#define DR6_RESET      0xffff0ff0ULL
#define DR7_GD         BIT(13)
/* The rest of the state after power-on, RESET and INIT (SDM 3A table 10-1), and after FNINIT. */
#define DR7_RESET      0x400
#define RESET_CS       0xf000
#define RESET_BASE     (0xffffU << 16)
#define RESET_IP       0xfff0
#define MXCSR_RESET    0x1f80
#define FCW_FNINIT     0x37f

/* MSRs that both vendors have. */
#define MSR_TSC             0x10
#define MSR_PLATFORM_ID     0x17 /* Intel's */
#define MSR_APIC_BASE       0x1b
#define MSR_TSC_ADJUST      0x3b
#define MSR_PATCH_LEVEL     0x8b /* BIOS_SIGN_ID, Intel's name */
#define MSR_MTRR_CAP        0xfe
#define MSR_ARCH_CAP        0x10a /* IA32_ARCH_CAPABILITIES; Intel's */
#define MSR_SYSENTER_CS     0x174
#define MSR_SYSENTER_ESP    0x175
#define MSR_SYSENTER_EIP    0x176
#define MSR_MISC_ENABLE     0x1a0 /* Intel's */
#define MSR_PAT             0x277
#define MSR_MTRR_DEF_TYPE   0x2ff
#define MSR_TSC_DEADLINE    0x6e0
#define MSR_X2APIC          0x800 /* ..0x8ff */
#define MSR_XSS             0xda0
#define MSR_EFER            0xc0000080
#define MSR_STAR            0xc0000081
#define MSR_LSTAR           0xc0000082
#define MSR_CSTAR           0xc0000083
#define MSR_SFMASK          0xc0000084
#define MSR_FS_BASE         0xc0000100
#define MSR_GS_BASE         0xc0000101
#define MSR_KERNEL_GS_BASE  0xc0000102
#define MSR_TSC_AUX         0xc0000103
/* AMD's (PPR, APM2 appendix A). */
#define MSR_K8_SYSCFG       0xc0010010
#define MSR_K7_HWCR         0xc0010015
#define MSR_AMD_NB_CFG      0xc001001f
#define MSR_AMD64_DE_CFG    0xc0011029
/* Those of a guest of KVM's interface (Linux: Documentation/virt/kvm/x86/msr.rst). */
#define MSR_KVM_WALL_CLOCK  0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define MSR_KVM_STEAL_TIME  0x4b564d03
#define MSR_KVM_PV_EOI_EN   0x4b564d04
#define MSR_KVM_POLL        0x4b564d05 /* MSR_KVM_POLL_CONTROL */

#define PAT_POWER_ON   0x0007040600070406ULL /* SDM 3A table 12-12: WB WT UC- UC, twice; PCD and PWT: UC */
#define APIC_BASE_BSP  BIT(8)
#define APIC_BASE_EXTD BIT(10) /* x2APIC */
#define APIC_BASE_EN   BIT(11)
#define APIC_BASE_ADDR 0x000ffffffffff000ULL

/* IA32_MISC_ENABLE (SDM 4 table 2-2), IA32_MTRR_DEF_TYPE (SDM 3A 12.11.2.1). */
#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS       BIT(11)
#define MISC_ENABLE_NO_PEBS      BIT(12)
#define MTRR_TYPE_WB             6
#define MTRR_DEF_ENABLE          BIT(11)
#define MTRR_CAP_WC              BIT(10) /* no variable, no fixed ranges: everything has the default type */
#define DE_CFG_LFENCE            BIT(1)  /* LFENCE is serialising: Linux sets it, the host keeps it */
#define ARCH_CAP_PSCHANGE        BIT(6)  /* a page may change its size while it is executed */

#ifndef __ASSEMBLER__
/* clang-format off */
enum { /* exception vectors, SDM 3A table 6-1 */
	VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8, VEC_TS = 10, VEC_NP = 11,
	VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18, VEC_XM = 19,
};
/* clang-format on */
#endif
/* A page fault's error code, SDM 3A 4.7; of a nested one too, APM2 15.25.6. */
#define PF_P BIT(0) /* the page is mapped: it is a matter of rights */
#define PF_W BIT(1)
#define PF_U BIT(2)
#define PF_I BIT(4) /* an instruction fetch */
