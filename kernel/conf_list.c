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
		      int (*one)(const struct conf_key *k, const char *word, unsigned n, uint8_t *list, struct why *w))
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
		int err = one(k, word, n, list, w);
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
static int ips_one(const struct conf_key *k unused, const char *word, unsigned n, uint8_t *list, struct why *w)
{
	struct ip ip;
	if (ip_parse(word, &ip))
		return why_set(w, -EINVAL, "'%.39s' is none", word);
	if (!ip_is_machines(ip))
		return why_set(w, -EINVAL, "'%s' is no machine's own", word);
	memcpy(list + sizeof(ip) * n, &ip, sizeof(ip));
	return 0;
}

static int nic_ips_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	struct conf_nic_ips ips = { 0 };
	const struct conf_key part = { .size = sizeof(ips.of[0]) };
	for (;;) {
		char word[sizeof(((struct conf_entry *)0)->value)];
		size_t len = strcspn(s, "|"), used = len;
		while (used && (s[used - 1] == ' ' || s[used - 1] == '\t'))
			used--;
		if (ips.each == CONF_NICS || used >= sizeof(word))
			return why_set(w, -EINVAL, "these are more");
		snprintf(word, sizeof(word), "%.*s", (int)used, s);
		if (strcmp(word, k->zero) != 0) {
			int err = list_parse(&part, word, ips.of[ips.each], w, CONF_IPS, ips_one);
			if (err)
				return err;
		}
		ips.each++;
		s += len;
		if (!*s)
			break;
		s++;
		s += strspn(s, " \t");
	}
	if (ips.each == 1)
		ips.each = 0;
	memcpy(field, &ips, sizeof(ips));
	return 0;
}

static int macs_one(const struct conf_key *k unused, const char *word, unsigned n, uint8_t *list, struct why *w)
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

static int names_one(const struct conf_key *k unused, const char *word, unsigned n, uint8_t *list, struct why *w)
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

static void nic_ips_text(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	const struct conf_nic_ips *ips = field;
	buf[0] = '\0';
	for (unsigned i = 0; i < MAX(ips->each, 1U); i++) {
		const struct ip *ip = (const void *)ips->of[i];
		snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", i ? " | " : "", ip_is_none(*ip) ? k->zero : "");
		for (unsigned n = 0; n < CONF_IPS && !ip_is_none(ip[n]); n++)
			snprintf(buf + strlen(buf), size - strlen(buf), "%s%s", n ? ", " : "", ip_text(ip[n]).s);
	}
}
const struct conf_type conf_type_nic_ips = { .parse = nic_ips_parse, .text = nic_ips_text };

static int choice_one(const struct conf_key *k, const char *word, unsigned n, uint8_t *list, struct why *w)
{
	uint32_t one;
	if (conf_type_choice.parse(k, word, &one, w))
		return why_set(w, -EINVAL, "'%s' is none", word);
	list[n] = (uint8_t)(1 + one);
	return 0;
}

static int nic_choice_parse(const struct conf_key *k, const char *s, void *field, struct why *w)
{
	uint8_t of[CONF_NICS]; /* 1 + each one's, zeros behind the last */
	struct conf_key each = *k;
	each.size = sizeof(of);
	int err = list_parse(&each, s, of, w, CONF_NICS, choice_one);
	if (err)
		return err;
	uint32_t bits = 0;
	for (unsigned n = 0; n < CONF_NICS && of[n]; n++)
		bits |= (of[n] - 1U) << (1 + n);
	*(uint32_t *)field = of[1] ? bits : of[0] - 1U;
	return 0;
}

static void nic_choice_text(const struct conf_key *k, const void *field, char *buf, size_t size)
{
	uint32_t v = *(const uint32_t *)field;
	snprintf(buf, size, "%s", k->words[CONF_NIC_CHOICE(v, 0)]);
	for (unsigned n = 1; v > 1 && (n == 1 || v >> (1 + n)); n++) /* one word alone is that of all cards */
		snprintf(buf + strlen(buf), size - strlen(buf), ", %s", k->words[CONF_NIC_CHOICE(v, n)]);
}
const struct conf_type conf_type_nic_choice = { .parse = nic_choice_parse, .text = nic_choice_text };
