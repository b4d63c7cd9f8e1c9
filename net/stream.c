/* SPDX-License-Identifier: BSD-2-Clause */
/* What all streams have in common: exact reads, counters, and that an error stays. */
#include "net/stream.h"
#include "kernel/time.h"

/* The first error is the error for ever: half-read records make no sense later. */
static int fail(int *of, int err)
{
	int none = 0;
	__atomic_compare_exchange_n(of, &none, err, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return err;
}

static int failed(const int *of) { return __atomic_load_n(of, __ATOMIC_RELAXED); }

int stream_read_some(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	if (failed(&s->read_err))
		return failed(&s->read_err);
	if (s->has_unread && max) {
		*(uint8_t *)buf = s->unread;
		s->has_unread = false;
		return 1;
	}
	int n = s->ops->read(s, buf, MIN(max, (size_t)INT32_MAX), deadline_ns);
	if (n < 0) {
		fail(&s->err, n);
		return fail(&s->read_err, n);
	}
	s->bytes_in += (uint64_t)n;
	return n;
}

int stream_read(struct stream *s, void *buf, size_t len, uint64_t deadline_ns)
{
	for (uint8_t *p = buf; len;) {
		int n = stream_read_some(s, p, len, deadline_ns);
		if (n <= 0)
			return n ? n : -EPIPE;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void stream_unread(struct stream *s, uint8_t byte)
{
	s->unread = byte;
	s->has_unread = true;
}

int stream_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	uint64_t bytes = 0;
	if (failed(&s->err))
		return failed(&s->err);
	int err = s->ops->writev(s, iov, n, deadline_ns);
	if (err)
		return fail(&s->err, err);
	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].len;
	s->bytes_out += bytes;
	return 0;
}

int stream_write(struct stream *s, const void *buf, size_t len, uint64_t deadline_ns)
{
	struct iov iov = { (void *)(uintptr_t)buf, len };
	return stream_writev(s, &iov, 1, deadline_ns);
}

int stream_shutdown(struct stream *s) { return failed(&s->err) ? failed(&s->err) : s->ops->shutdown(s); }

void stream_drain(struct stream *s, uint64_t deadline_ns)
{
	uint8_t rest[512];
	while (time_ns() < deadline_ns && stream_read_some(s, rest, sizeof(rest), deadline_ns) > 0)
		;
}

void stream_abort(struct stream *s) { s->ops->abort(s); }

void stream_close(struct stream *s)
{
	if (s)
		s->ops->close(s);
}
