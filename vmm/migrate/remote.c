/* SPDX-License-Identifier: BSD-2-Clause */
/* What has not moved yet is served (remote.h). */
#include "vmm/migrate/remote.h"
#include "kernel/log.h"
#include "kernel/time.h"
#include "net/trust.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/frames.h"
#include "vmm/migrate/handover.h"
#include "vmm/migrate/hot.h"
#include "vmm/migrate/page_sums.h"

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

int remote_send(struct source *c)
{
	struct hot_frames hot;
	int err = hot_frames_get(&hot, c->vm);
	if (err)
		return err;
	c->hot = &hot;
	err = precopy_send_pass(c, true);
	c->hot = NULL;
	hot_frames_put(&hot);
	c->m->remote = gmem_track_left(&c->vm->mem); /* else all has gone, as ever */
	return err || !c->m->remote ? err : absent_send(&c->tx, &c->vm->mem, MIG_STOPPED_NS, switchover_end(c));
}

/* ---- serving ---- */

/* No record is so long that there would be something to look at in its middle. */
static int nothing(void *arg unused) { return 0; }

/* What somebody waits for is not held against the limits, which it would only make others wait for. */
static void show(struct source *c, uint64_t sent, bool urgent)
{
	spin_lock(&c->m->lock);
	c->m->st.pages_left -= MIN(sent, c->m->st.pages_left);
	c->m->st.pages_sent = c->pages.total.data;
	c->m->st.zero_pages = c->pages.total.zero;
	c->m->st.bytes += c->tx.bytes - c->paced;
	spin_unlock(&c->m->lock);
	if (!urgent)
		c->hold_ns = bandwidth_until(c->m, c->tx.bytes - c->paced);
	c->paced = c->tx.bytes;
}

/* --verify: what goes is to be as it is here. The words on a page that it was not are over when nobody repeats them. */
static int send_sums(struct source *c, const struct demand *d)
{
	uint64_t pages;
	int err = d->times ? page_sums_again(c->m, &c->vm->mem, d) : 0;
	if (err || (err = page_sums_send(&c->tx, &c->vm->mem, d, in(MIG_IDLE_NS), &pages)))
		return err;
	if (!d->times && c->again_ns && time_ns() - c->again_ns > 2 * PAGE_SUMS_LATER_NS) {
		migration_say(c->m, "");
		c->again_ns = 0;
	}
	c->again_ns = d->times ? time_ns() : c->again_ns;
	spin_lock(&c->m->lock);
	c->m->st.verified_pages += pages;
	spin_unlock(&c->m->lock);
	return 0;
}

/* The destination has all, and knows better than this host what was sent twice. */
static void has_all(struct source *c, const uint64_t verified[2])
{
	spin_lock(&c->m->lock);
	if (c->m->p.verify && verified[0]) {
		c->m->st.verified_pages = verified[0];
		c->m->st.differed_pages = verified[1];
	}
	c->m->st.error[0] = '\0';
	spin_unlock(&c->m->lock);
}

static int answer(struct source *c, const struct demand *d, struct why *w)
{
	bool verify = c->m->p.verify;
	if (!absent_demand_is_sane(d, &c->vm->mem))
		return why_set(w, -EPROTO, "the destination asked for what is no memory of the VM");
	if (d->times && !verify)
		return why_set(w, -EPROTO, "the destination asked again for what nobody verifies");
	int err = FAILPOINT(P21_SERVING, c->in.rx.s);
	if (err || (verify && (err = send_sums(c, d))) || (err = pages_send_range(&c->pages, d->first, d->count)))
		return err;
	if (!(d->flags & DEMAND_URGENT))
		err = absent_demand_send(&c->tx, WIRE_SERVED, d, in(MIG_IDLE_NS));
	show(c, c->pages.pass.data + c->pages.pass.zero, d->flags & DEMAND_URGENT);
	return err;
}

/* By one connection: 0 when the destination has all of it. */
static int serve_link(struct source *c, struct why *w)
{
	uint64_t frames_end = in(FRAMES_NS);
	for (;;) {
		struct demand d;
		struct inbox_msg msg;
		if (frames_end && !frames_send_some(c->vm, &c->tx, frames_end))
			frames_end = 0;
		bool hold = time_ns() < c->hold_ns; /* but for what somebody waits for */
		int err = inbox_demand(&c->in, hold, hold ? c->hold_ns : in(MIG_IDLE_NS), &d, w);
		if (err == -ETIMEDOUT && hold)
			continue;
		if (!err)
			err = answer(c, &d, w);
		else if (err == -EAGAIN && !(err = inbox_next(&c->in, in(MIG_IDLE_NS), &msg)))
			err = msg.type == WIRE_ALL ? 1 : msg.type == WIRE_STARTED ? 0 : -EPROTO;
		if (err > 0)
			has_all(c, msg.verified);
		if (err)
			return MIN(err, 0);
	}
}

/* ---- a connection that was lost ---- */

enum rejoined { REJOIN_AGAIN, REJOIN_ON, REJOIN_HAS_ALL, REJOIN_LOST };

/* What the destination lacks is what is to be sent from here on. */
static enum rejoined read_map(struct source *c, struct why *w)
{
	struct attempt_id id;
	struct absent_rx map = { 0 };
	uint64_t verified[2];
	gmem_track_clear(&c->vm->mem);
	while (!map.ended) {
		if (wire_recv(&c->in.rx, in(MIG_SETUP_NS), MIG_IDLE_NS, w))
			return REJOIN_AGAIN;
		if (c->in.rx.type == WIRE_ALL) {
			absent_all_get(&c->in.rx, &id, verified);
			if (!wire_get_end(&c->in.rx) || !attempt_id_equal(&id, &c->id)) {
				why_set(w, -EPROTO, "the destination sent a malformed ALL");
				return REJOIN_AGAIN;
			}
			has_all(c, verified);
			return REJOIN_HAS_ALL;
		}
		if (c->in.rx.type == WIRE_UNKNOWN) {
			why_set(w, -ENOENT, "%s does not know it (any more)", c->m->dest_name);
			return REJOIN_AGAIN;
		}
		if (c->in.rx.type != WIRE_ABSENT || absent_recv(&map, &c->in.rx, &c->vm->mem, gmem_track_add, w))
			return REJOIN_AGAIN;
	}
	return inbox_start(&c->in) ? REJOIN_AGAIN : REJOIN_ON;
}

static enum rejoined rejoin(struct source *c, struct stream *s, struct why *w)
{
	struct hello h;
	if (inbox_init(&c->in, s, &c->id) || wire_tx_init(&c->tx, s) || migration_attach(c->m, s, &c->in))
		return REJOIN_AGAIN;
	c->paced = 0;
	if (hello_exchange(&c->tx, &c->in.rx, &h, in(MIG_SETUP_NS), w))
		return REJOIN_AGAIN;
	if (!incarnation_equal(h.inc, c->m->dest)) {
		bool other = h.inc.host != c->m->dest.host;
		why_set(w, -ESRCH, other ? "another host has the address of %s" : "%s has restarted", c->m->dest_name);
		return other ? REJOIN_AGAIN : REJOIN_LOST;
	}
	if (id_send(&c->tx, WIRE_REJOIN, &c->id, in(MIG_SETUP_NS)))
		return REJOIN_AGAIN;
	c->tx.key = c->in.rx.key = attempt_key(&c->id);
	return read_map(c, w);
}

/* The connection's ends here; its stream is the caller's. */
static void link_end(struct source *c)
{
	migration_detach(c->m);
	inbox_fini(&c->in);
	wire_tx_fini(&c->tx);
}

static bool is_forgotten(struct migration *m)
{
	spin_lock(&m->lock);
	bool forgotten = m->word == WORD_FORGET;
	spin_unlock(&m->lock);
	return forgotten;
}

static void say_done(struct source *c)
{
	if (id_send(&c->tx, WIRE_DONE, &c->id, in(MIG_ANSWER_NS)))
		log_debug("%s: the destination may not know that we know", c->vm->cfg.name);
}

static const char connection_lost[] = "the connection is lost, and is made anew";

/* One connection more, and what is served by it: has that ended it all? */
static enum rejoined once_more(struct source *c)
{
	struct stream *s = NULL;
	struct why w = { "" };
	int err = trust_connect(&s, c->m->p.dest, c->m->p.port, in(MIG_CONNECT_NS), &c->m->canceller, &w);
	enum rejoined r = err ? REJOIN_AGAIN : rejoin(c, s, &w);
	if (r == REJOIN_ON) {
		log_info("%s: %s is there again, and lacks %lu MiB", c->vm->cfg.name, c->m->dest_name,
			 gmem_track_left(&c->vm->mem) >> 8);
		migration_say(c->m, "");
		spin_lock(&c->m->lock);
		c->m->st.pages_left = gmem_track_left(&c->vm->mem);
		spin_unlock(&c->m->lock);
		r = serve_link(c, &w) ? REJOIN_AGAIN : REJOIN_HAS_ALL;
	}
	if (r == REJOIN_HAS_ALL)
		say_done(c);
	if (r != REJOIN_HAS_ALL)
		migration_say(c->m, w.text[0] ? w.text : err ? err_name(err) : connection_lost);
	if (!err)
		link_end(c);
	stream_close(s);
	return r;
}

/* What was said while it was undecided was said of something else: it runs there, and needs what is here. */
static void forget_words(struct migration *m)
{
	spin_lock(&m->lock);
	m->decided = false;
	m->word = WORD_NONE;
	m->told = RECORD_NONE;
	spin_unlock(&m->lock);
}

bool remote_serve(struct source *c)
{
	struct migration *m = c->m;
	enum rejoined r = REJOIN_AGAIN;
	struct why w = { "" };
	handover_set_state(m->vm, VM_SERVING);
	migration_phase(m, MIG_REMOTE);
	forget_words(m);
	c->pages.progress = nothing;
	c->pages.idle_ns = MIG_IDLE_NS;
	c->pages.end_ns = TIME_NEVER;
	bool broken = __atomic_load_n(&c->s->err, __ATOMIC_RELAXED); /* it was undecided: frames would be lost on it */
	if (!broken && !migration_attach(m, c->s, &c->in) && !serve_link(c, &w)) {
		r = REJOIN_HAS_ALL;
		say_done(c);
	}
	link_end(c);
	if (r != REJOIN_HAS_ALL) {
		migration_say(m, connection_lost); /* to find that it cannot be made takes its time */
		bandwidth_end(m);                  /* this may take days */
		log_warn("%s: the connection to %s, which runs it and lacks memory that is here, is lost%s%s: "
			 "connecting",
			 m->st.vm, m->dest_name, w.text[0] ? ": " : "", w.text);
	}
	while (r != REJOIN_HAS_ALL && !is_forgotten(m)) {
		(void)completion_wait(&m->news, in(MIG_ASK_NS));
		completion_reset(&m->news); /* and now looks */
		if (is_forgotten(m))
			break;
		if (r == REJOIN_AGAIN && (r = once_more(c)) == REJOIN_LOST)
			log_error("%s is lost: %s, which ran it, has restarted, and what is here is not all of it. `vm "
				  "forget %s --force` frees it",
				  m->st.vm, m->dest_name, m->st.vm);
	}
	if (r != REJOIN_HAS_ALL)
		why_set(c->w, -ECANCELED, "forgotten by the operator, before %s had all of it", m->dest_name);
	return r == REJOIN_HAS_ALL;
}
