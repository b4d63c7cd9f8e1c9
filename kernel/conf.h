/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern.conf, an INI file: sections `[host]`, `[nic NAME]`, `[peer NAME]`, `[vm NAME]`. This parser keeps every entry
 * with its line; each room reads and checks its own sections. Problems are collected as text "tern.conf:LINE: ..." and
 * the rest still starts. Pure: no kernel calls, no globals, so the loader and tests use it too.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"

#define CONF_MAX_ENTRIES 256
struct conf_entry {
	char kind[16]; /* "host", "nic", "peer", "vm" */
	char name[32]; /* the section's name, "" for [host] */
	char key[24];  /* "" for the section line itself */
	char value[512];
	int line;
	bool used; /* set by conf_get: what stays unused is an unknown key */
};
struct conf {
	struct conf_entry e[CONF_MAX_ENTRIES];
	unsigned n;
	char problems[2048]; /* lines "tern.conf:LINE: what is wrong and what to do" */
};

/* Parse text of len bytes. Always leaves a usable conf; 0, or -EINVAL if something was wrong (see problems). */
int conf_parse(struct conf *c, const char *text, size_t len);
/* Value of key in section [kind name], or NULL; marks it used. */
const char *conf_get(struct conf *c, const char *kind, const char *name, const char *key);
/* Line of that key (or of the section if key is absent), 0 if neither is there. */
int conf_line(const struct conf *c, const char *kind, const char *name, const char *key);
/* Name of the i-th section of a kind, or NULL. */
const char *conf_section(const struct conf *c, const char *kind, unsigned i);
/* Add a problem with its line. */
void conf_problem(struct conf *c, int line, const char *fmt, ...) printf_like(3, 4);
/* Report every entry that nobody read ("unknown key"). Call after all rooms have read theirs. */
void conf_check_unused(struct conf *c);

/* Shared value parsers: 0 or -EINVAL. Sizes take K, M, G; MAC is aa:bb:cc:dd:ee:ff (unicast, not zero). */
int conf_parse_size(const char *s, uint64_t *bytes);
int conf_parse_uint(const char *s, uint64_t max, uint64_t *v);
int conf_parse_mac(const char *s, uint8_t mac[6]);
int conf_parse_bool(const char *s, bool *v);
