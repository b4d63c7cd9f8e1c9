/* SPDX-License-Identifier: BSD-2-Clause */
/* Passwords (password.h), and the command that makes one. */
#include "crypto/password.h"
#include "kernel/base/wipe.h"
#include "kernel/console.h"
#include "kernel/console_edit.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <mbedtls/pkcs5.h>
#include <string.h>

#define PASSWORD_MIN 8
#define ITERATIONS   200000 /* some 0.3 s of a server's CPU */
#define KEY_NS       (60 * NS_PER_SEC)

struct derivation {
	const struct conf_password *p;
	const char *typed;
	uint8_t hash[sizeof(((struct conf_password *)0)->hash)];
	int err;
	struct completion done;
};

/* In a task of its own: at the console's priority it would keep frames waiting. */
static void derive_task(void *arg)
{
	struct derivation *d = arg;
	d->err = mbedtls_pkcs5_pbkdf2_hmac_ext(MBEDTLS_MD_SHA256, (const uint8_t *)d->typed, strlen(d->typed),
					       d->p->salt, sizeof(d->p->salt), d->p->iterations, sizeof(d->hash),
					       d->hash);
	completion_done(&d->done);
}

static int derive(struct derivation *d)
{
	completion_init(&d->done);
	if (!task_create("password", TASK_PRIO_NORMAL, derive_task, d))
		return -ENOMEM;
	(void)completion_wait(&d->done, TIME_NEVER); /* its end is only a matter of iterations */
	return d->err ? -ENOMEM : 0;
}

bool password_is(const struct conf_password *p, const char *typed)
{
	struct derivation d = { .p = p, .typed = typed };
	if (!p->iterations || derive(&d))
		return false;
	bool same = secret_equal(d.hash, p->hash, sizeof(d.hash));
	wipe(&d, sizeof(d));
	return same;
}

/* ---- making one ---- */

/* A word that is not shown. False: given up. */
static bool ask(struct con *c, const char *what, struct edit_word *w)
{
	enum edit_result r = EDIT_NONE;
	con_printf(c, "%s: ", what);
	while (r == EDIT_NONE) {
		int ch = c->getc(c, time_ns() + KEY_NS);
		r = ch < 0 || ch == CONSOLE_LEAVE_KEY ? EDIT_CANCEL : edit_word_key(w, (unsigned char)ch);
	}
	con_printf(c, "\n");
	return r == EDIT_DONE;
}

static int make(struct con *c, const char *typed)
{
	struct conf_password p = { .iterations = ITERATIONS };
	struct derivation d = { .p = &p, .typed = typed };
	char text[CONF_PASSWORD_TEXT];
	random_bytes(p.salt, sizeof(p.salt));
	int err = derive(&d);
	if (err)
		return con_error(c, err, "password: %s", err_name(err));
	memcpy(p.hash, d.hash, sizeof(p.hash));
	conf_password_text(&p, text);
	out_text(c, "console_password = %s\nThis line goes into [host] of tern.conf.\n", text);
	return 0;
}

static int cmd_password(struct con *c, int argc unused, char **argv unused)
{
	struct edit_word word[2] = { { .n = 0 }, { .n = 0 } };
	if (c->json)
		return con_error(c, -EINVAL, "password: it asks for one, which --json cannot show");
	c->raw = true;
	bool said = ask(c, "password", &word[0]);
	bool fits = word[0].n >= PASSWORD_MIN && word[0].n <= EDIT_WORD;
	if (said && fits)
		said = ask(c, "the same again", &word[1]);
	c->raw = false;
	int err;
	if (!said)
		err = con_error(c, -ECANCELED, "password: given up");
	else if (!fits)
		err = con_error(c, -EINVAL, "password: %d to %d characters", PASSWORD_MIN, EDIT_WORD);
	else if (word[0].n != word[1].n || strcmp(word[0].s, word[1].s))
		err = con_error(c, -EINVAL, "password: these are not the same");
	else
		err = make(c, word[0].s);
	wipe(word, sizeof(word));
	return err;
}
CONSOLE_CMD(password, "", "make a password for this console, a line for tern.conf", "password", cmd_password, NULL);
