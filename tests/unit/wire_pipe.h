/* SPDX-License-Identifier: BSD-2-Clause */
/* Records go in at one end of a pipe and come out at the other. One user a program. */
#pragma once
#include "tests/unit/pipe.h"
#include "vmm/migrate/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct stream *ends[2];
static struct wire_tx tx;
static struct wire_rx rx;

static int open_pipe(void **state unused)
{
	assert_int_equal(stream_pipe(ends, 1 << 20), 0);
	assert_int_equal(wire_tx_init(&tx, ends[0]), 0);
	assert_int_equal(wire_rx_init(&rx, ends[1]), 0);
	return 0;
}

static int close_pipe(void **state unused)
{
	wire_tx_fini(&tx);
	wire_rx_fini(&rx);
	stream_close(ends[0]);
	stream_close(ends[1]);
	return 0;
}
