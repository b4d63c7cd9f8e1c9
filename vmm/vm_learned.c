/* SPDX-License-Identifier: BSD-2-Clause */
/* What is known of a guest's addresses and groups (net/learn.h), as a section of its state. */
#include "kernel/time.h"
#include "net/learn.h"
#include "vmm/vm_port.h"

/* clang-format off */
static const struct sfield learned_fields[] = {
	F_ARR(struct learn_state, ip4),     F_ARR(struct learn_state, ip6),     F_ARR(struct learn_state, group4),
	F_ARR(struct learn_state, group6),  F_ARR(struct learn_state, ip4_age), F_ARR(struct learn_state, ip6_age),
	F(struct learn_state, router),      F_ARR(struct learn_state, reserved),
};
/* clang-format on */

static int learned_check(const void *obj unused, const void *state, struct why *w)
{
	return learn_is_sane(state) ? 0 : why_set(w, -EINVAL, "net-learned: what no guest can have said of itself");
}

static void learned_pre_save(void *obj) { learn_save(obj, time_ns()); }
static void learned_post_load(void *obj) { learn_loaded(obj, time_ns()); }

const struct sdesc vm_learned_desc = {
	.name = "net-learned",
	.version = 1,
	SDESC(struct learn, s, struct learn_state, learned_fields),
	.check = learned_check,
	.pre_save = learned_pre_save,
	.post_load = learned_post_load,
};
