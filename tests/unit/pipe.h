/* SPDX-License-Identifier: BSD-2-Clause */
/* A stream in memory, for tests. */
#pragma once
#include "net/stream.h"

/* Two ends of a pipe with `capacity` bytes of buffer each way. */
int stream_pipe(struct stream *ends[2], size_t capacity) must_check;
/* Cut both directions of a pipe after `bytes` more bytes of end's output: then both ends get -ECONNRESET. */
void stream_pipe_cut_after(struct stream *end, uint64_t bytes);
