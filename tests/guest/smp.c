/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's CPUs against each other. On each one a worker; a token goes round, and who has it maps another page to
 * the address that all of them read. So each step wakes the other CPUs from idle (futex, reschedule IPIs) and needs a
 * TLB shoot-down on all of them; and all look at the clock, and check and renew pages of their own as pagecheck does.
 *
 *   smp [unplug]      unplug: all CPUs but the first are taken offline and back online, one after another, all the time
 *
 * Status on TCP port 7006 and in /run/smp:
 *   stale     a worker read what lay at that address before: a translation that was not flushed
 *   behind    a CPU's clock was behind what another had read already
 *   lost      a page of a worker's own did not hold what it had written there
 *   stuck     nothing moved for 20 s: a lost wake-up, IPI or timer
 *   failed    a CPU could not be taken offline, or back
 */
#define _GNU_SOURCE
#include "load.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>

#define WORKERS_MAX 64
#define OWN_PAGES   128 /* of each worker: a slow host can send what two of them write in half a second */
#define OWN_AT_ONCE 8

static struct load load;
static unsigned nworkers;
static volatile uint64_t *slot;   /* one page: the step that wrote it */
static _Atomic uint32_t step;     /* whose low bits say which worker has the token */
static _Atomic int64_t latest_ns; /* the latest time that any worker has read */
static _Atomic uint64_t stale, behind, lost, stuck, unplugged, failed;

static void pin(unsigned cpu) /* an offline one: the kernel runs us elsewhere meanwhile */
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static void look_at_clock(void)
{
	int64_t before = latest_ns, now = load_clock(CLOCK_MONOTONIC);

	if (now < before)
		behind++;
	while (now > before && !__atomic_compare_exchange_n((int64_t *)&latest_ns, &before, now, false,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

/* The next few pages: each holds its number and how often it was visited. */
static void look_at_own(volatile uint64_t *own, uint32_t visit)
{
	uint32_t first = visit * OWN_AT_ONCE;

	for (uint32_t i = first; i < first + OWN_AT_ONCE; i++) {
		volatile uint64_t *page = own + i % OWN_PAGES * (PAGE / 8);

		if (page[0] != i / OWN_PAGES || (page[0] && page[1] != i % OWN_PAGES))
			lost++;
		page[0] = i / OWN_PAGES + 1;
		page[1] = i % OWN_PAGES;
	}
}

static void wait_for_step(uint32_t mine)
{
	const struct timespec limit = { 20, 0 };

	for (uint32_t now = step; now != mine; now = step) {
		uint64_t seen = *slot; /* so that this CPU has a translation of it */

		(void)seen;
		if (syscall(SYS_futex, &step, FUTEX_WAIT_PRIVATE, now, &limit, NULL, 0) && errno == ETIMEDOUT)
			stuck++;
	}
}

static void *worker(void *arg)
{
	unsigned self = (unsigned)(uintptr_t)arg;
	uint64_t *own = mmap(NULL, OWN_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (own == MAP_FAILED) {
		failed++;
		return NULL;
	}

	for (uint32_t mine = self + 1;; mine += nworkers) {
		if (mine / nworkers % 64 == 0)
			pin(self);
		wait_for_step(mine);
		if (*slot != mine - 1)
			stale++;
		if (mmap((void *)(uintptr_t)slot, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) == MAP_FAILED)
			failed++;
		*slot = mine;
		look_at_clock();
		look_at_own(own, (mine - 1) / nworkers);
		step = mine + 1;
		syscall(SYS_futex, &step, FUTEX_WAKE_PRIVATE, WORKERS_MAX, NULL, NULL, 0);
	}
	return NULL;
}

static bool set_online(unsigned cpu, bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, on ? "1" : "0", 1) == 1;
	if (fd >= 0)
		close(fd);
	if (!ok)
		failed++;
	return ok;
}

static void *unplug(void *arg)
{
	(void)arg;
	for (unsigned cpu = 1;; cpu = cpu + 1 < nworkers ? cpu + 1 : 1) {
		struct timespec rest = { 0, 50000000 };

		if (set_online(cpu, false)) {
			nanosleep(&rest, NULL);
			if (set_online(cpu, true))
				unplugged++;
		}
		nanosleep(&rest, NULL);
	}
	return NULL;
}

static const char *status(void)
{
	static char s[200];

	snprintf(s, sizeof(s),
		 "cpus=%u rounds=%u stale=%llu behind=%llu lost=%llu stuck=%llu unplugged=%llu failed=%llu", nworkers,
		 step / nworkers, (unsigned long long)stale, (unsigned long long)behind, (unsigned long long)lost,
		 (unsigned long long)stuck, (unsigned long long)unplugged, (unsigned long long)failed);
	return s;
}

int main(int argc, char **argv)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t t;

	nworkers = online > WORKERS_MAX ? WORKERS_MAX : (unsigned)online;
	slot = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slot == MAP_FAILED)
		return 1;
	load_init(&load, "smp", 7006, 1, 1);
	step = 1; /* the first worker's; *slot is 0 */
	for (unsigned i = 0; i < nworkers; i++)
		if (pthread_create(&t, NULL, worker, (void *)(uintptr_t)i))
			return 1;
	if (argc > 1 && !strcmp(argv[1], "unplug") && nworkers > 1 && pthread_create(&t, NULL, unplug, NULL))
		return 1;
	for (;;)
		load.done += load_tick(&load, status);
}
