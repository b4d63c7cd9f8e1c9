/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's server, for clients that must notice nothing but a pause. TCP:
 *   7000  echo: sends back what it gets
 *   7001  sink: reads to the end, answers "bytes=N crc32=XXXXXXXX\n" (CRC-32 as zlib counts it)
 *   7004  source: reads a line with a number of bytes (0: without end), sends that many of 64-bit big-endian
 *         numbers 0, 1, 2, ... so that a lost or repeated byte shows
 * One process for each connection. UDP:
 *   7000  sends each datagram of 16 bytes or more back, its second 8 bytes replaced by how many came (big-endian) since
 *         one whose first 8 are zeros, that one included
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536

static uint8_t buf[CHUNK];

static void send_all(int fd, const void *data, size_t n)
{
	const uint8_t *p = data;

	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent <= 0)
			_exit(1);
		p += sent;
		n -= (size_t)sent;
	}
}

static void echo(int fd)
{
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		send_all(fd, buf, (size_t)n);
}

static void sink(int fd)
{
	uint32_t table[256], crc = ~0U;
	unsigned long long total = 0;
	char line[64];
	ssize_t n;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int k = 0; k < 8; k++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320U : 0);
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			crc = table[(crc ^ buf[i]) & 0xff] ^ crc >> 8;
		total += (unsigned long long)n;
	}
	snprintf(line, sizeof(line), "bytes=%llu crc32=%08x\n", total, ~crc);
	send_all(fd, line, strlen(line));
}

static void source(int fd)
{
	unsigned long long want, sent = 0;
	char line[32] = "";
	size_t at = 0;

	while (at < sizeof(line) - 1 && read(fd, line + at, 1) == 1 && line[at] != '\n')
		at++;
	want = strtoull(line, NULL, 10);
	while (!want || sent < want) {
		size_t n = sizeof(buf);

		for (size_t i = 0; i < sizeof(buf); i += 8) {
			uint64_t v = __builtin_bswap64((sent + i) / 8);

			memcpy(buf + i, &v, 8);
		}
		if (want && want - sent < n)
			n = (size_t)(want - sent);
		send_all(fd, buf, n);
		sent += n;
	}
}

/* All that waits there. */
static void numbers(int fd)
{
	static uint64_t came;
	uint64_t b[256];
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	ssize_t n;

	while ((n = recvfrom(fd, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from, &len)) >= 0) {
		if (n >= 16) {
			came = b[0] ? came + 1 : 1;
			b[1] = __builtin_bswap64(came);
			sendto(fd, b, (size_t)n, 0, (struct sockaddr *)&from, len);
		}
		len = sizeof(from);
	}
}

static int udp_open(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(7000) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20; /* more than waits here while this process does */

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		perror("tcpserve: UDP");
		exit(1);
	}
	return fd;
}

static const struct {
	uint16_t port;
	void (*serve)(int fd);
} services[] = { { 7000, echo }, { 7001, sink }, { 7004, source } };
#define N (sizeof(services) / sizeof(services[0]))

int main(void)
{
	struct pollfd fds[N + 1];
	int on = 1;

	signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; i < N; i++) {
		struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons(services[i].port) };
		struct sockaddr_in sa4 = { .sin_family = AF_INET, .sin_port = htons(services[i].port) };
		int fd = socket(AF_INET6, SOCK_STREAM, 0), err; /* takes IPv4 too */

		if (fd >= 0) {
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
			err = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
		} else {
			fd = socket(AF_INET, SOCK_STREAM, 0);
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
			err = bind(fd, (struct sockaddr *)&sa4, sizeof(sa4));
		}
		if (err || listen(fd, 64)) {
			perror("tcpserve");
			return 1;
		}
		fds[i] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	fds[N] = (struct pollfd){ .fd = udp_open(), .events = POLLIN };
	for (;;) {
		if (poll(fds, N + 1, -1) < 0)
			continue;
		if (fds[N].revents & POLLIN)
			numbers(fds[N].fd);
		for (size_t i = 0; i < N; i++) {
			int fd = fds[i].revents & POLLIN ? accept(fds[i].fd, NULL, NULL) : -1;

			if (fd < 0)
				continue;
			if (!fork()) {
				services[i].serve(fd);
				_exit(0);
			}
			close(fd);
		}
	}
}
