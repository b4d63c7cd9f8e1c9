/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console's terminal side on a serial port of the test's: what a terminal that is slow, stands still, or has lost
 * something shows, and log lines that come at any time. The console's task ends when the script of keys does.
 */
#include "tests/unit/fake_kernel.h"
#include "kernel/console.h"
#include "kernel/console_edit.h"
#include "kernel/time.h"
#include "kernel/uart.h"
#include "kernel/commands.c"
#include "vmm/vm_top.c"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LOST    "\1" /* in a script: output was lost */
#define LATER   "\2" /* so long nobody types that it is idle */
#define IDLE_NS (601 * NS_PER_SEC)

static char screen[200000];
static size_t nscreen;
static const char *keys;
static jmp_buf script_over;
static unsigned waits;
static int (*on_wait)(bool interruptible); /* what uart_wait returns; the world goes on meanwhile */

static void (*echo)(const struct log_line *l);
static struct log_line lines[600];
static uint64_t nlines;

void uart_write(const char *s, size_t n)
{
	assert_true(nscreen + n < sizeof(screen));
	memcpy(screen + nscreen, s, n);
	nscreen += n;
	screen[nscreen] = 0;
}
int uart_wait(size_t backlog, bool interruptible)
{
	assert_int_equal(backlog, UART_BACKLOG);
	waits++;
	return on_wait ? on_wait(interruptible) : 0;
}
bool uart_ready(void) { return true; }
uint64_t malloc_slab_bytes(uint64_t *used) { return *used = 0; }
bool uart_ctrl_c(void)
{
	const char *at = strchr(keys, '\3');
	if (at)
		keys = at + 1;
	return at;
}
int uart_getc(uint64_t deadline_ns)
{
	if (deadline_ns == time_ns())
		return -ETIMEDOUT; /* are there more? */
	if (!*keys)
		longjmp(script_over, 1);
	if (*keys == *LATER) {
		keys++;
		fake_time_advance(IDLE_NS);
		return -ETIMEDOUT;
	}
	return *keys == *LOST ? (keys++, -EIO) : (unsigned char)*keys++;
}

void log_echo(enum log_level level, void (*fn)(const struct log_line *l))
{
	(void)level;
	echo = fn;
}
enum log_level log_echo_level(void) { return LOG_WARN; }
const char *log_level_name(enum log_level level) { return level == LOG_WARN ? "warn" : "info"; }
bool log_read(uint64_t *seq, struct log_line *out)
{
	if (*seq >= nlines)
		return false;
	*out = lines[(*seq)++];
	return true;
}
static void log_says(enum log_level level, const char *text)
{
	struct log_line *l = &lines[nlines];
	*l = (struct log_line){ .seq = nlines++, .level = level };
	snprintf(l->text, sizeof(l->text), "%s", text);
	if (level <= LOG_WARN)
		echo(l);
}

/* Commands */

static int seen;

static int cmd_text(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	for (unsigned i = 0; i < 100; i++)
		con_printf(c, "line %u of many\n", i);
	seen = c->interrupted(c);
	con_printf(c, "seen %d\n", seen);
	return 0;
}
static int cmd_keys(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	seen = c->getc(c, 0);
	return 0;
}
static int cmd_json(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	out_list(c, "a");
	for (unsigned i = 0; i < 2000; i++)
		out_u64(c, NULL, 100000 + i);
	out_list_end(c);
	return 0;
}
static int cmd_raw(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	c->raw = true;
	con_printf(c, "raw\n");
	c->raw = false;
	return 0;
}
static int cmd_long(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	fake_time_advance(IDLE_NS);
	con_printf(c, "its end\n");
	return 0;
}
static int cmd_left(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	fake_time_advance(IDLE_NS);
	seen = c->interrupted(c);
	return 0;
}
static int cmd_left2(struct con *c, int argc, char **argv)
{
	fake_time_advance(IDLE_NS);
	return cmd_text(c, argc, argv);
}

/* For `top`: no VM is here. */
void vm_for_each(void (*fn)(struct vm *vm, void *arg) unused, void *arg unused) {}
struct vm *vm_get(const char *name unused) { return NULL; }
void vm_put(struct vm *vm unused) {}
void vm_port_bytes(const struct vm *vm unused, uint64_t *sent unused, uint64_t *received unused) {}
const char *vm_cmd_show_exit(unsigned kind unused) { return ""; }
uint64_t task_idle_ns(unsigned cpu) { return cpu; }

/* For the host's own commands */
void acpi_power_off(void) { abort(); }
void acpi_reset(void) { abort(); }
int log_level_parse(const char *s unused) { abort(); }
static struct host_address address;
static int cmd_address(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	host_address_show(c, &address);
	return 0;
}

#define SUBS(fn) (const struct con_sub[]){ { "", "", "", fn, NULL, false } }, 1
static const struct console_cmd table[] = {
	{ "address", "", NULL, SUBS(cmd_address) }, { "json", "", NULL, SUBS(cmd_json) },
	{ "keys", "", NULL, SUBS(cmd_keys) },       { "left", "", NULL, SUBS(cmd_left) },
	{ "left2", "", NULL, SUBS(cmd_left2) },     { "long", "", NULL, SUBS(cmd_long) },
	{ "raw", "", NULL, SUBS(cmd_raw) },         { "text", "", NULL, SUBS(cmd_text) },
	{ "top", "", NULL, SUBS(cmd_top) },
};

static int setup(void **state)
{
	(void)state;
	static bool once;
	if (!once) {
		console_set_table(table, table + ARRAY_SIZE(table));
		console_init(LOG_WARN);
		once = true;
	}
	nscreen = 0;
	screen[0] = 0;
	waits = 0;
	on_wait = NULL;
	seen = 0;
	return 0;
}

static void type(const char *script)
{
	keys = script;
	if (!setjmp(script_over))
		console_task(NULL);
}

static unsigned count(const char *what)
{
	unsigned n = 0;
	for (const char *p = screen; (p = strstr(p, what)); p += strlen(what))
		n++;
	return n;
}

static void test_waits_in_pieces(void **state)
{
	(void)state;
	type("json --json\r");
	assert_true(waits > 2000 * 7 / 1024);
	assert_non_null(strstr(screen, "100000,100001,"));
	assert_non_null(strstr(screen, "101999]}\r\n"));
}

static int log_meanwhile(bool interruptible)
{
	(void)interruptible;
	if (waits == 5)
		log_says(LOG_WARN, "in between");
	if (waits == 6)
		log_says(LOG_INFO, "not for the console");
	if (waits == 7)
		log_says(LOG_WARN, "and again");
	return 0;
}

static void test_log_stays_out_of_json(void **state)
{
	(void)state;
	on_wait = log_meanwhile;
	type("json --json\r");
	const char *end = strstr(screen, "101999]}\r\n");
	const char *begin = strstr(screen, "{\"a\"");
	assert_true(begin && end && !memchr(begin, '\n', (size_t)(end - begin)));
	assert_non_null(strstr(end, "warn: in between\r\n"));
	assert_non_null(strstr(end, "warn: and again\r\n"));
	assert_int_equal(count("in between"), 1);
	assert_null(strstr(screen, "not for the console"));
	log_says(LOG_WARN, "later"); /* at the prompt: at once */
	assert_int_equal(count("warn: later"), 1);
}

static int ctrl_c(bool interruptible) { return waits == 20 && interruptible ? -EINTR : 0; }

static void test_ctrl_c_ends_output(void **state)
{
	(void)state;
	on_wait = ctrl_c;
	type("text\rk");
	assert_int_equal(seen, 1); /* the command learns of it, and may speak again */
	assert_non_null(strstr(screen, "line 18 of many\r\n^C\r\nseen 1\r\n"));
	assert_int_equal(count("of many"), 19);
	assert_non_null(strstr(screen, "tern> k"));
}

static void test_ctrl_c_ends_json(void **state)
{
	(void)state;
	on_wait = ctrl_c;
	type("json --json\rtext\rk");
	const char *cut = strstr(screen, "^C\r\n");
	assert_non_null(cut);
	assert_null(strstr(screen, "101999]}"));
	assert_non_null(strstr(cut, "line 99 of many\r\nseen 0\r\n")); /* the next command's output comes */
}

static int always(bool interruptible) { return interruptible ? -EINTR : 0; }

static void test_raw(void **state)
{
	(void)state;
	on_wait = always;
	type("raw\r");
	assert_non_null(strstr(screen, "\r\nraw\r\n"));
	assert_null(strstr(screen, "^C"));
}

static int stands(bool interruptible)
{
	(void)interruptible;
	return -ETIMEDOUT;
}

static void test_standing_terminal(void **state)
{
	(void)state;
	on_wait = stands; /* the port takes it or counts it */
	type("text\rx");
	assert_int_equal(count("of many"), 100);
}

static void test_loss_redraws_prompt(void **state)
{
	(void)state;
	type("ab" LOST);
	assert_string_equal(screen + nscreen - 8, "tern> ab");
	assert_int_equal(count("tern> "), 2);
	nscreen = 0;
	type("keys\r" LOST "z");
	assert_int_equal(seen, 'z'); /* a command gets keys only */
}

/* What is typed while a command runs is the next ones', but for ^C and what came before it. */
static void test_typed_ahead(void **state)
{
	(void)state;
	type("text\rtext\rkeys\rzraw");
	assert_int_equal(count("line 99 of many"), 2);
	assert_int_equal(seen, 'z');
	assert_string_equal(screen + nscreen - 9, "tern> raw");
	nscreen = 0;
	type("text\rabc\3raw\r");
	assert_non_null(strstr(screen, "seen 1\r\n"));
	assert_non_null(strstr(screen, "\r\nraw\r\n"));
	assert_null(strstr(screen, "abc"));
}

static void shows(const char *lines, const char *never)
{
	setup(NULL);
	type("address\r");
	assert_non_null(strstr(screen, lines));
	assert_null(strstr(screen, never));
}

/* Why an address is not used, and no more than there is to say. */
static void test_addresses(void **state)
{
	(void)state;
	address = (struct host_address){ .wanted = "10.77.0.11/24", .state = "probing", .state6 = "none" };
	shows("10.77.0.11/24: probing, not used yet\r\n", "none");
	address.no_link = true;
	shows("10.77.0.11/24: no link\r\n", "probing");
	address = (struct host_address){ .state = "none", .address6 = "fd00::b", .state6 = "probing" };
	shows("fd00::b: probing, not used yet\r\n", "none");
	address.state6 = "ok";
	shows("address6       fd00::b\r\n", "no address");
	address = (struct host_address){ .state = "none", .state6 = "probing" };
	shows("no IPv6 address yet: no router's word\r\n", "none");
	address.state6 = "none";
	shows("no address     none\r\n", "probing");
}

/* A line with a key that is lost is not run. */
static void test_lost_key(void **state)
{
	(void)state;
	char line[600] = "raw #";
	type("ra\xe2\x80\x93w\rraw\r");
	assert_non_null(
		strstr(screen, "ra\a\a\aw\r\nerror: the line was too long, or a key no ASCII character: not run\r\n"));
	assert_int_equal(count("\r\nraw\r\n"), 1);
	/* Nor is it offered again; a draft that is left and come back to is what it was. */
	type("\x1b[A\r");
	assert_int_equal(count("\r\nraw\r\n"), 2);
	type("ra\xe2\x80\x93w\r\x1b[A\r");
	assert_int_equal(count("\r\nraw\r\n"), 3);
	type("ha\xe2\x80\x93w\x1b[A\x1b[B\r");
	assert_int_equal(count("not run"), 3);
	setup(NULL);
	memset(line + 5, 'x', EDIT_LINE);
	strcpy(line + EDIT_LINE, "\r");
	type(line);
	assert_int_equal(count("not run"), 1);
}

static void to_screen(struct con *c unused, const char *s, size_t n) { uart_write(s, n); }

/* Each CPU of a large host; what a VM's vCPUs have done, and together. */
static void test_top(void **state)
{
	(void)state;
	unsigned ncpus = host_info.ncpus;
	host_info.ncpus = 1024;
	struct top_sample before, now;
	assert_int_equal(sample(&before) || sample(&now), 0);
	assert_true(now.n == 0 && now.idle_ns[1023] == 1023);
	struct top_vcpu was[] = { { .vm = "b", .run_ns = 7 }, { .vm = "a" }, { .vm = "a", .id = 1 } };
	struct top_vcpu is[] = {
		{ .vm = "b", .run_ns = 7 + NS_PER_SEC / 4, .exits = { 3 }, .memory = 5 },
		{ .vm = "a", .run_ns = NS_PER_SEC, .exits = { 10, 2 }, .sent = 9 },
		{ .vm = "a", .id = 1, .run_ns = NS_PER_SEC / 2, .wait_ns = NS_PER_SEC / 2, .exits = { 1 }, .sent = 9 },
	};
	struct top_sample s[2] = { { .vcpu = was, .n = 3, .idle_ns = before.idle_ns },
				   { .vcpu = is, .n = 3, .idle_ns = now.idle_ns, .at_ns = NS_PER_SEC } };
	struct con c = { .write = to_screen, .json = true };
	show(&c, &s[0], &s[1]);
	out_end(&c);
	assert_non_null(strstr(screen, "{\"cpu\":1023,\"busy_us\":1000000}]"));
	assert_non_null(strstr(screen, "\"vms\":[{\"vm\":\"b\",\"memory\":5,"));
	assert_non_null(strstr(screen, "\"run_us\":250000,\"wait_us\":0,\"exits_per_s\":3,"));
	assert_non_null(strstr(screen, "\"sent_per_s\":9,\"dirtied_per_s\":0,"
				       "\"run_us\":1500000,\"wait_us\":500000,\"exits_per_s\":13,"));
	assert_int_equal(count("\"run_us\""), 5);
	setup(NULL);
	c.json = false;
	show(&c, &s[0], &s[1]);
	assert_non_null(strstr(screen, "a/1                     50%      50%         1"));
	assert_non_null(strstr(screen, "a/all                  150%      50%        13"));
	assert_null(strstr(screen, "b/all"));
	free(before.vcpu);
	free(now.vcpu);
	host_info.ncpus = ncpus;
}

static bool is_word(const char *typed) { return !strcmp(typed, "word"); }

/* Locked until the word is typed, and when nobody types any more; not while a command runs. The last test. */
static void test_password(void **state)
{
	(void)state;
	fake_time_freeze(1000 * NS_PER_SEC);
	console_lock(is_word);
	console_write("for nobody");
	type("raw\r\nraw\rword\b\bxx\rworx\bd\r\ntext\rlong\rraw\r");
	assert_null(strstr(screen, "for nobody"));
	assert_int_equal(count("password: "), 4);
	assert_int_equal(count("\r\nraw\r\n"), 1);
	assert_int_equal(count("its end"), 1);
	assert_int_equal(count("line 99"), 1);
	assert_null(strstr(screen, "\x1b[2J"));
	setup(NULL);
	type("keys\r" LATER "raw\r"
	     "word\rraw\r"); /* in a command that reads keys: it ends, and the prompt locks */
	assert_int_equal(seen, CONSOLE_LEAVE_KEY);
	assert_int_equal(count("\x1b[2J"), 1);
	assert_int_equal(count("password: "), 2);
	assert_int_equal(count("\r\nraw\r\n"), 1);
	setup(NULL);
	type("left\r\3raw\rword\rraw\r"); /* so does it for whoever ends by ^C what somebody else left running */
	assert_int_equal(seen, 1);
	assert_int_equal(count("\x1b[2J"), 1);
	assert_int_equal(count("\r\nraw\r\n"), 1);
	setup(NULL);
	on_wait = ctrl_c;
	type("left2\rraw\rword\rraw\r");
	assert_int_equal(count("\x1b[2J"), 1);
	assert_int_equal(count("\r\nraw\r\n"), 1);
	setup(NULL);
	type("top\r" LATER "qraw\r"
	     "word\rraw\r"); /* what shows itself anew is no key */
	assert_int_equal(count("password: "), 2);
	assert_int_equal(count("\r\nraw\r\n"), 1);
	setup(NULL);
	type("typed" LATER);
	assert_int_equal(count("\x1b[2J"), 1);
	assert_int_equal(count("password: "), 1);
	fake_time_thaw();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(test_waits_in_pieces),
		T(test_log_stays_out_of_json),
		T(test_ctrl_c_ends_output),
		T(test_ctrl_c_ends_json),
		T(test_raw),
		T(test_standing_terminal),
		T(test_loss_redraws_prompt),
		T(test_typed_ahead),
		T(test_addresses),
		T(test_lost_key),
		T(test_top),
		T(test_password),
	};
	return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
