/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a usage line, and checking what was typed against it (console_usage.h). */
#include "kernel/console_usage.h"
#include <string.h>

const char *usage_next(const char *p, struct usage_word *w)
{
	for (; *p && strchr(" []", *p); p++)
		w->depth += (*p == '[') - (*p == ']');
	*w = (struct usage_word){ .s = p, .n = strcspn(p, " []"), .depth = w->depth, .optional = w->depth > 0 };
	w->option = *p == '-';
	w->literal = *p >= 'a' && *p <= 'z';
	p += w->n;
	w->takes_value = w->option && *p == ' ' && w->optional;
	return w->takes_value ? p + strcspn(p, "]") : p;
}

bool usage_get(const char *args, bool option, unsigned i, struct usage_word *w)
{
	*w = (struct usage_word){ .n = 0 };
	do {
		args = usage_next(args, w);
		if (w->n && w->option == option && i-- == 0)
			return true;
	} while (w->n);
	return false;
}

/* Is `word` one of small|words? */
static bool is_one_of(const char *words, size_t n, const char *word)
{
	size_t len = strlen(word);
	for (const char *p = words, *end = words + n; p < end; p += strcspn(p, "| ]") + 1)
		if (strcspn(p, "| ]") == len && !strncmp(p, word, len))
			return true;
	return false;
}

/* Takes the option argv[i], and its value: how many words that were. */
static int bind_option(struct con *c, const char *args, int left, char **argv, struct why *w)
{
	struct usage_word u;
	for (unsigned i = 0; usage_get(args, true, i, &u); i++) {
		if (!is_one_of(u.s, u.n, argv[0]))
			continue;
		if (u.takes_value && left < 2)
			return why_set(w, -EINVAL, "%s needs a value", argv[0]);
		if (c->nopts == CON_OPTS)
			return why_set(w, -E2BIG, "too many options");
		c->opt[c->nopts][0] = argv[0];
		c->opt[c->nopts++][1] = argv[u.takes_value];
		return 1 + u.takes_value;
	}
	return why_set(w, -EINVAL, "%s is no option of it", argv[0]);
}

int usage_bind(struct con *c, const char *args, int argc, char **argv, char **out, struct why *w)
{
	struct usage_word u;
	int n = 0;
	c->nopts = 0;
	for (int i = 0, k; i < argc; i += k) {
		bool option = !strncmp(argv[i], "--", 2);
		k = option ? bind_option(c, args, argc - i, argv + i, w) : 1;
		if (k < 0)
			return k;
		if (!option)
			out[n++] = argv[i];
	}
	for (int i = 0; usage_get(args, false, (unsigned)i, &u) && (i < n || !u.optional); i++) {
		if (i >= n)
			return why_set(w, -EINVAL, "%.*s is missing", (int)u.n, u.s);
		if (u.literal && !is_one_of(u.s, u.n, out[i]))
			return why_set(w, -EINVAL, "%s is not %.*s", out[i], (int)u.n, u.s);
	}
	if (n && !usage_get(args, false, (unsigned)n - 1, &u))
		return why_set(w, -EINVAL, "%s is a word too many", out[n - 1]);
	return n;
}

const char *con_opt(const struct con *c, const char *name)
{
	for (unsigned i = 0; i < c->nopts; i++)
		if (!strcmp(c->opt[i][0], name))
			return c->opt[i][1];
	return NULL;
}
