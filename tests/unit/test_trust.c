/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is spoken with: two hosts of one process, each with its file's peers, over TLS in memory. Who has the key is
 * served, who has another one, none, an old release, or comes back from this host itself is refused in words, at both
 * ends.
 */
#include "crypto/aead.h"
#include "kernel/host.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "net/net.h"
#include "arch/x86/fpu.h"
#include "net/tls.h"
#include "net/trust.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/pipe.h"
#include "net/peer_cmd.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define A ip_of4(0x0b004d0aU) /* 10.77.0.11 */
#define B ((struct ip){ { 0xfd, [15] = 0xc } })

struct host_info host_info = { .inc = { 0x1111, 0x2222 } };
static struct net_peer peers[2];
static bool stalls;        /* whoever connects hears nothing after TCP's answer */
static uint64_t silent_ns; /* not 0: nobody answers; then the time that was left */
static bool led_astray;    /* whoever connects is served by a host of another address */
static struct {
	struct stream *s;
	int err;
	struct why why;
	bool proved;
	struct completion done;
} server;

uint64_t fpu_xcr0_mask(void) { return 7; }
static uint64_t soon(void) { return time_in_ms(10000); }

/*
 * One table of states for two hosts: the client speaks with peers[0], b; the server knows peers[1], a, and has no key
 * in b's place. Which host a thread is on it says here.
 */
static _Thread_local bool on_server;
static uint64_t server_host; /* its identity */
const struct net_peer *net_peers(unsigned *n)
{
	static struct net_peer of_server[2];
	*n = 2;
	host_info.inc.host = on_server ? server_host : 0x1111;
	of_server[0] = (struct net_peer){ .name = "c", .ip = ip_of4(1) };
	of_server[1] = peers[1];
	return on_server ? of_server : peers;
}
bool net_is_own_address(struct ip ip) { return !led_astray && (ip_same(ip, A) || ip_same(ip, B)); }
static bool no_source; /* of random numbers */
bool random_has_source(void) { return !no_source; }
void random_bytes(void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)rand();
}

static void serve(void *arg)
{
	char byte;
	server.s = arg;
	server.err = stream_read(server.s, &byte, 1, soon()); /* the client has said who he is */
	stream_unread(server.s, (uint8_t)byte);
	on_server = true;
	server.why.text[0] = '\0';
	server.err = trust_accept(&server.s, soon(), &server.why);
	server.proved = !server.err && trust_is_proved(server.s);
	if (!server.err && stream_read(server.s, &byte, 1, soon()) == 0)
		assert_int_equal(stream_write(server.s, &byte, 1, soon()), 0);
	stream_close(server.s);
	completion_done(&server.done);
}

static unsigned trusted, proved_keys; /* connections; each end does */
void stream_tcp_trust(struct stream *s unused, bool proved)
{
	__atomic_fetch_add(&trusted, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&proved_keys, proved, __ATOMIC_SEQ_CST);
}
static const char *lost = "";
static unsigned connects;
const char *net_peer_lost(void) { return lost; }

int stream_tcp_connect(struct stream **s, struct ip ip, uint16_t port unused, uint64_t end,
		       const struct stream_canceller *canceller, struct why *w)
{
	struct stream *p[2];
	connects++;
	if (silent_ns) { /* nobody answers: what is left of the caller's time then */
		silent_ns -= end;
		return why_set(w, -ETIMEDOUT, "no answer");
	}
	assert_int_equal(stream_pipe(p, 4096), 0);
	p[0]->ip = ip;
	p[1]->ip = A;
	*s = p[0];
	assert_int_equal(completion_wait(&server.done, soon()), 0); /* a second try: the first one has ended */
	host_info.inc.host = 0x1111;                                /* who speaks next */
	if (stalls) {
		server.s = p[1];
		int err = canceller ? canceller->attach(canceller->arg, p[0]) : 0;
		if (err) {
			stream_close(p[0]);
			*s = NULL;
		}
		return err;
	}
	completion_init(&server.done);
	assert_non_null(task_create("serve", TASK_PRIO_NORMAL, serve, p[1]));
	return 0;
}

static void setup(uint8_t key_a, uint8_t key_b)
{
	memset(peers, 0, sizeof(peers));
	server_host = 0x3333;
	peers[0] = (struct net_peer){ .name = "b", .ip = B };
	peers[1] = (struct net_peer){ .name = "a", .ip = A };
	memset(peers[0].key, key_a, NET_KEY_LEN);
	memset(peers[1].key, key_b, NET_KEY_LEN);
	led_astray = false;
	trusted = proved_keys = 0;
	assert_int_equal(trust_init(), 0);
}

static struct why why;

/* The client's word; what the server says is in `server`. */
static int call(struct ip ip)
{
	struct stream *s;
	char byte = 'x';
	why.text[0] = '\0';
	memset(&server, 0, sizeof(server));
	completion_init(&server.done);
	completion_done(&server.done); /* unless somebody is called */
	int err = trust_connect(&s, ip, 7077, soon(), NULL, &why);
	if (!err && !stream_write(s, &byte, 1, soon()))
		(void)!stream_read(s, &byte, 1, soon());
	stream_close(s);
	assert_int_equal(completion_wait(&server.done, soon()), 0);
	assert_true(fake_tasks_wait());
	return err;
}

static void expect(unsigned i, enum trust_state state)
{
	uint64_t when;
	char cipher[40];
	assert_int_equal(trust_state_of(i, &when, cipher), state);
	assert_int_equal(!strncmp(cipher, "TLS 1.3, ", 9), state == TRUST_AGREED);
}

static void test_same_key(void **state unused)
{
	setup(1, 1);
	expect(0, TRUST_UNTRIED);
	assert_int_equal(call(B), 0);
	assert_int_equal(server.err, 0);
	assert_true(server.proved);
	expect(0, TRUST_AGREED);
	expect(1, TRUST_AGREED);
	assert_int_equal(trusted, 2);
	assert_int_equal(proved_keys, 2);
}

static void test_other_key(void **state unused)
{
	setup(1, 2);
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
	assert_non_null(strstr(why.text, "b has another key than this host"));
	assert_non_null(strstr(server.why.text, "not proved a key"));
	expect(0, TRUST_DIFFERS);
	expect(1, TRUST_DIFFERS);
	assert_int_equal(trusted, 0);
}

/* The same name of a key, and another key: nobody but its owner can have made it, and he is not believed. */
static void test_only_the_name_of_the_key(void **state unused)
{
	setup(1, 1);
	peers[1].key[0]++;
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
}

static void test_no_key(void **state unused)
{
	setup(0, 1);
	expect(0, TRUST_NO_KEY);
	assert_int_equal(call(B), -EINVAL);
	assert_non_null(strstr(why.text, "no key for b: `peer key` makes one"));
	setup(1, 0);
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
	expect(1, TRUST_NO_KEY);
	assert_int_equal(call(ip_of4(1234)), -EINVAL);
	assert_non_null(strstr(why.text, "is no [peer] of tern.conf"));
}

/* While the files change one after the other: the new one is key_next at one host, and then at none. */
static void test_key_next(void **state unused)
{
	static const uint8_t k[][4] = {
		{ 1, 2, 1, 0 }, { 1, 0, 1, 2 }, { 1, 2, 2, 0 }, { 2, 0, 1, 2 }, { 2, 1, 2, 0 }
	};
	for (unsigned i = 0; i < ARRAY_SIZE(k); i++) {
		setup(k[i][0], k[i][2]);
		memset(peers[0].key_next, k[i][1], NET_KEY_LEN);
		memset(peers[1].key_next, k[i][3], NET_KEY_LEN);
		assert_int_equal(trust_init(), 0);
		assert_int_equal(call(B), 0);
		assert_true(server.proved);
	}
}

static void test_in_clear(void **state unused)
{
	setup(0, 0);
	peers[0].insecure = peers[1].insecure = 1;
	assert_int_equal(call(B), 0);
	assert_int_equal(server.err, 0);
	assert_false(server.proved);
	expect(0, TRUST_INSECURE);
	assert_true(fake_log_has("speaks in clear"));
	assert_true(fake_log_has("is spoken to in clear"));

	peers[1].insecure = 0; /* the one file says so, and the other does not */
	assert_int_equal(call(B), 0);
	assert_int_equal(server.err, -EPERM);
	assert_non_null(strstr(server.why.text, "wants TLS and a key"));
	memset(peers[1].key, 1, NET_KEY_LEN);
	peers[1].insecure = NET_PEER_INSECURE; /* a key counts more */
	assert_int_equal(call(B), 0);
	assert_int_equal(server.err, -EPERM);

	/* It hears what is in clear, and itself speaks with the key. */
	peers[1].insecure = NET_PEER_INCOMING;
	assert_int_equal(call(B), 0);
	assert_int_equal(server.err, 0);
	assert_false(server.proved);
	peers[0].insecure = NET_PEER_INCOMING; /* the client's */
	memset(peers[0].key, 1, NET_KEY_LEN);
	assert_int_equal(trust_init(), 0);
	assert_int_equal(call(B), 0);
	assert_true(server.proved);
	expect(0, TRUST_AGREED);
}

/*
 * A connection of its own that is led back to a host; and one that is led to another host with the same key.
 */
static void test_led_astray(void **state unused)
{
	setup(1, 1);
	server_host = 0x1111;
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
	setup(1, 1);
	led_astray = true;
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
}

/* A host that is off costs half of the time that one gets which answers slowly. */
static void test_nobody_answers(void **state unused)
{
	struct stream *s;
	setup(1, 1);
	uint64_t end = silent_ns = time_in_ms(10000);
	assert_int_equal(trust_connect(&s, B, 7077, end, NULL, &why), -ETIMEDOUT);
	assert_null(s);
	assert_in_range(silent_ns, 4900 * NS_PER_MS, 5100 * NS_PER_MS);
	silent_ns = 0;
	expect(0, TRUST_UNREACHABLE);
}

/* It answered TCP, so it is there: no time-out of TLS may look like the silence of a host that is off. */
static void test_stalls_after_connecting(void **state unused)
{
	struct stream *s;
	setup(1, 1);
	stalls = true;
	why.text[0] = '\0';
	assert_int_equal(trust_connect(&s, B, 7077, time_in_ms(50), NULL, &why), -EBUSY);
	assert_non_null(strstr(why.text, "b answers, but did not finish"));
	expect(0, TRUST_UNREACHABLE);
	stream_close(server.s);
	stalls = false;
}

/* What its owner cancels ends at once, whatever the peer does not say, and says nothing of the peer. */
static struct stream *held;
static void abort_it(void *s) { stream_abort(s); }
static int hold(void *early, struct stream *s)
{
	if (early)
		return -ECANCELED;
	held = s;
	assert_non_null(task_create("cancel", TASK_PRIO_NORMAL, abort_it, s));
	return 0;
}
static void let_go(void *arg unused)
{
	assert_true(fake_tasks_wait()); /* as a lock does, that is held while it is aborted */
	held = NULL;
}

static void test_cancel(void **state unused)
{
	for (int early = 0; early < 2; early++) {
		const struct stream_canceller c = { hold, let_go, early ? &early : NULL };
		struct stream *s;
		setup(1, 1);
		stalls = true;
		why.text[0] = '\0';
		uint64_t begin = time_ns();
		assert_int_equal(trust_connect(&s, B, 7077, soon(), &c, &why), -ECANCELED);
		assert_in_range(time_ns() - begin, 0, 5 * NS_PER_SEC); /* of 10 */
		assert_null(s);
		assert_null(held);
		assert_non_null(strstr(why.text, "cancelled"));
		expect(0, TRUST_UNTRIED);
		stream_close(server.s);
		stalls = false;
	}
}

/* Messages outside of connections: by a key of both, whole, and in no other way. */
static void test_frames(void **state unused)
{
	uint8_t msg[300] = "who has demo?", copy[301];
	const size_t text = 13;
	setup(9, 1);
	size_t len = trust_sign(msg, text, sizeof(msg)), n = len;
	assert_int_equal(len, text + 2 * 24 + 1);
	on_server = true; /* it has the second key alone */
	assert_int_equal(trust_check(msg, &n), TRUST_PROVED);
	assert_int_equal(n, text);
	for (size_t i = 0; i < len; i++) {
		bool others = i >= text && i < text + 24; /* the proof for somebody else */
		memcpy(copy, msg, len);
		copy[i] ^= 1;
		n = len;
		assert_int_equal(trust_check(copy, &n), others ? TRUST_PROVED : TRUST_DENIED);
		n = i; /* cut */
		assert_int_equal(trust_check(msg, &n), TRUST_DENIED);
		assert_int_equal(n, i);
	}
	memcpy(copy, msg, len);
	copy[len] = 0;
	n = len + 1;
	assert_int_equal(trust_check(copy, &n), TRUST_DENIED);
	memset(copy, 0xff, sizeof(copy));
	n = sizeof(copy);
	assert_int_equal(trust_check(copy, &n), TRUST_DENIED);
	on_server = false;
	assert_int_equal(trust_sign(msg, text, text + 24), text); /* no room: no proof, nothing written behind it */
	assert_int_equal(trust_sign(msg, text, text + 25), text + 25);

	setup(0, 0); /* no key at all: as in release 0.3 */
	n = text;
	assert_int_equal(trust_sign(msg, text, sizeof(msg)), text);
	assert_int_equal(trust_check(msg, &n), TRUST_UNPROVED);
	assert_int_equal(n, text);
	peers[1].wants_key = true; /* but it cannot be read */
	assert_int_equal(trust_init(), 0);
	assert_int_equal(trust_check(msg, &n), TRUST_DENIED);
	peers[1].wants_key = false;
	lost = "d"; /* and may have had one */
	assert_int_equal(trust_init(), 0);
	assert_int_equal(trust_check(msg, &n), TRUST_DENIED);
	lost = "";
	setup(1, 0);
	assert_int_equal(trust_check(msg, &n), TRUST_DENIED);
	peers[0].insecure = NET_PEER_INCOMING; /* the one with the key */
	assert_int_equal(trust_init(), 0);
	assert_int_equal(trust_check(msg, &n), TRUST_ASKED);
	assert_int_equal(n, text);
	peers[1].insecure = NET_PEER_INSECURE;
	assert_int_equal(trust_init(), 0);
	n = text;
	assert_int_equal(trust_check(msg, &n), TRUST_UNPROVED);
	assert_int_equal(n, text);
}

/* The same while keys change: who has the new one as key_next, or has not yet taken the old one out. */
static void test_frames_key_next(void **state unused)
{
	static const uint8_t k[][5] = { /* who says it: key, key_next; who hears it; is it proved? */
					{ 1, 0, 1, 2, true },  { 1, 2, 1, 0, true }, { 1, 2, 2, 0, true },
					{ 2, 0, 1, 2, true },  { 2, 0, 2, 1, true }, { 2, 1, 1, 0, true },
					{ 1, 2, 3, 4, false }, { 1, 0, 2, 3, false }
	};
	for (unsigned i = 0; i < ARRAY_SIZE(k); i++) {
		uint8_t msg[100] = "who has demo?";
		setup(k[i][0], 0);
		memset(peers[0].key_next, k[i][1], NET_KEY_LEN);
		assert_int_equal(trust_init(), 0);
		size_t len = trust_sign(msg, 13, sizeof(msg));
		assert_int_equal(len, 13 + (k[i][1] ? 2 : 1) * 24 + 1);
		setup(0, k[i][2]);
		memset(peers[1].key_next, k[i][3], NET_KEY_LEN);
		assert_int_equal(trust_init(), 0);
		assert_int_equal(trust_check(msg, &len), k[i][4] ? TRUST_PROVED : TRUST_DENIED);
	}
}

/* Two keys at each end, and none that both have: both of the client's are tried, and no more. */
static void test_no_key_in_common(void **state unused)
{
	setup(1, 3);
	memset(peers[0].key_next, 2, NET_KEY_LEN);
	memset(peers[1].key_next, 4, NET_KEY_LEN);
	assert_int_equal(trust_init(), 0);
	connects = 0;
	assert_int_equal(call(B), -EACCES);
	assert_int_equal(server.err, -EACCES);
	assert_int_equal(connects, 2);
	assert_int_equal(trusted, 0);
	expect(0, TRUST_DIFFERS);
}

/* ---- commands ---- */

static char said[2000];
static void put(struct con *c unused, const char *s, size_t n)
{
	size_t len = strlen(said);
	assert_true(len + n < sizeof(said));
	memcpy(said + len, s, n);
	said[len + n] = '\0';
}
static bool interrupted(struct con *c unused) { return false; }

static int type(const char *command)
{
	static struct con c = { .write = put, .interrupted = interrupted };
	char line[40];
	said[0] = '\0';
	snprintf(line, sizeof(line), "%s", command);
	console_set_table(&console_cmd_peer, &console_cmd_peer + 1);
	return console_run_line(&c, line);
}

/* 64 hexadecimal digits behind `key = `, each time others; a script does not get them. */
static void test_peer_key(void **state unused)
{
	char first[65];
	no_source = false;
	assert_int_equal(type("peer key"), 0);
	assert_memory_equal(said, "key = ", 6);
	assert_int_equal(strspn(said + 6, "0123456789abcdef"), 64);
	snprintf(first, sizeof(first), "%.64s", said + 6);
	assert_int_equal(type("peer key"), 0);
	assert_null(strstr(said, first));
	assert_int_equal(type("peer key --json"), 0);
	assert_string_equal(said, "{}\n");
}

/* A CPU without random numbers: its host says so at boot, and makes no key. */
static void test_no_random_numbers(void **state unused)
{
	setup(1, 1);
	fake_log_clear();
	assert_int_equal(trust_init(), 0);
	assert_false(fake_log_has("random"));
	no_source = true;
	assert_int_equal(trust_init(), 0);
	assert_non_null(strstr(fake_log_last(), "this CPU has no random numbers (RDSEED, RDRAND)"));
	assert_int_equal(type("peer key"), -ENOTSUP);
	assert_non_null(strstr(said, "openssl rand -hex 32"));
	assert_null(strstr(said, "key = "));
	assert_int_equal(type("peer key --json"), -ENOTSUP);
	assert_non_null(strstr(said, "\"code\":\"ENOTSUP\""));
	no_source = false;
}

/* Eight digits of a key are in no text for anybody: log, reasons, commands. */
static void shows_no_key(const uint8_t key[NET_KEY_LEN])
{
	const char *const texts[] = { said, why.text, server.why.text };
	for (unsigned i = 0; i + 4 <= NET_KEY_LEN; i++) {
		for (unsigned upper = 0; upper < 2; upper++) {
			char digits[9];
			snprintf(digits, sizeof(digits), upper ? "%02X%02X%02X%02X" : "%02x%02x%02x%02x", key[i],
				 key[i + 1], key[i + 2], key[i + 3]);
			assert_false(fake_log_has(digits));
			for (unsigned t = 0; t < ARRAY_SIZE(texts); t++)
				assert_null(strstr(texts[t], digits));
		}
	}
}

static void test_keys_are_not_shown(void **state unused)
{
	static const char *const commands[] = { "peer list", "peer list --json", "peer key --json" };
	fake_log_clear();
	setup(1, 1);
	for (unsigned way = 0; way < 4; way++) { /* agreed, by key_next, not agreed, in clear */
		uint8_t keys[4][NET_KEY_LEN];
		for (unsigned i = 0; i < sizeof(keys); i++)
			keys[i / NET_KEY_LEN][i % NET_KEY_LEN] = (uint8_t)(0xa7 * (i + 1));
		memcpy(peers[0].key, keys[0], NET_KEY_LEN);
		memcpy(peers[0].key_next, keys[1], NET_KEY_LEN);
		memcpy(peers[1].key, keys[way == 2 ? 2 : way], NET_KEY_LEN);
		memcpy(peers[1].key_next, keys[3], NET_KEY_LEN);
		if (way == 3) {
			memset(peers[0].key, 0, NET_KEY_LEN);
			peers[0].insecure = NET_PEER_INSECURE;
		}
		assert_int_equal(trust_init(), 0);
		assert_int_equal(call(B), way == 2 ? -EACCES : 0);
		for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
			assert_int_equal(type(commands[i]), 0);
			for (unsigned k = 0; k < 4; k++)
				shows_no_key(keys[k]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_key),
		cmocka_unit_test(test_other_key),
		cmocka_unit_test(test_only_the_name_of_the_key),
		cmocka_unit_test(test_no_key),
		cmocka_unit_test(test_key_next),
		cmocka_unit_test(test_in_clear),
		cmocka_unit_test(test_led_astray),
		cmocka_unit_test(test_nobody_answers),
		cmocka_unit_test(test_stalls_after_connecting),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_frames_key_next),
		cmocka_unit_test(test_no_key_in_common),
		cmocka_unit_test(test_peer_key),
		cmocka_unit_test(test_no_random_numbers),
		cmocka_unit_test(test_keys_are_not_shown),
	};
	aead_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
