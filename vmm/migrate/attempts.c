/* SPDX-License-Identifier: BSD-2-Clause */
/* One decision for each attempt, under one lock (attempts.h, doc/handover.md). */
#include "vmm/migrate/attempts.h"
#include "kernel/spinlock.h"
#include "kernel/time.h"
#include <string.h>

struct attempt {
	struct attempt_id id;
	enum attempt_state state;
	uint64_t used; /* serial number of its last change: the oldest NEVER goes first */
};

static struct spinlock lock = SPINLOCK_INIT("attempts"); /* innermost; guards all below */
static struct attempt table[ATTEMPTS_MAX];
static uint64_t serial, last_epoch;

static struct attempt *find(const struct attempt_id *id)
{
	for (unsigned i = 0; i < ATTEMPTS_MAX; i++)
		if (table[i].state != ATTEMPT_NONE && attempt_id_equal(&table[i].id, id))
			return &table[i];
	return NULL;
}

static void set(struct attempt *a, enum attempt_state s)
{
	a->state = s;
	a->used = ++serial;
}

static struct attempt *add(const struct attempt_id *id, enum attempt_state s)
{
	struct attempt *slot = NULL;
	for (unsigned i = 0; i < ATTEMPTS_MAX; i++) {
		struct attempt *a = &table[i];
		if (a->state == ATTEMPT_NONE) {
			slot = a;
			break;
		}
		if (a->state == ATTEMPT_NEVER && (!slot || a->used < slot->used))
			slot = a;
	}
	if (slot) {
		slot->id = *id;
		set(slot, s);
	}
	return slot;
}

int attempt_offer(const struct attempt_id *id)
{
	int err = 0;
	spin_lock(&lock);
	if (find(id))
		err = -EALREADY;
	else if (!add(id, ATTEMPT_RECEIVING))
		err = -ENOSPC;
	spin_unlock(&lock);
	return err;
}

static int advance(const struct attempt_id *id, enum attempt_state from, enum attempt_state to)
{
	int err = -ECANCELED;
	spin_lock(&lock);
	struct attempt *a = find(id);
	if (a && a->state == from) {
		set(a, to);
		err = 0;
	}
	spin_unlock(&lock);
	return err;
}

int attempt_ready(const struct attempt_id *id) { return advance(id, ATTEMPT_RECEIVING, ATTEMPT_READY); }
int attempt_commit(const struct attempt_id *id) { return advance(id, ATTEMPT_READY, ATTEMPT_STARTED); }

enum attempt_state attempt_decide(const struct attempt_id *id)
{
	enum attempt_state s = ATTEMPT_NEVER;
	spin_lock(&lock);
	struct attempt *a = find(id);
	if (a && a->state == ATTEMPT_STARTED)
		s = ATTEMPT_STARTED;
	else if (a)
		set(a, ATTEMPT_NEVER);
	else
		add(id, ATTEMPT_NEVER); /* if there is no room: what is not known is NEVER too */
	spin_unlock(&lock);
	return s;
}

void attempt_forget(const struct attempt_id *id)
{
	spin_lock(&lock);
	struct attempt *a = find(id);
	if (a && a->state == ATTEMPT_STARTED)
		a->state = ATTEMPT_NONE;
	spin_unlock(&lock);
}

enum attempt_state attempt_state(const struct attempt_id *id)
{
	spin_lock(&lock);
	const struct attempt *a = find(id);
	enum attempt_state s = a ? a->state : ATTEMPT_NONE;
	spin_unlock(&lock);
	return s;
}

bool attempt_find_open(const uint8_t uuid[16], struct attempt_id *id)
{
	bool found = false;
	spin_lock(&lock);
	for (unsigned i = 0; i < ATTEMPTS_MAX && !found; i++) {
		const struct attempt *a = &table[i];
		found = (a->state == ATTEMPT_RECEIVING || a->state == ATTEMPT_READY) && !memcmp(a->id.uuid, uuid, 16);
		if (found)
			*id = a->id;
	}
	spin_unlock(&lock);
	return found;
}

uint64_t attempt_new_epoch(void)
{
	uint64_t now = time_wall_ns();
	if (!now)
		now = time_ns();
	spin_lock(&lock);
	last_epoch = MAX(last_epoch + 1, now);
	uint64_t e = last_epoch;
	spin_unlock(&lock);
	return e;
}
