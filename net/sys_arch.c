/* SPDX-License-Identifier: BSD-2-Clause */
/* lwIP's operating system (lwip/sys.h) on kernel/sync.h and kernel/task.h, its checksum and its random numbers. */
#include "kernel/base/hva.h"
#include "kernel/base/bits.h"
#include "kernel/page.h"
#include "kernel/random.h"
#include "kernel/spinlock.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "lwip/sys.h"
#include "lwip/tcpip.h"
#include "net/port.h"
#include <stdlib.h>
#include <string.h>

void *net_heap;
static bool core_up; /* the core lock exists */

int net_sys_start(void)
{
	hpa_t p = page_alloc(NET_HEAP_ORDER);
	if (p == HPA_NONE)
		return err_trace(-ENOMEM);
	net_heap = hva_of(p);
	struct completion done;
	completion_init(&done);
	tcpip_init((tcpip_init_done_fn)completion_done, &done);
	completion_wait(&done, TIME_NEVER);
	core_up = true;
	return 0;
}

void net_core_assert(void) { BUG_ON(core_up && lock_tcpip_core.mutex.owner != task_self()); }

void sys_init(void) {}

u32_t sys_now(void) { return (u32_t)(time_ns() / NS_PER_MS); }

/* Short critical sections around lwIP's pools; never in interrupts. Nests, as sys.h asks. */
static struct spinlock prot_lock = SPINLOCK_INIT("lwip");
static struct task *prot_owner; /* only its own value means something to a reader without the lock */

sys_prot_t sys_arch_protect(void)
{
	struct task *self = task_self();
	if (__atomic_load_n(&prot_owner, __ATOMIC_RELAXED) == self)
		return 1;
	spin_lock(&prot_lock);
	__atomic_store_n(&prot_owner, self, __ATOMIC_RELAXED);
	return 0;
}

void sys_arch_unprotect(sys_prot_t nested)
{
	if (nested)
		return;
	__atomic_store_n(&prot_owner, NULL, __ATOMIC_RELAXED);
	spin_unlock(&prot_lock);
}

err_t sys_sem_new(sys_sem_t *s, u8_t count)
{
	sem_init(&s->sem, count);
	s->valid = true;
	return ERR_OK;
}

void sys_sem_signal(sys_sem_t *s) { sem_up(&s->sem); }

static uint64_t deadline(u32_t ms) { return ms ? time_in_ms(ms) : TIME_NEVER; }

u32_t sys_arch_sem_wait(sys_sem_t *s, u32_t ms) { return sem_down(&s->sem, deadline(ms)) ? SYS_ARCH_TIMEOUT : 0; }

void sys_sem_free(sys_sem_t *s) { s->valid = false; }

err_t sys_mutex_new(sys_mutex_t *m)
{
	mutex_init(&m->mutex, m == &lock_tcpip_core ? "lwip core" : "lwip heap");
	m->valid = true;
	return ERR_OK;
}

void sys_mutex_lock(sys_mutex_t *m) { mutex_lock(&m->mutex); }

void sys_mutex_unlock(sys_mutex_t *m) { mutex_unlock(&m->mutex); }

void sys_mutex_free(sys_mutex_t *m) { m->valid = false; }

err_t sys_mbox_new(sys_mbox_t *m, int size)
{
	*m = (sys_mbox_t){ .size = size > 0 ? (unsigned)size : 16 };
	spin_init(&m->lock, "lwip mbox");
	waitq_init(&m->not_empty);
	waitq_init(&m->not_full);
	m->slot = calloc(m->size, sizeof(*m->slot));
	return m->slot ? ERR_OK : ERR_MEM;
}

void sys_mbox_free(sys_mbox_t *m)
{
	free(m->slot);
	m->slot = NULL;
}

static void mbox_put(sys_mbox_t *m, void *msg)
{
	m->slot[(m->head + m->count++) % m->size] = msg;
	waitq_wake_one(&m->not_empty);
}

void sys_mbox_post(sys_mbox_t *m, void *msg)
{
	uint64_t flags = spin_lock_irqsave(&m->lock);
	while (m->count == m->size)
		waitq_wait(&m->not_full, &m->lock, &flags, TIME_NEVER);
	mbox_put(m, msg);
	spin_unlock_irqrestore(&m->lock, flags);
}

err_t sys_mbox_trypost(sys_mbox_t *m, void *msg)
{
	uint64_t flags = spin_lock_irqsave(&m->lock);
	bool fits = m->count < m->size;
	if (fits)
		mbox_put(m, msg);
	spin_unlock_irqrestore(&m->lock, flags);
	return fits ? ERR_OK : ERR_MEM;
}

err_t sys_mbox_trypost_fromisr(sys_mbox_t *m, void *msg) { return sys_mbox_trypost(m, msg); }

static u32_t mbox_take(sys_mbox_t *m, void **msg, uint64_t until)
{
	u32_t ret = SYS_ARCH_TIMEOUT;
	uint64_t flags = spin_lock_irqsave(&m->lock);
	while (!m->count && time_ns() < until)
		if (waitq_wait(&m->not_empty, &m->lock, &flags, until))
			break;
	if (m->count) {
		if (msg)
			*msg = m->slot[m->head];
		m->head = (m->head + 1) % m->size;
		m->count--;
		waitq_wake_one(&m->not_full);
		ret = 0;
	}
	spin_unlock_irqrestore(&m->lock, flags);
	return ret;
}

u32_t sys_arch_mbox_fetch(sys_mbox_t *m, void **msg, u32_t ms) { return mbox_take(m, msg, deadline(ms)); }

u32_t sys_arch_mbox_tryfetch(sys_mbox_t *m, void **msg) { return mbox_take(m, msg, 0) ? SYS_MBOX_EMPTY : 0; }

sys_thread_t sys_thread_new(const char *name, lwip_thread_fn fn, void *arg, int stack unused, int prio unused)
{
	sys_thread_t t = task_create(name, TASK_PRIO_IO, fn, arg);
	if (!t)
		panic("lwIP: no memory for its task");
	return t;
}

/* RFC 1071, eight bytes at a time. */
uint16_t net_checksum(const void *data, int len)
{
	const uint8_t *p = data;
	uint64_t sum = 0, w;
	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&w, p, 8);
		sum += w;
		sum += sum < w;
	}
	w = 0;
	memcpy(&w, p, (size_t)len);
	sum += w;
	sum += sum < w;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* Transaction ids, port numbers and initial sequence numbers, hard to guess from outside (RFC 6528's purpose). */
uint32_t net_random(void)
{
	uint32_t v;
	random_bytes(&v, sizeof(v));
	return v;
}

unsigned net_tcp_isn(void) { return net_random(); }
