/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Buffers for received frames: a fixed number of 2 KiB pieces, each with its lwIP header in front, on a free list.
 * lwIP's own pools would put them into the image's bss. TCP_WND bounds what one connection may hold of them.
 */
#include "kernel/base/hva.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include "net/port.h"

#define NETBUF_SIZE 2048

struct netbuf {
	struct pbuf_custom p; /* first: lwIP hands it back */
	struct netbuf *next;
	uint8_t data[NETBUF_SIZE - sizeof(struct pbuf_custom) - sizeof(void *)];
};
_Static_assert(sizeof(struct netbuf) == NETBUF_SIZE, "netbuf");

static struct spinlock lock = SPINLOCK_INIT("netbuf");
static struct netbuf *free_list; /* [lock] */
static unsigned free_count;      /* [lock] */

int netbuf_init(void)
{
	for (unsigned made = 0; made < NETBUF_COUNT; made += PAGE_SIZE * 32 / NETBUF_SIZE) {
		hpa_t p = page_alloc(5);
		if (p == HPA_NONE)
			return err_trace(-ENOMEM);
		struct netbuf *b = hva_of(p);
		for (unsigned i = 0; i < PAGE_SIZE * 32 / NETBUF_SIZE; i++, free_count++) {
			b[i].next = free_list;
			free_list = &b[i];
		}
	}
	return 0;
}

static void netbuf_free(struct pbuf *p)
{
	struct netbuf *b = (struct netbuf *)(void *)p;
	spin_lock(&lock);
	b->next = free_list;
	free_list = b;
	free_count++;
	spin_unlock(&lock);
}

struct pbuf *netbuf_alloc(size_t n)
{
	enum { PIECE = sizeof(((struct netbuf *)0)->data) };
	unsigned count = (unsigned)((n + PIECE - 1) / PIECE);
	if (n == 0 || n > UINT16_MAX)
		return NULL;
	spin_lock(&lock);
	if (free_count < count) {
		spin_unlock(&lock);
		return NULL;
	}
	/* All the pieces or none, in one visit of the lock. */
	struct netbuf *list = free_list, *b = list;
	for (unsigned i = 1; i < count; i++)
		b = b->next;
	free_list = b->next;
	b->next = NULL;
	free_count -= count;
	spin_unlock(&lock);
	struct pbuf *head = NULL, **tail = &head;
	for (b = list; b; b = b->next) {
		size_t len = MIN(n, (size_t)PIECE);
		b->p.custom_free_function = netbuf_free;
		struct pbuf *p = pbuf_alloced_custom(PBUF_RAW, (u16_t)len, PBUF_REF, &b->p, b->data, PIECE);
		p->tot_len = (u16_t)n;
		n -= len;
		*tail = p;
		tail = &p->next;
	}
	return head;
}
