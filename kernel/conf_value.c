/* SPDX-License-Identifier: BSD-2-Clause */
/* The values of tern.conf and of console commands: numbers, sizes, MAC and IP addresses. Pure. See conf.h. */
#include "kernel/conf.h"
#include <stdio.h>
#include <string.h>

/*
 * Decimal digits at s into *v; returns what follows them, NULL if there is no digit or the number needs over 64 bits.
 */
static const char *digits(const char *s, uint64_t *v)
{
	const char *start = s;
	for (*v = 0; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, (uint64_t)(*s - '0'), v))
			return NULL;
	return s == start ? NULL : s;
}

int conf_parse_uint(const char *s, uint64_t max, uint64_t *v)
{
	uint64_t n;
	s = digits(s, &n);
	if (!s || *s || n > max)
		return -EINVAL;
	*v = n;
	return 0;
}

int conf_parse_size(const char *s, uint64_t *bytes)
{
	unsigned shift = 0;
	uint64_t n;
	s = digits(s, &n);
	if (!s)
		return -EINVAL;
	switch (*s) {
	case '\0': break;
	case 'k':
	case 'K': shift = 10; break;
	case 'm':
	case 'M': shift = 20; break;
	case 'g':
	case 'G': shift = 30; break;
	default: return -EINVAL;
	}
	if ((shift && s[1]) || n > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes = n << shift;
	return 0;
}

int conf_parse_ms(const char *s, uint64_t max, uint64_t *ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 } };
	uint64_t n;

	s = digits(s, &n);
	for (unsigned i = 0; s && i < ARRAY_SIZE(units); i++) {
		if (strcmp(s, units[i].unit) || n > max / units[i].ms)
			continue;
		*ms = n * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

static int hex_digit(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	return -1;
}

int conf_parse_hex(const char *s, uint8_t *bytes, size_t n)
{
	if (strlen(s) != 2 * n)
		return -EINVAL;
	for (size_t i = 0; i < 2 * n; i++)
		if (hex_digit(s[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]));
	return 0;
}

char *conf_hex_text(const uint8_t *bytes, size_t n, char *s)
{
	*s = '\0';
	for (size_t i = 0; i < n; i++)
		s += snprintf(s, 3, "%02x", bytes[i]);
	return s;
}

int conf_parse_mac(const char *s, uint8_t mac[6])
{
	uint8_t m[6];
	unsigned any = 0;
	for (int i = 0; i < 6; i++, s += 3) {
		int hi = hex_digit(s[0]), lo = hi < 0 ? -1 : hex_digit(s[1]);

		if (lo < 0 || s[2] != (i < 5 ? ':' : '\0'))
			return -EINVAL;
		m[i] = (uint8_t)(hi << 4 | lo);
		any |= m[i];
	}
	if (!any || (m[0] & 1)) /* I/G bit: multicast (IEEE 802-2014 8.2.2) */
		return -EINVAL;
	memcpy(mac, m, sizeof(m));
	return 0;
}

/* So many hexadecimal digits, at most max, and what is behind them: behind it; NULL: something else stands there. */
static const char *hex_field(const char *s, unsigned digits, char behind, unsigned max, unsigned *v)
{
	for (*v = 0; digits--; s++) {
		int d = hex_digit(*s);
		if (d < 0)
			return NULL;
		*v = *v << 4 | (unsigned)d;
	}
	return *v <= max && *s == behind ? s + !!behind : NULL;
}

int conf_parse_pci(const char *s, char location[16])
{
	unsigned segment = 0, bus, dev, fn;
	const char *p = s;
	if (strlen(s) == sizeof("0000:00:00.0") - 1 && !(p = hex_field(s, 4, ':', 0xffff, &segment)))
		return -EINVAL;
	s = segment ? s : p;
	if (!(p = hex_field(p, 2, ':', 0xff, &bus)) || !(p = hex_field(p, 2, '.', 0x1f, &dev)) ||
	    !hex_field(p, 1, '\0', 7, &fn))
		return -EINVAL;
	do
		*location++ = (char)(*s ? *s | 0x20 : 0); /* letters become small, all else here has this bit */
	while (*s++);
	return 0;
}

/* Four numbers: lwIP's own parser also takes 10.1 and 0x0a.1. */
int conf_parse_ip4(const char *s, uint32_t *ip)
{
	uint8_t b[4];
	for (int i = 0; i < 4; i++) {
		const char *start = s;
		uint64_t v;

		s = digits(s, &v);
		if (!s || s - start > 3 || v > 255 || *s++ != (i < 3 ? '.' : '\0'))
			return -EINVAL;
		b[i] = (uint8_t)v;
	}
	memcpy(ip, b, sizeof(*ip));
	return 0;
}

int conf_parse_ip6(const char *s, uint8_t ip[16])
{
	uint8_t b[16];
	size_t n = 0, gap = 16; /* bytes so far; how many stand before "::" */
	if (s[0] == ':' && s[1] == ':') {
		gap = 0;
		s += 2;
	}
	while (*s) {
		unsigned v = 0, len = 0;
		for (; len < 4 && hex_digit(*s) >= 0; len++)
			v = v << 4 | (unsigned)hex_digit(*s++);
		if (!len || n == sizeof(b) || (*s && *s != ':') || (*s && !s[1]))
			return -EINVAL;
		b[n++] = (uint8_t)(v >> 8);
		b[n++] = (uint8_t)v;
		s += *s == ':';
		if (*s != ':')
			continue;
		if (gap < 16)
			return -EINVAL;
		gap = n;
		s++;
	}
	if (gap == 16 ? n != 16 : n == 16)
		return -EINVAL;
	gap = MIN(gap, n);
	memset(ip, 0, 16);
	memcpy(ip, b, gap);
	memcpy(ip + 16 - (n - gap), b + gap, n - gap);
	return 0;
}
