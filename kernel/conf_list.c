/* SPDX-License-Identifier: BSD-2-Clause */
/* Values of tern.conf that are lists of addresses or names, "A, B" (conf.h). Pure. */
#include "kernel/ip.h"
#include "kernel/base/mac.h"
#include "kernel/conf.h"
#include <stdio.h>
#include <string.h>

#define LIST_MAX (16 * CONF_IPS) /* bytes of the largest one */

/* "A, B" into field, zeros behind the last: one() puts the n-th word behind those before; more than max are wrong. */
static int list_parse(const struct conf_key *k, const char *s, void *field, struct why *w, unsigned max,
		      int (*one)(const char *word, unsigned n, uint8_t *list, struct why *w))
{
	uint8_t list[LIST_MAX] = { 0 };
	for (unsigned n = 0;; n++) {
		char word[40];
		size_t len = strcspn(s, ", \t");
		if (n == max)
			return why_set(w, -EINVAL, "these are more");
		snprintf(word, sizeof(word), "%.*s", (int)len, s);
		if (len >= sizeof(word))
			return why_set(w, -EINVAL, "'%.39s' is none", word);
		int err = one(word, n, list, w);
		if (err)
			return err;
		s += len + strspn(s + len, " \t");
		if (!*s)
			break;
		if (*s++ != ',')
			return -EINVAL;
		s += strspn(s, " \t");
	}
	memcpy(field, list, k->size);
	return 0;
}

/* One that a machine can have. */
static int ips_one(const char *word, unsigned n, uint8_t *list, struct why *w)
{
	struct ip ip;
	if (ip_parse(word, &ip))
		return why_set(w, -EINVAL, "'%.39s' is none", word);
	if (!ip_is_machines(ip))
		return why_set(w, -EINVAL, "'%s' is no machine's own", word);
	memcpy(list + sizeof(ip) * n, &ip, sizeof(ip));
	return 0;
}

static int ips_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	return list_parse(k, s, field, w, CONF_IPS, ips_one);
}

static int macs_one(const char *word, unsigned n, uint8_t *list, struct why *w)
{
	uint8_t *mac = list + 6UL * n;
	if (conf_parse_mac(word, mac))
		return why_set(w, -EINVAL, "'%s' is none", word);
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(mac, list + 6UL * i, 6))
			return why_set(w, -EINVAL, "'%s' is there twice", word);
	return 0;
}

static int macs_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	return list_parse(k, s, field, w, CONF_NICS, macs_one);
}

static void macs_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	static const uint8_t none[6];
	const uint8_t *mac = field;
	buf[0] = '\0';
	for (unsigned n = 0; n < CONF_NICS && memcmp(mac, none, 6); n++, mac += 6)
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", n ? ", " : "", mac_text(mac).s);
}
const struct conf_type conf_type_macs = { .parse = macs_parse, .text = macs_text };

static int names_one(const char *word, unsigned n, uint8_t *list, struct why *w)
{
	if (!conf_is_word(word, strlen(word)) || strlen(word) >= CONF_NAME_MAX)
		return why_set(w, -EINVAL, "'%s' is none", word);
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(word, (const char *)list + (size_t)CONF_NAME_MAX * i))
			return why_set(w, -EINVAL, "'%s' is there twice", word);
	memcpy(list + (size_t)CONF_NAME_MAX * n, word, strlen(word) + 1);
	return 0;
}

static int names_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	return list_parse(k, s, field, w, CONF_NICS, names_one);
}

static void names_text(const struct conf_key *k unused, const void *field, char *buf, size_t size)
{
	const char *name = field;
	buf[0] = '\0';
	for (unsigned n = 0; n < CONF_NICS && *name; n++, name += CONF_NAME_MAX)
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", n ? ", " : "", name);
}
const struct conf_type conf_type_names = { .parse = names_parse, .text = names_text };

static void ips_text(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	const struct ip *ip = field;
	snprintf(buf, size, "%s", ip_is_none(*ip) ? k->zero : "");
	for (unsigned n = 0; n < CONF_IPS && !ip_is_none(ip[n]); n++)
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", n ? ", " : "", ip_text(ip[n]).s);
}
const struct conf_type conf_type_ips = { .parse = ips_parse, .text = ips_text };
