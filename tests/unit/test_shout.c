/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions by frame: who has it answers, and what was recorded on the wire and is repeated has no effect. */
#include "kernel/random.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/hostframe.h"
#include "net/trust.h"
#include "tests/unit/fake_hosts.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/probe.h"
#include "vmm/migrate/reach.h"
#include "vmm/migrate/shout.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { A, B, C };

/* ---- the wire: all hosts hear each other at once, and the last two frames are kept ---- */

struct hostframe_from {
	int host;
};
static void (*receiver)(const struct hostframe_from *from, const uint8_t *payload, size_t len);
struct recorded {
	uint8_t p[HOSTFRAME_MAX];
	size_t len;
};
static struct recorded question, answer;
static unsigned answers;
static int answered_to;

static void record(struct recorded *r, const void *payload, size_t len)
{
	assert_true(len <= sizeof(r->p));
	memcpy(r->p, payload, len);
	r->len = len;
}

static void hear_at(int host, int from, const struct recorded *r)
{
	ON_HOST(host) receiver(&(struct hostframe_from){ from }, r->p, r->len);
}

void hostframe_receiver(void (*fn)(const struct hostframe_from *from, const uint8_t *payload, size_t len))
{
	receiver = fn;
}

void hostframe_broadcast(const void *payload, size_t len)
{
	int from = fake_host;
	record(&question, payload, len);
	for (int h = A; h <= C; h++)
		if (h != from)
			hear_at(h, from, &question);
}

/* Network k of a host comes out at the others as network comes_out[k]; -1: nowhere. */
static const char *const nets[] = { "lan", "office" };
static int comes_out[2], at_net;
static bool no_link;
static int lacks = -1; /* the host without the network office */

struct bridge *bridge_find(const char *name, struct why *w)
{
	for (int k = 0; k < 2; k++)
		if ((!name[0] || !strcmp(name, nets[k])) && !(k && fake_host == lacks))
			return (struct bridge *)&nets[k];
	(void)why_set(w, -ENOENT, "there is no network %s here", name);
	return NULL;
}
const char *bridge_name(const struct bridge *b) { return *(const char *const *)b; }
static unsigned mtu_of[3], carries; /* of hosts' networks, and what gets through between them */
unsigned bridge_mtu(const struct bridge *b unused) { return mtu_of[fake_host]; }
static size_t frame_size; /* of what came last */
size_t hostframe_size(const struct hostframe_from *from unused) { return frame_size; }
const struct bridge *hostframe_bridge(const struct hostframe_from *from unused)
{
	return (const struct bridge *)&nets[at_net];
}
static unsigned lost, reaches_sent;
static struct recorded recorded; /* comes instead of what is lost */
static bool same_nonce;
int hostframe_broadcast_on(const struct bridge *b, const void *payload, size_t len, size_t size)
{
	int k = comes_out[(const char *const *)b - nets];
	if (no_link)
		return -ENETDOWN;
	reaches_sent++;
	if (recorded.len && same_nonce)
		memcpy(recorded.p, payload, 8);
	if (recorded.len)
		receiver(&(struct hostframe_from){ B }, recorded.p, recorded.len);
	if (k < 0 || (lost && lost--) || size > carries)
		return 0;
	at_net = k;
	frame_size = MAX(size, len);
	hostframe_broadcast(payload, len);
	return 0;
}

void hostframe_reply(const struct hostframe_from *from, const void *payload, size_t len)
{
	int me = fake_host;
	answers++;
	answered_to = from->host;
	record(&answer, payload, len);
	hear_at(from->host, me, &answer);
}

void random_bytes(void *buf, size_t n) { memset(buf, 0x5a, n); }

static unsigned proofs;
size_t trust_sign(uint8_t *msg unused, size_t len, size_t size unused)
{
	proofs++;
	return len;
}
static enum trust_word word; /* of all frames */
enum trust_word trust_check(const uint8_t *msg unused, size_t *len unused) { return word; }

/* ---- */

static struct vm *vm_new_at(int host, enum vm_state state)
{
	struct vm *vm;
	ON_HOST(host) vm = fake_vm_new("demo", MIB(2));
	vm->state = state;
	return vm;
}

static void ask(struct shout *s, struct who *q, const struct vm *vm)
{
	ON_HOST(A)
	{
		*q = probe_question(&vm->cfg, WHO_STARTING);
		shout_begin(s, q);
		shout_end(s);
	}
}

static int setup(void **state unused)
{
	for (int h = A; h <= C; h++)
		fake_host_restart(h);
	answers = 0;
	word = TRUST_PROVED;
	comes_out[0] = 0, comes_out[1] = 1;
	mtu_of[A] = mtu_of[B] = mtu_of[C] = carries = 9000;
	shout_init();
	return 0;
}

static void test_who_has_it_answers(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	struct shout s;
	struct who q;
	ask(&s, &q, vm);
	assert_false(s.heard);
	vm_new_at(B, VM_RUNNING);
	for (unsigned i = 1; i <= 2; i++) { /* a second question is one more */
		ask(&s, &q, vm);
		assert_true(s.heard);
		assert_string_equal(s.host, "b");
		assert_int_equal(answers, i);
	}
}

/*
 * A question repeated is answered, for it may have come by another network first, and has no other effect; an answer
 * repeated is no answer.
 */
static void test_repeated(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	struct recorded before;
	struct shout s;
	struct who q;
	vm_new_at(B, VM_RUNNING);
	ask(&s, &q, vm);
	assert_int_equal(answers, 1);
	before = question;
	hear_at(B, C, &before);
	assert_int_equal(answers, 2);
	assert_int_equal(answered_to, C);
	struct recorded old = answer;
	ON_HOST(B) vm_destroy(fake_vm_find(B, "demo"));
	ON_HOST(A)
	{
		shout_begin(&s, &q);
		receiver(&(struct hostframe_from){ B }, old.p, old.len);
		shout_end(&s);
	}
	assert_false(s.heard);
	fake_host_restart(A);
	vm_new_at(B, VM_RUNNING);
	vm = vm_new_at(A, VM_STOPPED);
	ask(&s, &q, vm); /* the boot after it is heard */
	assert_true(s.heard);
}

/* Another host of b's name is heard once, however often somebody repeats what it said; if it lives, again. */
static void test_repeated_twin(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	struct shout s;
	struct who q;
	strcpy(fake_hosts[A].name, fake_hosts[B].name);
	ask(&s, &q, vm);
	assert_int_not_equal(fake_hosts[B].twin_ns, 0);
	fake_hosts[B].twin_ns = 0;
	struct recorded said = question;
	for (unsigned i = 0; i < 3; i++)
		hear_at(B, C, &said);
	assert_int_equal(fake_hosts[B].twin_ns, 0);
	ask(&s, &q, vm);
	assert_int_not_equal(fake_hosts[B].twin_ns, 0);
}

/* What b is about to start gives way to a's own question, and to no repetition of it. */
static void test_repeated_question_takes_no_lease(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED), *other = vm_new_at(B, VM_STOPPED);
	struct shout s;
	struct who q;
	ask(&s, &q, vm);
	__atomic_store_n(&other->lease, VM_LEASE_ASKING, __ATOMIC_SEQ_CST);
	hear_at(B, C, &question);
	assert_int_equal(other->lease, VM_LEASE_ASKING);
	ask(&s, &q, vm);
	assert_int_equal(other->lease, VM_LEASE_YIELDED);
}

/* Is the question of that nonce new to b? Then its own start gives way to it. */
static bool is_new(uint64_t nonce)
{
	struct vm *other = fake_vm_find(B, "demo");
	__atomic_store_n(&other->lease, VM_LEASE_ASKING, __ATOMIC_SEQ_CST);
	put_le64(question.p, nonce);
	hear_at(B, A, &question);
	return other->lease == VM_LEASE_YIELDED;
}

/* Of two questions the later one may come first; each is heard once, and those from long before are not any more. */
static void test_out_of_order(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	const uint64_t ms = 1000 << 16, first = 5000 * ms;
	struct shout s;
	struct who q;
	ask(&s, &q, vm);
	fake_host_restart(B);
	vm_new_at(B, VM_STOPPED);
	for (unsigned i = SHOUT_HEARD; i-- > 2;) /* all at once, the last one first */
		assert_true(is_new(first + i));
	assert_true(is_new(first + SHOUT_HEARD + 1));
	assert_true(is_new(first + SHOUT_HEARD));
	assert_false(is_new(first + 1)); /* below all that are kept */
	for (unsigned i = 2; i < SHOUT_HEARD + 2; i++)
		assert_false(is_new(first + i));
	fake_host_restart(B);
	vm_new_at(B, VM_STOPPED);
	assert_true(is_new(first));
	assert_true(is_new(first - 1999 * ms));
	assert_false(is_new(first - 2001 * ms));      /* withheld, and let go later */
	for (unsigned i = 0; i < SHOUT_ASKERS; i++) { /* other hosts come; the oldest gives way */
		fake_host_restart(A);
		vm = vm_new_at(A, VM_STOPPED);
		ask(&s, &q, vm);
	}
	assert_false(is_new(get_le64(question.p)));
}

/* Hosts in clear draw nonces at random (release 0.3): all their questions are heard, whatever else was said. */
static void test_unproved(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	struct shout s;
	struct who q;
	vm_new_at(B, VM_RUNNING);
	word = TRUST_UNPROVED;
	ask(&s, &q, vm);
	for (unsigned i = 0; i < 3; i++) { /* the highest there is, a low one, and the same again */
		static const uint8_t first[3] = { 0xff, 0x01, 0x01 };
		memset(question.p, first[i], 8);
		hear_at(B, A, &question);
		assert_int_equal(answers, i + 2);
	}
	for (unsigned i = 0; i < 24; i++) /* a host that starts asks for all its VMs at once */
		hear_at(B, A, &question);
	assert_int_equal(answers, 28);
	word = TRUST_PROVED;
	proofs = 0;
	ask(&s, &q, vm);
	assert_true(s.heard);
	assert_int_equal(proofs, 2);
	word = TRUST_DENIED;
	ask(&s, &q, vm);
	assert_false(s.heard);
	assert_int_equal(answers, 29);
	/* A peer is insecure = incoming: the question is answered, without a proof; that answer is not believed. */
	word = TRUST_ASKED;
	proofs = 0;
	ask(&s, &q, vm);
	assert_false(s.heard);
	assert_int_equal(answers, 30);
	assert_int_equal(proofs, 1); /* the question's */
	word = TRUST_UNPROVED;       /* a flood */
	fake_time_freeze(time_ns() + NS_PER_SEC);
	for (unsigned i = 0; i < 100; i++)
		hear_at(B, A, &question);
	assert_int_equal(answers, 30 + 32);
	fake_time_advance(10 * NS_PER_MS);
	hear_at(B, A, &question), hear_at(B, A, &question);
	assert_int_equal(answers, 30 + 33);
	fake_time_thaw();
}

static bool in_clear, cancelled;
static uint64_t reach_ends_ns; /* 0: by itself */
static bool leaves(void *arg) { return *(bool *)arg; }
static int reach_of(const char *net, int to, struct incarnation inc, struct why *w)
{
	int err = 0;
	struct reach_to r = { .inc = inc,
			      .name = fake_hosts[to].name,
			      .mtu = 9000,
			      .end_ns = reach_ends_ns ? time_ns() + reach_ends_ns : TIME_NEVER,
			      .in_clear = in_clear,
			      .leaves = leaves,
			      .arg = &cancelled };
	reaches_sent = 0;
	ON_HOST(A) err = reach_ask(net, &r, w);
	return err;
}
static int reach(const char *net, int to, struct why *w) { return reach_of(net, to, fake_hosts[to].inc, w); }

/* Is that host on this network? It says so itself, or where the frame came out. */
static void test_reach(void **state unused)
{
	struct why w = { "" };
	assert_int_equal(reach("office", B, &w), 0);
	assert_int_equal(reach("", C, &w), 0);
	assert_int_equal(answers, 2);
	in_clear = true;
	word = TRUST_UNPROVED; /* enough for a host that is spoken with in clear */
	assert_int_equal(reach("office", B, &w), 0);
	in_clear = false;
	cancelled = true; /* which does not wait for long */
	assert_int_equal(reach("office", B, &w), -ECANCELED);
	assert_int_equal(reaches_sent, 1);
	cancelled = false;
	word = TRUST_PROVED;
	assert_int_equal(reach("cave", B, &w), -ENOENT);
	w.text[0] = 0;
	lost = 2; /* it is said again */
	assert_int_equal(reach("lan", B, &w), 0);
	assert_int_equal(reaches_sent, 4); /* and a short one beside the third */
	lost = 10;                         /* all of 5 s, while the link is cut */
	assert_int_equal(reach("lan", B, &w), 0);
	assert_int_equal(reaches_sent, 12);
	carries = 1500;
	assert_int_equal(reach("lan", B, &w), -EHOSTUNREACH);
	assert_non_null(
		strstr(w.text, "frames of 9000 bytes on its network lan do not get to b and back, short ones do"));
	w.text[0] = 0;
	mtu_of[B] = 1500;
	assert_int_equal(reach("lan", B, &w), -EHOSTUNREACH);
	assert_non_null(strstr(w.text, "its network lan has an MTU of 1500 at b, and its guest uses 9000"));
	w.text[0] = 0;
	mtu_of[B] = carries = 9000;
	comes_out[1] = 0;
	assert_int_equal(reach("office", B, &w), -EHOSTUNREACH);
	assert_non_null(strstr(w.text, "network office comes out at b on the network lan"));
	w.text[0] = 0;
	comes_out[1] = -1;
	assert_int_equal(reach("office", B, &w), -ETIMEDOUT);
	assert_non_null(strstr(w.text, "network office do not get to b"));
	assert_int_equal(reaches_sent, 14);
	comes_out[1] = 1;
	reach_ends_ns = NS_PER_SEC; /* it is as long as the caller has time */
	w.text[0] = 0;
	word = TRUST_DENIED;
	assert_int_equal(reach("office", B, &w), -ETIMEDOUT);
	no_link = true;
	assert_int_equal(reach("office", B, &w), -ENETDOWN);
	no_link = false;
	word = TRUST_PROVED;
	w.text[0] = 0;
	lacks = B; /* and says so at once */
	assert_int_equal(reach("office", B, &w), -EHOSTUNREACH);
	assert_non_null(strstr(w.text, "there is no network office for VMs at b"));
	assert_int_equal(reaches_sent, 1);
	lacks = -1;
	w.text[0] = 0;
	assert_int_equal(reach("lan", B, &w), 0);
	recorded = answer; /* the answer to one question is not that to another */
	comes_out[0] = -1;
	assert_int_equal(reach("lan", B, &w), -ETIMEDOUT);
	same_nonce = true; /* nor is another incarnation's */
	assert_int_equal(reach("lan", B, &w), 0);
	struct incarnation next = fake_hosts[B].inc;
	next.boot++;
	assert_int_equal(reach_of("lan", B, next, &w), -ETIMEDOUT);
	reach_ends_ns = 0;
	recorded.len = 0;
	same_nonce = false;
	comes_out[0] = 0;
	answers = 0; /* a question that is repeated is answered now and then */
	fake_time_freeze(time_ns());
	for (unsigned i = 0; i < 100; i++)
		hear_at(B, A, &question);
	fake_time_thaw();
	assert_true(answers >= 20 && answers <= 32);
	task_sleep_until(time_in_ms(400)); /* so many can be given again */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_who_has_it_answers, setup),
		cmocka_unit_test_setup(test_repeated, setup),
		cmocka_unit_test_setup(test_repeated_question_takes_no_lease, setup),
		cmocka_unit_test_setup(test_repeated_twin, setup),
		cmocka_unit_test_setup(test_out_of_order, setup),
		cmocka_unit_test_setup(test_reach, setup),
		cmocka_unit_test_setup(test_unproved, setup), /* the clock goes back after it */
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
