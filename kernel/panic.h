/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of tern, in order: see kernel/base/err.h for panic(). */
#pragma once
#include "arch/x86/arch.h"

/* arch_hooks.fatal: an exception in our own code. */
noreturn void panic_trap(const struct trap_frame *f, const char *what);
/* The panic console: log, bt, reboot; polled. Also what is left when tern cannot go on at boot. */
noreturn void panic_console(void);
