/* SPDX-License-Identifier: BSD-2-Clause */
/* Cards of fake_hosts.h: frames that wait at a VM that stands still, and that are brought to one (vmm/vm_port.h). */
#include "kernel/time.h"
#include "tests/unit/fake_hosts.h"
#include "vmm/vm_port.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEPT 4096
static struct {
	unsigned nic;
	size_t len;
	uint8_t *bytes;
} kept[KEPT];
static unsigned head, tail;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, brought_lock = PTHREAD_MUTEX_INITIALIZER;
bool fake_elsewhere = true;
volatile bool fake_flood;
volatile unsigned fake_bring_us;
struct fake_brought fake_brought;

void fake_keep(unsigned nic, const void *bytes, size_t len)
{
	pthread_mutex_lock(&lock);
	if (tail == KEPT)
		panic("fake_keep");
	kept[tail].nic = nic;
	kept[tail].len = len;
	kept[tail].bytes = malloc(len);
	memcpy(kept[tail++].bytes, bytes, len);
	pthread_mutex_unlock(&lock);
}

unsigned fake_kept_clear(void)
{
	unsigned left = tail - head;
	while (head < tail)
		free(kept[head++].bytes);
	head = tail = 0;
	fake_elsewhere = true;
	fake_flood = false;
	fake_bring_us = 0;
	memset(&fake_brought, 0, sizeof(fake_brought));
	return left;
}

int vm_port_take_kept(struct vm *vm unused, vm_port_put *put, void *arg)
{
	int err = 0;
	pthread_mutex_lock(&lock);
	while (!err && head < tail) {
		struct frame f;
		frame_init_flat(&f, kept[head].bytes, kept[head].len);
		pthread_mutex_unlock(&lock); /* it is the only one that takes */
		do
			err = put(arg, kept[head].nic, &f);
		while (!err && fake_flood);
		pthread_mutex_lock(&lock);
		free(kept[head++].bytes);
	}
	pthread_mutex_unlock(&lock);
	return err;
}

bool vm_port_is_elsewhere(const struct vm *vm unused) { return __atomic_load_n(&fake_elsewhere, __ATOMIC_SEQ_CST); }

void vm_port_wait_kept(struct vm *vm, uint64_t deadline_ns)
{
	for (bool any = false; !any && !vm_port_is_elsewhere(vm) && time_ns() < deadline_ns;) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		pthread_mutex_lock(&lock);
		any = head < tail;
		pthread_mutex_unlock(&lock);
	}
}

void vm_port_bring(struct vm *vm, unsigned nic, const struct frame *f)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000L * fake_bring_us }, NULL);
	pthread_mutex_lock(&brought_lock);
	struct fake_brought *b = &fake_brought;
	if (b->n < FAKE_BROUGHT) {
		b->frame[b->n].vm = vm;
		b->frame[b->n].nic = nic;
		b->frame[b->n].len = f->len;
		(void)frame_copy_out(f, ETH_HLEN, &b->frame[b->n].number, sizeof(b->frame[b->n].number));
	}
	b->n++;
	pthread_mutex_unlock(&brought_lock);
}

void vm_port_bytes(const struct vm *vm unused, uint64_t *sent, uint64_t *received) { *sent = *received = 0; }
