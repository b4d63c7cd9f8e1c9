/* SPDX-License-Identifier: BSD-2-Clause */
/* Loading of state sections (sections.h); decoding and checking each one is vmm/state.c's. */
#include "vmm/migrate/sections.h"
#include "kernel/time.h"
#include <stdlib.h>
#include <string.h>

static void count(void *arg, const struct sdesc *d unused, uint32_t instance unused, void *obj unused)
{
	(*(unsigned *)arg)++;
}

static void append(void *arg, const struct sdesc *d, uint32_t instance, void *obj)
{
	struct sections *s = arg;
	s->v[s->n++] = (struct section){ .desc = d, .instance = instance, .obj = obj };
}

int sections_init(struct sections *s, struct vm *vm)
{
	unsigned n = 0;
	vm_for_each_section(vm, count, &n);
	*s = (struct sections){ .v = calloc(n + 1, sizeof(*s->v)), .clock_ns = time_ns() };
	if (!s->v)
		return -ENOMEM;
	vm_for_each_section(vm, append, s);
	return 0;
}

void sections_fini(struct sections *s)
{
	free(s->v);
	s->v = NULL;
	s->n = 0;
}

/* A VM of many vCPUs has thousands: from the one before it is one step, or a few over those that are not sent. */
struct section *section_find(struct sections *s, const char *name, uint32_t instance)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct section *v = &s->v[s->next];
		s->next = s->next + 1 < s->n ? s->next + 1 : 0;
		if (v->instance == instance && !strcmp(v->desc->name, name))
			return v;
	}
	return NULL;
}

int section_recv(struct sections *s, struct wire_rx *rx, struct why *w)
{
	char name[32];
	wire_get_str(rx, name, sizeof(name));
	uint32_t instance = wire_get_u32(rx), version = wire_get_u32(rx);
	size_t len = rx->bad ? 0 : rx->len - rx->pos;
	const uint8_t *bytes = wire_get_bytes(rx, len);

	if (!wire_get_end(rx))
		return why_set(w, -EPROTO, "the source sent a malformed SECTION record");
	struct section *sec = section_find(s, name, instance);
	if (!sec)
		return why_set(w, -EPROTO, "the source sent state of %s %u, which the VM does not have here", name,
			       instance);
	if (sec->loaded)
		return why_set(w, -EPROTO, "the source sent the state of %s %u twice", name, instance);
	/* It decodes a copy and checks that first: what is refused here has touched nothing. */
	int err = state_load(sec->desc, sec->obj, version, bytes, len, w);
	if (err)
		return why_set(w, err, "the state of %s %u was refused: %s", name, instance, err_name(err));
	if (!strcmp(name, "clock"))
		s->clock_ns = time_ns();
	sec->version = version;
	sec->loaded = true;
	s->loaded++;
	return 0;
}

/* Loaded, it says whether it would have been sent. */
static bool may_lack(const struct section *v) { return v->desc->absent && v->desc->absent(v->obj); }

int sections_complete(const struct sections *s, struct why *w)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!s->v[i].loaded && !may_lack(&s->v[i]))
			return why_set(w, -EPROTO, "the source sent no state of %s %u", s->v[i].desc->name,
				       s->v[i].instance);
	return 0;
}
