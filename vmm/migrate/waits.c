/* SPDX-License-Identifier: BSD-2-Clause */
/* Waits for pages (waits.h). */
#include "vmm/migrate/waits.h"
#include <stdio.h>
#include <string.h>

void waits_add(struct migrate_waits *w, uint64_t ns)
{
	unsigned i = 0;
	while (i < WAITS_BUCKETS - 1 && ns / NS_PER_US >> i)
		i++;
	w->n++;
	w->ns += ns;
	w->us[i]++;
}

uint64_t waits_quantile(const struct migrate_waits *w, unsigned percent)
{
	uint64_t before = 0, want = (w->n * percent + 99) / 100;
	for (unsigned i = 0; i < WAITS_BUCKETS; before += w->us[i++]) {
		uint64_t from = i ? BIT(i - 1) : 0, to = BIT(i);
		if (w->us[i] && before + w->us[i] >= want)
			return from + (to - from) * (want - before) / w->us[i];
	}
	return 0;
}

const char *waits_text(const struct migrate_waits *w, char *buf, size_t len)
{
	size_t n = 0;
	buf[0] = 0;
	for (unsigned i = 0; i < WAITS_BUCKETS; i++) {
		char one[40];
		int m = w->us[i] ? snprintf(one, sizeof(one), "%s%u <%lu us", n ? ", " : "", w->us[i], BIT(i)) : 0;
		if (n + (size_t)m >= len)
			break;
		memcpy(buf + n, one, (size_t)m);
		n += (size_t)m;
		buf[n] = 0;
	}
	return buf;
}
