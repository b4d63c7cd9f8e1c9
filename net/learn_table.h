/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of struct learn (learn.h): each by its kind, with what may stand in it. The caller holds the lock. */
#pragma once
#include "net/learn.h"

enum learn_kind { LEARN_HOST4, LEARN_HOST6, LEARN_GROUP4, LEARN_GROUP6, LEARN_KINDS };
struct learn_table { /* entries of `width` bytes, the latest first */
	uint8_t *at;
	uint64_t *seen_ns; /* of each entry; NULL, as is age, for groups: a guest says when it leaves one */
	uint32_t *age;
	unsigned n, width;
	bool (*good)(const uint8_t *ip);
};
struct learn_table learn_table(struct learn *l, enum learn_kind kind); /* its lock is held as long as this is used */
bool learn_table_has(const struct learn_table *t, const uint8_t *ip);
/* It becomes the first, if it is good; the oldest gives place. */
void learn_table_put(const struct learn_table *t, const uint8_t *ip, uint64_t now_ns);
void learn_table_drop(const struct learn_table *t, const uint8_t *ip);
