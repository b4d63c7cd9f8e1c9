/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UEFI loader: what its files share. It runs once, on the boot CPU, on the firmware's stack and page tables
 * (identity), and leaves behind a struct handoff (kernel/handoff.h). All memory that it takes is EfiLoaderData: what is
 * not given back, and the kernel does not keep, that frees as HANDOFF_MEM_BOOT. "UEFI x.y" is the UEFI 2.10
 * specification.
 */
#pragma once
#include <efi.h>
#include <efiprot.h>
#include "kernel/conf.h"
#include "kernel/handoff.h"

#ifndef TERN_VERSION
#define TERN_VERSION "development"
#endif

struct boot {
	EFI_HANDLE image;
	EFI_SYSTEM_TABLE *st;
	EFI_BOOT_SERVICES *bs;
	struct handoff *h;
	struct conf *conf;
	hpa_t entry; /* the kernel's first instruction, a virtual address at KERNEL_BASE */
	hpa_t cr3;   /* temporary page tables */
};
extern struct boot boot;

/*
 * efi_main.c: whole pages. boot_alloc zeroes them, and ends in boot_fatal if there are none; boot_try_alloc returns 0
 * then.
 */
void *boot_alloc(uint64_t size);
hpa_t boot_try_alloc(uint64_t size);
/* Any pages of what they gave. A firmware that takes back none but what it gave at once leaves them to the kernel. */
void boot_free(hpa_t hpa, uint64_t size);

/* say.c: printf to the firmware's console. */
void say_init(void);
void say(const char *fmt, ...) printf_like(1, 2);         /* and into the handoff's messages */
bool say_nothing(void);                                   /* tern.conf locks the console: only what is fatal is said */
void say_console(const char *fmt, ...) printf_like(1, 2); /* only there: progress, and what the kernel says again */
noreturn void boot_fatal(const char *fmt, ...) printf_like(1, 2); /* one sentence; a key returns to the firmware */

/* files.c: tern.conf and the files it names, into boot.conf and the handoff. Says what is wrong; never fatal. */
void files_load(void);

/* cpus.c: APIC ids of the CPUs that the firmware has enabled, into the handoff. */
void cpus_find(void);

/* efi_clock.c: tsc_hz, wall_s, wall_tsc into the handoff. */
void efi_clock_measure(void);
uint64_t efi_clock_tsc(void);

/* smbios.c: the machine's UUID into the handoff. */
void smbios_find(void);

/*
 * load.c: the embedded kernel into memory; its place into the handoff, its entry into boot.entry. Fatal if it cannot.
 */
void load_kernel(void);

/* first_paging.c: the temporary page tables, into boot.cr3; and the jump into the kernel. */
void first_paging_build(void);
noreturn void first_paging_enter(uint64_t stack_top);

/* exit_boot.c: the firmware's memory map. */
struct efi_map {
	uint8_t *buf;
	UINTN size, cap, key, desc_size;
};
/* Read the map into m->buf (allocated on first use). A firmware status. */
EFI_STATUS exit_read_map(struct efi_map *m);
/* Descriptor at byte offset *at of the map (start with 0); NULL at the end. Advances *at. */
const EFI_MEMORY_DESCRIPTOR *exit_next_desc(const struct efi_map *m, UINTN *at);
/* HANDOFF_MEM_* of a descriptor, 0 for what is no memory (MMIO). */
uint32_t exit_mem_type(const EFI_MEMORY_DESCRIPTOR *d);
/* Leave the firmware; fill the handoff's memory map. After it: no firmware call, no say(). */
void exit_firmware(void);
