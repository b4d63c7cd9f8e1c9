/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What root in a guest can send: frames as they are given, as fast as the card takes them.
 *
 *   frames IF COUNT HEX...         all of them COUNT times, or until SIGTERM (0); says "sent N"
 *   frames IF holes COUNT HOST     a connection to HOST's migration service, on it COUNT segments of one byte, a hole
 *                                  before each; says "sent N", and "ended" when the host has ended the connection
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define FRAME_MAX 1600
#define FRAME_MIN 60

/* In a frame without options (RFC 894, 791, 9293). */
enum {
	ETH_TYPE = 12,
	IP = 14,
	IP_SUM = IP + 10,
	IP_FROM = IP + 12,
	IP_TO = IP + 16,
	IP_PROTO = IP + 9,
	TCP = 34,
	SEQ = TCP + 4,
	ACKED = TCP + 8,
	FLAGS = TCP + 13,
	TCP_SUM = TCP + 16,
	DATA = TCP + 20
};
#define FLAG_SYN 0x02
#define FLAG_ACK 0x10

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static size_t bytes_of(const char *hex, uint8_t *out)
{
	size_t n = 0;

	/* Each by itself: sscanf would read the rest of them to its end each time. */
	for (; n < FRAME_MAX && isxdigit(hex[2 * n]) && isxdigit(hex[2 * n + 1]); n++) {
		char byte[] = { hex[2 * n], hex[2 * n + 1], '\0' };

		out[n] = (uint8_t)strtoul(byte, NULL, 16);
	}
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

/* The Internet checksum (RFC 1071) of an even number of bytes, folded, with what was summed up before. */
static uint16_t sum(const uint8_t *p, size_t n, uint32_t s)
{
	for (size_t i = 0; i < n; i += 2)
		s += (uint32_t)p[i] << 8 | p[i + 1];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

static void put16(uint8_t *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return ntohl(v);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, sizeof(v));
}

/* What answers the SYN ACK f: the acknowledgement and one byte of data, its place and sums still to come. */
static void answer_make(const uint8_t *f, uint8_t *out)
{
	memset(out, 0, FRAME_MIN);
	memcpy(out, f + ETH_ALEN, ETH_ALEN);
	memcpy(out + ETH_ALEN, f, ETH_ALEN);
	put16(out + ETH_TYPE, ETHERTYPE_IP);
	out[IP] = 0x45;
	put16(out + IP + 2, DATA - IP + 1);
	out[IP + 8] = 64;
	out[IP_PROTO] = IPPROTO_TCP;
	memcpy(out + IP_FROM, f + IP_TO, 4);
	memcpy(out + IP_TO, f + IP_FROM, 4);
	put16(out + IP_SUM, (uint16_t)~sum(out + IP, TCP - IP, 0));
	memcpy(out + TCP, f + TCP + 2, 2);
	memcpy(out + TCP + 2, f + TCP, 2);
	put32(out + ACKED, get32(f + SEQ) + 1);
	out[TCP + 12] = 5 << 4;
	out[FLAGS] = FLAG_ACK;
	put16(out + TCP + 14, 8192);
	out[DATA] = 'x';
}

/* The kernel makes the connection c; what s sees of that tells its numbers, and what comes then is not the kernel's. */
static int holes(int s, int c, unsigned long count)
{
	static uint8_t f[FRAME_MAX], out[FRAME_MIN];
	struct timeval patience = { .tv_sec = 20 }; /* a host gives anybody 10 s */
	unsigned long sent = 0;

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	do {
		if (recv(s, f, sizeof(f), 0) < DATA)
			return -1;
	} while (f[IP] != 0x45 || f[IP_PROTO] != IPPROTO_TCP || f[FLAGS] != (FLAG_SYN | FLAG_ACK));
	answer_make(f, out);
	for (uint32_t at = get32(f + ACKED); sent < count; sent++) {
		put32(out + SEQ, at + 1 + 2 * (uint32_t)sent);
		put16(out + TCP_SUM, 0);
		uint32_t pseudo = sum(out + IP_FROM, 8, IPPROTO_TCP + DATA - TCP + 1);
		put16(out + TCP_SUM, (uint16_t)~sum(out + TCP, DATA - TCP + 2, pseudo));
		if (send_one(s, out, sizeof(out)))
			return -1;
	}
	printf("sent %lu\n", sent);
	fflush(stdout);
	errno = 0;
	while (recv(c, f, sizeof(f), 0) > 0)
		;
	if (errno == EAGAIN)
		return -1;
	puts("ended");
	return 0;
}

static int holes_main(int s, const struct sockaddr_ll *card, const char *host, unsigned long count)
{
	struct sockaddr_ll ip = *card;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(7077), .sin_addr.s_addr = inet_addr(host) };
	int c = socket(AF_INET, SOCK_STREAM, 0);

	ip.sll_protocol = htons(ETHERTYPE_IP);
	if (bind(s, (struct sockaddr *)&ip, sizeof(ip)) || connect(c, (struct sockaddr *)&to, sizeof(to)) ||
	    holes(s, c, count)) {
		perror("frames: holes");
		return 1;
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
	if (n == 2 && !strcmp(argv[2], "holes"))
		return holes_main(s, &to, argv[4], strtoul(argv[3], NULL, 10));
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
