/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our own bug: stop the other CPUs, print registers and a backtrace with symbols, and keep a console that reads only
 * and that needs nothing of what may be broken: no locks (they are ignored from here on), no interrupts, no allocation.
 */
#include "kernel/panic.h"
#include "kernel/acpi_host.h"
#include "kernel/base/err.h"
#include "kernel/ksym.h"
#include "kernel/log.h"
#include "kernel/sched.h"
#include "kernel/uart.h"
#include <stdio.h>
#include <string.h>

#define BT_MAX 32

static uint32_t panicking; /* atomic: 1 + id of the CPU that panics */
static struct trap_frame frame;
static bool have_frame;
static uintptr_t bt[BT_MAX];
static unsigned nbt;
static char message[256];

static void say(const char *fmt, ...) printf_like(1, 2);
static void say(const char *fmt, ...)
{
	char buf[320];
	va_list ap;
	va_start(ap, fmt);
	int n = vsniprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	for (int i = 0; i < n && i < (int)sizeof(buf) - 1; i++) {
		if (buf[i] == '\n')
			uart_write("\r", 1);
		uart_write(&buf[i], 1);
	}
}

static void say_address(const char *prefix, uintptr_t addr, unsigned back)
{
	uintptr_t off = 0;
	const char *name = ksym_lookup(addr - back, &off);
	if (name)
		say("%s%016lx %s+0x%lx\n", prefix, addr, name, off + back);
	else
		say("%s%016lx\n", prefix, addr);
}

/*
 * Is this, or has it been called by, code that has keys in its registers (linker.ld)? That leaves nothing in them when
 * it returns (Makefile, SECRET).
 */
static bool has_secrets(void)
{
	extern const char __secret_start[], __secret_end[], trap_return[];
	bool has = !nbt || nbt == BT_MAX; /* not all callers are known */
	for (unsigned i = 0; i <= nbt; i++) {
		uintptr_t at = i ? bt[i - 1] - 1 : frame.rip;
		has |= i && bt[i - 1] == (uintptr_t)trap_return; /* an interrupt's: what it came upon is not known */
		has |= at - (uintptr_t)__secret_start < (uintptr_t)(__secret_end - __secret_start);
	}
	return has;
}

static void show_registers(void)
{
	const struct trap_frame *f = &frame;
	if (!have_frame)
		return;
	say("vector %lu error %#lx cr2 %016lx cr3 %016lx\n", f->vector, f->error, read_cr2(), read_cr3());
	const struct {
		const char *name;
		uint64_t v;
	} r[] = { { "rax", f->rax }, { "rbx", f->rbx }, { "rcx", f->rcx }, { "rdx", f->rdx },
		  { "rsi", f->rsi }, { "rdi", f->rdi }, { "rbp", f->rbp }, { "rsp", f->rsp },
		  { "r8 ", f->r8 },  { "r9 ", f->r9 },  { "r10", f->r10 }, { "r11", f->r11 },
		  { "r12", f->r12 }, { "r13", f->r13 }, { "r14", f->r14 }, { "r15", f->r15 } };
	if (has_secrets())
		say("registers are not shown: they may hold a key\n");
	else
		for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
			say("%s %016lx%s", r[i].name, r[i].v, i % 4 == 3 ? "\n" : "  ");
	say("rip %016lx  cs %04lx  rflags %08lx\n", f->rip, f->cs, f->rflags);
}

static void show_backtrace(void)
{
	say("backtrace:\n");
	if (have_frame)
		say_address("  ", frame.rip, 0);
	for (unsigned i = 0; i < nbt; i++)
		say_address("  ", bt[i], 1);
}

static void show_log_lines(void)
{
	struct log_line l;
	for (uint64_t seq = 0; log_read(&seq, &l);)
		say("[%5lu.%06lu] %s: %s\n", l.time_ns / NS_PER_SEC, l.time_ns % NS_PER_SEC / NS_PER_US,
		    log_level_name(l.level), l.text);
}

static void show_all(void)
{
	const struct cpu *c = this_cpu();
	say("\n\n*** tern panicked on CPU %u, task %s: %s\n", c->id, c->current ? c->current->name : "none", message);
	show_registers();
	show_backtrace();
	say("The other CPUs are stopped, and with them all VMs.\n");
}

static void read_line(char *line, unsigned size)
{
	unsigned n = 0;
	for (;;) {
		int c = uart_poll();
		if (c < 0) {
			cpu_relax();
		} else if (c == '\r' || c == '\n') {
			line[n] = 0;
			say("\n");
			return;
		} else if ((c == '\b' || c == 0x7f) && n) {
			n--;
			say("\b \b");
		} else if (c >= ' ' && c < 0x7f && n + 1 < size) {
			line[n++] = (char)c;
			say("%c", c);
		}
	}
}

void panic_console(void)
{
	for (;;) {
		char line[32];
		say("panic (log, bt, reboot)> ");
		read_line(line, sizeof(line));
		if (!strcmp(line, "log"))
			show_log_lines();
		else if (!strcmp(line, "bt"))
			show_all();
		else if (!strcmp(line, "reboot"))
			acpi_reset();
	}
}

/* One CPU comes through, once; a panic inside a panic says so and stops. */
static void enter(void)
{
	cpu_irq_off();
	uint32_t none = 0, me = 1 + this_cpu()->id;
	if (!__atomic_compare_exchange_n(&panicking, &none, me, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		if (none == me) {
			uart_panic_mode();
			say("\n*** panicked again while panicking\n");
		}
		for (;;)
			__asm__ volatile("cli; hlt");
	}
	__atomic_store_n(&spin_ignore, true, __ATOMIC_SEQ_CST);
	arch_stop_others();
	uart_panic_mode();
}

void panic(const char *fmt, ...)
{
	enter();
	va_list ap;
	va_start(ap, fmt);
	vsniprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	nbt = arch_backtrace((uint64_t)(uintptr_t)__builtin_frame_address(0), bt, BT_MAX);
	show_all();
	panic_console();
}

void panic_trap(const struct trap_frame *f, const char *what)
{
	enter();
	frame = *f;
	have_frame = true;
	sniprintf(message, sizeof(message), "%s", what);
	nbt = arch_backtrace(f->rbp, bt, BT_MAX);
	show_all();
	panic_console();
}
