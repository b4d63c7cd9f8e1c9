/* SPDX-License-Identifier: BSD-2-Clause */
/* Text of logins (text.h). */
#include "net/iscsi/text.h"
#include "kernel/base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char hex[] = "0123456789abcdef";

void iscsi_text_add(struct iscsi_text *t, const char *key, const char *fmt, ...)
{
	size_t room = t->max - t->len, k = strlen(key);
	va_list ap;

	if (k + 2 > room) {
		t->full = true;
		return;
	}
	va_start(ap, fmt);
	int n = vsnprintf(t->at + t->len + k + 1, room - k - 1, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room - k - 1) {
		t->full = true;
		return;
	}
	memcpy(t->at + t->len, key, k);
	t->at[t->len + k] = '=';
	t->len += k + 1 + (size_t)n + 1;
}

void iscsi_text_add_bytes(struct iscsi_text *t, const char *key, const uint8_t *p, size_t n)
{
	size_t begin = t->len;
	iscsi_text_add(t, key, "0x");
	if (t->len == begin || t->max - t->len < 2 * n) {
		t->full = true;
		t->len = begin;
		return;
	}
	char *at = t->at + t->len - 1;
	for (size_t i = 0; i < n; i++) {
		*at++ = hex[p[i] >> 4];
		*at++ = hex[p[i] & 15];
	}
	*at = 0;
	t->len += 2 * n;
}

bool iscsi_text_is_sane(const struct iscsi_text *t)
{
	for (size_t i = 0, end; i < t->len; i = end + 1) {
		const char *nul = memchr(t->at + i, 0, t->len - i), *is = nul ? strchr(t->at + i, '=') : NULL;
		if (!is || is == t->at + i)
			return false;
		end = (size_t)(nul - t->at);
		for (size_t c = i; c < end; c++)
			if ((uint8_t)t->at[c] < ' ' || t->at[c] == 0x7f)
				return false;
	}
	return true;
}

const char *iscsi_text_get(const struct iscsi_text *t, const char *key)
{
	size_t k = strlen(key);
	for (const char *p = t->at, *end = t->at + t->len; p < end; p += strlen(p) + 1)
		if (!strncmp(p, key, k) && p[k] == '=')
			return p + k + 1;
	return NULL;
}

static int digit(char c)
{
	const char *at = c ? strchr(hex, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
	return at ? (int)(at - hex) : -1;
}

int iscsi_text_number(const char *value, uint32_t max, uint32_t *n)
{
	uint64_t v = 0;
	int base = value[0] == '0' && (value[1] == 'x' || value[1] == 'X') ? 16 : 10;
	const char *p = value + (base == 16 ? 2 : 0);
	if (!*p)
		return -EINVAL;
	for (; *p; p++) {
		int d = digit(*p);
		if (d < 0 || d >= base)
			return -EINVAL;
		v = v * (unsigned)base + (unsigned)d;
		if (v > max)
			return -EINVAL;
	}
	*n = (uint32_t)v;
	return 0;
}

static int from_hex(const char *p, uint8_t *to, size_t max)
{
	size_t digits = strlen(p), n = (digits + 1) / 2;
	if (!digits || n > max)
		return -EINVAL;
	memset(to, 0, n);
	for (size_t i = 0; i < digits; i++) { /* an odd one has its first byte in one digit */
		int d = digit(p[i]);
		if (d < 0)
			return -EINVAL;
		size_t at = i + digits % 2;
		to[at / 2] |= (uint8_t)(at % 2 ? d : d << 4);
	}
	return (int)n;
}

static int sextet(char c)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(letters, c) : NULL;
	return at ? (int)(at - letters) : -1;
}

/* RFC 4648 4. */
static int from_base64(const char *p, uint8_t *to, size_t max)
{
	size_t letters = strcspn(p, "="), n = letters * 6 / 8;
	uint32_t bits = 0;
	if (strlen(p) % 4 || strlen(p) - letters > 2 || !letters || n > max ||
	    strspn(p + letters, "=") != strlen(p) - letters)
		return -EINVAL;
	for (size_t i = 0, have = 0, out = 0; i < letters; i++) {
		int s = sextet(p[i]);
		if (s < 0)
			return -EINVAL;
		bits = bits << 6 | (unsigned)s;
		have += 6;
		if (have >= 8) {
			have -= 8;
			to[out++] = (uint8_t)(bits >> have);
		}
	}
	return (int)n;
}

int iscsi_text_bytes(const char *value, uint8_t *p, size_t max)
{
	if (value[0] != '0')
		return -EINVAL;
	switch (value[1]) {
	case 'x':
	case 'X': return from_hex(value + 2, p, max);
	case 'b':
	case 'B': return from_base64(value + 2, p, max);
	default: return -EINVAL;
	}
}

bool iscsi_address_parse(const char *s, struct ip *ip, uint16_t *port)
{
	char host[IP_TEXT];
	bool brackets = *s == '[';
	size_t n = strcspn(s + brackets, brackets ? "]" : ":,");
	if (n >= sizeof(host) || (brackets && s[1 + n] != ']'))
		return false;
	memcpy(host, s + brackets, n);
	host[n] = 0;
	s += n + 2UL * brackets;
	*port = ISCSI_PORT;
	if (*s == ':') {
		char digits[6];
		uint32_t v;
		n = strspn(++s, "0123456789");
		if (n >= sizeof(digits))
			return false;
		memcpy(digits, s, n);
		digits[n] = 0;
		if (iscsi_text_number(digits, 0xffff, &v) || !v)
			return false;
		*port = (uint16_t)v;
		s += n;
	}
	return (!*s || *s == ',') && !ip_parse(host, ip);
}
