/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest's load programs share: a paced loop that watches the guest's clocks and vector registers, and a status
 * line that anybody may ask for: it is sent to whoever connects to the program's TCP port, and kept in a file, renewed
 * each second.
 */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE    4096UL
#define TICK_NS 10000000LL /* the loop's grain: 10 ms */

struct load {
	const char *name;
	int listener;
	uint8_t *mem;
	uint64_t pages;
	uint64_t rate; /* pages a second, 0: as fast as it goes */
	uint64_t done; /* pages touched */
	int64_t start_ns, last_ns, last_real_ns, last_file_ns;
	int64_t gap_ns;     /* the longest time between two ticks since the status was asked for last */
	uint64_t backwards; /* how often a clock went backwards: must stay 0 */
	uint64_t registers; /* how often a sleep has changed a vector register: must stay 0 */
	uint64_t told;      /* how often somebody has been told the status */
};

static inline int64_t load_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/*
 * Sleep for a tick with numbers in all vector registers (AVX), which a system call leaves as they are: false if it did
 * not.
 */
static inline bool load_sleep(void)
{
	struct timespec ts = { 0, TICK_NS };
	uint64_t before[16][4], after[16][4], fresh = (uint64_t)load_clock(CLOCK_MONOTONIC);
	long ret = SYS_nanosleep;

	for (uint64_t i = 0; i < 64; i++)
		before[i / 4][i % 4] = (i + 1) * 0x9e3779b97f4a7c15ULL + fresh;
	__asm__ volatile(".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
			 "vmovdqu \\n * 32(%[before]), %%ymm\\n\n"
			 ".endr\n"
			 "syscall\n"
			 ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
			 "vmovdqu %%ymm\\n, \\n * 32(%[after])\n"
			 ".endr\n"
			 "vzeroupper"
			 : "+a"(ret)
			 : "D"(&ts), "S"(NULL), [before] "r"(before), [after] "r"(after)
			 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
			   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return !memcmp(before, after, sizeof(before));
}

static inline void load_init(struct load *l, const char *name, uint16_t port, uint64_t mib, uint64_t mib_per_s)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int on = 1;

	memset(l, 0, sizeof(*l));
	l->name = name;
	l->pages = mib * 256;
	l->rate = mib_per_s * 256;
	l->mem = mmap(NULL, l->pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	l->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(l->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!l->pages || l->mem == MAP_FAILED || bind(l->listener, (struct sockaddr *)&sa, sizeof(sa)) ||
	    listen(l->listener, 8)) {
		perror(name);
		exit(1);
	}
	l->start_ns = l->last_ns = load_clock(CLOCK_MONOTONIC);
	l->last_real_ns = load_clock(CLOCK_REALTIME);
}

/*
 * Once a tick: watch the clocks, answer with `status`, then sleep until the pace allows more. Returns pages allowed
 * now.
 */
static inline uint64_t load_tick(struct load *l, const char *(*status)(void))
{
	int64_t now = load_clock(CLOCK_MONOTONIC), real = load_clock(CLOCK_REALTIME);
	char line[320], path[64];
	int fd;

	l->backwards += (now < l->last_ns) + (real < l->last_real_ns);
	if (now - l->last_ns > l->gap_ns)
		l->gap_ns = now - l->last_ns;
	l->last_ns = now;
	l->last_real_ns = real;
	snprintf(line, sizeof(line), "%s %s backwards=%llu registers=%llu gap_ms=%lld now_us=%lld\n", l->name, status(),
		 (unsigned long long)l->backwards, (unsigned long long)l->registers, (long long)(l->gap_ns / 1000000),
		 (long long)(now / 1000));
	while ((fd = accept(l->listener, NULL, NULL)) >= 0) {
		ssize_t sent = send(fd, line, strlen(line), MSG_NOSIGNAL);

		if (sent > 0) {
			l->gap_ns = 0;
			l->told++;
		} else {
			fprintf(stderr, "%s: status: %zd bytes of %zu sent: %s\n", l->name, sent, strlen(line),
				strerror(errno));
		}
		close(fd);
	}
	if (now - l->last_file_ns > 1000000000LL) {
		l->last_file_ns = now;
		snprintf(path, sizeof(path), "/run/%s", l->name);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd >= 0) {
			if (write(fd, line, strlen(line)) < 0)
				perror(path);
			close(fd);
		}
	}
	if (!l->rate)
		return l->pages;
	for (;;) {
		uint64_t due;

		now = load_clock(CLOCK_MONOTONIC);
		due = (uint64_t)((__int128)(now - l->start_ns) * (int64_t)l->rate / 1000000000);
		if (due > l->done + l->rate) { /* stood still for a second or more: do not catch up in one burst */
			l->start_ns = now;
			due = l->rate / 100;
			l->done = 0;
		}
		if (due > l->done)
			return due - l->done;
		l->registers += !load_sleep();
	}
}
