/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tern itself asks CPUID for, as CPUID<leaf>_<register>_<feature> (SDM 2A, CPUID; APM3 appendix E). What a guest
 * is given is in arch/x86/features.def. Definitions only; every room may include this.
 */
#pragma once
#include "kernel/base/bits.h"

#define CPUID0_EBX_GENU                   0x756e6547U /* "Genu", of "GenuineIntel" */
#define CPUID0_EBX_AUTH                   0x68747541U /* "Auth", of "AuthenticAMD" */
#define CPUID1_ECX_PCLMULQDQ              BIT(1)
#define CPUID1_ECX_VMX                    BIT(5)
#define CPUID1_ECX_SSSE3                  BIT(9)
#define CPUID1_ECX_SSE4_2                 BIT(20)
#define CPUID1_ECX_X2APIC                 BIT(21)
#define CPUID1_ECX_MOVBE                  BIT(22)
#define CPUID1_ECX_TSC_DEADLINE           BIT(24)
#define CPUID1_ECX_AES                    BIT(25)
#define CPUID1_ECX_XSAVE                  BIT(26)
#define CPUID1_ECX_AVX                    BIT(28)
#define CPUID1_ECX_RDRAND                 BIT(30)
#define CPUID1_ECX_HYPERVISOR             BIT(31) /* this is a guest */
#define CPUID1_EDX_HTT                    BIT(28) /* EBX 23:16 means something */
#define CPUID7_EBX_TSC_ADJUST             BIT(1)
#define CPUID7_EBX_AVX2                   BIT(5)
#define CPUID7_EBX_SMEP                   BIT(7)
#define CPUID7_EBX_ERMS                   BIT(9) /* REP MOVSB and STOSB are fast; AMD's Zen 3 and later have it too */
#define CPUID7_EBX_RDSEED                 BIT(18)
#define CPUID7_EDX_ARCH_CAP               BIT(29) /* there is IA32_ARCH_CAPABILITIES */
#define CPUID80000001_ECX_SVM             BIT(2)
#define CPUID80000001_ECX_CMP_LEGACY      BIT(1)     /* with HTT: it counts cores (APM3 E.4.2) */
#define CPUID80000001_EDX_REPEATS         0x0183f3ff /* AMD: as leaf 1's (the same) */
#define CPUID80000001_EDX_NX              BIT(20)
#define CPUID80000001_EDX_PAGE1GB         BIT(26)
#define CPUID80000001_EDX_RDTSCP          BIT(27)
#define CPUID80000008_EBX_RSTRFPERR       BIT(2) /* XRSTOR loads FIP, FDP and FOP always */
#define CPUID8000000A_EDX_NP              BIT(0) /* nested paging */
#define CPUID8000000A_EDX_NRIPS           BIT(3) /* the next RIP is saved at exits */
#define CPUID8000000A_EDX_PAUSE_FILTER    BIT(10)
#define CPUID8000000A_EDX_PAUSE_THRESHOLD BIT(12)
#define CPUID8000000A_EDX_BUS_LOCK        BIT(29) /* exits at locked accesses over two cache lines */

/* Leaf 0x40000001's EAX where KVM's interface is offered (Linux: Documentation/virt/kvm/x86/cpuid.rst). */
#define KVM_FEATURE_NOP_IO_DELAY       BIT(1)
#define KVM_FEATURE_CLOCKSOURCE2       BIT(3)
#define KVM_FEATURE_STEAL_TIME         BIT(5)
#define KVM_FEATURE_PV_EOI             BIT(6)
#define KVM_FEATURE_PV_UNHALT          BIT(7)
#define KVM_FEATURE_PV_TLB_FLUSH       BIT(9)
#define KVM_FEATURE_PV_SEND_IPI        BIT(11)
#define KVM_FEATURE_POLL_CONTROL       BIT(12)
#define KVM_FEATURE_PV_SCHED_YIELD     BIT(13)
#define KVM_FEATURE_MSI_EXT_DEST_ID    BIT(15)
#define KVM_FEATURE_CLOCKSOURCE_STABLE BIT(24)
