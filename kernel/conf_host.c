/* SPDX-License-Identifier: BSD-2-Clause */
/* [host] of tern.conf. Pure. */
#include "kernel/conf.h"
#include "kernel/host.h"

#define RATE_MAX (1UL << 40)

static const struct conf_key keys[] = {
	{ "name", &conf_type_str, CONF_FIELD(struct host_conf, name), .def = "tern", .word = true,
	  .help = "1 to 31 letters, digits, '_', '-' and '.'" },
	{ CONF_CONSOLE, &conf_type_str, CONF_FIELD(struct host_conf, console), .def = "",
	  .help = "com1 to com4, or an I/O port like 0x2f8" }, /* which the loader has read and checked */
	{ CONF_CONSOLE_PASSWORD, &conf_type_password, CONF_FIELD(struct host_conf, console_password), .def = "",
	  .help = "what the command `password` prints; until then nobody logs in at this host's console" },
	{ "migrate_limit", &conf_type_size, CONF_FIELD(struct host_conf, migrate_limit), .def = "0", .zero = "0",
	  .min = HOST_RATE_MIN, .max = RATE_MAX, .step = 1,
	  .help = "bytes per second from 1M that the migrations which leave this host take together, as 100M; 0: no "
		  "limit" },
	{ "migrate_minimum", &conf_type_size, CONF_FIELD(struct host_conf, migrate_minimum),
	  .def = "30517K", /* 250 Mbit/s */
	  .min = HOST_RATE_MIN, .max = RATE_MAX, .step = 1,
	  .help = "bytes per second from 1M for each of them; while that is not there for one more, it waits" },
	{ "undecided", &conf_type_choice, CONF_FIELD(struct host_conf, undecided), .def = "ask",
	  .help = "ask or resume", .words = (const char *const[]){ "ask", "resume", NULL } }, /* HOST_UNDECIDED_* */
};
CONF_TABLE(host_conf_table, "host", keys);
