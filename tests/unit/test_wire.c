/* SPDX-License-Identifier: BSD-2-Clause */
/* Records: what is written is read back, and what is not exactly that is refused, by name where there is one. */
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/fake_hosts.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/migrate/attempts.h"
#include <stdio.h>
#include <string.h>

static uint64_t soon(void) { return time_in_ms(1000); }
static int recv(struct why *w) { return wire_recv(&rx, soon(), NS_PER_SEC, w); }

static const struct attempt_id id = { .uuid = "0123456789abcde", .source = { 5, 6 }, .number = 0x1122334455667788 };

static void test_round_trip(void **state unused)
{
	struct hello h;
	struct offer o = { .id = id, .compat = { .n = 2, .leaf = { 1, 2 }, .regs = { { 9, 8, 7, 6 } } } }, got;
	struct attempt_id gid;
	struct end_counts n = { 1, 2, 5, 3, 4 }, gn;
	struct why w = { "" };

	o.cfg = (struct vm_config){ .name = "demo-1",
				    .mem = MIB(4),
				    .vcpus = 1,
				    .nnics = 1,
				    .mtu = { 1500 },
				    .cpu = "host",
				    .mac = { { 2, 3, 4, 5, 6, 7 } } };
	memcpy(o.cfg.uuid, id.uuid, 16);
	assert_int_equal(hello_send(&tx, soon()), 0);
	assert_int_equal(offer_send(&tx, &o, soon()), 0);
	assert_int_equal(hello_recv(&rx, &h, soon(), &w), 0);
	assert_int_equal(hello_check(&h, &w), 0);
	assert_string_equal(h.host, "a");
	assert_int_equal(recv(&w), 0);
	assert_int_equal(rx.type, WIRE_OFFER);
	assert_int_equal(offer_parse(&rx, &got, &w), 0);
	assert_memory_equal(&got.cfg, &o.cfg, sizeof(o.cfg));
	assert_memory_equal(&got.compat, &o.compat, sizeof(o.compat));
	strcpy(o.cfg.net[0], "prod"); /* a field more at the end */
	assert_int_equal(offer_send(&tx, &o, soon()), 0);
	assert_int_equal(recv(&w), 0);
	assert_int_equal(offer_parse(&rx, &got, &w), 0);
	assert_memory_equal(&got.cfg, &o.cfg, sizeof(o.cfg));
	assert_int_equal(end_send(&tx, &id, &n, soon()), 0);
	assert_int_equal(recv(&w), 0);
	assert_int_equal(end_parse(&rx, &gid, &gn, &w), 0);
	assert_true(attempt_id_equal(&gid, &id) && gn.passes == 1 && gn.sections == 2 && gn.debts == 5 &&
		    gn.data_pages == 3 && gn.zero_pages == 4);
}

/* A source of either family; IPv4 in a record of just that length. */
static void test_debts(void **state unused)
{
	static const struct ip sources[] = { { { 0 } },
					     { { 0xfd, [15] = 1 } },
					     { { [10] = 0xff, 0xff, 10, 77, 0, 11 } } };
	struct decision d = { .id = id, .state = RECORD_STARTED, .by = { 7, 8 }, .vm = "demo" }, got;
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		struct why w = { "" };
		d.source = sources[i];
		assert_int_equal(debt_send(&tx, WIRE_DEBT, &d, soon()), 0);
		assert_int_equal(recv(&w), 0);
		assert_int_equal(rx.len, i == 1 ? 96 + 20 : 96 + 4);
		memset(&got, 0, sizeof(got));
		assert_int_equal(debt_parse(&rx, &got, &w), 0);
		assert_true(ip_same(got.source, d.source) && got.state == RECORD_STARTED);
	}
}

/* Unknown types: mandatory ones end the stream, optional ones are passed over and still checked. */
static void test_unknown_types(void **state unused)
{
	struct why w = { "" };
	wire_begin(&tx, WIRE_OPTIONAL | 77);
	wire_put_u64(&tx, 5);
	assert_int_equal(wire_end(&tx, soon()), 0);
	assert_int_equal(id_send(&tx, WIRE_READY, &id, soon()), 0);
	assert_int_equal(recv(&w), 0);
	assert_int_equal(rx.type, WIRE_READY);
	wire_begin(&tx, 77);
	assert_int_equal(wire_end(&tx, soon()), 0);
	assert_int_equal(recv(&w), -EPROTO);
	assert_non_null(strstr(w.text, "77"));
}

/* A stream that never runs dry of what is passed over has a deadline all the same. */
static void test_optional_flood(void **state unused)
{
	for (unsigned i = 0; i < 100; i++) {
		wire_begin(&tx, WIRE_OPTIONAL | 77);
		assert_int_equal(wire_end(&tx, soon()), 0);
	}
	assert_int_equal(wire_recv(&rx, time_ns(), NS_PER_SEC, NULL), -ETIMEDOUT);
	assert_true(rx.seq < 100);
}

/* Lost, repeated, swapped records, and records of another attempt: the check word counts them. */
static void test_sequence(void **state unused)
{
	struct why w = { "" };
	tx.seq = 1;
	assert_int_equal(id_send(&tx, WIRE_READY, &id, soon()), 0);
	assert_int_equal(recv(&w), -EBADMSG);
	rx.seq = tx.seq = 0;
	tx.key = attempt_key(&id);
	assert_int_equal(id_send(&tx, WIRE_READY, &id, soon()), 0);
	assert_int_equal(recv(&w), -EBADMSG);
}

static void test_hello_versions(void **state unused)
{
	struct hello h = {
		.version_min = WIRE_VERSION + 1, .version_max = 9, .max_record = WIRE_RECORD_MAX, .host = "b"
	};
	struct why w = { "" };
	assert_int_equal(hello_check(&h, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "version"));
	h = (struct hello){ .version_min = 1, .version_max = 9, .max_record = WIRE_RECORD_MAX, .features = 0xffff };
	assert_int_equal(hello_check(&h, NULL), 0); /* optional features of a newer peer */
	h.features = HELLO_0_6 | 1ULL << 40;
	assert_int_equal(hello_check(&h, NULL), -ENOTSUP);
	h.features = HELLO_FEATURES & ~HELLO_0_6;
	w.text[0] = 0;
	assert_int_equal(hello_check(&h, &w), -ENOTSUP);
	assert_non_null(strstr(w.text, "at least 0.6"));
	h.features = HELLO_0_6;
	assert_int_equal(hello_check(&h, NULL), 0);
	assert_true(HELLO_FEATURES & BIT(1)); /* or 0.6 would refuse this one */
	h.max_record = 4096;
	assert_int_equal(hello_check(&h, NULL), -ENOTSUP);
}

/* Each byte of each record flipped, each prefix of it: refused, and nothing read beyond. */
static void test_mutations(void **state unused)
{
	static uint8_t record[4096], copy[4096];
	static uint8_t page[4096];
	struct offer o = { .id = id, .compat = { .n = 1 } };
	o.cfg = (struct vm_config){ .name = "demo", .mem = MIB(2), .vcpus = 1 };
	for (unsigned kind = 0; kind < 8; kind++) {
		struct stream *p[2];
		assert_int_equal(stream_pipe(p, 1 << 16), 0);
		tx.s = p[0];
		tx.seq = 0;
		switch (kind) {
		case 0:
			assert_int_equal(debt_send(&tx, WIRE_DEBT, &(struct decision){ .id = id, .vm = "demo" },
						   soon()),
					 0);
			break;
		case 1: assert_int_equal(offer_send(&tx, &o, soon()), 0); break;
		case 2: assert_int_equal(commit_send(&tx, &id, 12345, 0, soon()), 0); break;
		case 3: assert_int_equal(text_send(&tx, WIRE_ERROR, 5, "text", soon()), 0); break;
		case 5: assert_int_equal(who_send(&tx, &(struct who){ .name = "demo" }, soon()), 0); break;
		case 6:
			assert_int_equal(have_send(&tx, &(struct have_answer){ .have = HAVE_HERE, .name = "demo" },
						   soon()),
					 0);
			break;
		case 4: assert_int_equal(pass_end_send(&tx, 1, 2, 3, soon()), 0); break;
		default:
			wire_begin(&tx, WIRE_PAGES);
			wire_put_u64(&tx, 7);
			wire_put_u32(&tx, 1);
			wire_put_u32(&tx, 1);
			wire_put_u64(&tx, 1ULL << 32);
			wire_put_data(&tx, page, 4096);
			tx.niov = 1; /* the fields only: wire_recv leaves the data to its caller */
			assert_int_equal(wire_end(&tx, soon()), 0);
			break;
		}
		stream_shutdown(p[0]);
		int n = stream_read_some(p[1], record, sizeof(record), soon());
		assert_true(n > 12);
		for (int i = -1; i < n * 8; i++) { /* -1: unchanged; then each bit */
			struct stream *q[2];
			struct why w = { "" };
			assert_int_equal(stream_pipe(q, 1 << 16), 0);
			memcpy(copy, record, (size_t)n);
			if (i >= 0)
				copy[i / 8] ^= (uint8_t)(1 << i % 8);
			assert_int_equal(stream_write(q[0], copy, (size_t)n, soon()), 0);
			stream_shutdown(q[0]);
			rx.s = q[1];
			rx.seq = 0;
			rx.data_len = 0;
			int err = recv(&w);
			if (i < 0)
				assert_int_equal(err, 0);
			else
				assert_true(err == -EBADMSG || err == -EPROTO || err == -EPIPE);
			rx.data_len = 0;
			stream_close(q[0]);
			stream_close(q[1]);
		}
		for (int len = 0; len < n; len++) {
			struct stream *q[2];
			assert_int_equal(stream_pipe(q, 1 << 16), 0);
			assert_int_equal(len ? stream_write(q[0], record, (size_t)len, soon()) : 0, 0);
			stream_shutdown(q[0]);
			rx.s = q[1];
			rx.seq = 0;
			assert_int_equal(recv(NULL), -EPIPE);
			stream_close(q[0]);
			stream_close(q[1]);
		}
		stream_close(p[0]);
		stream_close(p[1]);
	}
	tx.s = ends[0];
	rx.s = ends[1];
}

/* Names and texts that would play with the operator's terminal, or lack their end. */
static void test_strings(void **state unused)
{
	const char *bad[] = { "a b", "", "x\033[2J", "name;reboot" };
	struct why w = { "" };
	struct offer o = { .id = id, .compat.n = 1 }, got;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		o.cfg = (struct vm_config){ .mem = MIB(2), .vcpus = 1, .nnics = 1, .mtu = { 1500 } };
		strcpy(o.cfg.name, bad[i]);
		assert_int_equal(offer_send(&tx, &o, soon()), 0);
		assert_int_equal(recv(&w), 0);
		assert_int_equal(offer_parse(&rx, &got, &w), -EPROTO);
	}
	strcpy(o.cfg.name, "ok");
	o.cfg.mem = 4096;
	assert_int_equal(offer_send(&tx, &o, soon()), 0);
	assert_int_equal(recv(&w), 0);
	w.text[0] = 0;
	assert_int_equal(offer_parse(&rx, &got, &w), -EINVAL);
}

/* An answer names those that it is about: who is without a name cannot be told from others, nor told to an operator. */
static void test_nameless(void **state unused)
{
	static const struct {
		struct have_answer a;
		bool good;
	} c[] = {
		{ { .have = HAVE_NOTHING }, true },
		{ { .have = HAVE_NOTHING, .silent = 1, .silent_host = "c" }, true },
		{ { .have = HAVE_NOTHING, .silent = 1 }, false },
		{ { .have = HAVE_NOTHING, .silent = 1, .silent_host = "c d" }, false },
		{ { .have = HAVE_MOVED, .host = "c" }, true },
		{ { .have = HAVE_MOVED }, false },
		{ { .have = HAVE_HERE, .name = "x\x9b" }, false }, /* CSI of terminals with 8 bits */
	};
	struct have_answer got;
	struct why w = { "" };
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		assert_int_equal(have_send(&tx, &c[i].a, soon()), 0);
		assert_int_equal(recv(&w), 0);
		assert_int_equal(have_parse(&rx, &got), c[i].good);
	}
}

/* An OFFER says what the guest's CPU has: nothing at all would fit every host. */
static void test_number_of_cpuid_leaves(void **state unused)
{
	static const uint32_t n[] = { 1, VM_COMPAT_WORDS, 0 };
	struct why w = { "" };
	struct offer o = { .id = id,
			   .cfg = { .name = "demo", .mem = MIB(2), .vcpus = 1, .nnics = 1, .mtu = { 1500 } } },
		     got;
	memcpy(o.cfg.uuid, id.uuid, sizeof(o.cfg.uuid));
	o.cfg.nnics = VM_NICS_MAX; /* the longest there is */
	for (unsigned i = 0; i < VM_NICS_MAX; i++) {
		snprintf(o.cfg.net[i], sizeof(o.cfg.net[i]), "prod%u", i);
		o.cfg.mac[i][0] = 2;
		o.cfg.mac[i][5] = (uint8_t)i;
		o.cfg.mtu[i] = 1500 + i;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(n); i++) {
		o.compat.n = n[i];
		assert_int_equal(offer_send(&tx, &o, soon()), 0);
		assert_int_equal(recv(&w), 0);
		assert_int_equal(offer_parse(&rx, &got, &w),
				 0); /* none: that of a VM that is stopped, test_resting.c */
		assert_memory_equal(&got.cfg, &o.cfg, sizeof(o.cfg));
	}
	o.compat.n = 1;
	for (unsigned i = 0; i < 5; i++) { /* cards that could not be told apart, or are on no network */
		struct vm_config c = o.cfg;
		switch (i) {
		case 0: memcpy(o.cfg.mac[2], o.cfg.mac[1], 6); break;
		case 1: strcpy(o.cfg.net[3], "prod0"); break;
		case 2: o.cfg.net[1][0] = '\0'; break;
		case 3: strcpy(o.cfg.net[0], "a b"); break;
		case 4: o.cfg.mtu[2] = 67; break;
		}
		assert_int_equal(offer_send(&tx, &o, soon()), 0);
		assert_int_equal(recv(&w), 0);
		assert_int_equal(offer_parse(&rx, &got, &w), -EPROTO);
		o.cfg = c;
	}
}

/* ---- attempts: one decision each ---- */

static struct attempt_id nth(uint64_t n)
{
	struct attempt_id a = id;
	a.number = n;
	return a;
}

static int offer(const struct attempt_id *a) { return attempt_offer(a, "demo", ip_of4(0x0b004d0a)); }

static void test_attempts(void **state unused)
{
	struct attempt_id a = nth(1), b = nth(2), c = nth(3), open;
	assert_int_equal(offer(&a), 0);
	assert_int_equal(offer(&a), -EALREADY);
	assert_int_equal(attempt_commit(&(struct attempt_id){ .number = 9 }), -ECANCELED);
	assert_true(attempt_find_open(id.uuid, &open) && attempt_id_equal(&open, &a));
	assert_int_equal(attempt_ready(&a), 0);
	assert_int_equal(attempt_commit(&a), 0);
	assert_int_equal(attempt_commit(&a), -ECANCELED);      /* a late duplicate */
	assert_int_equal(attempt_give_up(&a), RECORD_STARTED); /* and a give-up comes too late */
	assert_false(attempt_find_open(id.uuid, &open));

	assert_int_equal(offer(&b), 0);
	assert_int_equal(attempt_ready(&b), 0);
	assert_int_equal(attempt_event(&b, RECORD_EV_QUERY), ACT_DISCARD); /* QUERY overtakes COMMIT */
	assert_int_equal(attempt_event(&b, RECORD_EV_QUERY), ACT_SAY_NEVER);
	assert_int_equal(attempt_commit(&b), -ECANCELED);
	assert_int_equal(offer(&b), -EALREADY);

	assert_int_equal(attempt_event(&c, RECORD_EV_QUERY), ACT_SAY_UNKNOWN); /* never heard of: that is no answer */
	assert_int_equal(attempt_find(&c, NULL), RECORD_NONE);

	attempt_event(&b, RECORD_EV_DONE);
	assert_int_equal(attempt_find(&b, NULL), RECORD_NONE);
	assert_int_equal(offer(&b), -EALREADY); /* a repeated OFFER of what is over */
	attempt_event(&a, RECORD_EV_DONE);
	assert_int_equal(attempt_find(&a, NULL), RECORD_NONE);
	assert_int_equal(attempt_event(&a, RECORD_EV_QUERY), ACT_SAY_UNKNOWN);
}

/* A debt that was told here is one of this host; a contradiction is refused. */
static void test_attempts_told(void **state unused)
{
	struct decision d = { .id = nth(50),
			      .state = RECORD_STARTED,
			      .by = { 7, 8 },
			      .vm = "demo",
			      .source = ip_of4(0x0b004d0a) },
			got;
	assert_int_equal(attempt_told(&d), 0);
	assert_int_equal(attempt_told(&d), 0);
	assert_int_equal(attempt_find(&d.id, &got), RECORD_STARTED);
	assert_true(got.by.host == 7 && got.by.boot == 8);
	assert_true(ip_same(got.source, ip_of4(0x0b004d0a)));
	assert_int_equal(attempt_event(&d.id, RECORD_EV_QUERY), ACT_SAY_STARTED);
	d.state = RECORD_NEVER;
	assert_int_equal(attempt_told(&d), -EPROTO);
	attempt_event(&d.id, RECORD_EV_DROP);
	assert_int_equal(attempt_find(&d.id, NULL), RECORD_NONE);
}

/* No number of records, and no age, frees one. When the memory for them is used up, offers are refused. */
static void test_attempts_kept(void **state unused)
{
	struct attempt_id first = nth(100), x = first;
	uint64_t n = 100;
	int err = 0;
	for (; !err && n < 100000; n++) {
		x = nth(n);
		memcpy(x.uuid, &n, sizeof(n)); /* another VM each */
		err = offer(&x);
		if (n == 100)
			first = x;
		if (!err && (attempt_ready(&x) || attempt_commit(&x)))
			fail_msg("attempt %lu", (unsigned long)n);
	}
	assert_int_equal(err, -ENOSPC);
	assert_true(n > 2000);
	x = nth(++n);
	memcpy(x.uuid, &n, sizeof(n));
	assert_int_equal(attempt_offer(&x, "demo", ip_of4(0x0c004d0a)),
			 0); /* what one host does keeps no other from here */
	assert_true(!attempt_ready(&x) && !attempt_commit(&x));
	assert_int_equal(attempt_find(&first, NULL), RECORD_STARTED);
	attempt_event(&first, RECORD_EV_DONE);
	fake_host_restart(0);
}

/* The same VM, the same number, after a restart without a clock: another attempt. */
static void test_ids_do_not_repeat(void **state unused)
{
	struct attempt_id before = attempt_new_id(id.uuid), next = attempt_new_id(id.uuid);
	assert_true(next.number == before.number + 1);
	fake_host_restart(0);
	struct attempt_id after = attempt_new_id(id.uuid);
	assert_true(after.number == 1 && !incarnation_equal(after.source, before.source));
	assert_true(after.source.host == before.source.host && !attempt_id_equal(&after, &before));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_debts, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_unknown_types, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_optional_flood, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_sequence, open_pipe, close_pipe),
		cmocka_unit_test(test_hello_versions),
		cmocka_unit_test_setup_teardown(test_mutations, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_strings, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_number_of_cpuid_leaves, open_pipe, close_pipe),
		cmocka_unit_test_setup_teardown(test_nameless, open_pipe, close_pipe),
		cmocka_unit_test(test_attempts),
		cmocka_unit_test(test_attempts_told),
		cmocka_unit_test(test_attempts_kept),
		cmocka_unit_test(test_ids_do_not_repeat),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
