/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest for the device tests: a machine with real memory (gmem.c), bus and PCI devices, and a small driver that finds
 * them by their capabilities, as Linux does. A shadow of guest memory shows each write of a device that the dirty set
 * does not; fg_migrate() replaces all devices by fresh ones loaded with what the old ones saved.
 */
#pragma once
#include "kernel/frame.h"
#include "vmm/dev/vblk.h"
#include "vmm/dev/vvirtio.h"
#include <stdio.h>
#include <stdlib.h>

#define FG_MEM      (6UL << 20) /* two pieces on the host: 4 MiB and 2 MiB */
#define FG_SEAM     (4UL << 20) /* where the host's addresses do not go on */
#define FG_NET_SLOT 1
#define FG_RNG_SLOT 2
#define FG_BLK_SLOT 3
#define FG_MAX_LOG  4096

/* Of the tests' own part, in whatever thread. */
#define FG_CHECK(cond)                                                             \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

struct fg {
	struct machine m;
	struct gmem mem;
	uint8_t *shadow;
	struct vpci_bus *pci;
	struct vnet *net;
	unsigned pairs;   /* of queues of its card */
	struct vblk *blk; /* a disk, if it has a back end: */
	struct blockdev *disk;
	bool migrate_always; /* fg_step() migrates */
	bool unchecked;      /* fg_step() does nothing, for speed */
	unsigned nmsi;
	struct {
		uint64_t addr;
		uint32_t data;
	} msi[64];                                 /* the last ones, at nmsi % 64 */
	char log[FG_MAX_LOG];                      /* what a guest and the network see happening, in words */
	void (*tx)(struct fg *g, struct frame *f); /* also called for each frame sent */
	unsigned lost;
	uint64_t here[FG_MEM / PAGE_SIZE / 64]; /* after fg_post_copy: bit per frame */
	unsigned waited;                        /* frames that somebody waited for */
};
struct fg_dev { /* a driver's view of a function */
	struct fg *g;
	unsigned slot;
	uint64_t common, isr, config, notify, msix;
	uint32_t notify_mult;
};
struct fg_sg {
	gpa_t gpa;
	uint32_t len;
	bool write;
};
struct fg_queue {
	struct fg_dev *d;
	unsigned index, size;
	gpa_t desc, avail, used;
	uint16_t next_desc, avail_idx, last_used, kicked;
	bool event_idx;
};

void fg_init(struct fg *g);
void fg_init_pairs(struct fg *g, unsigned pairs);
void fg_init_disk(struct fg *g, unsigned queues, struct blockdev *disk); /* with as many pairs of its card */
void fg_fini(struct fg *g);
void fg_reset(struct fg *g); /* all of its devices */
void fg_log(struct fg *g, const char *fmt, ...) printf_like(2, 3);
void fg_step(struct fg *g); /* between any two steps: checks the dirty set, migrates if migrate_always */
void fg_migrate(struct fg *g);
void fg_post_copy(struct fg *g); /* from here on each page has to be asked for */
struct dev *fg_find(struct fg *g, const char *name);

/* The guest's own accesses to its memory. */
void fg_put(struct fg *g, gpa_t gpa, const void *buf, size_t len);
void fg_get(struct fg *g, gpa_t gpa, void *buf, size_t len);
/* Aligned fields of rings are stored and loaded whole, as a driver's are: the device looks at them at any moment. */
void fg_put16(struct fg *g, gpa_t gpa, uint16_t v);
uint16_t fg_get16(struct fg *g, gpa_t gpa);
static inline void fg_put64(struct fg *g, gpa_t gpa, uint64_t v) { fg_put(g, gpa, &v, 8); }
static inline uint32_t fg_get32(struct fg *g, gpa_t gpa)
{
	uint32_t v;
	fg_get(g, gpa, &v, 4);
	return v;
}

/* Configuration space through 0xcf8/0xcfc. */
uint32_t fg_cfg_read(struct fg *g, unsigned slot, unsigned reg, unsigned size);
void fg_cfg_write(struct fg *g, unsigned slot, unsigned reg, unsigned size, uint32_t val);

/*
 * The driver: find structures and enable the function and MSI-X; negotiate; queues; vectors 0, 1.. go to address
 * 0xfee00000, data 0x40 + vector.
 */
void fg_probe(struct fg_dev *d, struct fg *g, unsigned slot);
uint64_t fg_read(struct fg_dev *d, uint64_t addr, unsigned size);
void fg_write(struct fg_dev *d, uint64_t addr, unsigned size, uint64_t val);
uint8_t fg_status(struct fg_dev *d);
uint64_t fg_features(struct fg_dev *d);                 /* offered */
bool fg_negotiate(struct fg_dev *d, uint64_t features); /* reset, features; FEATURES_OK held? */
void fg_queue_init(struct fg_queue *q, struct fg_dev *d, unsigned index, unsigned size, gpa_t ring, bool event_idx);
void fg_driver_ok(struct fg_dev *d);
void fg_desc(struct fg_queue *q, gpa_t table, unsigned i, gpa_t addr, uint32_t len, uint16_t flags, uint16_t next);
uint16_t fg_add(struct fg_queue *q, const struct fg_sg *sg, unsigned n,
		gpa_t indirect);                  /* indirect: table or 0; returns head */
void fg_offer(struct fg_queue *q, uint16_t head); /* only the avail ring */
bool fg_kick(struct fg_queue *q);                 /* rings if the device wants it; did it? */
void fg_ring(struct fg_queue *q);                 /* rings */
int fg_used(struct fg_queue *q, uint32_t *len);   /* next used head, -1 if none */
void fg_want_interrupt(struct fg_queue *q, bool on);
