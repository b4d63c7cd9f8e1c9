/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page tables that carry the kernel until it has its own, and the jump. Four levels (SDM 3A 4.5, APM2 5.3), all
 * RWX:
 *
 *	PML4[0..255]    identity: the first 4 GiB and each GiB that has RAM, in 2M pages
 *	PML4[256..510]  HHDM_BASE: the same tables once more
 *	PML4[511]       KERNEL_BASE: the image
 */
#include "kernel/base/hva.h"
#include "boot/boot.h"
#include "arch/x86/hw/pte.h"
#include "arch/x86/hw/regs.h"
#include "arch/x86/hw/segment.h"

static uint64_t *next_table(uint64_t *entry)
{
	if (!(*entry & PTE_P))
		*entry = (uint64_t)(uintptr_t)boot_alloc(PAGE_SIZE) | PTE_P | PTE_W;
	return (uint64_t *)(uintptr_t)(*entry & PTE_ADDR);
}

static void map_2m(uint64_t *pml4, uint64_t va, hpa_t hpa)
{
	uint64_t *pdpt = next_table(&pml4[va >> 39 & 511]);
	uint64_t *pd = next_table(&pdpt[va >> 30 & 511]);

	pd[va >> 21 & 511] = hpa | PTE_P | PTE_W | PTE_PS;
}

static void map_gib(uint64_t *pml4, hpa_t hpa)
{
	for (unsigned i = 0; i < 512; i++)
		map_2m(pml4, hpa + i * MIB(2), hpa + i * MIB(2));
}

/* One GiB at a time; where two ranges share one it is simply mapped twice. */
static void map_ram(uint64_t *pml4)
{
	struct efi_map map = { 0 };
	const EFI_MEMORY_DESCRIPTOR *d;
	UINTN at = 0;

	if (EFI_ERROR(exit_read_map(&map)))
		boot_fatal("the firmware does not give its memory map.");
	while ((d = exit_next_desc(&map, &at)) != NULL) {
		uint32_t type = exit_mem_type(d);
		hpa_t end = d->PhysicalStart + d->NumberOfPages * PAGE_SIZE;

		if (!type || type == HANDOFF_MEM_RESERVED)
			continue;
		for (hpa_t gib = MAX(ALIGN_DOWN(d->PhysicalStart, GIB(1)), GIB(4)); gib < end; gib += GIB(1)) {
			if (gib >= GIB(128 * 1024ULL))
				boot_fatal("there is memory above 128 TiB.");
			map_gib(pml4, gib);
		}
	}
}

void first_paging_build(void)
{
	uint64_t *pml4 = boot_alloc(PAGE_SIZE), cr4;

	__asm__("mov %%cr4, %0" : "=r"(cr4));
	if (cr4 & CR4_LA57)
		boot_fatal("the firmware runs with 5-level paging; switch that off in its setup.");
	for (hpa_t gib = 0; gib < GIB(4); gib += GIB(1))
		map_gib(pml4, gib);
	map_ram(pml4);
	for (unsigned i = 0; i < 255; i++)
		pml4[256 + i] = pml4[i];
	for (uint64_t off = 0; off < boot.h->kernel_size; off += MIB(2))
		map_2m(pml4, KERNEL_BASE + off, boot.h->kernel_base + off);
	boot.cr3 = (hpa_t)(uintptr_t)pml4;
}

struct PACKED table_ptr {
	uint16_t limit;
	uint64_t base;
};

/*
 * The firmware's GDT and stack lie in memory that is free from now on, so the kernel gets a small GDT (0x08 code, 0x10
 * data) and a stack in memory marked HANDOFF_MEM_BOOT, both by their HHDM addresses. No IDT: a fault before the kernel
 * has its own is a reset. CR4 keeps only what is harmless: no global pages, PCIDs or shadow stacks of the firmware's.
 */
void first_paging_enter(uint64_t stack_top)
{
	static uint64_t gdt[3] __attribute__((aligned(8))) = { 0, DESC_CODE64, DESC_DATA };
	struct table_ptr gdtr = { sizeof(gdt) - 1, HHDM_BASE + (uint64_t)(uintptr_t)gdt }, idtr = { 0, 0 };
	uint64_t cr4;

	__asm__("mov %%cr4, %0" : "=r"(cr4));
	cr4 &= CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	__asm__ volatile("cli\n\t"
			 "cld\n\t"
			 "mov %[cr4], %%cr4\n\t"
			 "mov %[cr3], %%cr3\n\t"
			 "lgdt %[gdtr]\n\t"
			 "lidt %[idtr]\n\t"
			 "mov %[data], %%ds\n\t"
			 "mov %[data], %%es\n\t"
			 "mov %[data], %%ss\n\t"
			 "mov %[null], %%fs\n\t"
			 "mov %[null], %%gs\n\t"
			 "mov %[stack], %%rsp\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "push $0x08\n\t"
			 "push %[entry]\n\t"
			 "lretq"
			 :
			 : [cr4] "r"(cr4), [cr3] "r"(boot.cr3), [gdtr] "m"(gdtr), [idtr] "m"(idtr), [data] "r"(0x10),
			   [null] "r"(0), [stack] "r"(HHDM_BASE + stack_top), [entry] "r"(boot.entry),
			   "D"(HHDM_BASE + (uint64_t)(uintptr_t)boot.h)
			 : "memory");
	__builtin_unreachable();
}
