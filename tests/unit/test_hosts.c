/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Three hosts in one process: the ways in which a VM could come to run twice, or be lost, by name. Each was possible
 * once; starting a VM that runs on another host is a panic (fake_hosts.c). tests/model/ has the same scenarios, over
 * the same rules.
 */
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_net.h"
#include "tests/unit/pipe.h"
#include "net/trust.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/departed.h"
#include "vmm/migrate/lease.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/migrate.h"
#include "vmm/migrate/settle.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { A, B, C };

/* ---- doing things on hosts ---- */

static struct vm *vm_at(int h) { return fake_vm_find(h, "demo"); }

static bool runs_at(int h)
{
	struct vm *vm = vm_at(h);
	return vm && __atomic_load_n(&vm->state, __ATOMIC_SEQ_CST) == VM_RUNNING;
}

static struct vm *vm_new_at(int h, enum vm_state state)
{
	struct vm *vm = NULL;
	ON_HOST(h) vm = fake_vm_new("demo", MIB(2));
	vm->state = state;
	return vm;
}

static bool any_network;
static void begin_move(int from, int to)
{
	struct migrate_params p = { .dest = fake_net_address(to),
				    .port = MIGRATE_PORT,
				    .max_downtime_ms = 300,
				    .max_passes = 30,
				    .any_network = any_network };
	ON_HOST(from) assert_int_equal(migrate_start(vm_at(from), &p, NULL), 0);
}

static void move(int from, int to)
{
	begin_move(from, to);
	ON_HOST(from) assert_int_equal(migrate_wait("demo", time_in_ms(20000)), 0);
	WAIT_FOR(runs_at(to) && !vm_at(from));
}

static enum migrate_phase phase_at(int h, char error[256])
{
	struct migrate_status s = { .phase = MIG_CONNECT };
	ON_HOST(h)
	for (unsigned i = 0; migrate_get(i, &s) && s.incoming;)
		i++;
	if (error)
		memcpy(error, s.error, sizeof(s.error));
	return s.phase;
}

static bool says_at(int h, const char *text)
{
	char error[256] = "";
	phase_at(h, error);
	return strstr(error, text) != NULL;
}

static void cut_off(int h, bool cut)
{
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_net.cut[h][i] = fake_net.cut[i][h] = cut && i != h;
}

static void cut_a_off(int from unused, int to unused) { cut_off(A, true); }

/* A's move to B: B starts it, and then neither STARTED nor anything else gets to A. */
static void started_is_lost(void)
{
	vm_new_at(A, VM_RUNNING);
	failpoint_set(P19_STARTED_LOST, FAIL_CUT, 1);
	fake_net.connected = cut_a_off; /* from the first connection on, which is the migration's own */
	begin_move(A, B);
	WAIT_FOR(runs_at(B) && phase_at(A, NULL) == MIG_UNDECIDED);
	fake_net.connected = NULL;
}

static enum record_state record_at(int h, const struct attempt_id *id)
{
	enum record_state s = RECORD_NONE;
	ON_HOST(h) s = attempt_find(id, NULL);
	return s;
}

/* The record that h holds, of which there is one. */
static struct attempt_id only_record(int h)
{
	struct decision d = { .state = RECORD_NONE }, more;
	ON_HOST(h) assert_true(attempt_get(0, &d) && !attempt_get(1, &more));
	return d.id;
}

static int setup(void **state unused)
{
	memset(&fake_net, 0, sizeof(fake_net));
	fake_frame_passes = NULL;
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	fake_net_peers(A, "bc");
	fake_net_peers(B, "ac");
	fake_net_peers(C, "ab");
	return 0;
}

static int teardown(void **state unused)
{
	memset(&fake_net, 0, sizeof(fake_net)); /* whoever still waits for an answer gets one */
	bool ended = fake_tasks_wait();
	for (int i = 0; i < FAKE_HOSTS; i++)
		fake_host_restart(i);
	return ended && !fake_page_live() ? 0 : -1;
}

/* ---- starting, as vmm/vm_start.c does it ---- */

struct starting {
	int h;
	enum start_policy policy;
	uint64_t patience_ns;
	const struct vm_waiter *waiter;
	int err;
	struct why w;
	bool over; /* [a] */
};

static void start_task(void *arg)
{
	struct starting *s = arg;
	struct vm *vm = vm_at(s->h);
	assert_true(vm_lease(vm, VM_LEASE_NONE, VM_LEASE_ASKING));
	s->err = lease_ask(vm, s->policy, s->patience_ns, s->waiter, &s->w);
	if (!s->err) {
		vm->state = VM_PAUSED;
		vm_resume(vm); /* a panic if it runs anywhere else */
	}
	__atomic_store_n(&vm->lease, VM_LEASE_NONE, __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->over, true, __ATOMIC_SEQ_CST);
}

static void start_begin(struct starting *s)
{
	ON_HOST(s->h) assert_non_null(task_create("start", TASK_PRIO_NORMAL, start_task, s));
}

static bool is_over(struct starting *s) { return __atomic_load_n(&s->over, __ATOMIC_SEQ_CST); }

/* `vm start` at h: its error, and what it says must hold `text`. */
static void start_refused(int h, int err, const char *text)
{
	struct starting s = { .h = h, .policy = START_OPERATOR };
	start_begin(&s);
	WAIT_FOR(is_over(&s));
	if (s.err != err || !strstr(s.w.text, text))
		fail_msg("start: %d, %s; not %d, %s", s.err, s.w.text, err, text);
}

static void start_works(int h)
{
	struct starting s = { .h = h, .policy = START_OPERATOR };
	start_begin(&s);
	WAIT_FOR(is_over(&s));
	if (s.err)
		fail_msg("start: %s", s.w.text);
	assert_true(runs_at(h));
}

/* ---- way 1: the destination restarted, and the VM has gone on, has been stopped, or has died with it ---- */

static void test_started_lost_and_moved_on(void **state unused)
{
	started_is_lost();
	struct attempt_id id = only_record(B);
	move(B, C);
	assert_int_equal(record_at(C, &id), RECORD_STARTED); /* the debt has travelled with the VM */
	fake_host_restart(B);
	cut_off(A, false);
	WAIT_FOR(!vm_at(A));
	assert_true(runs_at(C));
	WAIT_FOR(phase_at(A, NULL) == MIG_DONE);
	ON_HOST(C) assert_int_equal(settle_once(TIME_NEVER), 0); /* A holds it no more */
}

static void test_started_lost_and_stopped(void **state unused)
{
	started_is_lost();
	ON_HOST(B) vm_destroy(vm_at(B)); /* `vm stop`, `vm forget` */
	cut_off(A, false);
	WAIT_FOR(!vm_at(A)); /* freed: the record outlives the VM */
	assert_false(runs_at(B));
}

static void test_started_lost_and_crashed(void **state unused)
{
	started_is_lost();
	fake_host_restart(B);
	fake_net.off[C] = true;
	cut_off(A, false);
	WAIT_FOR(says_at(A, "c does not answer")); /* B does not remember, which is no answer; and C may have it */
	struct why w = { "" };
	ON_HOST(A) assert_int_equal(migrate_claim("demo", false, &w), -EPERM);
	fake_net.off[C] = false;
	WAIT_FOR(says_at(A, "none has it"));
	assert_int_equal(vm_at(A)->state, VM_UNDECIDED);
	ON_HOST(A) assert_int_equal(migrate_claim("demo", false, &w), 0);
	WAIT_FOR(runs_at(A));
}

/* B runs it, and says so to everybody but A, whose image the operator throws away: then it is as if A had been told. */
static void test_started_lost_and_forgotten(void **state unused)
{
	struct departure d;
	started_is_lost();
	struct why w = { "" };
	ON_HOST(A)
	{
		assert_int_equal(migrate_forget("demo", false, &w), -EPERM);
		assert_non_null(strstr(w.text, "this may be its only image"));
		assert_non_null(strstr(w.text, "vm forget demo --force"));
		assert_int_equal(vm_at(A)->state, VM_UNDECIDED);
		assert_int_equal(migrate_forget("demo", true, &w), 0);
	}
	WAIT_FOR(!vm_at(A));
	WAIT_FOR(phase_at(A, NULL) == MIG_FAILED);
	WAIT_FOR(says_at(A, "forgotten by the operator"));
	ON_HOST(A)
	{
		assert_true(departed_get("demo", 0, &d) && !strcmp(d.host, "b")); /* as far as A knows */
		assert_int_equal(migrate_forget("demo", true, &w), -ENOENT);
	}
	assert_true(runs_at(B));
	cut_off(A, false);
	move(B, A); /* it comes home */
	assert_true(runs_at(A));
	ON_HOST(A) assert_false(departed_get("demo", 0, NULL));
}

/*
 * A NEVER that comes with the operator's word: he knows of a copy that no record tells of, so the image does not run.
 */
static void test_forget_beats_never(void **state unused)
{
	started_is_lost();
	struct decision never = { .state = RECORD_NEVER, .id = only_record(B), .by = fake_hosts[B].inc };
	ON_HOST(B) vm_destroy(vm_at(B));
	struct why w = { "" };
	ON_HOST(A)
	{
		assert_int_equal(migrate_forget("demo", true, &w), 0);
		(void)migration_told(&never);
	}
	WAIT_FOR(!vm_at(A));
	WAIT_FOR(says_at(A, "forgotten by the operator"));
}

/* Who asks knows what he has himself: nobody calls him for that, so a way that leads only from him is no silence. */
static void test_asker_is_not_asked(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net_peers(B, "a");
	vm_new_at(A, VM_STOPPED);
	fake_net.fails[A] = -ETIMEDOUT;
	start_works(A);
	fake_net.fails[A] = 0;
}

/* One that is off where its disks are is not started elsewhere, with disks that know nothing of what was written. */
static void test_off_with_its_disks(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net_peers(B, "a");
	vm_new_at(A, VM_STOPPED);
	vm_new_at(B, VM_STOPPED);
	vm_at(B)->has_disks = true;
	start_refused(A, -EEXIST, "demo is at b");
	start_works(B);
}

/* A [peer] that cannot be asked may have it: nothing starts by itself, and `vm start` says whom it means. */
static void test_lost_peer(void **state unused)
{
	static const char text[] = "d could not be asked: its section of tern.conf is wrong";
	struct starting s = { .h = A, .policy = START_ALONE, .patience_ns = 0 };
	fake_net_peers(A, "b");
	vm_new_at(A, VM_STOPPED);
	fake_hosts[A].lost_peer = "d";
	start_refused(A, -EAGAIN, text);
	start_begin(&s);
	WAIT_FOR(strstr(vm_text_get(&vm_at(A)->waits_for).s, text));
	assert_false(is_over(&s));
	vm_at(A)->lease = VM_LEASE_TAKEN; /* `vm start --force` */
	WAIT_FOR(is_over(&s));
	fake_hosts[A].lost_peer = NULL;
	start_works(A);
}

/* `vm forget` of one that waits for a silent peer: nobody goes on asking for it. */
static void test_lease_is_taken_away(void **state unused)
{
	struct starting s = { .h = A, .policy = START_AUTO };
	vm_new_at(A, VM_STOPPED);
	fake_net.off[C] = true;
	start_begin(&s);
	WAIT_FOR(strstr(vm_text_get(&vm_at(A)->waits_for).s, "c does not answer"));
	assert_int_equal(vm_at(A)->lease, VM_LEASE_ASKING);
	ON_HOST(A) vm_lease_drop(vm_at(A)); /* as vm_remove() does */
	WAIT_FOR(is_over(&s));
	assert_int_equal(s.err, -ECANCELED);
	assert_false(runs_at(A));
}

/* Another host has the destination's address by now: what it says of itself is not the destination's word. */
static void test_another_host_at_the_address(void **state unused)
{
	started_is_lost();
	fake_net.who_has[B] = C + 1;
	fake_net_peers(A, "b");
	fake_net_peers(C, "");
	cut_off(A, false);
	WAIT_FOR(says_at(A, "another host"));
	for (unsigned i = 0; i < 50; i++, fake_nap())
		assert_int_equal(vm_at(A)->state, VM_UNDECIDED);
	fake_net.who_has[B] = 0;
	WAIT_FOR(!vm_at(A));
	assert_true(runs_at(B));
}

/* B cannot be asked by A, but reaches it: it settles its debt. */
static void test_settled_from_the_other_side(void **state unused)
{
	started_is_lost();
	cut_off(A, false);
	fake_net.cut[A][B] = fake_net.cut[A][C] = true;
	ON_HOST(B) assert_int_equal(settle_once(TIME_NEVER), 1); /* A still holds it, and now knows */
	WAIT_FOR(!vm_at(A));
	WAIT_FOR(phase_at(A, NULL) == MIG_DONE);
	ON_HOST(B) assert_int_equal(settle_once(TIME_NEVER), 0);
}

/* ---- way 2: what is busy is not silent, and questions are served beside migrations ---- */

struct greeter {
	struct stream *s;
	struct wire_tx tx;
	struct wire_rx rx;
	struct hello h;
};

static void greeter_open(struct greeter *g, bool greet)
{
	struct why w = { "" };
	assert_int_equal(trust_connect(&g->s, fake_net_address(B), MIGRATE_PORT, time_in_ms(5000), NULL, &w), 0);
	assert_int_equal(wire_tx_init(&g->tx, g->s), 0);
	assert_int_equal(wire_rx_init(&g->rx, g->s), 0);
	if (greet)
		assert_int_equal(hello_exchange(&g->tx, &g->rx, &g->h, time_in_ms(5000), &w), 0);
}

static void greeter_close(struct greeter *g)
{
	wire_tx_fini(&g->tx);
	wire_rx_fini(&g->rx);
	stream_close(g->s);
}

static uint32_t greeter_offers(struct greeter *g, unsigned n)
{
	static struct offer o;
	uint8_t uuid[16] = { 'x', (uint8_t)n };
	o = (struct offer){ .cfg = { .mem = MIB(2),
				     .vcpus = 1,
				     .nnics = 1,
				     .mtu = { 1500 },
				     .mac = { { 2, 0, 0, 0, 0, (uint8_t)n } } },
			    .id = attempt_new_id(uuid) };
	snprintf(o.cfg.name, sizeof(o.cfg.name), "slow%u", n);
	memcpy(o.cfg.uuid, uuid, 16);
	vm_compat_get(NULL, &o.compat);
	assert_int_equal(offer_send(&g->tx, &o, time_in_ms(5000)), 0);
	g->tx.key = g->rx.key = attempt_key(&o.id);
	do
		assert_int_equal(wire_recv(&g->rx, time_in_ms(5000), NS_PER_SEC, NULL), 0);
	while (g->rx.type == WIRE_PREPARING);
	return g->rx.type;
}

static void test_full_house_still_answers(void **state unused)
{
	struct greeter slow[9], idle[40];
	fake_net_peers(A, "b");
	for (unsigned i = 0; i < 9; i++) {
		greeter_open(&slow[i], true);
		assert_int_equal(greeter_offers(&slow[i], i), i < 8 ? WIRE_ACCEPT : WIRE_REFUSE);
	}
	assert_int_equal(wire_get_u32(&slow[8].rx), REFUSE_BUSY);
	for (unsigned i = 0; i < 40; i++)
		greeter_open(&idle[i], false);
	vm_new_at(B, VM_RUNNING);
	vm_new_at(A, VM_STOPPED);
	start_refused(A, -EEXIST, "demo is at b");
	for (unsigned i = 0; i < 40; i++)
		greeter_close(&idle[i]);
	for (unsigned i = 0; i < 9; i++)
		greeter_close(&slow[i]);
}

static unsigned greetings(const struct stream *s)
{
	struct migrate_host *h = &fake_hosts[B];
	unsigned n = 0;
	mutex_lock(&h->greetings_lock);
	for (unsigned i = 0; i < h->ngreetings; i++)
		n += !s || h->greetings[i] == s;
	mutex_unlock(&h->greetings_lock);
	return n;
}

/* B is called from that address, by somebody who then says nothing; both ends. */
static void stranger_calls(struct ip ip, struct stream *ends[2])
{
	assert_int_equal(stream_pipe(ends, 4096), 0);
	ends[1]->ip = ip;
	fake_net_serve(B, ends[1]);
	WAIT_FOR(greetings(ends[1]));
}

/*
 * Places of those who have proved nothing. A stranger gives his to whoever comes; of peers, who has most of them; and a
 * peer's one connection stays while strangers call, even with the addresses of other peers.
 */
static void test_strangers_do_not_evict_peers(void **state unused)
{
	struct stream *peer[2], *other[60][2];
	fake_net_peers(B, "ac");
	fake_net.unproved = true;
	stranger_calls(fake_net_address(A), peer);
	for (unsigned i = 0; i < 60; i++)
		stranger_calls(i % 2 ? ip_of4(1000 + i) : fake_net_address(C), other[i]);
	WAIT_FOR(greetings(NULL) == GREETINGS_MAX);
	assert_true(greetings(peer[1]));
	__atomic_store_n(&fake_net.unproved, false, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < 60; i++)
		stream_close(other[i][0]);
	stream_close(peer[0]);
	WAIT_FOR(!greetings(NULL));
}

/* Who speaks in clear and may not: a peer is told why, one at a time; a stranger gets nothing, not even a name. */
static void test_in_clear_without_leave(void **state unused)
{
	uint8_t buf[64];
	struct stream *end[2];
	fake_net_peers(B, "a");
	fake_net.accepts = -EPERM;
	for (unsigned told = 0; told < 2; told++) {
		assert_int_equal(stream_pipe(end, 4096), 0);
		end[1]->ip = told ? fake_net_address(A) : ip_of4(1234);
		fake_net_serve(B, end[1]);
		int n = stream_read_some(end[0], buf, sizeof(buf), time_in_ms(5000));
		assert_int_equal(n > 0, told);
		stream_close(end[0]);
	}
	assert_true(fake_tasks_wait());
	assert_false(fake_hosts[B].telling);
}

/* A VM goes where its network is; no other host takes it, and it runs on. */
static void test_goes_where_its_network_is(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_RUNNING);
	strcpy(vm->cfg.net[0], "prod");
	fake_net_peers(A, "b");
	fake_host_net[B] = "lan";
	begin_move(A, B);
	WAIT_FOR(says_at(A, "there is no network prod here"));
	assert_true(runs_at(A));
	fake_host_net[B] = "prod";
	fake_reach = -EHOSTUNREACH; /* of that name, but not the same one */
	begin_move(A, B);
	WAIT_FOR(says_at(A, "frames do not get to b"));
	assert_true(runs_at(A));
	fake_reach = -ENETDOWN; /* there is nothing to lose */
	move(A, B);
	assert_string_equal(vm_at(B)->cfg.net[0], "prod");
	fake_host_net[B] = NULL;
	vm_at(B)->cfg.mtu[0] = 9000;
	begin_move(B, A);
	WAIT_FOR(says_at(B, "its network lan has an MTU of 1500 there, and its guest uses 9000"));
	assert_true(runs_at(B));
	fake_host_mtu[A] = 9001;
	fake_reach = -EHOSTUNREACH;
	any_network = true; /* the operator knows better */
	move(B, A);
	any_network = false;
	assert_int_equal(vm_at(A)->cfg.mtu[0], 9000); /* until it is started anew */
	fake_host_mtu[A] = 0;
	fake_reach = 0;
	vm_at(A)->cfg.mtu[0] = 1500; /* with a second card */
	vm_at(A)->cfg.nnics = 2;
	vm_at(A)->cfg.mtu[1] = 1500;
	memcpy(vm_at(A)->cfg.mac[1], (const uint8_t[]){ 2, 4, 6, 8, 10, 12 }, 6);
	strcpy(vm_at(A)->cfg.net[1], "store");
	fake_host_net[B] = "prod";
	begin_move(A, B);
	WAIT_FOR(says_at(A, "there is no network store here"));
	assert_true(runs_at(A));
	fake_host_net[B] = NULL;
	move(A, B);
	assert_true(vm_at(B)->cfg.nnics == 2 && !strcmp(vm_at(B)->cfg.net[1], "store") &&
		    vm_at(B)->cfg.mac[1][5] == 12);
	fake_reach_silent = "store"; /* which counts if it has had the time */
	begin_move(B, A);
	WAIT_FOR(says_at(B, "nothing comes from a"));
	assert_true(runs_at(B));
	fake_reach_slow = true;
	fake_log_clear();
	move(B, A);
	assert_true(fake_log_has("no time was left to find out whether a is on its network store"));
	fake_reach_silent = NULL;
	fake_reach_slow = false;
	move(A, B);
	/* Where it sends tags, and there alone, its network is not tried. */
	fake_reach = -EHOSTUNREACH;
	vm_at(B)->cfg.s.trunk = 4;
	begin_move(B, A);
	WAIT_FOR(says_at(B, "frames do not get to a"));
	assert_true(runs_at(B));
	vm_at(B)->cfg.s.trunk = 6;
	move(B, A);
	assert_int_equal(vm_at(A)->cfg.s.trunk, 6);
	fake_reach = 0;
}

/*
 * autostart = alone takes silence for death. A reset is a sign of life, and so is all that a host which could not be
 * asked may be doing.
 */
static void test_what_is_no_silence(void **state unused)
{
	static const struct {
		int err;
		const char *text;
	} t[] = {
		{ -ECONNREFUSED, "b is there, but gives no answer" },
		{ -EBUSY, "b is there, but gives no answer" }, /* TLS was not finished */
		{ -EPROTO, "b is there, but gives no answer" },
		{ -EACCES, "b has another key than this host" },
		{ -EINVAL, "b could not be asked: this host has no key for it" },
		{ -EPERM, "b could not be asked: no network for migrations leads to it" },
		{ -ENETDOWN, "b could not be asked: this host's own network is not up" },
		{ -ENOMEM, "b could not be asked: this host lacks memory" },
	};
	fake_net_peers(A, "b");
	vm_new_at(B, VM_RUNNING);
	vm_new_at(A, VM_STOPPED);
	struct starting s = { .h = A, .policy = START_ALONE, .patience_ns = 0 };
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		fake_net.fails[B] = t[i].err;
		start_refused(A, -EAGAIN, t[i].text);
	}
	start_begin(&s);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		__atomic_store_n(&fake_net.fails[B], t[i].err, __ATOMIC_SEQ_CST);
		WAIT_FOR(strstr(vm_text_get(&vm_at(A)->waits_for).s, t[i].text));
		assert_false(is_over(&s));
	}
	__atomic_store_n(&fake_net.fails[B], 0, __ATOMIC_SEQ_CST);
	WAIT_FOR(is_over(&s));
	assert_int_equal(s.err, -EEXIST);
}

static void test_alone(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net.off[B] = true;
	vm_new_at(A, VM_STOPPED);
	struct starting s = { .h = A, .policy = START_ALONE, .patience_ns = time_ns() + 3600 * NS_PER_SEC },
			now = { .h = A };
	start_begin(&s);
	WAIT_FOR(strstr(vm_text_get(&vm_at(A)->waits_for).s, "b does not answer, ") &&
		 strstr(vm_text_get(&vm_at(A)->waits_for).s, " s"));
	vm_at(A)->lease = VM_LEASE_TAKEN; /* as `vm start --force` does */
	WAIT_FOR(is_over(&s));
	now.policy = START_ALONE;
	start_begin(&now);
	WAIT_FOR(is_over(&now));
	assert_true(!now.err && runs_at(A));
}

/* Silent hosts are asked at the same time, all of them are named, and who waits for them may leave at once. */
static bool leaves_when_both_wait(void *arg, const char *waits_for)
{
	bool both = __atomic_load_n(&fake_net.waiting[A], __ATOMIC_SEQ_CST) == 2;
	if (both)
		snprintf(arg, 64, "%s", waits_for);
	return both;
}

static void test_silent_hosts_together(void **state unused)
{
	char waits_for[64] = "";
	struct vm_waiter waiter = { leaves_when_both_wait, waits_for };
	struct starting s = { .h = A, .policy = START_OPERATOR, .waiter = &waiter };
	fake_net.silent[B] = fake_net.silent[C] = true;
	vm_new_at(A, VM_STOPPED);
	start_begin(&s);
	WAIT_FOR(is_over(&s));
	assert_int_equal(s.err, -EINTR);
	assert_non_null(strstr(waits_for, "asks b, c, "));
	assert_int_equal(__atomic_load_n(&fake_net.waiting[A], __ATOMIC_SEQ_CST), 2); /* nobody waited for them */
	assert_string_equal(vm_text_get(&vm_at(A)->waits_for).s, "");
	__atomic_store_n(&fake_net.silent[B], false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fake_net.silent[C], false, __ATOMIC_SEQ_CST);
	assert_true(fake_tasks_wait());
	fake_net.off[B] = fake_net.off[C] = true;
	start_refused(A, -EAGAIN, "b, c do not answer");
}

/* Before a host is switched off, its peers are asked who takes the records: those that are dead all at once. */
static bool both_waited;
static void look_for_both(void *arg unused)
{
	WAIT_FOR(both_waited = __atomic_load_n(&fake_net.waiting[B], __ATOMIC_SEQ_CST) == 2);
	__atomic_store_n(&fake_net.silent[A], false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fake_net.silent[C], false, __ATOMIC_SEQ_CST);
}

static void test_hand_on_to_silent_hosts(void **state unused)
{
	started_is_lost();
	fake_net.silent[A] = fake_net.silent[C] = true;
	assert_non_null(task_create("look", TASK_PRIO_NORMAL, look_for_both, NULL));
	ON_HOST(B) assert_int_equal(settle_hand_on(TIME_NEVER), 1);
	assert_true(both_waited);
	cut_off(A, false);
	WAIT_FOR(!vm_at(A));
}

/* ---- way 3: answers of different moments ---- */

static struct stream_ops counting_ops;
static const struct stream_ops *pipe_ops;
static int answered_by_c; /* [a] connections that C has closed */
static int moves_left;    /* [a] */

static void counting_close(struct stream *s)
{
	int host = fake_host;
	pipe_ops->close(s);
	if (host == C)
		__atomic_fetch_add(&answered_by_c, 1, __ATOMIC_SEQ_CST);
}

static struct stream *count_closes(struct stream *s)
{
	pipe_ops = s->ops;
	counting_ops = *s->ops;
	counting_ops.close = counting_close;
	s->ops = &counting_ops;
	return s;
}

/*
 * A's question to B is on its way; C's answer has been "nothing". Now the VM goes from B to C, and B restarts before it
 * reads.
 */
static void move_between_questions(int from, int to)
{
	if (from != A || to != B || __atomic_sub_fetch(&moves_left, 1, __ATOMIC_SEQ_CST) != 0)
		return;
	WAIT_FOR(__atomic_load_n(&answered_by_c, __ATOMIC_SEQ_CST) > 0);
	move(B, C);
	ON_HOST(B) WAIT_FOR(!settle_once(TIME_NEVER));
	fake_host_restart(B);
}

/* B runs the VM, A is about to ask, and this happens between its two questions. */
static void between_questions(void (*happens)(int from, int to))
{
	fake_net_peers(B, ""); /* who is asked alone: no relayed question finds the VM by luck */
	fake_net_peers(C, "");
	vm_new_at(B, VM_RUNNING);
	vm_new_at(A, VM_STOPPED);
	answered_by_c = 0;
	moves_left = 1;
	fake_net.tap_server = count_closes;
	fake_net.connected = happens;
}

static void test_moves_between_questions(void **state unused)
{
	between_questions(move_between_questions);
	start_refused(A, -EEXIST, "demo is at c");
	assert_true(runs_at(C));
}

/* autostart = alone, and B dies between its VM's move to C and A's question to it: C was asked before that. */
static void die_between_questions(int from, int to)
{
	if (from != A || to != B || __atomic_sub_fetch(&moves_left, 1, __ATOMIC_SEQ_CST) != 0)
		return;
	WAIT_FOR(__atomic_load_n(&answered_by_c, __ATOMIC_SEQ_CST) > 0);
	move(B, C);
	fake_net.off[B] = true;
}

static void test_alone_after_two_rounds_alike(void **state unused)
{
	between_questions(die_between_questions);
	struct starting s = { .h = A, .policy = START_ALONE, .patience_ns = 0 };
	start_begin(&s);
	WAIT_FOR(is_over(&s));
	assert_int_equal(s.err, -EEXIST);
	assert_true(runs_at(C));
}

/* ---- way 4: two hosts of one name ---- */

static void test_one_name_twice(void **state unused)
{
	strcpy(fake_hosts[C].name, "a"); /* a copied boot volume, with another address */
	fake_net_peers(A, "bc");
	vm_new_at(A, VM_STOPPED);
	start_refused(A, -EAGAIN, "calls itself a");
	vm_new_at(C, VM_RUNNING); /* and it is not taken for ourselves */
	start_refused(A, -EEXIST, "demo is at c");
}

/* Each pair of leases, in both orders of the hosts: at most one starts. */
static void test_both_would_start(void **state unused)
{
	static const struct {
		bool asker_first;
		enum vm_lease theirs; /* when asked */
		int err;
		enum vm_lease then; /* theirs after it */
	} cases[] = {
		{ true, VM_LEASE_NONE, 0, VM_LEASE_NONE },        { true, VM_LEASE_ASKING, 0, VM_LEASE_YIELDED },
		{ true, VM_LEASE_YIELDED, 0, VM_LEASE_YIELDED },  { true, VM_LEASE_TAKEN, -EEXIST, VM_LEASE_TAKEN },
		{ false, VM_LEASE_NONE, 0, VM_LEASE_NONE },       { false, VM_LEASE_ASKING, -EEXIST, VM_LEASE_ASKING },
		{ false, VM_LEASE_YIELDED, 0, VM_LEASE_YIELDED }, { false, VM_LEASE_TAKEN, -EEXIST, VM_LEASE_TAKEN },
	};
	strcpy(fake_hosts[B].name, "one"); /* names decide nothing */
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		int from = cases[i].asker_first ? A : B, to = cases[i].asker_first ? B : A;
		struct starting s = { .h = from, .policy = START_OPERATOR };
		vm_new_at(from, VM_STOPPED);
		struct vm *theirs = vm_new_at(to, VM_STOPPED);
		theirs->lease = cases[i].theirs;
		start_begin(&s);
		WAIT_FOR(is_over(&s));
		if (s.err != cases[i].err || theirs->lease != cases[i].then)
			fail_msg("case %u: %d, theirs %d", i, s.err, theirs->lease);
		assert_true(fake_tasks_wait());
		for (int h = A; h <= B; h++)
			ON_HOST(h) vm_destroy(vm_at(h));
	}
}

/* ---- way 5: the migration network is unplugged, the VMs' is not ---- */

static bool frames_pass(int from unused, int to unused) { return true; }

static void test_migration_network_unplugged(void **state unused)
{
	vm_new_at(A, VM_RUNNING);
	move(A, B);
	assert_true(fake_tasks_wait());
	fake_host_restart(A);
	cut_off(A, true);
	vm_new_at(A, VM_STOPPED);
	start_refused(A, -EAGAIN, "b, c do not answer"); /* silence is not death */
	struct starting s = { .h = A, .policy = START_AUTO };
	start_begin(&s);
	WAIT_FOR(strstr(vm_text_get(&vm_at(A)->waits_for).s, "do not answer"));
	assert_false(is_over(&s));
	fake_frame_passes = frames_pass; /* where two copies would meet */
	WAIT_FOR(is_over(&s));
	assert_int_equal(s.err, -EEXIST);
	assert_non_null(strstr(s.w.text, "heard on its network"));
}

/* ---- way 6: the VM has moved on to a host that this one does not know ---- */

static void test_peer_of_a_peer(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net_peers(C, "b");
	vm_new_at(A, VM_RUNNING);
	move(A, B);
	move(B, C);
	assert_true(fake_tasks_wait());
	fake_host_restart(A);
	fake_host_restart(B);
	vm_new_at(A, VM_STOPPED);
	start_refused(A, -EEXIST, "demo is at c");
	fake_net.off[C] = true;
	start_refused(A, -EAGAIN, "c does not answer (asked by b)");
}

/* A host that has sent a VM away says where to. */
static void test_moved_to(void **state unused)
{
	struct departure d;
	vm_new_at(A, VM_RUNNING);
	move(A, B);
	ON_HOST(A) assert_true(departed_get("demo", 0, &d) && !strcmp(d.host, "b"));
	fake_net.off[B] = true;
	vm_new_at(C, VM_STOPPED);
	start_refused(C, -EAGAIN, "moved from a to b");
	fake_net.off[B] = false;
	ON_HOST(B) vm_destroy(vm_at(B)); /* it has ended there, and B says so */
	start_works(C);
	ON_HOST(C) vm_destroy(vm_at(C));
	vm_new_at(B, VM_RUNNING);
	move(B, A);
	ON_HOST(A) assert_false(departed_get("demo", 0, &d)); /* it has come home */
}

/*
 * A: moved to B; B: moved to C; and C asks, which holds the undecided image itself. The traces end there and keep
 * nobody waiting.
 */
static void test_traces_end_at_the_asker(void **state unused)
{
	struct starting s = { .h = C, .policy = START_OPERATOR };
	vm_new_at(A, VM_RUNNING);
	move(A, B);
	move(B, C);
	ON_HOST(C) vm_destroy(vm_at(C)); /* `vm stop` */
	vm_new_at(C, VM_STOPPED);
	start_begin(&s);
	WAIT_FOR(is_over(&s));
	if (s.err)
		fail_msg("%s", s.w.text);
}

/* What this host itself remembers counts, also of a host that is nobody's peer. */
static void test_own_departure_is_asked_for(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net_peers(B, "a");
	vm_new_at(A, VM_RUNNING);
	move(A, C);
	vm_new_at(A, VM_STOPPED);
	start_refused(A, -EEXIST, "demo is at c");
	fake_net.off[C] = true;
	start_refused(A, -EAGAIN, "moved from here to c");
	fake_host_restart(C); /* another incarnation: it says "nothing", and that is no answer */
	fake_net.off[C] = false;
	start_refused(A, -EAGAIN, "moved from here to c");
}

/* A host that cannot ask its own peers well says so, and does not pass it for "nothing". */
static void test_relay_that_is_of_no_use(void **state unused)
{
	fake_net_peers(A, "b");
	fake_net_peers(B, "c");
	fake_net_peers(C, "");
	vm_new_at(A, VM_STOPPED);
	fake_hosts[B].twin_ns = time_ns();
	start_refused(A, -EAGAIN, "b does not answer (asked by b)");
	fake_hosts[B].twin_ns = 0;
	fake_hosts[B].relaying = 1000;
	start_refused(A, -EAGAIN, "b does not answer (asked by b)");
	fake_hosts[B].relaying = 0;
	start_works(A);
}

/* ---- way 7: a record goes when its source holds the attempt no more, and not before ---- */

static void test_record_is_kept(void **state unused)
{
	started_is_lost();
	struct attempt_id id = only_record(B);
	for (unsigned i = 0; i < 5; i++)
		ON_HOST(B) assert_int_equal(settle_once(TIME_NEVER), 1);
	ON_HOST(B) vm_destroy(vm_at(B));
	assert_int_equal(record_at(B, &id), RECORD_STARTED);
	/* A restarts: its image is gone with it. */
	ON_HOST(A) assert_int_equal(migrate_claim("demo", true, NULL), 0); /* ends the attempt's task */
	WAIT_FOR(runs_at(A));
	assert_true(fake_tasks_wait());
	fake_host_restart(A);
	ON_HOST(B) assert_int_equal(settle_once(TIME_NEVER), 1); /* silent */
	cut_off(A, false);
	ON_HOST(B) assert_int_equal(settle_once(TIME_NEVER), 0);
	assert_int_equal(record_at(B, &id), RECORD_NONE);
}

/* ---- leaving ---- */

static int may_leave(int h, struct why *w)
{
	int err = 0;
	w->text[0] = 0;
	ON_HOST(h) err = migrate_may_leave(w);
	return err;
}

static void test_leaving_hands_records_on(void **state unused)
{
	struct why w;
	started_is_lost();
	assert_int_equal(may_leave(A, &w), -EBUSY);
	assert_non_null(strstr(w.text, "demo is undecided"));
	fake_net.off[C] = true;
	assert_int_equal(may_leave(B, &w), -EBUSY);
	assert_non_null(strstr(w.text, "demo, from a"));
	fake_net.off[C] = false;
	assert_int_equal(may_leave(B, &w), 0);
	struct attempt_id id = only_record(B);
	fake_host_restart(B);
	assert_int_equal(record_at(C, &id), RECORD_STARTED);
	cut_off(A, false);
	WAIT_FOR(!vm_at(A)); /* C has told it: nobody need decide */
}

/* A record handed to the very host that it is about: it acts on it, and does not store it where nobody looks. */
static void test_record_handed_to_its_source(void **state unused)
{
	struct why w;
	started_is_lost();
	fake_net_peers(B, "a");
	fake_net_peers(A, "b");
	cut_off(A, false);
	fake_net.cut[A][B] = true; /* A hears, but cannot ask */
	fake_hosts[A].undecided_resume = true;
	assert_int_equal(may_leave(B, &w), 0);
	fake_host_restart(B);
	fake_net.cut[A][B] = false;
	WAIT_FOR(!vm_at(A));
	assert_int_equal(phase_at(A, NULL), MIG_DONE);
}

/* A NEVER that was handed on is believed for the sake of who decided it. */
static void test_never_handed_on(void **state unused)
{
	struct decision d = { .state = RECORD_NEVER, .vm = "demo", .source = fake_net_address(A) };
	vm_new_at(A, VM_RUNNING);
	failpoint_set(P15_BEFORE_DECISION, FAIL_CUT, 1);
	fake_net.connected = cut_a_off;
	begin_move(A, B);
	WAIT_FOR(phase_at(A, NULL) == MIG_UNDECIDED);
	WAIT_FOR(!vm_at(B));
	fake_net.connected = NULL;
	d.id = only_record(B);
	d.by = fake_hosts[B].inc;
	struct why w;
	assert_int_equal(may_leave(B, &w), 0);
	assert_int_equal(record_at(C, &d.id), RECORD_NEVER);
	fake_host_restart(B);
	fake_net.who_has[B] = C + 1;
	cut_off(A, false);
	WAIT_FOR(runs_at(A));
}

/* A name or an address of the operator's that is this host's own. */
static void test_move_to_itself(void **state unused)
{
	vm_new_at(A, VM_RUNNING);
	begin_move(A, A);
	WAIT_FOR(phase_at(A, NULL) == MIG_FAILED);
	assert_true(says_at(A, "is this host itself"));
	assert_true(runs_at(A));
}

/* What no migration can keep is said before one begins. */
static void test_impossible_budget(void **state unused)
{
	struct migrate_params p = { .port = MIGRATE_PORT, .max_downtime_ms = 1, .max_passes = 30 };
	struct migrate_status s;
	struct why w = { "" };
	vm_new_at(A, VM_RUNNING);
	ON_HOST(A)
	{
		assert_int_equal(migrate_start(vm_at(A), &p, &w), -EINVAL);
		assert_non_null(strstr(w.text, "--max-downtime 20ms would do"));
		assert_false(migrate_get(0, &s));
	}
}

/* ---- offers ---- */

/* An OFFER of somebody else, and one that is refused, leave an attempt that is under way alone. */
static void test_offer_ends_no_other(void **state unused)
{
	struct greeter mine, other, again;
	greeter_open(&mine, true);
	assert_int_equal(greeter_offers(&mine, 1), WIRE_ACCEPT);
	ON_HOST(C)
	{
		greeter_open(&other, true);
		assert_int_equal(greeter_offers(&other, 1), WIRE_REFUSE); /* the same name and UUID */
	}
	assert_int_equal(wire_get_u32(&other.rx), REFUSE_IN_USE);
	greeter_open(&again, true);
	fake_vm_opts.compat_refuse = true;
	assert_int_equal(greeter_offers(&again, 1), WIRE_REFUSE);
	fake_vm_opts.compat_refuse = false;
	assert_int_equal(pass_send(&mine.tx, 1, PASS_FINAL, time_in_ms(5000)), 0);
	assert_non_null(fake_vm_find(B, "slow1"));
	greeter_close(&mine);
	greeter_close(&other);
	greeter_close(&again);
	WAIT_FOR(!fake_vm_find(B, "slow1"));
}

/* What an operator reads is what tern.conf calls a host; who is in no [peer] keeps his address. */
static void test_peer_is_named(void **state unused)
{
	static const struct {
		const char *peer, *ip, *name;
	} said[] = {
		{ "10.77.0.11", "10.77.0.11", "b" },
		{ "10.77.0.11:59015", "10.77.0.11", "b" },
		{ "[fd00::b]:59015", "fd00::b", "b6" },
		{ "fd00::b", "fd00::b", "b6" },
		{ "10.77.0.1:59", "10.77.0.1", "10.77.0.1" },
		{ "[fd00::c]:59015", "fd00::c", "fd00::c" },
		{ "10.77.0.111", "10.77.0.111", "10.77.0.111" },
		{ "pipe", NULL, "pipe" },
	};
	static struct net_peer peers[] = { { .name = "b" }, { .name = "b6" } };
	fake_host = A;
	assert_int_equal(ip_parse("10.77.0.11", &peers[0].ip), 0);
	assert_int_equal(ip_parse("fd00::b", &peers[1].ip), 0);
	migrate_this_host()->peers = peers;
	migrate_this_host()->npeers = ARRAY_SIZE(peers);
	for (unsigned i = 0; i < ARRAY_SIZE(said); i++) {
		struct ip ip = { 0 };
		assert_true(!said[i].ip || !ip_parse(said[i].ip, &ip));
		struct migration *m = migration_new("vm", said[i].peer, ip, true);
		assert_string_equal(m->st.peer, said[i].peer);
		assert_string_equal(m->st.peer_name, said[i].name);
		migration_drop(m);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_peer_is_named),
		TEST(test_started_lost_and_moved_on),
		TEST(test_started_lost_and_stopped),
		TEST(test_started_lost_and_crashed),
		TEST(test_started_lost_and_forgotten),
		TEST(test_forget_beats_never),
		TEST(test_lease_is_taken_away),
		TEST(test_another_host_at_the_address),
		TEST(test_settled_from_the_other_side),
		TEST(test_full_house_still_answers),
		TEST(test_strangers_do_not_evict_peers),
		TEST(test_in_clear_without_leave),
		TEST(test_goes_where_its_network_is),
		TEST(test_off_with_its_disks),
		TEST(test_lost_peer),
		TEST(test_asker_is_not_asked),
		TEST(test_what_is_no_silence),
		TEST(test_alone),
		TEST(test_silent_hosts_together),
		TEST(test_hand_on_to_silent_hosts),
		TEST(test_moves_between_questions),
		TEST(test_one_name_twice),
		TEST(test_both_would_start),
		TEST(test_migration_network_unplugged),
		TEST(test_peer_of_a_peer),
		TEST(test_moved_to),
		TEST(test_record_is_kept),
		TEST(test_leaving_hands_records_on),
		TEST(test_never_handed_on),
		TEST(test_record_handed_to_its_source),
		TEST(test_traces_end_at_the_asker),
		TEST(test_own_departure_is_asked_for),
		TEST(test_relay_that_is_of_no_use),
		TEST(test_alone_after_two_rounds_alike),
		TEST(test_offer_ends_no_other),
		TEST(test_move_to_itself),
		TEST(test_impossible_budget),
	};
	setvbuf(stdout, NULL, _IOLBF, 0);
	cmocka_set_test_filter(getenv("TERN_TEST")); /* one test by name */
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(fake_paused_image);
	return failed;
}
