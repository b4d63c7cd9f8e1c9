/* SPDX-License-Identifier: BSD-2-Clause */
/* Passwords (password.h), and the command that makes one. */
#include "crypto/password.h"
#include "kernel/base/wipe.h"
#include "kernel/console.h"
#include "kernel/random.h"
#include "kernel/sync.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include <mbedtls/pkcs5.h>
#include <stdio.h>
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

/* A word that is not shown: its length, or -ECANCELED. */
static int ask(struct con *c, const char *what, char word[CONSOLE_PASSWORD_MAX + 1])
{
	int n = 0, ch;
	con_printf(c, "%s: ", what);
	while ((ch = c->getc(c, time_ns() + KEY_NS)) >= 0 && ch != '\r' && ch != '\n' && ch >= ' ')
		if (ch == 0x7f)
			n -= n > 0;
		else if (n < CONSOLE_PASSWORD_MAX)
			word[n++] = (char)ch;
	word[n] = '\0';
	con_printf(c, "\n");
	return ch == '\r' || ch == '\n' ? n : -ECANCELED;
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
	char word[2][CONSOLE_PASSWORD_MAX + 1] = { "", "" };
	if (c->json)
		return con_error(c, -EINVAL, "password: it asks for one, which --json cannot show");
	c->raw = true;
	int n = ask(c, "password", word[0]), again = n >= PASSWORD_MIN ? ask(c, "the same again", word[1]) : n;
	c->raw = false;
	int err;
	if (n < 0 || again < 0)
		err = con_error(c, -ECANCELED, "password: given up");
	else if (n < PASSWORD_MIN)
		err = con_error(c, -EINVAL, "password: at least %d characters", PASSWORD_MIN);
	else if (strcmp(word[0], word[1]))
		err = con_error(c, -EINVAL, "password: these are not the same");
	else
		err = make(c, word[0]);
	wipe(word, sizeof(word));
	return err;
}
CONSOLE_CMD(password, "", "make a password for this console, a line for tern.conf", cmd_password, NULL);
