/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tern.conf, an INI file: sections `[host]`, `[nic NAME]`, `[bond NAME]`, `[net NAME]`, `[peer NAME]`, `[vm NAME]`. The
 * parser (conf.c) keeps every entry with its line. What keys a section has stands in one table of the room that it
 * belongs to, and conf_read reads the section by it. Problems are collected as text "tern.conf:LINE: ..." and the rest
 * still starts. Pure: no kernel calls, no globals, so the loader and tests use it too.
 */
#pragma once
#include "kernel/base/bits.h"
#include "kernel/base/err.h"
#include "kernel/ip.h"

#define CONF_MAX_ENTRIES 256
struct conf_entry {
	char kind[16]; /* "host", "nic", "bond", "net", "peer", "vm" */
	char name[32]; /* the section's name, "" for [host] */
	char key[24];  /* "" for the section line itself */
	char value[512];
	int line;
	bool torn; /* of a section: a line of it could not be kept, whatever that said */
};
struct conf {
	struct conf_entry e[CONF_MAX_ENTRIES];
	unsigned n;
	bool locks;     /* a line has the word console_password, whatever else it says and whether it could be kept */
	bool lost_peer; /* there is no entry for what is, or may have been, a [peer] */
	char problems[8192]; /* lines "tern.conf:LINE: what is wrong and what to do", in order of lines */
};

/* Parse text of len bytes. Always leaves a usable conf; 0, or -EINVAL if something was wrong (see problems). */
int conf_parse(struct conf *c, const char *text, size_t len);
/* Value of key in section [kind name], or NULL. */
const char *conf_get(const struct conf *c, const char *kind, const char *name, const char *key);
/* Line of that key (or of the section if key is absent), 0 if neither is there. */
int conf_line(const struct conf *c, const char *kind, const char *name, const char *key);
/* Has that section a line that could not be kept? */
bool conf_is_torn(const struct conf *c, const char *kind, const char *name);
/* Name of the i-th section of a kind, or NULL. */
const char *conf_section(const struct conf *c, const char *kind, unsigned i);
/* Add a problem with its line; 0: none. */
void conf_problem(struct conf *c, int line, const char *fmt, ...) printf_like(3, 4);
/* Names and keys go to consoles, JSON and the wire: letters, digits, '_', '-' and '.', at least one. */
bool conf_is_word(const char *s, size_t len);

/* ---- a section by its table (conf_table.c) ---- */

struct conf_key {
	const char *key;
	const struct conf_type *type;
	uint16_t off, size; /* of its field in the section's struct */
	const char *def;    /* what stands for a line that is missing; "": zeros; NULL: it must be given */
	const char *help;   /* what to write */
	uint64_t min, max, step;
	const char *const *words; /* of a choice or a list, NULL at the end */
	const char *zero;         /* the word that is stored as zeros */
	bool word;                /* conf_is_word */
};
#define CONF_FIELD(stype, m) .off = offsetof(stype, m), .size = sizeof(((stype *)0)->m)
struct conf_type {
	/* 0, or -EINVAL and the field is as it was; w may hold what to add to the key's help. */
	int (*parse)(const struct conf_key *k, const char *s, void *field, struct why *w);
	void (*text)(const struct conf_key *k, const void *field, char *buf, size_t size); /* NULL: never shown */
	bool secret; /* no message quotes a value, and conf_read wipes it out of the file's text */
};
extern const struct conf_type conf_type_str, /* char[], of at least min characters */
	conf_type_size,                      /* uint64_t from min to max in steps */
	conf_type_u32,                       /* uint32_t from min to max */
	conf_type_choice,                    /* uint32_t: the word's index; yes and no have their synonyms */
	conf_type_words,                     /* uint32_t: a bit for each of the words that are listed */
	conf_type_mac,                       /* uint8_t[6], unicast */
	conf_type_card,                      /* struct conf_card */
	conf_type_uuid,                      /* uint8_t[16], as RFC 9562 4 writes it, not zeros */
	conf_type_ip4,                       /* uint32_t in network order */
	conf_type_ip,                        /* struct ip: a machine's, and none that is link-local */
	conf_type_ip6,                       /* struct ip: a machine's of IPv6 */
	conf_type_net6,                      /* struct conf_net6 */
	conf_type_nic_choice,                /* uint32_t: CONF_NIC_CHOICE's, "A" for all cards or "A, B" one by one */
	conf_type_nic_ips,                   /* struct conf_nic_ips, "A, B" for all or "A, B | C" one by one */
	conf_type_macs,                      /* uint8_t[6 * CONF_NICS], zeros behind the last */
	conf_type_names,    /* char[CONF_NAME_MAX * CONF_NICS], each conf_is_word, "" behind the last */
	conf_type_secret,   /* uint8_t[], all of its bytes in hexadecimal */
	conf_type_password, /* struct conf_password */
	conf_type_net;      /* struct conf_net */
#define CONF_IPS              8
#define CONF_NICS             4
#define CONF_NAME_MAX         16
/* Of two words card n's: 0 and 1 are that of all cards, else there is a bit for each. */
#define CONF_NIC_CHOICE(v, n) (((v) | (v) >> (1 + (n))) & 1)
struct conf_nic_ips { /* IPv4 as ::ffff:a.b.c.d, zeros behind the last; all zeros: any */
	uint8_t of[CONF_NICS][16 * CONF_IPS];
	uint32_t each; /* so many lists; 0: of[0] is that of all cards */
};
static inline const uint8_t *conf_nic_ips(const struct conf_nic_ips *i, unsigned nic)
{
	return i->of[i->each ? nic : 0];
}
struct conf_card { /* by one of the two; zeros: whichever is free */
	uint8_t mac[6];
	char location[16]; /* PCI's segment, if it is not 0, bus, device and function: 00:03.0 */
};
struct conf_net {    /* 10.77.0.11/24 */
	uint32_t ip; /* in network order; 0: none, or not known yet */
	uint32_t prefix;
};
#define CONF_NET_NONE 0xff /* the prefix that the key's first word, such as none, stands for */
struct conf_net6 {
	struct ip ip; /* none: made from what routers advertise (SLAAC, RFC 4862) */
	uint32_t prefix;
};
static inline uint32_t conf_net_mask(struct conf_net n) { return n.ip ? __builtin_bswap32(~0U << (32 - n.prefix)) : 0; }
/* Is ip, which is in n, a host's: neither n's own nor its broadcast address (RFC 1122 3.2.1.3)? */
static inline bool conf_net_has_host(struct conf_net n, uint32_t ip)
{
	uint32_t host = ~conf_net_mask(n);
	return n.prefix == 32 || ((ip & host) != 0 && (ip & host) != host);
}

static inline bool conf_in_net6(struct ip ip, struct conf_net6 net)
{
	unsigned bytes = net.prefix / 8, bits = net.prefix % 8;
	return !ip_is_none(net.ip) && !memcmp(ip.b, net.ip.b, bytes) &&
	       (!bits || !((ip.b[bytes] ^ net.ip.b[bytes]) >> (8 - bits)));
}

struct conf_password {       /* pbkdf2-sha256:ITERATIONS:SALT:HASH, both in hexadecimal */
	uint32_t iterations; /* 0: none, or it could not be read */
	uint8_t salt[16], hash[32];
};
#define CONF_PASSWORD_TEXT 128
void conf_password_text(const struct conf_password *p, char buf[CONF_PASSWORD_TEXT]);

struct conf_table {
	const char *kind;
	const struct conf_key *keys;
	unsigned n;
};
/* A section's table; the command `conf` finds it by the linker's help. */
#define CONF_TABLE(id, of, array)                                                                \
	const struct conf_table id __attribute__((used, section("conf_tables"), aligned(8))) = { \
		.kind = (of),                                                                    \
		.keys = (array),                                                                 \
		.n = ARRAY_SIZE(array),                                                          \
	}
/* Keys whose values are files of the boot volume: the loader reads them all. */
#define CONF_KERNEL           "kernel"
#define CONF_FIRMWARE         "CLOUDHV.fd" /* what a [vm] with a disk, but no kernel, boots */
#define CONF_INITRD           "initrd"
#define CONF_DISK             "disk"
#define CONF_USER_DATA        "user-data"
#define CONF_META_DATA        "meta-data"
#define CONF_NETWORK_CONFIG   "network-config"
#define CONF_FILE             "file" /* of a [disk] */
/* The loader, too, is quiet where [host] has it. */
#define CONF_CONSOLE_PASSWORD "console_password"
/* It has to know this before anything else. */
#define CONF_CONSOLE          "console"

/* The value s of this key into its field: zeros for its word for these, else as its type has it. */
int conf_key_parse(const struct conf_key *k, const char *s, void *field, struct why *w);

#define CONF_WRONG_MAX 192
struct conf_reader { /* of the section [table->kind name] */
	struct conf *c;
	const struct conf_table *table;
	const char *name;           /* "" for [host] */
	bool strict;                /* a key that the table does not have is wrong: it may be meant to forbid */
	char wrong[CONF_WRONG_MAX]; /* "tern.conf:LINE: ...", the first thing that is wrong; "": nothing */
	bool unknown;               /* it has a key that the table does not have */
	bool torn;                  /* a line of it could not be kept: that is wrong, too */
};
/*
 * The section into obj, a struct of zeros: what is missing, or wrong, has its default. True if all is well; a key that
 * the table does not have is a problem of the file, but not of the section, unless strict. No such section: defaults.
 */
bool conf_read(struct conf_reader *r, void *obj);
/* For what a room finds wrong beyond that: at key's line, "" for the section's. */
void conf_wrong(struct conf_reader *r, const char *key, const char *fmt, ...) printf_like(3, 4);
/* The words of bits (conf_type_words), with sep between them. */
void conf_words_text(const char *const *words, uint32_t bits, const char *sep, char *buf, size_t size);
/* Each key of obj with its value as it would be written. */
void conf_show(const struct conf_table *t, const void *obj,
	       void (*show)(void *arg, const struct conf_key *k, const char *value), void *arg);

/*
 * Values: 0 or -EINVAL. Sizes take K, M, G; times ms, s, m; MAC is aa:bb:cc:dd:ee:ff
 * (unicast, not zero); ip4 in network order; ip6 without a dotted end (RFC 4291 2.2).
 */
int conf_parse_size(const char *s, uint64_t *bytes);
int conf_parse_ms(const char *s, uint64_t max, uint64_t *ms);
int conf_parse_uint(const char *s, uint64_t max, uint64_t *v);
int conf_parse_mac(const char *s, uint8_t mac[6]);
int conf_parse_pci(const char *s, char location[16]);         /* as struct conf_card has it */
int conf_parse_hex(const char *s, uint8_t *bytes, size_t n);  /* 2 * n digits */
char *conf_hex_text(const uint8_t *bytes, size_t n, char *s); /* same into s, with a NUL, which it returns */
int conf_parse_ip4(const char *s, uint32_t *ip);
int conf_parse_ip6(const char *s, uint8_t ip[16]);
