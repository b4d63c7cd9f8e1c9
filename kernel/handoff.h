/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the UEFI loader (boot/) gives to the kernel, once, by pointer. All addresses are host-physical. Everything it
 * points to lies in memory that the map marks HANDOFF_MEM_BOOT (freed by the kernel once copied) or HANDOFF_MEM_KEEP.
 *
 * State at entry (kernel/entry in arch/x86/entry.S): long mode, interrupts off, boot CPU only, RDI = virtual address of
 * struct handoff in the direct map; temporary page tables map all RAM and the first 4 GiB at identity and at
 * HHDM_BASE (RWX, 2M pages), and the kernel's image at KERNEL_BASE. No firmware call is possible any more.
 */
#pragma once
#include "kernel/base/bits.h"

#define HANDOFF_MAGIC   0x6e72657454ULL /* "Tern" + version below */
#define HANDOFF_VERSION 4

#define KERNEL_BASE 0xffffffff80000000UL /* the kernel's link address */

enum handoff_mem_type {
	HANDOFF_MEM_FREE = 1,     /* RAM, free to use at once */
	HANDOFF_MEM_BOOT = 2,     /* RAM holding handoff data and temporary tables; free after kernel start */
	HANDOFF_MEM_KEEP = 3,     /* RAM holding the kernel image and the files; owned by the kernel */
	HANDOFF_MEM_ACPI = 4,     /* ACPI tables, NVS: mapped, never reused */
	HANDOFF_MEM_RESERVED = 5, /* firmware's for ever, runtime services */
};
struct handoff_mem { /* sorted by base, page aligned, not overlapping */
	hpa_t base;
	uint64_t size;
	uint32_t type;
	uint32_t pad;
};
/*
 * A file named in tern.conf: all of it in one piece at base; or the image of a disk without its zeros (sparse): base
 * is an array of hpa_t then, for each HANDOFF_FILE_BLOCK bytes where they lie, 0: they are zero. The array is
 * HANDOFF_MEM_BOOT. The last block is filled up with zeros.
 */
#define HANDOFF_FILE_BLOCK KIB(64)
struct handoff_file {
	char name[96]; /* as written in tern.conf */
	hpa_t base;
	uint64_t size;   /* bytes */
	int32_t err;     /* 0, or the negative errno of reading it (then size is 0) */
	uint32_t sparse; /* bool */
};
struct handoff_console { /* the operator's: a 16550 */
	uint16_t port;
	uint8_t irq;     /* its ISA interrupt, 0: none that is known */
	uint8_t divisor; /* of 115200 baud */
};
struct handoff {
	uint64_t magic;
	uint32_t version, size; /* size = sizeof(struct handoff) */
	hpa_t kernel_base;      /* where the image's first byte (link address KERNEL_BASE) lies; 2M aligned */
	uint64_t kernel_size;
	hpa_t mem;      /* struct handoff_mem[nmem] */
	hpa_t cpus;     /* uint32_t apic_id[ncpus], boot CPU first, from the MP services protocol */
	hpa_t files;    /* struct handoff_file[nfiles] */
	hpa_t config;   /* text of tern.conf (not NUL-terminated) */
	hpa_t messages; /* what the loader said (warnings, errors), text, to be put into the log */
	uint64_t config_size;
	uint64_t messages_size;
	uint32_t nmem, ncpus, nfiles;
	struct handoff_console console;
	uint32_t console_locked; /* tern.conf has a password for it: nothing is said to who has not typed that */
	uint32_t pad;
	hpa_t rsdp;              /* ACPI 2.0 RSDP, or 0: none (then no ACPI at all) */
	hpa_t trampoline;        /* one free page below 1 MiB for starting the other CPUs */
	uint64_t tsc_hz;         /* measured against the firmware's Stall() */
	uint64_t wall_s;         /* UTC seconds since 1970 from GetTime(), or 0 */
	uint64_t wall_tsc;       /* TSC when wall_s was read */
	uint64_t exit_tsc;       /* TSC right after ExitBootServices */
	uint8_t system_uuid[16]; /* SMBIOS type 1 (SMBIOS 3.6, 7.2), as it lies there; zeros: none */
};
