/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Migratable state, declared once. Everything inside a `struct foo_state` migrates, nothing outside it does; the table
 * of its fields drives save, load, print, diff and the self-test (fields tile the struct exactly, so a forgotten one
 * fails). Fields are fixed-width unsigned integers or arrays of them. Encoded little-endian, in table order. Fields are
 * only ever appended: an older sender's missing ones keep their reset value; newer versions, unknown sections and
 * trailing bytes are refused by name. Loading: decode into a copy -> check() -> commit -> post_load(). Pure code.
 */
#pragma once
#include "kernel/base/err.h"

struct sfield {
	const char *name;
	uint32_t off;
	uint32_t count; /* elements */
	uint8_t width;  /* bytes of an element: 1, 2, 4, 8 */
	uint8_t since;  /* section version that introduced it; 1: any that a peer sends has it */
};
/* Compile-time refusal of anything but uint8_t..uint64_t and char (and arrays of them). */
#define SFIELD_TYPE_OK(x) _Generic((x), char : 1, uint8_t : 1, uint16_t : 2, uint32_t : 4, uint64_t : 8)
#define F_V(type, m, v)                                                     \
	{                                                                   \
#m, offsetof(type, m), 1, SFIELD_TYPE_OK(((type *)0)->m), v \
	}
#define F(type, m) F_V(type, m, 1)
#define F_ARR_V(type, m, v)                                                                \
	{                                                                                  \
#m, offsetof(type, m), sizeof(((type *)0)->m) / sizeof(((type *)0)->m[0]), \
			SFIELD_TYPE_OK(((type *)0)->m[0]), v                               \
	}
#define F_ARR(type, m) F_ARR_V(type, m, 1)

struct sdesc {
	const char *name; /* section name on the wire, at most 31 characters */
	uint32_t version; /* current; starts at 1 */
	uint32_t obj_off; /* of the state struct in the object */
	uint32_t state_size;
	const struct sfield *fields;
	unsigned nfields;
	/* Is this decoded state one that the device can have? Bounds that later code relies on are enforced here. */
	int (*check)(const void *obj, const void *state, struct why *w);
	void (*pre_save)(void *obj);  /* bring the state struct up to date; device is quiescent. May be NULL */
	void (*post_load)(void *obj); /* rebuild what is derived from it. May be NULL */
	/* True: it means nothing now, and is not sent; so it need not come. May be NULL. */
	bool (*absent)(const void *obj);
};
#define SDESC(type, member, stype, table)                                                  \
	.obj_off = offsetof(type, member), .state_size = sizeof(stype), .fields = (table), \
	.nfields = sizeof(table) / sizeof((table)[0])

size_t state_size(const struct sdesc *d);                        /* encoded bytes at the current version */
void state_save(const struct sdesc *d, void *obj, uint8_t *buf); /* pre_save + encode; buf has state_size() bytes */
/*
 * Without pre_save, as of that version: how many bytes. What was loaded comes out as it came, unless something has
 * changed it since.
 */
size_t state_encode(const struct sdesc *d, const void *obj, uint32_t version, uint8_t *buf);
/* Decode a section of the given version, check, commit, post_load. On error obj is untouched. */
int state_load(const struct sdesc *d, void *obj, uint32_t version, const uint8_t *buf, size_t len,
	       struct why *w) must_check;
/*
 * Text of each field ("name=hex ..."), and the first difference of two encodings ("uart.lcr: 3 != 13"); for console and
 * tests.
 */
void state_print(const struct sdesc *d, const void *obj, void (*out)(void *arg, const char *line), void *arg);
bool state_diff(const struct sdesc *d, const uint8_t *a, const uint8_t *b, size_t len, struct why *first);
/* Self-test: fields tile the struct, names unique, versions sane. For unit tests: each table is given to it. */
int state_selftest(const struct sdesc *d, struct why *w);
