/* SPDX-License-Identifier: BSD-2-Clause */
/* net/stream.h over this machine's own TCP, for tests with real servers. Offers stream_tcp_connect_storage. */
#pragma once
#include "net/stream.h"
