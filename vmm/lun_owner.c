/* SPDX-License-Identifier: BSD-2-Clause */
/* Persistent reservations as ownership (lun_owner.h). */
#include "vmm/lun_owner.h"
#include "vmm/lun_command.h"
#include "kernel/base/hash.h"
#include "kernel/random.h"

#define RUNS      0xdUL
#define CAME      0xcUL
#define MARK_AT   60
#define HOST_AT   28
#define HOST_MASK 0xffffffffUL

static uint64_t digest_of(uint64_t host) { return fnv1a(FNV1A_START, &host, sizeof(host)) >> 28 & HOST_MASK; }

static uint64_t fresh_key(uint64_t mark, uint64_t host)
{
	uint64_t r;
	random_bytes(&r, sizeof(r));
	return mark << MARK_AT | digest_of(host) << HOST_AT | (r & ((1UL << HOST_AT) - 1));
}

uint64_t lun_owner_key(uint64_t host) { return fresh_key(RUNS, host); }
bool lun_owner_key_runs(uint64_t key) { return key >> MARK_AT == RUNS; }

bool lun_owner_key_is_of(uint64_t key, uint64_t host)
{
	uint64_t mark = key >> MARK_AT;
	return (mark == RUNS || mark == CAME) && (key >> HOST_AT & HOST_MASK) == digest_of(host);
}

/* PERSISTENT RESERVE OUT. */
static int reserve_out(struct iscsi_session *s, uint16_t lun, enum scsi_pr_out what, uint64_t key, uint64_t other,
		       bool aptpl, struct why *w)
{
	uint8_t cdb[SCSI_CDB], param[SCSI_PR_OUT_LEN];
	scsi_pr_out(cdb, param, what, key, other, aptpl);
	return lun_command(s, lun, cdb, ISCSI_OUT, param, sizeof(param), NULL, w);
}

/*
 * Our nexus is registered by key from then on, through a power loss, if the target can. REGISTER: and was by `old`, or
 * -EBUSY; REGISTER AND IGNORE: whatever it was before.
 */
static int register_key(struct iscsi_session *s, uint16_t lun, enum scsi_pr_out what, uint64_t old, uint64_t key,
			struct why *w)
{
	int err = reserve_out(s, lun, what, old, key, true, NULL);
	return err == -ENOTSUP ? reserve_out(s, lun, what, old, key, false, w) : err;
}

static int read_holder(struct iscsi_session *s, uint16_t lun, struct scsi_pr_holder *h, struct why *w)
{
	uint8_t cdb[SCSI_CDB], data[24] = { 0 };
	uint32_t got = 0;
	scsi_pr_in(cdb, SCSI_PR_READ_RESERVATION, sizeof(data));
	int err = lun_command(s, lun, cdb, ISCSI_IN, data, sizeof(data), &got, w);
	if (err)
		return err == -ENOTSUP ? why_set(w, err, "the target has no persistent reservations") : err;
	if (!scsi_pr_holder_parse(data, got, h))
		return why_set(w, -EPROTO, "the target's answer on its reservation is none");
	return 0;
}

/* The same, for who is to be told: *other is the key by which somebody has it, 0: nobody has. */
static int look(struct iscsi_session *s, uint16_t lun, struct scsi_pr_holder *h, uint64_t *other, struct why *w)
{
	int err = read_holder(s, lun, h, w);
	if (!err)
		*other = h->held ? h->key : 0;
	return err;
}

/* Its registrations go. A write of its that the target has taken, and not done yet, is not to come after ours. */
static int displace(struct iscsi_session *s, uint16_t lun, uint64_t key, uint64_t other, struct why *w)
{
	struct why deeper = { "" };
	int err = reserve_out(s, lun, SCSI_PR_PREEMPT_AND_ABORT, key, other, false, &deeper);
	if (err == -ENOTSUP)
		return reserve_out(s, lun, SCSI_PR_PREEMPT, key, other, false, w);
	return err ? why_set(w, err, "%s", deeper.text) : 0;
}

/*
 * By a fresh key from now on: h is who had it when we looked, and has to be that still. -EBUSY: it is not, or another
 * was faster. A nexus that holds it itself has changed its key by registering.
 */
static int take(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, const struct scsi_pr_holder *h,
		struct why *w)
{
	uint64_t key = fresh_key(o->came ? CAME : RUNS, o->host);
	struct scsi_pr_holder now = { 0 };
	o->next = key;
	int err = register_key(s, lun, SCSI_PR_REGISTER_AND_IGNORE, 0, key, w);
	if (err || (err = read_holder(s, lun, &now, w)))
		return err;
	bool has = now.held && now.key == key;
	if (!has && h->held && ((err = displace(s, lun, key, h->key, w)) || (err = read_holder(s, lun, &now, w))))
		return err;
	if (now.held && now.key != key) /* by h's key somebody was registered who holds nothing any more */
		return -EBUSY;
	if (!now.held && (err = reserve_out(s, lun, SCSI_PR_RESERVE, key, 0, false, w)))
		return err;
	o->key = key;
	return 0;
}

int lun_owner_claim(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, bool force, uint64_t *other,
		    struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = look(s, lun, &h, other, w);
	if (err)
		return err;
	if (h.held && !force && !lun_owner_key_is_of(h.key, o->host))
		return -EBUSY;
	o->came = false;
	err = take(s, lun, o, &h, w);
	o->forced = !err && h.held && !lun_owner_key_is_of(h.key, o->host);
	if (err == -EBUSY && !read_holder(s, lun, &h, NULL) && h.held)
		*other = h.key;
	return err;
}

/*
 * Nobody holds it. Because the target has restarted, and forgotten? Then nobody has registered since, but ourselves
 * when we tried to take it again. Else another host has had it, and has given it back.
 */
static bool has_forgotten(struct iscsi_session *s, uint16_t lun, const struct lun_owner *o,
			  const struct scsi_pr_holder *h)
{
	uint8_t cdb[SCSI_CDB], data[16] = { 0 };
	if (!h->generation)
		return true;
	scsi_pr_in(cdb, SCSI_PR_READ_KEYS, sizeof(data));
	return !lun_command(s, lun, cdb, ISCSI_IN, data, sizeof(data), NULL, NULL) && o->next != o->key &&
	       get_be32(data + 4) == 8 && get_be64(data + 8) == o->next;
}

int lun_owner_check(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t *other, struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = look(s, lun, &h, other, w);
	if (err)
		return err;
	if (h.held && o->next && h.key == o->next)
		o->key = o->next;
	if (h.held && h.key == o->key) {
		/* By this nexus? REGISTER with the key that it is to have fails if it has not. */
		err = register_key(s, lun, SCSI_PR_REGISTER, o->key, o->key, w);
		if (err != -EBUSY)
			return err;
	} else if (h.held || !has_forgotten(s, lun, o, &h)) {
		return -EPERM;
	}
	err = take(s, lun, o, &h, w);
	return err == -EBUSY ? -EPERM : err;
}

void lun_owner_release(struct iscsi_session *s, uint16_t lun, struct lun_owner *o)
{
	/* The answer to what would have made the second one ours may have been lost. */
	const uint64_t keys[] = { o->key, o->next };
	for (unsigned i = 0; i < ARRAY_SIZE(keys) && !o->forced; i++) {
		if (!keys[i] || (i && keys[i] == o->key) ||
		    reserve_out(s, lun, SCSI_PR_RELEASE, keys[i], 0, false, NULL))
			continue;
		(void)reserve_out(s, lun, SCSI_PR_REGISTER, keys[i], 0, false, NULL);
		break;
	}
	o->key = o->next = 0;
}

/* ---- the hand-over ---- */

int lun_owner_prepare(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t source, struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = read_holder(s, lun, &h, w);
	if (err)
		return err;
	if (!h.held || !lun_owner_key_is_of(h.key, source))
		return why_set(w, -EBUSY, "its unit is not held by the host that it comes from");
	o->came = true;
	o->next = fresh_key(CAME, o->host);
	return register_key(s, lun, SCSI_PR_REGISTER_AND_IGNORE, 0, o->next, w);
}

/* Nobody else has a command under way: the source has said so before COMMIT. */
static int preempt(struct iscsi_session *s, uint16_t lun, uint64_t key, uint64_t from, struct why *w)
{
	return reserve_out(s, lun, SCSI_PR_PREEMPT, key, from, false, w);
}

static int forgotten(struct why *w)
{
	return why_set(w, -EAGAIN, "the target has forgotten whose the unit is, and nobody has it");
}

int lun_owner_take_over(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t from, uint64_t *other,
			struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = o->key ? 0 : preempt(s, lun, o->next, from, w); /* else it was ours when we looked last */
	if (err && err != -EBUSY)
		return err;
	if ((err = look(s, lun, &h, other, w)))
		return err;
	if (o->key && h.held)
		return lun_owner_key_is_of(h.key, o->host) ? 0 : -EBUSY;
	if (h.held && h.key == from) { /* our nexus was forgotten with an older session */
		if ((err = register_key(s, lun, SCSI_PR_REGISTER_AND_IGNORE, 0, o->next, w)) ||
		    ((err = preempt(s, lun, o->next, from, w)) && err != -EBUSY) || (err = look(s, lun, &h, other, w)))
			return err;
	}
	if (!h.held)
		return forgotten(w);
	if (h.key != o->next)
		return h.key == from ? why_set(w, -EAGAIN, "the target does not let this host have the unit") : -EBUSY;
	o->key = o->next;
	return 0;
}

void lun_owner_mark(struct iscsi_session *s, uint16_t lun, struct lun_owner *o)
{
	o->came = false;
	o->next = lun_owner_key(o->host);
	if (!register_key(s, lun, SCSI_PR_REGISTER, o->key, o->next, NULL))
		o->key = o->next; /* else the next look finds out */
}

int lun_owner_take_back(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, bool force, uint64_t *other,
			struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = look(s, lun, &h, other, w);
	if (err)
		return err;
	bool ours = h.held && lun_owner_key_is_of(h.key, o->host); /* S, or of a try whose answer was lost */
	if (!ours && !force)
		return h.held ? -EBUSY : forgotten(w);
	o->came = false;
	err = take(s, lun, o, &h, w);
	o->forced = !err && h.held && !ours;
	if (err != -EBUSY)
		return err;
	(void)reserve_out(s, lun, SCSI_PR_REGISTER, o->next, 0, false, NULL);
	(void)!look(s, lun, &h, other, NULL);
	return err;
}

int lun_owner_follow(struct iscsi_session *s, uint16_t lun, struct lun_owner *o, uint64_t peer, struct why *w)
{
	struct scsi_pr_holder h = { 0 };
	int err = read_holder(s, lun, &h, w);
	if (err)
		return err;
	if (h.held && !lun_owner_key_is_of(h.key, peer) && !lun_owner_key_is_of(h.key, o->host))
		return why_set(w, -EPERM, "a third host has its unit, by the key %016lx", h.key);
	o->came = false; /* it says nothing of where the VM runs: the first one does */
	return take(s, lun, o, &h, w);
}
