/* SPDX-License-Identifier: BSD-2-Clause */
/* Who is let in, who is sent elsewhere, and logins that have no end. */
#include "tests/unit/iscsi_client.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <string.h>

static struct portal p;

/* 0, and it is closed again; or the error, with a reason. */
static int log_in(const char *user, const char *secret, const char *why)
{
	struct iscsi_target t = client_target();
	struct iscsi_session *s = NULL;
	struct why w = { "" };
	strcpy(t.user, user);
	strcpy(t.secret, secret);
	int err = iscsi_session_open(&s, &t, NULL, NULL, time_in_ms(10000), &w);
	if (!err)
		assert_int_equal(iscsi_session_close(s, time_in_ms(2000)), 0);
	else if (s || !strstr(w.text, why))
		fail_msg("error %d: \"%s\"", err, w.text);
	assert_true(fake_tasks_wait());
	assert_string_equal(p.complaint.text, "");
	return err;
}

static void users_and_secrets(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	assert_int_equal(log_in("", "", ""), 0);
	assert_int_equal(log_in("u", "wanted by nobody", "secret"), -EACCES);
	p.user = "u";
	p.secret = "secretsecret";
	assert_int_equal(log_in("u", "secretsecret", ""), 0);
	assert_int_equal(log_in("u", "secretsecreT", "secret"), -EACCES);
	assert_int_equal(log_in("v", "secretsecret", "secret"), -EACCES);
	assert_int_equal(log_in("", "", "without user and secret"), -EACCES);
	p.slow_login = true;
	assert_int_equal(log_in("u", "secretsecret", ""), 0);
	assert_int_equal(p.logins, 3);
}

/* RFC 7143 11.13.5 */
static void refusals(void **state)
{
	(void)state;
	static const struct {
		uint8_t kind, detail;
		int err;
	} rows[] = {
		{ 1, 1, -EPROTO }, /* it says not where to */
		{ 2, 0, -EPROTO }, { 2, 1, -EACCES }, { 2, 2, -EACCES }, { 2, 3, -ENOENT }, { 2, 4, -ENOENT },
		{ 2, 5, -EPROTO }, { 3, 0, -EAGAIN }, { 3, 1, -EAGAIN }, { 3, 2, -EAGAIN }, { 9, 9, -EPROTO },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		iscsi_target_init(&p);
		p.login_class = rows[i].kind;
		p.login_detail = rows[i].detail;
		assert_int_equal(log_in("", "", ""), rows[i].err);
		assert_int_equal(p.connects, 1);
	}
}

static void moved(void **state)
{
	(void)state;
	struct ip there;
	iscsi_target_init(&p);
	p.login_class = 1;
	p.login_detail = 1;
	p.moved = "10.77.2.6:3261,1";
	p.moves = 1;
	assert_int_equal(log_in("", "", ""), 0);
	assert_int_equal(p.connects, 2);
	assert_int_equal(ip_parse("10.77.2.6", &there), 0);
	assert_true(ip_same(p.last_ip, there) && p.last_port == 3261);

	iscsi_target_init(&p); /* for ever */
	p.login_class = 1;
	p.moved = "[2001:db8::9]";
	assert_int_equal(log_in("", "", "has moved to"), -ESTALE);
	assert_true(p.connects >= 2 && p.connects <= 10);

	iscsi_target_init(&p);
	p.login_class = 1;
	p.moved = "elsewhere.example";
	assert_int_equal(log_in("", "", "no address"), -EPROTO);
	assert_int_equal(p.connects, 1);
}

/* ---- words without end, or without sense ---- */

static char text[8192];
static struct {
	size_t len;
	uint8_t flags, kind;
} words;

/* Each answer is these. */
static enum portal_fault say_words(struct portal *t unused, struct portal_pdu *o)
{
	o->data = text;
	o->len = words.len;
	put_be24(o->bhs + BHS_DATA_LEN, words.len);
	o->bhs[BHS_FLAGS] = (uint8_t)((o->bhs[BHS_FLAGS] & 0xc) | words.flags);
	o->bhs[BHS_LOGIN_STATUS] = words.kind;
	return PORTAL_WELL;
}

static void words_without_sense(void **state)
{
	(void)state;
	static const struct {
		size_t len;
		char fill;
		uint8_t flags, kind;
	} rows[] = {
		{ 8192, 'x', 0, 0 },
		{ 8192, 'x', ISCSI_CONTINUE, 0 },
		{ 1, 'x', ISCSI_CONTINUE, 0 }, /* for ever */
		{ 0, 0, ISCSI_CONTINUE, 0 },
		{ 8192, 'x', ISCSI_CONTINUE, 1 }, /* text without an end that is looked at for an address */
		{ 8192, '=', ISCSI_CONTINUE, 1 },
		{ 100, 'x', ISCSI_CONTINUE, 1 },
		{ 100, 'x', 0, 1 },
		{ 100, 0, 0, 1 },
		{ 100, 0, ISCSI_TRANSIT | 1, 0 },
		{ 0, 0, ISCSI_TRANSIT, 0 },     /* to the stage it is in */
		{ 0, 0, ISCSI_TRANSIT | 2, 0 }, /* to one that there is not */
		{ 0, 0, 0, 0 },                 /* never to another one */
	};
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		for (unsigned with = 0; with < 2; with++) {
			iscsi_target_init(&p);
			p.pipe = 20000;
			p.sends = say_words;
			p.lenient = true;
			words.len = rows[i].len, words.flags = rows[i].flags, words.kind = rows[i].kind;
			memset(text, rows[i].fill, sizeof(text));
			int err = log_in(with ? "u" : "", with ? "s" : "", "");
			assert_true(err < 0 && err != -ETIMEDOUT); /* it has an end of its own */
			assert_int_equal(p.connects, 1);
		}
	}
}

/* Who has a secret does not go in where nobody asks for it. */
static void no_question(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	p.sends = say_words;
	memcpy(text, "AuthMethod=None", 16);
	words.len = 16, words.flags = ISCSI_TRANSIT | 1, words.kind = 0;
	assert_int_equal(log_in("u", "secretsecret", "does not ask for the secret"), -EACCES);
}

/* Two PDUs fill all the room there is for an answer, and the second of them refuses. */
static enum portal_fault fill_and_refuse(struct portal *t, struct portal_pdu *o)
{
	words.kind = t->arg++ ? 1 : 0;
	return say_words(t, o);
}

static void no_end_at_the_end(void **state)
{
	(void)state;
	iscsi_target_init(&p);
	p.pipe = 20000;
	p.sends = fill_and_refuse;
	p.lenient = true;
	words.len = sizeof(text);
	words.flags = ISCSI_CONTINUE;
	memset(text, 'x', sizeof(text));
	assert_int_equal(log_in("", "", ""), -EPROTO);
}

/* A target that says nothing: the deadline is kept. */
static enum portal_fault say_nothing(struct portal *t unused, struct portal_pdu *o unused) { return PORTAL_NOT; }

static void silence(void **state)
{
	(void)state;
	struct iscsi_target t = client_target();
	struct iscsi_session *s = NULL;
	struct why w = { "" };
	iscsi_target_init(&p);
	p.sends = say_nothing;
	uint64_t begin = time_ns();
	assert_int_equal(iscsi_session_open(&s, &t, NULL, NULL, time_in_ms(50), &w), -ETIMEDOUT);
	assert_true(time_ns() - begin >= 50 * NS_PER_MS && time_ns() - begin < 2 * NS_PER_SEC);
	assert_true(fake_tasks_wait());
}

static void longest_name(void **state)
{
	(void)state;
	struct iscsi_target t = client_target();
	struct iscsi_session *s = NULL;
	struct iscsi_stats st;
	struct why w = { "" };
	iscsi_target_init(&p);
	memset(t.initiator, 'i', sizeof(t.initiator) - 1); /* as long as one may be: it fits */
	t.digests = ISCSI_DIGEST_HEADER;
	p.header_digest = p.data_digest = true;
	assert_int_equal(iscsi_session_open(&s, &t, NULL, NULL, time_in_ms(10000), &w), 0);
	iscsi_session_stats(s, &st);
	assert_true(st.header_digest && !st.data_digest); /* what was not offered is not done */
	assert_int_equal(iscsi_session_close(s, time_in_ms(2000)), 0);
	assert_true(fake_tasks_wait());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_and_secrets),
		cmocka_unit_test(refusals),
		cmocka_unit_test(moved),
		cmocka_unit_test(words_without_sense),
		cmocka_unit_test(no_end_at_the_end),
		cmocka_unit_test(no_question),
		cmocka_unit_test(silence),
		cmocka_unit_test(longest_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
