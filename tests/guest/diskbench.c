/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a disk does in a second: requests of 4 KiB at random places, and megabytes (of a million bytes) in requests of
 * 1 MiB one behind the other, with one request under way and with 32, past the guest's page cache. Says it in one line:
 *
 *   diskbench DEV SECONDS       SECONDS for each of eight figures; what was on DEV is lost
 *
 *   write1m_mbs_1= write1m_mbs_32= read1m_mbs_1= ... write4k_iops_1= ... read4k_iops_32=
 */
#define _GNU_SOURCE
#include "load.h"
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define DEPTH_MAX 32
#define MIB       (1UL << 20)

struct bench {
	const char *name;
	uint32_t size;
	bool writes, random;
};

static const struct bench *now_running;
static int disk;
static uint64_t bytes;
static _Atomic uint64_t done, next; /* requests; the number of the next one */
static _Atomic bool over;

static void *work(void *arg)
{
	const struct bench *b = now_running;
	uint64_t places = bytes / b->size;

	while (!over) {
		uint64_t n = next++;
		uint64_t place = b->random ? (n * 0x9e3779b97f4a7c15ULL ^ n << 17) >> 20 : n;
		off_t at = (off_t)(place % places * b->size);
		ssize_t got = b->writes ? pwrite(disk, arg, b->size, at) : pread(disk, arg, b->size, at);

		if (got != (ssize_t)b->size) {
			perror(b->name);
			exit(1);
		}
		done++;
	}
	return NULL;
}

/* Requests a second. */
static double run(const struct bench *b, unsigned depth, uint8_t *buffers, unsigned seconds)
{
	pthread_t threads[DEPTH_MAX];
	int64_t start = load_clock(CLOCK_MONOTONIC);

	now_running = b;
	done = next = 0;
	over = false;
	for (unsigned i = 0; i < depth; i++) {
		if (pthread_create(&threads[i], NULL, work, buffers + i * b->size)) {
			perror("diskbench");
			exit(1);
		}
	}
	sleep(seconds);
	over = true;
	for (unsigned i = 0; i < depth; i++)
		pthread_join(threads[i], NULL);
	return (double)done * 1e9 / (double)(load_clock(CLOCK_MONOTONIC) - start);
}

int main(int argc, char **argv)
{
	static const struct bench benches[] = {
		{ "write1m", MIB, true, false },
		{ "read1m", MIB, false, false },
		{ "write4k", PAGE, true, true },
		{ "read4k", PAGE, false, true },
	};
	static const unsigned depths[] = { 1, DEPTH_MAX };
	unsigned seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
	uint8_t *buffers = mmap(NULL, DEPTH_MAX * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!seconds) {
		fprintf(stderr, "diskbench DEV SECONDS\n");
		return 2;
	}
	disk = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) || bytes < MIB || buffers == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	for (uint64_t i = 0; i < DEPTH_MAX * MIB / 8; i++) /* neither zeros nor twice the same page */
		((uint64_t *)(void *)buffers)[i] = (i + 1) * 0x9e3779b97f4a7c15ULL;
	for (unsigned i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
		for (unsigned d = 0; d < 2; d++) {
			const struct bench *b = &benches[i];
			double rate = run(b, depths[d], buffers, seconds);

			printf("%s%s_%s_%u=%.0f", i + d ? " " : "", b->name, b->random ? "iops" : "mbs", depths[d],
			       b->random ? rate : rate * b->size / 1e6);
			fflush(stdout);
		}
	}
	printf("\n");
	return 0;
}
