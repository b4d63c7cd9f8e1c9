/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VT-x structures: capability MSRs, controls and VMCS fields by their names in SDM volume 3 (chapters 25 to 28,
 * appendices A and B). Private to vmx*.
 */
#pragma once
#include "kernel/base/bits.h"

#define VMCS_HOST_RSP 0x6c14 /* HOST_RSP, for vmx_entry.S */
#ifndef __ASSEMBLER__

#define MSR_FEATURE_CONTROL   0x3a
#define FEATURE_CONTROL_LOCK  BIT(0)
#define FEATURE_CONTROL_VMXON BIT(2) /* outside SMX */
#define MSR_VMX_BASIC         0x480
#define MSR_VMX_CR0_FIXED0    0x486
#define MSR_VMX_CR0_FIXED1    0x487
#define MSR_VMX_CR4_FIXED0    0x488
#define MSR_VMX_CR4_FIXED1    0x489
#define MSR_VMX_PROC2         0x48b
#define MSR_VMX_EPT_VPID_CAP  0x48c
#define MSR_VMX_TRUE_PIN      0x48d
#define VMX_BASIC_REVISION    0x7fffffff
#define VMX_BASIC_INS_OUTS    BIT(54) /* exits of INS and OUTS give instruction information */
#define VMX_BASIC_TRUE        BIT(55)

/* clang-format off */
enum { /* pin-based controls */
	PIN_EXT_INT = BIT(0), PIN_NMI = BIT(3), PIN_VIRTUAL_NMI = BIT(5), PIN_PREEMPTION_TIMER = BIT(6),
	PIN_POSTED_INT = BIT(7),
};
enum { /* primary processor-based controls */
	PROC_IRQ_WINDOW = BIT(2), PROC_TSC_OFFSET = BIT(3), PROC_HLT = BIT(7), PROC_INVLPG = BIT(9),
	PROC_MWAIT = BIT(10), PROC_RDPMC = BIT(11), PROC_RDTSC = BIT(12), PROC_CR3_LOAD = BIT(15),
	PROC_CR3_STORE = BIT(16), PROC_CR8_LOAD = BIT(19), PROC_CR8_STORE = BIT(20), PROC_TPR_SHADOW = BIT(21),
	PROC_NMI_WINDOW = BIT(22), PROC_MOV_DR = BIT(23), PROC_IO = BIT(24), PROC_IO_BITMAPS = BIT(25),
	PROC_MTF = BIT(27), PROC_MSR_BITMAPS = BIT(28), PROC_MONITOR = BIT(29), PROC_PAUSE = BIT(30),
};
#define PROC_SECONDARY BIT(31)
enum { /* secondary */
	PROC2_APIC_ACCESSES = BIT(0), PROC2_EPT = BIT(1), PROC2_DESC_TABLE = BIT(2), PROC2_RDTSCP = BIT(3),
	PROC2_VPID = BIT(5), PROC2_WBINVD = BIT(6), PROC2_UNRESTRICTED = BIT(7), PROC2_APIC_REGS = BIT(8),
	PROC2_VIRTUAL_INT = BIT(9), PROC2_PAUSE_LOOP = BIT(10), PROC2_INVPCID = BIT(12),
	PROC2_VMCS_SHADOW = BIT(14), PROC2_PML = BIT(17), PROC2_XSAVES = BIT(20), PROC2_MBEC = BIT(22),
	PROC2_TSC_SCALING = BIT(25), PROC2_BUS_LOCK = BIT(30),
};
enum { /* VM-exit */
	EXITC_SAVE_DEBUG = BIT(2), EXITC_HOST_64 = BIT(9), EXITC_ACK_INT = BIT(15), EXITC_SAVE_PAT = BIT(18),
	EXITC_LOAD_PAT = BIT(19), EXITC_SAVE_EFER = BIT(20), EXITC_LOAD_EFER = BIT(21),
};
enum { /* VM-entry */
	ENTRYC_LOAD_DEBUG = BIT(2), ENTRYC_IA32E = BIT(9), ENTRYC_LOAD_PAT = BIT(14), ENTRYC_LOAD_EFER = BIT(15),
};
enum { /* IA32_VMX_EPT_VPID_CAP (A.10), low half */
	EPT_CAP_WALK4 = BIT(6), EPT_CAP_WB = BIT(14), EPT_CAP_2M = BIT(16), EPT_CAP_1G = BIT(17),
	EPT_CAP_INVEPT = BIT(20), EPT_CAP_AD = BIT(21), EPT_CAP_INVEPT_SINGLE = BIT(25), EPT_CAP_INVEPT_ALL = BIT(26),
};
#define EPTP_WB     6
#define EPTP_WALK4  (3 << 3)
#define EPTP_AD     BIT(6)

/* Fields. Widths are in bits 14:13 of the encoding; guest segments follow each other in SEG_* order, 2 apart. */
enum vmcs_field {
	VPID = 0x0000,
	GUEST_ES_SEL = 0x0800, GUEST_INTR_STATUS = 0x0810,
	HOST_ES_SEL = 0x0c00, HOST_CS_SEL = 0x0c02, HOST_SS_SEL = 0x0c04, HOST_DS_SEL = 0x0c06, HOST_FS_SEL = 0x0c08,
	HOST_GS_SEL = 0x0c0a, HOST_TR_SEL = 0x0c0c,
	MSR_BITMAP = 0x2004, ENTRY_MSR_LOAD = 0x200a, TSC_OFFSET = 0x2010, EPT_POINTER = 0x201a,
	TSC_MULTIPLIER = 0x2032,
	GUEST_PHYSICAL = 0x2400,
	VMCS_LINK = 0x2800, GUEST_DEBUGCTL = 0x2802, GUEST_PAT = 0x2804, GUEST_EFER = 0x2806, GUEST_PDPTE0 = 0x280a,
	HOST_PAT = 0x2c00, HOST_EFER = 0x2c02,
	PIN_CONTROLS = 0x4000, PROC_CONTROLS = 0x4002, EXCEPTION_BITMAP = 0x4004, PF_ERROR_MASK = 0x4006,
	PF_ERROR_MATCH = 0x4008,
	CR3_TARGET_COUNT = 0x400a, EXIT_CONTROLS = 0x400c, EXIT_MSR_STORE_COUNT = 0x400e, EXIT_MSR_LOAD_COUNT = 0x4010,
	ENTRY_CONTROLS = 0x4012, ENTRY_MSR_LOAD_COUNT = 0x4014, ENTRY_INTR_INFO = 0x4016, ENTRY_ERROR_CODE = 0x4018,
	ENTRY_INSN_LEN = 0x401a, PROC2_CONTROLS = 0x401e, PLE_GAP = 0x4020, PLE_WINDOW = 0x4022,
	INSTRUCTION_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_INTR_INFO = 0x4404, EXIT_INTR_ERROR = 0x4406,
	IDT_VECTORING_INFO = 0x4408, IDT_VECTORING_ERROR = 0x440a, EXIT_INSN_LEN = 0x440c, EXIT_INSN_INFO = 0x440e,
	GUEST_ES_LIMIT = 0x4800, GUEST_GDTR_LIMIT = 0x4810, GUEST_IDTR_LIMIT = 0x4812, GUEST_ES_ATTR = 0x4814,
	GUEST_INTERRUPTIBILITY = 0x4824, GUEST_ACTIVITY = 0x4826, GUEST_SYSENTER_CS = 0x482a,
	HOST_SYSENTER_CS = 0x4c00,
	CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006,
	EXIT_QUALIFICATION = 0x6400, GUEST_LINEAR = 0x640a,
	GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, GUEST_ES_BASE = 0x6806, GUEST_GDTR_BASE = 0x6816,
	GUEST_IDTR_BASE = 0x6818, GUEST_DR7 = 0x681a, GUEST_RSP = 0x681c, GUEST_RIP = 0x681e, GUEST_RFLAGS = 0x6820,
	GUEST_PENDING_DEBUG = 0x6822, GUEST_SYSENTER_ESP = 0x6824, GUEST_SYSENTER_EIP = 0x6826,
	HOST_CR0 = 0x6c00, HOST_CR3 = 0x6c02, HOST_CR4 = 0x6c04, HOST_FS_BASE = 0x6c06, HOST_GS_BASE = 0x6c08,
	HOST_TR_BASE = 0x6c0a, HOST_GDTR_BASE = 0x6c0c, HOST_IDTR_BASE = 0x6c0e, HOST_SYSENTER_ESP = 0x6c10,
	HOST_SYSENTER_EIP = 0x6c12, HOST_RSP = VMCS_HOST_RSP, HOST_RIP = 0x6c16,
};

enum vmx_reason { /* basic exit reasons, appendix C */
	VMX_EXCEPTION = 0, VMX_EXT_INT = 1, VMX_TRIPLE_FAULT = 2, VMX_INIT = 3, VMX_SIPI = 4, VMX_IRQ_WINDOW = 7,
	VMX_NMI_WINDOW = 8, VMX_TASK_SWITCH = 9, VMX_CPUID = 10, VMX_HLT = 12, VMX_INVD = 13, VMX_RDPMC = 15,
	VMX_RDTSC = 16, VMX_VMCALL = 18, VMX_CR = 28, VMX_IO = 30, VMX_RDMSR = 31, VMX_WRMSR = 32, VMX_BAD_STATE = 33,
	VMX_BAD_MSR = 34, VMX_PAUSE = 40, VMX_MCE_AT_ENTRY = 41, VMX_EPT_VIOLATION = 48, VMX_EPT_MISCONFIG = 49,
	VMX_RDTSCP = 51, VMX_WBINVD = 54, VMX_XSETBV = 55, VMX_BUS_LOCK = 74,
};
/* clang-format on */
#define VMX_BUS_LOCKED   BIT(26) /* in EXIT_REASON: a bus lock came before this exit, whatever its cause (25.9.1) */
#define VMX_ENTRY_FAILED BIT(31) /* the same */

/* Interruption information (25.8.3): vector, type and valid bits as in HV_EVENT; types 5 and 6 are not of HV_EVENT. */
#define VMX_TYPE_ICEBP          5 /* INT1 */
#define VMX_EVENT_VALID         BIT(31)
#define VMX_EVENT_ERROR         BIT(11)
#define VMX_NMI_UNBLOCK         BIT(12) /* an IRET that faulted had ended the blocking of NMIs */
#define INTERRUPTIBILITY_NMI    BIT(3)  /* bits 0 and 1 are HV_SHADOW_* */
#define INTERRUPTIBILITY_SHADOW (BIT(0) | BIT(1))
#define PENDING_DEBUG_BS        BIT(14) /* single step */
#define PENDING_DEBUG_MASK      (0xfULL | BIT(12) | PENDING_DEBUG_BS)

/* The exit qualification: of I/O (table 28-5; bits 2:0 are the size less 1) and of an EPT violation (table 28-7). */
#define VMX_IO_IN     BIT(3)
#define VMX_IO_STRING BIT(4)
#define VMX_IO_REP    BIT(5)
#define EPTV_WRITE    BIT(1)
#define EPTV_FETCH    BIT(2)

/* vmx_insn.c: the instructions; a refusal is our own mistake and a BUG. The VMCS is this CPU's current one. */
uint64_t vmcs_read(enum vmcs_field f);
void vmcs_write(enum vmcs_field f, uint64_t val);
void vmcs_load(hpa_t vmcs);  /* make it current */
void vmcs_clear(hpa_t vmcs); /* write it back to memory; no CPU's any more */
int vmx_on(hpa_t region);    /* 0, or -EIO: the CPU refused */
void vmx_invept(bool single, uint64_t eptp);
uint64_t vmx_dr6(void); /* the guest's, while loaded; not VT-x's, but here so that tests can replace it */
void vmx_set_dr6(uint64_t val);

/*
 * vmx_entry.S: guest registers in, VMLAUNCH or VMRESUME, guest registers out. gpr points to 16 registers in the order
 * of hv.h (RSP is the VMCS's). Interrupts are off before and after. Returns 0 after an exit, else what RFLAGS said (CF
 * or ZF).
 */
unsigned vmx_world_switch(uint64_t *gpr, bool launched);
extern const char vmx_exit_point[]; /* HOST_RIP */
#endif
