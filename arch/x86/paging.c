/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern's own address space (doc/memory-map.md): one tree of page tables for all CPUs.
 *
 *   ffff8000'00000000  direct map of RAM           RW, the kernel's text and constants R
 *   ffffc000'00000000  devices (mmio_map)          RW, uncached
 *   ffffd000'00000000  stacks, each in a slot      RW, all around them unmapped
 *   ffffffff'80000000  the kernel's image          text RX, constants R, data RW
 */
#include "kernel/base/hva.h"
#include "arch/x86/paging.h"
#include "arch/x86/hw/cpuid_bits.h"
#include "arch/x86/irq.h"
#include "arch/x86/pt.h"
#include "arch/x86/x86.h"
#include "kernel/base/err.h"
#include "kernel/handoff.h"

#define MMIO_BASE  0xffffc00000000000ULL
#define MMIO_END   0xffffc40000000000ULL /* 4 TiB */
#define STACK_BASE 0xffffd00000000000ULL
#define SLOT_SIZE  KIB(64)
#define NSLOTS     16384U
#define STACK_END  (STACK_BASE + NSLOTS * SLOT_SIZE)
#define STACK_MAX  (SLOT_SIZE - 2 * PAGE_SIZE)

extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[], __data_start[], __bss_end[]; /* linker.ld */

static struct pt kernel_pt;
static struct pt_format format; /* pt_format_host, less what this CPU cannot do */
static struct arch_lock lock;   /* all below, and kernel_pt */
static uint64_t mmio_next = MMIO_BASE;

/*
 * A slot is free, holds a stack of that many pages (at its upper end), or is stale: unmapped, but some CPU's TLB may
 * still have it. Stale slots become free when all CPUs have flushed, which can wait: until then nobody uses their
 * addresses.
 */
enum { SLOT_FREE = 0, SLOT_FLUSHING = 0xfe, SLOT_STALE = 0xff };
static uint8_t slots[NSLOTS];
static unsigned slots_top; /* all from here on have never been used */
static unsigned nstale;
static bool flushing;

hpa_t paging_root(void) { return kernel_pt.root; }

static void flush_all(void *arg unused)
{
	uint64_t cr4 = read_cr4();
	write_cr4(cr4 & ~CR4_PGE); /* drops global entries too: SDM 3A 4.10.4.1 */
	write_cr4(cr4);
	write_cr3(read_cr3());
}

static void map_or_panic(uint64_t va, hpa_t hpa, uint64_t len, unsigned prot)
{
	int err = len ? pt_map(&kernel_pt, va, hpa, len, prot) : 0;
	if (err)
		panic("cannot map %#lx bytes at %#lx: %s", len, va, err_name(err));
}

/* The direct map of [base, end), where what lies in the kernel's read-only part is read-only here as well. */
static void map_ram(hpa_t base, hpa_t end, hpa_t ro, hpa_t ro_end)
{
	hpa_t a = MIN(MAX(base, ro), end), b = MAX(MIN(end, ro_end), a);

	map_or_panic(HHDM_BASE + base, base, a - base, PT_R | PT_W);
	map_or_panic(HHDM_BASE + a, a, b - a, PT_R);
	map_or_panic(HHDM_BASE + b, b, end - b, PT_R | PT_W);
}

static void map_image(hpa_t kernel_base, const char *start, const char *end, unsigned prot)
{
	uint64_t va = (uintptr_t)start;
	map_or_panic(va, kernel_base + (va - KERNEL_BASE), (uint64_t)(end - start), prot);
}

void arch_paging_init(const struct arch_mem *ram, unsigned n, hpa_t kernel_base, hpa_t (*alloc)(void *),
		      void (*free)(void *, hpa_t))
{
	hpa_t ro = kernel_base + ((uintptr_t)__text_start - KERNEL_BASE);
	hpa_t ro_end = kernel_base + ((uintptr_t)__rodata_end - KERNEL_BASE);
	uint64_t flags;

	BUG_ON(read_cr4() & CR4_LA57);
	format = pt_format_host;
	if (!(cpuid(0x80000001, 0).edx & CPUID80000001_EDX_PAGE1GB))
		format.max_level = 2;
	if (!(rdmsr(MSR_EFER) & EFER_NXE))
		format.nx = 0;
	if (pt_init(&kernel_pt, &format, alloc, free, NULL))
		panic("no memory for page tables");
	map_image(kernel_base, __text_start, __text_end, PT_R | PT_X);
	map_image(kernel_base, __rodata_start, __rodata_end, PT_R);
	map_image(kernel_base, __data_start, boot_stack_guard, PT_R | PT_W);
	map_image(kernel_base, boot_stack, __bss_end, PT_R | PT_W);
	for (unsigned i = 0; i < n;) { /* neighbours as one, for the largest leaves */
		hpa_t base = ram[i].base, end = base + ram[i].size;
		while (++i < n && ram[i].base == end)
			end += ram[i].size;
		map_ram(base, end, ro, ro_end);
	}
	flags = cpu_irq_save();
	write_cr3(kernel_pt.root);
	flush_all(NULL);
	cpu_smep_on();
	apic_remap();
	cpu_irq_restore(flags);
}

void *mmio_map(hpa_t hpa, uint64_t size)
{
	hpa_t first = ALIGN_DOWN(hpa, PAGE_SIZE);
	uint64_t len = ALIGN_UP(hpa + size, PAGE_SIZE) - first, va, flags;

	if (!size || hpa + size < hpa || len > MMIO_END - MMIO_BASE)
		return NULL;
	flags = arch_lock(&lock);
	va = mmio_next;
	if (len >= MIB(2)) /* same offset in a 2M page, so that large leaves fit */
		va = ALIGN_UP(va, MIB(2)) + (first & (MIB(2) - 1));
	if (va + len > MMIO_END || pt_map(&kernel_pt, va, first, len, PT_R | PT_W | PT_UC))
		va = 0;
	else
		mmio_next = va + len;
	arch_unlock(&lock, flags);
	/* What was not present is in no TLB: nothing to flush. */
	return va ? (char *)(uintptr_t)va + (hpa - first) : NULL;
}

/* ---- stacks ---- */

/* Turn stale slots into free ones, if this is a place where waiting for the other CPUs is allowed. */
static void reclaim(void)
{
	uint64_t flags;
	hpa_t retired, later;

	if (!nstale || !smp_may_call_others())
		return;
	flags = arch_lock(&lock);
	if (flushing || !nstale) {
		arch_unlock(&lock, flags);
		return;
	}
	flushing = true;
	nstale = 0;
	for (unsigned i = 0; i < slots_top; i++)
		if (slots[i] == SLOT_STALE)
			slots[i] = SLOT_FLUSHING;
	retired = kernel_pt.retired;
	kernel_pt.retired = HPA_NONE;
	arch_unlock(&lock, flags);

	irq_call_others(flush_all, NULL);

	flags = arch_lock(&lock);
	flush_all(NULL);
	for (unsigned i = 0; i < slots_top; i++)
		if (slots[i] == SLOT_FLUSHING)
			slots[i] = SLOT_FREE;
	later = kernel_pt.retired; /* retired since: not yet flushed */
	kernel_pt.retired = retired;
	pt_reap(&kernel_pt);
	kernel_pt.retired = later;
	flushing = false;
	arch_unlock(&lock, flags);
}

/* Unmap and free n pages at va. Lock held. */
static void stack_unmap(uint64_t va, unsigned n)
{
	for (unsigned i = 0; i < n; i++, va += PAGE_SIZE) {
		struct pt_leaf leaf;
		BUG_ON(!pt_lookup(&kernel_pt, va, &leaf));
		BUG_ON(pt_unmap(&kernel_pt, va, PAGE_SIZE)); /* 4K leaves: nothing to split */
		__asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
		kernel_pt.free(kernel_pt.arg, leaf.hpa);
	}
}

/* Map n fresh pages at va; false, and nothing mapped, if there is no memory. Lock held. */
static bool stack_map(uint64_t va, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		hpa_t hpa = kernel_pt.alloc(kernel_pt.arg);
		if (hpa != HPA_NONE && !pt_map(&kernel_pt, va + i * PAGE_SIZE, hpa, PAGE_SIZE, PT_R | PT_W))
			continue;
		if (hpa != HPA_NONE)
			kernel_pt.free(kernel_pt.arg, hpa);
		stack_unmap(va, i);
		return false;
	}
	return true;
}

void *stack_alloc(size_t size)
{
	unsigned slot, n = (unsigned)(ALIGN_UP(size, PAGE_SIZE) / PAGE_SIZE);
	uint64_t va, flags;

	if (!size || size > STACK_MAX)
		return NULL;
	reclaim();
	flags = arch_lock(&lock);
	for (slot = 0; slot < NSLOTS && slots[slot] != SLOT_FREE; slot++)
		;
	if (slot == NSLOTS) {
		arch_unlock(&lock, flags);
		return NULL;
	}
	va = STACK_BASE + (slot + 1) * SLOT_SIZE - n * PAGE_SIZE;
	if (stack_map(va, n)) {
		slots[slot] = (uint8_t)n;
		slots_top = MAX(slots_top, slot + 1);
	} else {
		va = 0; /* no other CPU has seen these addresses: the slot is still free */
	}
	arch_unlock(&lock, flags);
	return (void *)(uintptr_t)va;
}

void stack_free(void *stack, size_t size)
{
	unsigned n = (unsigned)(ALIGN_UP(size, PAGE_SIZE) / PAGE_SIZE);
	unsigned slot = (unsigned)(((uintptr_t)stack - STACK_BASE) / SLOT_SIZE);
	uint64_t flags;

	if (!stack)
		return;
	BUG_ON(slot >= NSLOTS || slots[slot] != n);
	flags = arch_lock(&lock);
	stack_unmap((uintptr_t)stack, n);
	slots[slot] = SLOT_STALE;
	nstale++;
	arch_unlock(&lock, flags);
	reclaim();
}

bool paging_is_guard(uint64_t va)
{
	struct pt_leaf leaf;

	if (va >= (uintptr_t)boot_stack_guard && va < (uintptr_t)boot_stack)
		return true;
	return va >= STACK_BASE && va < STACK_END && !pt_lookup(&kernel_pt, va, &leaf);
}

bool paging_stack_bounds(uint64_t va, uint64_t *lo, uint64_t *hi)
{
	*lo = (uintptr_t)boot_stack;
	*hi = (uintptr_t)boot_stack_top;
	if (va >= *lo && va < *hi)
		return true;
	*lo = (uintptr_t)boot_ist_stacks;
	*hi = *lo + sizeof(boot_ist_stacks);
	if (va >= *lo && va < *hi)
		return true;
	if (va < STACK_BASE || va >= STACK_END)
		return false;
	*hi = ALIGN_DOWN(va, SLOT_SIZE) + SLOT_SIZE;
	*lo = *hi - slots[(va - STACK_BASE) / SLOT_SIZE] % SLOT_FLUSHING * PAGE_SIZE;
	return va >= *lo;
}
