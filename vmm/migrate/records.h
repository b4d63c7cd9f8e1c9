/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bodies of the records that set an attempt up and hand it over: one writer and one reader for each, used by both sides.
 * Fields in the order of doc/wire.md. Readers check everything that can be checked without a VM.
 */
#pragma once
#include "vmm/migrate/wire.h"
#include "vmm/vm.h"

struct attempt_id { /* which VM, and which try to move it: fresh for each */
	uint8_t uuid[16];
	uint64_t epoch;
};
bool attempt_id_equal(const struct attempt_id *a, const struct attempt_id *b);

struct hello {
	uint32_t version_min, version_max;
	uint64_t
		features; /* bits 0..31: used if both sides have them; 32..63: refuse a peer whose bit you do not know */
	uint32_t max_record;
	char host[32];
};
#define HELLO_WHO      BIT(0) /* answers WHO */
#define HELLO_FEATURES HELLO_WHO
int hello_send(struct wire_tx *tx, const char *host, uint64_t deadline_ns) must_check;
/* Reads the peer's and settles the version: -EPROTO not tern, -ENOTSUP no common version or feature. */
int hello_recv(struct wire_rx *rx, struct hello *h, uint64_t deadline_ns, struct why *w) must_check;
int hello_check(const struct hello *h, struct why *w) must_check;
/* All three, by one deadline: how a connection that only asks begins. */
int hello_exchange(struct wire_tx *tx, struct wire_rx *rx, struct hello *h, uint64_t deadline_ns,
		   struct why *w) must_check;

struct offer {
	struct attempt_id id;
	struct vm_config cfg;
	struct vm_compat compat;
};
int offer_send(struct wire_tx *tx, const struct offer *o, uint64_t deadline_ns) must_check;
int offer_parse(struct wire_rx *rx, struct offer *o, struct why *w) must_check;

enum refuse_code {
	REFUSE_VERSION = 1,
	REFUSE_IN_USE,
	REFUSE_CPU,
	REFUSE_MEMORY,
	REFUSE_CONFIG,
	REFUSE_BUSY,
	REFUSE_FAILED,
};
/* Records with an id alone (ACCEPT, READY, STARTED, NEVER, QUERY, DONE), and with a number and a text (REFUSE, ERROR). */
int id_send(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, uint64_t deadline_ns) must_check;
int text_send(struct wire_tx *tx, uint32_t type, uint32_t code, const char *text, uint64_t deadline_ns) must_check;
int commit_send(struct wire_tx *tx, const struct attempt_id *id, uint64_t paused_ns, uint64_t deadline_ns) must_check;
/* The id at the front of the current record. */
void id_get(struct wire_rx *rx, struct attempt_id *id);

struct end_counts { /* END: what was sent, against which the destination holds what it got */
	uint32_t passes, sections;
	uint64_t data_pages, zero_pages;
};
int end_send(struct wire_tx *tx, const struct attempt_id *id, const struct end_counts *c,
	     uint64_t deadline_ns) must_check;
int end_parse(struct wire_rx *rx, struct attempt_id *id, struct end_counts *c, struct why *w) must_check;

#define PASS_FINAL 1 /* the guest stands still: no acknowledgement, sections and END follow */
int pass_send(struct wire_tx *tx, uint32_t pass, uint32_t flags, uint64_t deadline_ns) must_check;
int pass_end_send(struct wire_tx *tx, uint32_t pass, uint64_t data, uint64_t zero, uint64_t deadline_ns) must_check;
