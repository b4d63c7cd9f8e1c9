/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stream in memory, for tests. A bare pipe loses no time. One on lines is what TCP makes of a way between two hosts:
 * what is written arrives later, in order, or not while the line is down; ends and resets are on the way like bytes. An
 * end that is read or written gives up, and resets the other, when a line has been down for STREAM_SILENCE_NS.
 */
#pragma once
#include "net/stream.h"

/* Two ends of a pipe with `capacity` bytes of buffer each way. -ENOMEM, -EINVAL. */
int stream_pipe(struct stream *ends[2], size_t capacity) must_check;
/* Cut both directions of a pipe after `bytes` more bytes of end's output: then both ends get -ECONNRESET. */
void stream_pipe_cut_after(struct stream *end, uint64_t bytes);

/* One direction of a way, for all pipes on it. */
struct pipe_line {
	uint64_t rate;     /* bytes per second, 0: no limit */
	uint64_t delay_ns; /* from one end to the other */
	unsigned loss;     /* of a hundred writes so many are late by a retransmission */
	uint64_t (*draw)(void);
	/* Kept here: */
	bool down; /* nothing arrives */
	uint64_t down_ns, busy_ns;
};
#define PIPE_RTO_NS \
	(200 * NS_PER_MS) /* TCP's first retransmission; each later one waits twice as long, to STREAM_AGAIN_NS */
/* end writes to `out` and reads from `back`. Before anything is written. */
void stream_pipe_lines(struct stream *end, struct pipe_line *out, struct pipe_line *back);
/* Down, or up again: from TCP's next try on. */
void pipe_line_set(struct pipe_line *line, bool down);
/* The host is gone: its ends of pipes whose output is this line are dead, and their peers hear nothing of it. */
void pipe_line_die(const struct pipe_line *out);
/* Of pipes on lines: how many are open at one end at least. */
unsigned pipe_open(void);
bool stream_pipe_is_aborted(struct stream *end);
bool stream_pipe_is_open(const struct stream *end); /* end may be one that was closed */

enum pipe_fault {
	PIPE_WELL,
	PIPE_FLIP,  /* a bit of its fields is flipped */
	PIPE_LOSE,  /* 24 of its bytes are missing */
	PIPE_TWICE, /* its first 24 bytes come twice */
	PIPE_END,   /* and the direction ends, five bytes after its beginning */
	PIPE_OLD,   /* before it come the bytes that stream_pipe_old has named */
};
/* What becomes of the next write of that end; n: of which bit. */
void stream_pipe_fault(struct stream *end, enum pipe_fault what, uint64_t n);
void stream_pipe_old(const void *bytes, size_t len); /* borrowed */
/* On lines: what this end writes in the next ns comes out after them, in the network's own time: no abort stops it. */
void stream_pipe_hold(struct stream *end, uint64_t ns);
/* Both ends get -ECONNRESET, and what is on the way is lost. */
void stream_pipe_reset(struct stream *end);
