/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The destination's side of device and CPU state: each section of the skeleton must come exactly once, and nothing
 * else.
 */
#pragma once
#include "vmm/migrate/wire.h"
#include "vmm/vm.h"

struct section {
	const struct sdesc *desc;
	uint32_t instance;
	void *obj;
	bool loaded;
	uint32_t version; /* of what was loaded */
	uint64_t digest;  /* of its bytes at the source, where told */
	bool told;
};
struct sections {
	struct section *v;
	unsigned n, loaded;
	unsigned next; /* behind the one that was found last: they come in this order, but for those that are absent */
	uint64_t clock_ns; /* when guest time was set, from which on it runs */
};
int sections_init(struct sections *s, struct vm *vm) must_check; /* -ENOMEM */
void sections_fini(struct sections *s);
struct section *section_find(struct sections *s, const char *name, uint32_t instance); /* NULL: there is none */
/* The SECTION record just received: -EPROTO unknown or twice (by name), or state_load's error. */
int section_recv(struct sections *s, struct wire_rx *rx, struct why *w) must_check;
int sections_complete(const struct sections *s,
		      struct why *w) must_check; /* -EPROTO naming the first that is missing */
