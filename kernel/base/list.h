/* SPDX-License-Identifier: BSD-2-Clause */
/* Circular doubly linked list, embedded in its elements. The caller does the locking. */
#pragma once
#include "kernel/base/bits.h"

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name)          \
	{                        \
		&(name), &(name) \
	}

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert(struct list *at, struct list *n) /* after `at` */
{
	n->next = at->next;
	n->prev = at;
	at->next->prev = n;
	at->next = n;
}
static inline void list_append(struct list *head, struct list *n) { list_insert(head->prev, n); }
static inline void list_remove(struct list *n) /* leaves n an empty list: removing twice is harmless */
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(l, type, member)    CONTAINER_OF(l, type, member)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))
#define list_for_each(pos, head, type, member)                                                          \
	for (type *pos = list_entry((head)->next, type, member), *pos##_next = NULL;                    \
	     &pos->member != (head) && (pos##_next = list_entry(pos->member.next, type, member), true); \
	     pos = pos##_next) /* `pos` itself may be removed in the body */
