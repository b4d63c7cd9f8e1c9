/* SPDX-License-Identifier: BSD-2-Clause */
/* lwIP's semaphores, locks and mailboxes on kernel/sync.h: see net/sys_arch.c. */
#pragma once
#include "kernel/sync.h"

struct net_mbox {
	struct spinlock lock;
	struct waitq not_empty, not_full;
	void **slot; /* [lock] NULL: invalid */
	unsigned size, head, count;
};
typedef struct {
	struct sem sem;
	bool valid;
} sys_sem_t;
typedef struct {
	struct mutex mutex;
	bool valid;
} sys_mutex_t;
typedef struct net_mbox sys_mbox_t;
typedef struct task *sys_thread_t;
typedef int sys_prot_t;

#define sys_sem_valid(s)         ((s)->valid)
#define sys_sem_set_invalid(s)   ((s)->valid = false)
#define sys_mutex_valid(m)       ((m)->valid)
#define sys_mutex_set_invalid(m) ((m)->valid = false)
#define sys_mbox_valid(m)        ((m)->slot != NULL)
#define sys_mbox_set_invalid(m)  ((m)->slot = NULL)
