/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames on their way to a guest: copies, so that whoever sends one pays for its bytes and for nothing that the guest's
 * ring looks like. Bounded in bytes. Any task puts; one takes.
 */
#pragma once
#include "kernel/base/err.h"
#include "kernel/frame.h"
#include "kernel/spinlock.h"

#define VNET_QUEUE_SIZE (256UL << 10)

struct vnet_queue { /* (c) const after init  [l] lock */
	struct spinlock lock;
	uint8_t *buf;        /* (c), its bytes between head and tail */
	uint64_t head, tail; /* [l] modulo its size */
	uint64_t expired;    /* [l] what is before it is for nobody any more */
};
int vnet_queue_init(struct vnet_queue *q) must_check;                       /* 0, -ENOMEM */
void vnet_queue_fini(struct vnet_queue *q);                                 /* also of one in zeros */
int vnet_queue_put(struct vnet_queue *q, const struct frame *f) must_check; /* 0, -ENOBUFS */
unsigned vnet_queue_room(struct vnet_queue *q, uint32_t len);               /* how many of len bytes it would take */
uint64_t vnet_queue_used(struct vnet_queue *q);                             /* bytes, of VNET_QUEUE_SIZE */
/* The first one, which stays there: false if there is none. For the task that takes, as is the rest. */
bool vnet_queue_first(struct vnet_queue *q, struct frame *f);
void vnet_queue_drop(struct vnet_queue *q);   /* the first one, which is there */
void vnet_queue_expire(struct vnet_queue *q); /* drop all that are there, in any task */
