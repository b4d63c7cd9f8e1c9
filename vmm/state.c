/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engine behind vmm/state.h: encodes, decodes, prints and compares state structs by their field tables. It knows no
 * device. Called by the migration (save at the source, load at the destination), the console and the unit tests.
 */
#include "vmm/state.h"
#include <stdio.h>
#include <string.h>

/* The copy that state_load decodes into lives on the stack of a 32 KiB task. */
#define STATE_MAX  8192
#define PRINT_LINE 64 /* bytes of an array shown on one line */

/* An element of the struct in memory; tern runs on little-endian machines only. */
static uint64_t elem_get(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;
	memcpy(&v, p, width);
	return v;
}

static void elem_put(uint8_t *p, unsigned width, uint64_t v) { memcpy(p, &v, width); }

/* The same on the wire. */
static uint64_t wire_get(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < width; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static void wire_put(uint8_t *p, unsigned width, uint64_t v)
{
	for (unsigned i = 0; i < width; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static size_t field_bytes(const struct sfield *f) { return (size_t)f->count * f->width; }

static size_t size_at(const struct sdesc *d, uint32_t version)
{
	size_t n = 0;
	for (unsigned i = 0; i < d->nfields; i++)
		if (d->fields[i].since <= version)
			n += field_bytes(&d->fields[i]);
	return n;
}

size_t state_size(const struct sdesc *d) { return size_at(d, d->version); }

static void encode(const struct sdesc *d, uint32_t version, const uint8_t *state, uint8_t *buf)
{
	for (unsigned i = 0; i < d->nfields; i++) {
		const struct sfield *f = &d->fields[i];
		if (f->since > version)
			continue;
		for (uint32_t k = 0; k < f->count; k++, buf += f->width)
			wire_put(buf, f->width, elem_get(state + f->off + (size_t)k * f->width, f->width));
	}
}

void state_save(const struct sdesc *d, void *obj, uint8_t *buf)
{
	if (d->pre_save)
		d->pre_save(obj);
	encode(d, d->version, (const uint8_t *)obj + d->obj_off, buf);
}

size_t state_encode(const struct sdesc *d, const void *obj, uint32_t version, uint8_t *buf)
{
	encode(d, version, (const uint8_t *)obj + d->obj_off, buf);
	return size_at(d, version);
}

int state_load(const struct sdesc *d, void *obj, uint32_t version, const uint8_t *buf, size_t len, struct why *w)
{
	_Alignas(16) uint8_t copy[STATE_MAX];
	uint8_t *state = (uint8_t *)obj + d->obj_off;

	BUG_ON(d->state_size > sizeof(copy));
	if (version == 0 || version > d->version)
		return why_set(w, -ENOTSUP, "%s: state version %u is not known here (newest: %u)", d->name, version,
			       d->version);
	if (len != size_at(d, version))
		return why_set(w, -EBADMSG, "%s: %lu bytes of state, version %u has %lu", d->name, len, version,
			       size_at(d, version));
	memcpy(copy, state, d->state_size); /* fields newer than the sender keep their reset value */
	for (unsigned i = 0; i < d->nfields; i++) {
		const struct sfield *f = &d->fields[i];
		if (f->since > version)
			continue;
		for (uint32_t k = 0; k < f->count; k++, buf += f->width)
			elem_put(copy + f->off + (size_t)k * f->width, f->width, wire_get(buf, f->width));
	}
	int err = d->check ? d->check(obj, copy, w) : 0;
	if (err)
		return why_set(w, err, "%s: its state is not one that the device can have", d->name);
	memcpy(state, copy, d->state_size);
	if (d->post_load)
		d->post_load(obj);
	return 0;
}

void state_print(const struct sdesc *d, const void *obj, void (*out)(void *arg, const char *line), void *arg)
{
	const uint8_t *state = (const uint8_t *)obj + d->obj_off;
	char line[80 + PRINT_LINE * 3];

	for (unsigned i = 0; i < d->nfields; i++) {
		const struct sfield *f = &d->fields[i];
		uint32_t per_line = PRINT_LINE / f->width;
		for (uint32_t k = 0; k < f->count; k += per_line) {
			uint64_t any = 0;
			int n = f->count == 1 ? sniprintf(line, sizeof(line), "%s=", f->name)
					      : sniprintf(line, sizeof(line), "%s[%u]=", f->name, k);
			for (uint32_t e = k; e < MIN(k + per_line, f->count); e++) {
				uint64_t v = elem_get(state + f->off + (size_t)e * f->width, f->width);
				any |= v;
				n += sniprintf(line + n, sizeof(line) - (size_t)n, e == k ? "%lx" : " %lx", v);
			}
			if (k == 0 || any) /* later lines of an array only if they say something */
				out(arg, line);
		}
	}
}

bool state_diff(const struct sdesc *d, const uint8_t *a, const uint8_t *b, size_t len, struct why *first)
{
	size_t pos = 0;
	for (unsigned i = 0; i < d->nfields; i++) {
		const struct sfield *f = &d->fields[i];
		for (uint32_t k = 0; k < f->count; k++, pos += f->width) {
			if (pos + f->width > len)
				return false;
			uint64_t va = wire_get(a + pos, f->width), vb = wire_get(b + pos, f->width);
			if (va == vb)
				continue;
			if (f->count == 1)
				why_set(first, 0, "%s.%s: %lx != %lx", d->name, f->name, va, vb);
			else
				why_set(first, 0, "%s.%s[%u]: %lx != %lx", d->name, f->name, k, va, vb);
			return true;
		}
	}
	return false;
}

int state_selftest(const struct sdesc *d, struct why *w)
{
	size_t pos = 0;
	unsigned since = 1;

	if (!d->name[0] || strlen(d->name) > 31 || d->version == 0 || d->nfields == 0 || d->state_size > STATE_MAX)
		return why_set(w, -EINVAL, "%s: bad name, version, size or no fields", d->name);
	/*
	 * In the struct's order each field begins where the one before ended; the table itself is in order of `since`.
	 */
	while (pos < d->state_size) {
		const struct sfield *f = NULL;
		for (unsigned i = 0; i < d->nfields; i++)
			if (d->fields[i].off == pos && field_bytes(&d->fields[i]))
				f = f ? f : &d->fields[i];
		if (!f)
			return why_set(w, -EINVAL, "%s: no field at byte %lu of %u: forgotten, or padding", d->name,
				       pos, d->state_size);
		pos += field_bytes(f);
	}
	if (pos != d->state_size || size_at(d, d->version) != d->state_size)
		return why_set(w, -EINVAL, "%s: the fields overlap or exceed the struct", d->name);
	for (unsigned i = 0; i < d->nfields; i++) {
		const struct sfield *f = &d->fields[i];
		if (f->width != 1 && f->width != 2 && f->width != 4 && f->width != 8)
			return why_set(w, -EINVAL, "%s.%s: width %u", d->name, f->name, f->width);
		if (f->since < since || f->since > d->version)
			return why_set(w, -EINVAL, "%s.%s: since version %u is out of order: fields are only appended",
				       d->name, f->name, f->since);
		since = f->since;
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(f->name, d->fields[k].name))
				return why_set(w, -EINVAL, "%s.%s is there twice", d->name, f->name);
	}
	return 0;
}
