/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest whose memory comes as it asks for it (pull.h). */
#include "vmm/migrate/pull.h"
#include "kernel/log.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "vmm/migrate/attempts.h"
#include "vmm/migrate/failpoint.h"
#include "vmm/migrate/frames.h"
#include "vmm/migrate/hot.h"
#include "vmm/migrate/this_host.h"
#include "vmm/x86/vcpu.h"

#define QUEUE_NS (1 * NS_PER_MS) /* what ranges may make an urgent page wait for, in queues */
#define LOOK_NS  (1 * NS_PER_SEC)

static uint64_t in(uint64_t ns) { return time_ns() + ns; }

/* ---- who waits for a page ---- */

struct wait { /* on the waiter's stack */
	struct list node;
	gfn_t gfn;
	bool first; /* nobody waited for it before: it is to be asked for */
	bool asked;
};

static bool here(void *arg, gfn_t gfn)
{
	const struct pull *p = arg;
	return !gmem_absent(&p->vm->mem, gfn);
}

static struct wait *next_to_ask(struct pull *p)
{
	list_for_each(w, &p->waits, struct wait, node)
		if (w->first && !w->asked)
			return w;
	return NULL;
}

/*
 * The task that asks: a vCPU's may not, for it has its guest's vector registers in the CPU's, and a connection may be
 * encrypted. What cannot be asked now is when there is another connection.
 */
static void asker(void *arg)
{
	struct pull *p = arg;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	while (!p->stop) {
		struct wait *w = next_to_ask(p);
		struct demand d = { .first = w ? w->gfn : 0, .count = 1, .flags = DEMAND_URGENT };
		uint64_t due;
		if (!w && !page_sums_next(&p->sums, &d, &due)) {
			(void)waitq_wait(&p->work, &p->lock, &flags, due);
			continue;
		}
		if (w)
			w->asked = true;
		spin_unlock_irqrestore(&p->lock, flags);
		mutex_lock(&p->tx_lock);
		bool over = d.times && !page_sums_is_wrong(&p->sums, d.first); /* there is another connection */
		if (p->asks && !over &&
		    (d.times ? absent_again_send(p->asks, &d, in(MIG_ANSWER_NS))
			     : absent_demand_send(p->asks, WIRE_DEMAND, &d, in(MIG_ANSWER_NS))))
			stream_abort(p->asks->s); /* its reader finds that */
		mutex_unlock(&p->tx_lock);
		flags = spin_lock_irqsave(&p->lock);
	}
	spin_unlock_irqrestore(&p->lock, flags);
	completion_done(&p->asker_gone);
}

/* Which of its vCPUs this task is; ~0U: none of them. */
static unsigned waiter(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->nvcpus; i++)
		if (vm->vcpus[i]->task == task_self())
			return i;
	return ~0U;
}

static int fetch(void *arg, gfn_t gfn)
{
	struct pull *p = arg;
	struct wait w = { .gfn = gfn, .first = true };
	uint64_t since = time_ns(), flags = spin_lock_irqsave(&p->lock);
	while (p->begun && p->urgent >= PULL_URGENT_MAX && !p->ended)
		(void)waitq_wait(&p->q, &p->lock, &flags, TIME_NEVER);
	int err = !p->begun ? -EIO : p->ended ? -ECANCELED : 0;
	if (err) {
		spin_unlock_irqrestore(&p->lock, flags);
		return err;
	}
	list_for_each(o, &p->waits, struct wait, node)
		w.first &= o->gfn != gfn;
	list_init(&w.node);
	list_append(&p->waits, &w.node);
	p->urgent += w.first;
	p->cursor = gfn; /* its neighbours are next */
	waitq_wake_all(&p->work);
	while (!here(p, gfn) && !p->ended)
		(void)waitq_wait(&p->q, &p->lock, &flags, TIME_NEVER);
	list_remove(&w.node);
	p->urgent -= w.first;
	waitq_wake_all(&p->q); /* one more may be asked for */
	spin_unlock_irqrestore(&p->lock, flags);
	migration_waited(p->m, waiter(p->vm), time_ns() - since);
	return here(p, gfn) ? 0 : -ECANCELED;
}

static void end_waits(void *arg)
{
	struct pull *p = arg;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	p->ended = true;
	waitq_wake_all(&p->q);
	spin_unlock_irqrestore(&p->lock, flags);
}

/* pages_recv's: the bytes are there. Of a frame that is not what it should be the guest sees nothing. */
static void came(void *arg, gfn_t first, uint64_t count)
{
	struct pull *p = arg;
	bool awaited = false, wrong = false;
	for (gfn_t f = first; f < first + count; f++)
		if (page_sums_good(&p->sums, &p->vm->mem, f))
			(void)gmem_absent_came(&p->vm->mem, f);
		else
			wrong = true;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	list_for_each(w, &p->waits, struct wait, node)
		awaited |= w->gfn - first < count;
	if (awaited)
		waitq_wake_all(&p->q);
	if (wrong)
		waitq_wake_all(&p->work);
	spin_unlock_irqrestore(&p->lock, flags);
}

/* ---- before it runs ---- */

void pull_init(struct pull *p, struct migration *m)
{
	*p = (struct pull){ .m = m, .pager = { here, fetch, end_waits, p } };
	spin_init(&p->lock, "pull");
	waitq_init(&p->q);
	waitq_init(&p->work);
	completion_init(&p->asker_gone);
	list_init(&p->waits);
	mutex_init(&p->tx_lock, "pull");
	page_sums_init(&p->sums, m);
}

int pull_map(struct pull *p, struct vm *vm, struct wire_rx *rx, struct why *w)
{
	p->vm = vm;
	int err = absent_recv(&p->map, rx, &vm->mem, gmem_absent_add, w);
	if (err || !p->map.ended)
		return err;
	gmem_absent_ready(&vm->mem);
	if (!p->map.frames)
		return 0;
	if ((err = migration_count_waits(p->m, vm->cfg.vcpus)))
		return err;
	p->has_asker = task_create("pull", TASK_PRIO_SWITCH, asker, p) != NULL;
	if (!p->has_asker)
		return -ENOMEM;
	gmem_set_pager(&vm->mem, &p->pager);
	return 0;
}

void pull_fini(struct pull *p)
{
	if (!p->has_asker)
		return;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	p->stop = true;
	waitq_wake_all(&p->work);
	spin_unlock_irqrestore(&p->lock, flags);
	(void)completion_wait(&p->asker_gone, TIME_NEVER);
	p->has_asker = false;
}

int pull_check(const struct pull *p, struct why *w)
{
	struct hot_frames hot;
	bool absent = false;
	int err = pull_is_on(p) ? hot_frames_get(&hot, p->vm) : 0;
	if (err || !pull_is_on(p))
		return err;
	for (unsigned i = 0; i < hot.n; i++)
		absent |= gmem_absent(&p->vm->mem, hot.frame[i]);
	hot_frames_put(&hot);
	return absent ? why_set(w, -EPROTO, "the source keeps back memory that the VM cannot start without") : 0;
}

void pull_begin(struct pull *p, bool verify)
{
	p->sums.on = verify;
	uint64_t flags = spin_lock_irqsave(&p->lock);
	p->begun = true;
	spin_unlock_irqrestore(&p->lock, flags);
	spin_lock(&p->m->lock);
	p->m->pull = p;
	p->m->st.pages_left = p->map.frames;
	spin_unlock(&p->m->lock);
}

/* ---- ranges ---- */

/* The next range that has an absent frame, from the cursor on and around. False: there is none. */
static bool next_range(struct pull *p, struct demand *d)
{
	const struct gmem *g = &p->vm->mem;
	struct gmem_range r[2];
	unsigned n = gmem_ranges(g, r);
	uint64_t flags = spin_lock_irqsave(&p->lock);
	gfn_t from = p->cursor;
	spin_unlock_irqrestore(&p->lock, flags);
	for (unsigned round = 0; round < 2; round++, from = 0) {
		for (unsigned i = 0; i < n; i++) {
			gfn_t end = r[i].first + r[i].count, f = MAX(from, r[i].first);
			while (f < end && (f = gmem_track_next(g, f, end)) < end && page_sums_is_wrong(&p->sums, f))
				f++; /* that has its own way to come */
			if (f < end) {
				*d = (struct demand){ .first = ALIGN_DOWN(f, (gfn_t)DEMAND_FRAMES),
						      .count = DEMAND_FRAMES };
				return true;
			}
		}
	}
	return false;
}

static void move_cursor(struct pull *p, gfn_t to)
{
	uint64_t flags = spin_lock_irqsave(&p->lock);
	p->cursor = to;
	spin_unlock_irqrestore(&p->lock, flags);
}

/*
 * Ranges that are out are no longer looked for until the cursor has come round, which then asks for the last ones
 * twice: the source passes over what it has sent. So no more than one round is out when all that is left is under way.
 */
static int ask_ranges(struct pull *p)
{
	struct demand d;
	int err = 0;
	while (!err && p->out < p->window && next_range(p, &d)) {
		mutex_lock(&p->tx_lock);
		err = absent_demand_send(p->asks, WIRE_DEMAND, &d, in(MIG_IDLE_NS));
		mutex_unlock(&p->tx_lock);
		p->asked_ns[(p->first + p->out++) % PULL_RANGES_MAX] = time_ns();
		move_cursor(p, d.first + DEMAND_FRAMES);
	}
	return err;
}

/* A range is through. One more may be out, or one less, by what it has waited in queues (as TCP Vegas does). */
static int served(struct pull *p, struct why *w)
{
	if (!p->out)
		return why_set(w, -EPROTO, "the source sent SERVED for nothing");
	uint64_t took = time_ns() - p->asked_ns[p->first];
	p->first = (p->first + 1) % PULL_RANGES_MAX;
	p->out--;
	p->least_ns = p->least_ns ? MIN(p->least_ns, took) : took;
	if (took > p->least_ns + QUEUE_NS)
		p->window = MAX(p->window - 1, 2U);
	else
		p->window = MIN(p->window + 1, (unsigned)PULL_RANGES_MAX);
	return 0;
}

/* ---- connections ---- */

/* Has the guest ended, so that nobody needs the rest? One that is reset goes on with its memory. */
static bool is_over(const struct vm *vm)
{
	uint8_t r = __atomic_load_n(&vm->power_request, __ATOMIC_SEQ_CST);
	return r == VM_POWER_OFF || r == VM_POWER_FAILED;
}

static void show(struct pull *p, uint64_t bytes)
{
	spin_lock(&p->m->lock);
	p->m->st.pages_left = gmem_track_left(&p->vm->mem);
	p->m->st.bytes += bytes;
	spin_unlock(&p->m->lock);
}

static int take(struct pull *p, struct page_rx *pages, struct why *w)
{
	int err;
	if (!page_sums_allow(&p->sums, pages->rx->type))
		return why_set(w, -EPROTO, "the source sent %s where a page's digest should come, or the page",
			       wire_type_name(pages->rx->type));
	switch (pages->rx->type) {
	case WIRE_SUMS: return page_sums_recv(&p->sums, pages->rx, &p->vm->mem, w);
	case WIRE_PAGES:
		pages->next = 0;
		err = pages_recv(pages, w);
		return err ? err : page_sums_taken(&p->sums, w);
	case WIRE_SERVED: return served(p, w);
	case WIRE_FRAMES: return frames_recv(pages->rx, p->vm) ? 0 : -EPROTO;
	case WIRE_KEEPALIVE: return 0;
	default: return why_set(w, -EPROTO, "the source sent %s at the wrong time", wire_type_name(pages->rx->type));
	}
}

/* All that was asked for before goes out again. */
static void ask_anew(struct pull *p)
{
	uint64_t flags = spin_lock_irqsave(&p->lock);
	list_for_each(w, &p->waits, struct wait, node)
		w->asked = false;
	waitq_wake_all(&p->work);
	spin_unlock_irqrestore(&p->lock, flags);
	p->out = p->first = 0;
	p->window = 4;
	p->least_ns = 0;
}

/* After ALL: DONE, behind what was under way. */
static void wait_done(struct pull *p, struct wire_rx *rx)
{
	uint8_t page[512];
	uint64_t end = in(MIG_ANSWER_NS);
	while (time_ns() < end && !wire_recv(rx, end, MIG_ANSWER_NS, NULL)) {
		while (rx->data_len && !wire_recv_data(rx, page, MIN(sizeof(page), rx->data_len), end))
			; /* it is here: it was asked for twice */
		if (rx->type == WIRE_FRAMES && !frames_recv(rx, p->vm))
			break;
		if (rx->type != WIRE_DONE)
			continue;
		attempt_event(&p->m->id, RECORD_EV_DONE);
		break;
	}
}

/* By one connection: 0 when no more is needed. */
static int link_run(struct pull *p, struct wire_tx *tx, struct wire_rx *rx, struct why *w)
{
	struct page_rx pages = { .rx = rx, .mem = &p->vm->mem, .idle_ns = MIG_IDLE_NS, .came = came, .arg = p };
	int err = 0;
	mutex_lock(&p->tx_lock);
	page_sums_restart(&p->sums);
	p->asks = tx;
	mutex_unlock(&p->tx_lock);
	ask_anew(p);
	while (!err && gmem_track_left(&p->vm->mem) && !is_over(p->vm)) {
		uint64_t bytes = rx->bytes;
		if ((err = ask_ranges(p)) || (err = wire_recv(rx, in(MIG_IDLE_NS), MIG_IDLE_NS, w)) ||
		    (err = FAILPOINT(P22_PULLING, rx->s)) || (err = take(p, &pages, w)))
			break;
		show(p, rx->bytes - bytes);
	}
	mutex_lock(&p->tx_lock);
	p->asks = NULL;
	mutex_unlock(&p->tx_lock);
	spin_lock(&p->m->lock);
	const uint64_t verified[2] = { p->m->st.verified_pages, p->m->st.differed_pages };
	spin_unlock(&p->m->lock);
	if (!err && !absent_all_send(tx, &p->m->id, p->sums.on ? verified : NULL, in(MIG_ANSWER_NS)))
		wait_done(p, rx); /* else it asks, and gets it then */
	stream_abort(rx->s);
	return err;
}

/* The source's next connection; NULL: the guest has ended meanwhile. */
static struct pull_link *next_link(struct pull *p)
{
	uint64_t flags = spin_lock_irqsave(&p->lock);
	while (!p->offer && !is_over(p->vm))
		(void)waitq_wait(&p->q, &p->lock, &flags, in(LOOK_NS));
	struct pull_link *l = p->offer;
	p->offer = NULL;
	spin_unlock_irqrestore(&p->lock, flags);
	return l;
}

/* No connection comes any more; one that has come is let go. */
static void close_door(struct pull *p)
{
	spin_lock(&p->m->lock);
	p->m->pull = NULL;
	spin_unlock(&p->m->lock);
	uint64_t flags = spin_lock_irqsave(&p->lock);
	struct pull_link *l = p->offer;
	p->offer = NULL;
	spin_unlock_irqrestore(&p->lock, flags);
	if (l)
		completion_done(&l->left);
}

void pull_run(struct pull *p, struct wire_tx *tx, struct wire_rx *rx)
{
	struct why w = { "" };
	struct pull_link *l;
	migration_phase(p->m, MIG_REMOTE);
	/* Others may come, whatever becomes of this. */
	__atomic_sub_fetch(&migrate_this_host()->receiving, 1, __ATOMIC_SEQ_CST);
	(void)!migration_attach(p->m, rx->s, NULL);
	int err = link_run(p, tx, rx, &w);
	migration_detach(p->m);
	if (err)
		migration_say(p->m, "the connection to its source is lost: waiting for it");
	if (err)
		log_warn("%s lacks %lu MiB that are at its source: the connection is lost: %s. It runs on without "
			 "them, and waits for the source",
			 p->vm->cfg.name, gmem_track_left(&p->vm->mem) >> 8, w.text[0] ? w.text : err_name(err));
	while (err && (l = next_link(p))) {
		(void)!migration_attach(p->m, l->rx->s, NULL); /* it is past being cancelled */
		if (!(err = absent_send(l->tx, &p->vm->mem, MIG_IDLE_NS, TIME_NEVER))) {
			log_info("%s: its source is there again", p->vm->cfg.name);
			migration_say(p->m, "");
			err = link_run(p, l->tx, l->rx, &w);
		}
		migration_detach(p->m);
		completion_done(&l->left);
	}
	close_door(p);
	__atomic_add_fetch(&migrate_this_host()->receiving, 1, __ATOMIC_SEQ_CST);
	end_waits(p); /* whose page has come goes on, and after the guest's end nobody does */
	bool all = !gmem_track_left(&p->vm->mem);
	gmem_set_pager(&p->vm->mem, all ? NULL : &gmem_lost);
	pull_fini(p);
	if (all)
		gmem_track_stop(&p->vm->mem);
}
