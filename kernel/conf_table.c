/* SPDX-License-Identifier: BSD-2-Clause */
/* Sections of tern.conf by the tables of their keys (conf.h): parsing, what is said of a mistake, showing. Pure. */
#include "kernel/ip.h"
#include "kernel/base/mac.h"
#include "kernel/conf.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- types ---- */

static int str_parse(const struct conf_key *k, const char *s, void *field, struct why *w unused)
{
	size_t n = strlen(s);
	if (n >= k->size || n < k->min || (k->word && !conf_is_word(s, n)))
		return -EINVAL;
	memcpy(field, s, n + 1);
	return 0;
}

static void str_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	snprintf(buf, size, "%s", (const char *)field);
}
const struct conf_type conf_type_str = { .parse = str_parse, .text = str_text };

static bool size_fits(const struct conf_key *k, uint64_t v) { return v >= k->min && v <= k->max && !(v % k->step); }

static int size_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	uint64_t v;
	if (conf_parse_size(s, &v))
		return -EINVAL;
	if (size_fits(k, v)) {
		*(uint64_t *)field = v;
		return 0;
	}
	bool bare = s[strspn(s, "0123456789")] == '\0' && v <= UINT64_MAX >> 20;
	return bare && size_fits(k, v << 20) ? why_set(w, -EINVAL, "%luM?", v) : -EINVAL;
}

static void size_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	uint64_t v = *(const uint64_t *)field;
	unsigned unit = 0;
	for (; v && !(v & 1023) && unit < 3; unit++)
		v >>= 10;
	snprintf(buf, size, "%lu%.*s", v, unit > 0, &"\0KMG"[unit]);
}
const struct conf_type conf_type_size = { .parse = size_parse, .text = size_text };

static int u32_parse(const struct conf_key *k, const char *s, void *field, struct why *w unused)
{
	uint64_t v;
	if (conf_parse_uint(s, k->max, &v) || v < k->min)
		return -EINVAL;
	*(uint32_t *)field = (uint32_t)v;
	return 0;
}

static void u32_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	snprintf(buf, size, "%u", (unsigned)*(const uint32_t *)field);
}
const struct conf_type conf_type_u32 = { .parse = u32_parse, .text = u32_text };

static int choice_parse(const struct conf_key *k, const char *s, void *field, struct why *w unused)
{
	static const char *const also[][2] = { { "off", "no" },   { "on", "yes" }, { "false", "no" },
					       { "true", "yes" }, { "0", "no" },   { "1", "yes" } };
	for (unsigned i = 0; i < ARRAY_SIZE(also); i++)
		if (!strcmp(s, also[i][0]))
			s = also[i][1];
	for (uint32_t i = 0; k->words[i]; i++) {
		if (strcmp(s, k->words[i]))
			continue;
		*(uint32_t *)field = i;
		return 0;
	}
	return -EINVAL;
}

static void choice_text(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	snprintf(buf, size, "%s", k->words[*(const uint32_t *)field]);
}
const struct conf_type conf_type_choice = { .parse = choice_parse, .text = choice_text };

/* "A, B" of the words. */
static int words_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	uint32_t bits = 0;
	while (*s) {
		size_t len = strcspn(s, ", \t");
		unsigned i = 0;
		while (k->words[i] && (strlen(k->words[i]) != len || memcmp(k->words[i], s, len)))
			i++;
		if (!k->words[i])
			return why_set(w, -EINVAL, "'%.*s' is none", (int)MIN(len, 39UL), s);
		bits |= 1U << i;
		s += len + strspn(s + len, ", \t");
	}
	if (bits)
		*(uint32_t *)field = bits;
	return bits ? 0 : -EINVAL;
}

void conf_words_text(const char *const *words, uint32_t bits, const char *sep, char *buf, size_t size)
{
	buf[0] = '\0';
	for (unsigned i = 0; words[i]; i++)
		if (bits & 1U << i)
			snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", buf[0] ? sep : "", words[i]);
}

static void words_text(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	conf_words_text(k->words, *(const uint32_t *)field, ", ", buf, size);
}
const struct conf_type conf_type_words = { .parse = words_parse, .text = words_text };

static int mac_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w unused)
{
	return conf_parse_mac(s, field);
}

static void mac_text_of(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	static const uint8_t none[6];
	snprintf(buf, size, "%s", k->zero && !memcmp(field, none, 6) ? k->zero : mac_text(field).s);
}
const struct conf_type conf_type_mac = { .parse = mac_parse, .text = mac_text_of };

static int card_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w unused)
{
	struct conf_card c = { 0 };
	if (conf_parse_mac(s, c.mac) && conf_parse_pci(s, c.location))
		return -EINVAL;
	memcpy(field, &c, sizeof(c));
	return 0;
}

static void card_text_of(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	const struct conf_card *c = field;
	if (c->location[0])
		snprintf(buf, size, "%s", c->location);
	else
		mac_text_of(k, c->mac, buf, size);
}
const struct conf_type conf_type_card = { .parse = card_parse, .text = card_text_of };

#define UUID_DASHES (1 << 4 | 1 << 6 | 1 << 8 | 1 << 10) /* before these bytes */

static int uuid_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w)
{
	char digits[33];
	uint8_t uuid[16];
	unsigned n = 0;
	for (; n < sizeof(digits) - 1; digits[n++] = *s++)
		if ((!(n % 2) && UUID_DASHES & 1 << n / 2 && *s++ != '-') || !*s)
			return -EINVAL;
	digits[n] = '\0';
	if (*s || conf_parse_hex(digits, uuid, sizeof(uuid)))
		return -EINVAL;
	if (digits[strspn(digits, "0")] == '\0')
		return why_set(w, -EINVAL, "zeros are nobody's");
	memcpy(field, uuid, sizeof(uuid));
	return 0;
}

static void uuid_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	buf[0] = '\0';
	for (unsigned i = 0; i < 16; i++)
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%02x", UUID_DASHES & 1 << i ? "-" : "",
			 ((const uint8_t *)field)[i]);
}
const struct conf_type conf_type_uuid = { .parse = uuid_parse, .text = uuid_text };

static int ip4_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w)
{
	uint32_t ip;
	if (conf_parse_ip4(s, &ip))
		return -EINVAL;
	if (ip && !ip_is_hosts(ip_of4(ip))) /* 0.0.0.0: none */
		return why_set(w, -EINVAL, "no machine's own");
	*(uint32_t *)field = ip;
	return 0;
}
const struct conf_type conf_type_ip4 = { .parse = ip4_parse };

/* A link-local address means nothing without the network it is on. */
static int ip_one_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w)
{
	struct ip ip;
	if (ip_parse(s, &ip))
		return -EINVAL;
	if (!ip_is_machines(ip) || ip_is_loopback(ip))
		return why_set(w, -EINVAL, "no machine's own");
	if (ip_is_link_local(ip))
		return why_set(w, -EINVAL, "a link-local address: which network is it on?");
	*(struct ip *)field = ip;
	return 0;
}
const struct conf_type conf_type_ip = { .parse = ip_one_parse };

static int ip6_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w unused)
{
	struct ip ip = { { 0 } };
	if (*s && (conf_parse_ip6(s, ip.b) || ip_is4(ip) || !ip_is_machines(ip) || ip_is_loopback(ip)))
		return -EINVAL;
	*(struct ip *)field = ip;
	return 0;
}
const struct conf_type conf_type_ip6 = { .parse = ip6_parse };

static int net6_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	char addr[IP_TEXT];
	uint64_t prefix;
	struct conf_net6 n;
	size_t len = strcspn(s, "/");
	if (!strcmp(s, k->words[0])) {
		*(struct conf_net6 *)field = (struct conf_net6){ .prefix = CONF_NET_NONE };
		return 0;
	}
	if (s[len] != '/' || len >= sizeof(addr) || conf_parse_uint(s + len + 1, 128, &prefix) || !prefix)
		return -EINVAL;
	if (prefix < 64)
		return why_set(w, -EINVAL, "a prefix below 64 does not work: take 64 to 128");
	snprintf(addr, sizeof(addr), "%.*s", (int)len, s);
	if (ip6_parse(k, addr, &n.ip, w) || ip_is_none(n.ip))
		return -EINVAL;
	if (ip_is_link_local(n.ip))
		return why_set(w, -EINVAL, "a link-local address, which every host makes itself");
	n.prefix = (uint32_t)prefix;
	*(struct conf_net6 *)field = n;
	return 0;
}
const struct conf_type conf_type_net6 = { .parse = net6_parse };

static int net_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	char addr[16];
	uint64_t prefix;
	struct conf_net *n = field;
	uint32_t ip;
	size_t len = strcspn(s, "/");
	if (k->words && !strcmp(s, k->words[0])) {
		*n = (struct conf_net){ 0, CONF_NET_NONE };
		return 0;
	}
	if (s[len] != '/' || len >= sizeof(addr) || conf_parse_uint(s + len + 1, 32, &prefix) || !prefix)
		return -EINVAL;
	snprintf(addr, sizeof(addr), "%.*s", (int)len, s);
	if (ip4_parse(k, addr, &ip, w) || !ip)
		return -EINVAL;
	if (prefix == 31) /* lwIP takes the other address of the two for that of a broadcast */
		return why_set(w, -EINVAL, "a prefix of 31 does not work: take 30, or 32 with a gateway");
	*n = (struct conf_net){ ip, (uint32_t)prefix };
	return 0;
}
const struct conf_type conf_type_net = { .parse = net_parse };

static int secret_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	int err = conf_parse_hex(s, field, k->size);
	return !err && s[strspn(s, "0")] == '\0' ? why_set(w, -EINVAL, "zeros alone are no secret") : err;
}
const struct conf_type conf_type_secret = { .parse = secret_parse, .secret = true };

#define PBKDF2_SHA256  "pbkdf2-sha256:"
#define ITERATIONS_MIN 1000
#define ITERATIONS_MAX 10000000 /* seconds */

static int password_parse(const struct conf_key *k unused, const char *s, void *field, struct why *w unused)
{
	struct conf_password p = { 0 };
	uint64_t n;
	char number[12], salt[2 * sizeof(p.salt) + 1];
	if (strncmp(s, PBKDF2_SHA256, strlen(PBKDF2_SHA256)))
		return -EINVAL;
	s += strlen(PBKDF2_SHA256);
	size_t digits = strcspn(s, ":"), hex = s[digits] ? strcspn(s + digits + 1, ":") : 0;
	if (digits >= sizeof(number) || hex != 2 * sizeof(p.salt) || !s[digits + 1 + hex])
		return -EINVAL;
	snprintf(number, sizeof(number), "%.*s", (int)digits, s);
	snprintf(salt, sizeof(salt), "%.*s", (int)hex, s + digits + 1);
	if (conf_parse_uint(number, ITERATIONS_MAX, &n) || n < ITERATIONS_MIN ||
	    conf_parse_hex(salt, p.salt, sizeof(p.salt)) ||
	    conf_parse_hex(s + digits + hex + 2, p.hash, sizeof(p.hash)))
		return -EINVAL;
	p.iterations = (uint32_t)n;
	*(struct conf_password *)field = p;
	return 0;
}
const struct conf_type conf_type_password = { .parse = password_parse, .secret = true };

void conf_password_text(const struct conf_password *p, char buf[CONF_PASSWORD_TEXT])
{
	int n = snprintf(buf, CONF_PASSWORD_TEXT, PBKDF2_SHA256 "%u:", (unsigned)p->iterations);
	char *end = conf_hex_text(p->salt, sizeof(p->salt), buf + n);
	*end++ = ':';
	conf_hex_text(p->hash, sizeof(p->hash), end);
}

/* ---- sections ---- */

static const struct conf_key *key_of(const struct conf_table *t, const char *key)
{
	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->keys[i].key, key))
			return &t->keys[i];
	return NULL;
}

void conf_wrong(struct conf_reader *r, const char *key, const char *fmt, ...)
{
	const struct conf_key *k = key_of(r->table, key);
	const char *kind = r->table->kind, *value = k && !k->type->secret ? conf_get(r->c, kind, r->name, key) : NULL;
	int line = conf_line(r->c, kind, r->name, key);
	char text[300];
	va_list ap;
	snprintf(text, sizeof(text), "[%s%s%s]%s%s%s%.40s: ", kind, r->name[0] ? " " : "", r->name, key[0] ? " " : "",
		 key, value ? " = " : "", value ? value : "");
	va_start(ap, fmt);
	vsnprintf(text + strlen(text), sizeof(text) - strlen(text), fmt, ap);
	va_end(ap);
	conf_problem(r->c, line, "%s", text);
	if (!r->wrong[0])
		snprintf(r->wrong, sizeof(r->wrong), "tern.conf:%d: %.*s", line, CONF_WRONG_MAX - 24, text);
}

static void no_key(struct conf_reader *r, const struct conf_entry *e)
{
	const struct conf_table *t = r->table;
	char has[200] = "";
	for (const struct conf_key *k = t->keys; k < t->keys + t->n; k++)
		sniprintf(has + strlen(has), sizeof(has) - strlen(has), "%s%s", has[0] ? ", " : "", k->key);
	if (r->strict)
		conf_wrong(r, e->key, "there is no such key; there are %s", has);
	else
		conf_problem(r->c, e->line, "[%s%s%s] has no key '%s'; ignored. It has %s", t->kind,
			     e->name[0] ? " " : "", e->name, e->key, has);
}

int conf_key_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	if (!k->zero || strcmp(s, k->zero))
		return k->type->parse(k, s, field, w);
	memset(field, 0, k->size);
	return 0;
}

bool conf_read(struct conf_reader *r, void *obj)
{
	const struct conf_table *t = r->table;
	uint8_t *o = obj;
	struct why w;

	r->torn = conf_is_torn(r->c, t->kind, r->name);
	if (r->torn) /* the file's problems have the line itself */
		sniprintf(r->wrong, sizeof(r->wrong), "tern.conf:%d: [%s%s%s]: a line of it is not understood",
			  conf_line(r->c, t->kind, r->name, ""), t->kind, r->name[0] ? " " : "", r->name);
	for (const struct conf_key *k = t->keys; k < t->keys + t->n; k++)
		if (k->def && k->def[0])
			(void)conf_key_parse(k, k->def, o + k->off, NULL);
	for (unsigned i = 0; i < r->c->n; i++) {
		struct conf_entry *e = &r->c->e[i];
		if (!e->key[0] || strcmp(e->kind, t->kind) || strcmp(e->name, r->name))
			continue;
		const struct conf_key *k = key_of(t, e->key);
		w.text[0] = '\0';
		r->unknown |= !k;
		if (!k)
			no_key(r, e);
		else if (conf_key_parse(k, e->value, o + k->off, &w))
			conf_wrong(r, k->key, "write %s%s%s", k->help, w.text[0] ? "; " : "", w.text);
		/* A secret, or maybe one under a wrong name. The entry is read again: no compiler leaves this out. */
		if (!k || k->type->secret)
			memset(e->value, 0, sizeof(e->value));
	}
	for (const struct conf_key *k = t->keys; k < t->keys + t->n; k++)
		if (!k->def && !conf_get(r->c, t->kind, r->name, k->key))
			conf_wrong(r, k->key, "missing; write %s", k->help);
	return !r->wrong[0];
}

void conf_show(const struct conf_table *t, const void *obj,
	       void (*show)(void *arg, const struct conf_key *k, const char *value), void *arg)
{
	/* Lists have spaces here that the file's may lack, and addresses a digit for a lone group of zeros. */
	char value[sizeof(((struct conf_entry *)0)->value) + 3 * CONF_NICS * CONF_IPS];
	for (const struct conf_key *k = t->keys; k < t->keys + t->n; k++) {
		k->type->text(k, (const uint8_t *)obj + k->off, value, sizeof(value));
		show(arg, k, value);
	}
}
