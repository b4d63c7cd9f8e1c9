/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An operator at a guest's serial console, with a real UART between them. The operator's keyboard is the test's: each
 * time it is asked for a key, the test lets the guest and the rest of the world do their next step.
 */
#include "tests/unit/fake_kernel.h"
#include "kernel/console.h"
#include "kernel/time.h"
#include "vmm/pc/machine.h"
#include "vmm/dev/vuart.h"
#include "vmm/vm_console.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct vm vm;
static bool gone;
static char screen[65536];
static size_t nscreen;
static int (*key)(void); /* next key, or -ETIMEDOUT */
static unsigned step;

struct vm *vm_get(const char *name) { return gone || strcmp(name, vm.cfg.name) ? NULL : &vm; }
void vm_put(struct vm *v) { assert_ptr_equal(v, &vm); }

static void con_write(struct con *c, const char *s, size_t n)
{
	(void)c;
	assert_true(nscreen + n < sizeof(screen));
	memcpy(screen + nscreen, s, n);
	nscreen += n;
}
void con_printf(struct con *c, const char *fmt, ...)
{
	char buf[256];
	va_list ap;
	va_start(ap, fmt);
	con_write(c, buf, (size_t)vsnprintf(buf, sizeof(buf), fmt, ap));
	va_end(ap);
}
static int con_getc(struct con *c, uint64_t deadline)
{
	(void)c, (void)deadline;
	assert_true(++step < 100000); /* else it never ends */
	return key();
}
static struct con con = { .write = con_write, .getc = con_getc };

static void gsi(void *arg, unsigned n, bool level) { (void)arg, (void)n, (void)level; }

static int setup(void **state)
{
	(void)state;
	vm = (struct vm){ .cfg.name = "demo", .state = VM_RUNNING };
	vm.machine = (struct machine){ .gsi = gsi, .arg = &vm };
	list_init(&vm.machine.devs);
	bus_init(&vm.machine.bus);
	assert_int_equal(vm_console_create(&vm), 0);
	assert_int_equal(vuart_create(&vm.machine, &vm.uart, 0x3f8, 4, vm_console_out, &vm), 0);
	struct dev *d = list_first(&vm.machine.devs, struct dev, node);
	d->ops->resume(d);
	vm_console_plug(&vm, vm.uart);
	gone = false;
	memset(screen, 0, sizeof(screen));
	nscreen = 0;
	step = 0;
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	vm_console_plug(&vm, NULL);
	list_for_each(d, &vm.machine.devs, struct dev, node)
		d->ops->fini(d);
	vm_console_free(&vm);
	vm_console_free(&vm); /* harmless */
	vm_console_out(&vm, 'x');
	return 0;
}

static void says(const char *s)
{
	for (; *s; s++)
		bus_write(&vm.machine.bus, BUS_PIO, 0x3f8, 1, (uint8_t)*s);
}
static int hears(void) /* next character that the guest reads, -1: none */
{
	return bus_read(&vm.machine.bus, BUS_PIO, 0x3fd, 1) & 1 ? (int)bus_read(&vm.machine.bus, BUS_PIO, 0x3f8, 1)
								: -1;
}

static int leave_at_once(void) { return 0x1d; }

static void test_replay_and_leave(void **state)
{
	(void)state;
	says("login: ");
	key = leave_at_once;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "Ctrl-]"));
	assert_non_null(strstr(screen, "\r\nlogin: "));
	assert_non_null(strstr(screen, "[left the console of demo]"));
}

/* What would make the operator's terminal answer is not shown to it, unless he wants that. */
static void test_filter(void **state)
{
	(void)state;
	says("a\033]0;\nvm kill demo\n\a\033[21t\033[31mb");
	key = leave_at_once;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "a\033[31mb\033[10m"));
	assert_int_equal(vm_console_attach(&vm, &con, true), 0);
	assert_non_null(strstr(screen, "kill demo\n\a\033[21t\033[31mb\030\033[?1000;"));
}

static char heard[4096];
static unsigned nheard, typed;
static const char *typing;

static int paste(void) /* all at once; the guest reads one character each 5th time */
{
	int c;
	if (step % 5 == 0 && (c = hears()) >= 0)
		heard[nheard++] = (char)c;
	if (typing[typed])
		return typing[typed++];
	return nheard == typed ? 0x1d : -ETIMEDOUT;
}

static void test_paste(void **state)
{
	static char text[701];
	(void)state;

	for (unsigned i = 0; i < 700; i++)
		text[i] = (char)('!' + i % 90);
	nheard = typed = 0;
	typing = text;
	key = paste;
	bus_write(&vm.machine.bus, BUS_PIO, 0x3fa, 1, 1);
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_int_equal(nheard, 700);
	assert_memory_equal(heard, text, 700);
	assert_null(strchr(screen, '\a'));
}

static int deaf(void) { return step < 3000 ? 'x' : 0x1d; }

static void test_deaf_guest(void **state)
{
	(void)state;
	key = deaf; /* it never reads: a bell, and Ctrl-] works all the same */
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strchr(screen, '\a'));
}

static int flood(void)
{
	char line[64];
	for (unsigned i = 0; i < 700 && step < 4; i++) {
		snprintf(line, sizeof(line), "line %u of many many lines\r\n", i);
		says(line);
	}
	return step < 200 ? -ETIMEDOUT : 0x1d;
}

static void test_flood(void **state)
{
	(void)state;
	key = flood;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "bytes lost"));
	assert_non_null(strstr(screen, "line 699 of"));
}

static bool behind;
static size_t shown;
static bool con_ready(struct con *c)
{
	(void)c;
	return !behind;
}

static int stalled(void) /* the operator's terminal takes nothing while the guest floods, then goes on */
{
	if (step == 3) {
		behind = true;
		shown = nscreen;
	}
	if (behind && step < 400)
		says("many words, nobody there to read them, and the guest goes on and on\r\n");
	if (step == 400) {
		assert_int_equal(nscreen, shown);
		says("the end");
		behind = false;
	}
	return step < 600 ? -ETIMEDOUT : 0x1d;
}

static int leaves_stalled(void) { return step < 3 ? -ETIMEDOUT : 0x1d; }

static void test_stalled_terminal(void **state)
{
	(void)state;
	con.ready = con_ready;
	behind = false;
	key = stalled;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	const char *note = strstr(screen, "bytes lost");
	assert_non_null(note);
	assert_int_equal(strtoull(strrchr((*(char *)(uintptr_t)note = 0, screen), '[') + 1, NULL, 10),
			 397 * 69 + 7 - VM_CONSOLE_RING);
	assert_non_null(strstr(note + 1, "the end"));
	behind = true;
	step = 0;
	key = leaves_stalled;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_false(con.raw);
	con.ready = NULL;
}

static int stops(void)
{
	if (step == 3) {
		says("reboot: Power down");
		vm_console_plug(&vm, NULL);
		vm.state = VM_STOPPED;
	}
	return 'y';
}
static int leaves(void)
{
	if (step == 3) {
		vm_console_free(&vm); /* the VM is taken apart under the operator's hands */
		gone = true;
	}
	return -ETIMEDOUT;
}
static int fails(void)
{
	vm.state = VM_FAILED;
	return -ETIMEDOUT;
}
static int again(void)
{
	struct con other = con;
	assert_int_equal(vm_console_attach(&vm, &other, false), -EBUSY);
	return 0x1d;
}

static int stops_once(void) { return step == 1 ? -ETIMEDOUT : step == 2 ? 'y' : step == 3 ? stops() : -ETIMEDOUT; }

static void test_ends(void **state)
{
	(void)state;
	key = again;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	step = 0;
	key = stops_once;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "Power down"));
	assert_non_null(strstr(screen, "[demo is stopped]"));
	vm.state = VM_RUNNING;
	step = 0;
	key = fails;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "[demo has failed"));
	vm.state = VM_RUNNING;
	step = 0;
	key = leaves;
	assert_int_equal(vm_console_attach(&vm, &con, false), 0);
	assert_non_null(strstr(screen, "[demo has left this host]"));
	assert_int_equal(vm_console_attach(&vm, &con, false), -ENODEV);
}

static void test_tail(void **state)
{
	uint8_t buf[8];
	uint64_t total;
	(void)state;

	says("0123456789");
	assert_int_equal(vm_console_tail(&vm, buf, 4, &total), 4);
	assert_memory_equal(buf, "6789", 4);
	assert_int_equal(total, 10);
	assert_int_equal(vm_console_create(&vm), 0); /* a new start keeps it */
	assert_int_equal(vm_console_tail(&vm, buf, 8, &total), 8);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_replay_and_leave), T(test_paste), T(test_deaf_guest), T(test_flood), T(test_filter),
		T(test_stalled_terminal), T(test_ends),  T(test_tail),
	};
	return cmocka_run_group_tests_name("vmconsole", tests, NULL, NULL);
}
