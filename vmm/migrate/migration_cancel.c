/* SPDX-License-Identifier: BSD-2-Clause */
/* Cancelling an attempt (migration.h): up to COMMIT, which is decided against it, by ending what its task waits for. */
#include "net/trust.h"
#include "vmm/migrate/bandwidth.h"
#include "vmm/migrate/inbox.h"
#include "vmm/migrate/migration.h"
#include <stdio.h>

static int hold(struct migration *m, struct stream *s, struct inbox *in)
{
	mutex_lock(&m->stream_lock);
	bool cancel = migration_cancelled(m);
	if (!cancel) {
		m->stream = s;
		m->inbox = in;
	}
	mutex_unlock(&m->stream_lock);
	return cancel ? -ECANCELED : 0;
}

int migration_attach(struct migration *m, struct stream *s, struct inbox *in)
{
	int err = hold(m, s, in);
	if (err)
		return err;
	spin_lock(&m->lock);
	sniprintf(m->st.cipher, sizeof(m->st.cipher), "%s", trust_cipher(s));
	spin_unlock(&m->lock);
	return 0;
}

void migration_detach(struct migration *m)
{
	mutex_lock(&m->stream_lock);
	m->stream = NULL;
	m->inbox = NULL;
	mutex_unlock(&m->stream_lock);
}

/* While it is being connected: nothing is known of a cipher. */
static int attach_connecting(void *arg, struct stream *s) { return hold(arg, s, NULL); }
static void detach_connecting(void *arg) { migration_detach(arg); }

void migration_cancel_init(struct migration *m)
{
	mutex_init(&m->stream_lock, "migration stream");
	m->canceller = (struct stream_canceller){ attach_connecting, detach_connecting, m };
}

void migration_abort(struct migration *m)
{
	mutex_lock(&m->stream_lock);
	if (m->stream)
		stream_abort(m->stream);
	mutex_unlock(&m->stream_lock);
}

void migration_stop(struct migration *m)
{
	mutex_lock(&m->stream_lock);
	if (m->inbox)
		inbox_stop(m->inbox, -ECANCELED);
	else if (m->stream && !m->st.incoming)
		stream_abort(m->stream);
	mutex_unlock(&m->stream_lock);
	bandwidth_look();
}

bool migration_cancelled(struct migration *m)
{
	spin_lock(&m->lock);
	bool c = m->cancel;
	spin_unlock(&m->lock);
	return c;
}

int migration_commit_point(struct migration *m)
{
	spin_lock(&m->lock);
	m->committed = !m->cancel;
	int err = m->cancel ? -ECANCELED : 0;
	spin_unlock(&m->lock);
	return err;
}
