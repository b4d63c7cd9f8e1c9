/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a disk does: requests of 4 KiB at random places, and of 1 MiB one behind the other, with one request under way
 * and with 32, past the guest's page cache. By one thread, which asks for as many requests at once as have ended: a
 * thread for each would be a measure of the scheduler.
 *
 *   diskbench DEV SECONDS [NAME...]     each NAME for that long, 0.2 too; default: all. What is written to DEV is lost
 *
 *   write1m_1 write1m_32 read1m_1 read1m_32 write4k_1 write4k_32 read4k_1 read4k_32
 *
 * Says each in a line: diskbench: NAME requests=N iops=N mbs=N tsc=N, where mbs is millions of bytes a second, and tsc
 * the counts of the TSC that a request took. SIGTERM ends the one under way, and those behind it.
 */
#define _GNU_SOURCE
#include "load.h"
#include <linux/aio_abi.h>
#include <signal.h>
#include <x86intrin.h>

#define DEPTH_MAX 32U
#define MIB       (1UL << 20)

struct bench {
	const char *name;
	uint32_t size;
	unsigned depth;
	bool writes, random;
};

static int disk;
static uint64_t bytes, next; /* of the disk; the number of the next request */
static uint8_t *buffers;     /* a MiB for each request under way */
static aio_context_t context;
static volatile sig_atomic_t over;

static void stop(int signal)
{
	(void)signal;
	over = true;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The next request, with a slot's buffer. */
static void aim(const struct bench *b, struct iocb *r, unsigned slot)
{
	uint64_t n = next++, places = bytes / b->size;
	uint64_t place = b->random ? (n * 0x9e3779b97f4a7c15ULL ^ n << 17) >> 20 : n;

	*r = (struct iocb){ .aio_data = slot,
			    .aio_lio_opcode = b->writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			    .aio_fildes = (uint32_t)disk,
			    .aio_buf = (uintptr_t)(buffers + slot * MIB),
			    .aio_nbytes = b->size,
			    .aio_offset = (int64_t)(place % places * b->size) };
}

static void submit(const struct bench *b, struct iocb **list, unsigned n)
{
	while (n) {
		long taken = syscall(SYS_io_submit, context, n, list);

		if (taken <= 0)
			fail(b->name);
		list += taken;
		n -= (unsigned)taken;
	}
}

/* How many requests there were. */
static uint64_t run(const struct bench *b, int64_t end_ns)
{
	static struct iocb request[DEPTH_MAX];
	struct iocb *list[DEPTH_MAX];
	struct io_event event[DEPTH_MAX];
	unsigned under_way = b->depth, n;

	next = 0;
	for (n = 0; n < b->depth; n++) {
		aim(b, &request[n], n);
		list[n] = &request[n];
	}
	submit(b, list, n);
	while (under_way) {
		long ended = syscall(SYS_io_getevents, context, 1L, (long)b->depth, event, NULL);
		bool more = !over && load_clock(CLOCK_MONOTONIC) < end_ns;

		if (ended < 0 && errno == EINTR)
			continue;
		if (ended <= 0)
			fail(b->name);
		n = 0;
		for (long i = 0; i < ended; i++) {
			if (event[i].res != (int64_t)b->size) {
				errno = event[i].res < 0 ? (int)-event[i].res : EIO;
				fail(b->name);
			}
			if (more) {
				struct iocb *r = &request[event[i].data];

				aim(b, r, (unsigned)event[i].data);
				list[n++] = r;
			}
		}
		under_way -= (unsigned)ended - n;
		submit(b, list, n);
	}
	return next;
}

static void measure(const struct bench *b, double seconds)
{
	int64_t start = load_clock(CLOCK_MONOTONIC);
	uint64_t tsc = __rdtsc(), n = run(b, start + (int64_t)(seconds * 1e9));
	double rate = (double)n * 1e9 / (double)(load_clock(CLOCK_MONOTONIC) - start);

	tsc = __rdtsc() - tsc;
	printf("diskbench: %s requests=%llu iops=%.0f mbs=%.0f tsc=%llu\n", b->name, (unsigned long long)n, rate,
	       rate * b->size / 1e6, (unsigned long long)(tsc / n));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "write1m_1", MIB, 1, true, false }, { "write1m_32", MIB, DEPTH_MAX, true, false },
		{ "read1m_1", MIB, 1, false, false }, { "read1m_32", MIB, DEPTH_MAX, false, false },
		{ "write4k_1", PAGE, 1, true, true }, { "write4k_32", PAGE, DEPTH_MAX, true, true },
		{ "read4k_1", PAGE, 1, false, true }, { "read4k_32", PAGE, DEPTH_MAX, false, true },
	};
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 0;
	unsigned known = 0;

	if (seconds <= 0) {
		fprintf(stderr, "diskbench DEV SECONDS [NAME...]\n");
		return 2;
	}
	disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	off_t size = disk < 0 ? -1 : lseek(disk, 0, SEEK_END);
	buffers = mmap(NULL, DEPTH_MAX * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (size < (off_t)MIB || buffers == MAP_FAILED || syscall(SYS_io_setup, DEPTH_MAX, &context))
		fail(argv[1]);
	bytes = (uint64_t)size;
	signal(SIGTERM, stop);
	for (uint64_t i = 0; i < DEPTH_MAX * MIB / 8; i++) /* neither zeros nor twice the same page */
		((uint64_t *)(void *)buffers)[i] = (i + 1) * 0x9e3779b97f4a7c15ULL;
	for (int a = argc > 3 ? 3 : argc - 1; a < argc; a++) {
		for (unsigned i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
			if (argc > 3 && strcmp(argv[a], benches[i].name))
				continue;
			known++;
			if (!over)
				measure(&benches[i], seconds);
		}
	}
	if (argc > 3 && known != (unsigned)argc - 3) {
		fprintf(stderr, "diskbench: %u of the names are known\n", known);
		return 2;
	}
	return 0;
}
