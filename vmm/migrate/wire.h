/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records on the wire, as doc/wire.md specifies them: framing, bounds and the check word. What bodies mean is in
 * records.c (setup, hand-over) and pages.c (memory). Nothing here knows of VMs, and nothing is sent as a raw struct.
 *
 *   | type u32 | length u32 | check u32 | fields ... | page data (PAGES only) |
 *                           '---------------- length bytes -----------------'
 *
 * check covers a session key, the record's number in its direction, type, length and all fields, so a record that was
 * damaged, lost, repeated, reordered or meant for another attempt is refused before anything acts on it.
 */
#pragma once
#include "net/stream.h"

#define WIRE_MAGIC       0x3147494d4e524554ULL /* "TERNMIG1" */
#define WIRE_VERSION     3                     /* what we speak; and the oldest that we accept */
#define WIRE_VERSION_MIN 3
#define WIRE_OPTIONAL    (1U << 31)
#define WIRE_HEADER      8
#define WIRE_BODY_MAX    (72 << 10) /* of fields; page data comes on top */
#define WIRE_SECTION_MAX (64 << 10)
#define WIRE_SECTION_PRE (WIRE_HEADER + 4 + 40) /* before its bytes: check word, name, instance, version */
#define WIRE_RUNS_MAX    128                    /* in one PAGES record */
#define WIRE_PAGES_MAX   64                     /* pages of data in one PAGES record */
#define WIRE_RECORD_MAX  (WIRE_HEADER + WIRE_BODY_MAX + WIRE_PAGES_MAX * 4096)
#define WIRE_TEXT_MAX    200
#define WIRE_ID_LEN      40 /* of an attempt */
#define WIRE_FILES_MIN   2  /* files of a VM: kernel, initrd, */
#define WIRE_FILES_MAX   7  /* base images of its disks */
#define WIRE_FILE_ENTRY  (WIRE_FILE_NAME + 24)
#define WIRE_FILE_NAME   96
#define WIRE_FILE_MAX    (64 << 10) /* bytes of one in a record */
#define WIRE_CHUNK       1024       /* frames that have one sum: 4 MiB */
#define WIRE_SUMS_MAX    64         /* of chunks, in one VERIFY record */
#define WIRE_FRAMES_MAX  (64 << 10) /* bytes of a FRAMES record behind its header */
#define WIRE_ABSENT_RUNS 4096       /* in one ABSENT record */
#define WIRE_WHO_LEN     114
#define WIRE_HAVE_LEN    136

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_OFFER,
	WIRE_ACCEPT,
	WIRE_REFUSE,
	WIRE_PASS,
	WIRE_PAGES,
	WIRE_PASS_END,
	WIRE_PASS_ACK,
	WIRE_KEEPALIVE,
	WIRE_SECTION,
	WIRE_END,
	WIRE_READY,
	WIRE_COMMIT,
	WIRE_STARTED,
	WIRE_NEVER,
	WIRE_QUERY,
	WIRE_ERROR,
	WIRE_DONE,
	WIRE_WHO,
	WIRE_HAVE,
	WIRE_IDENT,
	WIRE_UNKNOWN,
	WIRE_SETTLE,
	WIRE_KEPT,
	WIRE_DEBT,
	WIRE_PREPARING,
	WIRE_REACH,
	WIRE_REACHED,
	WIRE_FILES,
	WIRE_WANT,
	WIRE_FILE,
	WIRE_VERIFY,
	WIRE_VERIFY_STATE,
	WIRE_CHECKED,
	WIRE_DIFFERS,
	WIRE_FRAMES,
	WIRE_STATE,
	WIRE_ABSENT,
	WIRE_DEMAND,
	WIRE_SERVED,
	WIRE_ALL,
	WIRE_REJOIN,
	WIRE_SUMS,
	WIRE_AGAIN,
	WIRE_TYPE_END,
};
#define WIRE_FILLER     (WIRE_OPTIONAL | 1) /* every reader passes it over */
#define WIRE_FILLER_LEN 18000               /* bytes: two packets of the largest size (ETH_JUMBO_MAX), at least */
const char *wire_type_name(uint32_t type);

/*
 * The key of an attempt's records from OFFER's answer on, from its id as it is on the wire; 0 before and on connections
 * that only ask.
 */
uint64_t wire_key(const void *id, size_t len);

/* ---- writing: begin, put..., end. One task. ---- */
struct wire_tx {
	struct stream *s;
	uint64_t key, seq;
	uint64_t bytes; /* sent so far */
	uint32_t type;
	size_t len;      /* of fields in buf, header and check included */
	size_t data_len; /* of page data in iov[1..] */
	unsigned niov;
	struct iov iov[1 + WIRE_PAGES_MAX];
	uint8_t *buf;
};
int wire_tx_init(struct wire_tx *tx, struct stream *s) must_check; /* -ENOMEM */
void wire_tx_fini(struct wire_tx *tx);
void wire_begin(struct wire_tx *tx, uint32_t type);
void wire_put_u32(struct wire_tx *tx, uint32_t v);
void wire_put_u64(struct wire_tx *tx, uint64_t v);
void wire_put_bytes(struct wire_tx *tx, const void *p, size_t n);
void wire_put_str(struct wire_tx *tx, const char *s, size_t n); /* n bytes, zero-padded; at least one zero */
uint8_t *wire_put_space(struct wire_tx *tx, size_t n);          /* n bytes for the caller to fill in */
void wire_put_data(struct wire_tx *tx, void *page, size_t len); /* borrowed until wire_end */
int wire_end(struct wire_tx *tx, uint64_t deadline_ns) must_check;
/*
 * A whole record, FILLER: nothing, in packets of the largest size that the way should carry. In front of OFFER and of
 * ACCEPT, so that a way that does not carry them is found before the first page is sent.
 */
int wire_filler(struct wire_tx *tx, uint64_t deadline_ns) must_check;

/* ---- reading: wire_recv, wire_get_..., wire_get_end. One task, which may be another one than the writer. ---- */
struct wire_rx {
	struct stream *s;
	uint64_t key, seq;
	uint64_t bytes; /* received so far */
	uint32_t type;
	size_t len, pos; /* fields in buf */
	size_t data_len; /* page data that the caller has yet to take with wire_recv_data */
	bool bad;        /* a get went past the end, or a string was malformed */
	uint8_t *buf;
};
int wire_rx_init(struct wire_rx *rx, struct stream *s) must_check;
void wire_rx_fini(struct wire_rx *rx);
/*
 * The next record that is not an unknown optional one: 0, or -errno: -EPIPE when the peer ended between records,
 * -EPROTO (unknown mandatory type, length out of bounds), -EBADMSG (check), or the stream's error. The deadline is for
 * its header; the rest of it then has idle_ns.
 */
int wire_recv(struct wire_rx *rx, uint64_t deadline_ns, uint64_t idle_ns, struct why *w) must_check;
int wire_recv_data(struct wire_rx *rx, void *buf, size_t len, uint64_t deadline_ns) must_check;
uint32_t wire_get_u32(struct wire_rx *rx);
uint64_t wire_get_u64(struct wire_rx *rx);
const uint8_t *wire_get_bytes(struct wire_rx *rx, size_t n); /* NULL past the end; valid until the next wire_recv */
void wire_get_str(struct wire_rx *rx, char *s, size_t n);
/* True if the fields were all there and nothing is left over. */
bool wire_get_end(const struct wire_rx *rx);
