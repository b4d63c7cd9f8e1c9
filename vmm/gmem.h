/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest-physical memory of one VM: RAM in 2 MiB blocks, the nested page tables that map it, and the dirty set.
 *
 *   gpa 0 ........ ram below the hole | hole: MMIO, 3 GiB..4 GiB | rest of the RAM from 4 GiB on
 *
 * What tern keeps beside it hangs below one page for each GiB of these addresses, in pieces of at most 32 KiB: nothing
 * that grows with the guest is one piece of physical memory.
 *
 * Everybody but the guest itself (devices, kvmclock, loaders, migration) reaches its bytes by copies, gmem_read and
 * gmem_write, or pins them, gmem_pin: what is written so is the other half of the dirty set.
 */
#pragma once
#include "kernel/base/hva.h"
#include "arch/x86/pt.h"
#include "kernel/base/err.h"
#include "kernel/page.h"
#include "kernel/sync.h"
#include "vmm/pc/pc.h"

#define GMEM_BLOCK_SHIFT 21
#define GMEM_BLOCK       (1UL << GMEM_BLOCK_SHIFT)
#define GMEM_HOLE        ((gpa_t)PC_RAM_HOLE) /* RAM below ends here at most */
#define GMEM_HIGH        ((gpa_t)PC_RAM_ABOVE)

#define GMEM_GIB_SHIFT  30
#define GMEM_GIB_FRAMES (GIB(1) >> PAGE_SHIFT)
#define GMEM_GIB_BLOCKS (GIB(1) >> GMEM_BLOCK_SHIFT)
#define GMEM_FAN        512 /* pointers in a page */

/*
 * (c) const after gmem_init  [m] gmem.lock  [a] atomic  [t] of who tracks, and of the tasks that help it
 */
struct gmem_gib {
	gfn_t first;      /* (c) */
	uint64_t count;   /* (c) frames of RAM: less than 1 GiB at the end of a range */
	hpa_t *block;     /* (c) host address of each block */
	uint64_t *soft;   /* [a] bit per frame: written from outside the guest. Always kept */
	bool written;     /* [a] soft may have bits set */
	uint64_t *track;  /* [t] bit per frame: still to be sent */
	uint64_t left;    /* [t] bits in track */
	uint64_t sampled; /* [t] frames found dirty while gmem.sample counts them */
	uint64_t due[BITMAP_WORDS(GMEM_GIB_BLOCKS)]; /* [t] bit per block: walked since its leaves were looked at */
};

struct gmem {
	uint64_t size;      /* (c) bytes of RAM, multiple of 2 MiB */
	uint64_t low, high; /* (c) RAM below the hole, RAM from 4 GiB on */
	gfn_t gfn_end;      /* (c) end of the highest range */
	uint64_t nblocks;   /* (c) */
	hpa_t *low_block;   /* (c) of all blocks below the hole, at most 12 KiB: gmem_gib.block points into it there */
	struct gmem_gib ***gib; /* (c) by bits 47:39 and 38:30 of an address, as page tables are; NULL: no RAM */
	struct pt pt;           /* [m]; fmt: (c). Nested page tables; hardware walks them meanwhile */
	struct mutex lock;
	struct spinlock stock_lock;
	hpa_t stock; /* [stock_lock] table pages that are not in use, chained through their first words; 0 ends it */
	void (*flush)(void *arg); /* (c) from gmem_on_flush on. It returns when no CPU has older translations */
	void *flush_arg;
	const struct gmem_pager *pager; /* [a] NULL: every page is here */
	unsigned pager_users;           /* [a] who may be using it right now */
	bool tracking;                  /* [m], read [a]: leaves are 4K, dirty bits are meaningful */
	uint64_t splits;                /* [m], read [a]: large leaves split so far, for statistics */
	uint64_t sample;                /* [m] one of so many dirty frames is guarded; 0: none */
	struct spinlock guard_lock;     /* of who lifts one, and of who says that there are none any more */
	bool guards;                    /* [guard_lock], read [a]: there may be such */
	uint64_t soft_dirt;             /* [a] frames that the last harvest_all found written by the hypervisor */
};

static inline uint64_t gmem_gibs(uint64_t bytes)
{
	return (bytes + GIB(1) - 1) / GIB(1);
} /* begun ones, for gmem's files */
struct gmem_range { /* of RAM, in frames */
	gfn_t first;
	uint64_t count;
};

/*
 * Who waits while memory is cleared: step is called in the caller's task, at least every 64 MiB or some 250 ms, and at
 * the end with all of it. What it returns, unless 0, ends the making of this memory. It may sleep.
 */
struct gmem_progress {
	int (*step)(void *arg, uint64_t done_bytes, uint64_t total);
	void *arg;
};
/*
 * Allocate RAM (zeroed) and map it, and all that tracking its dirt will ever need: a host whose memory is full can
 * still send its VMs away. Pages come from r first (NULL: none are reserved), p hears how far it is (NULL: nobody). g
 * may not be moved. -ENOMEM with the numbers, -EINVAL for a size that is not a multiple of 2 MiB, or what p->step
 * returned; sleeps.
 */
int gmem_init_from(struct gmem *g, uint64_t size, const struct pt_format *fmt, struct page_reservation *r,
		   const struct gmem_progress *p, struct why *w) must_check;
static inline must_check int gmem_init(struct gmem *g, uint64_t size, const struct pt_format *fmt, struct why *w)
{
	return gmem_init_from(g, size, fmt, NULL, NULL, w);
}
int gmem_clear(const struct gmem *g,
	       const struct gmem_progress *p) must_check; /* for gmem_init_from: vmm/gmem_clear.c */
uint64_t gmem_pages(uint64_t size); /* that gmem_init allocates for this size, RAM included: 100.21 % of it */
hpa_t *gmem_nth_block(const struct gmem *g, uint64_t n); /* host address of RAM from n x 2 MiB on. For gmem's files */
void gmem_fini(struct gmem *g);                          /* no CPU uses its tables any more; half-made is fine */
unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2]);
/* Is [first, first + count) RAM of one range? */
static inline bool gmem_has(const struct gmem *g, gfn_t first, uint64_t count)
{
	struct gmem_range r[2];
	for (unsigned i = 0, n = gmem_ranges(g, r); i < n; i++)
		if (first >= r[i].first && first - r[i].first < r[i].count &&
		    count <= r[i].count - (first - r[i].first))
			return true;
	return false;
}

/*
 * Who brings the pages that are not here yet, while a guest already runs (post-copy). here: any context. fetch: ask for
 * the page, and sleep until it is here: 0, or the error that ended the wait.
 */
struct gmem_pager {
	bool (*here)(void *arg, gfn_t gfn);
	int (*fetch)(void *arg, gfn_t gfn);
	void (*end)(void *arg); /* NULL: nothing to do. As gmem_end_waits */
	void *arg;
};
/* From now on p brings them, NULL: all are here. Sleeps until nobody uses the one before: each wait of it must end. */
void gmem_set_pager(struct gmem *g, const struct gmem_pager *p);
/* Some never come: who touches them gets -ECANCELED, for as long as g is there. */
extern const struct gmem_pager gmem_lost;
bool gmem_is_here(const struct gmem *g, gpa_t gpa, size_t len);        /* of RAM. Any context */
int gmem_wait(const struct gmem *g, gpa_t gpa, size_t len) must_check; /* until it is here. Sleeps */
/* Its vCPUs are about to be stopped for good: who waits, or would, gets -ECANCELED. Pages may come on. Any context. */
void gmem_end_waits(const struct gmem *g);
/* The guest fetches from RAM that is mapped by a leaf too large for that. Its vCPU's task; sleeps. */
void gmem_make_executable(struct gmem *g, gpa_t gpa);
void gmem_on_flush(struct gmem *g, void (*flush)(void *arg), void *arg); /* once, before a vCPU runs on it */
static inline void gmem_flush(const struct gmem *g)                      /* for gmem's files */
{
	if (g->flush)
		g->flush(g->flush_arg);
}

/* Copies: sleep while a page is not here, so no spinlock is held. -EFAULT outside RAM, or what ended the wait. */
int gmem_read(const struct gmem *g, gpa_t gpa, void *buf, size_t len) must_check;
int gmem_write(struct gmem *g, gpa_t gpa, const void *buf, size_t len) must_check; /* marks dirty */
static inline bool gmem_is_ram(const struct gmem *g, gpa_t gpa)
{
	return gpa < g->low || (gpa >= GMEM_HIGH && gpa - GMEM_HIGH < g->high);
}
void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len);               /* gmem_unpin's */
static inline struct gmem_gib *gmem_gib_at(const struct gmem *g, gpa_t gpa) /* gpa is RAM */
{
	return g->gib[gpa >> (GMEM_GIB_SHIFT + 9)][gpa >> GMEM_GIB_SHIFT & (GMEM_FAN - 1)];
}
hpa_t gmem_high_block(const struct gmem *g, gpa_t gpa); /* the block that has gpa, which is RAM from 4 GiB on */
/* Host address of gpa..gpa+len if that is RAM in one block, else NULL. For gmem_pin, for who knows all_here, tests. */
static inline void *gmem_ptr(const struct gmem *g, gpa_t gpa, size_t len)
{
	uint64_t in = gpa & (GMEM_BLOCK - 1);
	if (!gmem_is_ram(g, gpa) || len > GMEM_BLOCK - in)
		return NULL;
	return (char *)hva_of(gpa < g->low ? g->low_block[gpa >> GMEM_BLOCK_SHIFT] : gmem_high_block(g, gpa)) + in;
}

/*
 * Pins: the host address of bytes within one block, good until gmem_unpin. gmem_pin never sleeps: -EFAULT, not RAM;
 * -EAGAIN, a page of it is not here yet: give up what spinlocks you hold, gmem_wait, begin again. gmem_pin_wait does
 * that for who holds none. What was pinned for writing is dirty from gmem_unpin on: data first, the mark after it.
 */
enum gmem_access {
	GMEM_READ,
	GMEM_WRITE,
	GMEM_FILL, /* by who brings pages: they need not be here */
};
struct gmem_pin {
	void *p;
	gpa_t gpa;
	size_t len;
	enum gmem_access access;
};
static inline must_check int gmem_pin(const struct gmem *g, gpa_t gpa, size_t len, enum gmem_access access,
				      struct gmem_pin *pin)
{
	*pin = (struct gmem_pin){ gmem_ptr(g, gpa, len), gpa, len, access };
	if (!pin->p)
		return -EFAULT;
	if (access != GMEM_FILL && __atomic_load_n(&g->pager, __ATOMIC_ACQUIRE) && !gmem_is_here(g, gpa, len))
		return -EAGAIN;
	return 0;
}
static inline must_check int gmem_pin_wait(const struct gmem *g, gpa_t gpa, size_t len, enum gmem_access access,
					   struct gmem_pin *pin)
{
	int err = gmem_pin(g, gpa, len, access, pin);
	if (err != -EAGAIN)
		return err;
	err = gmem_wait(g, gpa, len); /* what has come stays, while the VM runs */
	return err ? err : gmem_pin(g, gpa, len, access, pin);
}
/* Where this was true it stays so while the VM runs. */
static inline bool gmem_all_here(const struct gmem *g) { return !__atomic_load_n(&g->pager, __ATOMIC_ACQUIRE); }
/*
 * A word at a multiple of 8, as one load; else as gmem_read. For page walks, at every exit of some CPUs: all_here is
 * what gmem_all_here said before the walk.
 */
static inline must_check int gmem_load64(const struct gmem *g, bool all_here, gpa_t gpa, uint64_t *v)
{
	hpa_t block;
	if (__builtin_expect(gpa < g->low, 1))
		block = g->low_block[gpa >> GMEM_BLOCK_SHIFT];
	else if (gpa - GMEM_HIGH < g->high)
		block = gmem_high_block(g, gpa);
	else
		return -EFAULT;
	if (__builtin_expect(!all_here, 0)) {
		int err = gmem_wait(g, gpa, sizeof(*v));
		if (err)
			return err;
	}
	const char *p = hva_of(block);
	*v = __atomic_load_n((const uint64_t *)(p + (gpa & (GMEM_BLOCK - 1))), __ATOMIC_RELAXED);
	return 0;
}
static inline void gmem_unpin(const struct gmem *g, const struct gmem_pin *pin)
{
	if (pin->access != GMEM_READ)
		gmem_dirty(g, pin->gpa, pin->len);
}

/*
 * Tracking: the frames that are still to be sent, a set that one task at a time uses (vmm/gmem_track.c). What starts,
 * harvests and stops flushes (gmem_on_flush) and only after it returns: the caller may read the pages at once (clear ->
 * flush -> copy). None allocates what it could not do without.
 *
 * gmem_track_start: split everything; the set is empty, and what was written before is forgotten: the caller takes
 * every page as dirty. gmem_track_fill puts all RAM into the set, and returns how many frames that is.
 * gmem_track_harvest: frames of [first, first + count), of one range and from a multiple of 64 on, that were written to
 * since they were looked at last. gmem_track_harvest_all: of all memory, on all CPUs, and without those tables that no
 * walk has come by since the last time; still: no vCPU runs, somebody waits. Both return how many the set has more.
 * gmem_track_stop: merge back to large leaves.
 *
 * gmem_track_sample: from the next harvest_all on, of every `one_of` frames that it finds written one is guarded (0:
 * none any more): the vCPU that writes to it next has an exit, in which gmem_wrote_sample lifts that and says true. So
 * the dirt of each vCPU is known in proportion, which D alone does not tell. Ends with the tracking.
 */
void gmem_track_start(struct gmem *g);
uint64_t gmem_track_fill(struct gmem *g);
uint64_t gmem_track_harvest(struct gmem *g, gfn_t first, uint64_t count);
uint64_t gmem_track_harvest_all(struct gmem *g, bool still);
/* The set's first frame in [from, end), or end. gmem_track_take: a multiple of 64 and the 63 after it leave the set. */
gfn_t gmem_track_next(const struct gmem *g, gfn_t from, gfn_t end);
/* The first frame in [from, end), which is of one range, that is not in the set; or end. */
gfn_t gmem_track_gap(const struct gmem *g, gfn_t from, gfn_t end);
uint64_t gmem_track_take(struct gmem *g, gfn_t gfn) must_check;
uint64_t gmem_track_take_of(struct gmem *g, gfn_t gfn, uint64_t mask) must_check; /* of them, those of mask */
/*
 * The first frame in [from, end) that was written from outside the guest since its memory was made, tracking began or
 * it was harvested; end if there is none.
 */
gfn_t gmem_next_written(const struct gmem *g, gfn_t from, gfn_t end);
void gmem_track_add(struct gmem *g, gfn_t first, uint64_t count); /* RAM of one range comes into the set */
uint64_t gmem_track_left(const struct gmem *g);                   /* how many frames are in the set */
void gmem_track_clear(struct gmem *g);                            /* and all leaves it */
void gmem_track_stop(struct gmem *g);
void gmem_track_sample(struct gmem *g, uint64_t one_of);
bool gmem_wrote_sample(struct gmem *g, gpa_t gpa); /* any task */

/*
 * Absent frames (vmm/gmem_absent.c): a guest's RAM whose bytes are still elsewhere. They are the set of tracking, which
 * is not used meanwhile: gmem_track_next finds them.
 *
 * gmem_absent_add, before a vCPU runs: [first, first + count) of one range have no leaf any more; then once
 * gmem_absent_ready, and g->pager is set. gmem_absent_came, by the one task that brings them: the bytes are there
 * (GMEM_FILL), and it is mapped; false: it was here already. gmem_absent: any context; gfn is RAM. When none is left
 * gmem_track_stop makes large leaves of them.
 */
void gmem_absent_add(struct gmem *g, gfn_t first, uint64_t count);
void gmem_absent_ready(struct gmem *g);
bool gmem_absent_came(struct gmem *g, gfn_t gfn);
bool gmem_absent(const struct gmem *g, gfn_t gfn);
