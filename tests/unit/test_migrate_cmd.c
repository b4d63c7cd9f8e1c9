/* SPDX-License-Identifier: BSD-2-Clause */
/* The command `migrate` on a table of migrations of the test's. */
#include "tests/unit/fake_kernel.h"
#include "vmm/migrate/migrate_cmd.c"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define N 200

static struct migrate_status table[N];
static bool slow[N]; /* it does not end, whoever asks it to */
static unsigned n;

bool migrate_get(unsigned i, struct migrate_status *s)
{
	if (i < n)
		*s = table[i];
	return i < n;
}
/* Of two vCPUs, of which the second has waited once. */
bool migrate_get_waits(const struct migrate_status *s, unsigned i, struct migrate_waits *w)
{
	*w = (struct migrate_waits){ 0 };
	if (i == 1)
		waits_add(w, 100 * NS_PER_US);
	return s->incoming && i < 2;
}
static struct migrate_status *find(const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(table[i].vm, name) && !migrate_cmd_is_over(&table[i]))
			return &table[i];
	return NULL;
}
int migrate_cancel(const char *name, struct why *w)
{
	struct migrate_status *s = find(name);
	if (!s)
		return -ENOENT;
	if (s->phase == MIG_UNDECIDED)
		return why_set(w, -EBUSY, "it may be running there");
	if (!slow[s - table])
		s->phase = MIG_CANCELLED;
	return 0;
}
int migrate_wait(const char *name, uint64_t deadline_ns unused) { return find(name) ? -ETIMEDOUT : 0; }
const char *migrate_phase_name(enum migrate_phase p) { return p == MIG_PASSES ? "copying" : "another"; }
uint64_t bandwidth_limit_of(struct migration *m unused) { return 0; }

/* What these tests do not come to. */
struct host_info host_info;
int migrate_start(struct vm *vm unused, const struct migrate_params *p unused, struct why *w unused) { return -EIO; }
int migrate_cmd_all(struct con *c unused, const struct migrate_params *p unused, const char *peer unused,
		    bool detach unused)
{
	return -EIO;
}
const char *const migrate_strategy_words[] = { "auto", "throttle", "stop", "abort", NULL };
int migrate_change(const char *name unused, const struct migrate_params *p unused, unsigned what unused,
		   struct why *w unused)
{
	return -EIO;
}
int migrate_limit(const char *name unused, uint64_t rate unused, struct why *w unused) { return -EIO; }
bool attempt_get(unsigned i unused, struct decision *d unused) { return false; }
enum rule_action attempt_event(const struct attempt_id *id unused, enum record_event e unused) { return 0; }
const char *migrate_peer_name(struct ip ip unused, const char *other) { return other; }
int net_peer(const char *name unused, struct ip *ip unused, struct why *w unused) { return -ENOENT; }
bool net_is_own_address(struct ip ip unused) { return false; }
void net_peer_words(const char *w unused, void (*add)(void *arg, const char *word) unused, void *arg unused) {}
bool trust_is_insecure(struct ip ip unused) { return false; }
struct vm *vm_get(const char *name unused) { return NULL; }
void vm_put(struct vm *vm unused) {}
const char *vm_state_name(enum vm_state s unused) { return ""; }
void vm_words(const char *w unused, void (*add)(void *arg, const char *word) unused, void *arg unused) {}

static char said[100000];
static void say(struct con *c unused, const char *s, size_t len)
{
	size_t at = strlen(said);
	assert_true(at + len < sizeof(said));
	memcpy(said + at, s, len);
	said[at + len] = 0;
}

static int run(int (*cmd)(struct con *c, int argc, char **argv), char *arg)
{
	struct con c = { .write = say };
	char *argv[] = { "", arg, NULL };
	said[0] = 0;
	return cmd(&c, 2, argv);
}

static int setup(void **state unused)
{
	memset(slow, 0, sizeof(slow));
	n = 0;
	return 0;
}

static void add(unsigned count, enum migrate_phase phase)
{
	for (; count--; n++) {
		table[n] = (struct migrate_status){ .phase = phase, .peer_name = "b" };
		snprintf(table[n].vm, sizeof(table[n].vm), "vm%u", n);
	}
}

/* However many there are; what cannot be cancelled or does not end is neither counted nor waited for for ever. */
static void test_cancel_all(void **state unused)
{
	assert_int_equal(run(cmd_cancel, "all"), 0);
	assert_string_equal(said, "0 cancelled. `migrate status` shows them\n");
	add(30, MIG_DONE);
	add(64, MIG_QUEUED);
	add(90, MIG_PASSES);
	table[100].incoming = true;
	assert_int_equal(run(cmd_cancel, "all"), 0);
	assert_string_equal(said, "153 cancelled. `migrate status` shows them\n");
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(table[i].phase, i == 100 ? MIG_PASSES : i < 30 ? MIG_DONE : MIG_CANCELLED);
	n = 0;
	add(1, MIG_UNDECIDED);
	add(100, MIG_PASSES);
	slow[50] = true;
	assert_int_equal(run(cmd_cancel, "all"), -EBUSY);
	assert_non_null(strstr(said, "99 cancelled"));
	n = 0;
	add(64, MIG_PASSES);
	memset(slow, 1, sizeof(slow));
	assert_int_equal(run(cmd_cancel, "all"), 0);
	assert_non_null(strstr(said, "0 cancelled"));
}

/* The rate and the limit of each that runs, within the line. */
static void test_status(void **state unused)
{
	add(3, MIG_PASSES);
	table[0].rate = 3 << 19;
	table[1].rate = 10 << 20, table[1].limit = 100 << 20;
	table[2].phase = MIG_DONE;
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_non_null(strstr(said, "\n    1.5 MiB/s, limit none\nvm1 "));
	assert_non_null(strstr(said, "\n    10 MiB/s, limit 100\nvm2 "));
	unsigned lines = 0;
	for (const char *p = said, *end; (end = strchr(p, '\n')); p = end + 1, lines++)
		assert_true(end - p <= OUT_COLUMNS);
	assert_int_equal(lines, 1 + 3 + 2);
}

/* What was compared, if that was asked for; below its row and in a report of its own. */
static void test_verified(void **state unused)
{
	struct con c = { .write = say };
	add(2, MIG_DONE);
	table[1].verified_pages = 30710;
	table[1].verified_sections = 57;
	table[1].differed_pages = 2;
	table[1].differed_at = 0x1c2000;
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_non_null(strstr(said, "\n    30710 pages, 57 sections: the same on both hosts\n"));
	said[0] = 0;
	migrate_cmd_report(&c, &table[0]);
	assert_null(strstr(said, "verified"));
	assert_null(strstr(said, "differed"));
	migrate_cmd_report(&c, &table[1]);
	assert_non_null(strstr(said, "verified"));
	assert_non_null(strstr(said, "30710 pages, 57 sections: the same on both hosts\n"));
	assert_non_null(strstr(said, "2 pages as they came, first at 1c2000: sent again\n"));
}

/* It is an option of `migrate NAME|all to PEER`. */
static void test_verify_option(void **state unused)
{
	struct migrate_params p = { 0 };
	struct con c = { .write = say };
	assert_non_null(strstr(subs[0].args, "[--verify]"));
	assert_int_equal(params_get(&c, &p), 0);
	assert_false(p.verify);
	c.opt[0][0] = c.opt[0][1] = "--verify";
	c.nopts = 1;
	assert_int_equal(params_get(&c, &p), 0);
	assert_true(p.verify);
}

/* The forecast beside what it was, of one that has left and is over: below its row, and part by part for scripts. */
static void test_forecast(void **state unused)
{
	struct con c = { .write = say, .json = true };
	add(2, MIG_DONE);
	table[1].predicted_downtime_ns = 22100 * NS_PER_US;
	table[1].downtime_ns = 14600 * NS_PER_US;
	for (unsigned i = 0; i < DOWN_VERIFY; i++) {
		table[1].predicted.ns[i] = (i + 1) * 100 * NS_PER_US;
		table[1].actual.ns[i] = (i + 1) * NS_PER_MS;
	}
	table[1].round_trips = 7;
	table[1].stopped_trips = 2;
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_non_null(strstr(said, "\n    predicted 22.1 ms: scan 1/0.1 send 2/0.2 state 3/0.3 load 4/0.4 "
				     "waits 5/0.5\n"));
	assert_null(strstr(said, "verify"));
	said[0] = 0;
	migrate_cmd_report(&c, &table[1]);
	assert_non_null(strstr(said, "\"predicted_downtime_us\":22100,"));
	assert_non_null(strstr(said, "\"predicted_scan_us\":100,\"actual_scan_us\":1000,"));
	assert_non_null(strstr(said, "\"predicted_waits_us\":500,\"actual_waits_us\":5000,\"actual_verify_us\":0,"
				     "\"round_trips\":7,\"stopped_round_trips\":2"));
	table[1].actual.ns[DOWN_VERIFY] = 80 * NS_PER_MS;
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_non_null(strstr(said, " verify 80/-\n"));
	table[1].incoming = true; /* its source has it */
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_null(strstr(said, "predicted"));
}

/* Of a guest that ran before its memory had come, in all and by vCPU. */
static void test_waits(void **state unused)
{
	struct con c = { .write = say, .json = true };
	add(2, MIG_DONE);
	table[1].incoming = true;
	migrate_cmd_report(&c, &table[1]);
	assert_non_null(strstr(said, "\"waits\":0,"));
	assert_null(strstr(said, "vcpu_"));
	waits_add(&table[1].waits, 100 * NS_PER_US);
	said[0] = 0;
	migrate_cmd_report(&c, &table[1]);
	assert_non_null(
		strstr(said, "\"wait_histogram\":\"1 <128 us\",\"vcpu_0_waits\":\"\",\"vcpu_1_waits\":\"1 <128 us\","));
	assert_int_equal(run(cmd_status, NULL), 0);
	assert_non_null(strstr(said, "waited 1 times: 1 <128 us\n"));
}

/* Those that are over, of one name or of all, newest first as in the table, within the line. */
static void test_history(void **state unused)
{
	assert_int_equal(run(migrate_cmd_history, NULL), 0);
	assert_string_equal(said, "no migration is over since tern started\n");
	add(2, MIG_DONE);
	add(1, MIG_PASSES);
	add(2, MIG_FAILED);
	strcpy(table[3].error,
	       "cancelled at its source, in words that are so many that they do not fit the line, of which "
	       "there are several");
	strcpy(table[4].vm, "vm0");
	table[1].incoming = true;
	table[1].total_ns = 1566 * NS_PER_MS;
	table[1].downtime_ns = 5 * NS_PER_MS;
	struct con c = { .write = say };
	char *argv[] = { "history", NULL };
	said[0] = 0;
	assert_int_equal(migrate_cmd_history(&c, 1, argv), 0);
	const char *at = said;
	for (unsigned i = 0; i < n; i++)
		if (i != 2)
			assert_non_null(at = strstr(at, table[i].vm));
	assert_null(strstr(said, "vm2"));
	assert_non_null(strstr(said, "from b"));
	assert_non_null(strstr(said, "\n    1566 ms in all, down 5 ms\n"));
	assert_non_null(strstr(said, "cancelled at its source"));
	for (const char *p = said, *end; (end = strchr(p, '\n')); p = end + 1)
		assert_true(end - p <= OUT_COLUMNS);
	assert_int_equal(run(migrate_cmd_history, "vm0"), 0);
	assert_non_null(strstr(said, "vm0"));
	assert_null(strstr(said, "vm1"));
	assert_null(strstr(said, "vm3"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = { T(test_cancel_all), T(test_status), T(test_verified), T(test_verify_option),
					    T(test_forecast),   T(test_waits),  T(test_history) };
	return cmocka_run_group_tests_name("migrate_cmd", tests, NULL, NULL);
}
