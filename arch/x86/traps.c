/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions: the few that are expected (an MSR that may not exist, the NMI of arch_stop_others) are dealt with here,
 * all others are bugs and go to arch_hooks.fatal. Interrupts (vectors 32..255) go on to irq.c.
 */
#include "arch/x86/x86.h"
#include "kernel/base/err.h"

struct arch_hooks arch_hooks;

static const char *const names[32] = {
	"divide error",
	"debug exception",
	"NMI",
	"breakpoint",
	"overflow",
	"bound range exceeded",
	"invalid opcode",
	"no FPU",
	"double fault",
	"exception 9",
	"invalid TSS",
	"segment not present",
	"stack fault",
	"general protection",
	"page fault",
	"exception 15",
	"x87 error",
	"alignment check",
	"machine check",
	"SIMD error",
	"virtualization exception",
	"control protection",
	"exception 22",
	"exception 23",
	"exception 24",
	"exception 25",
	"exception 26",
	"exception 27",
	"hypervisor injection",
	"VMM communication",
	"security exception",
	"exception 31",
};

static bool fix_up(struct trap_frame *f)
{
	for (const struct fixup *x = fixups; x < fixups_end; x++) {
		if (x->rip == f->rip) {
			f->rip = x->resume;
			return true;
		}
	}
	return false;
}

void trap_dispatch(struct trap_frame *f)
{
	const char *what;

	if (f->vector >= ARRAY_SIZE(names)) {
		irq_dispatch((unsigned)f->vector);
		return;
	}
	if (f->vector == VEC_GP && fix_up(f))
		return;
	if (f->vector == VEC_NMI && smp_stop_here())
		for (;;)
			__asm__ volatile("cli; hlt");
	what = names[f->vector];
	/* A push onto a guard page: the #PF could not be delivered there either, so it comes as #DF. CR2 tells. */
	if ((f->vector == VEC_PF || f->vector == VEC_DF) && paging_is_guard(read_cr2()))
		what = "stack overflow";
	if (arch_hooks.fatal)
		arch_hooks.fatal(f, what);
	panic("%s at %#lx, error %#lx, CR2 %#lx", what, f->rip, f->error, read_cr2());
}
