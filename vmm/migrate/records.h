/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bodies of the records that set an attempt up and hand it over: one writer and one reader for each, used by both
 * sides. Fields in the order of doc/wire.md. Readers check everything that can be checked without a VM.
 */
#pragma once
#include "kernel/host.h"
#include "vmm/migrate/rules.h"
#include "vmm/migrate/wire.h"
#include "vmm/vm.h"
#include "vmm/x86/compat.h"

#define HOST_NAME_MAX 32

/*
 * Which VM, and which try of which boot of which host to move it. No two attempts share one, whatever clocks and names
 * do.
 */
struct attempt_id {
	uint8_t uuid[16];
	struct incarnation source;
	uint64_t number; /* 1.. */
};
bool attempt_id_equal(const struct attempt_id *a, const struct attempt_id *b);
/* Its key for the check words (wire.h). */
uint64_t attempt_key(const struct attempt_id *id);

struct hello { /* records HELLO and IDENT */
	uint32_t version_min, version_max;
	uint64_t features; /* bits 0..31: used if both have them; 32..63: refuse a peer whose bit you do not know */
	uint32_t max_record;
	char host[HOST_NAME_MAX];
	struct incarnation inc;
};
#define HELLO_0_6      BIT(2)                                    /* release 0.6 at least; who is not is refused */
#define HELLO_0_7      BIT(3)                                    /* 0.7 at least */
#define HELLO_FEATURES (BIT(0) | BIT(1) | HELLO_0_6 | HELLO_0_7) /* bit 1: 0.6 refuses who does not set it */
/*
 * HELLO keeps its form for ever, so that any two versions can tell each other that they do not fit; IDENT follows it.
 */
int hello_send(struct wire_tx *tx, uint64_t deadline_ns) must_check;
/*
 * Reads the peer's HELLO and settles the version: -EPROTO not tern, -ENOTSUP no common version or feature; then its
 * IDENT.
 */
int hello_recv(struct wire_rx *rx, struct hello *h, uint64_t deadline_ns, struct why *w) must_check;
int hello_check(const struct hello *h, struct why *w) must_check;
/* Both, by one deadline: how a connection begins, on either side. */
int hello_exchange(struct wire_tx *tx, struct wire_rx *rx, struct hello *h, uint64_t deadline_ns,
		   struct why *w) must_check;

struct offer {
	struct attempt_id id;
	struct vm_config cfg;    /* but for cfg.s, which comes as section "config" */
	struct vm_compat compat; /* no words of one that is stopped: it takes the CPU that it finds */
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
/*
 * Records with an id alone (ACCEPT, READY, QUERY, UNKNOWN, KEPT, DONE), and with a number and a text (REFUSE, ERROR).
 */
int id_send(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, uint64_t deadline_ns) must_check;
/* The same with n numbers behind the id, which mean what doc/wire.md says. */
int id_send_more(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, const uint64_t *v, unsigned n,
		 uint64_t deadline_ns) must_check;
int text_send(struct wire_tx *tx, uint32_t type, uint32_t code, const char *text, uint64_t deadline_ns) must_check;
/* key: under which this host holds its disks' unit; 0: it has none. */
int commit_send(struct wire_tx *tx, const struct attempt_id *id, uint64_t paused_ns, uint64_t key,
		uint64_t deadline_ns) must_check;
/* The id at the front of the current record. */
void id_get(struct wire_rx *rx, struct attempt_id *id);
/* STARTED and NEVER: which incarnation decided that. */
int decision_send(struct wire_tx *tx, uint32_t type, const struct attempt_id *id, struct incarnation by,
		  uint64_t deadline_ns) must_check;
void decision_get(struct wire_rx *rx, struct attempt_id *id, struct incarnation *by);

/* SETTLE and DEBT: a decision, with whom it concerns. */
struct decision {
	struct attempt_id id;
	enum record_state state; /* RECORD_STARTED or RECORD_NEVER */
	struct incarnation by;
	char vm[VM_NAME_MAX];
	struct ip source;
};
int debt_send(struct wire_tx *tx, uint32_t type, const struct decision *d, uint64_t deadline_ns) must_check;
int debt_parse(struct wire_rx *rx, struct decision *d, struct why *w) must_check;

#define WHO_STARTING BIT(0) /* the asker is about to start it: leases are compared */
#define WHO_RELAY    BIT(1) /* ask your own peers as well */
struct who {
	char name[VM_NAME_MAX];
	uint8_t mac[6];
	uint8_t uuid[16];
	uint32_t flags;
	struct incarnation asker;
	struct attempt_id id; /* of an undecided attempt; zeros: none */
};
enum have {
	HAVE_NOTHING, /* neither has, receives nor starts it, and has not sent it away */
	HAVE_HERE,
	HAVE_MOVED,   /* it was sent away from here: to `host` */
	HAVE_STARTED, /* a record says that the attempt was started */
	HAVE_END,
};
struct have_answer {
	enum have have;
	char name[VM_NAME_MAX];   /* HERE: what the VM is called there */
	char host[HOST_NAME_MAX]; /* where it is: HERE at a peer's peer, MOVED; "" if it is the answering host itself */
	struct incarnation where; /* same */
	uint64_t when_s;          /* MOVED: UTC */
	uint32_t silent;          /* of those that were asked on the asker's behalf */
	char silent_host[HOST_NAME_MAX]; /* the first of them */
	uint64_t digest;                 /* of the incarnations that answered them: 0 if none was asked */
};
int who_send(struct wire_tx *tx, const struct who *q, uint64_t deadline_ns) must_check;
bool who_parse(struct wire_rx *rx, struct who *q);
int have_send(struct wire_tx *tx, const struct have_answer *a, uint64_t deadline_ns) must_check;
bool have_parse(struct wire_rx *rx, struct have_answer *a);

struct reach { /* as frames alone: does what is sent on that network come out on it at that host? */
	struct incarnation to;
	char net[CONF_NAME_MAX]; /* as the VM's configuration has it */
};
int reach_send(struct wire_tx *tx, const struct reach *q, uint64_t deadline_ns) must_check;
bool reach_parse(struct wire_rx *rx, struct reach *q);
enum reached_at { REACHED_ELSEWHERE, REACHED_SAME, REACHED_NO_SUCH, REACHED_ENDS };
struct reached {
	uint32_t came;           /* enum reached_at: on that network, or there is none such */
	uint32_t size;           /* bytes behind the Ethernet header of what came */
	uint32_t mtu;            /* of the network that it came on */
	char net[CONF_NAME_MAX]; /* where it came out */
};
int reached_send(struct wire_tx *tx, const struct reached *a, uint64_t deadline_ns) must_check;
bool reached_parse(struct wire_rx *rx, struct reached *a);

struct end_counts { /* END: what was sent, against which the destination holds what it got */
	uint32_t passes, sections, debts;
	uint64_t data_pages, zero_pages;
};
int end_send(struct wire_tx *tx, const struct attempt_id *id, const struct end_counts *c,
	     uint64_t deadline_ns) must_check;
int end_parse(struct wire_rx *rx, struct attempt_id *id, struct end_counts *c, struct why *w) must_check;

/* DIFFERS: what the destination has of one chunk of frames (name is ""), or as the state of one section (verify.h). */
struct differs {
	char name[32];
	uint32_t instance;
	uint64_t first;  /* of the chunk's frames */
	size_t len;      /* a chunk's is WIRE_CHUNK x 8: what each frame adds to its sum */
	uint8_t bytes[]; /* as on the wire */
};
/* The record just received; the caller frees it. NULL with why: malformed, or no memory. */
struct differs *differs_parse(struct wire_rx *rx, struct why *w) must_check;

#define PASS_FINAL  1 /* the guest stands still: no acknowledgement, sections and END follow */
#define PASS_PULLED 2 /* its memory comes as it is asked for (pulled.h). Not with PASS_FINAL; 0.6 */
int pass_send(struct wire_tx *tx, uint32_t pass, uint32_t flags, uint64_t deadline_ns) must_check;
int pass_end_send(struct wire_tx *tx, uint32_t pass, uint64_t data, uint64_t zero, uint64_t deadline_ns) must_check;
