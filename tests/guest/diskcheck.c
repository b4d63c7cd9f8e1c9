/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The disk checker, run inside the guest while it works, is saved, or migrates. Several threads each own a slice of
 * the disk, first fill it, and then write and read it at random places, zero and discard parts of it, and flush.
 * Every sector written says its number, a generation and its checksum; what each sector must hold is kept in memory,
 * and compared with what is read: all of its bytes. One lost, stale, torn or misplaced sector is an error, and stays
 * counted. None is changed without being looked at first, and half of the reads go through the slice from end to end:
 * so each is found.
 *
 *   diskcheck [DEV] MIB [SEED [DEPTH]]      the first MIB of DEV (default /dev/vda; 0 MiB: all of it), whose content is
 *                                           lost; DEPTH threads (default 4), each with one request under way. With the
 *                                           same SEED they make the same requests; default: from the clock
 *
 * Status on TCP port 7007 and in /run/diskcheck:
 *   errors       sectors that held something else than they must
 *   ioerrors     requests that failed; what they left in their sectors is not looked at
 *   longest_us   the longest request since the status was asked for last, those under way included
 */
#define _GNU_SOURCE
#include "load.h"
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define SECTOR      512U
#define REQUEST_MIN 4096U
#define REQUEST_MAX 65536U
#define RANGE_MAX   (1U << 18) /* of what is zeroed or discarded at once */
#define DEPTH_MAX   64
#define SAID_MAX    20 /* errors that are told in words, too */

/* What a sector must hold: a generation, or one of these. */
#define ZEROS   0U
#define UNKNOWN UINT32_MAX

struct sector {
	uint64_t number;
	uint64_t seed;
	uint32_t generation;
	uint32_t sum; /* of the rest */
	uint64_t fill[61];
};
_Static_assert(sizeof(struct sector) == SECTOR, "a sector");

struct slice {
	uint64_t first, count;    /* sectors */
	uint32_t *must;           /* what each of them must hold */
	uint32_t generation;      /* of the last write */
	uint64_t random;          /* the generator's state */
	uint64_t next;            /* where the walk from end to end goes on */
	uint8_t *buffer;          /* a page more than the longest request */
	_Atomic int64_t since_ns; /* when the request under way began, 0: there is none */
};

static struct load load;
static int disk;
static uint64_t seed;
static unsigned unit; /* sectors in a block of the disk: requests are of whole ones */
static unsigned depth = 4;
static struct slice slices[DEPTH_MAX];
static _Atomic uint64_t writes, reads, flushes, discards, zeros, errors, ioerrors;
static _Atomic int64_t longest_ns;
static _Atomic bool cannot_discard, cannot_unmap;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

static uint64_t below(struct slice *s, uint64_t limit)
{
	s->random++;
	return mix(s->random) % limit;
}

static uint32_t sum_of(const struct sector *s)
{
	uint64_t sum = mix(s->number ^ mix(s->seed ^ mix(s->generation)));

	for (unsigned i = 0; i < 61; i++)
		sum = sum * 31 + s->fill[i];
	return (uint32_t)(sum ^ sum >> 32);
}

static void sector_make(struct sector *s, uint64_t number, uint32_t generation)
{
	uint64_t x = mix(number ^ mix(seed ^ mix(generation)));

	if (generation == ZEROS) {
		memset(s, 0, sizeof(*s));
		return;
	}
	s->number = number;
	s->seed = seed;
	s->generation = generation;
	for (unsigned i = 0; i < 61; i++)
		s->fill[i] = x = x * 6364136223846793005ULL + 1442695040888963407ULL;
	s->sum = sum_of(s);
}

static void say_wrong(const struct sector *must, uint64_t number, const struct sector *got)
{
	static const struct sector nothing;

	fprintf(stderr, "diskcheck: sector %llu must hold ", (unsigned long long)number);
	if (must->generation == ZEROS)
		fprintf(stderr, "zeros, and holds ");
	else
		fprintf(stderr, "generation %u, and holds ", must->generation);
	if (!memcmp(got, &nothing, sizeof(nothing)))
		fprintf(stderr, "zeros\n");
	else if (got->sum != sum_of(got))
		fprintf(stderr, "no sector of this program\n");
	else
		fprintf(stderr, "sector %llu, generation %u%s\n", (unsigned long long)got->number, got->generation,
			got->seed == seed ? "" : " of another run");
}

/* Compare what was read. A wrong sector is counted once: nothing is known of it until it is written again. */
static void check(struct slice *s, uint64_t at, uint64_t count, const uint8_t *buffer)
{
	for (uint64_t i = 0; i < count; i++) {
		const struct sector *got = (const void *)(buffer + i * SECTOR);
		uint32_t *must = &s->must[at + i];
		struct sector want;

		if (*must == UNKNOWN)
			continue;
		sector_make(&want, s->first + at + i, *must);
		if (!memcmp(&want, got, sizeof(want)))
			continue;
		if (errors++ < SAID_MAX)
			say_wrong(&want, s->first + at + i, got);
		*must = UNKNOWN;
	}
}

static void expect(struct slice *s, uint64_t at, uint64_t count, uint32_t must)
{
	for (uint64_t i = 0; i < count; i++)
		s->must[at + i] = must;
}

static void begin(struct slice *s) { s->since_ns = load_clock(CLOCK_MONOTONIC); }

static void raise_longest(int64_t ns)
{
	int64_t before = longest_ns;

	while (ns > before && !__atomic_compare_exchange_n((int64_t *)&longest_ns, &before, ns, false, __ATOMIC_SEQ_CST,
							   __ATOMIC_SEQ_CST))
		;
}

/* The request under way is over. Returns whether it went well; if so it is counted in `good`. */
static bool end(struct slice *s, const char *what, uint64_t at, bool ok, _Atomic uint64_t *good)
{
	int err = errno;

	raise_longest(load_clock(CLOCK_MONOTONIC) - s->since_ns);
	s->since_ns = 0;
	if (ok)
		++*good;
	else if (ioerrors++ < SAID_MAX)
		fprintf(stderr, "diskcheck: %s at sector %llu: %s\n", what, (unsigned long long)(s->first + at),
			strerror(err));
	return ok;
}

/* A place for a request of at most `most` bytes: its first sector within the slice, and how many. */
static uint64_t place(struct slice *s, uint32_t most, uint64_t *at)
{
	uint64_t blocks = s->count / unit, min = REQUEST_MIN / SECTOR / unit, max = most / SECTOR / unit;

	if (max > blocks)
		max = blocks;
	uint64_t n = min + below(s, max - min + 1);
	*at = below(s, blocks - n + 1) * unit;
	return n * unit;
}

/* Where in memory: at a random place in a page, so that a request's parts are of many lengths. */
static uint8_t *buffer_of(struct slice *s) { return s->buffer + below(s, PAGE / SECTOR / unit) * unit * SECTOR; }

static void write_at(struct slice *s, uint64_t at, uint64_t count)
{
	uint8_t *buffer = buffer_of(s);

	s->generation++;
	for (uint64_t i = 0; i < count; i++)
		sector_make((struct sector *)(void *)(buffer + i * SECTOR), s->first + at + i, s->generation);
	begin(s);
	errno = EIO; /* of a short write */
	bool ok = pwrite(disk, buffer, count * SECTOR, (off_t)((s->first + at) * SECTOR)) == (ssize_t)(count * SECTOR);
	expect(s, at, count, end(s, "write", at, ok, &writes) ? s->generation : UNKNOWN);
}

static void read_at(struct slice *s, uint64_t at, uint64_t count)
{
	uint8_t *buffer = buffer_of(s);

	memset(buffer, 0x5a, count * SECTOR); /* what a disk that writes nothing here would leave */
	begin(s);
	errno = EIO;
	bool ok = pread(disk, buffer, count * SECTOR, (off_t)((s->first + at) * SECTOR)) == (ssize_t)(count * SECTOR);
	if (end(s, "read", at, ok, &reads))
		check(s, at, count, buffer);
}

/* Before it is changed, and so before nobody can see any more that it was wrong. */
static void look(struct slice *s, uint64_t at, uint64_t count)
{
	for (uint64_t n; count; at += n, count -= n) {
		n = count < REQUEST_MAX / SECTOR ? count : REQUEST_MAX / SECTOR;
		read_at(s, at, n);
	}
}

static void do_write(struct slice *s)
{
	uint64_t at, count = place(s, REQUEST_MAX, &at);

	look(s, at, count);
	write_at(s, at, count);
}

static void do_read(struct slice *s)
{
	uint64_t at, count = place(s, REQUEST_MAX, &at);

	if (below(s, 2)) {
		at = s->next;
		if (count > s->count - at)
			count = s->count - at;
		s->next = (at + count) % s->count;
	}
	read_at(s, at, count);
}

static void do_flush(struct slice *s)
{
	bool whole = below(s, 2);

	begin(s);
	end(s, "flush", 0, !(whole ? fsync(disk) : fdatasync(disk)), &flushes);
}

static void do_discard(struct slice *s)
{
	uint64_t at, count = place(s, RANGE_MAX, &at);
	uint64_t range[2] = { (s->first + at) * SECTOR, count * SECTOR };

	if (cannot_discard)
		return;
	look(s, at, count);
	begin(s);
	bool ok = !ioctl(disk, BLKDISCARD, range);
	if (!ok && errno == EOPNOTSUPP) { /* of the whole disk: it does not offer that */
		s->since_ns = 0;
		cannot_discard = true;
		return;
	}
	expect(s, at, count, end(s, "discard", at, ok, &discards) ? ZEROS : UNKNOWN);
}

/* With leave to unmap or without, which a disk is told; where it can do neither, the guest's kernel writes zeros. */
static void do_zero(struct slice *s)
{
	uint64_t at, count = place(s, RANGE_MAX, &at);
	uint64_t range[2] = { (s->first + at) * SECTOR, count * SECTOR };
	bool unmap = below(s, 2) && !cannot_unmap;

	look(s, at, count);
	begin(s);
	bool ok =
		unmap && !fallocate(disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)range[0], (off_t)range[1]);
	if (unmap && !ok && errno == EOPNOTSUPP)
		cannot_unmap = true;
	if (!unmap || (!ok && errno == EOPNOTSUPP))
		ok = !ioctl(disk, BLKZEROOUT, range);
	expect(s, at, count, end(s, "zero-out", at, ok, &zeros) ? ZEROS : UNKNOWN);
}

static void *work(void *arg)
{
	static const struct {
		unsigned of_100;
		void (*request)(struct slice *s);
	} mixture[] = { { 45, do_write }, { 45, do_read }, { 4, do_flush }, { 3, do_discard }, { 3, do_zero } };
	struct slice *s = arg;

	for (uint64_t at = 0, n; at < s->count; at += n) {
		n = s->count - at < REQUEST_MAX / SECTOR ? s->count - at : REQUEST_MAX / SECTOR;
		write_at(s, at, n);
	}
	for (;;) {
		unsigned dice = (unsigned)below(s, 100), i = 0;

		for (; dice >= mixture[i].of_100; i++)
			dice -= mixture[i].of_100;
		mixture[i].request(s);
	}
	return NULL;
}

static const char *status(void)
{
	static char s[220];
	static uint64_t told;
	int64_t now = load_clock(CLOCK_MONOTONIC);

	if (told != load.told) {
		told = load.told;
		longest_ns = 0;
	}
	for (unsigned i = 0; i < depth; i++) {
		int64_t since = slices[i].since_ns;

		if (since)
			raise_longest(now - since);
	}
	snprintf(s, sizeof(s),
		 "writes=%llu reads=%llu flushes=%llu discards=%llu zeros=%llu errors=%llu ioerrors=%llu "
		 "longest_us=%lld",
		 (unsigned long long)writes, (unsigned long long)reads, (unsigned long long)flushes,
		 (unsigned long long)discards, (unsigned long long)zeros, (unsigned long long)errors,
		 (unsigned long long)ioerrors, (long long)(longest_ns / 1000));
	return s;
}

static bool open_disk(const char *path, uint64_t *mib)
{
	uint64_t bytes;
	int block;

	disk = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) || ioctl(disk, BLKSSZGET, &block)) {
		perror(path);
		return false;
	}
	unit = (unsigned)block / SECTOR;
	if (!*mib)
		*mib = bytes >> 20;
	if (*mib > bytes >> 20 || depth < 1 || depth > DEPTH_MAX || (*mib << 20) / depth < REQUEST_MAX ||
	    (unsigned)block > REQUEST_MIN) {
		fprintf(stderr, "diskcheck: %llu MiB by %u threads does not fit %s of %llu bytes in blocks of %d\n",
			(unsigned long long)*mib, depth, path, (unsigned long long)bytes, block);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	int n = argc > 1 && argv[1][0] == '/' ? 2 : 1; /* where MIB is */
	const char *path = n == 2 ? argv[1] : "/dev/vda";
	uint64_t mib = argc > n ? strtoull(argv[n], NULL, 10) : 0;
	pthread_t t;

	seed = argc > n + 1 ? strtoull(argv[n + 1], NULL, 0) : (uint64_t)load_clock(CLOCK_REALTIME);
	if (argc > n + 2)
		depth = (unsigned)strtoul(argv[n + 2], NULL, 10);
	if (!open_disk(path, &mib))
		return 1;
	load_init(&load, "diskcheck", 7007, 1, 1);
	for (unsigned i = 0; i < depth; i++) {
		struct slice *s = &slices[i];

		s->count = (mib << 20) / SECTOR / depth / (PAGE / SECTOR) * (PAGE / SECTOR);
		s->first = i * s->count;
		s->random = mix(seed + i);
		s->must = malloc(s->count * sizeof(s->must[0]));
		s->buffer = mmap(NULL, REQUEST_MAX + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (!s->must || s->buffer == MAP_FAILED || pthread_create(&t, NULL, work, s)) {
			perror("diskcheck");
			return 1;
		}
	}
	for (;;)
		load.done += load_tick(&load, status);
}
