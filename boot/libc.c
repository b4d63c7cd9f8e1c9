/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The few functions of the C library that the loader and kernel/conf.c use. newlib itself is built for the kernel's
 * address space and does not link into a position-independent UEFI application; its headers are used.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* String instructions, or the compiler would make these loops into calls to themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	void *d = (char *)to + n - 1;

	if (to <= from)
		return memcpy(to, from, n);
	from = (const char *)from + n - 1;
	__asm__ volatile("std; rep movsb; cld" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int value, size_t n)
{
	void *d = to;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;

	for (; n; n--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

void *memchr(const void *s, int ch, size_t n)
{
	for (const unsigned char *p = s; n; n--, p++)
		if (*p == (unsigned char)ch)
			return (void *)(uintptr_t)p;
	return NULL;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

int strcmp(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return (unsigned char)*a - (unsigned char)*b;
}

char *strcpy(char *restrict to, const char *restrict from) { return memcpy(to, from, strlen(from) + 1); }

char *strcat(char *restrict to, const char *restrict from)
{
	strcpy(to + strlen(to), from);
	return to;
}

struct sink {
	char *p;
	size_t size, n; /* n counts what would have been written */
};

static void put(struct sink *o, char ch)
{
	if (o->n + 1 < o->size)
		o->p[o->n] = ch;
	o->n++;
}

static void put_number(struct sink *o, uint64_t v, unsigned base, bool negative, unsigned width, char pad)
{
	char digits[24];
	unsigned n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % base];
	while ((v /= base) != 0);
	if (negative)
		digits[n++] = '-';
	for (; width > n; width--)
		put(o, pad);
	while (n)
		put(o, digits[--n]);
}

/* %s %.*s %c %d %u %x %%, with 0 or blank padding to a width and the lengths l, ll, z. */
int vsniprintf(char *to, size_t size, const char *fmt, va_list ap)
{
	struct sink o = { to, size, 0 };

	for (; *fmt; fmt++) {
		unsigned width = 0, longs = 0;
		size_t max = SIZE_MAX;
		const char *s;
		char pad = ' ';
		int64_t v;

		if (*fmt != '%') {
			put(&o, *fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = *fmt++;
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + (unsigned)(*fmt++ - '0');
		if (fmt[0] == '.' && fmt[1] == '*') {
			max = (size_t)va_arg(ap, int);
			fmt += 2;
		}
		for (; *fmt == 'l' || *fmt == 'z'; fmt++)
			longs++;
		switch (*fmt) {
		case 's':
			for (s = va_arg(ap, const char *); max && *s; max--)
				put(&o, *s++);
			break;
		case 'c': put(&o, (char)va_arg(ap, int)); break;
		case 'd':
			v = longs ? va_arg(ap, long) : va_arg(ap, int);
			put_number(&o, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, v < 0, width, pad);
			break;
		case 'u':
		case 'x':
			put_number(&o, longs ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), *fmt == 'u' ? 10 : 16,
				   false, width, pad);
			break;
		case '\0':
			fmt--; /* a lone % at the end */
			break;
		default: put(&o, *fmt);
		}
	}
	if (size)
		to[o.n < size ? o.n : size - 1] = '\0';
	return (int)o.n;
}

int sniprintf(char *to, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsniprintf(to, size, fmt, ap);
	va_end(ap);
	return n;
}
