/* SPDX-License-Identifier: BSD-2-Clause */
/* The unit of fake_session.h: its blocks, its reservation. The lock is held, unless a function takes it. */
#include "kernel/base/err.h"
#include "tests/unit/fake_session.h"
#include <stdlib.h>
#include <string.h>

struct fake_target fake_target;

enum {
	TEST_UNIT_READY = 0x00,
	INQUIRY = 0x12,
	PR_IN = 0x5e,
	PR_OUT = 0x5f,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	SYNCHRONIZE_CACHE_16 = 0x91,
	WRITE_SAME_16 = 0x93,
	SERVICE_ACTION_IN_16 = 0x9e,
};
enum { REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_ABORT, REGISTER_IGNORE };
#define UA_POWER_ON  0x2900
#define UA_PREEMPTED 0x2a03
#define BAD_FIELD    0x2400
#define BAD_OPCODE   0x2000

void fake_target_init(void)
{
	struct fake_target *t = &fake_target;
	while (t->ghosts) {
		struct fake_ghost *g = t->ghosts;
		t->ghosts = g->next;
		free(g);
	}
	memset(t, 0, sizeof(*t));
	spin_init(&t->lock, "target");
	t->holder = -1;
}

/* ---- data ---- */

/* len bytes at t's offset `at` of its pieces, to or from p. */
static void copy(const struct iscsi_task *c, uint32_t at, uint8_t *p, uint32_t len, bool out)
{
	const struct iov *v = c->seg;
	for (size_t off = c->skip + at; len; v++) {
		if (off >= v->len) {
			off -= v->len;
			continue;
		}
		uint32_t n = (uint32_t)MIN(v->len - off, (size_t)len);
		if (out)
			memcpy(p, (uint8_t *)v->base + off, n);
		else
			memcpy((uint8_t *)v->base + off, p, n);
		p += n;
		len -= n;
		off = 0;
	}
}

static void give(struct iscsi_task *c, uint8_t *p, uint32_t len)
{
	c->got = MIN(len, c->len);
	copy(c, 0, p, c->got, false);
}

/* ---- ghosts ---- */

void fake_ghost_make(struct fake_target *t, unsigned nexus, const struct iscsi_task *c)
{
	if (c->cdb[0] != WRITE_16 || (t->holder >= 0 && (unsigned)t->holder != nexus))
		return;
	struct fake_ghost *g = malloc(sizeof(*g) + c->len), **at = &t->ghosts;
	g->nexus = nexus;
	g->block = get_be64(c->cdb + 2);
	g->len = c->len;
	g->next = NULL;
	copy(c, 0, g->data, c->len, true);
	while (*at)
		at = &(*at)->next;
	*at = g;
}

/* Those of one nexus, or of all: each is done, or, if others have been asked, perhaps. */
static void bury(struct fake_target *t, unsigned nexus, bool walk)
{
	for (struct fake_ghost **at = &t->ghosts, *g; (g = *at);) {
		if (nexus != ~0U && g->nexus != nexus) {
			at = &g->next;
			continue;
		}
		if (walk || (t->draw && t->draw() % 2)) {
			memcpy(t->data + g->block * FAKE_BLOCK, g->data, g->len);
			t->nexus[g->nexus].writes++;
		}
		*at = g->next;
		free(g);
	}
}

void fake_target_ghosts_walk(void)
{
	uint64_t flags = spin_lock_irqsave(&fake_target.lock);
	bury(&fake_target, ~0U, true);
	spin_unlock_irqrestore(&fake_target.lock, flags);
}

/* ---- nexuses ---- */

static void attend(struct fake_nexus *n, uint16_t asc)
{
	if (n->nua < ARRAY_SIZE(n->ua))
		n->ua[n->nua++] = asc;
}

unsigned fake_nexus_login(struct fake_target *t, const struct iscsi_target *by)
{
	unsigned i = 0;
	for (; i < t->nnexus; i++) {
		struct fake_nexus *n = &t->nexus[i];
		if (!n->gone && !strcmp(n->initiator, by->initiator) && !memcmp(n->isid, by->isid, 6)) {
			if (n->session)
				fake_session_end(n->session, -ECONNRESET, false);
			bury(t, i, false);
			if (!t->forgets)
				break;
			n->gone = true;
		}
	}
	BUG_ON(i == FAKE_NEXUSES);
	struct fake_nexus *n = &t->nexus[i];
	if (i == t->nnexus) {
		t->nnexus++;
		memcpy(n->initiator, by->initiator, sizeof(n->initiator));
		memcpy(n->isid, by->isid, sizeof(n->isid));
	}
	if (!t->no_attention)
		attend(n, UA_POWER_ON);
	t->logins++;
	return i;
}

void fake_target_restart(bool kept)
{
	struct fake_target *t = &fake_target;
	uint64_t flags = spin_lock_irqsave(&t->lock);
	for (unsigned i = 0; i < t->nnexus; i++) {
		if (t->nexus[i].session)
			fake_session_end(t->nexus[i].session, -ECONNRESET, false);
		if (!kept)
			t->nexus[i].key = 0;
	}
	t->generation = 0;
	if (!kept)
		t->holder = -1;
	bury(t, ~0U, false);
	spin_unlock_irqrestore(&t->lock, flags);
}

void fake_target_cut(unsigned nexus)
{
	struct fake_target *t = &fake_target;
	if (t->nexus[nexus].session)
		fake_session_end(t->nexus[nexus].session, -ECONNRESET, true);
}

unsigned fake_target_held_by(void)
{
	uint64_t flags = spin_lock_irqsave(&fake_target.lock);
	unsigned n = fake_target.holder < 0 ? ~0U : (unsigned)fake_target.holder;
	spin_unlock_irqrestore(&fake_target.lock, flags);
	return n;
}

void fake_target_reserve(unsigned nexus, uint64_t key)
{
	fake_target.nexus[nexus].key = key;
	fake_target.generation++;
	if (fake_target.holder < 0)
		fake_target.holder = (int)nexus;
}

void fake_target_drop_key(unsigned nexus, bool registered)
{
	if (fake_target.holder == (int)nexus)
		fake_target.holder = -1;
	if (!registered)
		fake_target.nexus[nexus].key = 0;
}

/* ---- answers ---- */

static void answer(struct iscsi_task *c, uint8_t status, uint8_t key, uint16_t asc)
{
	c->status = status;
	c->got = 0;
	if (status != SCSI_CHECK_CONDITION)
		return;
	memset(c->sense, 0, sizeof(c->sense));
	c->sense[0] = 0x70;
	c->sense[2] = key;
	c->sense[7] = 10;
	put_be16(c->sense + 12, asc);
	c->sense_len = 18;
}

void fake_command_answer(struct iscsi_task *c, const struct fake_fault *f) { answer(c, f->status, f->key, f->asc); }

static void refuse(struct iscsi_task *c, uint16_t asc) { answer(c, SCSI_CHECK_CONDITION, SCSI_ILLEGAL_REQUEST, asc); }

/* ---- reservations ---- */

/* Registrations by that key go, but for that nexus': how many. */
static unsigned remove_keys(struct fake_target *t, unsigned but, uint64_t key, bool aborts)
{
	unsigned n = 0;
	for (unsigned i = 0; i < t->nnexus; i++) {
		if (i == but || !t->nexus[i].key || t->nexus[i].key != key)
			continue;
		t->nexus[i].key = 0;
		attend(&t->nexus[i], UA_PREEMPTED);
		if (aborts)
			bury(t, i, false);
		n++;
	}
	return n;
}

static bool preempt(struct fake_target *t, unsigned nexus, uint64_t key, bool aborts)
{
	bool takes = t->holder >= 0 && t->nexus[t->holder].key == key;
	if (!remove_keys(t, nexus, key, aborts) && !takes)
		return false;
	if (takes)
		t->holder = (int)nexus;
	return true;
}

static void clear(struct fake_target *t, unsigned nexus)
{
	for (unsigned i = 0; i < t->nnexus; i++) {
		if (t->nexus[i].key && i != nexus)
			attend(&t->nexus[i], UA_PREEMPTED);
		t->nexus[i].key = 0;
	}
	t->holder = -1;
}

static void pr_out(struct fake_target *t, unsigned nexus, struct iscsi_task *c)
{
	uint8_t p[SCSI_PR_OUT_LEN], action = c->cdb[1] & 0x1f;
	struct fake_nexus *n = &t->nexus[nexus];
	BUG_ON(c->len != sizeof(p) || get_be32(c->cdb + 5) != sizeof(p) || c->dir != ISCSI_OUT);
	copy(c, 0, p, sizeof(p), true);
	uint64_t key = get_be64(p), other = get_be64(p + 8);
	bool good = n->key == key && (key || action == REGISTER), registers = !action || action == REGISTER_IGNORE;
	BUG_ON(!registers && action != CLEAR && c->cdb[2] != SCSI_PR_WRITE_EXCLUSIVE);
	if (registers && t->no_aptpl && p[20] & SCSI_PR_APTPL) {
		refuse(c, BAD_FIELD);
		return;
	}
	if (action > REGISTER_IGNORE || (action == PREEMPT_ABORT && t->no_abort)) {
		refuse(c, BAD_FIELD);
		return;
	}
	if (action == RESERVE)
		good = good && (t->holder < 0 || t->holder == (int)nexus);
	if (action == PREEMPT || action == PREEMPT_ABORT)
		good = good && preempt(t, nexus, other, action == PREEMPT_ABORT);
	if (!good && action != REGISTER_IGNORE) {
		answer(c, SCSI_RESERVATION_CONFLICT, 0, 0);
		return;
	}
	t->generation += action != RESERVE && action != RELEASE;
	if (registers)
		n->key = other;
	if (action == RESERVE)
		t->holder = (int)nexus;
	if ((action == RELEASE || (registers && !other)) && t->holder == (int)nexus)
		t->holder = -1;
	if (action == CLEAR)
		clear(t, nexus);
	c->got = c->len;
}

static void read_keys(struct fake_target *t, struct iscsi_task *c)
{
	uint8_t p[8 + 8 * FAKE_NEXUSES] = { 0 };
	size_t n = 8;
	for (unsigned i = 0; i < t->nnexus; i++)
		if (t->nexus[i].key) {
			put_be64(p + n, t->nexus[i].key);
			n += 8;
		}
	put_be32(p, t->generation);
	put_be32(p + 4, n - 8);
	give(c, p, n);
}

static void pr_in(struct fake_target *t, struct iscsi_task *c)
{
	uint8_t p[24] = { 0 };
	if ((c->cdb[1] & 0x1f) == SCSI_PR_READ_KEYS) {
		read_keys(t, c);
		return;
	}
	BUG_ON((c->cdb[1] & 0x1f) != SCSI_PR_READ_RESERVATION);
	put_be32(p, t->generation);
	if (t->holder >= 0) {
		put_be32(p + 4, 16);
		put_be64(p + 8, t->nexus[t->holder].key);
		p[21] = SCSI_PR_WRITE_EXCLUSIVE;
	}
	give(c, p, t->holder >= 0 ? 24 : 8);
}

/* ---- commands ---- */

static void inquiry(struct fake_target *t, struct iscsi_task *c)
{
	uint8_t p[96] = { 0 };
	if (c->cdb[1] & 1) {
		p[1] = c->cdb[2];
		p[3] = 60;
		if (c->cdb[2] == 0xb0)
			put_be32(p + 8, t->transfer);
		if (c->cdb[2] == 0x83)
			memcpy(p + 3, "\x0c\x01\x03\x00\x08\x60\x01\x40\x5e\x01\x02\x03\x04", 13);
		give(c, p, 64);
		return;
	}
	memcpy(p + 8, "FAKE    A DISK          0001", 28);
	give(c, p, sizeof(p));
}

static void capacity(struct fake_target *t, struct iscsi_task *c)
{
	uint8_t p[SCSI_CAPACITY_LEN] = { 0 };
	put_be64(p, FAKE_BLOCKS - 1);
	put_be32(p + 8, t->block_len ? t->block_len : FAKE_BLOCK);
	p[14] = t->thin ? 0xc0 : 0;
	give(c, p, sizeof(p));
}

/* All of the data, but for what is cut off. */
static void move(struct fake_target *t, unsigned nexus, struct iscsi_task *c, uint32_t cut)
{
	uint64_t block = get_be64(c->cdb + 2);
	uint32_t blocks = get_be32(c->cdb + 10), bytes = blocks * FAKE_BLOCK;
	bool same = c->cdb[0] == WRITE_SAME_16, in = c->cdb[0] == READ_16;
	if (block > FAKE_BLOCKS || blocks > FAKE_BLOCKS - block) {
		refuse(c, 0x2100);
		return;
	}
	BUG_ON(c->len != (same ? FAKE_BLOCK : bytes) || c->dir != (in ? ISCSI_IN : ISCSI_OUT));
	uint8_t *at = t->data + block * FAKE_BLOCK;
	c->got = c->len - MIN(cut, c->len);
	for (uint32_t i = 0; same && c->got && i < blocks; i++)
		copy(c, 0, at + i * FAKE_BLOCK, FAKE_BLOCK, true);
	if (!same)
		copy(c, 0, at, c->got, !in);
	t->nexus[nexus].writes += !in;
}

static bool is_write(const uint8_t *cdb) { return cdb[0] == WRITE_16 || cdb[0] == WRITE_SAME_16; }

struct fake_command fake_command_of(struct fake_target *t, unsigned nexus, const struct iscsi_task *c)
{
	t->ops[c->cdb[0]]++;
	t->nexus[nexus].asked += is_write(c->cdb);
	return (struct fake_command){ .n = ++t->commands,
				      .nexus = nexus,
				      .op = c->cdb[0],
				      .action = c->cdb[1],
				      .block = get_be64(c->cdb + 2),
				      .blocks = get_be32(c->cdb + 10),
				      .writes = is_write(c->cdb) };
}

void fake_command_do(struct fake_target *t, unsigned nexus, struct iscsi_task *c, uint32_t cut)
{
	struct fake_nexus *n = &t->nexus[nexus];
	uint8_t op = c->cdb[0];
	c->status = SCSI_GOOD;
	if (n->nua && op != INQUIRY) {
		answer(c, SCSI_CHECK_CONDITION, SCSI_UNIT_ATTENTION, n->ua[0]);
		memmove(n->ua, n->ua + 1, --n->nua * sizeof(n->ua[0]));
		return;
	}
	if ((is_write(c->cdb) || op == SYNCHRONIZE_CACHE_16) && t->holder >= 0 && t->holder != (int)nexus) {
		t->refused++;
		answer(c, SCSI_RESERVATION_CONFLICT, 0, 0);
		return;
	}
	switch (op) {
	case TEST_UNIT_READY:
	case SYNCHRONIZE_CACHE_16: break;
	case INQUIRY: inquiry(t, c); break;
	case SERVICE_ACTION_IN_16: capacity(t, c); break;
	case PR_IN: pr_in(t, c); break;
	case PR_OUT: pr_out(t, nexus, c); break;
	case WRITE_SAME_16:
		if (t->no_same || (c->cdb[1] & 8 && !t->thin)) {
			refuse(c, BAD_OPCODE);
			break;
		}
		move(t, nexus, c, cut);
		break;
	case READ_16:
	case WRITE_16: move(t, nexus, c, cut); break;
	default: refuse(c, BAD_OPCODE);
	}
}
