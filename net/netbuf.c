/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Buffers for received frames: a fixed number of 2 KiB pieces, each with its lwIP header in front, on a free list.
 * lwIP's own pools would put them into the image's bss. A buffer is taken whole by a packet of one byte, so that
 * windows alone, which count bytes, do not keep one connection from having all: small packets that wait for a reader
 * are joined, and of those that came before their turn few are kept while buffers are short.
 */
#include "kernel/base/hva.h"
#include "kernel/page.h"
#include "kernel/spinlock.h"
#include "net/port.h"
#include <string.h>

#define NETBUF_SIZE 2048
#define SMALL       900 /* bytes: less than half a buffer; a window of larger ones takes 1,200 buffers */
#define OOSEQ_MAX   400 /* buffers of one connection, which came before their turn */

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

bool netbuf_join(struct pbuf *to, const struct pbuf *p)
{
	struct netbuf *b = (struct netbuf *)(void *)to;
	if (!(to->flags & PBUF_FLAG_IS_CUSTOM) || b->p.custom_free_function != netbuf_free || to->ref != 1 || p->next ||
	    p->len > SMALL)
		return false;
	uint8_t *end = (uint8_t *)to->payload + to->len;
	if (p->len > b->data + sizeof(b->data) - end)
		return false;
	memcpy(end, p->payload, p->len);
	to->len = (u16_t)(to->len + p->len);
	return true;
}

/* lwIP asks for each packet that came before its turn: TCP_OOSEQ_PBUFS_LIMIT. */
unsigned short net_ooseq_limit(void)
{
	return __atomic_load_n(&free_count, __ATOMIC_RELAXED) > NETBUF_COUNT / 2 ? OOSEQ_MAX : 0;
}
