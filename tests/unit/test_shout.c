/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions by frame: who has it answers, and what was recorded on the wire and is repeated has no effect. */
#include "kernel/random.h"
#include "net/hostframe.h"
#include "net/trust.h"
#include "tests/unit/fake_hosts.h"
#include "vmm/migrate/migration.h"
#include "vmm/migrate/probe.h"
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

void hostframe_reply(const struct hostframe_from *from, const void *payload, size_t len)
{
	int me = fake_host;
	answers++;
	record(&answer, payload, len);
	hear_at(from->host, me, &answer);
}

void random_bytes(void *buf, size_t n) { memset(buf, 0x5a, n); }

size_t trust_sign(uint8_t *msg unused, size_t len, size_t size unused) { return len; }
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

/* A question repeated gets no answer; one from before the asker's boot neither; an answer repeated is no answer. */
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
	assert_int_equal(answers, 1);
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
	hear_at(B, C, &before);
	assert_int_equal(answers, 1);
	vm = vm_new_at(A, VM_STOPPED);
	ask(&s, &q, vm); /* the boot after it is heard */
	assert_true(s.heard);
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

/* Of two questions the later one may come first; each is heard once, and those from long before are not any more. */
static void test_out_of_order(void **state unused)
{
	struct vm *vm = vm_new_at(A, VM_STOPPED);
	struct recorded asked[SHOUT_HEARD + 2];
	struct shout s;
	struct who q;
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++) {
		ask(&s, &q, vm);
		asked[i] = question;
	}
	fake_host_restart(B);
	vm_new_at(B, VM_RUNNING);
	for (unsigned i = ARRAY_SIZE(asked); i-- > 2;)
		hear_at(B, A, &asked[i]);
	assert_int_equal(answers, SHOUT_HEARD);
	for (unsigned i = 0; i < ARRAY_SIZE(asked); i++)
		hear_at(B, A, &asked[i]);
	assert_int_equal(answers, SHOUT_HEARD);
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
	for (unsigned i = 0; i < 3; i++) { /* falling, the same again, and the highest there is */
		static const uint8_t first[3] = { 0xff, 0x01, 0x01 };
		memset(question.p, first[i], 8);
		hear_at(B, A, &question);
		assert_int_equal(answers, i + 2);
	}
	for (unsigned i = 0; i < 24; i++) /* a host that starts asks for all its VMs at once */
		hear_at(B, A, &question);
	assert_int_equal(answers, 28);
	word = TRUST_PROVED;
	ask(&s, &q, vm);
	assert_true(s.heard);
	word = TRUST_DENIED;
	ask(&s, &q, vm);
	assert_false(s.heard);
	assert_int_equal(answers, 29);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_who_has_it_answers, setup),
		cmocka_unit_test_setup(test_repeated, setup),
		cmocka_unit_test_setup(test_repeated_question_takes_no_lease, setup),
		cmocka_unit_test_setup(test_out_of_order, setup),
		cmocka_unit_test_setup(test_unproved, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
