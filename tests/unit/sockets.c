/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams over sockets (sockets.h). Deadlines are poll's; abort is shutdown(2), which wakes who is inside. */
#include "tests/unit/sockets.h"
#include "kernel/time.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

struct socket_stream {
	struct stream s;
	int fd;
	bool aborted; /* atomic */
};
static struct socket_stream *of(struct stream *s) { return CONTAINER_OF(s, struct socket_stream, s); }

static int is_aborted(const struct socket_stream *k) { return __atomic_load_n(&k->aborted, __ATOMIC_SEQ_CST); }

static int wait_for(struct socket_stream *k, short what, uint64_t deadline_ns)
{
	for (;;) {
		uint64_t now = time_ns(), ms = deadline_ns > now ? (deadline_ns - now) / NS_PER_MS + 1 : 0;
		struct pollfd p = { .fd = k->fd, .events = what };
		int n = poll(&p, 1, (int)MIN(ms, 1000UL));
		if (is_aborted(k))
			return -ECANCELED;
		if (n > 0)
			return 0;
		if (!n && time_ns() >= deadline_ns)
			return -ETIMEDOUT;
	}
}

static int socket_read(struct stream *s, void *buf, size_t max, uint64_t deadline_ns)
{
	int err = wait_for(of(s), POLLIN, deadline_ns);
	if (err)
		return err;
	ssize_t n = recv(of(s)->fd, buf, max, 0);
	return is_aborted(of(s)) ? -ECANCELED : n < 0 ? -ECONNRESET : (int)n;
}

static int socket_writev(struct stream *s, const struct iov *iov, unsigned n, uint64_t deadline_ns)
{
	for (unsigned i = 0; i < n; i++) {
		for (size_t off = 0; off < iov[i].len;) {
			int err = wait_for(of(s), POLLOUT, deadline_ns);
			if (err)
				return err;
			ssize_t did = send(of(s)->fd, (const uint8_t *)iov[i].base + off, iov[i].len - off,
					   MSG_NOSIGNAL | MSG_DONTWAIT | (i + 1 < n ? MSG_MORE : 0));
			if (did < 0 && errno != EAGAIN)
				return is_aborted(of(s)) ? -ECANCELED : -ECONNRESET;
			off += did > 0 ? (size_t)did : 0;
		}
	}
	return 0;
}

static int socket_shutdown(struct stream *s) { return shutdown(of(s)->fd, SHUT_WR) ? -ECONNRESET : 0; }

static void socket_abort(struct stream *s)
{
	__atomic_store_n(&of(s)->aborted, true, __ATOMIC_SEQ_CST);
	(void)shutdown(of(s)->fd, SHUT_RDWR);
}

static void socket_close(struct stream *s)
{
	close(of(s)->fd);
	free(of(s));
}

static const struct stream_ops socket_ops = { socket_read, socket_writev, socket_shutdown, socket_abort, socket_close };

int stream_tcp_connect_storage(struct stream **out, struct ip ip, uint16_t port, uint64_t deadline_ns, struct why *w)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = ip_to4(ip) };
	struct socket_stream *k = calloc(1, sizeof(*k));
	int one = 1;
	(void)deadline_ns;
	k->s.ops = &socket_ops;
	k->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(k->fd, (struct sockaddr *)&to, sizeof(to))) {
		close(k->fd);
		free(k);
		return why_set(w, -ECONNREFUSED, "nobody listens there");
	}
	(void)setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*out = &k->s;
	return 0;
}

void stream_tcp_trust(struct stream *s, bool proved)
{
	(void)s;
	(void)proved;
}
