/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as tern.conf: never a crash, always a usable and terminated struct conf. */
#include "kernel/conf.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf c;
	static const char *const kinds[] = { "host", "nic", "peer", "vm" };
	const char *name, *value;
	uint64_t v;
	uint8_t mac[6];
	bool b;
	int err = conf_parse(&c, (const char *)data, size);

	if ((err != 0) != (c.problems[0] != '\0') || c.n > CONF_MAX_ENTRIES)
		abort();
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
		for (unsigned i = 0; (name = conf_section(&c, kinds[k], i)) != NULL; i++)
			if (strlen(name) >= sizeof(c.e[0].name) || conf_line(&c, kinds[k], name, "") < 1)
				abort();
	for (unsigned i = 0; i < c.n; i += 2) {
		value = c.e[i].key[0] ? conf_get(&c, c.e[i].kind, c.e[i].name, c.e[i].key) : "";
		if (value != c.e[i].value && c.e[i].key[0]) /* keys are unique */
			abort();
		conf_parse_size(value, &v);
		conf_parse_uint(value, 1000, &v);
		conf_parse_mac(value, mac);
		conf_parse_bool(value, &b);
	}
	conf_check_unused(&c);
	if (strlen(c.problems) >= sizeof(c.problems))
		abort();
	return 0;
}
