/* SPDX-License-Identifier: BSD-2-Clause */
/* Which disks are on which units, by this host's tern.conf (disk_unit.h). */
#include "kernel/conf.h"
#include "net/iscsi/text.h"
#include "vmm/disk_unit.h"
#include <stdlib.h>
#include <string.h>

struct unit { /* (c) after tern.conf has been read */
	struct unit *next;
	char name[CONF_NAME_MAX];
	struct lun_config c;
};
static struct unit *units;

/* The next word of *s, up to max bytes with its NUL. */
static bool word(const char **s, char *to, size_t max)
{
	size_t n = strcspn(*s, " ");
	if (!n || n >= max)
		return false;
	memcpy(to, *s, n);
	to[n] = 0;
	*s += n;
	*s += strspn(*s, " ");
	return true;
}

int disk_unit_parse(const char *s, struct lun_config *c)
{
	char at[4], where[IP_TEXT + 8], lun[8], digits[8];
	uint64_t n;
	if (!word(&s, c->target, sizeof(c->target)) || !word(&s, at, sizeof(at)) || strcmp(at, "at") ||
	    !word(&s, where, sizeof(where)) || !word(&s, lun, sizeof(lun)) || strcmp(lun, "lun") ||
	    !word(&s, digits, sizeof(digits)) || *s)
		return -EINVAL;
	if (strchr(where, ',') || !iscsi_address_parse(where, &c->ip, &c->port) || !ip_is_hosts(c->ip) ||
	    conf_parse_uint(digits, 0x3fff, &n))
		return -EINVAL;
	c->lun = (uint16_t)n;
	return 0;
}

int disk_unit_add(const char *name, const struct lun_config *c, struct why *w)
{
	for (struct unit *u = units; u; u = u->next) {
		if (!strcmp(u->name, name))
			return 0; /* its section is read once more */
		if (!strcmp(u->c.target, c->target) && u->c.lun == c->lun)
			return why_set(w, -EEXIST, "disk %s is on the same unit", u->name);
	}
	struct unit *u = calloc(1, sizeof(*u));
	if (!u)
		return why_set(w, err_trace(-ENOMEM), "no memory");
	memcpy(u->name, name, strnlen(name, sizeof(u->name) - 1));
	u->c = *c;
	u->next = units;
	units = u;
	return 0;
}

const struct lun_config *disk_unit_find(const char *name)
{
	struct unit *u = units;
	while (u && strcmp(u->name, name))
		u = u->next;
	return u ? &u->c : NULL;
}
