/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel/worker.h without a task: whoever kicks does the work, at once, unless somebody is at it, who then does it once
 * more.
 */
#include "kernel/worker.h"
#include "kernel/base/err.h"
#include <sched.h>

int worker_start(struct worker *w, const char *name, bool (*work)(void *arg), void *arg, struct task_share *share)
{
	(void)name, (void)share;
	*w = (struct worker){ .work = work, .arg = arg };
	return 0;
}

void worker_kick(struct worker *w)
{
	__atomic_store_n(&w->kicked, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&w->kicked, __ATOMIC_SEQ_CST) &&
	       !__atomic_exchange_n(&w->working, true, __ATOMIC_SEQ_CST)) {
		while (__atomic_exchange_n(&w->kicked, false, __ATOMIC_SEQ_CST))
			while (w->work(w->arg))
				;
		__atomic_store_n(&w->working, false, __ATOMIC_SEQ_CST);
	}
}

void worker_settle(struct worker *w)
{
	while (__atomic_load_n(&w->working, __ATOMIC_SEQ_CST))
		sched_yield();
}

void worker_stop(struct worker *w) { worker_settle(w); }
