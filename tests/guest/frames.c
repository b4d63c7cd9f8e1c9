/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What root in a guest can send: frames as they are given, as fast as the card takes them.
 *
 *   frames IF COUNT HEX...    all of them COUNT times, or until SIGTERM (0); says "sent N"
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_MAX 1600

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static size_t bytes_of(const char *hex, uint8_t *out)
{
	size_t n = 0;

	for (; n < FRAME_MAX && sscanf(hex + 2 * n, "%2hhx", out + n) == 1; n++)
		;
	return n;
}

/* A full queue is a reason to wait, and no error. */
static int send_one(int s, const uint8_t *frame, size_t n)
{
	while (send(s, frame, n, 0) < 0) {
		if (errno != ENOBUFS && errno != EINTR) {
			perror("frames");
			return -1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	static uint8_t frame[32][FRAME_MAX];
	size_t len[32];
	int s = socket(AF_PACKET, SOCK_RAW, 0), n = argc - 3;
	unsigned long sent = 0, count = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = argc > 3 ? (int)if_nametoindex(argv[1]) : 0 };

	if (n < 1 || n > 32 || s < 0 || bind(s, (struct sockaddr *)&to, sizeof(to))) {
		fprintf(stderr, "frames IF COUNT HEX...: no such interface, or no frame, or not root\n");
		return 1;
	}
	for (int i = 0; i < n; i++)
		len[i] = bytes_of(argv[3 + i], frame[i]);
	signal(SIGTERM, stop);
	for (unsigned long round = 0; !stopped && (!count || round < count); round++) {
		for (int i = 0; i < n && !stopped; i++, sent++) {
			if (send_one(s, frame[i], len[i]))
				return 1;
		}
	}
	printf("sent %lu\n", sent);
	return 0;
}
