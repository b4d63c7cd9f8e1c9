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
	uint64_t seen = 0;
	for (unsigned i = 0; i < WAITS_BUCKETS; i++) {
		seen += w->us[i];
		if (w->us[i] && seen * 100 >= w->n * percent)
			return BIT(i);
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
