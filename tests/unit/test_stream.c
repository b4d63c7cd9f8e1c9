/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams, over the in-memory pipe: order, capacity, deadlines, ends, abort, and a cut after every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/pipe.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

static uint64_t soon(void) { return time_in_ms(10000); }

static void close_both(struct stream *e[2])
{
	stream_close(e[0]);
	stream_close(e[1]);
}

struct writer {
	struct stream *s;
	size_t bytes;
	int err;
};

static uint8_t pattern(size_t i) { return (uint8_t)(i * 31 + (i >> 8)); }

/* Writes bytes of the pattern in iovs of uneven sizes, then ends. */
static void write_pattern(void *arg)
{
	struct writer *w = arg;
	uint8_t buf[300];
	for (size_t at = 0; at < w->bytes && !w->err;) {
		size_t n = MIN(w->bytes - at, at % 299 + 1);
		for (size_t i = 0; i < n; i++)
			buf[i] = pattern(at + i);
		struct iov iov[3] = { { buf, n / 3 }, { buf + n / 3, 0 }, { buf + n / 3, n - n / 3 } };
		w->err = stream_writev(w->s, iov, 3, soon());
		at += n;
	}
	if (!w->err)
		w->err = stream_shutdown(w->s);
}

/* More than fits the pipe goes through in order; the end is read as an end, on and on. */
static void order_and_end(void **state)
{
	(void)state;
	for (size_t capacity = 1; capacity < 5000; capacity = capacity * 3 + 1) {
		struct stream *e[2];
		assert_int_equal(stream_pipe(e, capacity), 0);
		struct writer w = { .s = e[0], .bytes = 20000 };
		assert_non_null(task_create("writer", TASK_PRIO_NORMAL, write_pattern, &w));
		uint8_t buf[777];
		size_t at = 0;
		int n;
		while ((n = stream_read_some(e[1], buf, at % 776 + 1, soon())) > 0)
			for (int i = 0; i < n; i++)
				assert_int_equal(buf[i], pattern(at++));
		assert_int_equal(n, 0);
		assert_int_equal(at, 20000);
		assert_int_equal(stream_read_some(e[1], buf, 1, soon()), 0);
		assert_int_equal(stream_read(e[1], buf, 1, soon()), -EPIPE);
		assert_true(fake_tasks_wait());
		assert_int_equal(w.err, 0);
		assert_int_equal(e[0]->bytes_out, 20000);
		assert_int_equal(e[1]->bytes_in, 20000);
		assert_int_equal(stream_write(e[1], "x", 1, soon()), 0); /* the other direction is still open */
		assert_int_equal(stream_read(e[0], buf, 1, soon()), 0);
		assert_int_equal(stream_write(e[0], "x", 1, soon()), -EPIPE);
		close_both(e);
	}
}

static void deadlines(void **state)
{
	(void)state;
	struct stream *e[2];
	uint8_t buf[16] = { 0 };
	assert_int_equal(stream_pipe(e, 8), 0);
	uint64_t start = time_ns();
	assert_int_equal(stream_write(e[0], buf, 9, time_in_ms(30)), -ETIMEDOUT); /* one byte too many */
	assert_true(time_ns() - start >= 30 * NS_PER_MS);
	assert_int_equal(stream_write(e[0], buf, 1, soon()), -ETIMEDOUT); /* for good: nobody knows what is missing */
	assert_int_equal(stream_read_some(e[1], buf, 16, soon()), 8);
	start = time_ns();
	assert_int_equal(stream_read(e[1], buf, 1, time_in_ms(30)), -ETIMEDOUT);
	assert_true(time_ns() - start >= 30 * NS_PER_MS);
	assert_int_equal(stream_write(e[1], buf, 1, soon()), -ETIMEDOUT);
	close_both(e);
}

struct aborter {
	struct stream *s;
	unsigned ms;
};

static void abort_later(void *arg)
{
	struct aborter *a = arg;
	task_sleep_until(time_in_ms(a->ms));
	stream_abort(a->s);
}

static void abort_from_another_task(void **state)
{
	(void)state;
	struct stream *e[2];
	uint8_t buf[64] = { 0 };
	for (unsigned writing = 0; writing < 2; writing++) {
		assert_int_equal(stream_pipe(e, 8), 0);
		struct aborter a = { e[0], 20 };
		assert_non_null(task_create("abort", TASK_PRIO_NORMAL, abort_later, &a));
		int err = writing ? stream_write(e[0], buf, sizeof(buf), soon()) : stream_read(e[0], buf, 1, soon());
		assert_int_equal(err, -ECANCELED);
		assert_int_equal(stream_read(e[0], buf, 1, soon()), -ECANCELED);
		assert_int_equal(stream_write(e[0], buf, 1, soon()), -ECANCELED);
		int n;
		while ((n = stream_read_some(e[1], buf, sizeof(buf), soon())) > 0)
			;
		assert_int_equal(n, -ECONNRESET);
		assert_true(fake_tasks_wait());
		close_both(e);
	}
}

static void peer_closes(void **state)
{
	(void)state;
	struct stream *e[2];
	uint8_t buf[8];
	assert_int_equal(stream_pipe(e, 64), 0);
	assert_int_equal(stream_write(e[0], "hello", 5, soon()), 0);
	stream_close(e[0]);
	assert_int_equal(stream_read(e[1], buf, 5, soon()), 0);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(stream_read_some(e[1], buf, 8, soon()), 0);
	assert_int_equal(stream_write(e[1], "x", 1, soon()), -EPIPE);
	stream_close(e[1]);
	stream_close(NULL);
}

/* A writer that finds the connection reset leaves to its reader what the peer said before: why. */
static void last_words(void **state)
{
	(void)state;
	for (unsigned loop = 0; loop < 2; loop++) {
		struct stream *e[2];
		uint8_t buf[8];
		assert_int_equal(loop ? stream_loop_open("self", &e[0], &e[1]) : stream_pipe(e, 64), 0);
		assert_int_equal(stream_write(e[0], "no", 2, soon()), 0);
		stream_abort(e[0]);
		assert_int_equal(stream_write(e[1], "x", 1, soon()), -ECONNRESET);
		assert_int_equal(stream_read(e[1], buf, 2, soon()), 0);
		assert_memory_equal(buf, "no", 2);
		assert_int_equal(stream_read_some(e[1], buf, 8, soon()), -ECONNRESET);
		assert_int_equal(stream_shutdown(e[1]), -ECONNRESET);
		close_both(e);
	}
}

/* All that comes, and no longer than until the end, an error, or the deadline. */
static void drained(void **state)
{
	(void)state;
	struct stream *e[2];
	uint8_t buf[8];
	assert_int_equal(stream_pipe(e, 50), 0);
	struct writer w = { .s = e[0], .bytes = 20000 };
	assert_non_null(task_create("writer", TASK_PRIO_NORMAL, write_pattern, &w));
	stream_drain(e[1], soon());
	assert_true(fake_tasks_wait());
	assert_int_equal(w.err, 0);
	assert_int_equal(e[1]->bytes_in, 20000);
	assert_int_equal(stream_write(e[1], "x", 1, soon()), 0);
	stream_drain(e[0], time_in_ms(30));
	assert_int_equal(stream_read_some(e[0], buf, 8, soon()), -ETIMEDOUT);
	close_both(e);
}

/* Wherever it is cut, exactly the bytes before the cut arrive, and then both ends know. */
static void cut_at_every_byte(void **state)
{
	(void)state;
	enum { TOTAL = 300 };
	for (uint64_t cut = 0; cut < TOTAL; cut++) {
		struct stream *e[2];
		uint8_t buf[64];
		assert_int_equal(stream_pipe(e, 50), 0);
		stream_pipe_cut_after(e[0], cut);
		struct writer w = { .s = e[0], .bytes = TOTAL };
		assert_non_null(task_create("writer", TASK_PRIO_NORMAL, write_pattern, &w));
		size_t at = 0;
		int n;
		while ((n = stream_read_some(e[1], buf, sizeof(buf), soon())) > 0)
			for (int i = 0; i < n; i++)
				assert_int_equal(buf[i], pattern(at++));
		assert_int_equal(n, -ECONNRESET);
		assert_int_equal(at, cut);
		assert_true(fake_tasks_wait());
		assert_int_equal(w.err, -ECONNRESET);
		assert_int_equal(stream_read(e[0], buf, 1, soon()), -ECONNRESET);
		assert_int_equal(stream_write(e[1], buf, 1, soon()), -ECONNRESET);
		close_both(e);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_and_end),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(abort_from_another_task),
		cmocka_unit_test(peer_closes),
		cmocka_unit_test(cut_at_every_byte),
		cmocka_unit_test(last_words),
		cmocka_unit_test(drained),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
